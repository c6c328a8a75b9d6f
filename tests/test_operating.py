"""The service as an operator runs it: real processes, started, asked, and stopped."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import FHIR_JSON, OPERATION, ROOT, SECONDS_TO_START, free_port, running

ELIGIBLE = (ROOT / "fixtures/anc-below-0-5/request.json").read_bytes()
UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app")
SERVE = (sys.executable, "-m", "app.cli", "serve")
SECONDS_TO_STOP = 20


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ((*UVICORN, "--workers", "2"), {}),
        ((*UVICORN, "--reload"), {}),
        (SERVE, {"WEB_CONCURRENCY": "2"}),
    ],
    ids=["uvicorn-workers", "uvicorn-reload", "serve"],
)
def test_it_starts_with_any_number_of_workers_answers_and_stops_when_told(
    command: tuple[str, ...], settings: dict[str, str], tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}"
    started = [*command, "--port", str(port)]
    with running(started, log, f"{url}/health/live", SECONDS_TO_START, settings) as process:
        headers = {"content-type": FHIR_JSON}
        answer = httpx.post(url + OPERATION, content=ELIGIBLE, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["resourceType"]) == (200, "Bundle")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_TO_STOP) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
