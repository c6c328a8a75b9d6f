"""One patient's lines to results, as the service judges a Bundle of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from enum import Enum
from functools import partial
from itertools import chain
from typing import NamedTuple

import msgspec
from msgspec import Raw

from app import operations
from app.asking import BY_NAME, Data, Question
from app.bulk.counts import Line, packed_counts
from app.bulk.files import ChangedError, File, Reader
from app.bulk.lines import head_of
from app.bulk.routing import OBSERVATION
from app.bulk.table import cells_of, columns_of, table_lines
from app.domain.choosing import APART_DAYS
from app.domain.counts import Analyte, Course, Patient, Remark, Severity
from app.domain.needless import settled
from app.domain.response import ResponseAssessment
from app.fhir.bodies import Entry
from app.fhir.json import Json, encode
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError, operation_outcome
from app.requests import read_question
from app.writing.answers import Answer

_ENTRY = re.compile(r"Bundle\.entry\[(\d+)\]")
# How the reader names a result that has no id: by its fullUrl, or by its place.
_WITHOUT_ID = re.compile(
    rb'("reference":")?[^\s"(]*/without-id-(\d+)|Bundle\.entry\[(\d+)\]\.resource'
)
# A file's name stands in JSON and in XHTML.
_UNSAFE = re.compile(r"[^\w.-]")
_NOTHING_COUNTED = Raw(b'{"resourceType":"Observation"}')
_INFORMATION = Severity.INFORMATION.value
_FAULT = "fault"
_FAULT_TEXT = (
    "The patient of this line could not be assessed: a fault of this program, please report."
)
_LINES_NAMED = 20


class Written(Enum):
    """Which assessments are written as FHIR; the table has everybody."""

    ALL = "all"
    OPEN = "open"
    """Those met, and those that more data would settle."""
    MET = "met"
    NONE = "none"


_MET = {"eligible", "complete-response", "response"}


class Order(msgspec.Struct, frozen=True):
    """What is asked of every patient, the window's default, and what is to be written."""

    operation: str
    """The code of its OperationDefinition."""
    query: tuple[tuple[str, str], ...]
    window_days: int
    code_map: CodeMap | None = None
    """The hospital's own codes."""
    written: Written = Written.ALL
    counts: bool = False
    """Whether the counts as read are written too."""

    def question(self) -> Question:
        """The question as the service reads it; RequestError where it is bad."""
        return read_question(self.query, self.operation, self.window_days, self.code_map)

    def until(self) -> int:
        """The last day whose results a newer one may make needless; 0 for none."""
        if self.counts:
            return 0
        asked = [BY_NAME.get(name) for name, _ in self.query]
        whole_course = operations.OPERATIONS[self.operation].whole_course
        if whole_course or not all(one and one.of_the_newest for one in asked):
            return 0
        as_of = self.question().as_of
        return (as_of.first.toordinal() if as_of else date.max.toordinal()) - APART_DAYS - 1

    def columns(self) -> list[str]:
        """The table's columns."""
        return columns_of(self.question())


class Row(msgspec.Struct, gc=False):
    """A line of a patient: where it stands."""

    file: int
    line: int
    """Counted from 1 in its file."""
    start: int
    length: int
    name: str
    """Such as Observation/1; empty without an id."""
    medication: str
    """The Medication it refers to."""
    bare: str
    """All that matters of the line, where that is little."""


class Problem(msgspec.Struct, array_like=True, gc=False):
    """A line, or something on it, that was not read: where, and why."""

    file: int
    line: int
    code: str
    text: str
    severity: str = "error"


class Lines(NamedTuple):
    """The lines of one patient, or of a few that must be read together."""

    kept: list[Row]
    again: Callable[[], list[Row]]
    """Those that were passed over for newer ones."""
    passed: Mapping[Analyte, int]
    """Of which counts the latter are, and their last day as an ordinal."""


class Answered(NamedTuple):
    """One patient's results, as they are written."""

    patient: str
    assessments: bytes
    """For each definition an Observation, a line each."""
    set_aside: bytes
    """An OperationOutcome, a line; empty where nothing was set aside, repaired or doubted."""
    table: bytes
    """For each definition a line of the table."""
    counts: bytes = b""
    """The counts as read, packed, where they are asked for."""


