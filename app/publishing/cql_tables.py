"""MaaTables: what the hand-written MaaCounts looks up, written from the engine's own tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from app.domain.confounding import CONFOUNDED_BY, CONFOUNDED_DAYS
from app.domain.counts import Analyte, Product
from app.domain.dependence import DEPENDENCE_DAYS, DEPENDENCE_UNITS
from app.domain.derivation import A_TENTH, ROUNDED_UP
from app.fhir import codes, treatments, units
from app.fhir.codes import Dimension, LoincRow
from app.fhir.plausible import (
    MAY_BE_NONE,
    MOLAR_HEMOGLOBIN_FLOOR,
    NORMAL_SOMEWHERE,
    PLAUSIBLE,
)
from app.fhir.times import YEARS
from app.fhir.treatments import DRUG_NAMES, DRUGS, HCPCS_TRANSFUSIONS, TRANSFUSIONS
from app.fhir.ucum import UCUM_SYSTEMS, UNITS
from app.reading.bundles import WITHDRAWN
from app.reading.doubts import CLUMPED, SPOILT
from app.reading.observations import COUNTING
from app.reading.specimens import SPOILT_CONDITIONS
from app.reading.treatments import GIVEN, NOT_GIVEN, RUNNING

_DIMENSIONS = {
    Dimension.NUMBER_CONCENTRATION: "10*9/L",
    Dimension.MASS_CONCENTRATION: "g/dL",
    Dimension.MOLAR_CONCENTRATION: "mmol/L",
    Dimension.FRACTION: "%",
}
# CQL cannot run the grammar that reads units: of the spellings beside UCUM it knows the commonest.
_SPELLINGS = """
    K/uL k/uL K/ul K/mcL K/mm3 k/mm3 K/cumm K/µL k/µL 10^3/mcL 10*3/mcL 10^3/µL 10*3/µL
    x10E3/uL X10E3/uL 10E3/uL x10^3/uL x10*3/uL x10^9/L x10*9/L x10E9/L 10E9/L 10e9/L 10⁹/L
    G/L G/l Thousand/uL Thou/uL thou/mm3 Tsd/ul Tsd/µl Giga/L 1000/uL 1000/µL cells/uL
    cells/mcL cells/µL cells/mm3 /cumm /µL /mcL M/uL M/mcL M/µL 10^6/mcL 10^6/µL 10*6/µL
    x10^6/uL x10E6/uL 10E6/uL x10^12/L x10*12/L x10E12/L 10E12/L Million/uL T/L gm/dL gm/dl
    G/DL g/100mL percent
"""


def quoted(value: str) -> str:
    """A String of CQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def decimal(value: str | Decimal) -> str:
    """A Decimal of CQL, which has a decimal point."""
    digits = f"{Decimal(value):f}"
    return digits if "." in digits else f"{digits}.0"


def tables(name: str, version: str) -> str:
    """The library of this name, as CQL."""
    return (
        f"library {name} version '{version}'\n\n"
        "// Written from the tables the service runs (app/fhir, app/reading, app/domain); `make\n"
        "// cql` writes it anew. A value in a unit, times `factor`, is in the analyte's own unit\n"
        "// (10*9/L, g/dL, %), where it is plausible from `least` to `most`, or where `zero` is;\n"
        "// below `floor`, as it was sent, it is not used. Every laboratory's own range of normal\n"
        "// overlaps that from `normalLeast` to `normalMost`. `lasting`: so many days after the\n"
        "// support a count may still be confounded by it. What begins with `Says` is a regular\n"
        "// expression to search words in lower case for.\n" + defined(_lists(), _constants())
    )


def defined(lists: Mapping[str, Iterable[str]], constants: Mapping[str, str]) -> str:
    """Expressions that define lists, and single values, of what is CQL already."""
    values = {
        **{name: "{\n    " + ",\n    ".join(rows) + "\n  }" for name, rows in lists.items()},
        **constants,
    }
    return "".join(f'\ndefine "{name}":\n  {value}\n' for name, value in values.items())


