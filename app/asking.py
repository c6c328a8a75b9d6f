"""What may be asked: one table of parameters, and the question they fill.

The OperationDefinitions, OpenAPI, the command line and exports all tell of the same table. A new
parameter is a row of `PARAMETERS` and the field of `Question` that it fills.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from app.domain.counts import When
from app.fhir.bodies import Entries, Entry
from app.fhir.maps import CodeMap
from app.fhir.resources import Reference
from app.papers import EVERY, PUBLISHED
from app.parameters import ASSESS_ELIGIBILITY as ASSESS_ELIGIBILITY
from app.parameters import ASSESS_RESPONSE as ASSESS_RESPONSE
from app.parameters import DEFINITIONS as DEFINITIONS
from app.parameters import EVALUATE_MEASURE as EVALUATE_MEASURE
from app.parameters import MATCH as MATCH
from app.parameters import OPERATIONS as OPERATIONS
from app.parameters import PLOT as PLOT
from app.parameters import Parameter as Parameter
from app.parameters import one_of
from app.reading.parameters import (
    boolean_in,
    days_up_to,
    patient_in,
    reference_in,
    reporter_in,
    when_in,
    whole_number,
)
from app.writing.sheet import DEFAULT_WIDTH, WIDTHS

RED_CELL_POLICIES = tuple(
    dict.fromkeys(name for paper in EVERY for name in paper.red_cell_policies)
)
WINDOW_DAYS = 30
PLOTTED = MappingProxyType(
    {"eligibility": ASSESS_ELIGIBILITY, "response": ASSESS_RESPONSE, "measure": EVALUATE_MEASURE}
)
"""What can be drawn: of one patient the first two, of a cohort the third."""
_WINDOWS_DAYS = 1, 36_500
_LONGEST_INDEPENDENCE_DAYS = 731
_LONGEST_SUSTAINED_DAYS = 3_653


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
    reporter: str | None = None
    treatment_start: When | None = None
    """None: the earliest administration of the paper's drug."""
    when: str = "newest"
    """Which days are told of: the newest, the first on which a definition was met, or changes."""
    sustained_days: int | None = None
    """None: as many as each paper asks for."""
    independence_days: int | None = None
    """None: as many as each paper asks for."""
    report_type: str = "population"
    period_start: When | None = None
    picture: bool = False
    """Whether each assessment has its picture with it."""
    width: int = DEFAULT_WIDTH
    """Of a picture, in pixels."""
    code_map: CodeMap | None = None
    """The hospital's own codes: those of the settings, and of the request."""
    recruitment_status: str | None = None
    """Which studies are matched, by their status. None: all."""
    phase: str | None = None
    zip_code: str | None = None
    travel_radius: str | None = None
    """Asked of a match like the phase and the place: no study here tells them."""


class Data(NamedTuple):
    """A Bundle's entries and its FHIRPath, by which remarks name what they are about."""

    entries: Entries
    place: str = "Bundle"

    def is_small(self, most_bytes: int) -> bool:
        """Whether what is still to be decoded is no longer than that."""
        raw = (bytes(one.resource) for one in self.entries if isinstance(one, Entry))
        return sum(map(len, raw)) <= most_bytes


