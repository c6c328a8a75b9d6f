"""One patient's lines to results, as the service judges a Bundle of them."""

from __future__ import annotations

import csv
import io
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from operator import attrgetter
from typing import TypeVar

import msgspec
from msgspec import Raw

from app import operations
from app.bulk.exports import ChangedError, Chunk, File
from app.bulk.lines import PART_NAMES, TOTAL_NAMES
from app.bulk.patients import APART_DAYS, BY_LINE, Held, Passed, Piles, Problem, Row, read_again
from app.domain.assessment import Assessment
from app.domain.assessment import reading as paper_as_read
from app.domain.counts import Analyte, Count, Patient, Remark, Severity
from app.domain.response import ResponseAssessment, ResponsePaper
from app.fhir.maps import CodeMap
from app.fhir.narrative import text_of
from app.fhir.outcome import Fault, RequestError, operation_outcome
from app.fhir.reading import Reading
from app.fhir.requests import Request, read_request
from app.fhir.resources import Entry
from app.fhir.response import response_answer
from app.fhir.writing import Answer, Json, eligibility_answer, encode
from app.papers import PUBLISHED, RESPONSES

Assessed = TypeVar("Assessed", Assessment, ResponseAssessment)
_PLACE = "Bundle"
_ENTRY = re.compile(r"Bundle\.entry\[(\d+)\]")
# How the reader names a result that has no id: by its fullUrl, or by its place.
_WITHOUT_ID = re.compile(
    rb'("reference":")?[^\s"(]*/without-id-(\d+)|Bundle\.entry\[(\d+)\]\.resource'
)
# A file's name stands in JSON and in XHTML.
_UNSAFE = re.compile(r"[^\w.-]")
_NOTHING_COUNTED = Raw(b'{"resourceType":"Observation"}')
_PAPERS = {paper.id: paper for paper in RESPONSES}
_NO_DATA = b'{"resourceType":"Bundle"}'
_INFORMATION = Severity.INFORMATION.value
FAULT = "fault"
_FAULT_TEXT = (
    "The patient of this line could not be assessed: a fault of this program, please report."
)
_LINES_NAMED = 20
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_HEAD = ("patient", "definition", "verdict", "day")
_RESPONSE_COLUMNS = (
    "neutrophil-response",
    "platelet-response",
    "red-cell-response",
    "transfusion-independence",
    "primary-end-point",
    "complete",
    "kept-two-years",
    "relapse",
    "response-at-3-months",
    "response-at-3-months-date",
    "response-at-6-months",
    "response-at-6-months-date",
    "current-response",
    "current-response-date",
    "best-response",
    "best-response-date",
    "first-loss-date",
)
_COUNTED: dict[Analyte, tuple[str, ...]] = {
    analyte: tuple(f"{analyte.name.lower()}_{part}" for part in ("value", "unit", "date"))
    for analyte in Analyte
    if analyte is not Analyte.BODY_WEIGHT and not analyte.unit.startswith("%")
}
"""The table's columns of each analyte."""


class Question(msgspec.Struct, frozen=True):
    """What is asked of every patient: the operation, its parameters, and the window's default."""

    operation: str
    query: tuple[tuple[str, str], ...]
    window_days: int
    code_map: CodeMap | None = None
    """The hospital's own codes."""

    def request(self) -> Request:
        """The request as the service reads it, without data; RequestError where it is bad."""
        request = read_request(_NO_DATA, self.query, code_map=self.code_map)
        if self.operation == "response":
            operations.papers_named(request.criteria, RESPONSES)
        else:
            operations.papers_named(request.criteria, PUBLISHED)
        return request

    def until(self) -> int:
        """The last day whose results a newer one may make needless; 0 for none."""
        if self.operation == "response":
            return 0
        as_of = self.request().as_of
        return (as_of.first.toordinal() if as_of else date.max.toordinal()) - APART_DAYS

    def columns(self) -> list[str]:
        """The table's columns: the verdict, the answer to each criterion, the counts judged."""
        counts = [column for columns in _COUNTED.values() for column in columns]
        if self.operation == "response":
            return [*_HEAD, *_RESPONSE_COLUMNS, *counts]
        request = self.request()
        papers = operations.papers_named(request.criteria, PUBLISHED)
        criteria = dict.fromkeys(
            criterion.code
            for paper in papers
            for criterion in paper_as_read(paper, request.red_cell_policy).criteria
        )
        return [*_HEAD, *criteria, *counts]


