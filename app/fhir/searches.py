"""The searches that find what an assessment reads of a patient, built from the code tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.domain.counts import Analyte
from app.fhir.codes import ANALYTE_LOINC, DRUGS, PANEL_LOINC, TRANSFUSIONS

_LOINC = "http://loinc.org"
_NEUTROPHILS = {
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
    Analyte.SEGMENTED_NEUTROPHILS,
    Analyte.BAND_NEUTROPHILS,
    Analyte.NEUTROPHIL_PERCENT,
    Analyte.SEGMENTED_PERCENT,
    Analyte.BAND_PERCENT,
    Analyte.LEUKOCYTES,
}
_RETICULOCYTES = {Analyte.RETICULOCYTES, Analyte.RETICULOCYTE_PERCENT, Analyte.ERYTHROCYTES}


@dataclass(frozen=True, slots=True)
class Search:
    """One search by patient: the resource type and the codes as FHIR search tokens."""

    name: str
    type: str
    tokens: tuple[str, ...]


def _counts(name: str, analytes: Iterable[Analyte]) -> Search:
    wanted = set(analytes)
    tokens = (f"{_LOINC}|{row.code}" for row in ANALYTE_LOINC if row.analyte in wanted)
    return Search(name, "Observation", tuple(tokens))


def _coded(name: str, type_: str, codes: Iterable[tuple[str, str]]) -> Search:
    return Search(name, type_, tuple(f"{system}|{code}" for system, code in codes))


SEARCHES: tuple[Search, ...] = (
    _counts("neutrophils", _NEUTROPHILS),
    _counts("platelets", {Analyte.PLATELETS}),
    _counts("hemoglobin", {Analyte.HEMOGLOBIN}),
    _counts("reticulocytes", _RETICULOCYTES),
    _counts("weight", {Analyte.BODY_WEIGHT}),
    _coded("panels", "Observation", ((_LOINC, code) for code in sorted(PANEL_LOINC))),
    _coded("transfusions", "Procedure", TRANSFUSIONS),
    _coded("drugs", "MedicationAdministration", DRUGS),
)
"""Every analyte stands in one of them; a panel is searched for the components it may hold."""
