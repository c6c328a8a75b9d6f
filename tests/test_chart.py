"""What stands in a chart beside the counts: causes, exclusions, age and weight."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.domain.assessment import Assessment, assess_eligibility
from app.domain.chart import Cause, CauseKind
from app.domain.counts import Course
from app.fhir.causes import CAUSE_ROWS, coded
from app.fhir.json import encode
from app.fhir.resources import Coding, Concept
from app.fhir.times import when
from app.operations import assessed, eligibility
from app.papers import PUBLISHED
from app.publishing.causes import causes
from app.writing.chart import chart_words
from tests.conformance import faults
from tests.shapes import LOINC

Json = dict[str, Any]
CASES = tomllib.loads((Path(__file__).parent / "cases" / "chart.toml").read_text("utf-8"))["case"]
TRIAL = PUBLISHED[0]
SYSTEMS = {
    "icd-10-cm": "http://hl7.org/fhir/sid/icd-10-cm",
    "icd-10": "http://hl7.org/fhir/sid/icd-10",
    "icd-10-gm": "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
    "icd-10-pcs": "http://www.cms.gov/Medicare/Coding/ICD10",
    "sct": "http://snomed.info/sct",
    "atc": "http://www.whocc.no/atc",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
}
SUBJECT = {"subject": {"reference": "Patient/p"}}
KINDS = {
    "procedure": "Procedure",
    "administration": "MedicationAdministration",
    "statement": "MedicationStatement",
    "request": "MedicationRequest",
}


def concept(given: Json) -> Json:
    found: Json = {}
    if "code" in given:
        system, code = given["code"].split("|")
        found["coding"] = [{"system": SYSTEMS[system], "code": code}]
    if "text" in given:
        found["text"] = given["text"]
    return found


def condition(given: Json) -> Json:
    found: Json = {"resourceType": "Condition", **SUBJECT}
    if concept(given):
        found["code"] = concept(given)
    for name, element in (("clinical", "clinicalStatus"), ("verified", "verificationStatus")):
        if name in given:
            found[element] = {"coding": [{"code": given[name]}]}
    for name, element in (("onset", "onsetDateTime"), ("abated", "abatementDateTime")):
        if name in given:
            found[element] = given[name]
    return found


def treatment(kind: str, given: Json) -> Json:
    found: Json = {"resourceType": KINDS[kind], "status": given["status"], **SUBJECT}
    named = "code" if kind == "procedure" else "medicationCodeableConcept"
    found[named] = concept(given)
    times = {"procedure": "performed", "request": ""}.get(kind, "effective")
    if "at" in given:
        found["authoredOn" if kind == "request" else f"{times}DateTime"] = given["at"]
    if "from" in given:
        found[f"{times}Period"] = {"start": given["from"]}
    if kind == "request":
        found["intent"] = given.get("intent", "order")
    return found


def count(code: str, value: str, unit: str, at: str = "2024-03-05") -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "effectiveDateTime": at,
        "valueQuantity": {
            "value": float(value),
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
        **SUBJECT,
    }


def counts(anc: str = "0.9", platelets: str = "41") -> list[Json]:
    return [count("751-8", anc, "10*9/L"), count("777-3", platelets, "10*9/L")]


def numbered(resources: list[Json]) -> bytes:
    entries = [{"resource": {"id": f"r{n}", **one}} for n, one in enumerate(resources)]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()


def chart_of(case: Json) -> list[Json]:
    found = [condition(one) for one in case.get("condition", [])]
    found += [treatment(kind, one) for kind in KINDS for one in case.get(kind, [])]
    if "born" in case:
        found.append({"resourceType": "Patient", "id": "p", "birthDate": case["born"]})
    if "weight" in case:
        found.append(count("29463-7", case["weight"]["kg"], "kg", case["weight"]["at"]))
    return found


def course_of(resources: list[Json]) -> Course:
    body = numbered([*counts(), *resources])
    return assessed(ASSESS_ELIGIBILITY, body).reading.courses[0]


def told(case: Json, exclusions: bool) -> tuple[Assessment, set[str]]:
    course = course_of(chart_of(case))
    as_of = when(case["as_of"]) if "as_of" in case else None
    found = assess_eligibility(TRIAL, course, as_of, exclusions=exclusions)
    return found, {remark.code for remark in (*course.remarks, *found.remarks)} - {"superseded"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["says"])
def test_the_chart_is_told_as_judged_by_hand(case: Json) -> None:
    found, remarks = told(case, exclusions=False)
    assert found.causes.answer.value == case["answer"]
    assert chart_words(found.causes) == case["words"]
    assert {one.code: one.truth.value for one in found.person} == case.get("person", {})
    assert remarks == set(case.get("remarks", []))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["says"])
def test_exclusions_count_only_where_they_are_asked_for(case: Json) -> None:
    assert told(case, exclusions=False)[0].verdict.value == "eligible"
    assert told(case, exclusions=True)[0].verdict.value == case["applied"]


# The one record that bears on counts.
TRANSFUSION = "Transfusion of red cells"
CHARTS = st.lists(st.sampled_from([r for case in CASES for r in chart_of(case)]), max_size=6)
RESULTS = st.sampled_from(["0.3", "0.9", "1.2", "1.3", "3"]), st.sampled_from(["10", "70", "71"])


@given(CHARTS, *RESULTS, st.sampled_from(PUBLISHED))
def test_no_chart_turns_a_verdict_by_counts(
    chart: list[Json], anc: str, platelets: str, paper: Any
) -> None:
    with_chart = [
        *counts(anc, platelets),
        *(one for one in chart if one.get("code", {}).get("text") != TRANSFUSION),
    ]
    charted, alone = (
        assessed(ASSESS_ELIGIBILITY, numbered(one), [("criteria", paper.id)]).assessments[0]
        for one in (with_chart, counts(anc, platelets))
    )
    assert charted.judgement is alone.judgement


@given(CHARTS)
def test_exclusions_never_make_eligible(chart: list[Json]) -> None:
    course = course_of([one for one in chart if one["resourceType"] != "Patient"])
    for paper in PUBLISHED:
        by_counts = assess_eligibility(paper, course)
        applied = assess_eligibility(paper, course, exclusions=True)
        assert applied.verdict in {by_counts.verdict, applied.verdict.NOT_ELIGIBLE}
        assert applied.judgement.by_counts is by_counts.verdict


def test_each_record_is_named_by_its_resource() -> None:
    leukemia = next(case for case in CASES if case["answer"] == "recorded")
    answer = json.loads(encode(eligibility(numbered([*counts(), *chart_of(leukemia)]))))
    observation = answer["entry"][0]["resource"]
    cause = next(
        one for one in observation["component"] if one["code"]["coding"][0]["code"] == "other-cause"
    )
    assert cause["valueCodeableConcept"]["coding"][0]["code"] == "recorded"
    assert [one["valueReference"]["reference"] for one in cause["extension"]] == ["Condition/r2"]
    assert [one["valueReference"]["reference"] for one in observation["extension"]] == [
        "Condition/r2"
    ]
    assert "<b> Chart: Acute myeloid leukemia 2024-01.</b>" in observation["text"]["div"]


def test_an_exclusion_that_is_applied_is_named_with_its_reason() -> None:
    leukemia = next(case for case in CASES if case["answer"] == "recorded")
    body = numbered([*counts(), *chart_of(leukemia)])
    answer = json.loads(encode(eligibility(body, [("exclusions", "apply")])))
    observation = answer["entry"][0]["resource"]
    assert observation["valueCodeableConcept"]["coding"][0]["code"] == "not-eligible"
    excluded = next(
        one
        for one in observation["component"]
        if one["code"]["coding"][0]["code"] == "no-recorded-exclusion"
    )
    assert excluded["valueCodeableConcept"]["coding"][0]["code"] == "not-met"
    assert excluded["valueCodeableConcept"]["text"] == "Acute myeloid leukemia 2024-01"
    assert "NCT00001962" in excluded["referenceRange"][0]["text"]
    told = observation["text"]["div"]
    assert "excluded by what is recorded. The counts meet the definition" in told


def test_each_row_of_the_table_is_read_as_its_cause() -> None:
    for row in CAUSE_ROWS:
        assert coded(Concept((Coding(row.system, row.code),))) == [row.cause], row


def test_each_cause_of_the_issue_has_a_row_or_is_told_in_words_alone() -> None:
    with_rows = {row.cause for row in CAUSE_ROWS}
    assert set(Cause) - with_rows == {Cause.ALEMTUZUMAB}


def test_each_row_of_the_table_is_published_with_its_source() -> None:
    published = {(one["resourceType"], one["id"]): one for one in causes()}
    elements = {
        (group["source"], element["code"]): element["target"][0]
        for group in published["ConceptMap", "code-to-cause"]["group"]
        for element in group["element"]
    }
    assert len(elements) == len(CAUSE_ROWS)
    for row in CAUSE_ROWS:
        target = elements[row.system, row.code]
        assert (target["code"], row.source in target["comment"]) == (row.cause.code, True)
        assert ("Unverified" in target["comment"]) is not row.verified
        value_set = json.dumps(published["ValueSet", f"cause-{row.cause.code}"]["compose"])
        assert f'"{row.code}"' in value_set


@pytest.mark.parametrize("one", list(causes()), ids=lambda one: one["id"])
def test_each_published_table_is_fhir(one: Json) -> None:
    assert faults(json.loads(encode(one), parse_float=Decimal)) == []


def test_no_code_stands_for_two_causes() -> None:
    codes = [(row.system, row.code) for row in CAUSE_ROWS]
    assert len(codes) == len(set(codes))


def test_what_treats_aplastic_anemia_is_no_other_cause() -> None:
    treats = {cause for cause in Cause if cause.kind is CauseKind.IMMUNOSUPPRESSION}
    excluded = {one.cause for paper in PUBLISHED for one in paper.exclusions}
    assert not treats & excluded


# The course of a treated patient

BASELINE = [
    count("751-8", "0.8", "10*9/L", "2024-01-01"),
    count("777-3", "40", "10*9/L", "2024-01-01"),
]
NORMAL = [("751-8", "3.0", "10*9/L"), ("777-3", "210", "10*9/L"), ("718-7", "14", "g/dL")]
TRANSPLANT = {"text": "Allogeneic stem cell transplantation", "status": "completed"}


def respond(*chart: Json, recovered: str = "2024-04-05") -> Any:
    """What is made of a patient treated on 2024-01-02, whose counts are normal on a day."""
    found = [*BASELINE, *(count(*one, recovered) for one in NORMAL), *chart]
    query = [("treatmentStart", "2024-01-02")]
    return assessed(ASSESS_RESPONSE, numbered(found), query).assessments[0]


def codes_of(found: Any) -> set[str]:
    return {remark.code for remark in found.remarks}


def test_without_a_transplant_the_recovery_is_the_drugs() -> None:
    assert respond().verdict.value == "complete-response"


def test_counts_after_a_transplant_are_not_the_drugs() -> None:
    found = respond(treatment("procedure", TRANSPLANT | {"at": "2024-03-01"}))
    assert found.verdict.value == "not-evaluable"
    assert "A stem-cell transplant ended the course (2024-03-01)" in found.reason
    assert "course-ended" in codes_of(found)
    assert [one.place for one in found.supporting] == ["Bundle.entry[5].resource"]


def test_counts_of_the_day_of_the_transplant_are_not_either() -> None:
    given = treatment("procedure", TRANSPLANT | {"at": "2024-04-05"})
    assert respond(given).verdict.value == "not-evaluable"


def test_counts_before_a_transplant_still_are() -> None:
    found = respond(treatment("procedure", TRANSPLANT | {"at": "2024-04-06"}))
    assert found.verdict.value == "complete-response"
    assert "course-ended" in codes_of(found)


def test_a_transplant_before_the_start_ends_nothing() -> None:
    found = respond(treatment("procedure", TRANSPLANT | {"at": "2019-04-06"}))
    assert found.verdict.value == "complete-response"
    assert "course-ended" not in codes_of(found)


def test_a_transplant_that_was_not_done_ends_nothing() -> None:
    given = treatment("procedure", TRANSPLANT | {"at": "2024-03-01", "status": "not-done"})
    assert respond(given).verdict.value == "complete-response"


@pytest.mark.parametrize(
    "drug", ["Anti-thymocyte globulin", "Ciclosporin 100 mg", "Eltrombopag 50 mg", "Danazol 200 mg"]
)
def test_other_immunosuppression_is_told_and_turns_nothing(drug: str) -> None:
    given = {"text": drug, "status": "completed", "at": "2024-02-01"}
    found = respond(treatment("administration", given))
    assert found.verdict.value == "complete-response"
    assert "other-immunosuppression" in codes_of(found)


def test_immunosuppression_that_had_ended_before_the_baseline_is_not_told() -> None:
    given = {"text": "Ciclosporin 100 mg", "status": "completed", "at": "2020-02-01"}
    assert "other-immunosuppression" not in codes_of(respond(treatment("administration", given)))
