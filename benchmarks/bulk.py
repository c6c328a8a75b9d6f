"""Exports on one machine: the command on one and on two processes, decoding alone, DuckDB.

python -m benchmarks.bulk measures only this.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks import floor, servers
from benchmarks.cql_engines import AbsentError

FOLDER = servers.ROOT / "build" / "bench-export"
OBSERVATIONS = 1_000_000
_RULE = """
WITH newest AS (
    SELECT subject.reference AS patient, code.coding[1].code AS code,
           arg_max(valueQuantity.value, effectiveDateTime) AS value
    FROM read_json(?, format = 'newline_delimited', columns = {
        status: 'VARCHAR', subject: 'STRUCT(reference VARCHAR)', effectiveDateTime: 'VARCHAR',
        code: 'STRUCT(coding STRUCT(code VARCHAR)[])', valueQuantity: 'STRUCT(value DECIMAL(18,6))'
    })
    WHERE status = 'final'
    GROUP BY ALL
), lineages AS (
    SELECT patient,
           max(value) FILTER (code = '751-8') <= 1.2 AS neutrophils,
           max(value) FILTER (code = '777-3') <= 70 AS platelets,
           max(value) FILTER (code = '718-7') <= 8.5
               AND max(value) FILTER (code = '60474-4') <= 60 AS red_cells
    FROM newest GROUP BY patient
)
SELECT count(*) FILTER (neutrophils::INT + platelets::INT + red_cells::INT >= 2) FROM lineages
"""


def contenders() -> Iterator[tuple[str, Callable[[], None]]]:
    """What is to be timed, by name. Raises AbsentError where there is no bulk engine."""
    if not find_spec("app.bulk"):
        raise AbsentError("this tree has no app.bulk")
    of_a_ward, hospital = ward(), _export("hospital", hospital=True)
    files = sorted(of_a_ward.glob("Observation*.ndjson"))
    yield "decode only", lambda: _decode(files)
    yield "screen, 1", lambda: _run("screen", of_a_ward, "--workers", "1")
    yield "screen, 2", lambda: _run("screen", of_a_ward, "--workers", "2")
    two = ("--workers", "2")
    yield "hospital: open ones, 2", lambda: _run("screen", hospital, *two, "--assessments", "open")
    yield "hospital: screen, 2", lambda: _run("screen", hospital, *two)
    yield "hospital: response, 2", lambda: _run("response", hospital, *two)
    if find_spec("duckdb"):
        of_hospital = sorted(hospital.glob("Observation*.ndjson"))
        yield "DuckDB", lambda: _duckdb(files)
        yield "hospital: DuckDB", lambda: _duckdb(of_hospital)


def ward() -> Path:
    """The export of a ward of hematology."""
    return _export("export")


def _export(name: str, hospital: bool = False) -> Path:
    from benchmarks.exports import export  # noqa: PLC0415 may be absent

    source = FOLDER / f"{name}-{OBSERVATIONS}"
    if not source.exists():
        export(source.with_suffix(".part"), OBSERVATIONS, hospital=hospital)
        source.with_suffix(".part").rename(source)
    return source


def _decode(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as lines:
            for line in lines:
                floor.decode_line(line)


def _run(operation: str, source: Path, *options: str) -> None:
    out = FOLDER / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "app.cli", operation, str(source), "--out", str(out), *options]
    subprocess.run(command, cwd=servers.ROOT, check=True, capture_output=True)


def _duckdb(files: list[Path]) -> None:
    import duckdb  # noqa: PLC0415 may be absent

    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(_RULE, [[str(file) for file in files]]).fetchall()


def seconds_in_turn(rounds: int) -> dict[str, list[float]]:
    """The seconds of each contender in each round, one after the other."""
    found: dict[str, list[float]] = {}
    some = list(contenders())
    for _ in range(rounds):
        for name, call in some:
            start = time.perf_counter()
            call()
            found.setdefault(name, []).append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    for contender, seconds in seconds_in_turn(3).items():
        print(f"{contender}: " + " ".join(f"{one:.2f}" for one in seconds))  # noqa: T201 the answer
