"""FHIR clients that others wrote call both operations, with the data and by the patient's id."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirpy import AsyncFHIRClient, SyncFHIRClient

from tests.test_fixtures import told
from tests.tools import require

Json = dict[str, Any]
# The service's base, the operation, and either the data or the patient's reference.
Call = Callable[[str, str, Json | str], Json]

TESTS = Path(__file__).parent
FIXTURES = TESTS.parent / "fixtures"
ELIGIBILITY: Json = json.loads((FIXTURES / "three-patients/request.json").read_bytes())
RESPONSE: Json = json.loads((FIXTURES / "daclizumab-2003/bundle.json").read_bytes())
VERDICTS = {
    "$assess-eligibility": {
        "Patient/moderate": "eligible",
        "Patient/unfinished": "indeterminate",
        "Patient/healthy": "not-eligible",
    },
    # As the abstract has them: 2 complete, 4 in one lineage, 10 without, 1 not evaluable.
    "$assess-response": {
        **{f"Patient/mAA-{number:02}": "complete-response" for number in (1, 2)},
        **{f"Patient/mAA-{number:02}": "response" for number in range(3, 7)},
        **{f"Patient/mAA-{number:02}": "no-response" for number in range(7, 17)},
        "Patient/mAA-17": "not-evaluable",
    },
}


def fhirpy_sync(base: str, operation: str, what: Json | str) -> Json:
    client = SyncFHIRClient(base)
    if isinstance(what, str):
        answer = client.reference(reference=what).execute(operation, method="get")
    else:
        answer = client.execute(operation, data=what)
    return dict(answer)


def fhirpy_async(base: str, operation: str, what: Json | str) -> Json:
    client = AsyncFHIRClient(base)
    if isinstance(what, str):
        call = client.reference(reference=what).execute(operation, method="get")
    else:
        call = client.execute(operation, data=what)
    return dict(asyncio.run(call))


def fhirclient(base: str, operation: str, what: Json | str) -> Json:
    """Reads /fhir/metadata first, and the answer as its own strict models of R4."""
    client = FHIRClient(settings={"app_id": "maa-assess-tests", "api_base": base})
    assert client.prepare()
    if isinstance(what, str):
        answer = client.server.request_json(f"{what}/{operation}")
    else:
        answer = client.server.post_json(operation, Bundle(what).as_json()).json()
    read: Json = Bundle(answer).as_json()
    return read


def fhir_kit_client(base: str, operation: str, what: Json | str) -> Json:
    require("node", "npm")
    folder = TESTS / "clients"
    lock, installed = folder / "package-lock.json", folder / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(install, cwd=folder, check=True, timeout=120)
    patient, body = ([what], "") if isinstance(what, str) else ([], json.dumps(what))
    command = ["node", "assess.js", base, operation, *patient]
    answer: Json = json.loads(
        subprocess.check_output(command, cwd=folder, input=body, text=True, timeout=60)
    )
    return answer


every_client = pytest.mark.parametrize(
    "call", [fhirpy_sync, fhirpy_async, fhirclient, fhir_kit_client], ids=lambda call: call.__name__
)
both_operations = pytest.mark.parametrize(
    ("operation", "data"), [("$assess-eligibility", ELIGIBILITY), ("$assess-response", RESPONSE)]
)


@pytest.fixture(scope="module")
def behind(hapi: str, server_behind_hapi: str) -> str:
    """The service before a HAPI that holds the patients."""
    for data in (ELIGIBILITY, RESPONSE):
        resources = [entry["resource"] for entry in data["entry"]]
        resources += [{"resourceType": "Patient", "id": name} for name in ("moderate", "healthy")]
        entries = [
            {
                "resource": resource,
                "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
            }
            for resource in resources
        ]
        body = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        stored = httpx.post(hapi, json=body, timeout=60)
        assert stored.status_code == httpx.codes.OK, stored.text
    return server_behind_hapi


@every_client
@both_operations
def test_a_client_sends_the_data_and_reads_the_verdicts(
    call: Call, operation: str, data: Json, server: str
) -> None:
    answer = call(f"{server}/fhir", operation, data)
    assert {row["patient"]: row["verdict"] for row in told(answer)} == VERDICTS[operation]


@every_client
@pytest.mark.parametrize(
    ("operation", "patient"),
    [
        ("$assess-eligibility", "Patient/moderate"),
        ("$assess-eligibility", "Patient/healthy"),
        ("$assess-response", "Patient/mAA-01"),
        ("$assess-response", "Patient/mAA-17"),
    ],
)
def test_a_client_names_the_patient_and_reads_the_verdict(
    call: Call, operation: str, patient: str, behind: str
) -> None:
    (row,) = told(call(f"{behind}/fhir", operation, patient))
    assert row["patient"] == patient
    assert row["verdict"] == VERDICTS[operation][patient]
