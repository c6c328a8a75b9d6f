"""The codes laboratories send, and what each means to us. Tables, and look-ups in them.

Source: LOINC 2.80 (each row's `source` is its page).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from app.domain.counts import Analyte


class Dimension(Enum):
    """What kind of quantity a code or a unit speaks of; the two must agree."""

    NUMBER_CONCENTRATION = "number concentration"
    MASS_CONCENTRATION = "mass concentration"
    MOLAR_CONCENTRATION = "molar concentration"
    FRACTION = "fraction"
    MASS = "mass"


@dataclass(frozen=True, slots=True, eq=False)
class LoincRow:
    """One LOINC code whose value we use; there is one row for each."""

    code: str
    analyte: Analyte
    dimension: Dimension
    display: str
    """LOINC's long common name."""
    manual: bool = False
    """Reticulocytes counted by hand: papers give them another limit. No other analyte needs it."""
    doubtful: str | None = None
    """Why the result is of lesser standing, where it is."""
    corrected: bool = False
    """Leukocytes without the nucleated red cells that analysers count among them."""

    @property
    def source(self) -> str:
        """The public page that defines the code."""
        return f"https://loinc.org/{self.code}"


_ANC: Final = Analyte.ABSOLUTE_NEUTROPHIL_COUNT
_SEGMENTED: Final = Analyte.SEGMENTED_NEUTROPHILS
_BANDS: Final = Analyte.BAND_NEUTROPHILS
_NEUTROPHIL_PERCENT: Final = Analyte.NEUTROPHIL_PERCENT
_SEGMENTED_PERCENT: Final = Analyte.SEGMENTED_PERCENT
_BAND_PERCENT: Final = Analyte.BAND_PERCENT
_LEUKOCYTES: Final = Analyte.LEUKOCYTES
_PLATELETS: Final = Analyte.PLATELETS
_HEMOGLOBIN: Final = Analyte.HEMOGLOBIN
_RETICULOCYTES: Final = Analyte.RETICULOCYTES
_RETICULOCYTE_PERCENT: Final = Analyte.RETICULOCYTE_PERCENT
_ERYTHROCYTES: Final = Analyte.ERYTHROCYTES
_WEIGHT: Final = Analyte.BODY_WEIGHT

_NUMBER: Final = Dimension.NUMBER_CONCENTRATION
_MASS_PER_VOLUME: Final = Dimension.MASS_CONCENTRATION
_MOLES_PER_VOLUME: Final = Dimension.MOLAR_CONCENTRATION
_FRACTION: Final = Dimension.FRACTION
_MASS: Final = Dimension.MASS

_ESTIMATE: Final = "an estimate from a smear, not a count"
_IN_PLASMA: Final = "counted in plasma, not in whole blood"
_MIXED_VENOUS: Final = "mixed venous blood, from a catheter"

