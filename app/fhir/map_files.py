"""The maps of the settings, which are files, and those of a request beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Raw

from app.fhir.map_concepts import located, read_concept_map
from app.fhir.map_csv import read_csv
from app.fhir.map_rows import shortened
from app.fhir.maps import CodeMap, CodeMapError, MapRow, SourceMap


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
            read = read_concept_map if text.lstrip().startswith("{") else read_csv
            one, drafts = read(text, path.name)
            for row, where in drafts:
                other, there = places.setdefault((row.system, row.code), (path, where))
                if (other, there) != (path, where):
                    fault = f"the code '{shortened(row.code)}' stands in {other} as well: {there}"
                    raise CodeMapError([(where, fault)])
        except CodeMapError as error:
            (where, fault), *others = error.faults
            raise CodeMapError([(located(data, where, fault), fault), *others], str(path)) from None
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
        one, drafts = read_concept_map(raw, place, place)
        rows: list[MapRow] = []
        faults: list[tuple[str, str]] = []
        for draft in drafts:
            row, fault = _beside(own, draft.row)
            other = places.setdefault((row.system, row.code), draft.where)
            if other != draft.where:
                fault = f"the code '{shortened(row.code)}' stands twice: see {other}"
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
        text = f"the code '{shortened(row.code)}' stands for {stands} in the map '{known.map}'"
        return row, text
    return msgspec.structs.replace(row, unit=row.unit or known.unit), ""


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CodeMapError([("", error.strerror or "cannot be read")], str(path)) from None


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
