"""What a count can be, and what can be normal: where a wrong unit is likelier than the value."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from app.domain.counts import Analyte

_CELLS_OF_ONE_KIND: Final = (Decimal("0"), Decimal("100"))
_PERCENT: Final = (Decimal("0"), Decimal("100"))

PLAUSIBLE: Final[dict[Analyte, tuple[Decimal, Decimal]]] = {
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT: _CELLS_OF_ONE_KIND,
    Analyte.SEGMENTED_NEUTROPHILS: _CELLS_OF_ONE_KIND,
    Analyte.BAND_NEUTROPHILS: _CELLS_OF_ONE_KIND,
    Analyte.LEUKOCYTES: (Decimal("0.01"), Decimal("1000")),
    Analyte.PLATELETS: (Decimal("1"), Decimal("3000")),
    Analyte.RETICULOCYTES: (Decimal("0"), Decimal("1000")),
    # Our own: a red cell count in a mislabelled unit must not become a reticulocyte count.
    Analyte.ERYTHROCYTES: (Decimal("500"), Decimal("10000")),
    Analyte.HEMOGLOBIN: (Decimal("2"), Decimal("25")),
    Analyte.NEUTROPHIL_PERCENT: _PERCENT,
    Analyte.SEGMENTED_PERCENT: _PERCENT,
    Analyte.BAND_PERCENT: _PERCENT,
    Analyte.RETICULOCYTE_PERCENT: _PERCENT,
    Analyte.BODY_WEIGHT: (Decimal("0.5"), Decimal("500")),
}
"""In the analyte's unit, ends included. Outside, a wrong unit is likelier than the value."""

MAY_BE_NONE: Final = frozenset({Analyte.PLATELETS})
"""What may be 0, although less than the least that is plausible."""

NORMAL_SOMEWHERE: Final[dict[Analyte, tuple[Decimal, Decimal]]] = {
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT: (Decimal("0.5"), Decimal("20")),
    Analyte.LEUKOCYTES: (Decimal("1"), Decimal("40")),
    Analyte.PLATELETS: (Decimal("50"), Decimal("1000")),
    Analyte.RETICULOCYTES: (Decimal("2"), Decimal("400")),
    Analyte.HEMOGLOBIN: (Decimal("6"), Decimal("22")),
}
"""In the analyte's unit: a range of normal that lies outside is not in the unit it says."""

MOLAR_HEMOGLOBIN_FLOOR: Final = Decimal("3")
"""In mmol/L. Below, the laboratory may have counted tetramers, a fourth of the monomers."""