def _lists() -> dict[str, list[str]]:
    counted = [row for row in codes.ANALYTE_LOINC if row.analyte is not Analyte.BODY_WEIGHT]
    return {
        "Counts by LOINC code": [_meaning(row) for row in counted],
        "Rejected LOINC codes": _texts(codes.REJECTED_LOINC),
        "Units": list(_units()),
        "UCUM systems": _texts(sorted(UCUM_SYSTEMS)),
        "Statuses of results that stand": _texts(sorted(COUNTING)),
        "Transfusions by code": [
            tuple_of(system=quoted(system), code=quoted(code), product=quoted(product.value))
            for (system, code), product in (TRANSFUSIONS | HCPCS_TRANSFUSIONS).items()
        ],
        "Transfusions by character": [
            tuple_of(character=quoted(character), product=quoted(product.value))
            for character, product in treatments.PCS_PRODUCTS.items()
        ],
        "Code systems by name": [
            tuple_of(name=quoted(name), system=quoted(system))
            for name, system in treatments.SYSTEM_NAMES.items()
        ],
        "Drugs by code": [
            tuple_of(system=quoted(system), code=quoted(code), drug=quoted(drug.value))
            for (system, code), drug in DRUGS.items()
        ],
        "Drugs by name": [
            tuple_of(name=quoted(name), drug=quoted(drug.value))
            for name, drug in DRUG_NAMES.items()
        ],
        "Statuses of what was given": _texts(sorted(GIVEN)),
        "Statuses of what runs": _texts(sorted(RUNNING)),
        "Statuses of what was not given": _texts(sorted(NOT_GIVEN | WITHDRAWN)),
        "Confounding": list(_confounding()),
        "Conditions of spoilt specimens": _texts(sorted(SPOILT_CONDITIONS)),
    }


def _constants() -> dict[str, str]:
    patterns = {
        "Says transfusion": treatments.SAYS_TRANSFUSION,
        "Says red cells": treatments.SAYS_RED_CELLS,
        "Says platelets": treatments.SAYS_PLATELETS,
        "Says another product": treatments.SAYS_OTHER_PRODUCT,
        "Says a product": treatments.SAYS_A_PRODUCT,
        "Says no transfusion": treatments.SAYS_NO_TRANSFUSION,
        "Says no reaction": treatments.SAYS_NO_REACTION,
        "Says no product": treatments.SAYS_NO_PRODUCT,
        "Says a specimen is in doubt": re.compile(f"{CLUMPED}|{SPOILT}"),
        "Transfusion by characters": treatments.PCS_TRANSFUSION,
    }
    return {
        **{name: quoted(pattern.pattern) for name, pattern in patterns.items()},
        "LOINC": quoted(codes.LOINC),
        "SNOMED CT": quoted(treatments.SNOMED),
        "ICD-10-PCS": quoted(treatments.ICD_10_PCS),
        "Daclizumab": quoted("daclizumab"),
        "First year": str(YEARS.start),
        "Last year": str(YEARS.stop - 1),
        "Units of dependence": str(DEPENDENCE_UNITS),
        "Days of dependence": str(DEPENDENCE_DAYS),
        "More neutrophils than leukocytes, times": decimal(ROUNDED_UP),
        "More neutrophils than leukocytes, plus": decimal(A_TENTH),
    }


def _texts(values: Iterable[str]) -> list[str]:
    return [quoted(value) for value in values]


def _meaning(row: LoincRow) -> str:
    least, most = PLAUSIBLE[row.analyte]
    normal_least, normal_most = NORMAL_SOMEWHERE.get(row.analyte, (None, None))
    molar = row.dimension is Dimension.MOLAR_CONCENTRATION
    return tuple_of(
        code=quoted(row.code),
        analyte=quoted(row.analyte.title),
        unit=quoted(_DIMENSIONS[row.dimension]),
        floor=decimal(MOLAR_HEMOGLOBIN_FLOOR if molar else "0"),
        least=decimal(least),
        most=decimal(most),
        zero=_boolean(row.analyte in MAY_BE_NONE),
        normalLeast="null as Decimal" if normal_least is None else decimal(normal_least),
        normalMost="null as Decimal" if normal_most is None else decimal(normal_most),
        doubtful=_boolean(row.doubtful is not None),
        manual=_boolean(row.manual),
        corrected=_boolean(row.corrected),
    )


def _units() -> Iterator[str]:
    """What a unit's text means in each dimension; `millions` is believed of red cells alone."""
    for spelled in dict.fromkeys([*(row.text for row in UNITS), *_SPELLINGS.split()]):
        for unit in units.readings(spelled):
            if unit.dimension in _DIMENSIONS:
                yield tuple_of(
                    text=quoted(spelled),
                    unit=quoted(_DIMENSIONS[unit.dimension]),
                    factor=decimal(unit.factor),
                    millions=_boolean(unit.only is not None),
                )


def _confounding() -> Iterator[str]:
    """Which support makes a count of which analyte an upper bound, and for how many days."""
    for support, days in CONFOUNDED_DAYS.items():
        of_product = isinstance(support, Product)
        for name in (support.value, Product.UNKNOWN.value) if of_product else (support.value,):
            analyte = CONFOUNDED_BY[support]
            yield tuple_of(analyte=quoted(analyte.title), support=quoted(name), lasting=str(days))


def _boolean(value: bool) -> str:
    return str(value).lower()


def tuple_of(**elements: str) -> str:
    """A Tuple of CQL, of elements that are written already."""
    return "Tuple { " + ", ".join(f"{name}: {value}" for name, value in elements.items()) + " }"