class Places:
    """From a line of a chunk to the file it stands in, and its number there, counted from 1."""

    def __init__(self, names: Sequence[str], files: Sequence[int], lines: Sequence[int]) -> None:
        """Made of the files' names, and of each chunk's file and number of lines."""
        self._names = [names[file] for file in files]
        self._before: list[int] = []
        for number, file in enumerate(files):
            same = number > 0 and files[number - 1] == file
            self._before.append(self._before[-1] + lines[number - 1] if same else 0)

    def __call__(self, chunk: int, line: int) -> tuple[str, int]:
        """The file's name and the line's number."""
        return self._names[chunk], self._before[chunk] + line + 1


class Answered(msgspec.Struct, array_like=True):
    """One patient's results, as they are written."""

    patient: str
    assessments: bytes
    """For each definition an Observation, a line each."""
    set_aside: bytes
    """An OperationOutcome, a line; empty where nothing was set aside, repaired or doubted."""
    table: bytes
    """For each definition a line of the table."""


class Summary(msgspec.Struct):
    """What many patients come to together."""

    tally: dict[str, int] = {}
    """How many patients by "definition verdict"."""
    treated: int = 0
    """How many response assessments are in the cohort."""
    cohort: bytes = b""
    """The treated patients' response assessments, as `cohort_of` reads them."""


def _summary(tally: Counter[str], treated: list[ResponseAssessment]) -> Summary:
    return Summary(dict(tally), len(treated), _pickled(treated) if treated else b"")


def all_of(summaries: Iterable[Summary]) -> Summary:
    """The summaries of several partitions as one."""
    tally: Counter[str] = Counter()
    treated: list[ResponseAssessment] = []
    for one in summaries:
        tally.update(one.tally)
        treated += cohort_of(one.cohort)
    return _summary(tally, treated)


