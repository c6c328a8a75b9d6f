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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import count as count_from
from pathlib import Path
from typing import Any

import pytest

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


Said = dict[tuple[str, str], Json]


def theirs(asked: list[Asked]) -> Said:
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


def compared(asked: list[Asked], said: Said | None = None) -> tuple[Counter[str], Json]:
    """How many courses the libraries are silent on, and why; where they say another thing, both."""
    said = said or theirs(asked)
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


# Generated courses

# Days from the start, on both sides of every day that a definition names.
BEFORE = (-119, -91, -90, -60, -30, -28, -7, -5, 0, 0, 0)
IN_TIME = (1, 59, 60, 62, 75, 87, 88, 90, 91, 100, 116, 120, 121, 149, 150, 180, 183, 184)
LATER = (210, 211, 400, 790, 819, 820, 900)
GIVEN = (-140, -60, -57, -56, -40, -30, -20, -10, -3, 0, 5, 30, 55, 70, 84, 89, 90, 110, 150, 178)
# On, just under and just over the numbers that definitions name.
TELLING = {
    "anc": ["0", "0.3", "0.4", "0.5", "0.6", "0.8", "1.1", "1.2", "1.3", "1.5", "1.6", "2", "4"],
    "platelets": ["0", "10", "19", "20", "30", "31", "40", "69", "70", "71", "101", "150", "250"],
    "hemoglobin": ["5.9", "6", "8", "8.1", "8.5", "8.6", "9", "10", "11.1", "11.5", "13.5", "14"],
    "reticulocytes": ["10", "19", "20", "41", "59", "60", "61", "100"],
}
LOW = {
    "anc": ["0", "0.4", "0.5", "0.6", "0.9", "1.2"],
    "platelets": ["0", "19", "20", "50", "70", "70"],
    "hemoglobin": ["5.9", "6", "8", "8.5", "8.5"],
    "reticulocytes": ["19", "41", "60", "60", "60"],
}
TIMES = ("", "", "", "T08:00:00Z", "T06:30:00+08:00", "T23:45:00-05:00")


