"""An export comes to what the service says of it, whatever is wrong with it or with the run."""

from __future__ import annotations

import asyncio
import csv
import errno
import gzip
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import duckdb
import httpx
import msgspec
import pyarrow as pa
import pytest
from fhir.resources.R4B.measurereport import MeasureReport
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.operationoutcome import OperationOutcome
from pyarrow import parquet

from app import operations
from app.asking import ASSESS_RESPONSE
from app.bulk import exports, files, judging, machine, patients, results, table
from app.bulk import parts as parts_of
from app.cli import main
from app.main import create_app
from app.operations import RESPONSE
from app.papers import RESPONSES
from app.publishing.definitions import definitions
from app.settings import Settings
from benchmarks.exports import export

ROOT = Path(__file__).resolve().parent.parent
SERVER = "https://a.example/fhir"
OTHER_SERVER = "https://b.example/fhir"
RESULTS = {
    "assessments.ndjson",
    "errors.ndjson",
    "measure-report.json",
    "set-aside.ndjson",
    "verdicts.csv",
    "verdicts.parquet",
}
LOW = {
    "751-8": ("1.0", "10*3/uL"),
    "777-3": ("50", "10*3/uL"),
    "718-7": ("7", "g/dL"),
    "60474-4": ("30", "10*3/uL"),
}


def result(
    patient: str, code: str, value: str, unit: str, day: str = "2024-03-05", **more: Any
) -> dict[str, Any]:
    """One Observation as an export has it."""
    quantity = {"value": float(value), "unit": unit, "code": unit}
    return {
        "resourceType": "Observation",
        "id": f"{patient}-{code}-{day}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": day,
        "valueQuantity": quantity | {"system": "http://unitsofmeasure.org"},
    } | more


def counts(patient: str, **changed: str) -> list[dict[str, Any]]:
    """The counts of a patient who is eligible, but for what is changed."""
    return [
        result(patient, code, changed.get(f"_{code.replace('-', '_')}", value), unit)
        for code, (value, unit) in LOW.items()
    ]


def written(folder: Path, lines: Sequence[Any], name: str = "Observation.ndjson") -> Path:
    """An export of one file; bytes stand as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    (folder / name).write_bytes(b"".join(text + b"\n" for text in texts))
    return folder


def screened(source: Path | Sequence[Path], out: Path, *options: str) -> Path:
    """The results of an export, assessed in this process."""
    sources = [source] if isinstance(source, Path) else source
    arguments = ["screen", *map(str, sources), "--out", str(out), "--workers", "1", *options]
    assert main(arguments) in {0, 1}
    return out


def lines(file: Path) -> list[Any]:
    """Every line of NDJSON."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def verdicts(out: Path) -> dict[str, str]:
    """Each patient's verdict, of the table."""
    with (out / "verdicts.csv").open(newline="") as table:
        return {row["patient"]: row["verdict"] for row in csv.DictReader(table)}


def errors(out: Path) -> list[str]:
    """What the errors say."""
    return [one["issue"][0]["diagnostics"] for one in lines(out / "errors.ndjson")]


def same_results(one: Path, other: Path) -> None:
    """Every file is the same, byte for byte."""
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


# The oracle: the service itself, given everything as one Bundle, however much

_MUCH = 64 * 1024**3


def bundle_of(folders: Sequence[Path]) -> bytes:
    """Every line of exports that is a JSON object, as one Bundle."""
    entries = []
    for folder in folders:
        server = json.loads((folder / "manifest.json").read_bytes()).get("request", "")
        for file in sorted(folder.glob("*.ndjson")):
            for line in file.read_bytes().split(b"\n"):
                entry = entry_of(line, server.removesuffix("/$export"))
                entries += [entry] if entry else []
    return b'{"resourceType":"Bundle","type":"collection","entry":[' + b",".join(entries) + b"]}"


def entry_of(line: bytes, server: str) -> bytes:
    """A line as an entry; empty where it is no JSON object, or a Bundle."""
    try:
        raw = msgspec.json.decode(line.decode(), type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return b""
    kind, identity = (bytes(raw.get(name, b"")).strip(b'"') for name in ("resourceType", "id"))
    if kind == b"Bundle":
        return b""
    url = f"{server}/".encode() + kind + b"/" + identity
    if identity == b"null":
        # Two without an id are not one, and yet of their server.
        url += b"-%d" % crc32(line)
    full_url = b'"fullUrl":"' + url + b'",' if server and identity else b""
    return b"{" + full_url + b'"resource":' + line + b"}"


def answered(operation: str, body: bytes, query: Any = ()) -> dict[str, dict[str, Any]]:
    """What the service answers over HTTP, by patient and definition."""
    app = create_app(
        Settings(
            max_body_bytes=len(body),
            max_bytes_at_once=len(body),
            max_answer_bytes=_MUCH,
            evaluation_seconds=3600,
            evaluation_steps=_MUCH,
            evaluation_memory_bytes=_MUCH,
        )
    )

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"content-type": "application/fhir+json"}
            return await client.post(
                f"/fhir/${operation}", content=body, params=query, headers=headers, timeout=None
            )

    response = asyncio.run(ask())
    assert response.status_code == httpx.codes.OK, response.text[:500]
    found = (entry["resource"] for entry in response.json()["entry"])
    return by_patient(one for one in found if one["resourceType"] == "Observation")


