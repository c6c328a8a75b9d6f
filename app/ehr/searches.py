"""The searches that find what an assessment reads of a patient, built from the code tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import MappingProxyType

from app.domain.counts import Analyte
from app.fhir.codes import ANALYTE_LOINC, BY_LOINC, PANEL_LOINC
from app.fhir.maps import CodeMap

_LOINC = "http://loinc.org"
_ANALYTES = MappingProxyType(
    {
        "neutrophils": frozenset(
            {
                Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
                Analyte.SEGMENTED_NEUTROPHILS,
                Analyte.BAND_NEUTROPHILS,
                Analyte.NEUTROPHIL_PERCENT,
                Analyte.SEGMENTED_PERCENT,
                Analyte.BAND_PERCENT,
                Analyte.LEUKOCYTES,
            }
        ),
        "platelets": frozenset({Analyte.PLATELETS}),
        "hemoglobin": frozenset({Analyte.HEMOGLOBIN}),
        "reticulocytes": frozenset(
            {Analyte.RETICULOCYTES, Analyte.RETICULOCYTE_PERCENT, Analyte.ERYTHROCYTES}
        ),
        "weight": frozenset({Analyte.BODY_WEIGHT}),
    }
)
# What means something in a value that is searched for: FHIR escapes it with a backslash.
_ESCAPED = re.compile(r"[\\,|$]")
_TOKEN = re.compile(r"(?:\\.|[^\\,])+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Search:
    """One search by patient: the resource type and the codes, each with its system.

    Without codes it finds every resource of the type: what is written in words has none.
    """

    name: str
    type: str
    codings: tuple[tuple[str, str], ...] = ()
    optional: bool = False
    """Whether an answer can do without: no verdict by counts hangs on it."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The codes as FHIR search tokens; a code without a system is searched in any."""
        return tuple(
            f"{_escaped(system)}|{_escaped(code)}" if system else _escaped(code)
            for system, code in self.codings
        )

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes alone, each once, as FHIR search tokens."""
        return tuple(dict.fromkeys(_escaped(code) for _, code in self.codings))


def tokens_of(value: str) -> list[str]:
    """The alternatives in a value that is searched for: the tokens between its commas."""
    return _TOKEN.findall(value)


def _escaped(text: str) -> str:
    return _ESCAPED.sub(r"\\\g<0>", text)


def _counts(name: str) -> Search:
    wanted = _ANALYTES[name]
    rows = (row for row in ANALYTE_LOINC if row.analyte in wanted)
    return Search(name, "Observation", tuple((_LOINC, row.code) for row in rows))


SEARCHES: tuple[Search, ...] = (
    *map(_counts, _ANALYTES),
    Search("panels", "Observation", tuple((_LOINC, code) for code in sorted(PANEL_LOINC))),
    Search("transfusions", "Procedure"),
    Search("drugs", "MedicationAdministration"),
    Search("conditions", "Condition", optional=True),
    Search("medications", "MedicationRequest", optional=True),
    Search("medications-taken", "MedicationStatement", optional=True),
)
"""Every analyte stands in one of them; a panel is searched for the components it may hold."""


def searches(code_map: CodeMap | None = None) -> tuple[Search, ...]:
    """The searches that find a hospital's own codes as well."""
    if code_map is None:
        return SEARCHES
    own = [(BY_LOINC[row.loinc].analyte, (row.system, row.code)) for row in code_map.rows()]
    return tuple(
        replace(
            search,
            codings=tuple(
                dict.fromkeys(
                    [
                        *search.codings,
                        *(coding for analyte, coding in own if analyte in _ANALYTES[search.name]),
                    ]
                )
            ),
        )
        if search.name in _ANALYTES
        else search
        for search in SEARCHES
    )
