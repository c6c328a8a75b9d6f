"""Calls as a CDS client makes them, and what their answers must look like."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
from jsonschema import Draft202012Validator

from app.fhir.codes import ANALYTE_LOINC

Json = dict[str, Any]
HERE = Path(__file__).parent
ELIGIBILITY = "/cds-services/maa-eligibility"
RESPONSE = "/cds-services/maa-response"
HOOK_INSTANCE = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
KEYS = (
    "patient",
    "neutrophils",
    "platelets",
    "hemoglobin",
    "reticulocytes",
    "panels",
    "transfusions",
    "drugs",
    "conditions",
    "medications",
)
NEEDED = tuple(key for key in KEYS if key not in {"conditions", "medications"})
"""Those without which there is no answer."""
ANC, PLATELETS, HEMOGLOBIN, RETICULOCYTES = "751-8", "777-3", "718-7", "60474-4"
_KEY_OF_NAME = {
    "PLATELETS": "platelets",
    "HEMOGLOBIN": "hemoglobin",
    "RETICULOCYTES": "reticulocytes",
    "RETICULOCYTE_PERCENT": "reticulocytes",
    "ERYTHROCYTES": "reticulocytes",
    "BODY_WEIGHT": "weight",
}
_KEY_OF_LOINC = {
    row.code: _KEY_OF_NAME.get(row.analyte.name, "neutrophils") for row in ANALYTE_LOINC
}
_SCHEMAS = {
    name: Draft202012Validator(json.loads((HERE / f"{name}.schema.json").read_text("utf-8")))
    for name in ("discovery", "request", "response", "feedback")
}


def require_valid(name: str, value: Any) -> None:
    """Fails with every fault where a value does not fit the schema of that name."""
    errors = [f"{e.json_path}: {e.message[:200]}" for e in _SCHEMAS[name].iter_errors(value)]
    assert not errors, errors


def result(
    code: str, value: Any, day: str = "2024-03-05", unit: str = "10*9/L", patient: str = "p1"
) -> Json:
    """One laboratory result; hemoglobin is in g/dL."""
    unit = "g/dL" if code == HEMOGLOBIN else unit
    return {
        "resourceType": "Observation",
        "id": f"{code}-{day[:10]}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": day,
        "valueQuantity": {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def daclizumab(day: str, patient: str = "p1") -> Json:
    """One dose."""
    code = {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "190353"}
    return {
        "resourceType": "MedicationAdministration",
        "id": f"daclizumab-{day}",
        "status": "completed",
        "medicationCodeableConcept": {"coding": [code]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": day,
    }


def searchset(*resources: Json, next_page: str = "") -> Json:
    """Resources as a search finds them."""
    bundle: Json = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": one, "search": {"mode": "match"}} for one in resources],
    }
    if next_page:
        bundle["link"] = [{"relation": "next", "url": next_page}]
    return bundle


def key_of(resource: Json) -> str:
    """The prefetch key whose search finds the resource."""
    kind = resource["resourceType"]
    if kind != "Observation":
        keys = {
            "Patient": "patient",
            "Procedure": "transfusions",
            "Condition": "conditions",
            "MedicationRequest": "medications",
        }
        return keys.get(kind, "drugs" if kind.startswith("Medication") else "panels")
    codings = resource.get("code", {}).get("coding", [])
    return next((k for c in codings if (k := _KEY_OF_LOINC.get(c.get("code")))), "panels")


def call(*resources: Json, patient: str = "p1", weight: bool = False, **more: Any) -> Json:
    """A call of patient-view whose every key is filled: with what is given, else with null."""
    prefetch: Json = dict.fromkeys((*KEYS, "weight") if weight else KEYS)
    for one in resources:
        key = key_of(one)
        if key == "patient":
            prefetch[key] = one
        elif key in prefetch:
            prefetch[key] = prefetch[key] or searchset()
            prefetch[key]["entry"].append({"resource": one, "search": {"mode": "match"}})
    return {
        "hook": "patient-view",
        "hookInstance": HOOK_INSTANCE,
        "context": {"userId": "Practitioner/example", "patientId": patient},
        "prefetch": prefetch,
    } | more


def without(sent: Json, *path: str) -> Json:
    """The call with one element missing."""
    changed = copy.deepcopy(sent)
    place = changed
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return changed


ELIGIBLE = call(result(ANC, 0.9), result(PLATELETS, 41), result(HEMOGLOBIN, 9.4))
OPEN = call(result(ANC, 0.9), result(PLATELETS, 150), result(HEMOGLOBIN, 8.2))


class Caller(Protocol):
    """A client of the service, whether over a socket or not."""

    def post(self, url: str, *, json: Any) -> httpx.Response:
        """The answer to JSON."""


def cards_of(http: Caller, sent: Json, address: str = ELIGIBILITY) -> list[Json]:
    """The cards that a call is answered, after every check that holds of every answer."""
    require_valid("request", sent)
    answer = http.post(address, json=sent)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: Json = answer.json()
    require_valid("response", body)
    assert not list(empties(body, "$")), "Nothing may be null or empty but the list of cards."
    assert http.post(address, json=sent).content == answer.content
    cards: list[Json] = body["cards"]
    assert len(cards) <= 1
    return cards


def empties(value: Any, path: str) -> Iterator[str]:
    """The places of nulls and of empty strings, arrays and objects."""
    if value in (None, "", [], {}) and path != "$.cards":
        yield path
    inner: Iterable[tuple[Any, Any]] = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        yield from empties(one, f"{path}.{key}")
