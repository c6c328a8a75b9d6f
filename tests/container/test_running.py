"""The image, run as nobody, with nothing to write to: one worker in 256 MiB, four in 384."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import FHIR_JSON, OPERATION
from tests.container.conftest import Image
from tests.container.engine import ROOT, Container

STORY = ROOT / "fixtures" / "three-patients"
REQUEST = (STORY / "request.json").read_bytes()
CONFINEMENT = """
import os, pathlib
told = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
open_to_us = []
for folder, folders, files in os.walk('/'):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in ('/proc', '/sys', '/dev')]
    if os.access(folder, os.W_OK):
        open_to_us.append(folder)
print(os.getuid(), os.getgid(), told['CapEff'].strip(), told['NoNewPrivs'].strip(), open_to_us)
"""


def assess(container: Container) -> httpx.Response:
    """The answer to the story."""
    headers = {"content-type": FHIR_JSON}
    return httpx.post(f"{container.url}{OPERATION}", content=REQUEST, headers=headers, timeout=30)


def test_it_needs_no_rights_and_nothing_to_write_to(container: Container) -> None:
    assert container.python(CONFINEMENT) == "10001 10001 0000000000000000 1 []\n"
    assert assess(container).json() == json.loads((STORY / "response.json").read_text())


def test_its_health_check_knows_life_from_death(container: Container) -> None:
    container.engine.podman("healthcheck", "run", container.name)
    check = json.loads(
        container.engine.podman(
            "inspect", container.name, "--format", "{{json .Config.Healthcheck}}"
        )
    )["Test"]
    assert check[:2] == ["CMD", "python"]
    elsewhere = check[3].replace(":8000", ":8001")
    with pytest.raises(AssertionError, match="refused"):
        container.python(elsewhere)


def test_what_it_uses_idle(container: Container, told: list[str]) -> None:
    used = container.engine.podman(
        "stats", "--no-stream", "--format", "{{.MemUsage}}", container.name
    )
    told.append(f"idle memory of one worker: {used.strip()}")
    assert used


def test_four_workers_answer_in_384_mib(image: Image, told: list[str]) -> None:
    with image.engine.running(image.name, mebibytes=384, WEB_CONCURRENCY="4") as container:
        container.until_logged("Application startup complete", 4)
        used = image.engine.podman(
            "stats", "--no-stream", "--format", "{{.MemUsage}}", container.name
        )
        told.append(f"idle memory of four workers: {used.strip()}")
        expected = json.loads((STORY / "response.json").read_text())
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: assess(container).json(), range(64)))
        assert all(answer == expected for answer in answers)
        assert container.logs().count("Started server process") == 4, "None had to be replaced."


def upload(container: Container, sent: int) -> socket.socket:
    """A request of which only so many bytes of the body were sent."""
    connection = socket.create_connection(("127.0.0.1", container.port), timeout=30)
    connection.sendall(
        f"POST {OPERATION} HTTP/1.1\r\nHost: maa\r\nContent-Type: {FHIR_JSON}\r\n"
        f"Content-Length: {len(REQUEST)}\r\nConnection: close\r\n\r\n".encode()
        + REQUEST[:sent]
    )
    return connection


def rest_of(connection: socket.socket) -> bytes:
    """All that still comes."""
    received = b""
    while more := connection.recv(1 << 16):
        received += more
    return received


@pytest.mark.parametrize(("workers", "mebibytes"), [(1, 256), (4, 384)])
def test_told_to_stop_it_answers_what_it_began_and_cuts_what_stalls(
    image: Image, workers: int, mebibytes: int
) -> None:
    settings = {"WEB_CONCURRENCY": str(workers), "MAA_GRACEFUL_SHUTDOWN_SECONDS": "4"}
    with image.engine.running(image.name, mebibytes, **settings) as container:
        container.until_logged("Application startup complete", workers)
        with upload(container, 100) as stalled, upload(container, len(REQUEST) - 1) as slow:
            assert assess(container).is_success
            container.engine.podman("kill", "--signal=TERM", container.name)
            container.until_logged("Shutting down", workers)
            slow.sendall(REQUEST[-1:])
            head, _, body = rest_of(slow).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert json.loads(body) == json.loads((STORY / "response.json").read_text())
            assert container.engine.podman("wait", container.name, seconds=60).strip() == "0"
            assert b" 200 " not in rest_of(stalled)


def test_four_hostile_neighbours_do_not_end_it(image: Image, told: list[str]) -> None:
    observation = json.loads(REQUEST)["entry"][0]
    body = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": []})[:-2].encode()
    each = json.dumps(observation).encode()
    body += b",".join([each] * (15_800_000 // len(each))) + b"]}"
    with image.engine.running(image.name) as container:

        def send(_: int) -> int:
            headers = {"content-type": FHIR_JSON}
            url = f"{container.url}{OPERATION}"
            return httpx.post(url, content=body, headers=headers, timeout=120).status_code

        with ThreadPoolExecutor(4) as threads:
            statuses = list(threads.map(send, range(4)))
        told.append(f"four bodies of 15.8 MB at once in 256 MiB: {statuses}")
        assert set(statuses) <= {200, 413, 503}, container.logs()
        assert assess(container).is_success
        state = container.state()
        assert (state["Running"], state["OOMKilled"]) == (True, False)