class Judge:
    """Reads and assesses patients, and adds up what they come to."""

    def __init__(
        self,
        question: Question,
        files: Sequence[File],
        chunks: Sequence[Chunk],
        place: Places,
        medications: Iterable[Row],
    ) -> None:
        """`medications` are what records of drugs refer to."""
        self._question = question
        self._request = question.request()
        self._columns = question.columns()
        self._files = files
        self._chunks = chunks
        self._servers = [files[chunk.file].server for chunk in chunks]
        self._place = place
        self._medications: dict[str, dict[bytes, Row]] = {}
        for row in medications:
            # The first of the same: an export may have one for each record that refers to it.
            self._medications.setdefault(row.name, {}).setdefault(row.resource, row)
        self._tally: Counter[str] = Counter()
        self._treated: list[ResponseAssessment] = []

    def read_all(self, patients: dict[str, Held]) -> tuple[list[Answered], list[Problem]]:
        """What every patient comes to, in order; the patients are let go one by one."""
        answers: list[Answered] = []
        problems: list[Problem] = []
        while patients:
            _, patient = patients.popitem()
            answered, unread = self.read(patient.rows, patient.passed)
            answers += answered
            problems += unread
        answers.sort(key=attrgetter("patient", "assessments"))
        problems.sort(key=BY_LINE)
        return answers, problems

    def read(
        self, rows: list[Row], passed: Sequence[Passed] = ()
    ) -> tuple[list[Answered], list[Problem]]:
        """The patient, or the few, whose lines these are; and what belongs to no patient.

        `passed` are results of theirs that were passed over for newer ones.
        """
        names = {row.medication for row in rows if row.medication}
        rows += (row for name in sorted(names) for row in self._medications.get(name, {}).values())
        try:
            if self._question.operation == "response":
                return self._responses(rows)
            return self._newest(rows, passed) or self._eligibilities(rows + self._again(passed))
        except RequestError as error:
            return [], list(_placed(error.remarks, rows))
        except ChangedError:
            raise
        except Exception:  # noqa: BLE001 a fault of ours costs this patient, and not the run
            return [], [Problem(row.chunk, row.line, FAULT, _FAULT_TEXT) for row in rows]

    def _again(self, passed: Sequence[Passed]) -> list[Row]:
        """The results that were passed over."""
        found = [(one.key, where) for one in passed for where in one.places()]
        again = read_again(self._files, self._chunks, [where for _, where in found])
        return [
            Row(key, where[1], where[2], line, name)
            for (key, where), (name, line) in zip(found, again, strict=True)
        ]

    def _responses(self, rows: list[Row]) -> tuple[list[Answered], list[Problem]]:
        request = self._asked(rows)
        reading, found = operations.judge_responses(request, self._question.window_days)
        self._treated += (_slim(one) for one in found if one.start)
        return self._answered(reading, found, response_answer, rows)

    def _newest(
        self, rows: list[Row], passed: Sequence[Passed]
    ) -> tuple[list[Answered], list[Problem]] | None:
        """What the patient comes to without what newer results make needless.

        None where it cannot be told: a result stands only once it is read, and for what does not
        stand an older one may be judged.
        """
        if passed and any(row.analyte in PART_NAMES for row in rows):
            totals = [one for one in passed if one.analyte in TOTAL_NAMES]
            passed = [one for one in passed if one.analyte not in TOTAL_NAMES]
            rows = rows + self._again(totals)
        piles = Piles(rows, passed, self._servers)
        if piles.complete:
            return self._eligibilities(rows)
        try:
            request = self._asked(piles.rows)
            reading, found = operations.judge_eligibility(request, self._question.window_days)
        except RequestError:
            return None
        counts = [count for course in reading.courses for count in course.counts]
        if not piles.settled_by(counts):
            return None
        return self._answered(reading, found, eligibility_answer, piles.rows)

    def _eligibilities(self, rows: list[Row]) -> tuple[list[Answered], list[Problem]]:
        request = self._asked(rows)
        reading, found = operations.judge_eligibility(request, self._question.window_days)
        return self._answered(reading, found, eligibility_answer, rows)

    def _asked(self, rows: list[Row]) -> Request:
        """The request as if the rows had come as a Bundle, in the order of their lines."""
        rows.sort(key=BY_LINE)
        entries = [Entry(self._full_url(*one), Raw(one[1].resource)) for one in enumerate(rows)]
        if not any(row.name.startswith("Observation/") for row in rows):
            # A patient without results is answered too, as in a Bundle in which others have some.
            entries.append(Entry(None, _NOTHING_COUNTED))
        return replace(self._request, entries=tuple(entries), place=_PLACE)

    def _full_url(self, index: int, row: Row) -> str | None:
        server = self._servers[row.chunk]
        return f"{server}/{row.name or f'Observation/without-id-{index}'}" if server else None

    def _answered(
        self,
        reading: Reading,
        assessments: Sequence[Assessed],
        answer: Callable[[Assessed, Sequence[Remark]], Answer],
        rows: Sequence[Row],
    ) -> tuple[list[Answered], list[Problem]]:
        remarks = {course.patient: course.remarks for course in reading.courses}
        by_patient: dict[Patient, list[tuple[Assessed, Answer]]] = {}
        for found in assessments:
            written = answer(found, remarks[found.patient])
            by_patient.setdefault(found.patient, []).append((found, written))
            self._tally[f"{found.paper.id} {written.verdict}"] += 1
        unread = [one for one in _placed(reading.remarks, rows) if one.severity != _INFORMATION]
        return [self._told(patient, some, rows) for patient, some in by_patient.items()], unread

    def _told(
        self, patient: Patient, some: list[tuple[Assessed, Answer]], rows: Sequence[Row]
    ) -> Answered:
        name = patient.reference or f"{patient.system}|{patient.value}"
        problems = [
            one
            for _, written in some
            for one in _placed(written.remarks, rows)
            if one.code != "superseded"
        ]
        return Answered(
            name,
            b"".join([self._encoded(written, rows) for _, written in some]),
            encode(_set_aside(problems, self._place)) + b"\n" if problems else b"",
            table_lines(({"patient": name, **_cells(*one)} for one in some), self._columns),
        )

    def _encoded(self, written: Answer, rows: Sequence[Row]) -> bytes:
        """The assessment as a line; a result without an id is named by the line it stands on."""
        line = encode(written.observation) + b"\n"
        return line if all(row.name for row in rows) else _WITHOUT_ID.sub(self._by_line(rows), line)

    def _by_line(self, rows: Sequence[Row]) -> Callable[[re.Match[bytes]], bytes]:
        def line(match: re.Match[bytes]) -> bytes:
            row = rows[int(match.group(2) or match.group(3))]
            file, number = self._place(row.chunk, row.line)
            text = f"{_UNSAFE.sub('_', file)}, line {number}".encode()
            return b'"display":"' + text if match.group(1) else text

        return line

    def summary(self) -> Summary:
        """What everything read came to."""
        return _summary(self._tally, self._treated)


