"""Our MeasureReports against the profiles of HL7's Data Exchange for Quality Measures (DEQM).

Universal realm, 1.0.0-ballot: no registry of packages has it. What its profiles constrain is
written out here from their sources, each rule with its key or the element it is of:
StructureDefinition-deqm-{summary,individual,subjectlist}measurereport in HL7/davinci-deqm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from app.publishing.definitions import definitions
from tests.test_trial import BUNDLE, report

Json = dict[str, Any]
SCORING = "http://hl7.org/fhir/uv/deqm/StructureDefinition/deqm-measureScoring"
LINK = "http://hl7.org/fhir/5.0/StructureDefinition/extension-{}.linkId"
REPORTERS = ("Organization/", "Practitioner/", "PractitionerRole/")


def of(element: Json, url: str) -> list[Json]:
    return [one for one in element.get("extension", ()) if one["url"] == url]


def linked(element: Json, place: str) -> str:
    (found,) = of(element, LINK.format(place))
    return str(found["valueString"])


def deqm_faults(found: Json) -> Iterator[str]:
    """Every rule of the profile of its type that a report breaks."""
    period, groups = found.get("period", {}), found.get("group", [])
    scoring = [one["valueCodeableConcept"]["coding"][0]["code"] for one in of(found, SCORING)]
    rules = {
        "type": found["type"] in {"summary", "individual", "subject-list"},
        "deqm-0: the measure's version": found["measure"].partition("|")[2] != "",
        "deqm-1: days of the period": all(
            len(period.get(end, "")) >= len("2024-03-05") for end in ("start", "end")
        ),
        "deqm-2: improvementNotation": "improvementNotation" in found,
        "deqm-3: scoring, at the root alone": len(scoring) == 1
        and not any(of(group, SCORING) for group in groups),
        "date 1..1": "date" in found,
        "reporter 1..1, and who it may be": any(
            f"/{found.get('reporter', {}).get('reference', '')}".find(f"/{kind}") >= 0
            for kind in REPORTERS
        ),
        "group": bool(groups),
        "subject": ("subject" in found) == (found["type"] == "individual"),
        "evaluatedResource 0..0": found["type"] == "individual" or "evaluatedResource" not in found,
    }
    yield from (rule for rule, kept in rules.items() if not kept)
    for group in groups:
        yield from group_faults(found["type"], group)


def group_faults(type_: str, group: Json) -> Iterator[str]:
    place = "MeasureReport.group"
    if not 0 <= group.get("measureScore", {}).get("value", -1) <= 1:
        yield "deqm-6: a proportion is a number from 0 to 1"
    if not group.get("population"):
        yield "deqm-5: population"
    if len(of(group, LINK.format(place))) != 1:
        yield "group.linkId 1..1"
    yield from population_faults(type_, group.get("population", ()), f"{place}.population")
    place = f"{place}.stratifier"
    for stratifier in group.get("stratifier", ()):
        if len(of(stratifier, LINK.format(place))) != 1:
            yield "group.stratifier.linkId 1..1"
        in_parts = any("component" in stratum for stratum in stratifier["stratum"])
        if (len(stratifier.get("code", ())) == 1) == in_parts:
            yield "deqm-7: a code, or the strata's components"
        for stratum in stratifier["stratum"]:
            where = f"{place}.stratum.population"
            yield from population_faults(type_, stratum["population"], where)


def population_faults(type_: str, populations: list[Json], place: str) -> Iterator[str]:
    for population in populations:
        if len(of(population, LINK.format(place))) != 1:
            yield f"{place}.linkId 1..1"
        if "count" not in population or "code" not in population:
            yield f"{place}: deqm-8, deqm-9: count, and code 1..1"
        if ("subjectResults" in population) != (type_ == "subject-list"):
            yield f"{place}.subjectResults"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"criteria": "japan-childhood"},
        {"reportType": "subject", "subject": "Patient/mAA-03"},
        {"reportType": "subject", "subject": "Patient/mAA-08"},
    ],
)
def test_a_report_of_a_known_reporter_keeps_every_rule(
    http: httpx.Client, query: dict[str, str]
) -> None:
    found = report(http, reporter="Organization/nih", **query)
    assert list(deqm_faults(found)) == []
    assert found["reporter"] == {"reference": "Organization/nih"}


def test_a_list_of_patients_breaks_one_rule_alone(http: httpx.Client) -> None:
    """Its lists name patients, of strata none: DEQM asks for lists of stored reports throughout."""
    found = report(http, reportType="subject-list", reporter="PractitionerRole/1")
    assert set(deqm_faults(found)) == {
        "MeasureReport.group.stratifier.stratum.population.subjectResults"
    }


def test_who_reports_is_told_only_where_it_was_said(http: httpx.Client) -> None:
    found = report(http)
    assert list(deqm_faults(found)) == ["reporter 1..1, and who it may be"]
    assert "reporter" not in found


def test_of_nobody_who_could_be_judged_there_is_no_score(http: httpx.Client) -> None:
    """DEQM asks for a number from 0 to 1: a share of nobody is none."""
    found = report(http, reporter="Organization/nih", criteria="nih-severe")
    (group,) = found["group"]
    counts = [population["count"] for population in group["population"]]
    assert counts == [17, 17, 17, 0]
    assert list(deqm_faults(found)) == ["deqm-6: a proportion is a number from 0 to 1"]


@pytest.mark.parametrize("reporter", ["Location/ward", "Patient/1", "nobody", "Device/1"])
def test_who_cannot_report_is_refused(http: httpx.Client, reporter: str) -> None:
    response = http.post(
        "/fhir/Measure/maa-hematologic-response/$evaluate-measure",
        content=BUNDLE,
        params={"reporter": reporter},
        headers={"content-type": "application/fhir+json"},
    )
    assert response.status_code == httpx.codes.BAD_REQUEST
    assert "reporter" in response.json()["issue"][0]["diagnostics"]


def test_the_parts_of_a_report_are_the_measures_own(http: httpx.Client) -> None:
    """DEQM, general guidance: a report's groups are identified as those of the measure are."""
    (group,) = definitions()["Measure", "maa-hematologic-response"]["group"]
    (told,) = report(http)["group"]
    assert linked(told, "MeasureReport.group") == linked(group, "Measure.group")
    for part in ("population", "stratifier"):
        names = [linked(one, f"Measure.group.{part}") for one in group[part]]
        assert [linked(one, f"MeasureReport.group.{part}") for one in told[part]] == names
        assert len(set(names)) == len(names)
        assert [one["id"] for one in told[part]] == [one["id"] for one in group[part]] == names
    for stratum in (s for stratifier in told["stratifier"] for s in stratifier["stratum"]):
        place = "MeasureReport.group.stratifier.stratum.population"
        names = [linked(one, "Measure.group.population") for one in group["population"]]
        assert [linked(one, place) for one in stratum["population"]] == names


