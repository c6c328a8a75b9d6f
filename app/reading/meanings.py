"""What a result counts: its code as LOINC, or by a map of the hospital."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.domain.counts import Analyte
from app.fhir import codes
from app.fhir.codes import LoincRow
from app.fhir.kept import LONGEST, Kept
from app.fhir.labels import looks_like_a_count
from app.fhir.maps import CodeMap, Mapped
from app.fhir.resources import DECODE_CONCEPT, Concept, Valued
from app.reading.aside import Repairs, SetAside, read_element, short
from app.reading.values import has_value


class Meaning(NamedTuple):
    """What a result counts, and what a hospital's own map adds to it."""

    row: LoincRow
    by: Mapped | None = None
    """The map's row, where the code stands in one."""
    said: Repairs = ()
    """How the code was read, where that was by the map alone or LOINC by another name."""


class _Coded(NamedTuple):
    """What a code comes to: its meaning, or why there is none."""

    meaning: Meaning | None = None
    rejected: str = ""
    """Why a value under this code cannot be used."""
    ambiguous: str = ""
    like_a_count: str = ""
    """Why a value under a code that is not known may be a count all the same."""
    panel: bool = False


_CODED: Kept[bytes, _Coded] = Kept(4096)
_MAPPED: Kept[tuple[int, bytes], tuple[_Coded, CodeMap]] = Kept(4096)


def meaning_of(valued: Valued, panel: bool, code_map: CodeMap | None = None) -> Meaning | None:
    """What the code says is counted; None where it is no blood count and looks like none.

    Raises SetAside for a code that names a count which cannot be used. `panel` says that the
    result is made of others, so that its own name is not a count's.
    """
    raw = bytes(valued.code)
    coded = _CODED.get(raw) or _coded(raw)
    if code_map is not None:
        coded = _by_map(coded, raw, code_map)
    if coded.meaning is not None:
        return coded.meaning
    if coded.ambiguous:
        raise SetAside("ambiguous-code", coded.ambiguous, ".code")
    if coded.rejected:
        if has_value(valued):
            raise SetAside("unmapped-code", coded.rejected, ".code")
    elif coded.like_a_count and (not panel or has_value(valued)):
        raise SetAside("unmapped-code", coded.like_a_count, ".code")
    return None


def _by_map(coded: _Coded, raw: bytes, code_map: CodeMap) -> _Coded:
    """What a code comes to where a hospital's own codes are known."""
    found = _MAPPED.get((id(code_map), raw))
    if found is None:
        # With the map, so that no other comes to have its id meanwhile.
        found = _mapped(coded, raw, code_map), code_map
        if len(raw) < LONGEST:
            _MAPPED.keep((id(code_map), raw), found, ours=False)
    return found[0]


def _mapped(coded: _Coded, raw: bytes, code_map: CodeMap) -> _Coded:
    """The same, read anew: LOINC of ours still stands."""
    concept = read_element(DECODE_CONCEPT, raw, ".code")
    codings = concept.coding if concept else ()
    mapped = [found for c in codings if (found := code_map.mapped(c.system, c.code))]
    if not mapped or coded.ambiguous or (coded.rejected and not coded.panel):
        return coded
    # A panel's LOINC is stamped on single results too: the hospital's own code says which one.
    rows = [found.row for found in mapped]
    row = coded.meaning.row if coded.meaning else _of_lesser_standing(rows)
    if len({(one.analyte, one.dimension) for one in (row, *rows)}) > 1:
        named = ", ".join(f"{found.row.code} (the map '{found.map}')" for found in mapped)
        beside = f"LOINC {row.code} beside " if coded.meaning else ""
        return _Coded(ambiguous=f"The codes name more than one kind of count: {beside}{named}.")
    if len({found.unit for found in mapped if found.unit}) > 1:
        return _Coded(ambiguous="The maps declare more than one unit for the codes.")
    by = next((found for found in mapped if found.unit), mapped[0])
    if coded.meaning:
        return _Coded(Meaning(row, by, coded.meaning.said))
    text = f"Read as LOINC {row.code} ({row.display}) by the map"
    return _Coded(Meaning(row, by, (("code-mapped", text),)))


def _of_lesser_standing(rows: Sequence[LoincRow]) -> LoincRow:
    return next((row for row in rows if row.doubtful), rows[0])


def _coded(raw: bytes) -> _Coded:
    concept = read_element(DECODE_CONCEPT, raw, ".code")
    if concept is None:
        return _Coded()
    found = _named(concept)
    if len(raw) < LONGEST:
        row = found.meaning.row if found.meaning else None
        _CODED.keep(raw, found, ours=row is not None and _is_ours(raw, concept, row))
    return found


def _is_ours(raw: bytes, concept: Concept, row: LoincRow) -> bool:
    """Whether a code is written in the words of LOINC's row, and in no others."""
    if concept.text is not None and not row.display.startswith(concept.text):
        return False
    quotes = 2 + (4 if concept.text is not None else 0)
    for coding in concept.coding:
        if coding.system != codes.LOINC or coding.code not in codes.BY_LOINC:
            return False
        if coding.display is not None and not row.display.startswith(coding.display):
            return False
        quotes += 8 + (4 if coding.display is not None else 0)
    # Whatever else there may be has its name in quotation marks.
    return raw.count(b'"') == quotes


def _named(concept: Concept) -> _Coded:
    systems = {(c.code or "").strip(): c.system for c in concept.coding if codes.is_loinc(c.system)}
    as_published = {c.code for c in concept.coding if c.system == codes.LOINC}
    loinc = list(systems)
    rejected = next((code for code in loinc if code in codes.REJECTED_LOINC), None)
    if rejected:
        return _Coded(rejected=f"LOINC {rejected}: {codes.REJECTED_LOINC[rejected]}.")
    rows = [codes.BY_LOINC[code] for code in loinc if code in codes.BY_LOINC]
    if len({(row.analyte, row.dimension) for row in rows}) > 1:
        both = ", ".join(row.code for row in rows)
        return _Coded(ambiguous=f"The codes name more than one kind of count: {both}.")
    if rows:
        row = _of_lesser_standing(rows)
        return _Coded(
            Meaning(row, said=() if row.code in as_published else _renamed(systems[row.code]))
        )
    if any(code in codes.PANEL_LOINC for code in loinc):
        text = "A panel's code on a single result: it cannot be told what was counted."
        return _Coded(rejected=text, panel=True)
    return _Coded(like_a_count=_like_a_count(concept))


def _renamed(system: str | None) -> Repairs:
    return (("code-repaired", f"The code system '{short(system)}' was read as {codes.LOINC}."),)


def _like_a_count(concept: Concept) -> str:
    """Why a code that is not known may be a blood count's; empty where nothing says so."""
    for coding in concept.coding:
        row = codes.BY_LOINC.get((coding.code or "").strip())
        if row is not None and row.analyte is not Analyte.BODY_WEIGHT:
            return (
                f"{row.code} is LOINC for a count ({row.display}), but its system is "
                f"'{short(coding.system) or 'missing'}': not used. Send {codes.LOINC}."
            )
    names = (concept.text, *(coding.display for coding in concept.coding))
    if any(name and looks_like_a_count(name) for name in names):
        return (
            "Looks like a blood count, but its code is not one of the LOINC codes known: not used."
        )
    return ""
