"""What the command line prints: assessments as tables, and nothing that steers the terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.domain.assessment import Assessment
from app.domain.cohort import Cohort
from app.domain.counts import Remark
from app.domain.life import Life
from app.domain.moments import ResponseVerdict
from app.domain.response import ResponseAssessment
from app.domain.rules import Truth
from app.reading.courses import Reading
from app.writing.life import life_text
from app.writing.measure import cohort_lines
from app.writing.narrative import AID, UNVERIFIED, counts_of, headline, missing, named, text_of
from app.writing.notes import judgement_remarks
from app.writing.response import (
    lineage_text,
    missing_for_response,
    moments_of,
    response_headline,
    transfusions_text,
    window_remarks,
)
from app.writing.words import readable

# Characters that steer a terminal: control characters and those that turn its writing direction;
# and half characters, as a file's name may have them, which cannot be written at all.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_VERDICT_STYLES = {
    ResponseVerdict.COMPLETE: "green",
    ResponseVerdict.RESPONSE: "green",
    ResponseVerdict.NO_RESPONSE: "red",
}
_STYLES = {Truth.MET: "green", Truth.NOT_MET: "red", Truth.UNKNOWN: "yellow"}
# A cell's edge and its spaces.
_BORDER = 3
_WHOLE = {"patient", "start", "verdict"}
Row = tuple[str | Text, ...]


def harmless(text: object) -> str:
    """The text without what would steer a terminal."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", str(text))


def _console() -> Console:
    # Nothing in the data is markup, a name of an emoji or a sequence for the terminal.
    return Console(markup=False, emoji=False, highlight=False)


def _print_table(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Row], whole: Container[str]
) -> None:
    """Rows under a title, with the columns `whole` never broken.

    Where the terminal is too narrow for that, each cell is a line.
    """
    rows = [tuple(map(_plain, row)) for row in rows]
    table = Table(title=Text(harmless(title)), title_justify="left")
    least = 1
    for column, *cells in zip(columns, *rows, strict=True):
        table.add_column(column, no_wrap=column in whole, overflow="fold")
        spaces = "\n" if column in whole else None
        words = (word for text in (column, *map(str, cells)) for word in text.split(spaces))
        least += max(map(cell_len, words)) + _BORDER
    for row in rows:
        table.add_row(*row)
    if least <= console.width:
        console.print(table)
        return
    console.print(harmless(title))
    for row in rows:
        for number, (column, cell) in enumerate(zip(columns, row, strict=True)):
            console.print(Text(f"  {column}: " if number else "") + cell)


def _plain(cell: str | Text) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


def print_eligibility(reading: Reading, assessments: Iterable[Assessment]) -> None:
    """A table for each patient and definition, and what was said of the data."""
    console = _console()
    remarks = {course.patient: course.remarks for course in reading.courses}
    for assessment in assessments:
        _print_assessment(console, assessment)
        console.print(
            harmless(f"{headline(assessment.judgement)} {missing(assessment.judgement)}".rstrip())
        )
        if assessment.life:
            console.print(harmless(life_text(assessment.life)))
            _print_periods(console, assessment.life)
        own = (*assessment.remarks, *judgement_remarks(assessment.judgement))
        _print_remarks(console, (*remarks[assessment.patient], *own))
        console.print()
    _print_remarks(console, reading.remarks)
    console.print(AID, style="dim")


def _print_assessment(console: Console, assessment: Assessment) -> None:
    day = f", {assessment.as_of.last}" if assessment.as_of else ""
    patient = named(assessment.patient)
    title = f"{patient}{day}: {assessment.verdict.value} ({assessment.paper.id})"
    rows: list[Row] = []
    for finding in assessment.findings:
        counts = "\n".join(
            readable(f"{c.analyte.short} {text_of(c.value)} {c.analyte.unit} ({c.when.last})")
            for c in counts_of(assessment, finding)
        )
        answer = Text(finding.truth.value, _STYLES[finding.truth])
        criterion = finding.criterion
        limit = readable(criterion.describe())
        rows.append((criterion.title, answer, counts or "no count", limit))
    _print_table(console, title, ("criterion", "answer", "counts", "limit"), rows, {"answer"})


def _print_periods(console: Console, life: Life) -> None:
    """The timeline, where the changes were asked for."""
    if life.changes is None:
        return
    rows: list[Row] = [
        (str(one.first), str(one.last), str(one.assessments), one.verdict.value)
        for one in life.periods
    ]
    _print_table(console, "", ("from", "to", "days judged", "verdict"), rows, {"verdict"})


def print_responses(reading: Reading, assessments: Iterable[ResponseAssessment]) -> None:
    """For each patient and definition a table of the lineages, and the verdict at each time."""
    console = _console()
    courses = {course.patient: course for course in reading.courses}
    for one in assessments:
        _print_lineages(console, one)
        console.print(harmless(f"{response_headline(one)} {missing_for_response(one)}".rstrip()))
        if transfusions := transfusions_text(one):
            console.print(transfusions)
        if not one.paper.verified:
            console.print(UNVERIFIED)
        for _, name, moment in moments_of(one):
            if moment:
                console.print(f"{name}: {moment.verdict.value} ({moment.day})")
        remarks = (*courses[one.patient].remarks, *one.remarks, *window_remarks(one))
        _print_remarks(console, remarks)
        console.print()
    _print_remarks(console, reading.remarks)
    console.print(AID, style="dim")


def _print_lineages(console: Console, one: ResponseAssessment) -> None:
    title = f"{named(one.patient)}: {one.verdict.value} ({one.paper.id})"
    if not one.lineages:
        console.print(harmless(title))
        return
    rows: list[Row] = []
    for report in one.lineages:
        truth, rule = report.truth, report.lineage.responded
        answer = Text(truth.value, _STYLES[truth]) if truth else "not applicable"
        rows.append((rule.title, answer, lineage_text(report), readable(rule.describe())))
    _print_table(console, title, ("criterion", "answer", "counts", "rule"), rows, {"answer"})


def print_cohort(found: Sequence[ResponseAssessment]) -> None:
    """A table of the patients for each definition, and the sums over them."""
    console = _console()
    for paper in dict.fromkeys(one.paper for one in found):
        cohort = Cohort(tuple(one for one in found if one.paper is paper))
        columns = ("patient", "start", "verdict", "lineages", "kept 2 years")
        _print_table(console, paper.id, columns, map(_row, cohort.patients), _WHOLE)
        twice = [p for p, n in Counter(one.patient for one in cohort.patients).items() if n > 1]
        for patient in twice:
            console.print(
                harmless(f"{named(patient)} stands in more than one file: counted once for each.")
            )
        for line in cohort_lines(cohort):
            console.print(harmless(line))


def _row(one: ResponseAssessment) -> Row:
    lineages = (r.lineage.analyte.short for r in one.lineages if r.truth is Truth.MET)
    return (
        harmless(named(one.patient)),
        str(one.start.first) if one.start else "",
        Text(one.verdict.value, _VERDICT_STYLES.get(one.verdict, "yellow")),
        ", ".join(lineages),
        one.kept_two_years.value if one.kept_two_years else "",
    )


def _print_remarks(console: Console, remarks: Iterable[Remark]) -> None:
    for remark in remarks:
        places = ", ".join(remark.places[:3]) + (" ..." if len(remark.places) > 3 else "")
        console.print(harmless(f"{remark.code}: {remark.text} {places}"), style="dim")
