"""A newcomer's path, from a clone to the first verdict: how long it takes is told, not judged."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx

from tests.conftest import FHIR_JSON, OPERATION, free_port, running
from tests.container.conftest import Image
from tests.container.engine import ROOT
from tests.tools import require

SECONDS = 480
STORY = "fixtures/hemoglobin-low-reticulocytes-missing/request.json"


def first_verdict(url: str, folder: Path) -> str:
    """What README's first example says."""
    body = (folder / STORY).read_bytes()
    answer = httpx.post(f"{url}{OPERATION}", content=body, headers={"content-type": FHIR_JSON})
    verdict: str = answer.json()["entry"][0]["resource"]["valueCodeableConcept"]["coding"][0][
        "code"
    ]
    return verdict


def test_with_python_and_make(tmp_path: Path, told: list[str]) -> None:
    require("git", "make")
    start, clone, port = time.monotonic(), tmp_path / "clone", free_port()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True, timeout=SECONDS)
    url = f"http://127.0.0.1:{port}"
    command = ["make", "run", f"PORT={port}"]
    with running(command, tmp_path / "log", f"{url}/health/live", SECONDS, {}, clone):
        assert first_verdict(url, clone) == "indeterminate"
        told.append(f"from clone to first verdict with make run: {time.monotonic() - start:.0f} s")


def test_with_a_container(image: Image, told: list[str]) -> None:
    start = time.monotonic()
    with image.engine.running(image.name) as container:
        assert first_verdict(container.url, ROOT) == "indeterminate"
        seconds = time.monotonic() - start
    told.append(f"with a container: {image.seconds:.0f} s to build, {seconds:.1f} s to a verdict")
