"""A hospital's own codes: which LOINC each stands for, and the unit of results that carry none.

A map is a FHIR ConceptMap or a CSV file. Every row is checked against the tables of `codes`; a map
with a row that does not hold is refused whole, since half a map sets counts aside unseen.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from app.fhir import codes, units
from app.fhir.codes import LoincRow
from app.fhir.kept import for_a_request
from app.fhir.resources import ABSENT, Element, told_by

UCUM: str = "http://unitsofmeasure.org"
UNIT_PROPERTY = "http://hl7.org/fhir/StructureDefinition/Quantity#Quantity.code"
"""The element that a ConceptMap's `product` declares, as FHIR names an element by URI."""
REQUIRED_COLUMNS = ("system", "code", "loinc")
COLUMNS = (*REQUIRED_COLUMNS, "display", "unit", "source", "comment")
"""What a CSV may have; `source` and `comment` are for whoever keeps the map."""

# A code that is read as LOINC is as much or more than the hospital's own: FHIR R4, then R5.
_SAME = {name: name for name in ("equal", "equivalent", "wider", "subsumes")} | {
    "source-is-narrower-than-target": "wider"
}
_NO_MATCH = frozenset({"unmatched", "disjoint", "not-related-to"})
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+", re.ASCII)
_ROUNDED = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+", re.ASCII | re.IGNORECASE)
_ELEMENT = re.compile(r"ConceptMap(?:\.group\[(\d+)\](?:\.element\[(\d+)\])?)?", re.ASCII)
_BYTE = re.compile(r"\(byte (\d+)\)", re.ASCII)
_LONGEST_FIELD = 1000

T = TypeVar("T")


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


def read_code_maps(paths: Iterable[Path]) -> CodeMap | None:
    """The maps in these files as one; None where there is no file.

    Raises CodeMapError, which names the file and the line, where any row does not hold, and where
    two rows have the same code.
    """
    maps: list[SourceMap] = []
    places: dict[tuple[str, str], tuple[Path, str]] = {}
    for path in dict.fromkeys(paths):
        data = _bytes_of(path)
        try:
            text = _text(data)
            read = _source_map if text.lstrip().startswith("{") else _csv
            one, drafts = read(text, path.name)
            for row, where in drafts:
                other, there = places.setdefault((row.system, row.code), (path, where))
                if (other, there) != (path, where):
                    fault = f"the code '{_short(row.code)}' stands in {other} as well: {there}"
                    raise CodeMapError([(where, fault)])
        except CodeMapError as error:
            (where, fault), *others = error.faults
            raise CodeMapError(
                [(_located(data, where, fault), fault), *others], str(path)
            ) from None
        maps.append(one)
    return CodeMap(tuple(maps)) if maps else None


def with_maps(own: CodeMap | None, given: Sequence[tuple[Raw, str]]) -> CodeMap | None:
    """The maps of a request, ConceptMaps with the FHIRPath of each, beside those of the settings.

    Raises CodeMapError, whose faults have FHIRPaths, where any row does not hold, and where one
    stands for something else than in another map.
    """
    maps: list[SourceMap] = []
    places: dict[tuple[str, str], str] = {}
    for raw, place in given:
        one, drafts = _source_map(raw, place, place)
        rows: list[MapRow] = []
        faults: list[tuple[str, str]] = []
        for draft in drafts:
            row, fault = _beside(own, draft.row)
            other = places.setdefault((row.system, row.code), draft.where)
            if other != draft.where:
                fault = f"the code '{_short(row.code)}' stands twice: see {other}"
            if fault:
                faults.append((draft.where, fault))
            rows.append(row)
        if faults:
            raise CodeMapError(faults)
        maps.append(msgspec.structs.replace(one, rows=tuple(rows)))
    return CodeMap(tuple(maps), own) if maps else own