_A_DAY = "a date or dateTime such as 2024-03-05"
_ASSESS = (ASSESS_ELIGIBILITY, ASSESS_RESPONSE)
_OF_ELIGIBILITY = (ASSESS_ELIGIBILITY, PLOT)
_STUDY_STATUSES = (
    "active",
    "administratively-completed",
    "approved",
    "closed-to-accrual",
    "closed-to-accrual-and-intervention",
    "completed",
    "disapproved",
    "in-review",
    "temporarily-closed-to-accrual",
    "temporarily-closed-to-accrual-and-intervention",
    "withdrawn",
)
_OF_RESPONSE = (ASSESS_RESPONSE, EVALUATE_MEASURE, PLOT)
_REPORT = (EVALUATE_MEASURE,)

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "data",
        "Bundle",
        "The patient data; without Parameters the Bundle may be the body. For a Patient instance "
        "the data are read from the configured FHIR server instead.",
        (*_ASSESS, PLOT, MATCH),
    ),
    Parameter(
        "trialMatchClinicalData",
        "Bundle",
        "The patient's data, by the name that CodeX Integrated Trial Matching has for them.",
        (MATCH,),
    ),
    Parameter("additionalData", "Bundle", "The cohort's data; nothing is stored.", _REPORT),
    Parameter(
        "periodStart",
        "date",
        "The start of the period reported.",
        _REPORT,
        field="period_start",
        read=when_in,
        remedy="a date such as 2024-03-05",
    ),
    Parameter(
        "periodEnd",
        "date",
        "The end of the period: results after it are ignored.",
        _REPORT,
        field="as_of",
        read=when_in,
        remedy="a date such as 2024-03-05",
    ),
    one_of(
        "reportType",
        "report_type",
        ("population", "subject", "subject-list"),
        "population (default), subject or subject-list.",
        about="Who is reported",
        operations=_REPORT,
    ),
    Parameter(
        "reporter",
        "Reference",
        "Who reports: an Organization, Practitioner or PractitionerRole.",
        _REPORT,
        field="reporter",
        read=reporter_in,
        remedy="a reference such as Organization/123",
        profile="http://hl7.org/fhir/StructureDefinition/Organization",
    ),
    one_of(
        "operation",
        "operation",
        tuple(PLOTTED),
        "eligibility or response of one patient, or measure: each patient of a cohort. "
        "Default: response where treatmentStart is given, else eligibility.",
        about="What is drawn",
        operations=(PLOT,),
        default="",
    ),
    Parameter(
        "width",
        "positiveInt",
        "Pixels, from {} to {}; {} by default.".format(*WIDTHS, DEFAULT_WIDTH),
        (PLOT,),
        field="width",
        read=whole_number(WIDTHS),
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
        (*_ASSESS, PLOT, MATCH),
        field="as_of",
        read=when_in,
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
        read=patient_in,
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
        read=whole_number(_WINDOWS_DAYS),
        limits=_WINDOWS_DAYS,
        remedy="a number of days from {} to {}".format(*_WINDOWS_DAYS),
        default=f"{WINDOW_DAYS}",
        metavar="DAYS",
        of_the_newest=True,
    ),
    one_of(
        "redCellPolicy",
        "red_cell_policy",
        RED_CELL_POLICIES,
        f"{RED_CELL_POLICIES[0]} (default), {', '.join(RED_CELL_POLICIES[1:-1])}, "
        f"or {RED_CELL_POLICIES[-1]}.",
        about="How the red-cell criterion is read",
        metavar="POLICY",
        of_the_newest=True,
    ),
    one_of(
        "transfusionHistory",
        "transfusion_history",
        ("complete", "unknown"),
        "complete: the data hold every transfusion; unknown (default).",
        default="unknown",
        metavar="KNOWN",
        of_the_newest=True,
    ),
    one_of(
        "exclusions",
        "exclusions",
        ("tell", "apply"),
        "tell (default): what the chart records is told beside the verdict; apply: an active "
        "recorded exclusion of the definition, or an age or weight outside its limits, makes not "
        "eligible.",
        operations=(*_OF_ELIGIBILITY, MATCH),
        metavar="HOW",
        of_the_newest=True,
    ),
    Parameter(
        "study",
        "Reference",
        "Adds a ResearchSubject for each patient.",
        _ASSESS,
        field="study",
        read=reference_in,
        remedy="a reference such as ResearchStudy/123",
        of_the_newest=True,
        profile="http://hl7.org/fhir/StructureDefinition/ResearchStudy",
        also=(EVALUATE_MEASURE, PLOT),
    ),
    Parameter(
        "picture",
        "boolean",
        "true: each assessment contains its picture, as $plot draws it; false (default).",
        _ASSESS,
        field="picture",
        read=boolean_in,
        remedy="true or false",
        default="false",
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
    one_of(
        "when",
        "when",
        ("newest", "first", "changes"),
        "newest (default): the newest counts; first: the first day on which the definition was "
        "met; changes: besides, the timeline, and an assessment for each change of the verdict.",
        operations=_OF_ELIGIBILITY,
        metavar="WHEN",
    ),
    Parameter(
        "sustained",
        "string",
        "The definition must be met at every assessment over at least that time, two at the least, "
        "such as '6 wk' (d, wk, mo, a; up to 10 a). Default: the definition's, if it names one.",
        _OF_ELIGIBILITY,
        field="sustained_days",
        read=days_up_to(_LONGEST_SUSTAINED_DAYS),
        remedy="a duration up to 10 a, in d, wk, mo or a: 6 wk",
        metavar="DURATION",
    ),
    Parameter(
        "treatmentStart",
        "dateTime",
        "Start of treatment. Default: the earliest administration of the protocol's drug in the "
        "data.",
        _OF_RESPONSE,
        field="treatment_start",
        read=when_in,
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
        read=days_up_to(_LONGEST_INDEPENDENCE_DAYS),
        remedy="a duration up to 2 a, in d, wk, mo or a: 8 wk",
        metavar="DURATION",
    ),
    one_of(
        "recruitmentStatus",
        "recruitment_status",
        _STUDY_STATUSES,
        "Only studies of that status, a code of FHIR's ResearchStudyStatus. Default: all.",
        operations=(MATCH,),
        default="",
    ),
    *(
        Parameter(
            name,
            "string",
            f"{about}: taken, and narrows nothing, since no study here tells it.",
            (MATCH,),
            field=field,
        )
        for name, field, about in (
            ("phase", "phase", "The phase of a study"),
            ("zipCode", "zip_code", "Where to search"),
            ("travelRadius", "travel_radius", "How far around"),
        )
    ),
)
"""In the order in which they are published; a fault of an earlier one is told first."""
BY_NAME: Mapping[str, Parameter] = MappingProxyType({one.name: one for one in PARAMETERS})


def parameters_of(operation: str) -> tuple[Parameter, ...]:
    """The parameters that an operation publishes."""
    return tuple(one for one in PARAMETERS if operation in one.operations)
