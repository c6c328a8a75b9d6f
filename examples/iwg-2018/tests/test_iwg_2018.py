"""The cases of this definition, asked of the service as it is installed beside the plug-in."""

from __future__ import annotations

import json
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from maa_assess.fhir.json import encode
from maa_assess.operations import assessed, written

START = date(2024, 1, 1)
LOINC = {"anc": "751-8", "platelets": "777-3", "hemoglobin": "718-7"}
CASES = tomllib.loads(Path(__file__).with_name("cases.toml").read_text("utf-8"))["case"]


def on(day: int) -> str:
    return (START + timedelta(days=day)).isoformat()


def resources(case: dict[str, Any]) -> list[dict[str, Any]]:
    subject = {"reference": "Patient/case"}
    found: list[dict[str, Any]] = []
    for key, counts in case.items():
        if key != "before" and not key.startswith("on_"):
            continue
        day = on(0 if key == "before" else int(key.removeprefix("on_")))
        for name, value in counts.items():
            unit = "g/dL" if name == "hemoglobin" else "10*9/L"
            quantity = {"value": value, "code": unit, "system": "http://unitsofmeasure.org"}
            found.append(
                {
                    "resourceType": "Observation",
                    "id": f"{name}{key.removeprefix('on')}".replace("_", "-"),
                    "status": "final",
                    "code": {"coding": [{"system": "http://loinc.org", "code": LOINC[name]}]},
                    "subject": subject,
                    "effectiveDateTime": day,
                    "valueQuantity": quantity,
                }
            )
    for day_after in case.get("red_cells", []):
        code = {"system": "http://snomed.info/sct", "code": "116863004"}
        found.append(
            {
                "resourceType": "Procedure",
                "id": f"red-cells{day_after}",
                "status": "completed",
                "code": {"coding": [code]},
                "subject": subject,
                "performedDateTime": on(day_after),
            }
        )
    return found


def as_json(case: dict[str, Any]) -> bytes:
    """A Bundle; values are numbers with the digits of the case."""
    entries = [{"resource": one} for one in resources(case)]
    text = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    for counts in (one for one in case.values() if isinstance(one, dict)):
        for value in counts.values():
            text = text.replace(f'"value": "{value}"', f'"value": {value}')
    return text.encode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["says"])
def test_the_case_is_as_it_says(case: dict[str, Any]) -> None:
    query = [
        ("criteria", "iwg-2018"),
        ("treatmentStart", on(0)),
        ("transfusionHistory", case.get("history", "complete")),
    ]
    judged = assessed("assess-response", as_json(case), query)
    (answer,) = judged.assessments
    parts = {
        part["code"]["coding"][0]["code"]: part["valueCodeableConcept"]["coding"][0]["code"]
        for entry in json.loads(encode(written(judged)))["entry"]
        for part in entry["resource"].get("component", [])
        if "valueCodeableConcept" in part
    }
    expected = case.get("is", {})
    got = {name: parts[name] for name in expected}
    assert (answer.verdict.value, got) == (case["verdict"], expected), answer.reason
