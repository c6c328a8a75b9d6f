"""What breaks around the service, not what is sent to it: processes, disks, clocks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app import operations
from app.access import keys
from app.fhir.json import encode
from tests import shapes
from tests.conftest import FHIR_JSON, OPERATION, ROOT, environment, free_port, serving

HEADERS = {"content-type": FHIR_JSON}


def _children(process: int) -> list[int]:
    return [
        int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


def _service(url: str) -> int:
    """The process that listens there."""
    port = f"--port\0{url.rpartition(':')[2]}"
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and port in (entry / "cmdline").read_text():
                return int(entry.name)
    raise AssertionError("It is not there.")


def test_processes_killed_under_load_cost_a_retry_and_no_verdict(tmp_path: Path) -> None:
    """Each body is too large to be judged on the spot; every process is killed again and again."""
    body = shapes.patients(1000)
    expected = encode(operations.eligibility(body))
    seen: Counter[int] = Counter()

    async def ask(client: httpx.AsyncClient) -> None:
        for _ in range(5):
            answer = await client.post(OPERATION, content=body, headers=HEADERS)
            seen[answer.status_code] += 1
            if answer.status_code == 200:
                assert answer.content == expected
            else:
                assert answer.status_code == 503
                assert answer.headers["retry-after"]

    async def kill(process: int) -> None:
        while True:
            for child in _children(process):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            await asyncio.sleep(0.3)

    async def both(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            killing = asyncio.ensure_future(kill(_service(url)))
            await asyncio.gather(*(ask(client) for _ in range(6)))
            killing.cancel()
            answer = await client.post(OPERATION, content=body, headers=HEADERS)
            assert answer.content == expected

    with serving(tmp_path / "log") as url:
        asyncio.run(both(url))
    assert sum(seen.values()) == 30
    assert seen[503] > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Only Linux has a disk always full.")
def test_a_full_disk_under_the_log_costs_no_answer() -> None:
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    story = ROOT / "fixtures" / "hemoglobin-low-reticulocytes-missing"
    no_age = {"MAA_CDS_NEWEST_WITHIN_DAYS": "0"}
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen(command, cwd=ROOT, env=environment() | no_age, stderr=full) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=8)
        ) as client,
    ):
        try:
            assert client.get("/health/live").status_code == 200
            body = (story / "request.json").read_bytes()
            answer = client.post(OPERATION, content=body, headers=HEADERS)
            assert answer.json() == json.loads((story / "response.json").read_bytes())
            call = (story / "patient-view.json").read_bytes()
            hook = client.post("/cds-services/maa-eligibility", content=call, headers=HEADERS)
            assert len(hook.json()["cards"]) == 1
        finally:
            process.terminate()


def test_a_clock_that_is_set_back_keeps_no_key_set_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = {"kty": "EC", "kid": "1"}
    fetched = 0
    now = 1_000_000.0

    async def fetch(_: str) -> bytes:
        nonlocal fetched
        fetched += 1
        return json.dumps({"keys": [key]}).encode()

    async def address() -> str:
        return "https://issuer.example.org/jwks"

    monkeypatch.setattr(keys, "fetch", fetch)
    known = keys.KeySet(address, lambda: now)
    asyncio.run(known.found("1"))
    now -= 86_400
    asyncio.run(known.found("1"))
    assert fetched == 2
    asyncio.run(known.found("1"))
    assert fetched == 2
