"""One result's code and value: which analyte it counts, and how much, in the analyte's unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from app.domain.counts import EXACT, Analyte, Interval, Sex
from app.domain.effort import spend
from app.fhir import codes, units
from app.fhir.codes import Dimension, LoincRow
from app.fhir.kept import Kept, digest, for_a_request
from app.fhir.maps import CodeMap, Mapped
from app.fhir.resources import (
    DECODE_CONCEPT,
    DECODE_QUANTITY,
    DECODE_RANGES,
    DECODE_SAID,
    Concept,
    Quantity,
    ReferenceRange,
    Specimen,
    Valued,
    told_by,
)
from app.fhir.units import Unit
from app.reading.doubts import Doubt, doubt_of, worst

T = TypeVar("T")
# FHIR asks for 18 digits; a number far beyond is no laboratory's.
_DIGITS = 64
_COMPARATORS: dict[str, Callable[[Decimal], Interval]] = {
    "<": lambda value: Interval(None, value, high_included=False),
    "<=": lambda value: Interval(None, value),
    ">": lambda value: Interval(value, None, low_included=False),
    ">=": lambda value: Interval(value, None),
}
_TEXT_VALUE = re.compile(
    r"(<=|>=|<|>|≤|≥)? ?"
    r"([0-9]+(?:[.,'\u2019 ][0-9]{3}(?![0-9^*eE(]))*(?:[.,][0-9]+)?)(?![0-9]) ?(.*)"
)
# What a laboratory prints beside a number to say that it is low, high or commented on.
_FLAGS = r"\*+|[↑↓!]+|\((?:HH?|LL?|A|N|[a-z])\)"
_FLAG_BEFORE = re.compile(rf"^(?:{_FLAGS}|(?:HH?|LL?|A|N)(?= |$)) ?")
_FLAG_AFTER = re.compile(rf"(?: ?(?:{_FLAGS})| (?:HH?|LL?|A|N))$")
_OTHER_VALUES = tuple(
    name
    for name in Valued.__struct_fields__
    if name.startswith("value") and name not in {"valueQuantity", "valueString", "valueRange"}
)
_BESIDE_A_QUANTITY = attrgetter("valueString", "valueRange", "dataAbsentReason", *_OTHER_VALUES)
_NOTHING = _BESIDE_A_QUANTITY(Valued())
Repairs = tuple[tuple[str, str], ...]
"""What was repaired, or read as an interval: a remark's code and its text, each."""

BY_MAPS = frozenset({"code-mapped", "unit-declared"})
"""The codes of what a hospital's own map made of a result."""


