"""An operation's input: a Bundle with parameters in the query, or Parameters."""

from __future__ import annotations

import codecs
import copyreg
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from app.asking import (
    ASSESS_ELIGIBILITY,
    BY_NAME,
    DEFINITIONS,
    MATCH,
    OPERATIONS,
    PARAMETERS,
    PLOT,
    PLOTTED,
    WINDOW_DAYS,
    Data,
    Parameter,
    Question,
    parameters_of,
)
from app.domain.effort import spend
from app.domain.paper import Paper, ResponsePaper
from app.fhir.bodies import Parameter as Sent
from app.fhir.canonicals import BASE
from app.fhir.map_files import with_maps
from app.fhir.maps import CodeMap, CodeMapError
from app.fhir.outcome import Fault, RequestError
from app.papers import PUBLISHED, RESPONSES
from app.parameters import AnyPaper
from app.reading.bundles import decode_body
from app.reading.parameters import Value

_FAULTS_NAMED = 20
Given = tuple[Value, str]
"""A parameter's value and the place it stands at."""
_TAKEN = {
    operation: [one for one in PARAMETERS if one.is_taken(operation)] for operation in OPERATIONS
}


def read_request(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    operation: str = ASSESS_ELIGIBILITY,
    window_days: int = WINDOW_DAYS,
    code_map: CodeMap | None = None,
) -> tuple[Question, Data]:
    """An operation's whole input: a Bundle with parameters in the query, or Parameters.

    `window_days` and `code_map` are those of the settings. Raises RequestError 400 for what is
    malformed, naming the place, and 422 for a definition that is not published here.
    """
    given = _in_query(query)
    decoded = decode_body(body.removeprefix(codecs.BOM_UTF8))
    if decoded.resourceType == "Bundle":
        data = Data(decoded.entry)
    elif decoded.resourceType == "Parameters":
        parameters, code_map = _without_maps(decoded.parameter, code_map)
        data = _data(_in_parameters(parameters, given, operation), operation)
    else:
        raise RequestError(
            400,
            Fault(
                "invalid",
                "Send a Bundle, or Parameters with the Bundle in it; a single resource goes "
                "into a Bundle of type 'collection' as its entry.",
                "resourceType",
            ),
        )
    return _question(operation, given, window_days, code_map), data


def read_question(
    query: Iterable[tuple[str, str]] = (),
    operation: str = ASSESS_ELIGIBILITY,
    window_days: int = WINDOW_DAYS,
    code_map: CodeMap | None = None,
    parameters: bytes = b"",
) -> Question:
    """The question alone, whose data come from elsewhere; errors as of `read_request`.

    `parameters` is empty, or Parameters without data.
    """
    given = _in_query(query)
    if parameters:
        decoded = decode_body(parameters.removeprefix(codecs.BOM_UTF8))
        placed, code_map = _without_maps(decoded.parameter, code_map)
        text = "The data are read from the FHIR server: send Parameters without them, or no body."
        if decoded.resourceType != "Parameters":
            raise RequestError(400, Fault("invalid", text, "resourceType"))
        for place, _ in _in_parameters(placed, given, operation):
            raise RequestError(400, Fault("invalid", text, place))
    return _question(operation, given, window_days, code_map)


def _in_query(query: Iterable[tuple[str, str]]) -> dict[str, list[Given]]:
    """The parameters of a query; those whose names begin with '_' are of HTTP's concern."""
    given: dict[str, list[Given]] = {}
    for name, text in query:
        if not name.startswith("_"):
            place = f"Parameters.parameter.where(name='{name[:40]}')"
            given.setdefault(name, []).append((text, place))
    return given


Placed = tuple[str, Sent]
"""A parameter and its FHIRPath."""


def _without_maps(
    parameters: Sequence[Sent], own: CodeMap | None
) -> tuple[list[Placed], CodeMap | None]:
    """The other parameters; and the maps that hold, those sent beside the settings'."""
    others: list[Placed] = []
    maps: list[tuple[msgspec.Raw, str]] = []
    for index, parameter in enumerate(parameters):
        place = f"Parameters.parameter[{index}]"
        if parameter.name == "codeMap" and parameter.resource:
            maps.append((parameter.resource, f"{place}.resource"))
        else:
            others.append((place, parameter))
    try:
        return others, with_maps(own, maps)
    except CodeMapError as error:
        faults = [
            Fault("invalid", f"The codeMap does not hold: {text}.", where)
            for where, text in error.faults[:_FAULTS_NAMED]
        ]
        raise RequestError(400, *faults) from None


def _data_names(operation: str) -> list[str]:
    """What the Bundle may be called, our own name first."""
    return [one.name for one in parameters_of(operation) if one.type == "Bundle"]


