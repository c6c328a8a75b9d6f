"""The image of this checkout, built once for all tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.container.engine import Container, Engine
from tests.tools import require, require_root


@dataclass(frozen=True)
class Image:
    """What was built, in how many seconds."""

    engine: Engine
    name: str
    seconds: float


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    require("apt-get", "buildah", "debootstrap", "iptables", "podman", "runc")
    require_root()
    # Not in pytest's folder, which it clears without knowing of mounts.
    engine = Engine(Path(mkdtemp(prefix="maa-assess-")))
    try:
        engine.base()
        start = time.monotonic()
        yield Image(engine, engine.build(), time.monotonic() - start)
    finally:
        engine.remove()


@pytest.fixture(scope="module")
def container(image: Image) -> Iterator[Container]:
    """One that runs by itself as the image says, confined."""
    with image.engine.running(image.name) as container:
        yield container


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """What is measured and not judged: printed when the test has passed."""
    lines: list[str] = []
    yield lines
    with capsys.disabled():
        for line in lines:
            print(f"\nmeasured: {line}", end=" ")  # noqa: T201
