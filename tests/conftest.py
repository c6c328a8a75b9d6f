"""The service for the tests: as a process of its own, and in this process without a socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from hypothesis import HealthCheck, settings

from app.main import create_app
from tests.tools import require

settings.register_profile(
    "here",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("here")

ROOT = Path(__file__).resolve().parent.parent
FHIR_JSON = "application/fhir+json"
OPERATION = "/fhir/$assess-eligibility"
SECONDS_TO_START = 30
SECONDS_TO_DOWNLOAD_AND_START = 300


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@contextmanager
def running(
    command: list[str],
    log: Path,
    sign_of_life: str,
    seconds: int,
    settings: dict[str, str],
    folder: Path = ROOT,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own, from its first answer at `sign_of_life` on; none of it is left over."""
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment() | settings,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            give_up = time.monotonic() + seconds
            while not _answers(sign_of_life):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < give_up, f"It does not become ready.\n{log.read_text()}"
                time.sleep(0.05)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)


def environment() -> dict[str, str]:
    """What a process of its own inherits: neither our settings nor make's."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MAA_", "MAKE"))}


# The charts of the tests are of other years.
_OF_ANY_AGE = {"MAA_CDS_NEWEST_WITHIN_DAYS": "0"}


@contextmanager
def serving(log: Path, port: int = 0, /, **settings: str) -> Iterator[str]:
    """The address of the real service, started as its user starts it; stopped at the end."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    with running(command, log, f"{url}/health/live", SECONDS_TO_START, _OF_ANY_AGE | settings):
        yield url
    assert "Traceback" not in log.read_text()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the served process writes to its standard output and error."""
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="session")
def server(server_log: Path) -> Iterator[str]:
    """The address of the real service with its defaults."""
    with serving(server_log) as url:
        yield url


@pytest.fixture(scope="session")
def hapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a HAPI FHIR server, empty at first, started as the README says."""
    require("java", "javac", "make", "mvn")
    port = free_port()
    url = f"http://127.0.0.1:{port}/fhir"
    command = ["make", "hapi", f"HAPI_PORT={port}"]
    log = tmp_path_factory.mktemp("hapi") / "log"
    seconds = SECONDS_TO_DOWNLOAD_AND_START
    with running(command, log, f"{url}/Patient?_count=1", seconds, {}):
        yield url


@pytest.fixture(scope="session")
def server_behind_hapi(hapi: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the real service, which reads patients from HAPI."""
    with serving(tmp_path_factory.mktemp("server") / "log", MAA_FHIR_SERVER=hapi) as url:
        yield url


@pytest.fixture(scope="session")
def http(server: str) -> Iterator[httpx.Client]:
    """A client of the real service."""
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def outcome_of() -> Callable[[httpx.Response], dict[str, Any]]:
    """Reads an error: a valid OperationOutcome of FHIR R4, as FHIR JSON, with an error in it."""

    def read(response: httpx.Response) -> dict[str, Any]:
        assert response.headers["content-type"] == FHIR_JSON
        outcome: dict[str, Any] = response.json()
        OperationOutcome.model_validate(outcome)
        assert outcome["issue"][0]["severity"] == "error"
        assert outcome["issue"][0]["diagnostics"]
        return outcome

    return read


@pytest.fixture(scope="session")
def post(
    outcome_of: Callable[[httpx.Response], dict[str, Any]],
) -> Iterator[Callable[..., httpx.Response]]:
    """Posts to $assess-eligibility without a socket; no answer may be a 500, every error is FHIR.

    The body is bytes, or a value to write as JSON.
    """
    transport = httpx.ASGITransport(create_app(), raise_app_exceptions=False)
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=transport, base_url="http://test")

        def call(body: Any, query: Any = None) -> httpx.Response:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"content-type": FHIR_JSON}
            sent = client.post(OPERATION, content=content, params=query, headers=headers)
            response: httpx.Response = runner.run(_answer(sent))
            assert response.status_code in {200, 400, 422}, response.text[:500]
            if response.status_code != httpx.codes.OK:
                outcome_of(response)
            return response

        yield call
        runner.run(client.aclose())


async def _answer(sent: Any) -> httpx.Response:
    response: httpx.Response = await sent
    return response
