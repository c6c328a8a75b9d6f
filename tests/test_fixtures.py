"""Every story in fixtures/ is answered as its README, its response and its judgement say."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.fhir.canonicals import PERIOD
from app.fhir.components import LIFE_COMPONENTS
from app.fhir.json import encode
from app.operations import eligibility
from tests.conformance import faults

FIXTURES = Path(__file__).parent.parent / "fixtures"
STORIES = sorted(path.parent.name for path in FIXTURES.glob("*/request.json"))
EXPECTED = tomllib.loads((FIXTURES / "expected.toml").read_text("utf-8"))
README = (FIXTURES / "README.md").read_text("utf-8")

Json = dict[str, Any]
# A cohort with a test of its own.
COHORT = "daclizumab-2003"

# R4 words ref-1 so that a reference by identifier alone comes to nothing, where R5 lets it pass.
REF_1_BY_IDENTIFIER = re.compile(r"\.(subject|individual): ref-1: ")

every_story = pytest.mark.parametrize("story", STORIES)


def written(story: str) -> bytes:
    return encode(eligibility((FIXTURES / story / "request.json").read_bytes()))


def formatted(story: str) -> bytes:
    return msgspec.json.format(written(story), indent=2) + b"\n"


def answer(story: str) -> Json:
    found: Json = json.loads(written(story), parse_float=Decimal)
    return found


def resources(response: Json, kind: str) -> list[Json]:
    found = (entry["resource"] for entry in response["entry"])
    return [resource for resource in found if resource["resourceType"] == kind]


def named(subject: Json) -> str:
    if "reference" in subject:
        return str(subject["reference"])
    return "{system}|{value}".format(**subject["identifier"])


def coded(component: Json) -> str:
    code: str = component["code"]["coding"][0]["code"]
    return code


def life(assessment: Json) -> Json:
    """What is said of a life: days, numbers, or why there is none."""
    return {
        coded(c): c.get("valueDateTime")
        or c.get("valueInteger", c.get("valueQuantity", {}).get("value"))
        if "valueCodeableConcept" not in c
        else c["valueCodeableConcept"]["coding"][0]["code"]
        for c in assessment["component"]
        if coded(c) in LIFE_COMPONENTS
    }


def periods(assessment: Json) -> list[str]:
    """The timeline, a line a period."""
    found = [e for e in assessment.get("extension", []) if e["url"] == PERIOD]
    lines = []
    for one in found:
        part = {e["url"]: e for e in one["extension"]}
        span, number = part["period"]["valuePeriod"], part["assessments"]["valueInteger"]
        verdict = part["verdict"]["valueCoding"]["code"]
        lines.append(f"{span['start']} {span['end']} {number} {verdict}")
    return lines


def changes(response: Json, assessment: Json, told_of: list[str]) -> list[str]:
    """The assessments of further days: those that no GuidanceResponse tells of."""
    return [
        f"{r['effectiveDateTime']} {r['valueCodeableConcept']['coding'][0]['code']}"
        for entry in response["entry"]
        for r in [entry["resource"]]
        if r["resourceType"] == "Observation"
        and entry["fullUrl"] not in told_of
        and (r["subject"], r["method"]) == (assessment["subject"], assessment["method"])
    ]


def told(response: Json) -> list[Json]:
    """What the response says, in the words of expected.toml; one row for each assessment."""
    by_url = {entry["fullUrl"]: entry["resource"] for entry in response["entry"]}
    enrolled = [subject["status"] for subject in resources(response, "ResearchSubject")]
    rows: list[Json] = []
    told_of = [
        parameter["valueReference"]["reference"]
        for guidance in resources(response, "GuidanceResponse")
        for parameter in guidance["contained"][0]["parameter"]
        if parameter["name"] == "assessment"
    ]
    for guidance in resources(response, "GuidanceResponse"):
        output = {p["name"]: p for p in guidance["contained"][0]["parameter"]}
        assessment = by_url[output["assessment"]["valueReference"]["reference"]]
        verdict = assessment["valueCodeableConcept"]["coding"][0]["code"]
        assert output["verdict"]["valueCode"] == verdict
        outcomes = [by_url[ref["reference"]] for ref in guidance.get("evaluationMessage", [])]
        requirements = guidance.get("dataRequirement", [])
        components = {
            c["code"]["coding"][0]["code"]: c["valueCodeableConcept"]["coding"][0]["code"]
            for c in assessment["component"]
            if "valueCodeableConcept" in c and coded(c) not in LIFE_COMPONENTS
        }
        rows.append(
            {
                "other-cause": components.pop("other-cause"),
                "patient": named(assessment["subject"]),
                "definition": guidance["moduleCanonical"].split("/")[-1].split("|")[0],
                "verdict": verdict,
                "criteria": components,
                "derived-from": sorted(s["reference"] for s in assessment.get("derivedFrom", [])),
                "supporting": sorted(
                    e["valueReference"]["reference"]
                    for e in assessment.get("extension", [])
                    if e["url"] != PERIOD
                ),
                "life": life(assessment),
                "periods": periods(assessment),
                "changes": changes(response, assessment, told_of),
                "issues": sorted(
                    issue["details"]["coding"][0]["code"]
                    for outcome in outcomes
                    for issue in outcome["issue"]
                ),
                "needs": sorted(r["codeFilter"][0]["code"][0]["code"] for r in requirements),
                "enrolment": enrolled[len(rows)] if enrolled else "",
            }
        )
    return rows


def expected(story: str) -> list[Json]:
    lists = ("derived-from", "supporting", "issues", "needs")
    return [
        {
            **row,
            **{
                name: sorted(
                    text.replace("{patient}", patient.removeprefix("Patient/"))
                    for text in row.get(name, [])
                )
                for name in lists
            },
            "patient": patient,
            "life": row.get("life", {}),
            "periods": row.get("periods", []),
            "changes": row.get("changes", []),
            "enrolment": row.get("enrolment", ""),
            "other-cause": row.get("other-cause", "not-looked-for"),
        }
        for row in ({k: v for k, v in r.items() if k != "patients"} | r for r in EXPECTED[story])
        for patient in row.pop("patients")
    ]


def in_order(rows: list[Json]) -> list[Json]:
    return sorted(rows, key=lambda row: (row["patient"], row["definition"]))


def tabled() -> dict[str, str]:
    """The README's table: story and verdict."""
    rows = re.findall(r"^\| `([^`]+)` \| .+ \| ([^|]+) \|$", README, re.MULTILINE)
    return dict(rows)


