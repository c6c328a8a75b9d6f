"""`ResearchStudy/$match`: which study a patient's counts fit, and why, as a client reads it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conformance import faults
from tests.conftest import FHIR_JSON, ROOT

MATCH = "/fhir/ResearchStudy/$match"
STUDY = "NCT00001962"
FIXTURES = ROOT / "fixtures"
# Stories of one patient by the default definition, without parameters of their own.
STORIES = [
    path.parent.name
    for path in sorted(FIXTURES.glob("*/request.json"))
    if json.loads(path.read_bytes())["resourceType"] == "Bundle"
    and (path.parent / "response.json").exists()
]
LOINC = {"anc": "751-8", "platelets": "777-3", "hemoglobin": "718-7", "reticulocytes": "60474-4"}

Json = dict[str, Any]
Outcome = Callable[[httpx.Response], Json]


def chart(patient: str = "P1", **counts: float) -> Json:
    """A patient's counts of one day, in 10*9/L and g/dL."""
    entries = []
    for name, value in counts.items():
        unit = "g/dL" if name == "hemoglobin" else "10*9/L"
        resource = {
            "resourceType": "Observation",
            "id": f"{patient}-{name}",
            "status": "final",
            "subject": {"reference": f"Patient/{patient}"},
            "code": {"coding": [{"system": "http://loinc.org", "code": LOINC[name]}]},
            "effectiveDateTime": "2024-03-05",
            "valueQuantity": {
                "value": value,
                "unit": unit,
                "system": "http://unitsofmeasure.org",
                "code": unit,
            },
        }
        entries.append({"resource": resource})
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


MODERATE = chart(anc=0.9, platelets=41, hemoglobin=9.4)
OPEN = chart(anc=1.5, platelets=60, hemoglobin=8)
HEALTHY = chart(anc=3.5, platelets=210, hemoglobin=13)
SEVERE = chart(anc=0.4, platelets=12, hemoglobin=7)


def ask(http: httpx.Client, body: Json, query: str = "", **headers: str) -> httpx.Response:
    sent = {"content-type": FHIR_JSON} | headers
    return http.post(MATCH + query, content=json.dumps(body), headers=sent)


def answer(http: httpx.Client, body: Json, query: str = "") -> Json:
    response = ask(http, body, query)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    assert (found["type"], faults(found)) == ("searchset", [])
    return found


def of_mode(found: Json, mode: str) -> list[Json]:
    return [one for one in found["entry"] if one["search"]["mode"] == mode]


def matches(found: Json) -> list[tuple[str, float]]:
    """The studies matched, with their scores."""
    entries = of_mode(found, "match")
    assert found["total"] == len(entries)
    assert {one["resource"]["resourceType"] for one in entries} <= {"ResearchStudy"}
    return [(one["resource"]["id"], one["search"]["score"]) for one in entries]


def included(found: Json, kind: str) -> list[Json]:
    return [
        one["resource"]
        for one in of_mode(found, "include")
        if one["resource"]["resourceType"] == kind
    ]


def criteria(found: Json) -> dict[str, tuple[str, list[str]]]:
    """Of each criterion the answer, and the results that decided it."""
    (assessment,) = included(found, "Observation")
    return {
        part["code"]["coding"][0]["code"]: (
            part["valueCodeableConcept"]["coding"][0]["code"],
            [one["valueReference"]["reference"] for one in part.get("extension", [])],
        )
        for part in assessment["component"]
        if "valueCodeableConcept" in part
    }


def said(found: Json) -> dict[str, str]:
    """What else is to be known, by our codes."""
    return {
        issue["details"]["coding"][0]["code"]: issue["diagnostics"]
        for one in of_mode(found, "outcome")
        for issue in one["resource"]["issue"]
    }


def test_a_patient_with_two_low_counts_matches_the_study_and_is_told_by_which(
    http: httpx.Client,
) -> None:
    found = answer(http, MODERATE)
    assert matches(found) == [(STUDY, 1)]
    told = criteria(found)
    assert told["neutrophils-depressed"] == ("met", ["Observation/P1-anc"])
    assert told["platelets-depressed"] == ("met", ["Observation/P1-platelets"])
    assert told["red-cells-depressed"] == ("not-met", ["Observation/P1-hemoglobin"])
    assert told["not-severe"][0] == "met"


