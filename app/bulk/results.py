"""Results to files: assessments, what was set aside, the table, the errors, the reports."""

from __future__ import annotations

import fcntl
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import csv, parquet

from app import operations
from app.bulk.counts import counts_writer
from app.bulk.judging import Answered, Order
from app.bulk.table import table_lines
from app.domain.response import ResponseAssessment
from app.fhir.canonicals import BASE, DEFINITION, POPULATION_SYSTEM, SCREENING_ID, VERDICT_SYSTEM
from app.fhir.json import Json, coded, encode
from app.papers import PUBLISHED
from app.writing.observation import canonical

ASSESSMENTS = "assessments.ndjson"
SET_ASIDE = "set-aside.ndjson"
ERRORS = "errors.ndjson"
TABLE = "verdicts.csv"
PARQUET = "verdicts.parquet"
COUNTS = "counts.parquet"
REPORT = "measure-report"
PARTED = ("assessments", "set-aside", "errors", "verdicts", "counts")
"""Folders of results that are in parts."""
_LOCK = ".maa-assess.lock"
_RESULT = (
    r"(?:(?:assessments|set-aside|errors)\.ndjson|verdicts\.(?:csv|parquet)|counts\.parquet"
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
        file = stack.enter_context(path.open("ab"))
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


@contextmanager
def for_owner_only() -> Iterator[None]:
    """What is made meanwhile only its owner may read, whatever the umask: counts are in it."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def clear_results(folder: Path) -> None:
    """Remove the results of another question: the next may write fewer files."""
    parts = [path for name in PARTED for path in (folder / name).glob("part-*")]
    for path in [*parts, *folder.iterdir()]:
        if path in parts or _OURS.fullmatch(path.name):
            path.unlink()


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that has its name only when it is complete."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as file:
            yield file
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_results(folder: Path, order: Order, answers: Iterable[Answered]) -> None:
    """Write assessments, what was set aside, the table, and counts if asked, in the order given."""
    columns = order.columns()
    with ExitStack() as stack:
        assessments, aside, table = (
            stack.enter_context(whole(folder / name)) for name in (ASSESSMENTS, SET_ASIDE, TABLE)
        )
        table.write(table_lines([dict(zip(columns, columns, strict=True))], columns))
        write_counts: Callable[[bytes], None] | None = None
        if order.counts:
            counts = stack.enter_context(whole(folder / COUNTS))
            write_counts = stack.enter_context(counts_writer(counts))
        for answer in answers:
            assessments.write(answer.assessments)
            aside.write(answer.set_aside)
            table.write(answer.table)
            if write_counts:
                write_counts(answer.counts)
    _write_parquet(folder)


def write_errors(folder: Path, problems: Iterable[Json]) -> None:
    """Write what of the lines was not read, an OperationOutcome each."""
    with whole(folder / ERRORS) as file:
        file.writelines(encode(problem) + b"\n" for problem in problems)


def _write_parquet(folder: Path) -> None:
    """The table once more as Parquet: text, since a count may be `< 2`, and dates."""
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


def write_reports(
    folder: Path,
    order: Order,
    tally: Mapping[str, int],
    treated: Sequence[ResponseAssessment],
) -> None:
    """The MeasureReport, or where several definitions were asked for one of each."""
    has_cohorts = operations.OPERATIONS[order.operation].in_cohort
    found = _cohorts(treated) if has_cohorts else _screenings(tally)
    reports = list(found)
    for definition, report in reports:
        name = REPORT if len(reports) == 1 else f"{REPORT}.{definition}"
        with whole(folder / f"{name}.json") as file:
            file.write(encode(report) + b"\n")


def _cohorts(treated: Sequence[ResponseAssessment]) -> Iterator[tuple[str, Json]]:
    asked = operations.Reported(operations.today())
    for definition in dict.fromkeys(one.paper.id for one in treated):
        cohort = [one for one in treated if one.paper.id == definition]
        cohort.sort(key=lambda one: (one.patient.reference, one.patient.value))
        yield definition, operations.cohort_report(cohort, (), asked)


def _screenings(tally: Mapping[str, int]) -> Iterator[tuple[str, Json]]:
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in sorted(tally.items()):
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
