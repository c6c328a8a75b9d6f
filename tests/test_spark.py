"""Spark, in this process and as a cluster, comes to the very files that one machine comes to."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyspark
import pytest
from pyarrow import parquet
from pyspark.sql import SparkSession

from app import cli
from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.bulk import files, results
from app.bulk import spark as bulk
from app.bulk.judging import Order
from app.fhir.map_files import read_code_maps
from app.fhir.outcome import RequestError
from benchmarks.exports import export
from tests.conftest import free_port
from tests.test_bulk import SERVER, counts, same_results, verdicts, written
from tests.tools import require

ROOT = Path(__file__).resolve().parent.parent
HERE_ONLY = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
SECONDS = 120
# PySpark's own: a socket of its gateway is left to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Where Spark listens and which Python it starts; without Java the tests cannot be run."""
    require("java")
    found = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in found.items():
            patched.setenv(name, value)
        yield dict(os.environ)


@pytest.fixture(scope="module")
def spark(environment: dict[str, str]) -> Iterator[Any]:
    """One session for all tests, on two cores."""
    builder = SparkSession.builder.master("local[2]")
    for name, value in HERE_ONLY.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with every kind of mess in it."""
    folder = tmp_path_factory.mktemp("spark") / "messy"
    export(folder, 3_000, each=24, messy=True, server=SERVER)
    return folder


def on_one_machine(source: Path, out: Path, *options: str, operation: str = "screen") -> Path:
    """The results of the command."""
    command = [operation, str(source), "--out", str(out), "--workers", "1", *options]
    assert cli.main(command) in {0, 1}
    return out


def on_spark(
    spark: Any, source: Path, out: Path, operation: str = ASSESS_ELIGIBILITY, counts: bool = False
) -> Path:
    """The results of the same in Spark."""
    order = Order(operation, (), 30, counts=counts)
    bulk.assess(spark, [source], order, out, single_files=True)
    return out


def test_screening_comes_to_the_same_files(spark: Any, messy: Path, tmp_path: Path) -> None:
    expected = on_one_machine(messy, tmp_path / "one")
    assert set(verdicts(expected).values()) == {"eligible", "not-eligible", "indeterminate"}
    same_results(expected, on_spark(spark, messy, tmp_path / "spark"))


def test_responses_come_to_the_same_files(spark: Any, messy: Path, tmp_path: Path) -> None:
    expected = on_one_machine(messy, tmp_path / "one", "--counts", operation="response")
    assert (expected / "measure-report.json").exists()
    assert (expected / "counts.parquet").exists()
    same_results(expected, on_spark(spark, messy, tmp_path / "spark", ASSESS_RESPONSE, True))


def test_broken_lines_and_files_stop_nothing(spark: Any, tmp_path: Path) -> None:
    lines = [*counts("p"), b"\xff\xfe", b"7" * 100, b'{"id":"\xff"}', *counts("q", _751_8="9")]
    source = written(tmp_path / "in", lines, "a.ndjson")
    whole = (source / "a.ndjson").read_bytes()
    (source / "b.ndjson.gz").write_bytes(gzip.compress(whole.replace(b"Patient/", b"Patient/z")))
    (source / "c.ndjson.gz").write_bytes(gzip.compress(whole)[:-30])
    with (source / "a.ndjson").open("ab") as file:
        file.write(b'{"resourceType":"Observation","id":"cu')
    expected = on_one_machine(source, tmp_path / "one")
    assert verdicts(expected).keys() == {"Patient/p", "Patient/q", "Patient/zp", "Patient/zq"}
    told = (expected / "errors.ndjson").read_text()
    for why in ("Not JSON", "a.ndjson, line 6", "cut short", "compressed file"):
        assert why in told
    same_results(expected, on_spark(spark, source, tmp_path / "spark"))


def test_how_the_work_is_split_does_not_matter(
    spark: Any, messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = on_one_machine(messy, tmp_path / "one")
    monkeypatch.setattr(bulk, "_LINES_A_BUCKET", 100)
    monkeypatch.setattr(bulk, "chunks_of", lambda some: files.chunks_of(some, 300_007))
    same_results(expected, on_spark(spark, messy, tmp_path / "spark"))


def test_executors_write_parts_that_together_are_the_files(
    spark: Any, messy: Path, tmp_path: Path
) -> None:
    expected, out = on_one_machine(messy, tmp_path / "one", "--counts"), tmp_path / "spark"
    for operation in (ASSESS_RESPONSE, ASSESS_ELIGIBILITY):  # the second in place of the first
        bulk.assess(spark, [messy], Order(operation, (), 30, counts=True), out)
    assert {path.name for path in out.iterdir()} == {
        *results.PARTED,
        "errors.ndjson",
        "measure-report.json",
    }
    for name in ("assessments", "set-aside"):
        parts = sorted((out / name).glob("part-*.ndjson"))
        assert len(parts) > 1
        lines = [line for part in parts for line in part.read_bytes().splitlines()]
        assert sorted(lines) == sorted((expected / f"{name}.ndjson").read_bytes().splitlines())
    told: dict[str, Any] = {}
    for table in (out / "verdicts").glob("part-*.csv"):
        (table.parent / "verdicts.csv").write_bytes(table.read_bytes())
        told |= verdicts(table.parent)
    assert told == verdicts(expected)
    read = parquet.read_table(out / "counts").to_pylist()
    assert sorted(map(str, read)) == sorted(
        map(str, parquet.read_table(expected / "counts.parquet").to_pylist())
    )
    errors = [*(out / "errors").glob("part-*.ndjson"), out / "errors.ndjson"]
    assert sorted(line for file in errors for line in file.read_bytes().splitlines()) == sorted(
        (expected / "errors.ndjson").read_bytes().splitlines()
    )


def test_an_empty_export_has_nobody(spark: Any, tmp_path: Path) -> None:
    source = written(tmp_path / "in", [])
    expected = on_one_machine(source, tmp_path / "one")
    same_results(expected, on_spark(spark, source, tmp_path / "spark"))


@pytest.mark.parametrize("after", ["medications_of", "chunks_of"], ids=["judged", "read"])
def test_a_file_that_vanishes_meanwhile_is_named(
    after: str, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "in", counts("p")) / "Observation.ndjson"
    before = getattr(bulk, after)

    def then(*arguments: Any) -> Any:
        found = before(*arguments)
        file.unlink()
        return found

    monkeypatch.setattr(bulk, after, then)
    with pytest.raises(files.ChangedError, match=f"{file} cannot be read: No such file"):
        on_spark(spark, file, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_second_run_into_the_same_directory_is_refused(spark: Any, tmp_path: Path) -> None:
    source = written(tmp_path / "in", counts("p"))
    (tmp_path / "out").mkdir()
    with results.locked(tmp_path / "out"), pytest.raises(results.BusyError):
        on_spark(spark, source, tmp_path / "out")


def test_a_fault_of_the_caller_is_said_before_anything_is_read(spark: Any, tmp_path: Path) -> None:
    question = Order(ASSESS_ELIGIBILITY, (("criteria", "unknown"),), 30)
    with pytest.raises(RequestError):
        bulk.assess(spark, [tmp_path], question, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The program, as `spark-submit` runs it on a cluster of processes


def submit(environment: dict[str, str], master: str, *arguments: str) -> subprocess.Popen[str]:
    """Our program, submitted."""
    settings = HERE_ONLY | {"spark.executor.memory": "512m"}
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", master]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    command += [str(ROOT / "app" / "bulk" / "spark.py"), *arguments]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere", "--out", "out"], "no such file"),
        ([".", "--out", "out", "--parameter", "criteria=unknown"], "No definition"),
        ([".", "--out", "out", "--parameter", "asOf=yesterday"], "asOf"),
    ],
)
def test_bad_usage_is_2_before_a_session_is_started(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bulk, "SparkSession", None)
    assert bulk.main(arguments) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@contextmanager
def process(
    kind: str, folder: Path, environment: dict[str, str], *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A master or a worker of a standalone cluster, and what it starts; its log is in `folder`."""
    folder.mkdir()
    program = Path(pyspark.__file__).parent / "bin" / "spark-class"
    command = [program, f"org.apache.spark.deploy.{kind}.{kind.title()}", "--webui-port", "0"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", *arguments],  # type: ignore[list-item]
            env=environment | {"SPARK_WORKER_DIR": str(folder)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as running,
    ):
        try:
            yield running
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def until(folder: Path, name: str, says: str, count: int = 1) -> None:
    """Wait until logs say something."""
    give_up = time.monotonic() + SECONDS
    while sum(log.read_text().count(says) for log in folder.glob(name)) < count:
        assert time.monotonic() < give_up, f"No {says!r} in {folder / name}."
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """The address of a master with two workers; a worker's folder, and its process."""
    folder = tmp_path_factory.mktemp("cluster")
    port = str(free_port())
    address = f"spark://127.0.0.1:{port}"
    size = ["--cores", "1", "--memory", "1g", address]
    with process("master", folder / "master", environment, "--port", port):
        until(folder, "master/log", "New state: ALIVE")
        with (
            process("worker", folder / "worker-1", environment, *size) as worker,
            process("worker", folder / "worker-2", environment, *size),
        ):
            until(folder, "worker-?/log", "Successfully registered with master", 2)
            yield address, folder / "worker-1", worker


def test_a_cluster_comes_to_the_same_files_also_when_a_worker_is_killed(
    cluster: tuple[str, Path, subprocess.Popen[bytes]],
    environment: dict[str, str],
    messy: Path,
    tmp_path: Path,
) -> None:
    address, folder, worker = cluster
    expected = on_one_machine(messy, tmp_path / "one")
    options = ["--single-files", str(messy), "--out"]
    run = submit(environment, address, *options, str(tmp_path / "whole"))
    told, log = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, log
    assert "nih-daclizumab-2003 eligible: " in told
    same_results(expected, tmp_path / "whole")

    run = submit(environment, address, *options, str(tmp_path / "killed"))
    until(folder, "app-*-0001/*/stderr", "Running task")
    os.killpg(worker.pid, signal.SIGKILL)
    assert run.poll() is None, "It was over too soon."
    _, log = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, log
    assert "Lost executor" in log
    same_results(expected, tmp_path / "killed")


def test_an_export_under_a_hospitals_own_codes_comes_to_the_same_files(
    spark: Any, tmp_path: Path
) -> None:
    """The map goes to the workers with the question: they need no file of it."""
    lab = "https://lab.example.org/codes"
    own = [{**one, "code": {"coding": [{"system": lab, "code": "PLT"}]}} for one in counts("a")]
    platelets = [one for one in own if one["id"].startswith("a-777-3")]
    source = written(tmp_path / "export", [*counts("b"), *platelets])
    map_file = tmp_path / "lab.csv"
    map_file.write_text(f"system,code,loinc\n{lab},PLT,777-3\n")
    expected = on_one_machine(source, tmp_path / "one", "--code-map", str(map_file))
    assert "code-mapped" in (expected / "set-aside.ndjson").read_text()
    question = Order(ASSESS_ELIGIBILITY, (), 30, read_code_maps([map_file]))
    bulk.assess(spark, [source], question, tmp_path / "spark", single_files=True)
    same_results(expected, tmp_path / "spark")
