"""The service as an operator runs it: real processes, started, asked, and stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import FHIR_JSON, OPERATION, ROOT, SECONDS_TO_START, free_port, running

ELIGIBLE = (ROOT / "fixtures/anc-below-0-5/request.json").read_bytes()
UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker"),
    *("--no-control-socket", "--bind", "127.0.0.1:{port}", "app.main:create_app()"),
)
GRANIAN = (
    *(sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "app.main:create_app"),
    *("--host", "127.0.0.1", "--port", "{port}"),
)
SERVE = (sys.executable, "-m", "app.cli", "serve")
SECONDS_TO_STOP = 20


@contextmanager
def started(
    command: tuple[str, ...], log: Path, **settings: str
) -> Iterator[tuple[str, Popen[bytes]]]:
    """The address and the process of a service."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if "--port" not in command and "--bind" not in command:
        command = (*command, "--port", "{port}")
    filled = [word.replace("{port}", str(port)) for word in command]
    with running(filled, log, f"{url}/health/live", SECONDS_TO_START, settings) as process:
        yield url, process


def ask(url: str) -> httpx.Response:
    headers = {"content-type": FHIR_JSON}
    return httpx.post(url + OPERATION, content=ELIGIBLE, headers=headers, timeout=30)


def metrics(url: str) -> dict[str, float]:
    """The metrics' values, by name and labels as they are written."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ((*UVICORN, "--workers", "2"), {}),
        ((*UVICORN, "--reload"), {}),
        ((*GUNICORN, "--workers", "2"), {}),
        ((*GRANIAN, "--workers", "2"), {}),
        (SERVE, {"WEB_CONCURRENCY": "2"}),
    ],
    ids=["uvicorn-workers", "uvicorn-reload", "gunicorn", "granian", "serve"],
)
def test_it_starts_with_any_number_of_workers_answers_and_stops_when_told(
    command: tuple[str, ...], settings: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with started(command, log, **settings) as (url, process):
        answer = ask(url)
        assert (answer.status_code, answer.json()["resourceType"]) == (200, "Bundle")
        # granian waits for ever for a worker that it stops while it starts.
        give_up = time.monotonic() + SECONDS_TO_START
        while "granian" in command and log.read_text().count("Started worker") < 2:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_TO_STOP) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def shared_directories() -> set[Path]:
    return set(Path("/dev/shm").glob("maa-assess-*"))


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "uvicorn"])
def test_the_metrics_of_several_workers_add_up(by_hand: bool, tmp_path: Path) -> None:
    before, shared = shared_directories(), {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = UVICORN if by_hand else SERVE
    with started((*command, "--workers", "2"), tmp_path / "log", **(shared if by_hand else {})) as (
        url,
        process,
    ):
        for _ in range(40):  # on connections of their own: both workers get some
            assert ask(url).status_code == 200
        labels = [("method", "POST"), ("route", OPERATION), ("status", "200")]
        while metrics(url)[f"maa_requests_total{labels}"] < 40:
            time.sleep(0.01)  # the last answer is counted once it is sent
        told = [metrics(url) for _ in range(10)]
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS_TO_STOP)
    labels = [("method", "POST"), ("route", OPERATION), ("status", "200")]
    assert {one[f"maa_requests_total{labels}"] for one in told} == {40}
    labels = [
        ("definition", "nih-daclizumab-2003"),
        ("operation", "eligibility"),
        ("verdict", "eligible"),
    ]
    assert {one[f"maa_verdicts_total{labels}"] for one in told} == {40}
    assert {one["maa_requests_in_flight[]"] for one in told} == {1}, "the one that asks"
    assert told[-1]["maa_workers[]"] == 2
    assert told[-1]["process_resident_memory_bytes[]"] > 50e6, "of two processes"
    assert shared_directories() == before, "nothing is left behind"


def test_a_worker_that_was_killed_is_replaced_and_no_longer_counted(tmp_path: Path) -> None:
    with started((*SERVE, "--workers", "2"), tmp_path / "log") as (url, _):
        labels = [("method", "POST"), ("route", OPERATION), ("status", "200")]
        for _ in range(20):
            ask(url)
        while metrics(url)[f"maa_requests_total{labels}"] < 20:
            time.sleep(0.01)  # the last answer is counted once it is sent
        said = re.search(r"Started server process \[(\d+)\]", (tmp_path / "log").read_text())
        assert said
        os.kill(int(said[1]), signal.SIGKILL)
        give_up = time.monotonic() + SECONDS_TO_START
        while (tmp_path / "log").read_text().count("Application startup complete") < 3:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        for _ in range(20):
            ask(url)
        while metrics(url)[f"maa_requests_total{labels}"] < 40:
            time.sleep(0.01)
        assert metrics(url)["maa_workers[]"] == 2


@contextmanager
def begun(url: str) -> Iterator[socket.socket]:
    """A request whose body has begun to come."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 0), SECONDS_TO_STOP) as sent:
        head = (
            f"POST {OPERATION} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FHIR_JSON}\r\n"
            f"Content-Length: {len(ELIGIBLE)}\r\n\r\n"
        )
        sent.sendall(head.encode() + ELIGIBLE[:100])
        yield sent


