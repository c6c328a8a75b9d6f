"""What our profiles mark as mustSupport: answers hold it, wherever the data hold what it tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.asking import ASSESS_RESPONSE
from app.fhir.json import encode
from app.operations import assessed, written
from app.publishing.definitions import definitions

Json = dict[str, Any]
FIXTURES = Path(__file__).parents[1] / "fixtures"
LOINC = "http://loinc.org"
TRUTHS = {"met", "not-met"}
# The patient's age, a choice of the caller, and what is put together of other criteria.
OF_NO_RESULT = {"age", "red-cells-needed", "complete", "primary-end-point", "kept-two-years"}
# What is told of time and of transfusions, by no limit of a count.
OF_NO_LIMIT = {"transfusion-independence", "kept-two-years"}


@cache
def assessments(kind: str) -> list[Json]:
    """The golden assessments of eligibility, or the trial's of response, as they are sent."""
    answers = [path.read_bytes() for path in sorted(FIXTURES.glob("*/response.json"))]
    if kind == "response":
        trial = (FIXTURES / "daclizumab-2003" / "bundle.json").read_bytes()
        answers = [encode(written(assessed(ASSESS_RESPONSE, trial, ())))]
    entries = [entry for one in answers for entry in json.loads(one).get("entry", [])]
    found = [one["resource"] for one in entries]
    return [one for one in found if one["resourceType"] == "Observation" and code_of(one) == kind]


def code_of(value: Json) -> str:
    return str(value["code"]["coding"][0]["code"])


def at(value: Json, path: list[str]) -> Iterator[Any]:
    """Whatever stands at a path, `value[x]` of whichever type."""
    name, *rest = path
    choice = name.removesuffix("[x]")
    for key, held in value.items():
        if key == name or (choice != name and key.startswith(choice)):
            for one in held if isinstance(held, list) else [held]:
                yield from at(one, rest) if rest else [one]


def components(kind: str) -> Iterator[Json]:
    for one in assessments(kind):
        yield from one["component"]


def answered(kind: str) -> list[Json]:
    """The criteria that are met or not met."""
    return [
        one
        for one in components(kind)
        if one.get("valueCodeableConcept", {}).get("coding", [{}])[0].get("code") in TRUTHS
    ]


@pytest.mark.parametrize("kind", ["eligibility", "response"])
def test_each_element_that_is_marked_is_in_an_answer(kind: str) -> None:
    profile = definitions()["StructureDefinition", f"{kind}-assessment"]
    marked = [one for one in profile["differential"]["element"] if one.get("mustSupport")]
    assert len(marked) > 10
    for element in marked:
        path = element["path"].split(".")[1:]
        holding = [any(at(one, path)) for one in assessments(kind)]
        assert any(holding), element["path"]
        if element.get("min") == 1 and len(path) == 1:
            assert all(holding), element["path"]


@pytest.mark.parametrize("kind", ["eligibility", "response"])
def test_whatever_decided_a_criterion_the_assessment_names_as_its_source(kind: str) -> None:
    """A result in derivedFrom; a report, a transfusion or a drug, if not there, in an extension."""
    seen = 0
    for one in assessments(kind):
        extended = list(at(one, ["extension", "valueReference"]))
        for part in one["component"]:
            for source in at(part, ["extension", "valueReference"]):
                result = source["reference"].startswith(("Observation/", "urn:"))
                assert source in (one["derivedFrom"] if result else extended), source
                seen += 1
    assert seen > 100


@pytest.mark.parametrize("kind", ["eligibility", "response"])
def test_each_count_has_its_value_in_ucum_and_the_results_that_gave_it(kind: str) -> None:
    counts = [one for one in components(kind) if one["code"]["coding"][0]["system"] == LOINC]
    assert len(counts) > 100
    for one in counts:
        assert one["valueQuantity"]["system"] == "http://unitsofmeasure.org"
        assert one["valueQuantity"]["code"]
        assert any(at(one, ["extension", "valueReference"]))


@pytest.mark.parametrize("kind", ["eligibility", "response"])
def test_each_criterion_that_is_answered_has_its_limit_and_what_decided_it(kind: str) -> None:
    assert len(answered(kind)) > 50
    for one in answered(kind):
        if code_of(one) not in OF_NO_LIMIT:
            assert all(limit["text"] for limit in one["referenceRange"])
        if code_of(one) not in OF_NO_RESULT:
            assert any(at(one, ["extension", "valueReference"])), code_of(one)


@pytest.mark.parametrize("kind", ["eligibility", "response"])
def test_an_assessment_with_a_count_has_its_day(kind: str) -> None:
    for one in assessments(kind):
        if any(part["code"]["coding"][0]["system"] == LOINC for part in one["component"]):
            assert one["effectiveDateTime"]
