"""A part of the patients to files, and the parts together to results."""

from __future__ import annotations

import heapq
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.bulk.files import File, Reader, unpack
from app.bulk.judging import Answered, Judge, Lines, Order, Problem, Row, error_of
from app.bulk.results import whole, write_errors, write_reports, write_results
from app.domain.counts import Analyte
from app.domain.response import ResponseAssessment

_ANSWERED = pa.schema(
    {
        "patient": pa.string(),
        "assessments": pa.binary(),
        "set_aside": pa.binary(),
        "table": pa.binary(),
        "counts": pa.binary(),
    }
)
_AT_ONCE = 32
"""Results in a batch: of each part one is held when they are merged."""
_ROW = ("file", "line", "start", "length", "name", "medication", "bare")


class Summary(NamedTuple):
    """What patients come to together."""

    tally: Counter[str]
    """How many by "definition verdict"."""
    treated: list[ResponseAssessment]
    """The response assessments that are in the cohort."""
    problems: list[Problem]


def rows_of(table: pa.Table) -> list[Row]:
    """Lines, as the query over them gives them."""
    return [Row(*row) for row in zip(*(table[name].to_pylist() for name in _ROW), strict=True)]


def judge_part(
    order: Order,
    files: Sequence[File],
    table: pa.Table,
    medications: Iterable[Row],
    path: Path,
) -> None:
    """Assess the patients of a table into the files of a part; `path` is there when it is whole."""
    with Reader(files) as reader:
        judge = Judge(order, files, reader, medications)
        told = [judge.read(lines) for lines in _patients(table)]
    answers = sorted(answer for some, _ in told for answer in some)
    schema = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        whole(path.with_suffix(".arrow")) as file,
        pa.ipc.new_file(file, _ANSWERED, options=schema) as writer,
    ):
        for start in range(0, len(answers), _AT_ONCE):
            columns = zip(*answers[start : start + _AT_ONCE], strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, _ANSWERED, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_ANSWERED))
    problems = [problem for _, some in told for problem in some]
    with whole(path) as file:
        pickle.dump(Summary(judge.tally, judge.treated, problems), file)


def _patients(table: pa.Table) -> Iterator[Lines]:
    """The lines of each patient, or of those that must be read together."""
    order = [("patient", "ascending"), ("file", "ascending"), ("line", "ascending")]
    table = table.sort_by(order)
    kept = table.filter(table["kept"])
    passed = table.filter(pc.invert(table["kept"]))
    numbered = passed.select(["patient"]).append_column("number", pa.array(np.arange(len(passed))))
    where = numbered.group_by("patient").aggregate([("number", "min"), ("number", "count")])
    some = {p: (f, n) for p, f, n in zip(*(c.to_pylist() for c in where.columns), strict=True)}
    days: dict[str, dict[Analyte, int]] = {}
    last = passed.group_by(["patient", "target"]).aggregate([("day", "max")])
    for one in last.to_pylist():
        days.setdefault(one["patient"], {})[Analyte[one["target"]]] = one["day_max"]
    lines = zip(kept["patient"].to_pylist(), rows_of(kept), strict=True)
    for patient, found in groupby(lines, key=itemgetter(0)):
        again = partial(_again, passed, some.get(patient, (0, 0)))
        yield Lines([row for _, row in found], again, days.get(patient, {}))


def _again(passed: pa.Table, where: tuple[int, int]) -> list[Row]:
    return rows_of(passed.slice(*where))


def summary_of(part: Path) -> Summary:
    """What the patients of a part came to."""
    summary: Summary = pickle.loads(part.read_bytes())  # noqa: S301 this program has written it
    return summary


def added(summaries: Iterable[Summary], broken: Iterable[Problem]) -> Summary:
    """What all parts came to, and lines that could not be read at all."""
    tally: Counter[str] = Counter()
    treated: list[ResponseAssessment] = []
    problems = list(broken)
    for found in summaries:
        tally.update(found.tally)
        treated += found.treated
        problems += found.problems
    problems.sort(key=attrgetter("file", "line", "code", "text"))
    return Summary(tally, treated, problems)


def merge(
    parts: Sequence[Path], summary: Summary, order: Order, files: Sequence[File], out: Path
) -> None:
    """The results of all parts, as files in the order of the patients and of the lines."""
    answers = heapq.merge(*(_answers(part.with_suffix(".arrow")) for part in parts))
    write_results(out, order, answers)
    write_total(summary, order, files, out)


def write_total(summary: Summary, order: Order, files: Sequence[File], out: Path) -> None:
    """What was not read, and the reports."""
    write_errors(out, (error_of(one, files) for one in summary.problems))
    write_reports(out, order, summary.tally, summary.treated)


def write_part(part: Path, order: Order, files: Sequence[File], out: Path) -> None:
    """The results of a part as files of its own, such as assessments/part-00007.ndjson."""
    folder = part.with_suffix(".results")
    folder.mkdir(exist_ok=True)
    summary = summary_of(part)
    answers = _answers(part.with_suffix(".arrow"))
    write_results(folder, order, answers)
    write_errors(folder, (error_of(one, files) for one in summary.problems))
    for path in folder.iterdir():
        (out / path.stem).mkdir(exist_ok=True)
        path.replace(out / path.stem / f"part-{part.name:0>5}{path.suffix}")


def unpacked(files: Sequence[File], number: int) -> list[Problem]:
    """Write the lines of a compressed file to where it says; why they may end too early."""
    with whole(Path(files[number].unpacked)) as into:
        return [
            Problem(number, line + 1, "not-fhir", unread.text)
            for line, unread in unpack(files[number], into)
        ]


def medications_of(table: pa.Table) -> list[Row]:
    """What records of drugs refer to, in the order of the lines."""
    return sorted(rows_of(table), key=attrgetter("file", "line"))


def _answers(path: Path) -> Iterator[Answered]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            columns = (column.to_pylist() for column in reader.get_batch(number).columns)
            yield from (Answered(*row) for row in zip(*columns, strict=True))


def tallied(tally: Mapping[str, int]) -> list[str]:
    """A line for each verdict of each definition."""
    return [f"{name}: {count}" for name, count in sorted(tally.items())]
