"""Charts made at random, to hold the CQL of eligibility to the engine; thousands of them by

    python -m tests.test_cql_charts --charts 3000 --seed 1

It prints how often the two agree, how often the CQL knows less, and each chart of which the CQL
decides what the engine does not; it ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from random import Random
from typing import Any

from app.asking import ASSESS_ELIGIBILITY
from app.operations import assessed
from app.publishing.cql import criterion_define, libraries, library_name
from tests.test_cql import TRUTHS, engine

Json = dict[str, Any]
UCUM, LOINC, SNOMED = "http://unitsofmeasure.org", "http://loinc.org", "http://snomed.info/sct"
NEWEST = date(2024, 3, 31)
# Definitions of every analyte, of limits by hand, of transfusions needed and of dependence.
PAPERS = ("nih-daclizumab-2003", "camitta-severe-1976", "emaa", "nih-prca-2003")
_POLICIES = ("both", "reticulocytes-when-transfused", "reticulocytes-only")

# LOINC codes, values at and beside the limits, and units: a code, its text, its factor.
_CELLS = [
    ("10*9/L", None, 1),
    ("10*3/uL", "K/uL", 1),
    ("/uL", "cells/uL", 0.001),
    ("10*3/uL", None, 1),
]
_KINDS: dict[str, tuple[list[str], list[str], list[tuple[str, str | None, float]]]] = {
    "anc": (
        ["751-8", "26499-4", "753-4"],
        ["0.15", "0.2", "0.49", "0.5", "0.51", "1.0", "1.2", "1.21", "1.5", "3.1"],
        _CELLS,
    ),
    "leukocytes": (["6690-2", "804-5", "33256-9", "49498-9"], ["0.4", "0.9", "2.0", "4.1"], _CELLS),
    "neutrophil %": (["770-8", "26511-6"], ["10", "25", "50", "61.5"], [("%", None, 1)]),
    "segmented": (["30451-9"], ["0.4", "0.5", "1.2", "2.5"], _CELLS),
    "segmented %": (["769-0"], ["8", "30", "55"], [("%", None, 1)]),
    "bands": (["26507-4"], ["0.1", "0.2"], _CELLS),
    "bands %": (["764-1"], ["2", "10"], [("%", None, 1)]),
    "platelets": (
        ["777-3", "26515-7", "49497-1", "778-1"],
        ["0", "12", "19", "20", "21", "69", "70", "71", "150"],
        _CELLS,
    ),
    "hemoglobin": (
        ["718-7", "30350-3"],
        ["6.1", "8.4", "8.5", "8.6", "9.9", "13.2"],
        [("g/dL", None, 1), ("g/L", "g/L", 0.1), ("g/dL", "gm/dL", 1)],
    ),
    "molar hemoglobin": (["59260-0"], ["2.9", "5.2", "5.28", "7.4"], [("mmol/L", None, 1)]),
    "reticulocytes": (
        ["60474-4", "14196-0", "40665-2"],
        ["15", "19.9", "20", "40", "50", "59.9", "60", "60.1", "90"],
        _CELLS,
    ),
    "reticulocyte %": (["17849-1", "31112-6"], ["0.4", "1.5", "2"], [("%", None, 1)]),
    "erythrocytes": (
        ["789-8"],
        ["2500", "3000", "4000"],
        [("10*12/L", None, 1000), ("10*6/uL", "M/uL", 1000)],
    ),
}
_OFTEN = ["anc", "platelets", "hemoglobin", "reticulocytes"]
_BESIDE = [
    "Low",
    "checked twice",
    "no clumps seen",
    "platelet clumps",
    "hemolysed",
    "Thrombozyten überprüft",
]
_TRANSFUSED: list[Json] = [
    {"coding": [{"system": SNOMED, "code": "116863004"}]},
    {"coding": [{"system": SNOMED, "code": "12719002"}]},
    {"coding": [{"system": SNOMED, "code": "116859006"}]},
    {"coding": [{"system": "http://www.cms.gov/Medicare/Coding/ICD10", "code": "30233R1"}]},
    {"text": "Transfusion of packed red cells"},
    {"text": "Thrombozytenkonzentrat, Transfusion"},
    {"text": "Platelet count"},
    {"text": "FFP transfusion"},
    {"text": "Transfusion reaction work-up"},
]
_DRUGS: list[Json] = [
    {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "68442"}]},
    {"text": "Pegfilgrastim 6 mg"},
    {"text": "Neupogen"},
    {"text": "Erythrocyte concentrate"},
    {"text": "Paracetamol"},
]


def day(random: Random, most: int = 60) -> date:
    """A day up to so many before the newest; mostly a few."""
    return NEWEST - timedelta(
        days=random.choice([0, 0, 0, 1, 2, 7, 14, 28, 29, 30, 31, random.randint(0, most)])
    )


def moment(random: Random, on: date) -> str:
    """A day as it may be sent: with a time in one of two zones, alone, or as a month or year."""
    shape = random.random()
    if shape < 0.45:
        time = random.choice(["07:30:00", "07:30:00", "12:00:00", "23:30:00"])
        return f"{on}T{time}{random.choice(['Z', 'Z', '+02:00'])}"
    return str(on) if shape < 0.9 else str(on)[: random.choice([7, 7, 4])]


def dated(random: Random, name: str, on: date) -> Json:
    """The element of a date or a period; seldom none."""
    shape = random.random()
    if shape < 0.04:
        return {}
    if shape < 0.85:
        return {f"{name}DateTime": moment(random, on)}
    ends = {"start": str(on), "end": str(on + timedelta(days=random.choice([0, 1, 5, 60])))}
    if random.random() < 0.3:
        del ends[random.choice(["start", "end"])]
    return {f"{name}Period": ends}


def quantity(random: Random, kind: str) -> Json:
    """A value of an analyte in one of its units; seldom in one that is none of UCUM or of it."""
    _, values, units = _KINDS[kind]
    code, text, factor = random.choice(units)
    value = float(random.choice(values)) / factor
    found: Json = {"value": float(f"{value:.6g}"), "system": UCUM, "code": code}
    shape = random.random()
    if text and shape < 0.5:
        found["unit"] = text
    if shape < 0.03:
        del found["system"], found["code"]
    elif shape < 0.06:
        found["unit"] = random.choice(["Tausend/µL (auto)", "mmol/L", "%", "10*9/L", "g/L"])
    elif shape < 0.08:
        found |= {"code": "K/uL", "unit": "K/uL"}
    if random.random() < 0.12:
        found["comparator"] = random.choice(["<", "<=", ">", ">="])
    return found


def valued(random: Random, kind: str) -> Json:
    """A value as it may be sent, with what may stand beside it."""
    shape = random.random()
    one = quantity(random, kind)
    number, unit = one["value"], one.get("code", one.get("unit", ""))
    if shape < 0.03:
        found: Json = {
            "valueString": random.choice([f"{number} {unit}", f"<{number} {unit}", "see report"])
        }
    elif shape < 0.06:
        one.pop("comparator", None)
        found = {"valueRange": {"low": one, "high": {**one, "value": number * 1.5}}}
    elif shape < 0.07:
        found = {"dataAbsentReason": {"text": "clotted"}}
    else:
        found = {"valueQuantity": one}
    if random.random() < 0.1:
        ends = random.choice([("150", "400"), ("2", "7.5"), ("12", "16"), ("150000", "400000")])
        low, high = (
            {"value": float(end), **random.choice([{}, {"unit": "10*9/L"}])} for end in ends
        )
        found["referenceRange"] = [{"low": low, "high": high}]
    if random.random() < 0.08:
        found["interpretation"] = [{"text": random.choice(_BESIDE)}]
    return found


def coded(random: Random, kind: str) -> Json:
    codings = [{"system": LOINC, "code": random.choice(_KINDS[kind][0])}]
    shape = random.random()
    if shape < 0.02:
        codings[0]["system"] = "urn:oid:2.16.840.1.113883.6.1"
    elif shape < 0.04:
        codings.append({"system": LOINC, "code": random.choice(["777-3", "718-7", "30394-1"])})
    elif shape < 0.1:
        codings.insert(0, {"system": "http://hospital.example/codes", "code": "B1"})
    return {"coding": codings}


def observation(random: Random, kind: str, on: date) -> Json:
    """One result, or a panel of several."""
    status = random.choices(
        ["final", "amended", "corrected", "preliminary", "entered-in-error"], [80, 7, 5, 4, 4]
    )[0]
    found: Json = {
        "resourceType": "Observation",
        "status": status,
        **dated(random, "effective", on),
    }
    if random.random() < 0.2:
        found["issued"] = f"{on + timedelta(days=random.choice([0, 1, 2]))}T12:00:00Z"
    if random.random() < 0.25:
        found["specimen"] = {"reference": f"Specimen/{random.choice(['s1', 's2'])}"}
    if random.random() < 0.15:
        found["identifier"] = [{"system": "urn:lab", "value": random.choice(["o1", "o2"])}]
    if random.random() < 0.05:
        found["note"] = [{"text": random.choice(_BESIDE)}]
    if random.random() < 0.02:
        found["focus"] = [{"reference": "Patient/donor"}]
    if random.random() < 0.15:
        kinds = [kind, *random.sample(list(_KINDS), random.randint(1, 3))]
        parts = [{"code": coded(random, one), **valued(random, one)} for one in kinds]
        return {
            **found,
            "code": {"coding": [{"system": LOINC, "code": "58410-2"}]},
            "component": parts,
        }
    return {**found, "code": coded(random, kind), **valued(random, kind)}


def given(random: Random) -> Json:
    """A transfusion or a drug."""
    on = day(random, 90) - timedelta(days=random.choice([0, 0, 1, 6, 7, 8]))
    identifier = [{"system": "urn:bank", "value": random.choice(["u1", "u2", "u3"])}]
    named = {"identifier": identifier} if random.random() < 0.08 else {}
    if random.random() < 0.7:
        status = random.choices(
            ["completed", "in-progress", "not-done", "unknown", "entered-in-error"],
            [80, 5, 8, 4, 3],
        )[0]
        found = {"resourceType": "Procedure", "status": status, "code": random.choice(_TRANSFUSED)}
        when = dated(random, "performed", on)
        if status == "not-done" and random.random() < 0.8:
            when = {"performedPeriod": {"start": "2024-01-01", "end": "2024-04-30"}}
        return {**found, **named, **when}
    kind = random.choice(["MedicationAdministration", "MedicationStatement"])
    status = random.choices(
        ["completed", "in-progress", "on-hold", "unknown", "entered-in-error"], [70, 15, 5, 5, 5]
    )[0]
    if kind == "MedicationStatement" and status == "in-progress":
        status = "active"
    found = {
        "resourceType": kind,
        "status": status,
        "medicationCodeableConcept": random.choice(_DRUGS),
    }
    return {**found, **named, **dated(random, "effective", on)}


def chart(seed: int) -> Json:
    """A chart with the parameters asked, the same for the same number."""
    random = Random(seed)
    on = day(random)
    resources = []
    for _ in range(random.randint(2, 9)):
        kind = random.choice(_OFTEN if random.random() < 0.7 else list(_KINDS))
        resources.append(observation(random, kind, on))
        if random.random() < 0.4:
            on = day(random)
    units = random.choice([0, 0, 1, 2, 6])
    resources += [given(random) for _ in range(units)]
    if random.random() < 0.1:
        condition = {"condition": [{"text": random.choice(_BESIDE)}]}
        resources.append({"resourceType": "Specimen", **condition})
    for index, resource in enumerate(resources):
        resource["id"] = "s1" if resource["resourceType"] == "Specimen" else f"r{index}"
        resource["subject"] = {"reference": "Patient/patient"}
    asked: Json = {}
    if random.random() < 0.25:
        asked["asOf"] = str(NEWEST - timedelta(days=random.choice([0, 1, 5, 20])))
    if random.random() < 0.3:
        asked["transfusionHistory"] = "complete"
    if random.random() < 0.2:
        asked["window"] = str(random.choice([1, 7, 30, 31]))
    if random.random() < 0.4:
        asked["redCellPolicy"] = random.choice(_POLICIES)
    patient = {"resourceType": "Patient", "id": "patient"}
    entries = [{"resource": resource} for resource in (patient, *resources)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return {"id": str(seed), "bundle": bundle, "asked": asked}


def of_cql(one: Json) -> Json:
    """The chart as the script for the outside engine takes it."""
    asked, parameters = one["asked"], dict[str, Any]()
    if "asOf" in asked:
        parameters["As of"] = asked["asOf"]
    if "window" in asked:
        parameters["Window days"] = int(asked["window"])
    if "redCellPolicy" in asked:
        parameters["Red cell policy"] = asked["redCellPolicy"]
    parameters["Transfusion history complete"] = "transfusionHistory" in asked
    return {"id": one["id"], "bundle": one["bundle"], "parameters": parameters}


def ours(one: Json) -> dict[str, Json]:
    """What the engine says, by the library's name: the verdict and the criteria."""
    query = [("criteria", paper) for paper in PAPERS] + list(one["asked"].items())
    found = assessed(ASSESS_ELIGIBILITY, json.dumps(one["bundle"]).encode(), query).assessments
    return {
        library_name(said.paper.id): {
            "Verdict": said.verdict.value,
            **{criterion_define(f.criterion): f.truth.value for f in said.findings},
        }
        for said in found
    }


