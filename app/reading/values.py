"""How much a result tells, as an interval in its analyte's unit."""

from __future__ import annotations

from operator import attrgetter

from msgspec import Raw

from app.domain.counts import Interval
from app.fhir import units
from app.fhir.codes import LoincRow
from app.fhir.kept import LONGEST, Kept
from app.fhir.resources import DECODE_QUANTITY, Quantity, Valued
from app.fhir.ucum import UCUM_SYSTEMS
from app.reading.aside import Repairs, SetAside, read_element, short
from app.reading.quantities import interval_of
from app.reading.texts import from_text

_OTHER_VALUES = tuple(
    name
    for name in Valued.__struct_fields__
    if name.startswith("value") and name not in {"valueQuantity", "valueString", "valueRange"}
)
_BESIDE_A_QUANTITY = attrgetter("valueString", "valueRange", "dataAbsentReason", *_OTHER_VALUES)
_NOTHING = _BESIDE_A_QUANTITY(Valued())
_COUNTED: Kept[tuple[bytes, LoincRow, str], tuple[Interval, Repairs]] = Kept(16384)


def _is_given(raw: Raw) -> bool:
    return bytes(raw) not in {b"", b"null"}


def has_value(valued: Valued) -> bool:
    """Whether there is any value[x]."""
    return (
        _is_given(valued.valueQuantity)
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
    quantity = read_element(DECODE_QUANTITY, raw, ".valueQuantity")
    assert quantity is not None  # noqa: S101 null was no value
    interval, repairs = interval_of(quantity, row, declared)
    if quantity.comparator:
        repairs += _as_interval(interval)
    found = interval, repairs
    if len(raw) < LONGEST:
        ours = not declared and _is_number_and_unit(raw, quantity)
        _COUNTED.keep((raw, row, declared), found, ours)
    return found


def _is_number_and_unit(raw: bytes, quantity: Quantity) -> bool:
    """Whether a value is a number and a unit of UCUM as our table writes it, and no more."""
    code, text, system = quantity.code, quantity.unit, quantity.system
    if code not in units.TABLE or text not in (None, code) or system not in UCUM_SYSTEMS:
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
    given = _is_given(valued.valueQuantity) + sum(
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
        low, high = (interval_of(end, row, declared) for end in ends if end is not None)
        if low[0].exact is None or high[0].exact is None or low[0].exact > high[0].exact:
            raise SetAside("invalid-value", "The range's ends are no range.", ".value")
        interval = Interval(low[0].low, high[0].high)
        return interval, (
            *low[1],
            *high[1],
            ("comparator", "A range was read as an interval."),
        )
    interval, repairs = from_text(valued, row, declared)
    return interval, repairs + _as_interval(interval)


def _absence(valued: Valued) -> str:
    reason = valued.dataAbsentReason
    code = next((c.code for c in reason.coding if c.code), None) if reason else None
    return f" Reason given: {short(code)}." if code else ""