def _beside(own: CodeMap | None, row: MapRow) -> tuple[MapRow, str]:
    """A request's row, with the unit that the settings' map declares; and how the two disagree."""
    known = own.mapped(row.system, row.code) if own else None
    if known is None:
        return row, ""
    if known.row.code != row.loinc or (row.unit and known.unit and row.unit != known.unit):
        stands = f"{known.row.code} {known.unit}".strip()
        text = f"the code '{_short(row.code)}' stands for {stands} in the map '{known.map}'"
        return row, text
    return msgspec.structs.replace(row, unit=row.unit or known.unit), ""


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CodeMapError([("", error.strerror or "cannot be read")], str(path)) from None


def _located(data: bytes, where: str, text: str) -> str:
    """The line of a FHIRPath in a file, before it; a line alone stays as it is."""
    found = _ELEMENT.match(where)
    if found is None:
        return where
    byte = _BYTE.search(text)
    position = int(byte[1]) if byte else len(data) if "truncated" in text else 0
    if found[1]:
        groups = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=_ConceptMap).group
        group = groups[int(found[1])]
        position = _position(data, groups, int(found[1]), 0)
        if found[2]:
            elements = msgspec.json.decode(group, type=_Group).element
            position = _position(data, elements, int(found[2]), position)
    line = data.count(b"\n", 0, position) + 1
    return f"line {line} ({where})"


def _position(data: bytes, parts: Sequence[Raw], number: int, position: int) -> int:
    """Where a part begins: each is found after the one before."""
    end = position
    for part in parts[: number + 1]:
        position = data.index(bytes(part), end)
        end = position + len(bytes(part))
    return position


