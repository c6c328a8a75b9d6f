"""An operation's input: a Bundle with parameters beside it in the query, or Parameters."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from app.domain.counts import When
from app.domain.effort import spend
from app.fhir.bodies import Entries, Parameter
from app.fhir.map_files import with_maps
from app.fhir.maps import CodeMap, CodeMapError
from app.fhir.outcome import Fault, RequestError
from app.fhir.resources import Reference
from app.fhir.times import days_of, when
from app.reading.bundles import decode_body
from app.reading.subjects import Subjects

RED_CELL_POLICIES = ("both", "reticulocytes-when-transfused", "reticulocytes-only")
TRANSFUSION_HISTORIES = ("complete", "unknown")
REPORT_TYPES = ("population", "subject", "subject-list")
_LONGEST_WINDOW_DAYS = 36_500
_FAULTS_NAMED = 20
_LONGEST_INDEPENDENCE_DAYS = 731


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asks: the data, and how to judge them. None is the documented default."""

    entries: Entries
    place: str
    criteria: tuple[str, ...] = ()
    as_of: When | None = None
    subject: Reference | None = None
    treatment_start: When | None = None
    window_days: int | None = None
    red_cell_policy: str | None = None
    independence_days: int | None = None
    transfusion_history_complete: bool = False
    study: str | None = None
    report_type: str | None = None
    period_start: When | None = None
    code_map: CodeMap | None = None
    """The hospital's own codes: those of the settings, and of the request."""


T = TypeVar("T")
Given = tuple[str | Reference, str]
"""A parameter's value and the place it stands at."""


def read_request(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    measure: bool = False,
    code_map: CodeMap | None = None,
) -> Request:
    """The operation's input. Raises RequestError 400 for what is malformed, naming the place.

    A `measure` has its data as `additionalData`, a report type, and a period. `code_map` is that of
    the settings.
    """
    given: dict[str, list[Given]] = {}
    for name, text in query:
        if not name.startswith("_"):
            given.setdefault(name, []).append(
                (text, f"Parameters.parameter.where(name='{name[:40]}')")
            )
    decoded = decode_body(body.removeprefix(codecs.BOM_UTF8))
    if decoded.resourceType == "Bundle":
        entries: Entries = decoded.entry
        place = "Bundle"
    elif decoded.resourceType == "Parameters":
        parameters, code_map = _without_maps(decoded.parameter, code_map)
        entries, place = _data(parameters, given, "additionalData" if measure else "data")
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
    request = _request(entries, place, given, measure)
    return replace(request, code_map=code_map) if code_map else request


def with_data(parameters: bytes, data: bytes) -> bytes:
    """Parameters that lack it, with the Bundle as their `data`; RequestError 400 for a Bundle."""
    decoded = decode_body(parameters.removeprefix(codecs.BOM_UTF8))
    if decoded.resourceType != "Parameters":
        text = "The data are read from the FHIR server: send Parameters without them, or no body."
        raise RequestError(400, Fault("invalid", text, "resourceType"))
    given = msgspec.json.decode(parameters.removeprefix(codecs.BOM_UTF8), type=_Parameters)
    added = {"name": "data", "resource": msgspec.Raw(data)}
    return msgspec.json.encode(
        {"resourceType": "Parameters", "parameter": [*given.parameter, added]}
    )


class _Parameters(msgspec.Struct):
    parameter: list[msgspec.Raw] = []


Placed = tuple[str, Parameter]
"""A parameter and its FHIRPath."""


