"""What may be asked: one table of parameters, and the question they make.

The OperationDefinitions, OpenAPI, the command line and exports all tell of the same table. A new
parameter is a row of `PARAMETERS` and the field of `Question` that it fills.
"""

from __future__ import annotations

import codecs
import copyreg
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from app.domain.counts import When
from app.domain.effort import spend
from app.domain.paper import Paper, ResponsePaper
from app.fhir.bodies import Entries, Entry
from app.fhir.bodies import Parameter as Sent
from app.fhir.canonicals import BASE
from app.fhir.map_files import with_maps
from app.fhir.maps import CodeMap, CodeMapError
from app.fhir.outcome import Fault, RequestError
from app.fhir.resources import Reference
from app.fhir.times import days_of, when
from app.papers import PUBLISHED, RESPONSES
from app.reading.bundles import decode_body
from app.reading.subjects import Subjects
from app.writing.sheet import DEFAULT_WIDTH, WIDTHS

ASSESS_ELIGIBILITY, ASSESS_RESPONSE, EVALUATE_MEASURE, PLOT = OPERATIONS = (
    "assess-eligibility",
    "assess-response",
    "evaluate-measure",
    "plot",
)
"""What may be asked, by the codes of the OperationDefinitions."""
AnyPaper = Paper | ResponsePaper
DEFINITIONS: Mapping[str, Sequence[AnyPaper]] = MappingProxyType(
    {ASSESS_ELIGIBILITY: PUBLISHED, ASSESS_RESPONSE: RESPONSES, EVALUATE_MEASURE: RESPONSES}
)
"""The published definitions that each operation applies; the first is its default."""
RED_CELL_POLICIES = tuple(
    dict.fromkeys(name for paper in (*PUBLISHED, *RESPONSES) for name in paper.red_cell_policies)
)
WINDOW_DAYS = 30
PLOTTED = MappingProxyType(
    {"eligibility": ASSESS_ELIGIBILITY, "response": ASSESS_RESPONSE, "measure": EVALUATE_MEASURE}
)
"""What can be drawn: of one patient the first two, of a cohort the third."""
_ABOUT = {
    ASSESS_ELIGIBILITY: "eligibility",
    ASSESS_RESPONSE: "a response",
    EVALUATE_MEASURE: "a cohort",
    PLOT: "a picture",
}
_WINDOWS_DAYS = 1, 36_500
_LONGEST_INDEPENDENCE_DAYS = 731
_FAULTS_NAMED = 20
_RESOURCES = ("Bundle", "ConceptMap")

Value = str | Reference
"""A parameter as it was sent, of whatever type."""
Given = tuple[Value, str]
"""A parameter's value and the place it stands at."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the data, the same for every patient; nothing is left to a default."""

    operation: str
    """What is judged; of a picture that which is drawn."""
    papers: tuple[Any, ...]
    """The definitions to apply: each a `Paper`, or of response a `ResponsePaper`."""
    window_days: int
    as_of: When | None = None
    """None: the day of each patient's newest result."""
    subject: Reference | None = None
    """None: everybody in the data."""
    red_cell_policy: str | None = None
    """None: the reading that each paper has for its own."""
    transfusion_history: str = "unknown"
    exclusions: str = "tell"
    study: str | None = None
    treatment_start: When | None = None
    """None: the earliest administration of the paper's drug."""
    independence_days: int | None = None
    """None: as many as each paper asks for."""
    report_type: str = "population"
    period_start: When | None = None
    width: int = DEFAULT_WIDTH
    """Of a picture, in pixels."""
    code_map: CodeMap | None = None
    """The hospital's own codes: those of the settings, and of the request."""


class Data(NamedTuple):
    """A Bundle's entries and its FHIRPath, by which remarks name what they are about."""

    entries: Entries
    place: str = "Bundle"

    def is_small(self, most_bytes: int) -> bool:
        """Whether what is still to be decoded is no longer than that."""
        raw = (bytes(one.resource) for one in self.entries if isinstance(one, Entry))
        return sum(map(len, raw)) <= most_bytes