ANALYTE_LOINC: Final[tuple[LoincRow, ...]] = (
    LoincRow("751-8", _ANC, _NUMBER, "Neutrophils [#/volume] in Blood by Automated count"),
    LoincRow("26499-4", _ANC, _NUMBER, "Neutrophils [#/volume] in Blood"),
    LoincRow("753-4", _ANC, _NUMBER, "Neutrophils [#/volume] in Blood by Manual count"),
    LoincRow("30451-9", _SEGMENTED, _NUMBER, "Segmented neutrophils [#/volume] in Blood"),
    LoincRow(
        "768-2", _SEGMENTED, _NUMBER, "Segmented neutrophils [#/volume] in Blood by Manual count"
    ),
    LoincRow("26507-4", _BANDS, _NUMBER, "Band form neutrophils [#/volume] in Blood"),
    LoincRow("763-3", _BANDS, _NUMBER, "Band form neutrophils [#/volume] in Blood by Manual count"),
    LoincRow(
        "770-8",
        _NEUTROPHIL_PERCENT,
        _FRACTION,
        "Neutrophils/Leukocytes in Blood by Automated count",
    ),
    LoincRow("26511-6", _NEUTROPHIL_PERCENT, _FRACTION, "Neutrophils/Leukocytes in Blood"),
    LoincRow(
        "23761-0",
        _NEUTROPHIL_PERCENT,
        _FRACTION,
        "Neutrophils/Leukocytes in Blood by Manual count",
    ),
    LoincRow(
        "769-0",
        _SEGMENTED_PERCENT,
        _FRACTION,
        "Segmented neutrophils/Leukocytes in Blood by Manual count",
    ),
    LoincRow("26505-8", _SEGMENTED_PERCENT, _FRACTION, "Segmented neutrophils/Leukocytes in Blood"),
    LoincRow(
        "764-1",
        _BAND_PERCENT,
        _FRACTION,
        "Band form neutrophils/Leukocytes in Blood by Manual count",
    ),
    LoincRow("26508-2", _BAND_PERCENT, _FRACTION, "Band form neutrophils/Leukocytes in Blood"),
    LoincRow(
        "35332-6",
        _BAND_PERCENT,
        _FRACTION,
        "Band form neutrophils/Leukocytes in Blood by Automated count",
    ),
    LoincRow("6690-2", _LEUKOCYTES, _NUMBER, "Leukocytes [#/volume] in Blood by Automated count"),
    LoincRow("26464-8", _LEUKOCYTES, _NUMBER, "Leukocytes [#/volume] in Blood"),
    LoincRow("804-5", _LEUKOCYTES, _NUMBER, "Leukocytes [#/volume] in Blood by Manual count"),
    LoincRow(
        "49498-9",
        _LEUKOCYTES,
        _NUMBER,
        "Leukocytes [#/volume] in Blood by Estimate",
        doubtful=_ESTIMATE,
    ),
    LoincRow(
        "33256-9",
        _LEUKOCYTES,
        _NUMBER,
        "Leukocytes [#/volume] corrected for nucleated erythrocytes in Blood by Automated count",
        corrected=True,
    ),
    LoincRow(
        "12227-5",
        _LEUKOCYTES,
        _NUMBER,
        "Leukocytes [#/volume] corrected for nucleated erythrocytes in Blood",
        corrected=True,
    ),
    LoincRow("777-3", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood by Automated count"),
    LoincRow("26515-7", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood"),
    LoincRow("778-1", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood by Manual count"),
    LoincRow(
        "97995-5", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood by Automated count.optical"
    ),
    LoincRow(
        "49497-1",
        _PLATELETS,
        _NUMBER,
        "Platelets [#/volume] in Blood by Estimate",
        doubtful=_ESTIMATE,
    ),
    LoincRow(
        "13056-7",
        _PLATELETS,
        _NUMBER,
        "Platelets [#/volume] in Plasma by Automated count",
        doubtful=_IN_PLASMA,
    ),
    LoincRow("26516-5", _PLATELETS, _NUMBER, "Platelets [#/volume] in Plasma", doubtful=_IN_PLASMA),
    LoincRow(
        "74464-9",
        _PLATELETS,
        _NUMBER,
        "Platelets [#/volume] in Capillary blood by Manual count",
        doubtful="capillary blood, where platelet counts differ from venous blood (PMID 12542436)",
    ),
    LoincRow("718-7", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Blood"),
    LoincRow(
        "20509-6",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Blood by calculation",
    ),
    LoincRow("30350-3", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Venous blood"),
    LoincRow(
        "30313-1", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Arterial blood"
    ),
    LoincRow(
        "30352-9", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Capillary blood"
    ),
    LoincRow(
        "55782-7", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Blood by Oximetry"
    ),
    LoincRow(
        "76769-9",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Venous blood by Oximetry",
    ),
    LoincRow(
        "14775-1",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Arterial blood by Oximetry",
    ),
    LoincRow(
        "76768-1",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Mixed venous blood by Oximetry",
        doubtful=_MIXED_VENOUS,
    ),
    LoincRow(
        "30351-1",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Mixed venous blood",
        doubtful=_MIXED_VENOUS,
    ),
    LoincRow(
        "97550-8",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Central venous blood by calculation",
        doubtful="calculated, in central venous blood",
    ),
    LoincRow("59260-0", _HEMOGLOBIN, _MOLES_PER_VOLUME, "Hemoglobin [Moles/volume] in Blood"),
    LoincRow(
        "93846-4", _HEMOGLOBIN, _MOLES_PER_VOLUME, "Hemoglobin [Moles/volume] in Venous blood"
    ),
    LoincRow(
        "75928-2", _HEMOGLOBIN, _MOLES_PER_VOLUME, "Hemoglobin [Moles/volume] in Arterial blood"
    ),
    LoincRow(
        "60474-4", _RETICULOCYTES, _NUMBER, "Reticulocytes [#/volume] in Blood by Automated count"
    ),
    LoincRow("14196-0", _RETICULOCYTES, _NUMBER, "Reticulocytes [#/volume] in Blood"),
    LoincRow(
        "40665-2",
        _RETICULOCYTES,
        _NUMBER,
        "Reticulocytes [#/volume] in Blood by Manual count",
        manual=True,
    ),
    LoincRow(
        "17849-1",
        _RETICULOCYTE_PERCENT,
        _FRACTION,
        "Reticulocytes/Erythrocytes in Blood by Automated count",
    ),
    LoincRow("4679-7", _RETICULOCYTE_PERCENT, _FRACTION, "Reticulocytes/Erythrocytes in Blood"),
    LoincRow(
        "31112-6",
        _RETICULOCYTE_PERCENT,
        _FRACTION,
        "Reticulocytes/Erythrocytes in Blood by Manual count",
        manual=True,
    ),
    LoincRow(
        "17848-3", _RETICULOCYTE_PERCENT, _FRACTION, "Reticulocytes/1000 erythrocytes in Blood"
    ),
    LoincRow(
        "789-8", _ERYTHROCYTES, _NUMBER, "Erythrocytes [#/volume] in Blood by Automated count"
    ),
    LoincRow("26453-1", _ERYTHROCYTES, _NUMBER, "Erythrocytes [#/volume] in Blood"),
    LoincRow("29463-7", _WEIGHT, _MASS, "Body weight"),
    LoincRow("3141-9", _WEIGHT, _MASS, "Body weight Measured"),
)

BY_LOINC: Final[dict[str, LoincRow]] = {row.code: row for row in ANALYTE_LOINC}

REJECTED_LOINC: Final[dict[str, str]] = {
    "74775-8": "platelets in platelet-rich plasma, not in blood",
    "48386-7": "the share of large platelets, not the platelet count",
    "34167-7": "large platelets only, not the platelet count",
    "96354-6": "large platelets only, not the platelet count",
    "9317-9": "platelets judged on a smear in words, not counted",
    "4635-9": "free hemoglobin outside the red cells, not the hemoglobin of blood",
    "31111-8": "reticulocytes adjusted for the hematocrit, not their share of red cells",
    "42758-3": "not the plain share of reticulocytes among red cells",
    "30394-1": "not neutrophils: all granulocytes",
    "51584-1": "not neutrophils: immature granulocytes",
    "53115-2": "not neutrophils: immature granulocytes",
    "773-2": "not neutrophils",
    "761-7": "not blood: urine",
}
"""Codes easily taken for one of ours, and why they are not."""

PANEL_LOINC: Final[frozenset[str]] = frozenset(
    {
        "58410-2",
        "57021-8",
        "57022-6",
        "57782-5",
        "69742-5",
        "24317-0",
        "55429-5",
        "57023-4",
        "24318-8",
        "69738-3",
        "24360-0",
    }
)
"""Groups of results: no value of their own, but members that have one."""

PREFERRED_LOINC: Final[dict[Analyte, tuple[str, str]]] = {
    BY_LOINC[code].analyte: (code, BY_LOINC[code].display)
    for code in (
        "751-8",
        "777-3",
        "718-7",
        "60474-4",
        "6690-2",
        "789-8",
        "30451-9",
        "26507-4",
        "770-8",
        "769-0",
        "764-1",
        "17849-1",
        "29463-7",
    )
}
"""The code and display an analyte goes by in our answers."""

LOINC: Final = "http://loinc.org"
LOINC_SYSTEMS: Final[frozenset[str]] = frozenset(
    {
        LOINC,
        "https://loinc.org",
        "http://www.loinc.org",
        "https://www.loinc.org",
        "loinc.org",
        "www.loinc.org",
        "urn:oid:2.16.840.1.113883.6.1",
        "2.16.840.1.113883.6.1",
        "loinc",
        "ln",
    }
)
"""FHIR allows only the first; the others come from CDA, from HL7 v2 and from hands."""

_LONGEST_SYSTEM: Final = 60


def is_loinc(system: str | None) -> bool:
    """Whether a code system is LOINC, by whatever name, case, last slash or space."""
    if system == LOINC:
        return True
    if not system or len(system) > _LONGEST_SYSTEM:
        return False
    return system.strip().rstrip("/").lower() in LOINC_SYSTEMS