@pytest.mark.parametrize("workers", ["1", "2"])
def test_told_to_stop_it_answers_what_it_has_begun_and_cuts_what_stalls(
    workers: str, tmp_path: Path
) -> None:
    command, log = (*SERVE, "--workers", workers), tmp_path / "log"
    with (
        started(command, log, MAA_GRACEFUL_SHUTDOWN_SECONDS="3") as (url, process),
        begun(url) as stalled,
        begun(url) as slow,
    ):
        while metrics(url)["maa_requests_in_flight[]"] < 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        while "Shutting down" not in log.read_text():
            time.sleep(0.01)
        slow.sendall(ELIGIBLE[100:])
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert process.wait(3 + SECONDS_TO_STOP) == 0, log.read_text()
        cut = b"".join(iter(lambda: stalled.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"GuidanceResponse"' in answer
    assert cut.startswith(b"HTTP/1.1 503")
    assert b'"OperationOutcome"' in cut
    assert "Traceback" not in log.read_text()


def test_every_line_of_the_log_is_json_with_time_and_level(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(SERVE, log) as (url, _):
        ask(url)
        httpx.get(f"{url}/nowhere/Secret-Patient?name=Secret-Patient")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"time", "level", "message"} <= set.intersection(*(set(line) for line in lines))
    assert [line["route"] for line in lines if line["message"] == "request"] == [
        OPERATION,
        "unknown",
    ]
    assert "Secret-Patient" not in log.read_text()


@pytest.mark.parametrize(
    ("level", "requests", "probes"),
    [("debug", True, True), ("info", True, False), ("warning", False, False)],
)
def test_the_level_says_what_is_logged(
    level: str, requests: bool, probes: bool, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with started(SERVE, log, MAA_LOG_LEVEL=level, MAA_LOG_FORMAT="text") as (url, _):
        ask(url)
    assert (f"route={OPERATION} status=200" in log.read_text()) is requests
    assert ("route=/health/live status=200" in log.read_text()) is probes


def test_uvicorn_by_hand_does_not_log_paths_either(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(UVICORN, log) as (url, _):
        httpx.get(f"{url}/fhir/Patient/Secret-Patient/$assess-eligibility")
    assert '"route":"/fhir/Patient/{id}/$assess-eligibility"' in log.read_text()
    assert "Secret-Patient" not in log.read_text()


def test_not_even_at_debug_does_the_log_repeat_what_is_sent(tmp_path: Path) -> None:
    log, marked = tmp_path / "log", "Marked-Patient"
    body = ELIGIBLE.replace(b"Patient/", b"Patient/Marked-Patient-")
    headers = {"content-type": FHIR_JSON, "x-forwarded-for": marked, "cookie": marked}
    cut = {"resourceType": "Bundle", "type": "collection", "entry": marked}
    with started(SERVE, log, MAA_LOG_LEVEL="debug") as (url, _):
        for query in ("", f"?subject=Patient/{marked}", f"?asOf={marked}", f"?{marked}=1"):
            httpx.post(url + OPERATION + query, content=body, headers=headers, timeout=30)
        httpx.post(url + OPERATION, content=body[:-9], headers=headers)
        httpx.post(url + OPERATION, json=cut)
        httpx.post(f"{url}/cds-services/maa-eligibility", json={"hook": marked})
        httpx.post(f"{url}/cds-services/{marked}", json={"hook": marked})
        httpx.get(f"{url}/fhir/Patient/{marked}/$assess-response")
        httpx.get(f"{url}/fhir/ValueSet/{marked}")
        scraped = httpx.get(f"{url}/metrics").text
    assert log.read_text().count('"message":"request"') >= 10
    assert marked not in log.read_text() + scraped


def test_whoever_listens_beyond_loopback_is_told_at_each_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started((*SERVE, "--host", "0.0.0.0"), log, MAA_INSECURE="true"):
        pass
    warnings = [line for line in log.read_text().splitlines() if '"level":"warning"' in line]
    assert len(warnings) == 1
    assert "there is no login" in warnings[0]