def _without_maps(
    parameters: Sequence[Parameter], own: CodeMap | None
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


def _data(
    parameters: Sequence[Placed], given: dict[str, list[Given]], name: str
) -> tuple[Entries, str]:
    data: list[tuple[Entries, str]] = []
    spend(2 * len(parameters))
    for place, parameter in parameters:
        if parameter.name == name:
            inner = (
                decode_body(parameter.resource, f"{place}.resource") if parameter.resource else None
            )
            if inner is None or inner.resourceType != "Bundle":
                raise RequestError(400, Fault("invalid", f"'{name}' is a Bundle.", place))
            data.append((inner.entry, f"{place}.resource"))
            continue
        value = parameter.value()
        if parameter.name is None or value is None:
            raise RequestError(
                400, Fault("invalid", "A parameter has a name and one value of its type.", place)
            )
        given.setdefault(parameter.name, []).append((value, place))
    if len(data) != 1:
        text = f"Parameters need '{name}', once: the Bundle to assess."
        raise RequestError(400 if data else 422, Fault("required", text, "Parameters.parameter"))
    return data[0]


def _request(entries: Entries, place: str, given: dict[str, list[Given]], measure: bool) -> Request:
    faults: list[Fault] = []

    def one(name: str, read: Callable[[str | Reference], T | None], remedy: str) -> T | None:
        values = given.pop(name, [])
        if not values:
            return None
        if len(values) > 1:
            faults.append(Fault("invalid", f"'{name}' is given more than once.", values[1][1]))
            return None
        found = read(values[0][0])
        if found is None:
            faults.append(Fault("value", f"'{name}' is {remedy}.", values[0][1]))
        return found

    criteria: list[str] = []
    for value, where in given.pop("criteria", []):
        if isinstance(value, str):
            criteria.append(value)
        else:
            faults.append(Fault("value", "'criteria' is an id or a canonical.", where))
    history = one(
        "transfusionHistory", _one_of(TRANSFUSION_HISTORIES), " or ".join(TRANSFUSION_HISTORIES)
    )
    request = Request(
        entries=entries,
        place=place,
        criteria=tuple(dict.fromkeys(criteria)),
        as_of=one("asOf", _when, "a date or dateTime such as 2024-03-05"),
        subject=one("subject", _patient, "a patient's reference such as Patient/123"),
        treatment_start=one("treatmentStart", _when, "a date or dateTime such as 2024-03-05"),
        window_days=one("window", _days, f"a number of days from 1 to {_LONGEST_WINDOW_DAYS}"),
        red_cell_policy=one(
            "redCellPolicy", _one_of(RED_CELL_POLICIES), "one of " + ", ".join(RED_CELL_POLICIES)
        ),
        independence_days=one(
            "independenceWindow", _independence, "a duration up to 2 a, in d, wk, mo or a: 8 wk"
        ),
        transfusion_history_complete=history == "complete",
        study=one("study", _reference, "a reference such as ResearchStudy/123"),
    )
    if measure:
        request = replace(
            request,
            report_type=one(
                "reportType", _one_of(REPORT_TYPES), "one of " + ", ".join(REPORT_TYPES)
            ),
            period_start=one("periodStart", _when, "a date such as 2024-03-05"),
            as_of=one("periodEnd", _when, "a date such as 2024-03-05") or request.as_of,
        )
    faults += _left_over(given)
    if faults:
        raise RequestError(400, *faults)
    return request


def _left_over(given: Mapping[str, list[Given]]) -> Iterator[Fault]:
    for name, values in given.items():
        if name == "codeMap":
            text = "'codeMap' is a ConceptMap, and comes as a resource in Parameters."
            yield Fault("value", text, values[0][1])
        else:
            text = f"No parameter has the name '{name[:60]}'."
            yield Fault("not-supported", text, values[0][1])


def _when(value: str | Reference) -> When | None:
    # A plus sign that a query did not escape arrives as a space.
    moment = when(value.replace(" ", "+")) if isinstance(value, str) else None
    return moment if moment and (moment.instant or "T" not in moment.text) else None


def _days(value: str | Reference) -> int | None:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 6:
        return None
    return int(value) if 1 <= int(value) <= _LONGEST_WINDOW_DAYS else None


def _independence(value: str | Reference) -> int | None:
    # A plus sign, as a query may write a space.
    days = days_of(value.replace("+", " ")) if isinstance(value, str) else None
    return days if days and days <= _LONGEST_INDEPENDENCE_DAYS else None


def _one_of(allowed: tuple[str, ...]) -> Callable[[str | Reference], str | None]:
    return lambda value: value if isinstance(value, str) and value in allowed else None


def _reference(value: str | Reference) -> str | None:
    text = value.reference if isinstance(value, Reference) else value
    return text if (text and "/" in text) or (text or "").startswith("urn:") else None


def _patient(value: str | Reference) -> Reference | None:
    """A patient's reference or identifier; a bare id is the id of a Patient.

    None for what names no patient: it would narrow the answer to nobody, or to everybody.
    """
    if isinstance(value, str):
        bare = "/" not in value and not value.startswith("urn:")
        value = Reference(reference=f"Patient/{value}" if bare else value)
    return value if Subjects((), (), value).key(value, "", None) else None
