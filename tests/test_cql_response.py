"""The published CQL of response, run by an outside engine, comes to what we come to.

`python -m tests.test_cql_response 2000` compares so many generated courses, and tells how many the
CQL gives no verdict on, and why.
"""

from __future__ import annotations

import json
import random
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.asking import ASSESS_RESPONSE
from app.domain.paper import ResponsePaper
from app.domain.response import ResponseAssessment
from app.domain.rules import Truth
from app.operations import assessed
from app.papers import RESPONSES
from app.publishing.cql import libraries, library_name, response_id
from tests.test_cql import FIXTURES, Chart, charts, engine

Json = dict[str, Any]
START = date(2001, 3, 1)
BY_ID = {paper.id: paper for paper in RESPONSES}
READINGS = [(p.id, policy) for p in RESPONSES for policy in (p.red_cell_policies or (None,))]
LOINC = {
    "anc": "751-8",
    "platelets": "777-3",
    "hemoglobin": "718-7",
    "reticulocytes": "60474-4",
    "leukocytes": "6690-2",
    "percent": "770-8",
    "segmented": "30451-9",
    "erythrocytes": "789-8",
    "reticulocyte-percent": "17849-1",
}
# How a laboratory may write the unit of the analyte, and by how much its numbers are greater.
UNITS = {
    "g": (("g/dL", 1), ("g/L", 10)),
    "cells": (("10*9/L", 1), ("10*3/uL", 1), ("/uL", 1000), ("/mm3", 1000)),
    "%": (("%", 1),),
    "many": (("10*12/L", 1), ("10*6/uL", 1)),
}
KINDS = {
    "hemoglobin": "g",
    "percent": "%",
    "reticulocyte-percent": "%",
    "erythrocytes": "many",
}
RED_CELLS, PLATELETS, SOME = "116863004", "12719002", "116859006"


@dataclass
class Asked:
    """One treated patient, one definition, and how to judge."""

    id: str
    resources: list[Json]
    paper: str
    query: dict[str, str]
    parameters: Json

    @property
    def library(self) -> str:
        return library_name(response_id(BY_ID[self.paper]))

    @property
    def bundle(self) -> Json:
        entries = [{"resource": one} for one in self.resources]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def theirs(asked: list[Asked]) -> dict[str, Json]:
    elm = {library.name: json.loads(library.elm) for library in libraries()}
    main = [elm[library_name(response_id(paper))] for paper in RESPONSES]
    given = [
        {"id": one.id, "bundle": one.bundle, "parameters": one.parameters, "only": one.library}
        for one in asked
    ]
    said = engine("run", {"libraries": list(elm.values()), "main": main, "charts": given})
    return {line["id"]: line["results"] for line in map(json.loads, said.splitlines())}


def ours(asked: Asked) -> ResponseAssessment:
    body = json.dumps(asked.bundle).encode()
    query = [("criteria", asked.paper), *asked.query.items()]
    (found,) = assessed(ASSESS_RESPONSE, body, query).assessments
    return found


def in_their_words(found: ResponseAssessment) -> Json:
    """What we say, as the library names it."""

    def word(truth: Truth | None) -> str:
        return truth.value if truth else "not-applicable"

    moments = {
        "At 3 months": found.at_3_months,
        "At 6 months": found.at_6_months,
        "Current": found.current,
        "Best": found.best,
    }
    told = {
        "Verdict": found.verdict.value,
        "Baseline day": found.baseline.last_day.isoformat() if found.baseline else None,
        "Transfusion independence": word(found.independence),
        "Kept two years": word(found.kept_two_years),
        **{line.lineage.responded.title: word(line.truth) for line in found.lineages},
        **{name: one.verdict.value if one else None for name, one in moments.items()},
    }
    if found.paper.complete:
        told["Complete response"] = word(found.complete)
    if found.paper.relapse:
        told["Relapse"] = word(found.relapse)
    return told


def compared(asked: list[Asked]) -> tuple[Counter[str], dict[str, Any]]:
    """Why the CQL tells nothing, how often; and where it tells another thing, both."""
    said = theirs(asked)
    silent: Counter[str] = Counter()
    other: dict[str, Any] = {}
    for one in asked:
        mine, results = in_their_words(ours(one)), said[one.id]
        if results["Not read"]:
            assert results["Verdict"] is None
            silent.update(results["Not read"])
            silent["all"] += 1
            continue
        found = {name: results[name] for name in mine}
        if found != mine:
            other[one.id] = {name: (found[name], mine[name]) for name in mine if found[name] != mine[name]}
    return silent, other


# A course as FHIR


def on(number: int) -> str:
    return str(START + timedelta(days=number))


def count(name: str, serial: int, when: str, value: str, unit: str, **more: Any) -> Json:
    quantity = {"value": float(value), "unit": unit, "system": "http://unitsofmeasure.org"}
    return {
        "resourceType": "Observation",
        "id": f"{name}-{serial}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": LOINC[name]}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": when,
        "valueQuantity": quantity | {"code": unit},
    } | more


