"""The 2003 trial as synthetic patients: nobody's real data, made to follow the abstract.

`python -m tests.trial` writes fixtures/daclizumab-2003/bundle.json anew; the seed makes the same
bytes each time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "fixtures" / "daclizumab-2003"
SEED = 2003
DOSE_DAYS = range(0, 85, 14)
TO_THE_END = 400
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
SYNTHETIC = "test health data"
Json = dict[str, Any]
Range = tuple[float, float]

# What each count looks like before, and what it becomes.
LOW = {"anc": (0.6, 1.1), "platelets": (24, 60), "hemoglobin": (6.8, 8.4), "arc": (22, 55)}
FAIR = {"anc": (2.4, 4.5), "platelets": (90, 130), "hemoglobin": (9.2, 10.8), "arc": (62, 80)}
NORMAL = {"anc": (2.4, 4.5), "platelets": (170, 300), "hemoglobin": (13.8, 15.2), "arc": (65, 95)}
LOINC = {
    "anc": ("751-8", "10*3/uL", 1),
    "platelets": ("777-3", "10*3/uL", 0),
    "hemoglobin": ("718-7", "g/dL", 1),
    "arc": ("60474-4", "10*3/uL", 0),
}


@dataclass(frozen=True)
class Story:
    """One patient: what was low before, what became normal, and until when it is known."""

    low: tuple[str, ...]
    normalised: tuple[str, ...] = ()
    complete: bool = False
    last_day: int = 182
    transfused: str = ""
    independent: bool = False


RED_CELLS, PLATELETS = ("hemoglobin", "arc"), ("platelets",)
BOTH = (*RED_CELLS, *PLATELETS)
STORIES = (
    Story(BOTH, BOTH, complete=True, last_day=1096),
    Story(BOTH, BOTH, complete=True, last_day=1096),
    Story(("anc", *PLATELETS), ("anc",), last_day=TO_THE_END),
    Story(BOTH, RED_CELLS, last_day=TO_THE_END),
    Story(BOTH, transfused="red cells", independent=True, last_day=TO_THE_END),
    Story(BOTH, transfused="platelets", independent=True, last_day=TO_THE_END),
    Story(BOTH, transfused="red cells"),
    Story(BOTH, transfused="platelets"),
    Story(BOTH, transfused="red cells"),
    *(Story(BOTH) for _ in range(4)),
    *(Story(("anc", *PLATELETS)) for _ in range(3)),
    Story(BOTH, last_day=28),
)
TRANSFUSION = {"red cells": "116863004", "platelets": "12719002"}


class Chart:
    """One synthetic patient's resources."""

    def __init__(self, number: int, story: Story, chance: random.Random) -> None:
        self.id = f"mAA-{number:02}"
        self.story = story
        self.chance = chance
        self.start = date(1999, 6, 1) + timedelta(days=47 * number)
        self.weight = chance.randint(48, 92)
        self.serial = 0

    def resources(self) -> Iterator[Json]:
        yield {
            "resourceType": "Patient",
            "id": self.id,
            "meta": {"tag": [{"system": ACT_REASON, "code": "HTEST", "display": SYNTHETIC}]},
            "gender": self.chance.choice(("male", "female")),
            "birthDate": str(date(1940, 1, 1) + timedelta(days=self.chance.randint(0, 12000))),
        }
        yield self.observation(-7, "29463-7", self.weight, "kg")
        visits = [-28, -1, 28, 91, 182, *range(273, self.story.last_day + 1, 91)]
        for day in (day for day in visits if day <= self.story.last_day):
            for name, (code, unit, digits) in LOINC.items():
                value = round(self.chance.uniform(*self.range_of(name, day)), digits)
                yield self.observation(day, code, value if digits else int(value), unit)
        for day in DOSE_DAYS:
            if day <= self.story.last_day:
                yield self.dose(day)
        yield from self.transfusions()

    def range_of(self, name: str, day: int) -> Range:
        if name not in self.story.low:
            return (NORMAL if self.story.complete else FAIR)[name]
        if day >= 91 and name in self.story.normalised:
            return NORMAL[name]
        return LOW[name]

    def named(self, kind: str) -> Json:
        self.serial += 1
        return {
            "resourceType": kind,
            "id": f"{self.id}-{self.serial}",
            "subject": {"reference": f"Patient/{self.id}"},
        }

    def day(self, day: int) -> str:
        return str(self.start + timedelta(days=day))

    def observation(self, day: int, code: str, value: float, unit: str) -> Json:
        quantity = {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        }
        return self.named("Observation") | {
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "effectiveDateTime": self.day(day),
            "valueQuantity": quantity,
        }

    def dose(self, day: int) -> Json:
        coding = {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "190353"}
        quantity = {"value": self.weight, "unit": "mg", "system": "http://unitsofmeasure.org"}
        return self.named("MedicationAdministration") | {
            "status": "completed",
            "medicationCodeableConcept": {"coding": [coding], "text": "daclizumab"},
            "effectiveDateTime": self.day(day),
            "dosage": {"dose": quantity | {"code": "mg"}},
        }

    def transfusions(self) -> Iterator[Json]:
        """Every 12 days where dependent; and a statement where nothing was given."""
        story = self.story
        if not story.transfused:
            yield self.procedure("116859006", "not-done", -90, story.last_day)
            return
        other = next(name for name in TRANSFUSION if name != story.transfused)
        yield self.procedure(TRANSFUSION[other], "not-done", -90, story.last_day)
        last = 20 if story.independent else story.last_day
        for day in range(-46, last, 12):
            yield self.procedure(TRANSFUSION[story.transfused], "completed", day)
        if story.independent:
            yield self.procedure(TRANSFUSION[story.transfused], "not-done", 25, story.last_day)

    def procedure(self, code: str, status: str, day: int, end: int | None = None) -> Json:
        when: Json = {"performedDateTime": self.day(day)}
        if end is not None:
            when = {"performedPeriod": {"start": self.day(day), "end": self.day(end)}}
        coding = {"system": "http://snomed.info/sct", "code": code}
        return self.named("Procedure") | {"status": status, "code": {"coding": [coding]}} | when


def bundle() -> Json:
    """The cohort, 17 patients."""
    chance = random.Random(SEED)
    charts = (Chart(number, story, chance) for number, story in enumerate(STORIES, start=1))
    entries = [
        {"fullUrl": f"https://example.org/fhir/{one['resourceType']}/{one['id']}", "resource": one}
        for chart in charts
        for one in chart.resources()
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def written() -> str:
    """The cohort as a file, a resource on each line."""
    lines = ",\n".join(json.dumps(entry) for entry in bundle()["entry"])
    return f'{{"resourceType": "Bundle", "type": "collection", "entry": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "bundle.json").write_text(written(), "utf-8")
