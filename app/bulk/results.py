"""Results to files: assessments, what was set aside, the table, the errors, the reports."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from app import operations
from app.bulk.judging import (
    Answered,
    Places,
    Question,
    Summary,
    cohort_of,
    error_of,
    table_lines,
)
from app.bulk.patients import Problem
from app.fhir.measure import DEFINITION, POPULATION_SYSTEM, SCREENING_ID
from app.fhir.outcome import BASE
from app.fhir.writing import VERDICT_SYSTEM, Json, canonical, coded, encode
from app.papers import PUBLISHED

ASSESSMENTS = "assessments.ndjson"
SET_ASIDE = "set-aside.ndjson"
ERRORS = "errors.ndjson"
TABLE = "verdicts.csv"
PARQUET = "verdicts.parquet"
REPORT = "measure-report"
_LOCK = ".maa-assess.lock"
_RESULT = (
    r"(?:(?:assessments|set-aside|errors)\.ndjson|verdicts\.(?:csv|parquet)"
    r"|measure-report(?:\.[\w-]+)?\.json)"
)
_OURS = re.compile(rf"{_RESULT}|\.{_RESULT}\.\d+")
"""Results, and what a run that was killed while it wrote them has left."""


class BusyError(Exception):
    """An output directory that another run writes into: which, and what to do."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """An output directory for this run alone; BusyError where another run has it."""
    path = folder / _LOCK
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "ab", opener=for_owner))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it may have removed it meanwhile, and a third run have made it anew.
            mine = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise BusyError(f"Another run writes into {folder}: wait for it, or take another.")
        stack.callback(path.unlink, missing_ok=True)
        yield


def for_owner(path: str, flags: int) -> int:
    """Opens a file that only its owner may read, whatever the umask: patients' counts are in it."""
    file = os.open(path, flags, 0o600)
    os.fchmod(file, 0o600)
    return file


def owned(folder: Path) -> Path:
    """A directory that only its owner may enter, made unless it is there."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    return folder


def _clear(folder: Path) -> None:
    """Remove the results of another question: the next may write fewer files."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that has its name only when it is complete."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(new, "wb", opener=for_owner) as file:
            yield file
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_results(
    folder: Path,
    question: Question,
    answers: Iterable[Answered],
    problems: Iterable[Problem],
    place: Places,
) -> int:
    """Write every file but the reports, in the order given; how many problems there were."""
    columns = question.columns()
    _clear(folder)
    with ExitStack() as stack:
        assessments, aside, table = (
            stack.enter_context(whole(folder / name)) for name in (ASSESSMENTS, SET_ASIDE, TABLE)
        )
        table.write(table_lines([dict(zip(columns, columns, strict=True))], columns))
        for answer in answers:
            assessments.write(answer.assessments)
            aside.write(answer.set_aside)
            table.write(answer.table)
    count = 0
    with whole(folder / ERRORS) as errors:
        for problem in problems:
            errors.write(encode(error_of(problem, place)) + b"\n")
            count += 1
    return count


def has_pyarrow() -> bool:
    """Whether Parquet can be written: it comes with the extra `exports`."""
    return importlib.util.find_spec("pyarrow") is not None


def write_parquet(folder: Path) -> None:
    """The table once more as Parquet: text, since a count may be `< 2`, and dates."""
    import pyarrow as pa  # noqa: PLC0415 an extra, and slow to import
    from pyarrow import csv, parquet  # noqa: PLC0415 as above

    with (folder / TABLE).open() as table:
        columns = table.readline().rstrip("\n").split(",")
    types = {
        name: pa.date32() if name == "day" or name.endswith(("date",)) else pa.string()
        for name in columns
    }
    convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    # A patient's name may hold a line's end.
    parse = csv.ParseOptions(newlines_in_values=True)
    with (
        csv.open_csv(folder / TABLE, convert_options=convert, parse_options=parse) as batches,
        whole(folder / PARQUET) as file,
        parquet.ParquetWriter(file, batches.schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def write_reports(folder: Path, question: Question, summary: Summary) -> None:
    """The MeasureReport, or where several definitions were asked for one of each."""
    reports = list(_reports(question, summary))
    for definition, report in reports:
        name = REPORT if len(reports) == 1 else f"{REPORT}.{definition}"
        with whole(folder / f"{name}.json") as file:
            file.write(encode(report) + b"\n")


def _reports(question: Question, summary: Summary) -> Iterator[tuple[str, Json]]:
    if question.operation == "response":
        cohort = cohort_of(summary.cohort)
        for definition in dict.fromkeys(one.paper.id for one in cohort):
            found = [one for one in cohort if one.paper.id == definition]
            found.sort(key=lambda one: (one.patient.reference, one.patient.value))
            yield definition, operations.cohort_report(found, ())
        return
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in sorted(summary.tally.items()):
        definition, _, verdict = name.partition(" ")
        counts[definition][verdict] = count
    for paper in PUBLISHED:
        if paper.id in counts:
            yield paper.id, _screening_report(canonical(paper), counts[paper.id])


def _screening_report(definition: str, verdicts: dict[str, int]) -> Json:
    """How many patients were screened, and how many of them came to each verdict."""

    def population(count: int) -> list[Json]:
        code = coded(POPULATION_SYSTEM, "initial-population", "Initial Population")
        return [{"code": code, "count": count}]

    strata = [
        {"value": coded(VERDICT_SYSTEM, verdict), "population": population(count)}
        for verdict, count in verdicts.items()
    ]
    absent = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
    return {
        "resourceType": "MeasureReport",
        "extension": [{"url": DEFINITION, "valueCanonical": definition}],
        "status": "complete",
        "type": "summary",
        "measure": f"{BASE}/Measure/{SCREENING_ID}|1.0.0",
        "period": {"extension": [{"url": absent, "valueCode": "unknown"}]},
        "group": [
            {
                "population": population(sum(verdicts.values())),
                "stratifier": [{"code": [{"text": "Verdict"}], "stratum": strata}],
            }
        ],
    }