def test_a_study_that_has_ended_is_said_to_take_no_patients_and_no_drug_is_suggested(
    http: httpx.Client,
) -> None:
    found = answer(http, MODERATE)
    assert of_mode(found, "match")[0]["resource"]["status"] == "completed"
    assert "takes no patients: its status is completed" in said(found)["study-closed"]
    assert "withdrawn from the market" in said(found)["study-closed"]
    kinds = {one["resource"]["resourceType"] for one in found["entry"]}
    assert kinds == {"ResearchStudy", "Observation", "GuidanceResponse", "OperationOutcome"}


def test_a_missing_count_leaves_the_match_open_and_is_named(http: httpx.Client) -> None:
    found = answer(http, OPEN)
    assert matches(found) == [(STUDY, 0.5)]
    assert criteria(found)["red-cells-depressed"] == ("unknown", ["Observation/P1-hemoglobin"])
    (guidance,) = included(found, "GuidanceResponse")
    (needed,) = guidance["dataRequirement"]
    assert needed["codeFilter"][0]["code"][0]["code"] == LOINC["reticulocytes"]


@pytest.mark.parametrize(
    ("counts", "criterion"),
    [(HEALTHY, "platelets-depressed"), (SEVERE, "not-severe")],
    ids=["healthy", "severe"],
)
def test_whose_criteria_are_not_met_matches_no_study_and_is_told_why(
    http: httpx.Client, counts: Json, criterion: str
) -> None:
    found = answer(http, counts)
    assert matches(found) == []
    assert criteria(found)[criterion][0] == "not-met"
    assert f"{STUDY} is no match" in said(found)["study-not-matched"]


def test_a_leukemia_in_the_chart_makes_no_full_match_and_where_exclusions_count_none(
    http: httpx.Client,
) -> None:
    story = json.loads((FIXTURES / "leukemia-in-the-chart" / "request.json").read_bytes())
    found = answer(http, story)
    assert matches(found) == [(STUDY, 0.5)]
    assert "leukemia" in said(found)["study-excludes"].lower()
    assert matches(answer(http, story, "?exclusions=apply")) == []


def test_a_child_below_the_studys_age_makes_no_full_match(http: httpx.Client) -> None:
    story = json.loads((FIXTURES / "child-of-one-year" / "request.json").read_bytes())
    found = answer(http, story)
    assert matches(found) == [(STUDY, 0.5)]
    assert "born" in said(found)["study-excludes"]


def test_who_asks_for_recruiting_studies_is_not_given_one_that_has_ended(
    http: httpx.Client,
) -> None:
    found = answer(http, MODERATE, "?recruitmentStatus=active")
    assert matches(found) == []
    told = said(found)
    assert f"{STUDY} is completed" in told["study-left-out"]
    assert "nih-daclizumab-2003: eligible" in told["study-left-out"]
    assert matches(answer(http, MODERATE, "?recruitmentStatus=completed")) == [(STUDY, 1)]


def test_the_other_arm_of_the_protocol_is_asked_by_its_definition(http: httpx.Client) -> None:
    counts = chart(anc=3.5, platelets=210, hemoglobin=7, reticulocytes=8)
    red_cells = {
        "resourceType": "Procedure",
        "status": "completed",
        "subject": {"reference": "Patient/P1"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "116863004"}]},
        "performedDateTime": "2024-02-20",
    }
    counts["entry"].append({"resource": red_cells})
    assert matches(answer(http, counts)) == []
    assert matches(answer(http, counts, "?criteria=nih-prca-2003")) == [(STUDY, 1)]
    both = answer(http, counts, "?criteria=nih-prca-2003&criteria=nih-daclizumab-2003")
    assert matches(both) == [(STUDY, 1)]
    assert len(included(both, "Observation")) == 2


def test_what_a_client_of_the_draft_sends_is_taken(http: httpx.Client) -> None:
    asked = [
        {"name": "zipCode", "valueString": "20892"},
        {"name": "travelRadius", "valueString": "50"},
        {"name": "phase", "valueString": "phase-2"},
        {"name": "recruitmentStatus", "valueString": "completed"},
        {"name": "trialMatchClinicalData", "resource": MODERATE},
    ]
    found = answer(http, {"resourceType": "Parameters", "parameter": asked})
    assert matches(found) == [(STUDY, 1)]
    texts = [
        issue["diagnostics"]
        for one in of_mode(found, "outcome")
        for issue in one["resource"]["issue"]
        if issue["details"]["coding"][0]["code"] == "not-narrowed"
    ]
    assert [text.split("'")[1] for text in texts] == ["phase", "zipCode", "travelRadius"]


