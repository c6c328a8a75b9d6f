"""Every story of fixtures/ as prefetch: valid cards that say what the operation says."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from cds_calls import RESPONSE, Json, call, cards_of

from app import operations
from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.domain.assessment import none_low
from app.domain.judgement import Verdict
from app.domain.moments import ResponseVerdict
from app.fhir.outcome import RequestError

FIXTURES = Path(__file__).parents[2] / "fixtures"
STORIES = sorted(path.parent.name for path in FIXTURES.glob("*/request.json"))
SAID = {
    Verdict.ELIGIBLE: ("Counts meet ",),
    Verdict.NOT_ELIGIBLE: ("Counts do not meet ", "Severe by counts"),
    Verdict.INDETERMINATE: ("2003 NIH mAA criteria: open",),
}
RESPONDED = {
    ResponseVerdict.COMPLETE: "Complete response by ",
    ResponseVerdict.RESPONSE: "Response by the 2003 NIH criteria: ",
    ResponseVerdict.NO_RESPONSE: "No response by ",
    ResponseVerdict.INDETERMINATE: "Response by the 2003 NIH criteria is open",
    ResponseVerdict.NOT_EVALUABLE: "Response by the 2003 NIH criteria cannot be judged",
}


def charts(body: Json) -> dict[str, list[Json]]:
    """The resources of a Bundle by the id of their patient."""
    found: dict[str, list[Json]] = defaultdict(list)
    people = [entry for entry in body["entry"] if is_patient(entry)]
    names = {entry.get("fullUrl"): entry["resource"].get("id", "alone") for entry in people}
    for entry in body["entry"]:
        resource = entry["resource"]
        reference = resource.get("subject", {}).get("reference", "")
        if is_patient(entry):
            name = resource.setdefault("id", "alone")
        else:
            name = names.get(reference) or reference.rpartition("/")[2] or "alone"
        found[name].append(resource)
    return found


def is_patient(entry: Json) -> bool:
    return bool(entry["resource"]["resourceType"] == "Patient")


def data_of(story: str) -> Json:
    body: Json = json.loads((FIXTURES / story / "request.json").read_bytes())
    if body["resourceType"] == "Bundle":
        return body
    return next(p["resource"] for p in body["parameter"] if p["name"] == "data")


def resolved(resources: list[Json], name: str) -> list[Json]:
    """The resources about the patient by the id that is in context, as a server has them."""
    by_identifier = [
        r["subject"]["identifier"] for r in resources if "identifier" in r.get("subject", {})
    ]
    if not any(r["resourceType"] == "Patient" for r in resources):
        person: Json = {"resourceType": "Patient", "id": name}
        resources = [person | ({"identifier": by_identifier} if by_identifier else {}), *resources]
    for one in resources:
        if str(one.get("subject", {}).get("reference", "")).startswith("urn:"):
            one["subject"] = {"reference": f"Patient/{name}"}
    return resources


def bundle(resources: list[Json]) -> bytes:
    entries = [{"resource": one} for one in resources]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()


@pytest.mark.parametrize("story", STORIES)
def test_a_story_has_the_card_its_verdict_asks_for(http: httpx.Client, story: str) -> None:
    for name, resources in charts(data_of(story)).items():
        chart = resolved(resources, name)
        query = [("subject", f"Patient/{name}")]
        cards = cards_of(http, call(*chart, patient=name))
        try:
            judged = operations.assessed(
                ASSESS_ELIGIBILITY, bundle(chart), query, normal_ranges=True
            )
        except RequestError:
            assert cards == []
            continue
        (found,) = judged.assessments
        met = found.verdict is Verdict.ELIGIBLE
        settled = not (met or found.needs or found.judgement.severe)
        explained = any(r.get("id") == "lena-aml" for r in chart)
        quiet = not found.counts or explained or settled or (none_low(found) and not met)
        assert len(cards) == (0 if quiet else 1)
        for card in cards:
            assert card["summary"].startswith(SAID[found.verdict])
            suggested = [
                one["actions"][0]["resource"]["code"]["text"].lower()
                for one in card.get("suggestions", [])
            ]
            assert suggested == [analyte.title.lower() for analyte in found.needs]


def test_every_patient_of_the_trial_has_the_card_the_cohort_counts(http: httpx.Client) -> None:
    body = json.loads((FIXTURES / "daclizumab-2003" / "bundle.json").read_bytes())
    said: dict[str, int] = defaultdict(int)
    for name, resources in charts(body).items():
        query = [("subject", f"Patient/{name}")]
        (found,) = operations.assessed(ASSESS_RESPONSE, bundle(resources), query).assessments
        (card,) = cards_of(http, call(*resources, patient=name, weight=True), RESPONSE)
        assert card["summary"].startswith(RESPONDED[found.verdict])
        said[card["summary"].split(" by ")[0]] += 1
    # As published: of sixteen evaluable two responded completely and ten did not.
    assert said["Complete response"] == 2
    assert said["No response"] == 10
    assert sum(said.values()) == 17


def test_the_drug_is_never_in_a_suggestion(http: httpx.Client) -> None:
    body = json.loads((FIXTURES / "daclizumab-2003" / "bundle.json").read_bytes())
    for name, resources in charts(body).items():
        for card in cards_of(http, call(*resources, patient=name, weight=True), RESPONSE):
            told: Any = card.get("suggestions", [])
            assert "daclizumab" not in json.dumps(told).lower()


def test_the_readmes_call_gives_the_readmes_card(http: httpx.Client) -> None:
    body = (FIXTURES / "hemoglobin-low-reticulocytes-missing" / "patient-view.json").read_bytes()
    headers = {"content-type": "application/json"}
    answer = http.post("/cds-services/maa-eligibility", content=body, headers=headers).json()
    readme = (FIXTURES.parent / "README.md").read_text()
    (card,) = answer["cards"]
    assert f"\n{card['indicator']} | {card['summary']}\n" in readme
    (suggestion,) = card["suggestions"]
    assert f"\nsuggested | {suggestion['label']}\n" in readme
