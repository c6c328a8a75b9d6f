"""The rows of a map, each checked against the tables of `codes`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from app.fhir import codes, units
from app.fhir.codes import LoincRow
from app.fhir.kept import for_a_request
from app.fhir.maps import CodeMapError, MapRow

_ROUNDED = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+", re.ASCII | re.IGNORECASE)
_LONGEST_FIELD = 1000


class Draft(NamedTuple):
    """A row as it was written, and where."""

    row: MapRow
    where: str


def checked(
    drafts: Iterable[Draft], place: str, faults: list[tuple[str, str]]
) -> tuple[MapRow, ...]:
    """The rows; CodeMapError with every fault, those found before too, where any does not hold."""
    rows: dict[tuple[str, str], Draft] = {}
    for draft in drafts:
        row = draft.row
        fault = _fault(row)
        key = (row.system, row.code)
        if not fault and key in rows:
            other = rows[key]
            same = other.row.loinc == row.loinc
            stands = "twice" if same else f"for two, {other.row.loinc} and {row.loinc}"
            fault = f"the code '{shortened(row.code)}' stands {stands}: see {other.where}"
        if fault:
            faults.append((draft.where, fault))
        else:
            rows[key] = draft
    if not rows and not faults:
        faults.append((place, "it maps no code at all"))
    if faults:
        raise CodeMapError(faults)
    return tuple(draft.row for draft in rows.values())


def _fault(row: MapRow) -> str:
    """Why a row does not hold; empty where it does."""
    if not row.code:
        return "there is no code"
    if _ROUNDED.fullmatch(row.code):
        return f"the code '{row.code}' was rounded by a spreadsheet: keep the column as text"
    if max(len(row.code), len(row.system), len(row.display)) > _LONGEST_FIELD:
        return f"a text of more than {_LONGEST_FIELD} characters"
    if codes.is_loinc(row.system) and row.code != row.loinc:
        return "LOINC is read as it is: a row for a LOINC code may only declare its unit"
    return _target_fault(row.loinc, row.unit)


@for_a_request(1024)
def _target_fault(loinc: str, unit: str) -> str:
    row = codes.BY_LOINC.get(loinc)
    if row is not None:
        return _unit_fault(unit, row) if unit else ""
    if not loinc:
        return "there is no LOINC"
    if why := codes.REJECTED_LOINC.get(loinc):
        return f"LOINC {loinc} is not read: {why}"
    if loinc in codes.PANEL_LOINC:
        return f"LOINC {loinc} is a panel's: map the codes of its results"
    return f"LOINC '{shortened(loinc)}' is none of those read here (the ValueSets list them)"


def _unit_fault(unit: str, row: LoincRow) -> str:
    if units.fitting(unit, row):
        return ""
    if units.readings(unit):
        return f"the unit '{shortened(unit)}' does not fit LOINC {row.code} ({row.display})"
    return f"the unit '{shortened(unit)}' is not known here"


def shortened(text: str) -> str:
    """What somebody wrote, cut to a length that fits a message."""
    return text if len(text) <= 60 else text[:60] + "..."