def transfusion(code: str, serial: int, status: str = "completed", **performed: Any) -> Json:
    return {
        "resourceType": "Procedure",
        "id": f"transfusion-{serial}",
        "status": status,
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
        "subject": {"reference": "Patient/p"},
    } | performed


def drug(name: str, serial: int, status: str = "completed", **effective: Any) -> Json:
    return {
        "resourceType": "MedicationAdministration",
        "id": f"drug-{serial}",
        "status": status,
        "medicationCodeableConcept": {"text": name},
        "subject": {"reference": "Patient/p"},
    } | effective


@dataclass
class Given:
    """How a course is judged, for our operation and for the library alike."""

    query: dict[str, str]
    parameters: Json

    def start(self, when: str) -> None:
        self.query["treatmentStart"] = self.parameters["Treatment start"] = when

    def policy(self, policy: str | None) -> None:
        if policy:
            self.query["redCellPolicy"] = self.parameters["Red cell policy"] = policy

    def complete(self) -> None:
        self.query["transfusionHistory"] = "complete"
        self.parameters["Transfusion history complete"] = True

    def free_days(self, days: int) -> None:
        self.query["independenceWindow"] = f"{days} d"
        self.parameters["Independence days"] = days

    def as_of(self, when: str) -> None:
        self.query["asOf"] = self.parameters["As of"] = when

    def window(self, days: int) -> None:
        self.query["window"] = str(days)
        self.parameters["Window days"] = days


# The cases of clinicians


def case_value(text: str) -> tuple[str, Json]:
    for sign in (">=", ">", "<"):
        if text.startswith(sign):
            return text.removeprefix(sign), {"comparator": sign}
    return text, {}


def of_case(name: str, paper: str, case: Json) -> Asked:
    given = Given({}, {})
    given.start(on(0))
    given.policy(case.get("policy"))
    if case.get("transfusion_history") == "complete":
        given.complete()
    if "independence_days" in case:
        given.free_days(case["independence_days"])
    patient: Json = {"resourceType": "Patient", "id": "p"}
    if "sex" in case:
        patient["gender"] = case["sex"]
    if "age" in case:
        patient["birthDate"] = str(START.replace(year=START.year - case["age"]))
    resources = [patient]
    days = {key: int(key.removeprefix("on_")) for key in case if key.startswith("on_")}
    for key, day in ({"before": 0} | days).items():
        for analyte, told in case.get(key, {}).items():
            value, comparator = case_value(told)
            unit = UNITS[KINDS.get(analyte, "cells")][0][0]
            one = count(analyte.removesuffix("_by_hand"), len(resources), on(day), value, unit)
            if analyte.endswith("_by_hand"):
                one["code"]["coding"][0]["code"] = "40665-2"
            one["valueQuantity"] |= comparator
            if analyte in case.get("lab_range", {}):
                low, high = case["lab_range"][analyte]
                one["referenceRange"] = [
                    {end: {**one["valueQuantity"], "value": float(limit)}}
                    for end, limit in (("low", low),)
                ]
                one["referenceRange"][0]["high"] = {**one["valueQuantity"], "value": float(high)}
            resources.append(one)
    for key, code in (("red_cell_units", RED_CELLS), ("platelet_transfusions", PLATELETS)):
        for day in case.get(key, []):
            resources.append(transfusion(code, len(resources), performedDateTime=on(day)))
    for first, last in case.get("no_transfusions", []):
        period = {"start": on(first), "end": on(last)}
        resources.append(transfusion(SOME, len(resources), "not-done", performedPeriod=period))
    for key in ("filgrastim", "lenograstim", "pegfilgrastim", "lipegfilgrastim"):
        for day in case.get(key, []):
            resources.append(drug(key, len(resources), effectiveDateTime=on(day)))
    return Asked(name, resources, paper, given.query, given.parameters)


def cases() -> list[Asked]:
    found = []
    for paper in BY_ID:
        path = Path(__file__).parent / "cases" / "response" / f"{paper}.toml"
        for case in tomllib.loads(path.read_text("utf-8"))["case"]:
            found.append(of_case(f"{paper}: {case['says']}", paper, case))
    return found


# The fixtures


def treated(chart: Chart) -> bool:
    return "daclizumab" in json.dumps(chart.bundle)


def fixtures() -> list[Asked]:
    """Every patient of a fixture who was treated, by every definition."""
    found = []
    for path in sorted([*FIXTURES.glob("*/request.json"), *FIXTURES.glob("*/bundle.json")]):
        for chart in filter(treated, charts(path)):
            for paper, policy in READINGS:
                given = Given({}, {})
                given.policy(policy)
                resources = [entry["resource"] for entry in chart.bundle["entry"]]
                name = f"{chart.id} {paper} {policy}"
                found.append(Asked(name, resources, paper, given.query, given.parameters))
    return found