def _text(data: bytes) -> str:
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\0" in data[:1000]:
        raise CodeMapError([("line 1", "this looks like UTF-16: save it as UTF-8")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fault = f"byte 0x{data[error.start]:02x} is not UTF-8: save it as UTF-8"
        raise CodeMapError([(f"line {line}", fault)]) from None
    if not text.strip():
        raise CodeMapError([("line 1", "the file is empty")])
    return text


class _Draft(NamedTuple):
    """A row as it was written, and where."""

    row: MapRow
    where: str


def _checked(
    drafts: Iterable[_Draft], place: str, faults: list[tuple[str, str]]
) -> tuple[MapRow, ...]:
    """The rows; CodeMapError with every fault, those found before too, where any does not hold."""
    rows: dict[tuple[str, str], _Draft] = {}
    for draft in drafts:
        row = draft.row
        fault = _fault(row)
        key = (row.system, row.code)
        if not fault and key in rows:
            other = rows[key]
            same = other.row.loinc == row.loinc
            stands = "twice" if same else f"for two, {other.row.loinc} and {row.loinc}"
            fault = f"the code '{_short(row.code)}' stands {stands}: see {other.where}"
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
    return f"LOINC '{_short(loinc)}' is none of those read here (the ValueSets list them)"


def _unit_fault(unit: str, row: LoincRow) -> str:
    if units.fitting(unit, row):
        return ""
    if units.readings(unit):
        return f"the unit '{_short(unit)}' does not fit LOINC {row.code} ({row.display})"
    return f"the unit '{_short(unit)}' is not known here"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


# CSV


def _csv(text: str, name: str) -> tuple[SourceMap, list[_Draft]]:
    faults: list[tuple[str, str]] = []
    drafts: list[_Draft] = []
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
        drafts.append(_Draft(row, where))
    return SourceMap(name, "", _checked(drafts, "line 2", faults)), drafts


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
        text = f"no column is called '{_short(unknown[0])}': {', '.join(COLUMNS)} are"
    elif len(set(columns)) < len(columns):
        text = "a column stands twice"
    else:
        return columns
    raise CodeMapError([("line 1", text)])


# ConceptMap


class _Product(Element):
    property: str | None = None
    system: str | None = None
    value: str | None = None


class _Target(Element):
    code: str | None = None
    equivalence: str | None = None
    relationship: str | None = None
    """As FHIR R5 calls the equivalence."""
    dependsOn: Raw = ABSENT  # noqa: N815
    product: tuple[_Product, ...] = ()
    modifierExtension: Raw = ABSENT  # noqa: N815


class _Mapping(Element):
    code: str | None = None
    display: str | None = None
    noMap: bool = False  # noqa: N815
    target: tuple[_Target, ...] = ()
    modifierExtension: Raw = ABSENT  # noqa: N815


class _Unmapped(Element):
    mode: str | None = None


class _Group(Element):
    source: str | None = None
    target: str | None = None
    element: tuple[Raw, ...] = ()
    unmapped: _Unmapped | None = None
    modifierExtension: Raw = ABSENT  # noqa: N815


class _ConceptMap(Element):
    resourceType: str | None = None  # noqa: N815
    url: str | None = None
    version: str | None = None
    group: tuple[Raw, ...] = ()
    implicitRules: str | None = None  # noqa: N815
    modifierExtension: Raw = ABSENT  # noqa: N815


def _source_map(
    raw: str | Raw, name: str, place: str = "ConceptMap"
) -> tuple[SourceMap, list[_Draft]]:
    """A ConceptMap as a map; `name` is what it is called where it has no url."""
    found = _decoded(raw, _ConceptMap, place)
    if found.resourceType != "ConceptMap":
        raise CodeMapError([(place, "not a ConceptMap")])
    faults: list[tuple[str, str]] = []
    if found.implicitRules or found.modifierExtension:
        faults.append((place, "implicit rules or a modifier extension are not understood"))
    drafts: list[_Draft] = []
    for number, group in enumerate(found.group):
        drafts += _drafts(group, f"{place}.group[{number}]", faults)
    rows = _checked(drafts, place, faults)
    canonical = "|".join(filter(None, (found.url, found.version))) if found.url else name
    return SourceMap(canonical, found.url or "", rows), drafts


def _decoded(raw: str | Raw, kind: type[T], place: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        words, path = told_by(error)
        raise CodeMapError([(place + path, f"not FHIR: {words}")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodeMapError([(place, f"not JSON: {error}")]) from None
    except RecursionError:
        raise CodeMapError([(place, "the JSON is nested too deep")]) from None


def _drafts(raw: Raw, place: str, faults: list[tuple[str, str]]) -> Iterator[_Draft]:
    group = _decoded(raw, _Group, place)
    if (group.target or "").partition("|")[0] not in codes.LOINC_SYSTEMS:
        text = "the target of a group is http://loinc.org: a chain of maps is not followed"
        faults.append((f"{place}.target", text))
        return
    if group.modifierExtension:
        faults.append((place, "a modifier extension is not understood"))
    if group.unmapped and group.unmapped.mode != "provided":
        text = f"codes that are not in the map are not read: mode '{group.unmapped.mode}'"
        faults.append((f"{place}.unmapped", text))
    system = system_of((group.source or "").partition("|")[0])
    for number, one in enumerate(group.element):
        yield from _rows_of(one, system, f"{place}.element[{number}]", faults)


def _rows_of(raw: Raw, system: str, place: str, faults: list[tuple[str, str]]) -> Iterator[_Draft]:
    element = _decoded(raw, _Mapping, place)
    if element.modifierExtension:
        faults.append((place, "a modifier extension is not understood"))
        return
    for number, target in enumerate(element.target):
        where = f"{place}.target[{number}]"
        equivalence = target.equivalence or target.relationship or ""
        if equivalence in _NO_MATCH:
            continue
        unit, fault = _declared(target)
        if equivalence not in _SAME:
            fault = (
                f"equivalence '{_short(equivalence)}': only what is equal, equivalent or wider is "
                "surely the same count; 'unmatched' says that it is none"
            )
        if fault:
            faults.append((where, fault))
            continue
        row = MapRow(
            system,
            (element.code or "").strip(),
            (target.code or "").strip(),
            unit,
            element.display or "",
            _SAME[equivalence],
        )
        yield _Draft(row, where)


def _declared(target: _Target) -> tuple[str, str]:
    """The unit that a target declares, and what of it is not understood."""
    if target.dependsOn or target.modifierExtension:
        return "", "a target that depends on something else is not understood"
    units = [one.value or "" for one in target.product if one.system in codes.UCUM_SYSTEMS]
    if len(units) != len(target.product) or len(units) > 1 or "" in units:
        return "", f"a product is one unit, of the system {UCUM}"
    return (units[0] if units else ""), ""