def by_patient(assessments: Iterator[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Assessments by patient and definition, each once."""
    found: dict[str, dict[str, Any]] = {}
    for one in assessments:
        key = json.dumps(one["subject"]) + one["method"]["coding"][0]["code"]
        assert key not in found
        found[key] = one
    return found


def agree(out: Path, expected: dict[str, dict[str, Any]]) -> None:
    """The same patients, and of each the same assessment in every element."""
    got = by_patient(iter(lines(out / "assessments.ndjson")))
    assert got.keys() == expected.keys()
    for key, one in expected.items():
        assert got[key]["valueCodeableConcept"] == one["valueCodeableConcept"], key
        # A result without an id is named by its place in the Bundle, or here by its line.
        if "Bundle.entry" not in json.dumps(one) and "/null" not in json.dumps(one):
            assert got[key] == one


# A million takes ten minutes and 16 GB: MESSY_OBSERVATIONS=1000000 pytest -k of_the_service
_MESSY_OBSERVATIONS = int(os.environ.get("MESSY_OBSERVATIONS", "6000"))


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with every kind of mess in it."""
    folder = tmp_path_factory.mktemp("bulk") / "messy"
    export(folder, _MESSY_OBSERVATIONS, each=24, messy=True)
    return folder


@pytest.fixture(scope="module")
def results_of_messy(messy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it comes to."""
    return screened(messy, tmp_path_factory.mktemp("bulk") / "out")


def test_the_verdicts_are_those_of_the_service(messy: Path, results_of_messy: Path) -> None:
    expected = answered("assess-eligibility", bundle_of([messy]))
    assert {one["valueCodeableConcept"]["coding"][0]["code"] for one in expected.values()} == {
        "eligible",
        "not-eligible",
        "indeterminate",
    }
    agree(results_of_messy, expected)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_verdicts_are_those_of_the_service_whatever_the_mess(seed: int, tmp_path: Path) -> None:
    export(tmp_path / "in", 1_500, each=40, seed=seed, messy=True)
    expected = answered("assess-eligibility", bundle_of([tmp_path / "in"]))
    agree(screened(tmp_path / "in", tmp_path / "out"), expected)


def test_the_responses_are_those_of_the_service(tmp_path: Path) -> None:
    export(tmp_path / "in", _MESSY_OBSERVATIONS, each=100, seed=7, messy=True, server=SERVER)
    query = [("criteria", "nih-daclizumab-2003"), ("criteria", "nih-severe")]
    expected = answered("assess-response", bundle_of([tmp_path / "in"]), query)
    assert len({one["valueCodeableConcept"]["coding"][0]["code"] for one in expected.values()}) > 2
    arguments = ["response", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]
    for _, name in query:
        arguments += ["--criteria", name]
    assert main(arguments) == 0
    agree(tmp_path / "out", expected)
    for name in ("nih-daclizumab-2003", "nih-severe"):
        report = (tmp_path / "out" / f"measure-report.{name}.json").read_bytes()
        assert MeasureReport.model_validate_json(report).group[0].population[0].count > 0  # type: ignore[index, operator]


def test_parameters_mean_what_they_mean_to_the_service(messy: Path, tmp_path: Path) -> None:
    query = {"asOf": "2021-06-01", "window": "10", "redCellPolicy": "reticulocytes-only"}
    expected = answered("assess-eligibility", bundle_of([messy]), query)
    options = ["--as-of", "2021-06-01", "--window", "10", "--red-cell-policy", "reticulocytes-only"]
    agree(screened(messy, tmp_path / "out", *options), expected)


def test_patients_of_two_servers_with_the_same_id_are_two(tmp_path: Path) -> None:
    for name, server in (("a", SERVER), ("b", OTHER_SERVER)):
        export(tmp_path / name, 1_000, each=20, messy=True, server=server)
    folders = [tmp_path / "a", tmp_path / "b"]
    expected = answered("assess-eligibility", bundle_of(folders))
    agree(screened(folders, tmp_path / "out"), expected)
    names = verdicts(tmp_path / "out")
    twins = [name for name in names if name.startswith(f"{SERVER}/Patient/")]
    assert len(twins) >= 40
    assert all(name.replace(SERVER, OTHER_SERVER) in names for name in twins)


def test_workers_memory_and_the_size_of_pieces_do_not_matter(
    messy: Path, results_of_messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["screen", str(messy), "--out", str(tmp_path / "two"), "--workers", "2"]
    assert main(arguments) == 0
    same_results(results_of_messy, tmp_path / "two")
    monkeypatch.setattr(machine, "chunks_of", lambda some: files.chunks_of(some, 100_007))
    monkeypatch.setattr(machine, "_LINES_A_BUCKET", 100)
    same_results(results_of_messy, screened(messy, tmp_path / "small", "--memory", "1"))


# What comes out


def test_everything_written_is_fhir(results_of_messy: Path) -> None:
    assert {path.name for path in results_of_messy.iterdir()} == RESULTS
    for line in (results_of_messy / "assessments.ndjson").read_bytes().splitlines():
        Observation.model_validate_json(line)
    for name in ("errors.ndjson", "set-aside.ndjson"):
        for line in (results_of_messy / name).read_bytes().splitlines():
            OperationOutcome.model_validate_json(line)
    report = json.loads((results_of_messy / "measure-report.json").read_bytes())
    MeasureReport.model_validate(report)
    published = [one["url"] for (kind, _), one in definitions().items() if kind == "Measure"]
    assert report["measure"].partition("|")[0] in published
    tally = {
        stratum["value"]["coding"][0]["code"]: stratum["population"][0]["count"]
        for stratum in report["group"][0]["stratifier"][0]["stratum"]
    }
    found = list(verdicts(results_of_messy).values())
    assert tally == {verdict: found.count(verdict) for verdict in set(found)}
    assert report["group"][0]["population"][0]["count"] == len(found)


def test_the_table_has_every_answer_and_count_of_the_assessments(results_of_messy: Path) -> None:
    with (results_of_messy / "verdicts.csv").open(newline="") as table:
        rows = {row["patient"]: row for row in csv.DictReader(table)}
    assert list(rows) == sorted(rows)
    for one in lines(results_of_messy / "assessments.ndjson"):
        identifier = one["subject"].get("identifier", {})
        name = one["subject"].get("reference") or (
            f"{identifier.get('system', '')}|{identifier['value']}"
        )
        row = rows[name]
        assert row["verdict"] == one["valueCodeableConcept"]["coding"][0]["code"]
        assert row["day"] == one.get("effectiveDateTime", "")
        for part in one["component"]:
            code = part["code"]["coding"][0]["code"]
            if "valueCodeableConcept" in part:
                assert row[code] == part["valueCodeableConcept"]["coding"][0]["code"]


def test_every_column_of_a_response_is_in_the_table() -> None:
    columns = judging.Order(ASSESS_RESPONSE, (), 30).columns()
    assert len(set(columns)) == len(columns)
    path = ROOT / "fixtures" / "daclizumab-2003" / "bundle.json"
    for paper in RESPONSES:
        asked = [("criteria", paper.id)]
        judged = operations.assessed(ASSESS_RESPONSE, path.read_bytes(), asked)
        for one in judged.assessments:
            cells = table.cells_of(RESPONSE, one, RESPONSE.answer(one, ()))
            told = {n for n in cells if not n.startswith("body")}
            assert told <= set(columns)


def test_parquet_is_the_table(results_of_messy: Path) -> None:
    with (results_of_messy / "verdicts.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    read = parquet.read_table(results_of_messy / "verdicts.parquet").to_pylist()
    told = [{name: str(cell) if cell else "" for name, cell in row.items()} for row in read]
    assert told == rows


def test_a_decimal_keeps_every_digit(tmp_path: Path) -> None:
    line = json.dumps(result("p", "777-3", "1", "10*3/uL")).encode()
    exact = b"70.00000000000000000000000000001"
    out = screened(
        written(tmp_path / "in", [line.replace(b'"value": 1.0', b'"value": ' + exact)]),
        tmp_path / "out",
    )
    assert exact in (out / "assessments.ndjson").read_bytes()
    assert exact in (out / "verdicts.csv").read_bytes()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_table_is_a_formula(start: str, tmp_path: Path) -> None:
    subject = {"identifier": {"system": f"{start}1+cmd", "value": "' /C calc'!A0"}}
    line = counts("p")[0] | {"subject": subject}
    out = screened(written(tmp_path / "in", [line, *counts("q")]), tmp_path / "out")
    with (out / "verdicts.csv").open(newline="") as table:
        cells = [cell for row in csv.reader(table) for cell in row]
    assert "Patient/q" in cells
    assert any(cell.lstrip("'").startswith(start) for cell in cells)
    assert not [cell for cell in cells if cell.startswith(start)]


# What is wrong with an export


def test_a_broken_line_is_named_and_stops_nothing(tmp_path: Path) -> None:
    secret = b'{"resourceType":"Observation","status":{"name":"Jane Secret"}}'
    broken = [b"{", secret, b"[]", b"", b'{"id":"Jane"}', b"\xff", b'{"resourceType":"Bundle"}']
    good = counts("p")
    out = screened(written(tmp_path / "in", [*good[:2], *broken, *good[2:]]), tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    told = errors(out)
    places = [text.split(":")[0] for text in told]
    assert places == [f"Observation.ndjson, line {n}" for n in (3, 4, 5, 7, 8, 9)]
    assert "Not JSON" in told[0]
    assert "Observation (Expected `str | null`, got `object`)" in told[1]
    assert "resourceType" in told[3]
    assert "Bundle" in told[5]
    assert "Jane" not in "".join(told)


def test_two_objects_on_a_line_and_none_on_another_move_no_line(tmp_path: Path) -> None:
    two = b'{"resourceType":"Observation"}{"resourceType":"Observation"}'
    for name, lines in {"first": [two, b""], "last": [b"", two]}.items():
        good = counts("p")
        folder = written(tmp_path / name, [*good[:1], lines[0], *good[1:], lines[1]])
        out = screened(folder, tmp_path / f"{name}-out")
        assert verdicts(out) == {"Patient/p": "eligible"}
        (told,) = errors(out)
        assert "Not JSON" in told


def test_a_last_line_cut_short_is_named_and_the_rest_counts(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", counts("p"))
    with (folder / "Observation.ndjson").open("ab") as file:
        file.write(b'{"resourceType":"Observation","id":"cu')
    out = screened(folder, tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    (told,) = errors(out)
    assert "line 5" in told
    assert "cut short" in told


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", counts("p"))
    whole = (folder / "Observation.ndjson").read_bytes()
    (folder / "Observation.ndjson").write_bytes(
        b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n")[:-2]
    )
    out = screened(folder, tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    assert errors(out) == []


def zipped(folder: Path, keep: float = 1.0, name: str = "Observation.ndjson") -> Path:
    """The file compressed, and cut to a share of its length."""
    packed = gzip.compress((folder / name).read_bytes())
    (folder / f"{name}.gz").write_bytes(packed[: int(len(packed) * keep)])
    (folder / name).unlink()
    return folder


@pytest.mark.parametrize("ending", [".ndjson.gz", ".ndjson.zst", ".parquet"])
def test_compressed_files_are_read(ending: str, tmp_path: Path) -> None:
    plain = screened(written(tmp_path / "in", counts("p")), tmp_path / "plain")
    file = tmp_path / "in" / "Observation.ndjson"
    text, packed = file.read_bytes(), file.with_name(f"Observation{ending}")
    file.unlink()
    if ending == ".parquet":
        pretty = [json.dumps(json.loads(line), indent=1) for line in text.splitlines()]
        parquet.write_table(pa.table({"n": range(len(pretty)), "resource": pretty}), packed)
    else:
        codec = "gzip" if ending.endswith("gz") else "zstd"
        with pa.CompressedOutputStream(str(packed), codec) as stream:
            stream.write(text)
    out = screened(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in out.iterdir()} == RESULTS
    assert (out / "assessments.ndjson").read_bytes() == (plain / "assessments.ndjson").read_bytes()


def test_a_compressed_file_cut_short_loses_only_what_is_missing(tmp_path: Path) -> None:
    rng = random.Random(1)
    noise = [result(f"x{n}", "777-3", f"{rng.randrange(300)}", "10*3/uL") for n in range(2000)]
    out = screened(zipped(written(tmp_path / "in", [*counts("p"), *noise]), 0.6), tmp_path / "out")
    assert verdicts(out)["Patient/p"] == "eligible"
    assert 800 < len(verdicts(out)) < 2000
    assert any("compressed file is cut short" in text for text in errors(out))


@pytest.mark.parametrize("ending", ["ndjson.zst", "parquet"])
def test_a_damaged_file_is_named_and_the_others_are_read(ending: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "in", counts("p"), "a.ndjson")
    (folder / f"b.{ending}").write_bytes(b"PAR1 not at all")
    out = screened(folder, tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    if ending != "parquet":  # beside NDJSON, Parquet is no export's
        assert any("b.ndjson.zst" in text and "damaged" in text for text in errors(out))


def test_a_file_that_is_not_compressed_in_spite_of_its_name_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", counts("p"), "a.ndjson")
    written(folder, counts("q"), "b.ndjson.gz")
    out = screened(folder, tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    assert any("b.ndjson.gz" in text and "damaged" in text for text in errors(out))


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_of_100_megabytes_is_named_and_the_next_is_read(
    tmp_path: Path, packed: bool
) -> None:
    huge = b'{"resourceType":"Observation","id":"' + b"7" * 100_000_000 + b'"}'
    folder = written(tmp_path / "in", [huge, *counts("p")])
    out = screened(zipped(folder) if packed else folder, tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    (told,) = errors(out)
    assert "line 1" in told
    assert "64 MiB" in told


def test_a_file_that_is_a_directory_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in", counts("p"))
    (folder / "Patient.ndjson").mkdir()
    assert verdicts(screened(folder, tmp_path / "out")) == {"Patient/p": "eligible"}
    assert "Patient.ndjson is a directory" in capsys.readouterr().err


def test_the_same_export_twice_is_the_same_as_once(tmp_path: Path) -> None:
    export(tmp_path / "in", 1_000, each=20, messy=True)
    (tmp_path / "in" / "manifest.json").unlink()
    once = verdicts(screened(tmp_path / "in", tmp_path / "once"))
    for path in list((tmp_path / "in").iterdir()):
        shutil.copy(path, path.with_name(f"again.{path.name}"))
    assert verdicts(screened(tmp_path / "in", tmp_path / "twice")) == once


def test_an_empty_export_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Observation.ndjson").touch()
    arguments = ["screen", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "nobody to assess" in capsys.readouterr().err
    assert lines(tmp_path / "out" / "assessments.ndjson") == []
    assert verdicts(tmp_path / "out") == {}


def test_a_patient_without_a_result_is_answered(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [{"resourceType": "Patient", "id": "q"}], "Patient.ndjson")
    glucose = result("r", "2345-7", "5", "mmol/L")
    out = screened(written(folder, [glucose, glucose, *counts("p")]), tmp_path / "out")
    assert verdicts(out) == {
        "Patient/p": "eligible",
        "Patient/q": "indeterminate",
        "Patient/r": "indeterminate",
    }


def test_a_fault_of_ours_costs_one_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = operations.judged

    def faulty(question: Any, data: Any) -> Any:
        if any(b"Patient/q" in bytes(entry.resource) for entry in data.entries):
            raise ZeroDivisionError
        return judge(question, data)

    monkeypatch.setattr(operations, "judged", faulty)
    out = screened(written(tmp_path / "in", counts("p") + counts("q")), tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    assert len([text for text in errors(out) if "fault of this program" in text]) == 4


def test_bad_utf_8_costs_the_line_and_no_more(tmp_path: Path) -> None:
    bad = json.dumps(result("p", "777-3", "9", "bad unit")).encode().replace(b"bad", b"b\xffd")
    hidden = json.dumps(result("p", "751-8", "9", "10*3/uL", note="bad", day="2024-03-09"))
    out = screened(written(tmp_path / "in", [bad, *counts("p")]), tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}
    assert [text.split(":")[0] for text in errors(out)] == ["Observation.ndjson, line 1"]
    hidden_bytes = hidden.encode().replace(b"bad", b"b\xffd")
    out = screened(written(tmp_path / "other", [hidden_bytes, *counts("p")]), tmp_path / "of-other")
    assert verdicts(out) == {"Patient/p": "eligible"}
    assert [text.split(":")[0] for text in errors(out)] == ["Observation.ndjson, line 1"]


@pytest.mark.parametrize("server", ["", SERVER])
def test_a_result_without_an_id_is_named_by_its_line(tmp_path: Path, server: str) -> None:
    nameless = [one | {"id": None} for one in counts("p")]
    folder = written(tmp_path / "in", [b"", *nameless])
    output = [{"type": "Observation", "url": "Observation.ndjson"}]
    manifest = {"request": f"{server}/$export", "output": output}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (assessment,) = lines(screened(folder, tmp_path / "out") / "assessments.ndjson")
    assert assessment["derivedFrom"] == [
        {"display": f"Observation.ndjson, line {n}"} for n in (2, 3, 4, 5)
    ]
    assert ": Observation.ndjson, line 2" in assessment["text"]["div"]
    assert "without-id" not in json.dumps(assessment)
    assert "Bundle.entry" not in json.dumps(assessment)


# Which files


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (b"{", "not a manifest"),
        (b'{"files":[]}', "not a Bulk Data manifest"),
        (b'{"output":[{"url":"x"},{"url":"Observation.ndjson"}]}', "names files that are not"),
    ],
)
def test_a_manifest_that_does_not_fit_is_bad_usage(
    tmp_path: Path, manifest: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in", counts("p"))
    (folder / "manifest.json").write_bytes(manifest)
    assert main(["screen", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


def test_a_manifest_says_which_files_and_which_server(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", counts("p"), "1.ndjson")
    written(folder, counts("left-out"), "2.ndjson")
    manifest = {
        "request": f"{SERVER}/Group/g/$export?_type=Observation",
        "output": [{"type": "Observation", "url": "https://files.example/x/1.ndjson?token=1"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert list(verdicts(screened(folder / "manifest.json", tmp_path / "out"))) == ["Patient/p"]
    files, _ = exports.find_files([folder])
    assert [(Path(file.path).name, file.server) for file in files] == [("1.ndjson", SERVER)]


def test_what_a_manifest_does_not_list_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in", counts("p"), "1.ndjson")
    (folder / "manifest.json").write_text('{"output":[{"url":"https://a.example/1.ndjson"}]}')
    written(folder, counts("newer"), "Observation.000.ndjson")
    assert list(verdicts(screened(folder, tmp_path / "out"))) == ["Patient/p"]
    assert "manifest.json does not list Observation.000.ndjson: not read" in capsys.readouterr().err
    (folder / "1.ndjson").unlink()
    assert list(verdicts(screened(folder, tmp_path / "of-newer"))) == ["Patient/newer"]
    assert "manifest.json lists none of the files beside it" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_pipe_or_a_socket_is_named_and_not_waited_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in", counts("p"))
    monkeypatch.chdir(folder)  # a socket's path must be short
    if kind == "pipe":
        os.mkfifo("Patient.ndjson")
        os.mkfifo(".metadata")
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "socket":
            listening.bind("Patient.ndjson")
        assert main(["screen", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "Patient.ndjson" in capsys.readouterr().err
    Path("Patient.ndjson").unlink()
    assert verdicts(screened(folder, tmp_path / "out")) == {"Patient/p": "eligible"}


def test_a_name_does_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in", counts("p"))
    (folder / "\x1b[2J\u202e.ndjson").mkdir()
    screened(folder, tmp_path / "out")
    said = capsys.readouterr().err
    assert "?[2J?.ndjson is a directory" in said
    assert "\x1b[2J" not in said


def test_a_path_in_a_manifest_leads_nowhere_else(tmp_path: Path) -> None:
    written(tmp_path, counts("outside"), "secret.ndjson")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"output":[{"url":"../secret.ndjson"}]}')
    assert main(["screen", str(folder / "manifest.json"), "--out", str(tmp_path / "out")]) == 2


def test_exports_that_do_not_name_their_server_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [written(tmp_path / name, counts("p")) for name in ("a", "b")]
    assert main(["screen", *map(str, folders), "--out", str(tmp_path / "out")]) == 2
    assert "does not say which server" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["screen", "nowhere", "--out", "out"],
        ["screen", ".", "--out", "out", "--criteria", "unknown"],
        ["screen", ".", "--out", "out", "--as-of", "yesterday"],
        ["response", ".", "--out", "out", "--json"],
        ["response", "a.json", "b.json"],
    ],
)
def test_bad_usage_is_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert not (tmp_path / "out").exists()


# What goes wrong with the run


def started(source: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command as a process of its own, with two workers."""
    command = [sys.executable, "-m", "app.cli", "screen", str(source), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--workers", "2"], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


def until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is so, while the process runs."""
    give_up = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, "It was over too soon."
        assert time.monotonic() < give_up
        time.sleep(0.005)


def parts(out: Path, step: str) -> list[Path]:
    """The finished parts of a step."""
    return [p for p in (out / machine.WORK / step).glob("*") if p.name.isdigit()]


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """The worker processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == process.pid and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def runs(process: int) -> bool:
    """Whether a process is there, and not only waiting to be counted as dead."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An export that takes a while, and its results."""
    folder = tmp_path_factory.mktemp("bulk") / "long"
    export(folder, 40_000, messy=True)
    return folder, screened(folder, folder.with_name("out"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
@pytest.mark.parametrize("step", ["read_chunk", "judge_bucket"])
def test_a_run_that_was_killed_goes_on_and_comes_to_the_same(
    step: str, long_run: tuple[Path, Path], tmp_path: Path
) -> None:
    source, expected = long_run
    with started(source, tmp_path) as process:
        until(lambda: bool(parts(tmp_path, step)), process)
        workers = children(process)
        process.send_signal(signal.SIGKILL)
    assert workers
    give_up = time.monotonic() + 10
    while any(map(runs, workers)):
        assert time.monotonic() < give_up, "Its workers live on."
        time.sleep(0.05)
    done = {path: path.stat().st_mtime_ns for path in parts(tmp_path, step)}
    assert done
    assert not (tmp_path / "assessments.ndjson").exists()
    with started(source, tmp_path) as process:
        judged = len(done) if step == "judge_bucket" else 0
        until(lambda: len(parts(tmp_path, "judge_bucket")) > judged, process)
        kept = {path: path.stat().st_mtime_ns for path in done if path.exists()}
        process.communicate()
    assert process.returncode == 0
    assert kept == {path: done[path] for path in kept}
    same_results(expected, tmp_path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
def test_a_killed_worker_costs_nothing(long_run: tuple[Path, Path], tmp_path: Path) -> None:
    source, expected = long_run
    with started(source, tmp_path) as process:
        until(lambda: bool(parts(tmp_path, "read_chunk")), process)
        os.kill(children(process)[0], signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    same_results(expected, tmp_path)


def test_workers_that_are_killed_again_and_again_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Iterator[int]:
        raise machine.BrokenProcessPool  # type: ignore[attr-defined]
        yield 0

    monkeypatch.setattr(machine._Crew, "_each_made", broken)
    arguments = ["screen", str(written(tmp_path / "in", counts("p"))), "--out", str(tmp_path / "o")]
    assert main(arguments) == 3
    assert "killed again and again" in capsys.readouterr().err


def test_what_the_engine_cannot_do_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = written(tmp_path / "in", counts("p"))

    def full(*_: Any) -> Any:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate\nmore")

    with monkeypatch.context() as patched:
        patched.setattr(machine, "_group", full)
        arguments = ["screen", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]
        assert main(arguments) == 3
    assert "DuckDB cannot bring the patients together: Out of Memory" in capsys.readouterr().err
    assert verdicts(screened(source, tmp_path / "out")) == {"Patient/p": "eligible"}


@pytest.mark.parametrize("full", [1, 3, 6, 9])
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    full: int,
    long_run: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, expected = long_run
    opened = results.whole.__wrapped__  # type: ignore[attr-defined]
    count = iter(range(1_000))

    def whole(path: Path) -> Any:
        if next(count) >= full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return results.contextmanager(opened)(path)  # type: ignore[attr-defined]

    with monkeypatch.context() as patched:
        for module in (machine, parts_of, results):
            patched.setattr(module, "whole", whole)
        arguments = ["screen", str(source), "--out", str(tmp_path), "--workers", "1"]
        assert main(arguments) == 3
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "run the same command again" in said
    same_results(expected, screened(source, tmp_path))


@pytest.fixture
def judged_first(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """What is to happen to an export when its lines are read and its patients are not judged."""

    def happens(event: Callable[[], Any]) -> None:
        judged = machine.judge_part  # type: ignore[attr-defined]
        once = iter([event])

        def after(*arguments: Any) -> None:
            for happening in once:
                happening()
            judged(*arguments)

        monkeypatch.setattr(machine, "judge_part", after)

    return happens


def cut(file: Path) -> None:
    """The file without its second half."""
    os.truncate(file, file.stat().st_size // 2)


def replaced(file: Path) -> None:
    """Another file in its place, as large and as old."""
    facts = file.stat()
    file.rename(file.with_suffix(".old"))
    file.write_bytes(file.with_suffix(".old").read_bytes().replace(b"4.", b"0."))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize("weeks", [1, 9], ids=["nothing is read again", "some are read again"])
@pytest.mark.parametrize("event", [Path.unlink, cut, replaced])
def test_an_export_that_changes_while_it_is_judged_comes_to_nothing(
    event: Callable[[Path], None],
    weeks: int,
    tmp_path: Path,
    judged_first: Callable[[Callable[[], Any]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    unread = {"valueString": "see comment"}  # so that older results are fetched
    some = [one for n in range(weeks) for one in week("p", n, **(unread if n == 8 else {}))]
    file = written(tmp_path / "in", some) / "Observation.ndjson"
    judged_first(lambda: event(file))
    arguments = ["screen", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(arguments) == 3
    said = capsys.readouterr().err
    assert str(file) in said
    assert "No results were written" in said
    assert not list((tmp_path / "out").glob("[!.]*"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_file_that_vanishes_before_it_is_read_is_named(
    workers: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = written(tmp_path / "in", counts("p")) / "Observation.ndjson"
    planned = machine._planned

    def after(*arguments: Any) -> Any:
        plan = planned(*arguments)
        file.unlink()
        return plan

    monkeypatch.setattr(machine, "_planned", after)
    arguments = ["screen", str(file), "--out", str(tmp_path / "out"), "--workers", workers]
    assert main(arguments) == 3
    assert f"{file} cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_second_run_into_the_same_directory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(written(tmp_path / "in", counts("p")))
    out = tmp_path / "out"
    out.mkdir()
    with results.locked(out):
        assert main(["screen", source, "--out", str(out), "--workers", "1"]) == 2
        assert "Another run writes into" in capsys.readouterr().err
        assert main(["screen", source, "--out", str(tmp_path / "b"), "--workers", "1"]) == 0
    assert main(["screen", source, "--out", str(out), "--workers", "1"]) == 0
    assert {path.name for path in out.iterdir()} == RESULTS


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_can_read_what_is_written(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "in", counts("p"))
    seen: dict[str, int] = {}
    merged = machine.merge  # type: ignore[attr-defined]

    def looked(*arguments: Any) -> Any:
        work = tmp_path / "out" / machine.WORK
        seen.update({str(path): path.stat().st_mode & 0o777 for path in work.rglob("*")})
        return merged(*arguments)

    monkeypatch.setattr(machine, "merge", looked)
    before = os.umask(umask)
    try:
        out = screened(source, tmp_path / "out", "--counts")
    finally:
        os.umask(before)
    assert (out / "counts.parquet").exists()
    assert out.stat().st_mode & 0o777 == 0o700
    assert len(seen) > 10
    assert set(seen.values()) == {0o600, 0o700}
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


def test_nothing_of_a_killed_or_another_run_is_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    ours = ["measure-report.emaa.json", ".verdicts.csv.77", ".measure-report.emaa.json.77"]
    ours += ["counts.parquet", ".counts.parquet.77"]
    for name in [*ours, ".maa-assess.lock", "notes.txt", ".verdicts.csv.swp"]:
        (out / name).touch()
    screened(written(tmp_path / "in", counts("p")), out)
    assert {path.name for path in out.iterdir()} == RESULTS | {"notes.txt", ".verdicts.csv.swp"}


def test_another_question_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path / "in", counts("p"))

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(machine, "merge", stop)
        arguments = ["screen", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]
        assert main(arguments) == 3
    written(source, counts("p", _777_3="400", _751_8="5"))
    assert verdicts(screened(source, tmp_path / "out")) == {"Patient/p": "not-eligible"}


def test_what_is_read_together_is_found() -> None:
    moves = patients.moves(
        [
            ("Patient/b", "Patient/a"),
            ("Observation/1", "DiagnosticReport/r"),
            ("identifier:s|1", "Patient/b"),
        ]
    )
    assert dict(zip(*moves.to_pydict().values(), strict=True)) == {
        "Observation/1": "DiagnosticReport/r",
        "Patient/b": "Patient/a",
        "identifier:s|1": "Patient/a",
    }


# What a newer result makes needless


def week(patient: str, number: int, **changed: Any) -> list[dict[str, Any]]:
    """The counts of an eligible patient in one of the weeks of 2024."""
    day = (date(2024, 1, 1) + timedelta(weeks=number)).isoformat()
    return [
        result(patient, code, value, unit, day) | changed for code, (value, unit) in LOW.items()
    ]


@pytest.mark.parametrize(
    ("newest", "judged"),
    [
        ({}, "2024-03-04"),
        ({"status": "entered-in-error"}, "2024-02-26"),
        ({"status": "preliminary"}, "2024-02-26"),
        ({"valueQuantity": {"value": 9e9, "code": "10*9/L"}}, "2024-02-26"),
        ({"valueString": "see comment"}, "2024-02-26"),
        ({"referenceRange": {}}, "2024-02-26"),  # no FHIR: its range is a witness of the unit
        ({"specimen": 7}, "2024-02-26"),
        ({"effectiveDateTime": "2024-03-04T25:00:00Z"}, "2024-02-26"),
        ({"modifierExtension": [{"url": "urn:x"}]}, "2024-02-26"),
    ],
    ids=str,
)
def test_the_newest_result_that_stands_is_judged(
    newest: dict[str, Any], judged: str, tmp_path: Path
) -> None:
    weeks = [one for number in range(9) for one in week("p", number)]
    last = week("p", 9, **newest)
    for name, export_lines in (("forth", [*weeks, *last]), ("back", [*last, *weeks[::-1]])):
        folder = written(tmp_path / name, export_lines)
        (folder / "manifest.json").write_text('{"output":[{"url":"Observation.ndjson"}]}')
        out = screened(folder, tmp_path / f"of-{name}")
        agree(out, answered("assess-eligibility", bundle_of([folder])))
        (assessment,) = lines(out / "assessments.ndjson")
        assert assessment["effectiveDateTime"] == judged


def course(rng: random.Random, patient: str) -> list[dict[str, Any]]:
    """Results of one patient on days of some months, many of them close together."""
    kinds = {**LOW, "6690-2": ("3", "10*3/uL"), "770-8": ("30", "%"), "789-8": ("2", "10*6/uL")}
    kinds |= {"17849-1": ("2", "%"), "30451-9": ("0.9", "10*3/uL")}
    some = []
    for code, (value, unit) in kinds.items():
        for number in range(rng.choice([0, 0, 1, 3, 8])):
            day = date(2024, 1, 1) + timedelta(rng.choice([rng.randrange(99), rng.randrange(9)]))
            when = rng.choice([f"{day}", f"{day}T23:30:00-11:00", f"{day}T00:30:00+13:00"])
            times = rng.choice([0.1, 0.9, 1.1, 9])
            one = result(patient, code, str(float(value) * times), unit, day.isoformat())
            one |= {"id": f"{one['id']}-{number}", "effectiveDateTime": when}
            one["valueQuantity"] |= rng.choice([{}, {}, {}, {"comparator": rng.choice("<>")}])
            some.append(one | rng.choice([{}] * 9 + [{"status": "cancelled"}, {"id": "again"}]))
    return some


def test_what_is_passed_over_changes_no_assessment(tmp_path: Path) -> None:
    rng = random.Random(19)
    everyone = [one for number in range(400) for one in course(rng, f"p{number}")]
    rng.shuffle(everyone)
    folder = written(tmp_path / "in", everyone)
    (folder / "manifest.json").write_text('{"output":[{"url":"Observation.ndjson"}]}')
    for name in ("nih-daclizumab-2003", "emaa"):
        out = screened(folder, tmp_path / name, "--criteria", name, "--window", "20")
        query = {"criteria": name, "window": "20"}
        agree(out, answered("assess-eligibility", bundle_of([folder]), query))


def test_a_patient_that_replaces_another_has_its_results(tmp_path: Path) -> None:
    link = [{"type": "replaced-by", "other": {"reference": "Patient/new"}}]
    old = {"resourceType": "Patient", "id": "old", "link": link}
    lines_of_both = [*counts("old")[:2], old, *counts("new")[2:]]
    folder = written(tmp_path / "in", lines_of_both)
    (folder / "manifest.json").write_text('{"output":[{"url":"Observation.ndjson"}]}')
    out = screened(folder, tmp_path / "out")
    assert verdicts(out) == {"Patient/new": "eligible"}
    agree(out, answered("assess-eligibility", bundle_of([folder])))


def test_a_result_of_somebody_else_is_no_newer_one(tmp_path: Path) -> None:
    donor = {"focus": [{"reference": "Patient/donor"}], "id": "donor"}
    newer = result("p", "777-3", "300", "10*3/uL", "2024-05-01", **donor)
    out = screened(written(tmp_path / "in", [*counts("p"), newer]), tmp_path / "out")
    assert verdicts(out) == {"Patient/p": "eligible"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [("all", {"p", "q", "r"}), ("open", {"p", "q"}), ("met", {"p"}), ("none", set())],
)
def test_which_assessments_are_written_is_asked_for_and_the_table_has_everybody(
    asked: str, told: set[str], tmp_path: Path
) -> None:
    healthy = counts("r", _777_3="400", _751_8="5", _718_7="15")
    some = [*counts("p"), *counts("q", _777_3="400")[:3], *healthy]
    out = screened(written(tmp_path / "in", some), tmp_path / "out", "--assessments", asked)
    assert verdicts(out) == {
        "Patient/p": "eligible",
        "Patient/q": "indeterminate",
        "Patient/r": "not-eligible",
    }
    found = {one["subject"]["reference"] for one in lines(out / "assessments.ndjson")}
    assert found == {f"Patient/{name}" for name in told}


def test_a_whole_life_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    """Of whoever was eligible two years ago, and of whoever never was."""
    healthy = {"_751_8": "2.4", "_777_3": "160", "_718_7": "13", "_60474_4": "80"}

    def on(day: str, patient: str, **changed: str) -> list[dict[str, Any]]:
        return [
            one | {"id": f"{one['id']}-{day}", "effectiveDateTime": day}
            for one in counts(patient, **changed)
        ]

    some = [
        *on("2022-03-01", "once"),
        *on("2022-04-12", "once"),
        *on("2024-03-05", "once", **healthy),
        *on("2022-03-01", "never", **healthy),
        *on("2024-03-05", "never", **healthy),
    ]
    out = screened(written(tmp_path / "export", some), tmp_path / "out", "--when", "first")
    with (out / "verdicts.csv").open(newline="") as told:
        rows = {row["patient"]: row for row in csv.DictReader(told)}
    columns = ("verdict", "day", "first-met", "last-met", "episodes", "longest-time-met")
    assert [rows["Patient/once"][name] for name in columns] == [
        "eligible",
        "2022-03-01",
        "2022-03-01",
        "2022-04-12",
        "1",
        "42",
    ]
    assert [rows["Patient/never"][name] for name in columns] == [
        "not-eligible",
        "2024-03-05",
        "none",
        "none",
        "0",
        "none",
    ]


def test_six_weeks_are_read_where_a_definition_asks_for_them(tmp_path: Path) -> None:
    some = [
        one | {"id": f"{one['id']}-{day}", "effectiveDateTime": day}
        for day in ("2024-01-02", "2024-03-05")
        for one in counts("child")
    ]
    source = written(tmp_path / "export", some)
    out = screened(source, tmp_path / "out", "--criteria", "howard-2004-pediatric")
    assert verdicts(out) == {"Patient/child": "eligible"}


def test_each_change_of_a_life_is_a_line(tmp_path: Path) -> None:
    some = [
        one | {"id": f"{one['id']}-{day}", "effectiveDateTime": day}
        for day, changed in (
            ("2022-03-01", {}),
            ("2023-03-01", {"_751_8": "2.4", "_777_3": "160", "_718_7": "13", "_60474_4": "80"}),
            ("2024-03-05", {}),
        )
        for one in counts("twice", **changed)
    ]
    source = written(tmp_path / "export", some)
    out = screened(source, tmp_path / "out", "--when", "changes")
    assert [
        (one["effectiveDateTime"], one["valueCodeableConcept"]["coding"][0]["code"])
        for one in lines(out / "assessments.ndjson")
    ] == [("2022-03-01", "eligible"), ("2023-03-01", "not-eligible"), ("2024-03-05", "eligible")]


def test_a_share_older_than_the_window_is_read_where_its_total_is_dated_later(
    tmp_path: Path,
) -> None:
    def one(name: str, code: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
        quantity = {"value": value, "system": "http://unitsofmeasure.org", "code": unit}
        return {
            "resourceType": "Observation",
            "id": name,
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "subject": {"reference": "Patient/p"},
            "valueQuantity": quantity | {"unit": unit},
            **more,
        }

    drawn = {"specimen": {"reference": "Specimen/s"}}
    some = [
        one("direct", "751-8", 1.5, "10*9/L", effectiveDateTime="2020-12-01"),
        one("share", "770-8", 20, "%", effectiveDateTime="2020-05-12", **drawn),
        one("newer", "770-8", 30, "%", effectiveDateTime="2020-11-01"),
        one("total", "6690-2", 6.0, "10*9/L", **drawn),
        {
            "resourceType": "DiagnosticReport",
            "id": "r",
            "status": "final",
            "effectiveDateTime": "2022-02-02",
            "result": [{"reference": "Observation/total"}],
        },
    ]
    folder = written(tmp_path / "in", some)
    out = screened(folder, tmp_path / "out")
    (found,) = lines(out / "assessments.ndjson")
    assert {"reference": "Observation/share"} in found["derivedFrom"]


def test_a_needless_result_is_not_told_of(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [*week("p", 1), *week("p", 9)])
    out = screened(folder, tmp_path / "out")
    assert lines(out / "set-aside.ndjson") == []


def test_a_correction_of_the_newest_brings_back_the_one_before(tmp_path: Path) -> None:
    same = {"identifier": [{"value": "1"}], "specimen": {"reference": "Specimen/1"}}
    newest = result("p", "777-3", "20", "10*3/uL", "2024-05-01", **same)
    corrected = result("p", "777-3", "500", "10*3/uL", "2024-01-02", status="corrected", **same)
    between = result("p", "777-3", "60", "10*3/uL", "2024-04-20")
    folder = written(tmp_path / "in", [newest, between, corrected | {"id": "c"}])
    (assessment,) = lines(screened(folder, tmp_path / "out") / "assessments.ndjson")
    assert assessment["derivedFrom"] == [{"reference": f"Observation/{between['id']}"}]


def test_a_later_version_with_an_earlier_date_counts(tmp_path: Path) -> None:
    first = result("p", "777-3", "20", "10*3/uL", "2024-05-01", meta={"versionId": "1"})
    second = first | {"effectiveDateTime": "2024-01-02", "meta": {"versionId": "2"}}
    between = result("p", "777-3", "60", "10*3/uL", "2024-04-20")
    folder = written(tmp_path / "in", [first, second, between])
    (assessment,) = lines(screened(folder, tmp_path / "out") / "assessments.ndjson")
    assert assessment["derivedFrom"] == [{"reference": f"Observation/{between['id']}"}]


@pytest.mark.parametrize("first", [True, False])
def test_an_older_total_is_kept_for_its_percentage(first: bool, tmp_path: Path) -> None:
    early = [
        result("p", "6690-2", "2.0", "10*3/uL", "2024-05-01"),
        result("p", "770-8", "50", "%", "2024-05-01"),
    ]
    later = result("p", "6690-2", "9.0", "10*3/uL", "2024-05-20")
    some = [later, *early] if first else [*early, later]
    out = screened(written(tmp_path / "in", some), tmp_path / "out")
    (assessment,) = lines(out / "assessments.ndjson")
    judged = {one["reference"] for one in assessment["derivedFrom"]}
    assert judged == {f"Observation/{one['id']}" for one in early}
