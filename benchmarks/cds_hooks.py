"""How long a CDS Hooks call takes when its data are prefetched: `python -m benchmarks.cds_hooks`.

The specification advises an answer within 500 ms. One worker is asked for eligibility and for
response with 40 Observations each, first as fast as it answers, then at half that rate.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import uuid

import httpx

from benchmarks import generate
from benchmarks.load import Load, measure, post

_SECONDS = 10


def requests(service: str, count: int = 50) -> list[bytes]:
    """Calls for patients of their own, every prefetch key sent."""
    found = []
    for seed in range(count):
        bundle = json.loads(generate.bundle(40, seed=seed))
        counts = [entry["resource"] for entry in bundle["entry"]]
        patient = counts[0]["subject"]["reference"]
        given = {
            "resourceType": "MedicationAdministration",
            "id": "dose",
            "status": "completed",
            "medicationCodeableConcept": {"text": "daclizumab"},
            "subject": {"reference": patient},
            "effectiveDateTime": counts[5]["effectiveDateTime"],
        }
        keys = ("patient", "platelets", "hemoglobin", "reticulocytes", "weight", "panels")
        call = {
            "hook": "patient-view",
            "hookInstance": str(uuid.UUID(int=seed)),
            "context": {"userId": "Practitioner/1", "patientId": patient.rpartition("/")[2]},
            "prefetch": {
                **dict.fromkeys((*keys, "transfusions")),
                "drugs": given,
                "neutrophils": {**bundle, "type": "searchset"},
            },
        }
        found.append(post(f"/cds-services/{service}", json.dumps(call).encode()))
    return found


def main() -> None:
    """Start the service, load it, and print the times of each service."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as served:
        try:
            _wait(port)
            for service in ("maa-eligibility", "maa-response"):
                calls = requests(service)
                measure(port, calls, 2)
                full = measure(port, calls, _SECONDS)
                _print(f"{service}, full load", full)
                _print(f"{service}, half load", measure(port, calls, _SECONDS, full.rate / 2))
        finally:
            served.terminate()


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            httpx.get(f"http://127.0.0.1:{port}/health/ready")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the service did not start")


def _print(name: str, load: Load) -> None:
    times = ", ".join(f"p{p} {load.percentile(p) * 1000:.1f} ms" for p in (50, 99))
    print(f"{name}: {load.rate:.0f} calls/s, {times}, {load.failures} failures")


if __name__ == "__main__":
    main()