def _placed(remarks: Iterable[Remark], rows: Sequence[Row]) -> Iterator[Problem]:
    """Remarks at each line they are about; what is about none stands in the assessment."""
    for remark in remarks:
        for place in remark.places:
            match = _ENTRY.match(place)
            if match and int(match.group(1)) < len(rows):
                row = rows[int(match.group(1))]
                yield Problem(row.chunk, row.line, remark.code, remark.text, remark.severity.value)


def _set_aside(problems: Iterable[Problem], place: Places) -> Json:
    """What was set aside, repaired or doubted of one patient: an issue for each reason."""
    lines: dict[tuple[str, str, str], dict[tuple[int, int], None]] = {}
    for one in problems:
        lines.setdefault((one.code, one.severity, one.text), {})[one.chunk, one.line] = None
    remarks = []
    for (code, severity, text), places in lines.items():
        told = [place(*found) for found in list(places)[:_LINES_NAMED]]
        where = ", ".join(f"{file}:{line}" for file, line in told)
        more = f" and {len(places) - len(told)} more" if len(places) > len(told) else ""
        remarks.append(Remark(code, Severity(severity), f"{text} ({where}{more})", ()))
    return operation_outcome(remarks)


def error_of(problem: Problem, place: Places) -> Json:
    """The OperationOutcome of a line that was not read: where it is and why, nothing of it."""
    file, line = place(problem.chunk, problem.line)
    text = f"{file}, line {line}: {problem.text}"
    if problem.code == FAULT:
        return RequestError(500, Fault("exception", text)).outcome()
    outcome = operation_outcome([Remark(problem.code, Severity.WARNING, text, ())])
    outcome["issue"][0]["severity"] = "error"  # nothing of the line was used
    return outcome


def table_lines(rows: Iterable[dict[str, str]], columns: Sequence[str]) -> bytes:
    """Rows as lines of CSV; no cell of them is a formula to a spreadsheet."""
    written = io.StringIO()
    plain = csv.writer(written, lineterminator="\n")
    quoted = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [_inert(row.get(column, "")) for column in columns]
        # The writer leaves a return bare, and readers take it for the line's end.
        (quoted if "\r" in "".join(cells) else plain).writerow(cells)
    return written.getvalue().encode()


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _cells(found: Assessed, written: Answer) -> dict[str, str]:
    """A line of the table: the verdict, the answer to each criterion, the newest counts judged."""
    cells = {"definition": found.paper.id, "verdict": written.verdict, "day": written.day}
    if isinstance(found, Assessment):
        cells |= {finding.criterion.code: finding.truth.value for finding in found.findings}
    else:
        for component in written.observation["component"]:
            name = component["code"]["coding"][0]["code"]
            if "valueDateTime" in component:
                cells[name] = component["valueDateTime"]
            elif "valueCodeableConcept" in component:
                cells[name] = component["valueCodeableConcept"]["coding"][0]["code"]
    counts: dict[Analyte, list[Count]] = {}
    for count in found.counts:
        counts.setdefault(count.analyte, []).append(count)
    for analyte, some in counts.items():
        newest = max([count.when.last for count in some])
        values = dict.fromkeys([text_of(c.value) for c in some if c.when.last == newest])
        value, unit, day = _COUNTED[analyte]
        cells[value] = " | ".join(values)
        cells[unit] = analyte.unit
        cells[day] = newest.isoformat()
    return cells


def _slim(found: ResponseAssessment) -> ResponseAssessment:
    """What a cohort asks of an assessment; a partition of treated patients fits into memory."""
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


class _Pickler(pickle.Pickler):
    """Writes a definition as its id: there is one of each."""

    def persistent_id(self, obj: object) -> str | None:
        return obj.id if isinstance(obj, ResponsePaper) else None


class _Unpickler(pickle.Unpickler):  # of files that this command wrote itself
    def persistent_load(self, pid: str) -> ResponsePaper:
        return _PAPERS[pid]


def _pickled(treated: list[ResponseAssessment]) -> bytes:
    written = io.BytesIO()
    _Pickler(written).dump(treated)
    return written.getvalue()


def cohort_of(pickled: bytes) -> list[ResponseAssessment]:
    """The response assessments in a Judged's `cohort`."""
    found: list[ResponseAssessment] = _Unpickler(io.BytesIO(pickled)).load() if pickled else []
    return found