# How values are read: None is for what cannot be meant.


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None


def _when(value: Value) -> When | None:
    # A plus sign that a query did not escape arrives as a space.
    moment = when(value.replace(" ", "+")) if isinstance(value, str) else None
    return moment if moment and (moment.instant or "T" not in moment.text) else None


def _whole(limits: tuple[int, int]) -> Callable[[Value], int | None]:
    """A whole number within limits."""
    least, most = limits

    def read(value: Value) -> int | None:
        if not isinstance(value, str) or not value.isascii() or not value.isdigit():
            return None
        return int(value) if len(value) <= len(f"{most}") and least <= int(value) <= most else None

    return read


def _independence(value: Value) -> int | None:
    # A plus sign, as a query may write a space.
    days = days_of(value.replace("+", " ")) if isinstance(value, str) else None
    return days if days and days <= _LONGEST_INDEPENDENCE_DAYS else None


def _reference(value: Value) -> str | None:
    text = value.reference if isinstance(value, Reference) else value
    return text if (text and "/" in text) or (text or "").startswith("urn:") else None


def _patient(value: Value) -> Reference | None:
    """A patient's reference or identifier; a bare id is the id of a Patient.

    None for what names no patient: it would narrow the answer to nobody, or to everybody.
    """
    if isinstance(value, str):
        bare = "/" not in value and not value.startswith("urn:")
        value = Reference(reference=f"Patient/{value}" if bare else value)
    return value if Subjects((), (), value).key(value, "", None) else None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the operations: everything that is said of it, and how it is read."""

    name: str
    type: str
    """FHIR's name of the type."""
    text: str
    """What it is for, in sentences: for OperationDefinition, OpenAPI and `--help`."""
    operations: tuple[str, ...]
    """Those that publish it."""
    field: str = ""
    """What it fills in a Question; empty for what is no value, such as the data."""
    read: Callable[[Value], Any] = _text
    remedy: str = ""
    """Completes "'name' is ..." where `read` makes None of it; by default its choices."""
    choices: tuple[str, ...] = ()
    limits: tuple[int, int] | None = None
    """Of a number, ends included."""
    default: str = ""
    repeats: bool = False
    metavar: str = ""
    """The value's name on the command line, which has an option for it; empty: it has none."""
    of_exports: bool = True
    """Whether the option is for exports too."""
    of_the_newest: bool = False
    """Whether it asks of the newest counts only: else an export passes over no older ones."""
    profile: str = ""
    """What a Reference is to."""
    also: tuple[str, ...] = ()
    """Operations that take it unpublished: one Parameters may be sent to several."""

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + re.sub(r"[A-Z]", lambda letter: f"-{letter[0].lower()}", self.name)

    @property
    def is_resource(self) -> bool:
        """Whether its value is a resource, which no query holds."""
        return self.type in _RESOURCES

    def is_taken(self, operation: str) -> bool:
        """Whether it fills something in an operation's question."""
        return bool(self.field) and operation in self.operations + self.also

    def told(self, operation: str) -> str:
        """What it is for, and for the definitions which there are."""
        if self.field != "papers" or operation not in DEFINITIONS:
            return self.text
        return f"{self.text} Known: {', '.join(paper.id for paper in DEFINITIONS[operation])}."

    def refused(self, operation: str, place: str) -> Fault:
        """Why an operation does not take it."""
        if self.is_resource:
            text = f"'{self.name}' is a {self.type}, and comes as a resource in Parameters."
            return Fault("value", text, place)
        asked_of = _ABOUT[self.operations[0]]
        text = f"'{self.name}' is asked of {asked_of}, not of {_ABOUT[operation]}."
        return Fault("not-supported", text, place)