@pytest.mark.parametrize("name", STORIES)
def test_the_reasons_are_the_assessments_that_assess_eligibility_gives(
    http: httpx.Client, name: str
) -> None:
    story = json.loads((FIXTURES / name / "request.json").read_bytes())
    response = ask(http, story)
    wanted = json.loads((FIXTURES / name / "response.json").read_bytes())["entry"]
    kinds = [one["resource"]["resourceType"] for one in wanted]
    if kinds.count("Observation") != 1:
        assert response.status_code == 422
        return
    found = response.json()["entry"]
    for one in found:
        assert one["fullUrl"].endswith(one["resource"].pop("id"))
        del one["search"]
    assert [one for one in found if one["fullUrl"].startswith("urn:")][:-1] == wanted


def test_the_study_is_named_by_its_address_here_and_read_there(http: httpx.Client) -> None:
    (entry,) = of_mode(answer(http, MODERATE), "match")
    assert http.get(entry["fullUrl"]).json() == entry["resource"]
    for one in (*entry["resource"]["enrollment"], *entry["resource"]["protocol"]):
        assert http.get(f"/fhir/{one['reference']}").status_code == 200
    rest = http.get("/fhir/metadata").json()["rest"][0]["resource"]
    (offered,) = next(one["operation"] for one in rest if one["type"] == "ResearchStudy")
    definition = http.get(f"/fhir/OperationDefinition?url={offered['definition']}").json()
    level = definition["entry"][0]["resource"]
    assert (level["type"], level["instance"], level["system"]) == (True, False, False)


@pytest.mark.parametrize(
    ("body", "query", "status", "text"),
    [
        (MODERATE, "?recruitmentStatus=open", 400, "'recruitmentStatus' is one of active"),
        (MODERATE, "?criteria=emaa", 422, "Known: nih-daclizumab-2003, nih-prca-2003"),
        (MODERATE, "?when=changes", 400, "'when' is asked of eligibility, not of a match"),
        (MODERATE, "?age=30", 400, "No parameter has the name 'age'"),
        (MODERATE, "?zipCode=1&zipCode=2", 400, "'zipCode' is given more than once"),
        ({"resourceType": "Bundle", "type": "collection"}, "", 422, ""),
        ({"resourceType": "Parameters"}, "", 422, "Parameters need 'data'"),
        (MODERATE["entry"][0]["resource"], "", 400, "Send a Bundle"),
    ],
)
def test_what_cannot_be_matched_is_refused_with_the_remedy(
    http: httpx.Client, outcome_of: Outcome, body: Json, query: str, status: int, text: str
) -> None:
    response = ask(http, body, query)
    assert response.status_code == status
    assert text in outcome_of(response)["issue"][0]["diagnostics"]


def test_data_by_both_names_are_refused(http: httpx.Client, outcome_of: Outcome) -> None:
    both = [{"name": n, "resource": MODERATE} for n in ("data", "trialMatchClinicalData")]
    response = ask(http, {"resourceType": "Parameters", "parameter": both})
    assert response.status_code == 400
    assert "once" in outcome_of(response)["issue"][0]["diagnostics"]


def test_one_patient_is_matched_and_named_where_there_are_two(
    http: httpx.Client, outcome_of: Outcome
) -> None:
    other = chart("P2", anc=3.5, platelets=210, hemoglobin=13)
    two = MODERATE | {"entry": [*MODERATE["entry"], *other["entry"]]}
    response = ask(http, two)
    assert response.status_code == 422
    assert "'subject'" in outcome_of(response)["issue"][0]["diagnostics"]
    assert matches(answer(http, two, "?subject=Patient/P1")) == [(STUDY, 1)]
    assert matches(answer(http, two, "?subject=Patient/P2")) == []


def test_strict_handling_checks_the_whole_input_first(
    http: httpx.Client, outcome_of: Outcome
) -> None:
    wrong = json.loads(json.dumps(MODERATE))
    wrong["entry"][0]["resource"]["nonsense"] = True
    assert ask(http, wrong).status_code == 200
    response = ask(http, wrong, prefer="handling=strict")
    assert response.status_code == 422
    assert "nonsense" in json.dumps(outcome_of(response))
    fine = ask(http, MODERATE, prefer="handling=strict")
    assert fine.headers["preference-applied"] == "handling=strict"


def test_a_gzipped_body_is_matched_and_an_answer_that_is_no_json_is_not_given(
    http: httpx.Client, outcome_of: Outcome
) -> None:
    zipped = gzip.compress(json.dumps(MODERATE).encode())
    headers = {"content-type": FHIR_JSON, "content-encoding": "gzip"}
    assert http.post(MATCH, content=zipped, headers=headers).json()["total"] == 1
    refused = ask(http, MODERATE, accept="application/fhir+xml")
    assert refused.status_code == 406
    outcome_of(refused)