def test_a_summary_tells_of_no_patient_and_a_list_of_each(http: httpx.Client) -> None:
    """But for the remarks, which say where in the request a result stands."""
    summary = report(http)
    summary.pop("contained", None)
    assert "mAA-" not in json.dumps(summary)
    assert "Not evaluable: 1. No counts from day 60 to day 183" in summary["text"]["div"]
    listed = json.dumps(report(http, reportType="subject-list"))
    assert all(f"Patient/mAA-{number:02}" in listed for number in range(1, 18))


def test_one_patients_report_names_what_it_rests_on(http: httpx.Client) -> None:
    """As the assessment does, and its resources are in the data, of that patient."""
    found = report(http, reportType="subject", subject="Patient/mAA-03")
    named = {one["reference"] for one in found["evaluatedResource"]}
    entries = [entry["resource"] for entry in json.loads(BUNDLE)["entry"]]
    sent = {f"{one['resourceType']}/{one['id']}": one for one in entries}
    assert named
    assert {sent[name]["subject"]["reference"] for name in named} == {"Patient/mAA-03"}
    response = http.post(
        "/fhir/$assess-response",
        content=BUNDLE,
        params={"subject": "Patient/mAA-03"},
        headers={"content-type": "application/fhir+json"},
    )
    observation = response.json()["entry"][0]["resource"]
    assert {one["reference"] for one in observation["derivedFrom"]} <= named
    score = found["group"][0]["measureScore"]
    assert score == {"value": 1}


def test_one_patients_report_is_kept_as_its_evidence_is(http: httpx.Client) -> None:
    bundle = json.loads(BUNDLE)
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] == "Observation":
            entry["resource"].setdefault("meta", {})["security"] = [label]
    response = http.post(
        "/fhir/Measure/maa-hematologic-response/$evaluate-measure",
        json=bundle,
        params={"reportType": "subject", "subject": "Patient/mAA-03"},
        headers={"content-type": "application/fhir+json"},
    )
    assert label in response.json()["meta"]["security"]


def test_the_date_is_that_of_the_report_not_of_the_data(http: httpx.Client) -> None:
    before = datetime.now(UTC).date()
    told = date.fromisoformat(report(http)["date"])
    assert before <= told <= datetime.now(UTC).date()
