"""A process of its own that answers requests full of a mark, then looks for it in all it holds.

`python -m tests.remembered` prints the types that lead to each text with the mark, if there is any.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from app.main import create_app
from app.settings import Settings
from tests import shapes
from tests.conftest import FHIR_JSON, OPERATION

# Made here, so that no constant of this module has it.
MARK = "".join(("mar", "ked", "-text"))
HOOK = "/cds-services/maa-eligibility"
_NOT_TO_BE_HAD = httpx.MockTransport(lambda _: httpx.Response(503, text=MARK))


def _marked() -> dict[str, Any]:
    """A Bundle with the mark in every element that is read."""
    concept = {"coding": [{"system": shapes.LOINC, "code": "777-3", "display": MARK}], "text": MARK}
    own = {"coding": [{"system": f"urn:{MARK}", "code": MARK}], "text": f"platelets {MARK}"}
    text = shapes.result("777-3", 1)
    del text["valueQuantity"]
    results = [
        shapes.result("777-3", 20) | {"id": MARK, "code": concept},
        shapes.result("777-3", 20) | {"code": own},
        shapes.result("777-3", 20, valueQuantity={"value": 20, "unit": f"{MARK} 10*9/L"}),
        shapes.result("777-3", 20, when=f"2020-01-0{MARK}"),
        shapes.result(
            "777-3", 20, identifier=[{"system": MARK, "value": MARK}], status="corrected"
        ),
        shapes.result("777-3", 20, specimen={"reference": f"Specimen/{MARK}"}),
        shapes.result("777-3", 20, referenceRange=[{"text": MARK, "high": {"value": 400}}]),
        text | {"valueString": f"20 {MARK}"},
        {"resourceType": "Patient", "id": MARK, "identifier": [{"value": MARK}], "gender": MARK},
        shapes.transfusion(1, "2020-01-01") | {"id": MARK, "code": own},
        shapes.dose(1) | {"id": MARK},
        {
            "resourceType": "Condition",
            "id": MARK,
            "code": {"coding": [{"system": MARK, "code": MARK}], "text": f"leukemia {MARK}"},
            "clinicalStatus": {"coding": [{"code": "active"}]},
        },
        {
            "resourceType": "MedicationRequest",
            "id": MARK,
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": f"clozapine {MARK}"},
            "authoredOn": "2020-01-01",
        },
    ]
    for one in results:
        if one["resourceType"] != "Patient":
            one["subject"] = {"reference": f"https://{MARK}.example/fhir/Patient/{MARK}"}
    entries = [{"fullUrl": f"https://{MARK}/x/{i}", "resource": r} for i, r in enumerate(results)]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _call() -> dict[str, Any]:
    return {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": f"Practitioner/{MARK}", "patientId": MARK},
        "fhirServer": "http://localhost/fhir",
        "prefetch": {"patient": {"resourceType": "Patient", "id": MARK}},
    }


async def _ask(folder: Path) -> list[int]:
    settings = Settings(
        fhir_server="http://localhost:9/fhir",
        fhir_timeout_seconds=0.5,
        rate_limit="1000/second",
        audit=f"file://{folder}/audit.jsonl",
        audit_spool=folder,
    )
    app = create_app(settings)
    fhir = {"content-type": FHIR_JSON, "accept": f"*/*, x/{MARK}", "x-request-id": MARK}
    strict = fhir | {"prefer": f"handling=strict; {MARK}"}
    bundle = _marked()
    large = bundle | {"entry": bundle["entry"] * 200}
    unknown = {"resourceType": "Parameters", "parameter": [{"name": MARK, "valueString": MARK}]}
    found = []
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for address in (OPERATION, "/fhir/$assess-response"):
            for body in (bundle, large, unknown, [MARK], MARK):
                found.append(await client.post(address, headers=fhir, json=body))
        found.append(await client.post(OPERATION, headers=strict, json=bundle))
        found.append(await client.post(OPERATION, headers=fhir | {"content-type": f"x/{MARK}"}))
        found.append(await client.post(HOOK, json=_call()))
        found += [await client.get(f"/fhir/Patient/{MARK}/$assess-eligibility") for _ in range(7)]
        found.append(await client.get(f"/fhir/ValueSet/{MARK}?name={MARK}"))
        found.append(await client.get(f"/{MARK}"))
        # The client in this process splits addresses too: its last is none of a patient.
        found.append(await client.get("/health/live"))
    statuses = [one.status_code for one in found]
    app.state.evaluator.close()
    await app.state.delivery.aclose()
    _kept_alive.append(app)
    return statuses


_kept_alive: list[Any] = []


def _remembered() -> list[str]:
    """Every text with the mark that anything holds, by the types on the way to it."""
    gc.collect()
    waiting = [(one, type(one).__name__) for one in gc.get_objects()]
    seen = {id(one) for one, _ in waiting} | {id(MARK)}
    found = []
    for one, path in waiting:
        for held in gc.get_referents(one):
            if id(held) in seen or held is waiting:
                continue
            seen.add(id(held))
            if isinstance(held, (str, bytes, bytearray)):
                text = held if isinstance(held, str) else bytes(held).decode("latin-1")
                if MARK in text:
                    found.append(f"{path}: {text[:60]!r}")
            else:
                waiting.append((held, f"{path[-200:]} > {type(held).__name__}"))
    return found


if __name__ == "__main__":
    with TemporaryDirectory() as directory:
        asked = asyncio.run(_ask(Path(directory)))
        # What is to be remembered is on disk alone.
        on_disk = MARK.encode() in (Path(directory) / "audit.db").read_bytes()
    told = {"statuses": asked, "remembered": _remembered(), "audited": on_disk}
    sys.stdout.write(json.dumps(told))
