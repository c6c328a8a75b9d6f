"""A seeded Bulk Data export: patients in no order, clean or with every kind of mess in it.

python -m benchmarks.exports DIRECTORY --observations 1000000 [--messy]
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import IO, Any

from benchmarks.generate import ANALYTES, CHEMISTRY, NORMAL, entries_of

Json = dict[str, Any]
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"
_FILES = 3  # of Observations
_IN_NO_ORDER = 20
"""Patients of a hospital whose lines are mixed."""
_ONE_IN = 300


def export(
    folder: Path,
    observations: int,
    each: int = 40,
    seed: int = 2003,
    messy: bool = False,
    server: str = "",
    together: int = 25_000,
    hospital: bool = False,
) -> None:
    """Write an export of so many Observations, `each` a patient, and what belongs to them.

    The lines of so many patients `together` are in no order; all of them are in memory at once.
    `messy` spoils about one line in three, in every way known. `server` is the base URL that
    absolute references name, and that a manifest beside the files names. A `hospital` is no ward
    of hematology: one patient in 300 has low counts, 60% of the results are no blood counts, and
    the patients are mostly in order, as servers write them.
    """
    rng = random.Random(seed)  # noqa: S311 test data, no secret
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}

        def out(name: str) -> IO[bytes]:
            if name not in files:
                files[name] = stack.enter_context((folder / f"{name}.ndjson").open("wb"))
            return files[name]

        numbers = range(-(-observations // each))
        together = min(together, _IN_NO_ORDER) if hospital else together
        for first in range(0, len(numbers), together):
            lines = [
                line
                for number in numbers[first : first + together]
                for line in _lines(rng, number, each, messy, server, hospital)
            ]
            rng.shuffle(lines)
            for kind, line in lines:
                part = f".{rng.randrange(_FILES)}" if kind == "Observation" else ""
                out(kind + part).write(line)
        outputs = [{"type": n.split(".")[0], "url": f"{n}.ndjson"} for n in sorted(files)]
    manifest = {"transactionTime": "2024-06-01T00:00:00Z", "requiresAccessToken": False}
    request = {"request": f"{server}/$export"} if server else {}
    text = json.dumps(manifest | request | {"output": outputs, "error": []}, indent=1)
    (folder / "manifest.json").write_text(text)


def _lines(
    rng: random.Random, number: int, each: int, messy: bool, server: str, hospital: bool
) -> Iterator[tuple[str, bytes]]:
    analytes = ANALYTES
    if hospital:
        analytes = (ANALYTES[:4] if number % _ONE_IN == 0 else NORMAL) + CHEMISTRY  # type: ignore[assignment]
        each = rng.randrange(1, 2 * each)
    resources = [entry["resource"] for entry in entries_of(rng, number, each, analytes)]
    patient = resources[0]["subject"]["reference"].removeprefix("Patient/")
    resources += _beside(rng, patient, date.fromisoformat(resources[0]["effectiveDateTime"][:10]))
    for resource in resources:
        whole = [resource]
        if messy and rng.random() < 0.35:
            whole = rng.choice(SPOILT)(rng, resource, patient, server)
        for one in whole:
            line = json.dumps(one, separators=(",", ":")).encode()
            yield one.get("resourceType") or "Observation", line + b"\n"
    if messy and rng.random() < 0.2:
        for broken in rng.sample(BROKEN, 2):
            yield "Observation", broken + b"\n"


def _beside(rng: random.Random, patient: str, first: date) -> Iterator[Json]:
    """The patient, and from the first result on now and then a transfusion or a drug."""
    about = {"subject": {"reference": f"Patient/{patient}"}}
    if rng.random() < 0.95:
        yield {
            "resourceType": "Patient",
            "id": patient,
            "identifier": [{"system": "https://lab.example/mrn", "value": patient}],
            "name": [{"family": "Example", "given": ["Synthetic"]}],
            "gender": rng.choice(["male", "female"]),
            "birthDate": _after(rng, date(1960, 1, 1), 20_000).isoformat(),
        }
    hypertension = {"coding": [{"system": SNOMED, "code": "38341003"}]}
    yield {"resourceType": "Condition", "id": f"{patient}-c", "code": hypertension, **about}
    for index in range(rng.choice([0, 0, 0, 1, 6])):
        code = rng.choice(["71493000", "12719002", "116859006", "80146002"])
        yield {
            "resourceType": "Procedure",
            "id": f"{patient}-p{index}",
            "status": rng.choice(["completed", "completed", "not-done"]),
            "code": {"coding": [{"system": SNOMED, "code": code}]},
            "performedDateTime": _after(rng, first, 100).isoformat(),
            **about,
        }
    if rng.random() < 0.3:
        yield from _drug(rng, patient, about, _after(rng, first, 30))


def _drug(rng: random.Random, patient: str, about: Json, start: date) -> Iterator[Json]:
    name = rng.choice(["daclizumab", "daclizumab", "filgrastim", "paracetamol"])
    text: Json = {"medicationCodeableConcept": {"text": name}}
    if rng.random() < 0.3:
        text = {"medicationReference": {"reference": f"Medication/{name}"}}
        yield {"resourceType": "Medication", "id": name, "code": {"text": name}}
    for dose in range(5):
        yield {
            "resourceType": "MedicationAdministration",
            "id": f"{patient}-m{dose}",
            "status": "completed",
            "effectiveDateTime": (start + timedelta(days=14 * dose)).isoformat(),
            **text,
            **about,
        }


def _after(rng: random.Random, first: date, days: int) -> date:
    return first + timedelta(days=rng.randrange(days))


# What a line can be spoilt with: each gives the lines that stand in its place

Spoil = Callable[[random.Random, Json, str, str], list[Json]]


def _put(rng: random.Random, *choices: Json) -> Json:
    return json.loads(json.dumps(rng.choice(choices)))  # type: ignore[no-any-return]


def _unit(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    quantity = {**one.get("valueQuantity", {"value": 1})}
    value = quantity["value"]
    changed = _put(
        rng,
        {"value": value, "unit": "K/uL"},
        {"value": value, "unit": "10^3/mcL", "system": UCUM, "code": "10*3/uL"},
        {"value": round(value * 1000), "unit": "/uL", "system": UCUM, "code": "/uL"},
        {"value": value * 10, "unit": "g/L", "system": UCUM, "code": "g/L"},
        {"value": value, "unit": "mmol/L"},
        {"value": value},
        {"value": value, "unit": "furlongs"},
        {"value": value, "unit": "/uL", "system": UCUM, "code": "10*3/uL"},
    )
    return [one | {"valueQuantity": changed}]


def _value(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    unit = {"unit": "10*3/uL", "system": UCUM, "code": "10*3/uL"}
    spoilt = {k: v for k, v in one.items() if k != "valueQuantity"}
    return [
        spoilt
        | _put(
            rng,
            {},
            {"valueString": "< 0.5 10*3/uL"},
            {"valueString": "see comment"},
            {"valueQuantity": {"value": 0.5, "comparator": "<", **unit}},
            {"valueQuantity": {"value": 2, "comparator": "ad", **unit}},
            {"valueQuantity": {"value": "1.1", **unit}},
            {"valueQuantity": {"value": 1.2000001, **unit}},
            {"valueQuantity": {"value": -3, **unit}},
            {"valueQuantity": {"value": 1e30, **unit}},
            {"valueQuantity": {"value": 9, **unit}, "valueString": "9"},
            {"valueQuantity": "1.1 10*3/uL"},
            {"valueRange": {"low": {"value": 1, **unit}, "high": {"value": 3, **unit}}},
            {"dataAbsentReason": {"coding": [{"code": "unknown"}]}},
            {"valueQuantity": {"value": 1, **unit}, "dataAbsentReason": {"text": "?"}},
        )
    ]


def _date(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    spoilt = {k: v for k, v in one.items() if k != "effectiveDateTime"}
    day = one.get("effectiveDateTime", "2021-03-04")[:10]
    return [
        spoilt
        | _put(
            rng,
            {},
            {"issued": None},
            {"effectiveDateTime": day},
            {"effectiveDateTime": day[:7]},
            {"effectiveDateTime": day[:4]},
            {"effectiveDateTime": f"{day}T08:30"},
            {"effectiveDateTime": f"{day}T08:30:00.123456789Z"},
            {"effectiveDateTime": "yesterday"},
            {"effectiveDateTime": "2024-02-31"},
            {"effectivePeriod": {"start": day, "end": day}},
            {"effectivePeriod": {"start": "2024-01-01", "end": "2020-01-01"}},
            {"effectiveTiming": {"event": [day]}},
            {"effectiveInstant": f"{day}T08:30:00Z"},
        )
    ]


def _status(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    status = rng.choice(["entered-in-error", "preliminary", "cancelled", "banana", None])
    return [one | {"status": status}]


def _correction(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    value = {
        "value": 0.2,
        **{k: v for k, v in one.get("valueQuantity", {}).items() if k != "value"},
    }
    status = rng.choice(["corrected", "amended"])
    later = {"id": f"{one['id']}-x", "status": status, "valueQuantity": value}
    return [one, one | later]


def _again(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    meta = {"versionId": "2", "lastUpdated": "2024-05-05T00:00:00Z"}
    return [one, rng.choice([one, one | {"meta": meta}, one | {"meta": meta, "status": "final"}])]


def _subject(rng: random.Random, one: Json, patient: str, server: str) -> list[Json]:
    identifier = {"system": "https://lab.example/mrn", "value": patient}
    person = {"resourceType": "Patient", "id": "p", "identifier": [identifier]}
    base = server or "https://elsewhere.example/fhir"
    return [
        one
        | _put(
            rng,
            {"subject": {"identifier": identifier}},
            {"subject": {"identifier": {"value": f"unknown {patient[-1]}"}}},
            {"subject": {"reference": f"{base}/Patient/{patient}"}},
            {"subject": {"reference": f"Patient/{patient}/_history/3"}},
            {"subject": {"reference": f"urn:uuid:{patient}"}},
            {"subject": {"reference": f"Patient?identifier={identifier['system']}|{patient}"}},
            {"subject": {"reference": "#p"}, "contained": [person]},
            {"subject": {"reference": "#q"}, "contained": [person]},
            {"subject": {"reference": "Group/1"}},
            {"subject": {"display": "somebody"}},
            {"subject": None},
            {"subject": f"Patient/{patient}"},
        )
    ]


def _lent(rng: random.Random, one: Json, patient: str, server: str) -> list[Json]:
    """A report or a panel that lends its subject, its date, or both; not always the same one's."""
    spoilt = {k: v for k, v in one.items() if k not in {"subject", "effectiveDateTime", "issued"}}
    about = {"subject": {"reference": f"Patient/{patient}"}}
    if rng.random() < 0.1:
        about = {"subject": {"reference": "Patient/somebody-else"}}
    taken = {"effectiveDateTime": one.get("effectiveDateTime", "2021-03-04")}
    base = f"{server}/" if server and rng.random() < 0.5 else ""
    member = [{"reference": f"{base}{one['resourceType']}/{one['id']}"}]
    panel = {"coding": [{"system": LOINC, "code": "58410-2"}]}
    lender: Json = {"resourceType": "DiagnosticReport", "status": "final", "result": member}
    if rng.random() < 0.5:
        lender = {"resourceType": "Observation", "status": "final", "hasMember": member}
    lender |= {"id": f"{one['id']}-l", "code": panel, **about, **taken}
    kept = _put(rng, {}, {"subject": one.get("subject")}, taken)
    return [spoilt | kept, lender]


