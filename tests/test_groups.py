"""Eligibility as data says what the engine does: the published Groups, judged by their own JSON."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from html import unescape
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import operations
from app.domain.rules import criteria_of
from app.fhir.canonicals import (
    BASE,
    CHARACTERISTIC_DURATION,
    COMBINATION_METHOD,
    COMBINATION_THRESHOLD,
)
from app.fhir.json import encode
from app.papers import PUBLISHED
from app.publishing.definitions import definitions

Json = dict[str, Any]
LOINC = "http://loinc.org"
ANALYTES = f"{BASE}/CodeSystem/analyte"
BY_HAND = "40665-2"
UNITS = {
    "absolute-neutrophil-count": ("751-8", "10*9/L"),
    "platelets": ("777-3", "10*9/L"),
    "hemoglobin": ("718-7", "g/dL"),
    "reticulocytes": ("60474-4", "10*9/L"),
}
ANC, PLATELETS, HEMOGLOBIN, RETICULOCYTES = UNITS
FIRST = date(2024, 1, 1)
GROUPS: dict[str, Json] = {
    name: json.loads(encode(one), parse_float=Decimal)
    for (kind, name), one in definitions().items()
    if kind == "Group"
}


class Day(NamedTuple):
    """The counts of one day, in the units of the limits, and how reticulocytes were counted."""

    number: int
    counts: dict[str, Decimal]
    by_hand: bool = False


class Chart(NamedTuple):
    """What is known of one patient: days, the newest last, and red cells given the day before."""

    days: list[Day]
    transfused: bool | None = None
    """None: whether any were given is not known."""


# A judge that knows FHIR's Group and nothing of the papers: True, False, or None for unknown.


def negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def extension(element: Json, url: str) -> Any:
    found = [one for one in element.get("extension", []) if one["url"] == url]
    return next((v for one in found for k, v in one.items() if k.startswith("value")), None)


def belongs(group: Json, chart: Chart, root: Json) -> bool | None:
    truths = [has(one, chart, root) for one in group["characteristic"]]
    method = extension(group, COMBINATION_METHOD)
    wanted = {"all-of": len(truths), "any-of": 1}.get(method)
    if wanted is None:
        assert method == "at-least"
        wanted = extension(group, COMBINATION_THRESHOLD)
    if truths.count(True) >= wanted:
        return True
    return None if truths.count(True) + truths.count(None) >= wanted else False


def has(characteristic: Json, chart: Chart, root: Json) -> bool | None:
    if "valueReference" in characteristic:
        truth = within(characteristic, chart, root)
    elif "valueQuantity" in characteristic:
        truth = is_within(characteristic, chart.days[-1])
    else:
        assert characteristic["valueBoolean"] is True
        truth = is_so(characteristic, chart)
    return negated(truth) if characteristic["exclude"] else truth


def within(characteristic: Json, chart: Chart, root: Json) -> bool | None:
    name = characteristic["valueReference"]["reference"].removeprefix("#")
    group = next(one for one in root["contained"] if one["id"] == name)
    duration = extension(characteristic, CHARACTERISTIC_DURATION)
    if duration is None:
        return belongs(group, chart, root)
    assert (duration["comparator"], duration["code"]) == (">=", "d")
    newest = chart.days[-1].number
    started = [n for n, day in enumerate(chart.days) if newest - day.number >= duration["value"]]
    since = started[-1] if started else 0
    days = range(since, len(chart.days))
    truths = [belongs(group, chart._replace(days=chart.days[: n + 1]), root) for n in days]
    if False in truths:
        return False
    return True if started and None not in truths else None


def is_within(characteristic: Json, day: Day) -> bool | None:
    limit = characteristic["valueQuantity"]
    codes = {one["system"]: one["code"] for one in characteristic["code"]["coding"]}
    assert UNITS[codes[ANALYTES]] == (codes[LOINC], limit["code"])
    value, number = day.counts.get(codes[ANALYTES]), Decimal(limit["value"])
    if value is None:
        return None
    return {
        "<": value < number,
        "<=": value <= number,
        ">": value > number,
        ">=": value >= number,
    }[limit["comparator"]]


def is_so(characteristic: Json, chart: Chart) -> bool | None:
    codes = {one["code"] for one in characteristic["code"]["coding"]}
    if BY_HAND in codes:
        return chart.days[-1].by_hand if RETICULOCYTES in chart.days[-1].counts else None
    assert "116863004" in codes
    return chart.transfused


# The same charts as a laboratory sends them.


def bundle(chart: Chart) -> Json:
    subject = {"reference": "Patient/1"}
    found: list[Json] = []
    for day in chart.days:
        for analyte, value in day.counts.items():
            code, unit = UNITS[analyte]
            code = BY_HAND if analyte == RETICULOCYTES and day.by_hand else code
            found.append(
                {
                    "resourceType": "Observation",
                    "id": f"{analyte}-{day.number}",
                    "status": "final",
                    "subject": subject,
                    "code": {"coding": [{"system": LOINC, "code": code}]},
                    "effectiveDateTime": str(FIRST + timedelta(day.number)),
                    "valueQuantity": {
                        "value": value,
                        "system": "http://unitsofmeasure.org",
                        "code": unit,
                    },
                }
            )
    if chart.transfused:
        given_on = FIRST + timedelta(chart.days[-1].number)
        red_cells = {"system": "http://snomed.info/sct", "code": "116863004"}
        found.append(
            {
                "resourceType": "Procedure",
                "status": "completed",
                "subject": subject,
                "code": {"coding": [red_cells]},
                "performedDateTime": str(given_on - timedelta(1)),
            }
        )
    entries = [{"resource": one} for one in found]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def verdicts(chart: Chart) -> dict[str, bool | None]:
    """What the engine says of the chart by every definition."""
    query = [("criteria", paper.id) for paper in PUBLISHED]
    if chart.transfused is False:
        query.append(("transfusionHistory", "complete"))
    found = operations.assessed("assess-eligibility", encode(bundle(chart)), query).assessments
    truths = {"eligible": True, "not-eligible": False, "indeterminate": None}
    return {one.paper.id: truths[one.verdict.value] for one in found}


def published(chart: Chart) -> dict[str, bool | None]:
    return {name: belongs(group, chart, group) for name, group in GROUPS.items()}


LIMITS = {
    ANC: ("0.2", "0.5", "1.2", "1.5"),
    PLATELETS: ("20", "50", "70", "100"),
    HEMOGLOBIN: ("8.5", "10"),
    RETICULOCYTES: ("20", "40", "50", "60"),
}


NEAR = {
    analyte: st.sampled_from(
        [Decimal(n) + step for n in numbers for step in map(Decimal, ("-0.1", "0", "0.1"))]
    )
    for analyte, numbers in LIMITS.items()
}
"""Counts on, just below and just above every published limit."""


@st.composite
def charts(draw: st.DrawFn) -> Chart:
    """One day of which counts may be missing, or several whole ones too far apart to combine."""
    if draw(st.booleans()):
        numbers = range(draw(st.integers(2, 3)))
        whole = st.fixed_dictionaries(NEAR)
        days = [Day(42 * number, draw(whole), draw(st.booleans())) for number in numbers]
    else:
        some = st.fixed_dictionaries({}, optional=NEAR).filter(bool)
        days = [Day(0, draw(some), draw(st.booleans()))]
    # What is transfused is judged on the day of a count that the definition asks for; and a
    # hemoglobin under red cells is no evidence of more, which is no matter of eligibility's data.
    is_plain = RETICULOCYTES in days[-1].counts and HEMOGLOBIN not in days[-1].counts
    return Chart(days, draw(st.sampled_from([None, False, True])) if is_plain else None)


@settings(max_examples=300, deadline=None)
@given(charts())
def test_a_judge_of_the_groups_alone_comes_to_the_engines_verdicts(chart: Chart) -> None:
    assert published(chart) == verdicts(chart)


def day(anc: str, platelets: str, hemoglobin: str = "", reticulocytes: str = "") -> Day:
    values = dict(zip(UNITS, (anc, platelets, hemoglobin, reticulocytes), strict=True))
    return Day(0, {name: Decimal(value) for name, value in values.items() if value})


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        (day("1.2", "70", "10", "80"), True),
        (day("1.21", "70", "10", "80"), False),
        (day("1.2", "70.1", "8.5", "60"), True),
        (day("1.2", "70.1", "8.5", "61"), False),
        (day("1.2", "70.1", "8.6"), False),
        (day("1.2", "70.1", "8.5"), None),
        (day("1.2", "70"), True),
        (day("0.4", "19", "8.0", "70"), False),
        (day("0.4", "70", "8.0", "59"), False),
        (day("0.4", "70", "8.0", "59")._replace(by_hand=True), True),
        (day("0.4", "70", "8.0", "19")._replace(by_hand=True), False),
    ],
)
def test_the_group_of_the_2003_trial_takes_in_whom_the_abstract_does(
    counts: Day, wanted: bool | None
) -> None:
    """Two of three by non-strict limits, and not two of the severe ones."""
    assert published(Chart([counts]))["nih-daclizumab-2003"] is wanted


def test_every_definition_of_eligibility_is_a_group_that_cites_its_paper() -> None:
    assert set(GROUPS) == {paper.id for paper in PUBLISHED}
    for paper in PUBLISHED:
        group = GROUPS[paper.id]
        assert (group["type"], group["actual"]) == ("person", False)
        assert group["identifier"][0]["value"] == f"{BASE}/Group/{paper.id}"
        words = unescape(group["text"]["div"])
        assert paper.citation.text in words
        assert all(text in words for text in paper.also_requires)


def test_a_criterion_stands_in_its_group_by_its_code_and_in_the_papers_words() -> None:
    for paper in PUBLISHED:
        inside = [GROUPS[paper.id], *GROUPS[paper.id].get("contained", [])]
        told = {one["id"]: one for g in inside for one in g["characteristic"] if "id" in one}
        for criterion in criteria_of(paper.eligibility):
            assert criterion.wording in told[criterion.code]["code"]["text"]


def test_a_study_enrolls_the_groups_of_its_definitions_and_suggests_no_drug() -> None:
    study = definitions()["ResearchStudy", "NCT00001962"]
    enrolled = [one["reference"] for one in study["enrollment"]]
    assert enrolled == ["Group/nih-daclizumab-2003", "Group/nih-prca-2003"]
    assert {name.partition("/")[2] for name in enrolled} <= set(GROUPS)
    assert study["status"] == "completed"
    assert "withdrawn from the market" in study["description"]