def _in_parameters(
    parameters: Sequence[Placed], given: dict[str, list[Given]], operation: str
) -> Iterator[tuple[str, Data]]:
    """Puts the values beside those given, and yields the data with their parameters' places."""
    spend(2 * len(parameters))
    names = _data_names(operation)
    for place, parameter in parameters:
        if parameter.name in names:
            inner = (
                decode_body(parameter.resource, f"{place}.resource") if parameter.resource else None
            )
            if inner is None or inner.resourceType != "Bundle":
                raise RequestError(400, Fault("invalid", f"'{parameter.name}' is a Bundle.", place))
            yield place, Data(inner.entry, f"{place}.resource")
            continue
        value = parameter.value()
        if parameter.name is None or value is None:
            raise RequestError(
                400, Fault("invalid", "A parameter has a name and one value of its type.", place)
            )
        given.setdefault(parameter.name, []).append((value, place))


def _data(found: Iterable[tuple[str, Data]], operation: str) -> Data:
    data = [one for _, one in found]
    if len(data) != 1:
        text = f"Parameters need '{_data_names(operation)[0]}', once: the Bundle to assess."
        raise RequestError(400 if data else 422, Fault("required", text, "Parameters.parameter"))
    return data[0]


def _question(
    operation: str,
    given: Mapping[str, Sequence[Given]],
    window_days: int,
    code_map: CodeMap | None,
) -> Question:
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    for one in _TAKEN[operation] if given else ():
        if found := _values(one, given.get(one.name, ()), faults):
            values.setdefault(one.field, found if one.repeats else found[0])
    asked = _judged_for(values, operation)
    faults += _left_over(operation, asked, given)
    if faults:
        raise RequestError(400, *faults)
    applied = DEFINITIONS[MATCH if operation == MATCH else asked]
    values["papers"] = papers_named(values.get("papers", ()), applied)
    values.setdefault("window_days", window_days)
    if "subject" in values:
        values.setdefault("report_type", "subject")
    return Question(asked, code_map=code_map, **values)


def _judged_for(values: dict[str, Any], operation: str) -> str:
    """What is judged for a picture or a match, or else the operation itself."""
    if operation != PLOT:
        return ASSESS_ELIGIBILITY if operation == MATCH else operation
    default = "response" if "treatment_start" in values else "eligibility"
    return PLOTTED[values.pop("operation", default)]


def _values(one: Parameter, given: Sequence[Given], faults: list[Fault]) -> list[Any]:
    """What was given of a parameter, as it is read; nothing where that is a fault."""
    if len(given) > 1 and not one.repeats:
        faults.append(Fault("invalid", f"'{one.name}' is given more than once.", given[1][1]))
        return []
    found = [(one.read(value), place) for value, place in given]
    text = f"'{one.name}' is {one.remedy}."
    faults += (Fault("value", text, place) for value, place in found if value is None)
    return [value for value, _ in found if value is not None]


def _left_over(operation: str, asked: str, given: Mapping[str, Sequence[Given]]) -> Iterator[Fault]:
    """What is not taken by the operation, nor by what is judged for it; and what is unknown."""
    for name, values in given.items():
        place = values[0][1]
        known = BY_NAME.get(name)
        if known is None:
            yield Fault("not-supported", f"No parameter has the name '{name[:60]}'.", place)
        elif not known.is_taken(operation):
            yield known.refused(operation, place)
        elif known.operations != (operation,) and not known.is_taken(asked):
            yield known.refused(asked, place)


def papers_named(names: Iterable[str], published: Sequence[AnyPaper]) -> tuple[AnyPaper, ...]:
    """The definitions asked for by id or canonical; 422 for one that is not published here."""
    known = {paper.id: paper for paper in published}
    papers: dict[str, AnyPaper] = {}
    for name in names:
        url, _, version = name.partition("|")
        paper = known.get(url.removeprefix(f"{BASE}/PlanDefinition/"))
        if paper is None or version not in {"", paper.version}:
            raise RequestError(
                422,
                Fault(
                    "not-found",
                    f"No definition '{name[:100]}' for this operation. Known: {', '.join(known)}.",
                    "Parameters.parameter.where(name='criteria')",
                ),
            )
        papers[paper.id] = paper
    return tuple(papers.values()) or (published[0],)


# There is one of each definition, in whatever process: its rules are remembered by it.
def _paper(kind: str, name: str) -> AnyPaper:
    published: Sequence[AnyPaper] = PUBLISHED if kind == Paper.__name__ else RESPONSES
    return next(paper for paper in published if paper.id == name)


def _by_name(paper: AnyPaper) -> tuple[Callable[..., Any], tuple[str, str]]:
    return _paper, (type(paper).__name__, paper.id)


copyreg.pickle(Paper, _by_name)
copyreg.pickle(ResponsePaper, _by_name)