@every_story
def test_the_answer_comes_to_what_was_judged_by_hand(story: str) -> None:
    assert in_order(told(answer(story))) == in_order(expected(story))


@every_story
def test_the_answer_is_the_response_on_file_to_the_byte(story: str) -> None:
    assert formatted(story) == (FIXTURES / story / "response.json").read_bytes()


@every_story
def test_the_same_request_gets_the_same_answer_twice(story: str) -> None:
    assert written(story) == written(story)


@every_story
def test_the_answer_is_flawless_fhir(story: str) -> None:
    request = (FIXTURES / story / "request.json").read_text("utf-8")
    # The answer names the caller's resources as the caller does, and does not send them back.
    callers_own = re.findall(r'"fullUrl": "(urn:[^"]+)"', request)
    by_identifier = '"identifier"' in request
    assert [
        fault
        for fault in faults(msgspec.json.decode(written(story)))
        if not any(f"{urn} is the fullUrl of no entry" in fault for urn in callers_own)
        and not (by_identifier and REF_1_BY_IDENTIFIER.search(fault))
    ] == []


@every_story
def test_nothing_is_ever_ordered(story: str) -> None:
    response = answer(story)
    text = encode(response).decode().lower()
    # One of the caller's own may be referred to.
    assert '"resourcetype":"medicationrequest"' not in text
    assert "order daclizumab" not in text


@every_story
def test_an_assessment_says_that_it_is_no_diagnosis(story: str) -> None:
    for assessment in resources(answer(story), "Observation"):
        assert "not a diagnosis" in assessment["note"][0]["text"]


@every_story
def test_every_issue_points_into_the_request(story: str) -> None:
    root = msgspec.json.decode((FIXTURES / story / "request.json").read_bytes())["resourceType"]
    places = [
        place
        for outcome in resources(answer(story), "OperationOutcome")
        for issue in outcome["issue"]
        for place in issue.get("expression", [])
    ]
    assert all(place.startswith(f"{root}.") for place in places)


@every_story
def test_the_table_gives_the_verdicts_the_judgement_gives(story: str) -> None:
    verdicts = {row["verdict"] for row in EXPECTED[story]}
    assert set(tabled()[story].split("; ")) == verdicts


def test_the_table_lists_exactly_the_stories_there_are() -> None:
    folders = {path.name for path in FIXTURES.iterdir() if path.is_dir()} - {COHORT}
    assert set(tabled()) == folders == set(STORIES) == set(EXPECTED)


def test_there_are_enough_stories_to_mean_something() -> None:
    assert len(STORIES) >= 28


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit("python -m tests.test_fixtures --rewrite writes every response.json anew")
    for name in STORIES:
        (FIXTURES / name / "response.json").write_bytes(formatted(name))