class SetAside(Exception):  # noqa: N818 not an error: the result is named as set aside
    """One result that cannot be used: the remark's code, its text, and the element at fault."""

    def __init__(self, code: str, text: str, element: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.element = element


def short(text: str | None) -> str:
    """What the sender wrote, cut to a length that fits a remark."""
    return (text or "")[:40]


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


_LONGEST = 2000
"""A longer text is not worth its place in memory."""
_CODED: Kept[bytes, _Coded] = Kept(4096)
_MAPPED: Kept[tuple[int, bytes], tuple[_Coded, CodeMap]] = Kept(4096)
_RANGES: Kept[tuple[bytes, LoincRow], RangesRead] = Kept(4096)
_COUNTED: Kept[tuple[bytes, LoincRow, str], tuple[Interval, Repairs]] = Kept(16384)


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
        if _has_value(valued):
            raise SetAside("unmapped-code", coded.rejected, ".code")
    elif coded.like_a_count and (not panel or _has_value(valued)):
        raise SetAside("unmapped-code", coded.like_a_count, ".code")
    return None


def _by_map(coded: _Coded, raw: bytes, code_map: CodeMap) -> _Coded:
    """What a code comes to where a hospital's own codes are known."""
    found = _MAPPED.get((id(code_map), raw))
    if found is None:
        # With the map, so that no other comes to have its id meanwhile.
        found = _mapped(coded, raw, code_map), code_map
        if len(raw) < _LONGEST:
            _MAPPED.keep((id(code_map), raw), found, ours=False)
    return found[0]


def _mapped(coded: _Coded, raw: bytes, code_map: CodeMap) -> _Coded:
    """The same, read anew: LOINC of ours still stands."""
    concept = _read(DECODE_CONCEPT, raw, ".code")
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
    concept = _read(DECODE_CONCEPT, raw, ".code")
    if concept is None:
        return _Coded()
    found = _named(concept)
    if len(raw) < _LONGEST:
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
    if any(name and codes.looks_like_a_count(name) for name in names):
        return (
            "Looks like a blood count, but its code is not one of the LOINC codes known: not used."
        )
    return ""


def _read(decode: Callable[[bytes], T], raw: bytes, element: str) -> T | None:
    """An element that stayed raw; None where it is absent. Raises SetAside: it is not FHIR."""
    if not raw:
        return None
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words, path = told_by(error)
        text = f"Not a FHIR Observation ({words}): set aside."
        raise SetAside("not-fhir", text, element + path) from None


def _given(raw: Raw) -> bool:
    return bytes(raw) not in {b"", b"null"}


def _has_value(valued: Valued) -> bool:
    return (
        _given(valued.valueQuantity)
        or valued.valueString is not None
        or valued.valueRange is not None
        or any(getattr(valued, name) for name in _OTHER_VALUES)
    )


def value_of(valued: Valued, row: LoincRow, declared: str = "") -> tuple[Interval, Repairs]:
    """The value in the analyte's unit, and what was repaired or read as an interval.

    `declared` is the unit of a value that has none, or one that is not known here.
    """
    raw = bytes(valued.valueQuantity)
    if not raw or raw == b"null" or _BESIDE_A_QUANTITY(valued) != _NOTHING:
        return _unusual_value(valued, row, declared)
    # Laboratories print few digits: the same values in the same units come again and again.
    return _COUNTED.get((raw, row, declared)) or _counted(raw, row, declared)


def _counted(raw: bytes, row: LoincRow, declared: str) -> tuple[Interval, Repairs]:
    quantity = _read(DECODE_QUANTITY, raw, ".valueQuantity")
    assert quantity is not None  # noqa: S101 null was no value
    interval, repairs = _quantity(quantity, row, declared)
    if quantity.comparator:
        repairs += _as_interval(interval)
    found = interval, repairs
    if len(raw) < _LONGEST:
        ours = not declared and _is_number_and_unit(raw, quantity)
        _COUNTED.keep((raw, row, declared), found, ours)
    return found


def _is_number_and_unit(raw: bytes, quantity: Quantity) -> bool:
    """Whether a value is a number and a unit of UCUM as our table writes it, and no more."""
    code, text, system = quantity.code, quantity.unit, quantity.system
    if code not in units.TABLE or text not in (None, code) or system not in codes.UCUM_SYSTEMS:
        return False
    quotes = 10 + (4 if text is not None else 0) + (4 if quantity.comparator else 0)
    # Whatever else there may be has its name in quotation marks.
    return raw.count(b'"') == quotes


def _as_interval(interval: Interval) -> Repairs:
    if interval.exact is not None:
        return ()
    return (("comparator", "A value with a comparator was read as an interval."),)


def _unusual_value(valued: Valued, row: LoincRow, declared: str) -> tuple[Interval, Repairs]:
    """The value that is no quantity, or does not stand alone."""
    others = [name for name in _OTHER_VALUES if getattr(valued, name)]
    given = _given(valued.valueQuantity) + sum(
        value is not None for value in (valued.valueString, valued.valueRange)
    )
    if given + len(others) > 1:
        raise SetAside("invalid-value", "More than one value[x]: FHIR allows one.")
    if given + len(others) == 0:
        raise SetAside("no-value", "The result has no value." + _absence(valued))
    if valued.dataAbsentReason is not None:
        raise SetAside("invalid-value", "A value together with a dataAbsentReason (obs-6).")
    if others:
        raise SetAside("invalid-value", f"{others[0]} is no number with a unit.", ".value")
    if valued.valueRange is not None:
        ends = [valued.valueRange.low, valued.valueRange.high]
        if None in ends:
            raise SetAside("invalid-value", "The range has one end only.", ".value")
        low, high = (_quantity(end, row, declared) for end in ends if end is not None)
        if low[0].exact is None or high[0].exact is None or low[0].exact > high[0].exact:
            raise SetAside("invalid-value", "The range's ends are no range.", ".value")
        interval = Interval(low[0].low, high[0].high)
        return interval, (
            *low[1],
            *high[1],
            ("comparator", "A range was read as an interval."),
        )
    interval, repairs = _from_text(valued, row, declared)
    return interval, repairs + _as_interval(interval)


_SEXES = {
    "male": Sex.MALE,
    "m": Sex.MALE,
    "248153007": Sex.MALE,
    "female": Sex.FEMALE,
    "f": Sex.FEMALE,
    "248152002": Sex.FEMALE,
}
_YEARS = {"a": 1, "year": 1, "years": 1, "mo": 12, "month": 12, "months": 12}


Ranges = tuple[tuple[ReferenceRange, Interval], ...]
"""A laboratory's ranges of normal, each with whom it holds for."""


def normal_ranges_of(valued: Valued, row: LoincRow, declared: str = "") -> Ranges:
    """A result's ranges of normal in its analyte's unit; a range without a unit is in the value's.

    `declared` as in `value_of`: a result's unit is that of its ranges. Raises SetAside where they
    are not FHIR, and where none can be normal in that unit: the unit is wrong, then.
    """
    raw = bytes(valued.referenceRange)
    if not raw:
        return ()
    read = _normal_ranges if len(raw) < _LONGEST else _normal_ranges.__wrapped__
    ranges, bare, why_not = read(raw, row, declared)
    if bare:
        ranges, _, why_not = read(raw, row, declared, _unit_of_value(valued))
    if why_not:
        raise SetAside("unit-contradicted", why_not, ".value")
    return ranges


UnitSent = tuple[str | None, str | None, str | None]
"""A unit's system, code and text."""


def _unit_of_value(valued: Valued) -> UnitSent | None:
    """The unit of the result's value; None where it is no quantity or has none."""
    raw = bytes(valued.valueQuantity)
    quantity = _read(DECODE_QUANTITY, raw, ".valueQuantity") if raw else None
    if quantity is None and valued.valueRange is not None:
        quantity = valued.valueRange.low
    if quantity is None or not (quantity.unit or quantity.code):
        return None
    return quantity.system, quantity.code, quantity.unit


RangesRead = tuple[Ranges, bool, str]
"""The ranges, whether one has no unit, and why the unit cannot be right."""
_ANYBODYS = ReferenceRange()


@for_a_request(1024)
def _normal_ranges(
    raw: bytes, row: LoincRow, declared: str, unit: UnitSent | None = None
) -> RangesRead:
    """A laboratory prints the same ranges with every result: their numbers are kept for good."""
    if declared or unit is not None:
        return _read_ranges(raw, row, declared, unit)
    key = digest(raw), row
    found = _RANGES.get(key)
    if found is None:
        found = _read_ranges(raw, row, declared, unit)
        if not any(given.appliesTo or given.age for given, _ in found[0]):
            ranges = tuple((_ANYBODYS, interval) for _, interval in found[0])
            _RANGES.keep(key, (ranges, *found[1:]), ours=True)
    return found


def _read_ranges(raw: bytes, row: LoincRow, declared: str, unit: UnitSent | None) -> RangesRead:
    """The ranges; the reason tells where the laboratory calls normal what is normal in nobody."""
    found = []
    bare = False
    seen: list[Interval] = []
    for given in _read(DECODE_RANGES, raw, ".referenceRange") or ():
        kinds = {c.code for c in given.type.coding} if given.type else set()
        if kinds - {"normal"}:
            continue
        bare = bare or any(end and not (end.unit or end.code) for end in (given.low, given.high))
        low, high = (_end(end, row, declared, unit) for end in (given.low, given.high))
        if low is None and high is None:
            continue
        seen.append(Interval(low, high))
        if _plausible(low, row) and _plausible(high, row):
            found.append((given, seen[-1]))
    least, most = codes.NORMAL_SOMEWHERE.get(row.analyte, (None, None))
    why_not = ""
    if (
        least is not None
        and most is not None
        and seen
        and not any(
            (one.low is None or one.low <= most) and (one.high is None or one.high >= least)
            for one in seen
        )
    ):
        why_not = (
            f"In this unit the laboratory's own range of normal lies outside {least} to {most} "
            f"{row.analyte.unit}, where nobody is normal: the unit is wrong."
        )
    return tuple(found), bare, why_not


def _end(
    quantity: Quantity | None, row: LoincRow, declared: str, unit: UnitSent | None
) -> Decimal | None:
    """One end of a range in the analyte's unit; None where it is not known."""
    if quantity is None or quantity.comparator:
        return None
    if unit is not None and not (quantity.unit or quantity.code):
        system, code, text = unit
        quantity = Quantity(quantity.value, None, text, system, code)
    try:
        value, factor = _decimal(bytes(quantity.value)), _factor_of(quantity, row, declared)[0]
    except SetAside:
        return None
    return EXACT.multiply(value, factor)


def doubt_told(remarks: Iterable[Raw]) -> Doubt | None:
    """The worst that notes and interpretations say of a specimen; SetAside: they are not FHIR."""
    found = None
    for remark in remarks:
        if remark:
            raw = bytes(remark)
            spend(len(raw) // 8)
            doubt = _doubt_in(raw) if len(raw) < _LONGEST else _doubt_in.__wrapped__(raw)
            found = found if doubt is None else worst((found, doubt))
    return found


@for_a_request(1024)
def _doubt_in(raw: bytes) -> Doubt | None:
    said = _read(DECODE_SAID, raw, "") or ()
    texts = (text for one in said for text in (one.text, *(c.display for c in one.coding)))
    return worst({doubt_of(text) for text in texts if text})


# Of HL7 v2 table 0493: clotted, contaminated, hemolyzed.
_SPOILT_CONDITIONS = {"CLOT", "CON", "HEM"}


def doubt_of_specimen(specimen: Specimen) -> Doubt | None:
    """What a Specimen's condition and notes say of it; SetAside: they are not FHIR."""
    for said in _read(DECODE_SAID, bytes(specimen.condition), ".condition") or ():
        if any(coding.code in _SPOILT_CONDITIONS for coding in said.coding):
            return Doubt.SPOILT
    return doubt_told((specimen.condition, specimen.note))


def under_doubt(interval: Interval, row: LoincRow, doubt: Doubt | None) -> tuple[Interval, Repairs]:
    """What a doubted count still tells, and that it is doubted. SetAside: it tells nothing."""
    if doubt is Doubt.SPOILT:
        text = "The laboratory calls the specimen clotted, hemolysed, diluted or contaminated."
        raise SetAside("specimen-doubt", f"{text} Not used: repeat the count.")
    if doubt is None or row.analyte is not Analyte.PLATELETS:
        return interval, ()
    text = "The laboratory tells of clumped platelets: the count is a lower bound."
    if interval.low is None:
        raise SetAside("specimen-doubt", f"{text} Of an upper bound nothing is left.")
    return Interval(interval.low, None, interval.low_included), (("specimen-doubt", text),)


_MILLIGRAMS = {"mg": Decimal(1), "g": Decimal(1000), "ug": Decimal("0.001")}


def dose_of(quantity: Quantity) -> tuple[Decimal | None, Decimal | None]:
    """A dose in mg and in mg/kg; None for what it does not tell."""
    unit = quantity.code or quantity.unit or ""
    factor = _MILLIGRAMS.get(unit.removesuffix("/kg"))
    try:
        dose = _decimal(bytes(quantity.value))
    except SetAside:
        return None, None
    if factor is None or quantity.comparator:
        return None, None
    return (None, dose * factor) if unit.endswith("/kg") else (dose * factor, None)


def applies(given: ReferenceRange, sex: Sex | None, age_years: Decimal | None) -> bool:
    """Whether a range holds for a patient: one for a sex or an age only if that is known."""
    for concept in given.appliesTo:
        names = {(c.code or "").lower() for c in concept.coding} | {(concept.text or "").lower()}
        named = {_SEXES[name] for name in names if name in _SEXES}
        if named != {sex}:
            return False
    if given.age is None:
        return True
    low, high = _years(given.age.low), _years(given.age.high)
    if age_years is None or (given.age.low and low is None) or (given.age.high and high is None):
        return False
    return (low is None or low <= age_years) and (high is None or age_years <= high)


def _years(quantity: Quantity | None) -> Decimal | None:
    unit = _YEARS.get((quantity.code or quantity.unit or "").lower()) if quantity else None
    if quantity is None or unit is None:
        return None
    try:
        return _decimal(bytes(quantity.value)) / unit
    except SetAside:
        return None


def _absence(valued: Valued) -> str:
    reason = valued.dataAbsentReason
    code = next((c.code for c in reason.coding if c.code), None) if reason else None
    return f" Reason given: {short(code)}." if code else ""


def _from_text(valued: Valued, row: LoincRow, declared: str) -> tuple[Interval, Repairs]:
    """A number with its comparator and unit that stand in valueString.

    Of several ways to read them the plausible one, where there is exactly one.
    """
    text = valued.valueString or ""
    match = _TEXT_VALUE.fullmatch(units.tidy(text)) if len(text) <= 100 else None
    ways = list(_ways_to_read(match[2], match[3])) if match else []
    if match is None or not ways:
        raise SetAside("invalid-value", "The text is no number with a unit.", ".value")
    taken: dict[Interval, Repairs] = {}
    asides = []
    for number, unit in ways:
        quantity = Quantity(Raw(number.encode()), _ascii(match[1]), unit or None)
        try:
            interval, repairs = _quantity(quantity, row, declared)
            taken.setdefault(interval, repairs)
        except SetAside as aside:
            asides.append(aside)
    if not taken:
        raise asides[0]
    said = " or ".join(number for number, _ in ways)
    if len(taken) > 1:
        raise SetAside("ambiguous-number", f"It may be {said}: write it in one way.", ".value")
    [(interval, repairs)] = taken.items()
    alone = f": of {said} one alone is plausible" if len(ways) > 1 else ""
    return interval, (*repairs, ("unit-repaired", f"The value was read from text{alone}."))


def _ways_to_read(number: str, rest: str) -> Iterator[tuple[str, str]]:
    """A number as it may be meant, as plain digits, with the unit it then has."""
    unit = _without_flags(rest)
    for digits in _numbers(number):
        yield digits, unit
    # 5 103/uL is a grouped number, or five by a power that has lost its form.
    first, space, group = number.rpartition(" ")
    if space and units.readings(group + rest):
        for digits in _numbers(first):
            yield digits, group + rest


def _without_flags(unit: str) -> str:
    """The unit without what only says that the value is low, high or commented on."""
    for flag in (_FLAG_AFTER, _FLAG_BEFORE):
        if not units.readings(unit):
            unit = flag.sub("", unit, count=1)
    return unit


def _numbers(text: str) -> tuple[str, ...]:
    """What a number may be: a point or a comma before three digits has two readings."""
    digits = re.sub(r"[ '\u2019]", "", text)
    marks = re.sub("[0-9]", "", digits)
    if not marks:
        return (digits,)
    groups = re.split("[.,]", digits)
    decimal = "".join(groups[:-1]) + "." + groups[-1]
    if len(marks) > 1:
        # One mark again and again only groups; another one at the end is the decimal mark.
        same = len(set(marks)) == 1
        if same and len(groups[-1]) == 3:
            return ("".join(groups),)
        return (decimal,) if not same and len(set(marks[:-1])) == 1 else ()
    two_ways = (
        len(groups[1]) == 3 and len(groups[0]) <= 3 and groups[0][0] != "0" and digits == text
    )
    return (decimal, "".join(groups)) if two_ways else (decimal,)


def _ascii(comparator: str | None) -> str | None:
    return {"≤": "<=", "≥": ">="}.get(comparator, comparator) if comparator else None


def _quantity(quantity: Quantity, row: LoincRow, declared: str) -> tuple[Interval, Repairs]:
    value = _decimal(bytes(quantity.value))
    factor, repairs = _factor_of(quantity, row, declared)
    if row.dimension is Dimension.MOLAR_CONCENTRATION and value < codes.MOLAR_HEMOGLOBIN_FLOOR:
        raise SetAside(
            "implausible-value",
            "Below 3 mmol/L it may count hemoglobin tetramers: send g/dL or g/L.",
            ".value",
        )
    comparator = quantity.comparator
    if comparator is None:
        interval = Interval.exactly(value)
    elif comparator in _COMPARATORS:
        interval = _COMPARATORS[comparator](value)
    else:
        raise SetAside("invalid-value", "The comparator is not one of < <= >= >.", ".value")
    if factor != 1:
        interval = interval.times(factor)
    if not (_plausible(interval.low, row) and _plausible(interval.high, row)):
        least, most = codes.PLAUSIBLE[row.analyte]
        raise SetAside(
            "implausible-value",
            f"Outside {least} to {most} {row.analyte.unit}: check the value and its unit.",
            ".value",
        )
    return interval, repairs


def _factor_of(quantity: Quantity, row: LoincRow, declared: str) -> tuple[Decimal, Repairs]:
    """The factor from the quantity's unit to the analyte's, and how the unit was repaired."""
    factor, repair, why_not = _read_unit(quantity.system, quantity.code, quantity.unit, row)
    told = "unit-repaired"
    if factor is None and declared and _has_no_known_unit(quantity):
        factor, _, why_not = _read_unit(None, None, declared, row)
        told, repair = "unit-declared", _declared_text(quantity, declared)
    if factor is None:
        raise SetAside(repair, why_not, ".value")
    return factor, ((told, repair),) if repair else ()


def _plausible(end: Decimal | None, row: LoincRow) -> bool:
    if end is None or (not end and row.analyte in codes.MAY_BE_NONE):
        return True
    least, most = codes.PLAUSIBLE[row.analyte]
    return least <= end <= most


def _has_no_known_unit(quantity: Quantity) -> bool:
    """Whether a hospital may say what the unit is: none is sent, or one that only it knows.

    A UCUM code that is not known here still means something else to everybody.
    """
    if quantity.code and quantity.system in codes.UCUM_SYSTEMS:
        return False
    return not any(text and units.readings(text) for text in (quantity.code, quantity.unit))


def _declared_text(quantity: Quantity, declared: str) -> str:
    sent = quantity.code or quantity.unit
    why = f"The unit '{short(sent)}' is not known here" if sent else "No unit was sent"
    return f"{why}: '{declared}' is declared by the map"


def _decimal(text: bytes) -> Decimal:
    if not text or text == b"null":
        raise SetAside("no-value", "The quantity has no value.", ".value")
    if text[:1] == b'"':
        raise SetAside("invalid-value", "The value is a string, not a number.", ".value")
    if len(text) > _DIGITS:
        raise SetAside("implausible-value", f"A number of {len(text)} characters.", ".value")
    try:
        value = Decimal(text.decode())
    except (InvalidOperation, UnicodeDecodeError):
        raise SetAside("invalid-value", "The value is not a number.", ".value") from None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -_DIGITS <= exponent <= _DIGITS:
        raise SetAside("implausible-value", "The number's exponent is out of reach.", ".value")
    return value if exponent <= 0 else value.quantize(Decimal(1), context=EXACT)


def _read_unit(
    system: str | None, code: str | None, text: str | None, row: LoincRow
) -> tuple[Decimal | None, str, str]:
    """The factor to the analyte's unit and the repair; or None, a remark's code and its text."""
    if code and system in codes.UCUM_SYSTEMS and text in (None, code):
        unit = units.TABLE.get(code)
        if unit is not None and unit.fits(row):
            return unit.factor, "", ""
    return _spelled(system, code, text, row)


@for_a_request(4096)
def _spelled(
    system: str | None, code: str | None, text: str | None, row: LoincRow
) -> tuple[Decimal | None, str, str]:
    """The same where it is not plain UCUM."""
    if not (code or text):
        return None, "unit-missing", "The value has no unit; none is assumed. Send the unit."
    of_code = units.readings(code) if code else ()
    of_text = units.readings(text) if text else ()
    if of_code and of_text:
        meant = {_meaning(unit) for unit in of_text}
        of_code = tuple(unit for unit in of_code if _meaning(unit) in meant)
        if not of_code:
            return None, "unit-conflict", "The unit's code and its text disagree."
    # A UCUM code we do not know may disagree with a text we do.
    read = of_code or (() if code and system in codes.UCUM_SYSTEMS else of_text)
    unit = next((unit for unit in read if unit.fits(row)), None)
    name = short(code or text)
    if unit is None and any(unit.dimension is not row.dimension for unit in read):
        why_not = f"The unit '{name}' does not fit LOINC {row.code} ({row.display})."
        return None, "unit-conflict", why_not
    if unit is None:
        return None, "unit-unknown", f"The unit '{name}' is not known here."
    repaired = not unit.ucum or (bool(code) and system not in codes.UCUM_SYSTEMS and bool(system))
    repair = f"The unit '{name}' was read as {_factor_text(row, unit.factor)}."
    return unit.factor, repair if repaired else "", ""


def _meaning(unit: Unit) -> tuple[Dimension, Decimal]:
    return unit.dimension, unit.factor


def _factor_text(row: LoincRow, factor: Decimal) -> str:
    return row.analyte.unit if factor == 1 else f"{factor} {row.analyte.unit}"
