"""Units of UCUM that laboratories send, and the factor of each. A table (https://ucum.org/ucum)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from app.fhir.codes import Dimension

_NUMBER: Final = Dimension.NUMBER_CONCENTRATION
_MASS_PER_VOLUME: Final = Dimension.MASS_CONCENTRATION
_MOLES_PER_VOLUME: Final = Dimension.MOLAR_CONCENTRATION
_FRACTION: Final = Dimension.FRACTION
_MASS: Final = Dimension.MASS

UCUM: str = "http://unitsofmeasure.org"
UCUM_SYSTEMS: Final[frozenset[str]] = frozenset(
    {
        UCUM,
        "http://unitsofmeasure.org/",
        "https://unitsofmeasure.org",
        "https://unitsofmeasure.org/",
        "urn:oid:2.16.840.1.113883.6.8",
    }
)


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One unit in UCUM, and the exact factor to the unit its analytes are held in."""

    text: str
    dimension: Dimension
    factor: Decimal
    """To 10*9/L, g/dL (also from mmol/L, by hemoglobin's molar mass), % or kg."""


def _rows(dimension: Dimension, factor: str, *texts: str) -> tuple[UnitRow, ...]:
    return tuple(UnitRow(text, dimension, Decimal(factor)) for text in texts)


# One mole of hemoglobin, taken as the monomer with one heme, weighs 16114 g (ICSH).
GRAMS_PER_DECILITER_IN_MMOL_PER_LITER: Final = "1.611"

# fmt: off
UNITS: Final[tuple[UnitRow, ...]] = (
    *_rows(
        _NUMBER, "1",
        "10*3/uL", "10*3/ul", "10^3/uL", "10^3/ul", "10*9/L", "10*9/l", "10^9/L", "10^9/l",
        "10*3/mm3", "10^3/mm3", "10*6/mL", "10*6/ml", "10^6/mL", "10^6/ml",
        "/nL", "/nl", "1/nL", "1/nl", "nL-1", "nl-1",
    ),
    *_rows(
        _NUMBER, "0.001",
        "/uL", "/ul", "1/uL", "1/ul", "/mm3", "1/mm3", "{cells}/uL", "{cells}/ul",
        "{#}/uL", "{#}/ul", "{cells}/mm3", "10*6/L", "10*6/l", "10^6/L", "10^6/l",
    ),
    *_rows(
        _NUMBER, "1000",
        "10*6/uL", "10*6/ul", "10^6/uL", "10^6/ul", "10*12/L", "10*12/l", "10^12/L", "10^12/l",
        "/pL", "/pl",
    ),
    *_rows(_MASS_PER_VOLUME, "1", "g/dL", "g/dl", "g%"),
    *_rows(_MASS_PER_VOLUME, "0.1", "g/L", "g/l"),
    *_rows(_MASS_PER_VOLUME, "0.001", "mg/dL", "mg/dl"),
    *_rows(_MASS_PER_VOLUME, "100", "g/mL", "g/ml"),
    *_rows(_MOLES_PER_VOLUME, GRAMS_PER_DECILITER_IN_MMOL_PER_LITER, "mmol/L", "mmol/l"),
    *_rows(_FRACTION, "1", "%", "/100"),
    *_rows(_FRACTION, "0.1", "[ppth]", "10*-3", "10^-3", "/1000"),
    *_rows(_FRACTION, "100", "1", "{ratio}"),
    *_rows(_MASS, "1", "kg"),
    *_rows(_MASS, "0.001", "g"),
    *_rows(_MASS, "0.45359237", "[lb_av]"),
)
# fmt: on
"""What is UCUM, for reference; app/fhir/units.py reads what laboratories write instead."""
