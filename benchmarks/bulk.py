"""An export on one machine: the command on one and on two processes, decoding alone, DuckDB."""

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
    if not find_spec("app.bulk") or not find_spec("benchmarks.exports"):
        raise AbsentError("this tree has no app.bulk")
    from benchmarks.exports import export  # noqa: PLC0415 may be absent

    source = FOLDER / f"export-{OBSERVATIONS}"
    if not source.exists():
        export(source.with_suffix(".part"), OBSERVATIONS)
        source.with_suffix(".part").rename(source)
    files = sorted(source.glob("Observation*.ndjson"))
    yield "decode only", lambda: _decode(files)
    for workers in (1, 2):
        yield f"screen, {workers}", lambda workers=workers: _screen(source, workers)  # type: ignore[misc]
    if find_spec("duckdb"):
        yield "DuckDB", lambda: _duckdb(files)


def _decode(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as lines:
            for line in lines:
                floor.decode_line(line)


def _screen(source: Path, workers: int) -> None:
    out = FOLDER / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "app.cli", "screen", str(source), "--out", str(out)]
    subprocess.run(
        [*command, "--workers", str(workers)], cwd=servers.ROOT, check=True, capture_output=True
    )


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
