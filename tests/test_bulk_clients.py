"""What Bulk Data clients of others write is screened as it is; one of them runs here."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.bulk.exports import find_files
from app.cli import main
from benchmarks.exports import export
from tests.bulk_server import bulk_server

ROOT = Path(__file__).resolve().parent.parent
SERVER = "https://a.example/fhir"
ASSESSMENTS = "assessments.ndjson"


def screened(source: Path, out: Path) -> list[Any]:
    """The assessments an export comes to; nothing in it may be unreadable."""
    assert main(["screen", str(source), "--out", str(out), "--workers", "1"]) == 0
    assert (out / "errors.ndjson").read_bytes() == b""
    return [json.loads(line) for line in (out / ASSESSMENTS).read_bytes().splitlines()]


def names(source: Path) -> list[str]:
    """The files that are read of an export."""
    return [Path(file.path).name for file in find_files([source])[0]]


def server_of(source: Path) -> str:
    """The server an export is said to come from."""
    (server,) = {file.server for file in find_files([source])[0]}
    return server


# SMART Fetch, run


@pytest.fixture(scope="module")
def smart_fetch() -> str:
    """The client, in an environment of its own: its dependencies are not ours."""
    lock, folder = Path(__file__).parent / "clients/smart-fetch.lock", ROOT / "build/smart-fetch"
    program, stamp = folder / "bin/smart-fetch", folder / "stamp"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=120)
        install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run(
            [folder / "bin/pip", *install, "-r", lock], check=True, timeout=600, stdout=sys.stderr
        )
        stamp.touch()
    return str(program)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A server's own files, and its base URL."""
    folder = tmp_path_factory.mktemp("server")
    with bulk_server(folder) as url:
        export(folder, 2_000, server=url)
        # The client does not ask for them, and a server that heeds `_type` sends none.
        for name in ("MedicationAdministration", "Medication"):
            (folder / f"{name}.ndjson").unlink()
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["output"] = [o for o in manifest["output"] if "Medication" not in o["type"]]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        yield folder, url


@pytest.mark.parametrize(
    "command",
    [
        ["bulk"],
        ["bulk", "--no-compression"],
        ["bulk", "--group", "wards"],
        ["export", "--hydration-tasks", "none"],
    ],
    ids=" ".join,
)
def test_what_smart_fetch_writes_comes_to_what_the_server_holds(
    command: list[str], smart_fetch: str, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = served
    fetch = [smart_fetch, *command, "--fhir-url", url, str(tmp_path / "in")]
    subprocess.run(fetch, check=True, timeout=60, stdout=sys.stderr)
    assert server_of(tmp_path / "in") == url
    expected = screened(folder, tmp_path / "expected")
    assert {one["valueCodeableConcept"]["coding"][0]["code"] for one in expected} == {
        "eligible",
        "indeterminate",
        "not-eligible",
    }
    assert screened(tmp_path / "in", tmp_path / "out") == expected


# The SMART client in Node.js, which no registry has: what its source says it writes


def saved(folder: Path, *urls: str, logs: dict[str, list[str]] | None = None) -> Path:
    """A folder as the client leaves it, with the manifest if it was asked to save that."""
    folder.mkdir()
    for number, _ in enumerate(urls or ("only",), 1):
        result = {"resourceType": "Observation", "id": f"{number}", "status": "final"}
        (folder / f"{number}.Observation.ndjson").write_text(json.dumps(result) + "\n")
    for subfolder in ("deleted", "error"):
        (folder / subfolder).mkdir()
        (folder / subfolder / "1.Bundle.ndjson").write_text("{}\n")
    for name, kicked_off in (logs or {"log.ndjson": [f"{SERVER}/Patient/$export"]}).items():
        events = [{"eventId": "kickoff", "eventDetail": {"exportUrl": url}} for url in kicked_off]
        text = "".join(json.dumps(one) + "\n" for one in [*events, {"eventId": "status_progress"}])
        data = text.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    if urls:
        output = [{"type": "Observation", "url": f"{SERVER}/files/{url}"} for url in urls]
        (folder / "manifest.json").write_text(json.dumps({"output": output, "error": []}))
    return folder


def test_the_smart_client_s_files_are_read_and_its_log_names_the_server(tmp_path: Path) -> None:
    folder = saved(tmp_path / "in")
    assert names(folder) == ["1.Observation.ndjson"]
    assert server_of(folder) == SERVER


def test_the_newest_kick_off_names_the_server(tmp_path: Path) -> None:
    older = "https://older.example/fhir/$export"
    folder = saved(
        tmp_path / "in", logs={"log.ndjson": [older, f"{SERVER}/Group/g/$export?_type=x"]}
    )
    assert server_of(folder) == SERVER


def test_a_log_that_went_on_in_another_file_is_no_data_and_names_the_server(tmp_path: Path) -> None:
    older = "https://older.example/fhir/$export"
    kicked_off = {"log.ndjson": [], "log1.ndjson.gz": [f"{SERVER}/$export"], "log2.ndjson": [older]}
    folder = saved(tmp_path / "in", logs=kicked_off)
    assert names(folder) == ["1.Observation.ndjson"]
    assert server_of(folder) == SERVER


@pytest.mark.parametrize(
    "urls",
    [
        ("1.Observation.ndjson", "2.Observation.ndjson"),
        ("2.Observation.ndjson", "3.Observation.ndjson"),
        ("a/1.Observation.ndjson", "b/1.Observation.ndjson"),
        ("Binary/17", "Binary/18"),
    ],
)
def test_every_file_is_read_whatever_its_url_ends_in(urls: tuple[str, ...], tmp_path: Path) -> None:
    folder = saved(tmp_path / "in", *urls)
    for source in (folder, folder / "manifest.json"):
        assert names(source) == ["1.Observation.ndjson", "2.Observation.ndjson"]


def test_two_files_of_one_name_of_which_one_is_there_are_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "in", "a/x.ndjson", "b/x.ndjson")
    (folder / "1.Observation.ndjson").rename(folder / "x.ndjson")
    assert main(["screen", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "names files that are not there: ['x.ndjson']" in capsys.readouterr().err


# Cumulus ETL, which reads such an export and writes it anew without what identifies a patient


def test_the_tables_of_cumulus_etl_are_read(tmp_path: Path) -> None:
    tables = ("patient", "observation", "procedure", "etl__completion", "encounter")
    for table in tables:
        (tmp_path / table).mkdir()
        (tmp_path / table / f"{table}.000.ndjson").write_text("{}\n")
    expected = ["observation.000.ndjson", "patient.000.ndjson", "procedure.000.ndjson"]
    assert names(tmp_path) == expected