class Course:
    """One patient's course, drawn at random."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.resources: list[Json] = [self.patient()]

    def one(self, of: Sequence[Any]) -> Any:
        return self.chance.choice(of)

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def patient(self) -> Json:
        told: Json = {"resourceType": "Patient", "id": "p"}
        if gender := self.one(["male", "female", "female", "other", None]):
            told["gender"] = gender
        if born := self.one(["1950-05-05", "1983-06-01", "1983", "1990-02", None]):
            told["birthDate"] = born
        return told

    def serial(self) -> int:
        return len(self.resources)

    def result(self, name: str, when: str, value: str) -> Json:
        unit, factor = self.one(UNITS[KINDS.get(name, "cells")])
        one = count(name, self.serial(), when, str(Decimal(value) * factor), unit)
        if name in {"anc", "platelets", "hemoglobin"} and self.often(0.1):
            low = {"anc": "1.3", "platelets": "140", "hemoglobin": "12.5"}[name]
            limit = one["valueQuantity"] | {"value": float(Decimal(low) * factor)}
            one["referenceRange"] = [{"low": limit}]
        return one

    def panel(self, day: int, values: Mapping[str, Sequence[str]]) -> None:
        """The four counts of a day, some left out or worked out from others."""
        when = on(day) + self.one(TIMES)
        for name, some in values.items():
            if self.often(0.08):
                continue
            value = self.one(some)
            if name == "anc" and self.often(0.2):
                self.add(self.result("leukocytes", when, self.one(["1", "2.4", "5"])))
                self.add(self.result("percent", when, self.one(["20", "24", "50", "60"])))
            elif name == "reticulocytes" and self.often(0.1):
                self.add(self.result("erythrocytes", when, self.one(["2", "3", "4"])))
                self.add(self.result("reticulocyte-percent", when, self.one(["0.5", "2", "3"])))
            else:
                self.add(self.result(name, when, value))
            if self.often(0.04):
                self.add(self.result(name, when, self.one(some)))

    def add(self, one: Json) -> None:
        self.resources.append(one)

    def dependent(self) -> None:
        """Four transfusions or more in the weeks before the start, and none for weeks later."""
        code = self.one([RED_CELLS, PLATELETS])
        for _ in range(self.one([4, 4, 5])):
            performed = {"performedDateTime": on(self.one([-55, -50, -44, -40, -33, -31, -9, -2]))}
            self.add(transfusion(code, self.serial(), **performed))
        period = {"start": on(self.one([3, 30, 34, 60])), "end": on(self.one([90, 183, 900]))}
        self.add(transfusion(code, self.serial(), "not-done", performedPeriod=period))

    def treatments(self) -> None:
        if self.often(0.4):
            self.dependent()
        for _ in range(self.one([0, 0, 0, 2, 5])):
            code, when = self.one([RED_CELLS, RED_CELLS, PLATELETS, SOME]), on(self.one(GIVEN))
            performed = {"performedDateTime": when + self.one(TIMES)}
            self.add(transfusion(code, self.serial(), **performed))
        for _ in range(self.one([0, 0, 1, 2])):
            code, first = self.one([RED_CELLS, PLATELETS, SOME]), self.one([-60, -56, 20, 30, 120])
            period = {"start": on(first), "end": on(first + self.one([56, 60, 90, 200]))}
            self.add(transfusion(code, self.serial(), "not-done", performedPeriod=period))
        if self.often(0.15):
            name = self.one(["filgrastim", "Neulasta 6 mg", "lenograstim"])
            self.add(drug(name, self.serial(), effectiveDateTime=on(self.one(GIVEN))))

    def oddity(self) -> None:
        """Something that the libraries may not read."""
        results = [one for one in self.resources if one["resourceType"] == "Observation"]
        odd = self.one(ODDITIES)
        if results and odd in RESULT_ODDITIES:
            RESULT_ODDITIES[odd](self.one(results))
        else:
            day = on(self.one(GIVEN))
            self.add(OTHER_ODDITIES.get(odd, OTHER_ODDITIES["in words"])(self.serial(), day))


def comparator(one: Json) -> None:
    one["valueQuantity"]["comparator"] = "<"


def bare_unit(one: Json) -> None:
    one["valueQuantity"] = {"value": 1.5, "unit": "K/uL"}


def as_text(one: Json) -> None:
    one["valueString"] = f"{one.pop('valueQuantity')['value']} clumped"


def of_a_month(one: Json) -> None:
    one["effectiveDateTime"] = one["effectiveDateTime"][:7]


def noted(one: Json) -> None:
    one["note"] = [{"text": "platelet clumps"}]


def for_women(one: Json) -> None:
    limit = one["valueQuantity"]
    one["referenceRange"] = [{"low": limit, "appliesTo": [{"text": "female"}]}]


def corrected(one: Json) -> None:
    one |= {"status": "corrected", "identifier": [{"system": "urn:lab", "value": "1"}]}


RESULT_ODDITIES: dict[str, Callable[[Json], None]] = {
    "comparator": comparator,
    "bare unit": bare_unit,
    "text": as_text,
    "month": of_a_month,
    "note": noted,
    "range for some": for_women,
    "corrected": corrected,
}
OTHER_ODDITIES: dict[str, Callable[[int, str], Json]] = {
    "in words": lambda serial, day: (
        transfusion(RED_CELLS, serial, performedDateTime=day)
        | {"code": {"text": "2 units of packed red cells transfused"}}
    ),
    "unknown": lambda serial, day: transfusion(PLATELETS, serial, "unknown", performedDateTime=day),
    "undated": lambda serial, _: transfusion(RED_CELLS, serial),
    "running": lambda serial, day: drug(
        "filgrastim", serial, "in-progress", effectivePeriod={"start": day}
    ),
    "product as a drug": lambda serial, day: drug(
        "Platelet concentrate", serial, effectiveDateTime=day
    ),
    "leukocytes alone": lambda serial, day: count("leukocytes", serial, day, "0.3", "10*9/L"),
    "transplant": lambda serial, day: (
        transfusion("23719005", serial, performedDateTime=day)
        | {"code": {"text": "Bone marrow transplantation"}}
    ),
}
ODDITIES = [*RESULT_ODDITIES, *OTHER_ODDITIES]


def generated(seed: int) -> Asked:
    """A course that mostly has low counts before the start, and how it is judged."""
    chance = random.Random(seed)
    course = Course(chance)
    course.panel(course.one([*BEFORE, 0, 0, 0, -5, -28]), LOW if course.often(0.85) else TELLING)
    if course.often(0.3):
        course.panel(course.one(BEFORE), LOW)
    for days in (*[IN_TIME] * course.one([1, 2, 3, 4]), *[LATER] * course.one([0, 1, 2])):
        course.panel(course.one(days), TELLING)
    course.treatments()
    asked = Asked(f"course {seed}", course.resources)
    if course.often(0.5):
        for dose in (0, 14):
            effective = {"effectiveDateTime": on(dose) + course.one(TIMES)}
            course.add(drug("daclizumab", course.serial(), **effective))
    else:
        asked.start(on(course.one([0, 0, 0, 1])) + course.one(["", "", "T12:00:00Z"]))
    if course.often(ODD):
        course.oddity()
    if course.often(0.4):
        asked.complete()
    if course.often(0.3):
        asked.free_days(course.one([84, 112]))
    if course.often(0.3):
        asked.window(course.one([1, 14, 60]))
    if course.often(0.15):
        asked.as_of(on(course.one([30, 90, 183, 400])))
    asked.policy(course.one(["both", "reticulocytes-when-transfused", "reticulocytes-only"]))
    return asked


# How many courses have something that the libraries may not read.
ODD = 0.12


# More by hand, as this module's docstring says.
COURSES = 40


@pytest.fixture(scope="session")
def trial() -> list[Asked]:
    return fixtures()


@pytest.fixture(scope="session")
def said_of_the_trial(trial: list[Asked]) -> Said:
    return theirs(trial)


def test_the_libraries_come_to_our_verdicts_on_cases_of_clinicians() -> None:
    """On every third; by every definition, whichever the case was written for."""
    silent, other = compared(cases()[::3])
    assert other == {}
    assert silent["all"] <= 1


def test_the_libraries_come_to_our_verdicts_on_generated_courses() -> None:
    silent, other = compared([generated(seed) for seed in range(COURSES)])
    assert other == {}
    assert silent["all"] <= COURSES * 0.2


def test_the_measure_counts_the_trial_from_raw_data(
    trial: list[Asked], said_of_the_trial: Said
) -> None:
    """17 treated, 16 evaluable, 6 responded: the trial's own figures."""
    names = ("Initial population", "Denominator", "Denominator exclusion", "Numerator")
    library = "NihDaclizumab2003Response"
    assert [
        sum(bool(said_of_the_trial[one.id, library][name]) for one in trial) for name in names
    ] == [17, 17, 1, 6]


def test_the_libraries_come_to_our_verdicts_on_every_patient_of_the_trial(
    trial: list[Asked], said_of_the_trial: Said
) -> None:
    silent, other = compared(trial, said_of_the_trial)
    assert other == {}
    assert not silent


def compare_by_hand(number: int) -> int:
    """Compares in runs of a hundred; the number of courses that differ."""
    silent: Counter[str] = Counter()
    differ: Json = {}
    for first in range(0, number, 100):
        some = range(first, min(first + 100, number))
        reasons, other = compared([generated(seed) for seed in some])
        silent += reasons
        differ |= other
    told = [
        f"{number} courses by {len(RESPONSES)} definitions: {len(differ)} differ",
        f"no verdict on {silent.pop('all', 0)}: {dict(silent.most_common())}",
        *(f"{name} {words}" for name, words in differ.items()),
    ]
    sys.stdout.write("\n".join(told) + "\n")
    return len(differ)


if __name__ == "__main__":
    sys.exit(bool(compare_by_hand(int(sys.argv[1]))))
