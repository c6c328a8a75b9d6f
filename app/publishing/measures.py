"""The cohort's end point, and who is eligible, as Measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.domain.cohort import BY_LINEAGES, STRATIFIERS
from app.domain.paper import LINEAGE_RESPONSES
from app.fhir.canonicals import (
    BASE,
    IMPROVEMENT_SYSTEM,
    MEASURE_ID,
    POPULATION_SYSTEM,
    RESPONSE_GROUP,
    SCORING_SYSTEM,
    SCREENING_ID,
    STRATIFIER_SYSTEM,
)
from app.fhir.json import Json, coded, linked
from app.papers import SHIPPED, SHIPPED_RESPONSES
from app.publishing.cql import library_name, response_id
from app.publishing.plans import FHIRPATH, cited, library_canonical
from app.publishing.profiles import profile_of
from app.publishing.terminology import AID, defined

_PATIENT = coded("http://hl7.org/fhir/resource-types", "Patient")


_POPULATIONS = (
    ("initial-population", "Initial Population"),
    ("denominator", "Denominator"),
    ("denominator-exclusion", "Denominator Exclusion"),
    ("numerator", "Numerator"),
)


def end_point_measure() -> Json:
    """The cohort's end point; each expression reads a treated patient's response assessment."""
    assessed = "code.coding.exists(code = 'response')"
    excluded = "value.coding.exists(code = 'not-evaluable')"
    responded = "value.coding.exists(code = 'complete-response' or code = 'response')"
    description = (
        "The share of evaluable patients with a hematologic response in at least one affected "
        "blood count, the primary end point of the NIH daclizumab pilot trial. Each expression is "
        "evaluated on the response assessment (Observation) of a patient with a start of "
        f"treatment. {AID}"
    )
    measure = defined("Measure", MEASURE_ID, "Hematologic response", description, "1.0.0")
    stratifiers: list[Json] = [
        {
            **linked("Measure.group.stratifier", f"by-{code}"),
            "code": coded(STRATIFIER_SYSTEM, code, title),
            "criteria": {"language": FHIRPATH, "expression": _stratum(code)},
        }
        for code, title, _ in STRATIFIERS
    ]
    return measure | {
        "subjectCodeableConcept": _PATIENT,
        "relatedArtifact": [cited(SHIPPED[0].citation), _read("response")],
        **_responders(FHIRPATH, (assessed, assessed, excluded, responded), stratifiers),
    }


def response_measures() -> Iterator[Json]:
    """The end point of each definition of response, by its CQL from the patients' raw data."""
    for paper in SHIPPED_RESPONSES:
        description = (
            f"{paper.title}: the share of evaluable patients who responded. The expressions are "
            "those of the definition's CQL, which reads the patients' own results; who is not in "
            "the numerator and has no verdict, the stratum tells. The treatment starts with the "
            f"first daclizumab given, or as the parameter 'Treatment start' says. {AID}"
        )
        title = f"Response from raw data: {paper.title}"
        measure = defined("Measure", response_id(paper), title, description, paper.version)
        if not paper.verified:
            measure |= {"status": "draft", "experimental": True}
        by_verdict = {
            **linked("Measure.group.stratifier", "by-verdict"),
            "code": {"text": "Verdict"},
            "criteria": {"language": "text/cql", "expression": "Verdict"},
        }
        names = ("Initial population", "Denominator", "Denominator exclusion", "Numerator")
        yield measure | {
            "subjectCodeableConcept": _PATIENT,
            "relatedArtifact": [cited(paper.citation)],
            "library": [f"{BASE}/Library/{library_name(response_id(paper))}|{paper.version}"],
            **_responders("text/cql", names, [by_verdict]),
        }


def _responders(language: str, expressions: Sequence[str], stratifiers: Sequence[Json]) -> Json:
    """A proportion of responders: its populations, in their order, as expressions of a language."""
    return {
        "scoring": coded(SCORING_SYSTEM, "proportion", "Proportion"),
        "type": [coded("http://terminology.hl7.org/CodeSystem/measure-type", "outcome", "Outcome")],
        "rateAggregation": "Clopper-Pearson exact 95% interval",
        "improvementNotation": coded(IMPROVEMENT_SYSTEM, "increase"),
        "group": [
            {
                **linked("Measure.group", RESPONSE_GROUP),
                "population": [
                    {
                        **linked("Measure.group.population", code),
                        "code": coded(POPULATION_SYSTEM, code, title),
                        "criteria": {"language": language, "expression": expression},
                    }
                    for (code, title), expression in zip(_POPULATIONS, expressions, strict=True)
                ],
                "stratifier": list(stratifiers),
            }
        ],
    }


def eligibility_measures() -> Iterator[Json]:
    """For each paper how many patients come to each verdict, by its CQL from their raw data."""
    for paper in SHIPPED:
        description = (
            f"{paper.title}: how many patients were screened, and how many of them came to each "
            "verdict by their newest counts. The expressions are those of the definition's CQL, "
            f"which reads the patients' own results. {AID}"
        )
        title = f"Eligibility by blood counts: {paper.title}"
        measure = defined("Measure", f"eligibility-{paper.id}", title, description, paper.version)
        yield measure | {
            "subjectCodeableConcept": _PATIENT,
            "relatedArtifact": [cited(paper.citation)],
            "library": [library_canonical(paper)],
            **_screened("text/cql", "Screened", "Verdict"),
        }


def screening_measure() -> Json:
    """How many patients of an export came to each verdict."""
    description = (
        "How many patients were screened, and how many of them came to each verdict. Each "
        "expression is evaluated on the eligibility assessment (Observation) of a patient. "
        f"{AID}"
    )
    measure = defined("Measure", SCREENING_ID, "Screening by blood counts", description, "1.0.0")
    assessed = "code.coding.exists(code = 'eligibility')"
    screened = _screened(FHIRPATH, assessed, "value.coding.code")
    read = [_read("eligibility")]
    return measure | {"subjectCodeableConcept": _PATIENT, "relatedArtifact": read, **screened}


def _read(assessment: str) -> Json:
    """The profile of the assessments that a measure's expressions are evaluated on."""
    return {"type": "depends-on", "resource": profile_of(assessment)}


def _screened(language: str, screened: str, verdict: str) -> Json:
    """A cohort by verdict: who is in it, and what each came to, as expressions of a language."""
    population = {
        "id": "initial-population",
        "code": coded(POPULATION_SYSTEM, "initial-population", "Initial Population"),
        "criteria": {"language": language, "expression": screened},
    }
    stratifier = {
        "id": "by-verdict",
        "component": [
            {
                "id": "verdict",
                "code": {"text": "Verdict"},
                "criteria": {"language": language, "expression": verdict},
            }
        ],
    }
    return {
        "scoring": coded(SCORING_SYSTEM, "cohort", "Cohort"),
        "group": [{"id": "screened", "population": [population], "stratifier": [stratifier]}],
    }


def _stratum(stratifier: str) -> str:
    """The stratum of a response assessment, as FHIRPath."""
    if stratifier != "depth":
        return f"component.where(code.coding.code = '{stratifier}').value.coding.code"
    single, multi, none = BY_LINEAGES
    named = " or ".join(f"code.coding.code = '{lineage}'" for lineage in LINEAGE_RESPONSES)
    met = f"component.where({named}).where(value.coding.code = 'met').count()"
    split = f"iif({met} = 0, '{none}', iif({met} = 1, '{single}', '{multi}'))"
    return f"iif(value.coding.code = 'response', {split}, value.coding.code)"
