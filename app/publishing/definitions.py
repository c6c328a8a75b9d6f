"""What the service publishes about itself as FHIR, from the tables that the engine runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from app.asking import (
    ASSESS_ELIGIBILITY,
    ASSESS_RESPONSE,
    EVALUATE_MEASURE,
    MATCH,
    PLOT,
    Parameter,
    parameters_of,
)
from app.fhir.json import Json
from app.publishing.causes import causes
from app.publishing.crmi import publishable
from app.publishing.groups import groups
from app.publishing.measures import (
    eligibility_measures,
    end_point_measure,
    response_measures,
    screening_measure,
)
from app.publishing.plans import library_resources, plans
from app.publishing.profiles import cross_version_extensions, profiles
from app.publishing.studies import studies
from app.publishing.terminology import AID, defined, terminology

DEFINITION_TYPES = (
    "CodeSystem",
    "ConceptMap",
    "Group",
    "Library",
    "Measure",
    "OperationDefinition",
    "PlanDefinition",
    "ResearchStudy",
    "StructureDefinition",
    "ValueSet",
)
EMPTY_TYPES = ("ActivityDefinition", "Questionnaire")
"""None of these are published; but who searches a repository of CRMI's is told so."""


@cache
def definitions() -> Mapping[tuple[str, str], Json]:
    """Every resource that is published, by its type and id, in this order: all others read it here.

    Of those that the settings add, the maps of a hospital's codes, none is among them.
    """
    found = [
        *_operations(),
        *plans(),
        *library_resources(),
        end_point_measure(),
        screening_measure(),
        *eligibility_measures(),
        *response_measures(),
        *terminology(),
        *causes(),
        *profiles(),
        *cross_version_extensions(),
        *groups(),
        *studies(),
    ]
    return {_type_and_id(one): publishable(one) for one in sorted(found, key=_type_and_id)}


def _type_and_id(resource: Json) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


def _parameter(one: Parameter) -> Json:
    counted: Json = {"min": 0, "max": "*" if one.repeats else "1"}
    told: Json = {"documentation": one.text, "type": one.type}
    if one.profile:
        told["targetProfile"] = [one.profile]
    return {"name": one.name, "use": "in", **counted, **told}


def _operations() -> Iterator[Json]:
    assessments = ("Bundle", "The assessments, in a Bundle of type collection.")
    yield _operation(
        ASSESS_ELIGIBILITY,
        "Assess eligibility",
        "Do a patient's blood counts meet a published definition of aplastic anemia? " + AID,
        "Patient",
        assessments,
        system=True,
    )
    yield _operation(
        ASSESS_RESPONSE,
        "Assess response",
        "Did a treated patient respond, by a published definition? " + AID,
        "Patient",
        assessments,
        system=True,
    )
    yield _operation(
        EVALUATE_MEASURE,
        "Evaluate measure",
        "How many of a cohort responded? FHIR's own operation, with the data in the request.",
        "Measure",
        ("MeasureReport", "The report."),
        base="http://hl7.org/fhir/OperationDefinition/Measure-evaluate-measure",
    )
    yield _operation(
        PLOT,
        "Plot",
        "How do a patient's counts stand against a definition over time? " + AID,
        "",
        ("Binary", "The picture: image/svg+xml, or image/png where Accept says so."),
        system=True,
    )
    yield _operation(
        MATCH,
        "Match studies",
        "Which published studies' criteria does a patient meet by counts? After CodeX Integrated "
        "Trial Matching. A match is no offer: a study may have ended, and says so. " + AID,
        "ResearchStudy",
        (
            "Bundle",
            "A searchset: each study that is met (search.score 1) or open (0.5, also where the "
            "data record what it excludes) as a match, the assessments and what is missing as "
            "included, and what else is to be known as outcome.",
        ),
        of_type=True,
    )


def _operation(
    code: str,
    title: str,
    description: str,
    resource: str,
    returned: tuple[str, str],
    system: bool = False,
    of_type: bool = False,
    base: str = "",
) -> Json:
    type_, text = returned
    answer = {"name": "return", "use": "out", "min": 1, "max": "1"}
    answer |= {"documentation": text, "type": type_}
    definition = defined("OperationDefinition", code, title, description) | {
        "kind": "operation",
        "affectsState": False,
        "code": code,
        "resource": [resource],
        "system": system,
        "type": of_type,
        "instance": bool(resource) and not of_type,
        "parameter": [*map(_parameter, parameters_of(code)), answer],
    }
    if not resource:
        del definition["resource"]
    return definition | {"base": base} if base else definition
