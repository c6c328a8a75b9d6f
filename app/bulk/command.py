"""`maa-assess screen` and `maa-assess response --out`: an export in, a directory of results out."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.bulk.exports import find_files
from app.bulk.files import ChangedError, ExportError
from app.bulk.judging import Order, Written
from app.bulk.machine import StoppedError, run
from app.bulk.parts import tallied
from app.bulk.results import ERRORS, BusyError, for_owner_only, locked
from app.fhir.maps import CodeMap
from app.operations import OPERATIONS
from app.settings import read_settings

DONE, NOBODY, BAD_USAGE, STOPPED = 0, 1, 2, 3
_AGAIN = "What is done is kept: run the same command again to go on."


def assess_exports(
    exports: Sequence[Path],
    operation: str,
    query: tuple[tuple[str, str], ...],
    out: Path,
    workers: int,
    memory_mib: int,
    code_map: CodeMap | None = None,
    assessments: str = "all",
    counts: bool = False,
) -> int:
    """Assess exports into the directory `out`; the exit code.

    `assessments` is a `Written`; with `counts` every count is written as it was read, too.
    0: done, also where single lines were not read. 1: done, and nobody to assess. 2: bad usage, or
    an export that cannot be read. 3: stopped; the same call goes on. Raises RequestError for a bad
    parameter.
    """
    window = read_settings().window_days
    order = Order(operation, query, window, code_map, Written(assessments), counts)
    order.question()
    with for_owner_only():
        return _assess(exports, order, out, workers, memory_mib * 1024**2)


def _assess(
    exports: Sequence[Path], order: Order, out: Path, workers: int, memory_bytes: int
) -> int:
    try:
        files, notes = find_files(exports)
        out.mkdir(parents=True, exist_ok=True)
    except ExportError as error:
        return _say(str(error), BAD_USAGE)
    except OSError as error:
        return _say(f"{out}: {error.strerror}", BAD_USAGE)
    for note in notes:
        _say(note)
    try:
        with locked(out), _progress() as progress:
            summary = run(files, order, out, workers, memory_bytes, progress)
    except (
        BusyError,
        StoppedError,
        ChangedError,
        KeyboardInterrupt,
        OSError,
        duckdb.Error,
    ) as error:
        return _say(*_ended_by(error, out))
    results = _shown(f"Results are in {out}.")
    sys.stdout.writelines(f"{line}\n" for line in (*tallied(summary.tally), results))
    if summary.problems:
        count = len(summary.problems)
        _say(f"{count} lines or results belong to nobody or cannot be read: see {out / ERRORS}.")
    if OPERATIONS[order.operation].in_cohort and not summary.treated:
        _say("nobody has a start of treatment: there is no MeasureReport.")
    return DONE if summary.tally else _say("nobody to assess", NOBODY)


def _ended_by(error: BaseException, out: Path) -> tuple[str, int]:
    if isinstance(error, BusyError):
        return str(error), BAD_USAGE
    if isinstance(error, OSError):
        room = " Make room on that disk." if error.errno == errno.ENOSPC else ""
        return f"{error.filename or out}: {error.strerror}.{room} {_AGAIN}", STOPPED
    if isinstance(error, duckdb.Error):
        why = str(error).partition("\n")[0]
        return f"DuckDB cannot bring the patients together: {why}. {_AGAIN}", STOPPED
    return f"{str(error) or 'Stopped.'} {_AGAIN}", STOPPED


def _say(text: str, code: int = DONE) -> int:
    sys.stderr.write(f"maa-assess: {_shown(text)}\n")
    return code


def _shown(text: str) -> str:
    """The text without what would steer a terminal, as a file's name may hold it."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