def _one_of(name: str, field: str, choices: tuple[str, ...], text: str, **more: Any) -> Parameter:
    def read(value: Value) -> str | None:
        return value if isinstance(value, str) and value in choices else None

    remedy = "one of " + ", ".join(choices) if len(choices) > 2 else " or ".join(choices)
    given: dict[str, Any] = {"operations": OPERATIONS, "default": choices[0]} | more
    return Parameter(
        name, "code", text, field=field, read=read, remedy=remedy, choices=choices, **given
    )


_A_DAY = "a date or dateTime such as 2024-03-05"
_ASSESS = (ASSESS_ELIGIBILITY, ASSESS_RESPONSE)
_OF_RESPONSE = (ASSESS_RESPONSE, EVALUATE_MEASURE, PLOT)
_REPORT = (EVALUATE_MEASURE,)

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "data",
        "Bundle",
        "The patient data; without Parameters the Bundle may be the body. For a Patient instance "
        "the data are read from the configured FHIR server instead.",
        (*_ASSESS, PLOT),
    ),
    Parameter("additionalData", "Bundle", "The cohort's data; nothing is stored.", _REPORT),
    Parameter(
        "periodStart",
        "date",
        "The start of the period reported.",
        _REPORT,
        field="period_start",
        read=_when,
        remedy="a date such as 2024-03-05",
    ),
    Parameter(
        "periodEnd",
        "date",
        "The end of the period: results after it are ignored.",
        _REPORT,
        field="as_of",
        read=_when,
        remedy="a date such as 2024-03-05",
    ),
    _one_of(
        "reportType",
        "report_type",
        ("population", "subject", "subject-list"),
        "population (default), subject or subject-list.",
        operations=_REPORT,
    ),
    _one_of(
        "operation",
        "operation",
        tuple(PLOTTED),
        "eligibility or response of one patient, or measure: each patient of a cohort. "
        "Default: response where treatmentStart is given, else eligibility.",
        operations=(PLOT,),
        default="",
    ),
    Parameter(
        "width",
        "positiveInt",
        "Pixels, from {} to {}; {} by default.".format(*WIDTHS, DEFAULT_WIDTH),
        (PLOT,),
        field="width",
        read=_whole(WIDTHS),
        limits=WIDTHS,
        remedy="a number of pixels from {} to {}".format(*WIDTHS),
        default=f"{DEFAULT_WIDTH}",
    ),
    Parameter(
        "criteria",
        "uri",
        "Which published definitions, by id or canonical; one assessment each. "
        f"Default: {PUBLISHED[0].id}.",
        OPERATIONS,
        field="papers",
        remedy="an id or a canonical",
        default=PUBLISHED[0].id,
        repeats=True,
        metavar="ID",
        of_the_newest=True,
    ),
    Parameter(
        "asOf",
        "dateTime",
        "Judge as known on that day. Default: the latest result.",
        (*_ASSESS, PLOT),
        field="as_of",
        read=_when,
        remedy=_A_DAY,
        metavar="DATE",
        of_the_newest=True,
        also=_REPORT,
    ),
    Parameter(
        "subject",
        "string",
        "Only this patient; the patient of results without subject.",
        OPERATIONS,
        field="subject",
        read=_patient,
        remedy="a patient's reference such as Patient/123",
        metavar="REFERENCE",
        of_exports=False,
        of_the_newest=True,
    ),
    Parameter(
        "window",
        "positiveInt",
        f"Days within which counts are combined. Default {WINDOW_DAYS}.",
        OPERATIONS,
        field="window_days",
        read=_whole(_WINDOWS_DAYS),
        limits=_WINDOWS_DAYS,
        remedy="a number of days from {} to {}".format(*_WINDOWS_DAYS),
        default=f"{WINDOW_DAYS}",
        metavar="DAYS",
        of_the_newest=True,
    ),
    _one_of(
        "redCellPolicy",
        "red_cell_policy",
        RED_CELL_POLICIES,
        f"{RED_CELL_POLICIES[0]} (default), {', '.join(RED_CELL_POLICIES[1:-1])}, "
        f"or {RED_CELL_POLICIES[-1]}.",
        metavar="POLICY",
        of_the_newest=True,
    ),
    _one_of(
        "transfusionHistory",
        "transfusion_history",
        ("complete", "unknown"),
        "complete: the data hold every transfusion; unknown (default).",
        default="unknown",
        metavar="KNOWN",
        of_the_newest=True,
    ),
    _one_of(
        "exclusions",
        "exclusions",
        ("tell", "apply"),
        "tell (default): what the chart records is told beside the verdict; apply: an active "
        "recorded exclusion of the definition, or an age or weight outside its limits, makes not "
        "eligible.",
        operations=(ASSESS_ELIGIBILITY,),
        metavar="HOW",
        of_the_newest=True,
    ),
    Parameter(
        "study",
        "Reference",
        "Adds a ResearchSubject for each patient.",
        _ASSESS,
        field="study",
        read=_reference,
        remedy="a reference such as ResearchStudy/123",
        of_the_newest=True,
        profile="http://hl7.org/fhir/StructureDefinition/ResearchStudy",
        also=(EVALUATE_MEASURE, PLOT),
    ),
    Parameter(
        "codeMap",
        "ConceptMap",
        "The sender's own codes to LOINC, for this request alone; a target's product of the system "
        "http://unitsofmeasure.org declares the unit of results that carry none.",
        OPERATIONS,
        repeats=True,
        metavar="FILE",
    ),
    Parameter(
        "treatmentStart",
        "dateTime",
        "Start of treatment. Default: the earliest administration of the protocol's drug in the "
        "data.",
        _OF_RESPONSE,
        field="treatment_start",
        read=_when,
        remedy=_A_DAY,
        metavar="DATE",
        also=(ASSESS_ELIGIBILITY,),
    ),
    Parameter(
        "independenceWindow",
        "string",
        "Transfusion-free time that makes independent, such as '12 wk' (d, wk, mo, a; up to 2 a). "
        "Default: the definition's, 8 weeks.",
        _OF_RESPONSE,
        field="independence_days",
        read=_independence,
        remedy="a duration up to 2 a, in d, wk, mo or a: 8 wk",
        metavar="DURATION",
    ),
)
"""In the order in which they are published; a fault of an earlier one is told first."""
BY_NAME: Mapping[str, Parameter] = MappingProxyType({one.name: one for one in PARAMETERS})


