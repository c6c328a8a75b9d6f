"""The published CQL of response, run by an outside engine, comes to what we come to.

`python -m tests.test_cql_response 2000` compares so many generated courses, and tells how many the
CQL gives no verdict on, and why.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import count as count_from
from pathlib import Path
from typing import Any

from app.asking import ASSESS_RESPONSE
from app.domain.response import ResponseAssessment
from app.domain.rules import Truth
from app.operations import assessed
from app.papers import RESPONSES
from app.publishing.cql import libraries, library_name, response_id
from tests.test_cql import FIXTURES, charts, engine

Json = dict[str, Any]
START = date(2001, 3, 1)
LOINC = {
    "anc": "751-8",
    "platelets": "777-3",
    "hemoglobin": "718-7",
    "reticulocytes": "60474-4",
    "reticulocytes_by_hand": "40665-2",
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
    """One treated patient, and how to judge, by every definition."""

    id: str
    resources: list[Json]
    query: dict[str, str] = field(default_factory=dict)
    parameters: Json = field(default_factory=dict)

    @property
    def bundle(self) -> Json:
        entries = [{"resource": one} for one in self.resources]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    def start(self, when: str) -> None:
        self.query["treatmentStart"] = self.parameters["Treatment start"] = when

    def policy(self, policy: str) -> None:
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


def theirs(asked: list[Asked]) -> dict[tuple[str, str], Json]:
    elm = {library.name: json.loads(library.elm) for library in libraries()}
    main = [elm[library_name(response_id(paper))] for paper in RESPONSES]
    given = [{"id": one.id, "bundle": one.bundle, "parameters": one.parameters} for one in asked]
    said = engine("run", {"libraries": list(elm.values()), "main": main, "charts": given})
    lines = map(json.loads, said.splitlines())
    return {(line["id"], line["library"]): line["results"] for line in lines}


def ours(asked: Asked) -> dict[str, Json]:
    """What we say by every definition, as its library names it."""
    body = json.dumps(asked.bundle).encode()
    query = [*(("criteria", paper.id) for paper in RESPONSES), *asked.query.items()]
    found = assessed(ASSESS_RESPONSE, body, query).assessments
    return {library_name(response_id(one.paper)): in_their_words(one) for one in found}


def in_their_words(found: ResponseAssessment) -> Json:
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


def compared(asked: list[Asked]) -> tuple[Counter[str], Json]:
    """How many courses the libraries are silent on, and why; where they say another thing, both."""
    said = theirs(asked)
    silent: Counter[str] = Counter()
    other: Json = {}
    for one in asked:
        for library, mine in ours(one).items():
            results = said[one.id, library]
            reasons = results["Not read"]
            if reasons:
                assert results["Verdict"] is None
            else:
                found = {name: results[name] for name in mine}
                differ = {
                    name: (found[name], mine[name]) for name in mine if found[name] != mine[name]
                }
                other |= {f"{one.id} {library}": differ} if differ else {}
        silent.update([*reasons, *(["all"] if reasons else [])])
    return silent, other


# A course as FHIR


def on(number: int) -> str:
    return str(START + timedelta(days=number))


def count(name: str, serial: int, when: str, value: str, unit: str, **more: Any) -> Json:
    quantity = {"value": float(value), "unit": unit, "system": "http://unitsofmeasure.org"}
    return {
        "resourceType": "Observation",
        "id": f"{name}{serial:+}".replace("_", "-").replace("+", "-plus-"),
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


# The cases of clinicians


def of_case(name: str, case: Json) -> Asked:
    patient: Json = {"resourceType": "Patient", "id": "p"}
    if "sex" in case:
        patient["gender"] = case["sex"]
    if "age" in case:
        patient["birthDate"] = str(START.replace(year=START.year - case["age"]))
    asked = Asked(name, [patient, *results_of(case), *treatments_of(case)])
    asked.start(on(0))
    asked.policy(case.get("policy", "both"))
    if case.get("transfusion_history") == "complete":
        asked.complete()
    if "independence_days" in case:
        asked.free_days(case["independence_days"])
    return asked


def results_of(case: Json) -> Iterator[Json]:
    days = {key: int(key.removeprefix("on_")) for key in case if key.startswith("on_")}
    ranges = case.get("lab_range", {})
    for key, day in ({"before": 0} | days).items():
        for analyte, told in case.get(key, {}).items():
            value = told.lstrip("<>=")
            unit = UNITS[KINDS.get(analyte, "cells")][0][0]
            one = count(analyte, day, on(day), value, unit)
            if value != told:
                one["valueQuantity"]["comparator"] = told.removesuffix(value)
            if analyte in ranges:
                ends = zip(("low", "high"), ranges[analyte], strict=True)
                limits = {end: one["valueQuantity"] | {"value": float(at)} for end, at in ends}
                one["referenceRange"] = [limits]
            yield one


def treatments_of(case: Json) -> Iterator[Json]:
    serial = count_from(1)
    for key, code in (("red_cell_units", RED_CELLS), ("platelet_transfusions", PLATELETS)):
        for day in case.get(key, []):
            yield transfusion(code, next(serial), performedDateTime=on(day))
    for first, last in case.get("no_transfusions", []):
        period = {"start": on(first), "end": on(last)}
        yield transfusion(SOME, next(serial), "not-done", performedPeriod=period)
    for name in ("filgrastim", "lenograstim", "pegfilgrastim", "lipegfilgrastim"):
        for day in case.get(name, []):
            yield drug(name, next(serial), effectiveDateTime=on(day))


def cases() -> list[Asked]:
    folder = Path(__file__).parent / "cases" / "response"
    return [
        of_case(f"{path.stem}: {case['says']}", case)
        for path in sorted(folder.glob("*.toml"))
        for case in tomllib.loads(path.read_text("utf-8"))["case"]
    ]


# The fixtures


def fixtures() -> list[Asked]:
    """Every patient of a fixture who was treated."""
    stories = sorted([*FIXTURES.glob("*/request.json"), *FIXTURES.glob("*/bundle.json")])
    return [
        Asked(chart.id, [entry["resource"] for entry in chart.bundle["entry"]])
        for path in stories
        for chart in charts(path)
        if "daclizumab" in json.dumps(chart.bundle)
    ]


# Of the cases those whose counts have a comparator, which the libraries do not read.
SILENT_CASES = 1


def test_the_library_comes_to_our_verdict_on_every_case_of_a_clinician() -> None:
    silent, other = compared(cases())
    assert other == {}
    assert silent["all"] == SILENT_CASES


def test_the_library_comes_to_our_verdict_on_every_patient_of_the_trial() -> None:
    silent, other = compared(fixtures())
    assert other == {}
    assert not silent