def _chain(_rng: random.Random, one: Json, patient: str, _server: str) -> list[Json]:
    """A report that lends to a panel that lends to a result."""
    spoilt = {k: v for k, v in one.items() if k not in {"subject", "effectiveDateTime", "issued"}}
    panel = {
        "resourceType": "Observation",
        "id": f"{one['id']}-panel",
        "status": "final",
        "hasMember": [{"reference": f"Observation/{one['id']}"}],
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": f"{one['id']}-report",
        "status": "final",
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2022-02-02",
        "result": [{"reference": f"Observation/{one['id']}-panel"}],
    }
    return [report, spoilt, panel]


def _contained(rng: random.Random, one: Json, patient: str, _server: str) -> list[Json]:
    """Results inside a report, their subject on either or on both."""
    about = {"subject": {"reference": f"Patient/{patient}"}}
    other = {"subject": {"reference": "Patient/somebody-else"}}
    result = {"reference": f"#{one['id']}"}
    report = {
        "resourceType": "DiagnosticReport",
        "id": f"{one['id']}-r",
        "status": rng.choice(["final", "final", "entered-in-error"]),
        "effectiveDateTime": "2023-01-05T08:00:00Z",
        "result": [result],
        "contained": [one, "no resource", {"resourceType": "Basic", "id": "b"}],
    }
    return [report | rng.choice([about, {}, {}, other])]


