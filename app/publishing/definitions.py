"""What the service publishes about itself as FHIR, from the tables that the engine runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from app.fhir.json import Json
from app.fhir.outcome import Fault, RequestError
from app.publishing.measures import end_point_measure, screening_measure
from app.publishing.plans import library_resources, plans, study
from app.publishing.profiles import profiles
from app.publishing.terminology import AID, defined, terminology

DEFINITION_TYPES = (
    "CodeSystem",
    "ConceptMap",
    "Library",
    "Measure",
    "OperationDefinition",
    "PlanDefinition",
    "ResearchStudy",
    "StructureDefinition",
    "ValueSet",
)
OPERATIONS = ("assess-eligibility", "assess-response", "evaluate-measure", "plot")


@cache
def definitions() -> Mapping[tuple[str, str], Json]:
    """Every definition by its type and id, in this order."""
    found = [
        *_operations(),
        *plans(),
        *library_resources(),
        end_point_measure(),
        screening_measure(),
        *terminology(),
        *profiles(),
        study(),
    ]
    return {(one["resourceType"], one["id"]): one for one in sorted(found, key=_type_and_id)}


def _type_and_id(resource: Json) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


def found_by(
    among: Mapping[tuple[str, str], Json], kind: str, query: Sequence[tuple[str, str]]
) -> list[Json]:
    """The definitions of a type that a FHIR search finds: `url`, `_id`, `name`.

    Several values with commas are alternatives; a name is found by its beginning in any case.
    RequestError 400 for a modifier that is not known.
    """
    found = [one for (type_, _), one in among.items() if type_ == kind]
    for parameter, text in query:
        name, _, modifier = parameter.partition(":")
        if name not in {"_id", "url", "name"}:
            continue
        if modifier and (name, modifier) != ("name", "exact"):
            fault = Fault("not-supported", f"The modifier ':{modifier[:30]}' is not supported.")
            raise RequestError(400, fault)
        values = text.split(",")
        found = [one for one in found if any(_matches(one, parameter, v) for v in values)]
    return found


def _matches(resource: Json, parameter: str, value: str) -> bool:
    if parameter == "_id":
        return bool(resource["id"] == value)
    if parameter == "url":
        url, _, version = value.partition("|")
        return resource.get("url") == url and version in {"", resource.get("version")}
    name = str(resource.get("name", ""))
    return name == value if ":" in parameter else name.lower().startswith(value.lower())


def _parameter(name: str, type_: str, text: str, use: str = "in", **more: object) -> Json:
    counted: Json = {"min": 0, "max": "1"}
    return {"name": name, "use": use, **counted, "documentation": text, "type": type_} | more


_JUDGED = (
    _parameter(
        "criteria",
        "uri",
        "Which published definitions, by id or canonical; one assessment each. "
        "Default: nih-daclizumab-2003.",
        max="*",
    ),
    _parameter("asOf", "dateTime", "Judge as known on that day. Default: the latest result."),
    _parameter("subject", "string", "Only this patient; the patient of results without subject."),
    _parameter("window", "positiveInt", "Days within which counts are combined. Default 30."),
    _parameter(
        "redCellPolicy",
        "code",
        "both (default), reticulocytes-when-transfused, or reticulocytes-only.",
    ),
    _parameter(
        "transfusionHistory",
        "code",
        "complete: the data hold every transfusion; unknown (default).",
    ),
    _parameter(
        "study",
        "Reference",
        "Adds a ResearchSubject for each patient.",
        targetProfile=["http://hl7.org/fhir/StructureDefinition/ResearchStudy"],
    ),
    _parameter(
        "codeMap",
        "ConceptMap",
        "The sender's own codes to LOINC, for this request alone; a target's product of the system "
        "http://unitsofmeasure.org declares the unit of results that carry none.",
        max="*",
    ),
)
_START = _parameter(
    "treatmentStart",
    "dateTime",
    "Start of treatment. Default: the earliest administration of the protocol's drug in the data.",
)
_INDEPENDENCE = _parameter(
    "independenceWindow",
    "string",
    "Transfusion-free time that makes independent, such as '12 wk' (d, wk, mo, a; up to 2 a). "
    "Default: the definition's, 8 weeks.",
)
_DATA = _parameter(
    "data",
    "Bundle",
    "The patient data; without Parameters the Bundle may be the body. For a Patient instance the "
    "data are read from the configured FHIR server instead.",
)


def _operations() -> Iterator[Json]:
    eligibility, response, measure, plot = OPERATIONS
    yield _operation(
        eligibility,
        "Assess eligibility",
        "Do a patient's blood counts meet a published definition of aplastic anemia? " + AID,
        ["Patient"],
        [_DATA, *_JUDGED, _return("Bundle", "The assessments, in a Bundle of type collection.")],
        system=True,
    )
    yield _operation(
        response,
        "Assess response",
        "Did a treated patient respond, by a published definition? " + AID,
        ["Patient"],
        [
            _DATA,
            *_JUDGED,
            _START,
            _INDEPENDENCE,
            _return("Bundle", "The assessments, in a Bundle of type collection."),
        ],
        system=True,
    )
    additional = _parameter("additionalData", "Bundle", "The cohort's data; nothing is stored.")
    yield _operation(
        measure,
        "Evaluate measure",
        "How many of a cohort responded? FHIR's own operation, with the data in the request.",
        ["Measure"],
        [
            additional,
            _parameter("periodStart", "date", "The start of the period reported."),
            _parameter("periodEnd", "date", "The end of the period: results after it are ignored."),
            _parameter("reportType", "code", "population (default), subject or subject-list."),
            *(one for one in _JUDGED if one["name"] not in {"asOf", "study"}),
            _START,
            _INDEPENDENCE,
            _return("MeasureReport", "The report."),
        ],
        base="http://hl7.org/fhir/OperationDefinition/Measure-evaluate-measure",
    )
    yield _operation(
        plot,
        "Plot",
        "How do a patient's counts stand against a definition over time? " + AID,
        [],
        [
            _DATA,
            _parameter(
                "operation",
                "code",
                "eligibility or response of one patient, or measure: each patient of a cohort. "
                "Default: response where treatmentStart is given, else eligibility.",
            ),
            _parameter("width", "positiveInt", "Pixels, from 320 to 1600; 760 by default."),
            *(one for one in _JUDGED if one["name"] != "study"),
            _START,
            _INDEPENDENCE,
            _return("Binary", "The picture: image/svg+xml, or image/png where Accept says so."),
        ],
        system=True,
    )


def _return(type_: str, text: str) -> Json:
    return _parameter("return", type_, text, "out", min=1)


def _operation(
    code: str,
    title: str,
    description: str,
    resource: list[str],
    parameters: list[Json],
    system: bool = False,
    base: str = "",
) -> Json:
    definition = defined("OperationDefinition", code, title, description) | {
        "kind": "operation",
        "affectsState": False,
        "code": code,
        "resource": resource,
        "system": system,
        "type": False,
        "instance": bool(resource),
        "parameter": parameters,
    }
    if not resource:
        del definition["resource"]
    return definition | {"base": base} if base else definition