Answer = tuple[str, str, str, str, str]
"""Of a chart's number, a library and one of its definitions, what the CQL and what we say."""


def answers(numbers: Iterable[int]) -> Iterator[Answer]:
    """Every answer of the CQL beside ours, on so many charts, in one process of Node.js."""
    elm = {library.name: json.loads(library.elm) for library in libraries()}
    main = [elm[library_name(paper)] for paper in PAPERS]
    charts = [chart(number) for number in numbers]
    asked = {"libraries": list(elm.values()), "main": main, "charts": list(map(of_cql, charts))}
    mine = {one["id"]: ours(one) for one in charts}
    for line in engine("run", asked).splitlines():
        said = json.loads(line)
        for name, answer in mine[said["id"]][said["library"]].items():
            theirs = said["results"][name]
            yield (
                said["id"],
                said["library"],
                name,
                theirs if name == "Verdict" else TRUTHS[theirs],
                answer,
            )


def is_guess(answer: Answer) -> bool:
    """Whether the CQL decides what we leave open, or decide otherwise."""
    return answer[3] not in {"unknown", "indeterminate", answer[4]}


def test_the_cql_decides_nothing_that_we_do_not_on_charts_made_at_random() -> None:
    # Beside those of which the library once guessed.
    numbers = [*range(1, 201), 2325, 3371]
    found = list(answers(numbers))
    assert [one for one in found if is_guess(one)] == []
    ours_decided = [one for one in found if one[4] not in {"unknown", "indeterminate"}]
    less = [one for one in ours_decided if one[3] != one[4]]
    # As many as a chart in four has something that the CQL cannot read.
    assert len(ours_decided) > 1000
    assert len(less) < len(ours_decided) / 4