def parameters_of(operation: str) -> tuple[Parameter, ...]:
    """The parameters that an operation publishes."""
    return tuple(one for one in PARAMETERS if operation in one.operations)


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


def _data_name(operation: str) -> str:
    return next(one.name for one in parameters_of(operation) if one.type == "Bundle")


def _in_parameters(
    parameters: Sequence[Placed], given: dict[str, list[Given]], operation: str
) -> Iterator[tuple[str, Data]]:
    """Puts the values beside those given, and yields the data with their parameters' places."""
    spend(2 * len(parameters))
    name = _data_name(operation)
    for place, parameter in parameters:
        if parameter.name == name:
            inner = (
                decode_body(parameter.resource, f"{place}.resource") if parameter.resource else None
            )
            if inner is None or inner.resourceType != "Bundle":
                raise RequestError(400, Fault("invalid", f"'{name}' is a Bundle.", place))
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
        text = f"Parameters need '{_data_name(operation)}', once: the Bundle to assess."
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
    values["papers"] = papers_named(values.get("papers", ()), DEFINITIONS[asked])
    values.setdefault("window_days", window_days)
    if "subject" in values:
        values.setdefault("report_type", "subject")
    return Question(asked, code_map=code_map, **values)


def _judged_for(values: dict[str, Any], operation: str) -> str:
    """What is judged for a picture, or else the operation itself."""
    if operation != PLOT:
        return operation
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
        elif known.operations != (PLOT,) and not known.is_taken(asked):
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
