"""The table of verdicts: its columns, and an assessment as a line of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from app.asking import Question
from app.domain.counts import Analyte, Count
from app.operations import OPERATIONS, AnyAssessment, Operation
from app.writing.answers import Answer
from app.writing.narrative import text_of
from app.writing.observation import day_of

_FORMULA_STARTS = frozenset("=+-@\t\r\n")
_HEAD = ("patient", "definition", "verdict", "day", "headline", "missing")
_COUNTED: dict[Analyte, tuple[str, ...]] = {
    analyte: tuple(f"{analyte.name.lower()}_{part}" for part in ("value", "unit", "date"))
    for analyte in Analyte
    if analyte is not Analyte.BODY_WEIGHT and not analyte.unit.startswith("%")
}
"""The table's columns of each analyte."""


def columns_of(question: Question) -> list[str]:
    """The table's columns: the verdict, the answer to each criterion, the counts judged."""
    counts = [column for columns in _COUNTED.values() for column in columns]
    return [*_HEAD, *OPERATIONS[question.operation].criteria(question), *counts]


def table_lines(rows: Iterable[dict[str, str]], columns: Sequence[str]) -> bytes:
    """Rows as lines of CSV; no cell of them is a formula to a spreadsheet."""
    written = io.StringIO()
    plain = csv.writer(written, lineterminator="\n")
    quoted = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        cells = [f"'{cell}" if cell[:1] in _FORMULA_STARTS else cell for cell in cells]
        # The writer leaves a return bare, and readers take it for the line's end.
        (quoted if "\r" in "".join(cells) else plain).writerow(cells)
    return written.getvalue().encode()


def cells_of(operation: Operation, found: AnyAssessment, written: Answer | None) -> dict[str, str]:
    """A line of the table: the verdict, the answer to each criterion, the newest counts judged.

    `written` is the assessment as FHIR, where the operation has its answers only there.
    """
    cells = {"definition": found.paper.id, "verdict": found.verdict.value, "day": day_of(found)}
    cells |= {"headline": operation.headline(found), "missing": operation.missing(found)}
    if operation.truths:
        cells |= operation.truths(found)
    elif written:
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
