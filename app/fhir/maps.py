"""A hospital's own codes: which LOINC each stands for, and the unit of results that carry none.

A map is a FHIR ConceptMap or a CSV file. Every row is checked against the tables of `codes`; a map
with a row that does not hold is refused whole, since half a map sets counts aside unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec

from app.fhir import codes
from app.fhir.codes import LoincRow

UNIT_PROPERTY = "http://hl7.org/fhir/StructureDefinition/Quantity#Quantity.code"
"""The element that a ConceptMap's `product` declares, as FHIR names an element by URI."""
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+", re.ASCII)


class MapRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of a map: the hospital's code, the LOINC it stands for, the unit it declares."""

    system: str
    """Empty for codes that are sent without a system."""
    code: str
    loinc: str
    unit: str = ""
    """Of results that carry none, or one that is not known; empty where none is declared."""
    display: str = ""
    equivalence: str = "equivalent"


class SourceMap(msgspec.Struct, frozen=True):
    """One map, checked: what the answers call it, and its rows."""

    name: str
    url: str
    """The ConceptMap's canonical; empty where it has none."""
    rows: tuple[MapRow, ...]


class Mapped(NamedTuple):
    """What a hospital's code stands for."""

    row: LoincRow
    unit: str
    """As in MapRow."""
    map: str
    """The name of the map that says so."""


class CodeMap(msgspec.Struct, frozen=True, dict=True):
    """All maps that hold for a question, as one value; no code stands for two things in them."""

    maps: tuple[SourceMap, ...]
    before: CodeMap | None = None
    """Maps that hold as well: those of the settings, where a request brings its own."""

    @cached_property
    def _by_code(self) -> dict[tuple[str, str], Mapped]:
        return {
            (row.system, row.code): Mapped(codes.BY_LOINC[row.loinc], row.unit, one.name)
            for one in self.maps
            for row in one.rows
        }

    def mapped(self, system: str | None, code: str | None) -> Mapped | None:
        """What a coding stands for; None where no map has it."""
        found = self._by_code.get((system_of(system), (code or "").strip()))
        return self.before.mapped(system, code) if found is None and self.before else found

    def rows(self) -> Iterator[MapRow]:
        """Every row of every map."""
        if self.before:
            yield from self.before.rows()
        for one in self.maps:
            yield from one.rows


class CodeMapError(Exception):
    """A map that does not hold: what is wrong, at which line or FHIRPath, the first fault first."""

    def __init__(self, faults: Sequence[tuple[str, str]], name: str = "") -> None:
        where, text = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(", ".join(filter(None, (name, where))) + f": {text}{more}")
        self.faults = faults


def system_of(text: str | None) -> str:
    """A code system's URI as maps and results are compared by it: a bare OID is its URN."""
    if not text:
        return ""
    tidy = text.strip()
    return f"urn:oid:{tidy}" if tidy[:1].isdigit() and _OID.fullmatch(tidy) else tidy
