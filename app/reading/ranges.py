"""The laboratory's own ranges of normal, and for whom they hold."""

from __future__ import annotations

from decimal import Decimal

from app.domain.counts import EXACT, Interval, Sex
from app.fhir.codes import LoincRow
from app.fhir.kept import LONGEST, Kept, digest, for_a_request
from app.fhir.plausible import NORMAL_SOMEWHERE
from app.fhir.resources import DECODE_QUANTITY, DECODE_RANGES, Quantity, ReferenceRange, Valued
from app.reading.aside import SetAside, read_element
from app.reading.quantities import decimal_of, factor_of, is_plausible

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
_RANGES: Kept[tuple[bytes, LoincRow], RangesRead] = Kept(4096)


def normal_ranges_of(valued: Valued, row: LoincRow, declared: str = "") -> Ranges:
    """A result's ranges of normal in its analyte's unit; a range without a unit is in the value's.

    `declared` as in `value_of`: a result's unit is that of its ranges. Raises SetAside where they
    are not FHIR, and where none can be normal in that unit: the unit is wrong, then.
    """
    raw = bytes(valued.referenceRange)
    if not raw:
        return ()
    read = _normal_ranges if len(raw) < LONGEST else _normal_ranges.__wrapped__
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
    quantity = read_element(DECODE_QUANTITY, raw, ".valueQuantity") if raw else None
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
    for given in read_element(DECODE_RANGES, raw, ".referenceRange") or ():
        kinds = {c.code for c in given.type.coding} if given.type else set()
        if kinds - {"normal"}:
            continue
        bare = bare or any(end and not (end.unit or end.code) for end in (given.low, given.high))
        low, high = (_end(end, row, declared, unit) for end in (given.low, given.high))
        if low is None and high is None:
            continue
        seen.append(Interval(low, high))
        if is_plausible(low, row) and is_plausible(high, row):
            found.append((given, seen[-1]))
    least, most = NORMAL_SOMEWHERE.get(row.analyte, (None, None))
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
        value, factor = decimal_of(bytes(quantity.value)), factor_of(quantity, row, declared)[0]
    except SetAside:
        return None
    return EXACT.multiply(value, factor)


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
        return decimal_of(bytes(quantity.value)) / unit
    except SetAside:
        return None
