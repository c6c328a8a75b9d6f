"""Quantities in their analyte's unit: the number as it was sent, and the factor of its unit."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from app.domain.counts import EXACT, Interval
from app.fhir import units
from app.fhir.codes import Dimension, LoincRow
from app.fhir.kept import for_a_request
from app.fhir.plausible import MAY_BE_NONE, MOLAR_HEMOGLOBIN_FLOOR, PLAUSIBLE
from app.fhir.resources import Quantity
from app.fhir.ucum import UCUM_SYSTEMS
from app.fhir.units import Unit
from app.reading.aside import Repairs, SetAside, short

# FHIR asks for 18 digits; a number far beyond is no laboratory's.
_DIGITS = 64
_COMPARATORS: dict[str, Callable[[Decimal], Interval]] = {
    "<": lambda value: Interval(None, value, high_included=False),
    "<=": lambda value: Interval(None, value),
    ">": lambda value: Interval(value, None, low_included=False),
    ">=": lambda value: Interval(value, None),
}


def interval_of(quantity: Quantity, row: LoincRow, declared: str) -> tuple[Interval, Repairs]:
    """What a quantity tells in the analyte's unit, and how its unit was repaired.

    `declared` is the unit of one that has none, or one that is not known here. Raises SetAside.
    """
    value = decimal_of(bytes(quantity.value))
    factor, repairs = factor_of(quantity, row, declared)
    if row.dimension is Dimension.MOLAR_CONCENTRATION and value < MOLAR_HEMOGLOBIN_FLOOR:
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
    if not (is_plausible(interval.low, row) and is_plausible(interval.high, row)):
        least, most = PLAUSIBLE[row.analyte]
        raise SetAside(
            "implausible-value",
            f"Outside {least} to {most} {row.analyte.unit}: check the value and its unit.",
            ".value",
        )
    return interval, repairs


def factor_of(quantity: Quantity, row: LoincRow, declared: str) -> tuple[Decimal, Repairs]:
    """The factor from the quantity's unit to the analyte's, and how the unit was repaired."""
    factor, repair, why_not = _read_unit(quantity.system, quantity.code, quantity.unit, row)
    told = "unit-repaired"
    if factor is None and declared and _has_no_known_unit(quantity):
        factor, _, why_not = _read_unit(None, None, declared, row)
        told, repair = "unit-declared", _declared_text(quantity, declared)
    if factor is None:
        raise SetAside(repair, why_not, ".value")
    return factor, ((told, repair),) if repair else ()


def is_plausible(end: Decimal | None, row: LoincRow) -> bool:
    """Whether an end of an interval can be of a patient; of what is open nothing is said."""
    if end is None or (not end and row.analyte in MAY_BE_NONE):
        return True
    least, most = PLAUSIBLE[row.analyte]
    return least <= end <= most


def _has_no_known_unit(quantity: Quantity) -> bool:
    """Whether a hospital may say what the unit is: none is sent, or one that only it knows.

    A UCUM code that is not known here still means something else to everybody.
    """
    if quantity.code and quantity.system in UCUM_SYSTEMS:
        return False
    return not any(text and units.readings(text) for text in (quantity.code, quantity.unit))


def _declared_text(quantity: Quantity, declared: str) -> str:
    sent = quantity.code or quantity.unit
    why = f"The unit '{short(sent)}' is not known here" if sent else "No unit was sent"
    return f"{why}: '{declared}' is declared by the map"


def decimal_of(text: bytes) -> Decimal:
    """A number of JSON as it was sent, exactly; SetAside where it is none."""
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
    if code and system in UCUM_SYSTEMS and text in (None, code):
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
    read = of_code or (() if code and system in UCUM_SYSTEMS else of_text)
    unit = next((unit for unit in read if unit.fits(row)), None)
    name = short(code or text)
    if unit is None and any(unit.dimension is not row.dimension for unit in read):
        why_not = f"The unit '{name}' does not fit LOINC {row.code} ({row.display})."
        return None, "unit-conflict", why_not
    if unit is None:
        return None, "unit-unknown", f"The unit '{name}' is not known here."
    repaired = not unit.ucum or (bool(code) and system not in UCUM_SYSTEMS and bool(system))
    repair = f"The unit '{name}' was read as {_factor_text(row, unit.factor)}."
    return unit.factor, repair if repaired else "", ""


def _meaning(unit: Unit) -> tuple[Dimension, Decimal]:
    return unit.dimension, unit.factor


def _factor_text(row: LoincRow, factor: Decimal) -> str:
    return row.analyte.unit if factor == 1 else f"{factor} {row.analyte.unit}"


_MILLIGRAMS = {"mg": Decimal(1), "g": Decimal(1000), "ug": Decimal("0.001")}


def dose_of(quantity: Quantity) -> tuple[Decimal | None, Decimal | None]:
    """A dose in mg and in mg/kg; None for what it does not tell."""
    unit = quantity.code or quantity.unit or ""
    factor = _MILLIGRAMS.get(unit.removesuffix("/kg"))
    try:
        dose = decimal_of(bytes(quantity.value))
    except SetAside:
        return None, None
    if factor is None or quantity.comparator:
        return None, None
    return (None, dose * factor) if unit.endswith("/kg") else (dose * factor, None)