class _Told(NamedTuple):
    """One assessment, as it is written."""

    line: bytes
    remarks: Iterable[Remark]
    cells: dict[str, str]


Found = tuple[list[Answered], list[Problem]]


class Judge:
    """Reads and assesses patients, and adds up what they come to."""

    def __init__(
        self,
        order: Order,
        files: Sequence[File],
        reader: Reader,
        medications: Iterable[Row] = (),
    ) -> None:
        """`medications` are what records of drugs refer to."""
        self._order = order
        self._question = order.question()
        self._columns = order.columns()
        self._files = files
        self._reader = reader
        self._medications: dict[str, dict[bytes, Row]] = {}
        for row in medications:
            # The first of the same: an export may have one for each record that refers to it.
            self._medications.setdefault(row.name, {}).setdefault(self._resource(row), row)
        self.tally: Counter[str] = Counter()
        """How many patients by "definition verdict"."""
        self.treated: list[ResponseAssessment] = []
        """The response assessments that are in the cohort."""

    def read(self, lines: Lines) -> Found:
        """What the patients come to, and what of the lines belongs to nobody."""
        rows = lines.kept
        names = {row.medication for row in rows if row.medication}
        rows += (row for name in sorted(names) for row in self._medications.get(name, {}).values())
        try:
            return self._newest(rows, lines.passed) or self._all(rows + lines.again())
        except RequestError as error:
            return [], list(_placed(error.remarks, rows))
        except ChangedError:
            raise
        except Exception:  # noqa: BLE001 a fault of ours costs this patient, and not the run
            return [], [Problem(row.file, row.line, _FAULT, _FAULT_TEXT) for row in rows]

    def _newest(self, rows: list[Row], passed: Mapping[Analyte, int]) -> Found | None:
        """What they come to without what newer results make needless.

        None where it cannot be told: a result stands only once it is read, and for what does not
        stand an older one may be judged.
        """
        if not passed:
            return self._all(rows)
        try:
            judged = operations.judged(self._question, self._data(rows))
        except RequestError:
            return None
        window = self._question.window_days
        if not all(settled(one, passed, window) for one in judged.assessments):
            return None
        return self._answered(judged, rows)

    def _all(self, rows: list[Row]) -> Found:
        judged = operations.judged(self._question, self._data(rows))
        if in_cohort := judged.operation.in_cohort:
            self.treated += (slim(one) for one in judged.assessments if in_cohort(one))
        return self._answered(judged, rows)

    def _data(self, rows: list[Row]) -> Data:
        """The rows as if they had come as a Bundle, in the order of their lines."""
        rows.sort(key=lambda row: (row.file, row.line))
        entries = [
            Entry(self._full_url(index, row), Raw(self._resource(row)))
            for index, row in enumerate(rows)
        ]
        if not any(row.name.startswith(OBSERVATION) for row in rows):
            # A patient without results is answered too, as in a Bundle in which others have some.
            entries.append(Entry(None, _NOTHING_COUNTED))
        return Data(tuple(entries))

    def _resource(self, row: Row) -> bytes:
        return row.bare.encode() or self._reader.line(row.file, row.start, row.length)

    def _full_url(self, index: int, row: Row) -> str | None:
        server, name = self._files[row.file].server, row.name or f"{OBSERVATION}without-id-{index}"
        if server and name == OBSERVATION:
            head = head_of(self._resource(row))
            name += (head.id if head else None) or ""
        return f"{server}/{name}" if server else None

    def _answered(self, judged: operations.Judged, rows: Sequence[Row]) -> Found:
        operation, reading = judged.operation, judged.reading
        courses = {course.patient: course for course in reading.courses}
        by_patient: dict[Patient, list[_Told]] = {}
        for found in judged.assessments:
            shown = self._is_written(found)
            written: Answer | None = None
            if shown or operation.truths is None:
                written = operation.answer(found, courses[found.patient].remarks)
            line = self._line(written, rows) if written and shown else b""
            said: Iterable[Remark] = chain(courses[found.patient].remarks, found.remarks)
            if written:
                said = written.remarks
            told = _Told(line, said, cells_of(operation, found, written))
            by_patient.setdefault(found.patient, []).append(told)
            self.tally[f"{found.paper.id} {found.verdict.value}"] += 1
        unread = [one for one in _placed(reading.remarks, rows) if one.severity != _INFORMATION]
        told_of = by_patient.items()
        return [self._together(courses[patient], some, rows) for patient, some in told_of], unread

    def _is_written(self, found: operations.AnyAssessment) -> bool:
        verdict, asked = found.verdict.value, self._order.written
        still_open = asked is Written.OPEN and verdict == "indeterminate"
        return asked is Written.ALL or still_open or (asked is not Written.NONE and verdict in _MET)

    def _together(self, course: Course, some: list[_Told], rows: Sequence[Row]) -> Answered:
        patient = course.patient
        name = patient.reference or f"{patient.system}|{patient.value}"
        placed = (one for told in some for one in _placed(told.remarks, rows))
        problems = [one for one in placed if one.code != "superseded"]
        return Answered(
            name,
            b"".join([told.line for told in some]),
            encode(_set_aside(problems, self._files)) + b"\n" if problems else b"",
            table_lines(({"patient": name, **told.cells} for told in some), self._columns),
            self._counts(name, course, rows) if self._order.counts else b"",
        )

    def _counts(self, name: str, course: Course, rows: Sequence[Row]) -> bytes:
        lines = [
            Line(self._files[r.file].name, r.line, r.name, partial(self._resource, r)) for r in rows
        ]
        return packed_counts(name, course, lines, self._order.code_map)

    def _line(self, written: Answer, rows: Sequence[Row]) -> bytes:
        """The assessment as a line; a result without an id is named by the line it stands on.

        Where a whole life was asked for, each change is a line of its own after it.
        """
        line = b"".join([encode(one) + b"\n" for one in (written.observation, *written.changes)])
        return line if all(row.name for row in rows) else _WITHOUT_ID.sub(self._by_line(rows), line)

    def _by_line(self, rows: Sequence[Row]) -> Callable[[re.Match[bytes]], bytes]:
        def line(match: re.Match[bytes]) -> bytes:
            row = rows[int(match.group(2) or match.group(3))]
            name = _UNSAFE.sub("_", self._files[row.file].name)
            text = f"{name}, line {row.line}".encode()
            return b'"display":"' + text if match.group(1) else text

        return line