def _panel(_rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    parts = {key: one[key] for key in ("code", "valueQuantity") if key in one}
    rest = {key: value for key, value in one.items() if key not in parts}
    panel = {"coding": [{"system": LOINC, "code": "58410-2"}]}
    return [rest | {"code": panel, "component": [parts, {"code": {"text": "comment"}}]}]


def _code(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    quantity = {"value": 5, "unit": "mmol/L", "system": UCUM, "code": "mmol/L"}
    return [
        one
        | _put(
            rng,
            {"code": {"coding": [{"system": LOINC, "code": "2345-7", "display": "Glucose"}]},
             "valueQuantity": quantity},
            {"code": {"text": "Neutrophils"}},
            {"code": {"coding": [{"system": "urn:local", "code": "PLT"}], "text": "Platelets"}},
            {"code": {"coding": [{"system": LOINC, "code": "58410-2"}]}},
            {"code": {"coding": [{"system": LOINC, "code": "770-8"}]},
             "valueQuantity": {"value": 20, "unit": "%", "system": UCUM, "code": "%"}},
            {"code": {"coding": [{"system": LOINC, "code": "751-8"},
                                 {"system": LOINC, "code": "777-3"}]}},
            {"code": None},
            {"code": "751-8"},
        )
    ]  # fmt: skip


def _shape(rng: random.Random, one: Json, _patient: str, _server: str) -> list[Json]:
    return [
        one
        | _put(
            rng,
            {"modifierExtension": [{"url": "urn:x", "valueBoolean": True}]},
            {"implicitRules": "urn:rules"},
            {"id": None},
            {"id": 7},
            {"status": 7},
            {"contained": {}},
            {"meta": []},
            {"identifier": [{"value": "shared"}], "status": "corrected"},
            {"specimen": {"reference": "Specimen/1"}},
            {"note": [{"text": '1,2\n"3" \u00b5 \U0001f9ea'}]},
            {"resourceType": "Basic"},
            {"resourceType": None},
            {"resourceType": "Bundle", "entry": []},
        )
    ]


SPOILT: tuple[Spoil, ...] = (
    _unit,
    _value,
    _date,
    _status,
    _correction,
    _again,
    _subject,
    _lent,
    _chain,
    _contained,
    _panel,
    _code,
    _shape,
)
BROKEN = (
    b"",
    b"   ",
    b"{",
    b"null",
    b"[]",
    b"7",
    b'"Observation"',
    b'{"resourceType":"Observation","id":"cut","status":"fin',
    b'{"resourceType":"Observation","id":"\xff\xfe","status":"final"}',
    b'{"resourceType":"Observation","id":"nul\x00","status":"final"}',
    b'{"resourceType":"Observation","status":"final"}{"resourceType":"Observation"}',
    b'{"resourceType":"Observation","contained":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b"<Observation xmlns='http://hl7.org/fhir'/>",
)


def main() -> None:
    """Write an export, as the command line says."""
    parser = argparse.ArgumentParser(description="Write a seeded synthetic Bulk Data export.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--observations", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2003)
    parser.add_argument("--server", default="")
    parser.add_argument("--messy", action="store_true")
    parser.add_argument("--hospital", action="store_true")
    parser.add_argument("--together", type=int, default=25_000)
    options = parser.parse_args()
    export(**vars(options))


if __name__ == "__main__":
    main()