def test_the_charts_have_what_they_are_to_try() -> None:
    text = [json.dumps(chart(number)) for number in range(1, 201)]
    for part in (
        '"comparator": "<"',
        '"valueString"',
        '"valueRange"',
        '"amended"',
        '"entered-in-error"',
        '"component"',
        '"specimen"',
        '"focus"',
        '"note"',
        '"not-done"',
        '"effectiveDateTime": "2024"',
        '"MedicationStatement"',
        '"window"',
        '"reticulocytes-when-transfused"',
    ):
        assert sum(part in one for one in text) >= 3, part


def main() -> int:
    """Compare so many charts, in batches; 1 where the CQL guesses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--charts", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    counted: Counter[str] = Counter()
    for start in range(asked.seed, asked.seed + asked.charts, 250):
        for answer in answers(range(start, min(start + 250, asked.seed + asked.charts))):
            if is_guess(answer):
                sys.stdout.write(" | ".join(answer) + "\n")
            counted[
                "guessed" if is_guess(answer) else "same" if answer[3] == answer[4] else "less"
            ] += 1
            if answer[4] not in {"unknown", "indeterminate"}:
                counted["decided by us"] += 1
    sys.stdout.write(f"{asked.charts} charts, {len(PAPERS)} definitions: {dict(counted)}\n")
    return 1 if counted["guessed"] else 0


if __name__ == "__main__":
    sys.exit(main())
