"""A map as CSV: comma, semicolon or tab; the first line names the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from app.fhir.map_rows import Draft, checked, shortened
from app.fhir.maps import CodeMapError, MapRow, SourceMap, system_of

REQUIRED_COLUMNS = ("system", "code", "loinc")
COLUMNS = (*REQUIRED_COLUMNS, "display", "unit", "source", "comment")
"""What a CSV may have; `source` and `comment` are for whoever keeps the map."""


def read_csv(text: str, name: str) -> tuple[SourceMap, list[Draft]]:
    """The map and its rows, each with its line; CodeMapError where any does not hold."""
    faults: list[tuple[str, str]] = []
    drafts: list[Draft] = []
    lines = _fields(text)
    _, header = next(lines)
    columns = _columns(header)
    for line, fields in lines:
        where = f"line {line}"
        if len(fields) != len(header):
            faults.append((where, f"{len(fields)} fields, but the header has {len(header)}"))
            continue
        told = dict(zip(columns, map(str.strip, fields), strict=True))
        row = MapRow(
            system_of(told["system"]),
            told["code"],
            told["loinc"],
            told.get("unit", ""),
            told.get("display", ""),
        )
        drafts.append(Draft(row, where))
    return SourceMap(name, "", checked(drafts, "line 2", faults)), drafts


def _fields(text: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that has any, the header first; and the line's number."""
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if any(map(str.strip, fields)):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise CodeMapError([(f"line {line}", f"not CSV: {error}")]) from None


def _columns(header: Sequence[str]) -> list[str]:
    columns = [name.strip().lower() for name in header]
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing:
        text = (
            f"the first line names the columns, and '{missing[0]}' is not there: "
            "system, code, loinc, and if you like display, unit, source, comment"
        )
    elif unknown:
        text = f"no column is called '{shortened(unknown[0])}': {', '.join(COLUMNS)} are"
    elif len(set(columns)) < len(columns):
        text = "a column stands twice"
    else:
        return columns
    raise CodeMapError([("line 1", text)])