def _placed(remarks: Iterable[Remark], rows: Sequence[Row]) -> Iterator[Problem]:
    """Remarks at each line they are about; what is about none stands in the assessment."""
    for remark in remarks:
        for place in remark.places:
            match = _ENTRY.match(place)
            if match and int(match.group(1)) < len(rows):
                row = rows[int(match.group(1))]
                yield Problem(row.file, row.line, remark.code, remark.text, remark.severity.value)


def _set_aside(problems: Iterable[Problem], files: Sequence[File]) -> Json:
    """What was set aside, repaired or doubted of one patient: an issue for each reason."""
    lines: dict[tuple[str, str, str], dict[tuple[int, int], None]] = {}
    for one in problems:
        lines.setdefault((one.code, one.severity, one.text), {})[one.file, one.line] = None
    remarks = []
    for (code, severity, text), places in lines.items():
        told = list(places)[:_LINES_NAMED]
        where = ", ".join(f"{files[file].name}:{line}" for file, line in told)
        more = f" and {len(places) - len(told)} more" if len(places) > len(told) else ""
        remarks.append(Remark(code, Severity(severity), f"{text} ({where}{more})", ()))
    return operation_outcome(remarks)


def error_of(problem: Problem, files: Sequence[File]) -> Json:
    """The OperationOutcome of a line that was not read: where it is and why, nothing of it."""
    text = f"{files[problem.file].name}, line {problem.line}: {problem.text}"
    if problem.code == _FAULT:
        return RequestError(500, Fault("exception", text)).outcome()
    outcome = operation_outcome([Remark(problem.code, Severity.WARNING, text, ())])
    outcome["issue"][0]["severity"] = "error"  # nothing of the line was used
    return outcome


def slim(found: ResponseAssessment) -> ResponseAssessment:
    """What a cohort asks of an assessment; all treated patients' fit into memory."""
    return replace(
        found,
        baseline=None,
        judged=None,
        at_3_months=None,
        at_6_months=None,
        current=None,
        best=None,
        first_response=None,
        first_loss=None,
        lineages=tuple(replace(r, before=None, after=None, why="") for r in found.lineages),
        counts=(),
        supporting=(),
        remarks=(),
    )
