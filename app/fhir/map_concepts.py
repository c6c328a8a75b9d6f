"""A map as a ConceptMap of FHIR, R4 or R5."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw

from app.fhir import codes
from app.fhir.map_rows import Draft, checked, shortened
from app.fhir.maps import CodeMapError, MapRow, SourceMap, system_of
from app.fhir.resources import ABSENT, Element, told_by
from app.fhir.ucum import UCUM, UCUM_SYSTEMS

# A code that is read as LOINC is as much or more than the hospital's own: FHIR R4, then R5.
_SAME = {name: name for name in ("equal", "equivalent", "wider", "subsumes")} | {
    "source-is-narrower-than-target": "wider"
}
_NO_MATCH = frozenset({"unmatched", "disjoint", "not-related-to"})
_ELEMENT = re.compile(r"ConceptMap(?:\.group\[(\d+)\](?:\.element\[(\d+)\])?)?", re.ASCII)
_BYTE = re.compile(r"\(byte (\d+)\)", re.ASCII)
T = TypeVar("T")


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


def read_concept_map(
    raw: str | Raw, name: str, place: str = "ConceptMap"
) -> tuple[SourceMap, list[Draft]]:
    """A ConceptMap as a map; `name` is what it is called where it has no url."""
    found = _decoded(raw, _ConceptMap, place)
    if found.resourceType != "ConceptMap":
        raise CodeMapError([(place, "not a ConceptMap")])
    faults: list[tuple[str, str]] = []
    if found.implicitRules or found.modifierExtension:
        faults.append((place, "implicit rules or a modifier extension are not understood"))
    drafts: list[Draft] = []
    for number, group in enumerate(found.group):
        drafts += _drafts(group, f"{place}.group[{number}]", faults)
    rows = checked(drafts, place, faults)
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


def _drafts(raw: Raw, place: str, faults: list[tuple[str, str]]) -> Iterator[Draft]:
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


def _rows_of(raw: Raw, system: str, place: str, faults: list[tuple[str, str]]) -> Iterator[Draft]:
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
                f"equivalence '{shortened(equivalence)}': only what is equal, equivalent or wider "
                "is surely the same count; 'unmatched' says that it is none"
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
        yield Draft(row, where)


def _declared(target: _Target) -> tuple[str, str]:
    """The unit that a target declares, and what of it is not understood."""
    if target.dependsOn or target.modifierExtension:
        return "", "a target that depends on something else is not understood"
    units = [one.value or "" for one in target.product if one.system in UCUM_SYSTEMS]
    if len(units) != len(target.product) or len(units) > 1 or "" in units:
        return "", f"a product is one unit, of the system {UCUM}"
    return (units[0] if units else ""), ""


def located(data: bytes, where: str, text: str) -> str:
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
