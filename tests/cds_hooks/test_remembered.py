"""What counts once: by one worker in its memory, by several in a file or in Redis."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cds_calls import ELIGIBILITY

from app.cds_hooks.remembered import InFile, InMemory, InRedis, Remembered, shared_store
from app.fhir.outcome import RequestError
from app.settings import Settings, SettingsError
from tests.conftest import free_port, serving
from tests.tools import require

FEEDBACK = {
    "card": "4e0a3a1e-3283-4575-ab82-028d55fe27ff",
    "outcome": "overridden",
    "outcomeTimestamp": "2024-03-05T09:30:00Z",
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server."""
    require("redis-server")
    port, home = free_port(), tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(command, cwd=home, stdout=log, stderr=log) as process,
    ):
        try:
            while "Ready to accept" not in (home / "log").read_text():
                assert process.poll() is None, (home / "log").read_text()
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@pytest.fixture(params=["file", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each kind of store that is shared."""
    if request.param == "file":
        return f"sqlite://{tmp_path}/shared.db"
    found: str = request.getfixturevalue("redis")
    return found


def opened(url: str) -> Remembered:
    store = shared_store(Settings(shared_store=url))
    assert store
    return store


def answers(*stores: Remembered, name: bytes, seconds: float) -> list[bool]:
    """What each store says of one name, asked at the same time."""

    async def asked() -> list[bool]:
        until = time.time() + seconds
        found = await asyncio.gather(*(store.is_new(name, until) for store in stores))
        for store in stores:
            await store.aclose()
        return found

    return asyncio.run(asked())


def test_of_several_workers_one_alone_sees_a_name_as_new(url: str) -> None:
    assert sorted(answers(*(opened(url) for _ in range(8)), name=b"a", seconds=60))[-2:] == [
        False,
        True,
    ]
    assert answers(opened(url), name=b"a", seconds=60) == [False], "also a worker started later"
    assert answers(opened(url), name=b"b", seconds=60) == [True]


def test_a_name_is_forgotten_when_its_time_is_over(url: str) -> None:
    assert answers(opened(url), name=b"short", seconds=0.5) == [True]
    give_up = time.monotonic() + 10
    while answers(opened(url), name=b"short", seconds=0.5) == [False]:
        assert time.monotonic() < give_up
        time.sleep(0.2)


def test_a_process_remembers_within_bounds_and_only_as_long_as_it_matters() -> None:
    now = [0.0]
    store = InMemory(2, lambda: now[0])
    asked = [asyncio.run(store.is_new(name, 10)) for name in (b"a", b"a", b"b", b"c", b"a")]
    assert asked == [True, False, True, True, True], "a was forgotten first"
    now[0] = 11
    assert asyncio.run(store.is_new(b"d", 20))
    assert len(store) == 1


def test_the_file_is_its_owners_and_holds_nothing_that_is_over(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    answers(InFile(str(path)), name=b"old", seconds=-1)
    answers(InFile(str(path)), name=b"new", seconds=60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT name FROM remembered").fetchall() == [(b"new",)]


def test_where_it_cannot_be_told_nobody_is_let_through() -> None:
    gone = InRedis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RequestError) as error:
        answers(gone, name=b"a", seconds=60)
    assert error.value.status == 503
    assert error.value.retry_after


@pytest.mark.parametrize("url", ["sqlite:///none/such/directory/a.db", "redis://host:port/0"])
def test_a_store_that_cannot_be_opened_is_told_without_its_address(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        opened(url)
    (line,) = error.value.lines
    assert line.startswith("MAA_SHARED_STORE ")
    assert url not in line


def test_feedback_that_two_services_are_sent_is_counted_once(url: str, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "one", MAA_SHARED_STORE=url) as one,
        serving(tmp_path / "two", MAA_SHARED_STORE=url) as two,
    ):
        counted = 0
        for address in (one, two, one):
            body = {"feedback": [FEEDBACK]}
            sent = httpx.post(f"{address}{ELIGIBILITY}/feedback", json=body, timeout=30)
            assert sent.json() == {"received": 1}
        for address in (one, two):
            text = httpx.get(f"{address}/metrics", timeout=30).text
            counted += 'maa_cds_feedback_total{card="unknown"' in text
    assert counted == 1
    assert "by this process alone" not in (tmp_path / "one").read_text()
