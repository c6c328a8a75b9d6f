"""The 2003 trial reproduced: the abstract's numbers, out of 17 synthetic patients, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.list import List
from scipy.stats import binomtest

from app.domain.cohort import clopper_pearson
from tests.conformance import faults
from tests.trial import FOLDER, written

Json = dict[str, Any]
ADDRESS = "/fhir/Measure/maa-hematologic-response/$evaluate-measure"
# The checker has no definition of List: its model validates it.
LIST = "List is not a resource type this checker"
BUNDLE = (FOLDER / "bundle.json").read_bytes()


def report(http: httpx.Client, **query: str) -> Json:
    headers = {"content-type": "application/fhir+json"}
    response = http.post(ADDRESS, content=BUNDLE, params=query, headers=headers)
    assert response.status_code == httpx.codes.OK, response.text[:500]
    found: Json = response.json()
    assert [fault for fault in faults(found) if LIST not in fault] == []
    for one in found.get("contained", []):
        if one["resourceType"] == "List":
            List.model_validate(one)
    return found


def populations(owner: Json) -> dict[str, int]:
    return {p["code"]["coding"][0]["code"]: p["count"] for p in owner["population"]}


def stratum(group: Json, stratifier: str, value: str) -> dict[str, int]:
    (found,) = (s for s in group["stratifier"] if s["code"][0]["coding"][0]["code"] == stratifier)
    for one in found["stratum"]:
        if one["value"]["coding"][0]["code"] == value:
            return populations(one)
    return {}


def test_the_patients_are_those_the_generator_makes() -> None:
    assert written().encode() == BUNDLE


def test_the_abstract_comes_out(http: httpx.Client) -> None:
    """17 treated, 16 evaluable, 6 responded (38%): 2 complete, kept > 2 years, 4 single-lineage,
    2 transfusion independent, 1 with normal neutrophils."""
    found = report(http)
    (group,) = found["group"]
    assert populations(group) == {
        "initial-population": 17,
        "denominator": 17,
        "denominator-exclusion": 1,
        "numerator": 6,
    }
    assert group["measureScore"]["value"] == 0.375
    assert "37.5% (38%)" in found["text"]["div"]
    assert stratum(group, "depth", "complete-response")["numerator"] == 2
    assert stratum(group, "depth", "single-lineage")["numerator"] == 4
    assert stratum(group, "depth", "multi-lineage") == {}
    assert stratum(group, "transfusion-independence", "met")["numerator"] == 2
    assert stratum(group, "neutrophil-response", "met")["numerator"] == 1
    assert stratum(group, "kept-two-years", "met")["numerator"] == 2
    (excluded,) = (e for e in found["extension"] if e["url"].endswith("/not-evaluable"))
    told = {part["url"]: part for part in excluded["extension"]}
    assert "No counts from day 60 to day 183" in told["reason"]["valueString"]


def test_the_interval_is_the_exact_one(http: httpx.Client) -> None:
    """15.2% to 64.6%, as tables of the binomial distribution have it for 6 of 16."""
    (group,) = report(http)["group"]
    (extension,) = group["measureScore"]["extension"]
    told = {part["url"]: part.get("valueDecimal") for part in extension["extension"]}
    assert (told["low"], told["high"], told["level"]) == (0.152, 0.6457, 0.95)


@pytest.mark.parametrize("trials", [*range(1, 41), 100, 999, 20_000])
def test_the_interval_is_that_of_an_exact_binomial_test(trials: int) -> None:
    every = range(trials + 1)
    for successes in every if trials <= 40 else {*every[:2], trials // 3, *every[-2:]}:
        exact = binomtest(successes, trials).proportion_ci(0.95, "exact")
        told = tuple(f"{end:.4f}" for end in clopper_pearson(successes, trials))
        assert told == (f"{exact.low:.4f}", f"{exact.high:.4f}"), (successes, trials)


def test_the_list_of_subjects_names_the_responders(http: httpx.Client) -> None:
    found = report(http, reportType="subject-list")
    assert found["type"] == "subject-list"
    lists = {one["id"]: one for one in found["contained"] if one["resourceType"] == "List"}
    named = [entry["item"]["reference"] for entry in lists["numerator"]["entry"]]
    assert named == [f"Patient/mAA-0{number}" for number in range(1, 7)]
    assert len(lists["initial-population"]["entry"]) == 17
    (excluded,) = (e for e in found["extension"] if e["url"].endswith("/not-evaluable"))
    assert excluded["extension"][0]["valueReference"] == {"reference": "Patient/mAA-17"}


def test_one_patient_has_a_report_of_its_own(http: httpx.Client) -> None:
    found = report(http, reportType="subject", subject="Patient/mAA-03")
    assert (found["type"], found["subject"]) == ("individual", {"reference": "Patient/mAA-03"})
    assert populations(found["group"][0])["numerator"] == 1


def test_an_unverified_definition_says_so_in_the_report_too(http: httpx.Client) -> None:
    assert "Unverified" not in report(http)["text"]["div"]
    found = report(http, criteria="nih-eltrombopag-2012")
    assert "Unverified" in found["text"]["div"]
    assert "NIH eltrombopag trial" in found["text"]["div"]


def test_the_period_is_the_one_asked_for_and_later_results_do_not_count(
    http: httpx.Client,
) -> None:
    found = report(http, periodStart="1999-01-01", periodEnd="2000-01-01")
    assert found["period"] == {"start": "1999-01-01", "end": "2000-01-01"}
    assert populations(found["group"][0])["initial-population"] == 4


@pytest.mark.parametrize(
    "query",
    [
        {"reportType": "subject"},
        {"criteria": "bsh-diagnosis"},
        {"reportType": "everyone"},
        {"periodStart": "yesterday"},
    ],
)
def test_what_cannot_be_reported_is_said(http: httpx.Client, query: dict[str, str]) -> None:
    headers = {"content-type": "application/fhir+json"}
    response = http.post(ADDRESS, content=BUNDLE, params=query, headers=headers)
    assert response.status_code in {400, 422}
    assert response.json()["resourceType"] == "OperationOutcome"


def test_parameters_hold_the_cohort_as_additional_data(http: httpx.Client) -> None:
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "reportType", "valueCode": "population"},
            {"name": "additionalData", "resource": json.loads(BUNDLE)},
        ],
    }
    response = http.post(ADDRESS, json=body, headers={"content-type": "application/fhir+json"})
    assert populations(response.json()["group"][0])["numerator"] == 6
