"""The codes of our answers and the LOINC we read, as CodeSystem, ValueSet and ConceptMap."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from app import __version__
from app.domain.cohort import BY_LINEAGES, STRATIFIERS
from app.domain.counts import Analyte
from app.domain.rules import criteria_of
from app.fhir import codes
from app.fhir.canonicals import BASE
from app.fhir.codes import LOINC
from app.fhir.components import ABSENCES, CHART_COMPONENTS, LIFE_COMPONENTS, RESPONSE_COMPONENTS
from app.fhir.json import Json
from app.fhir.maps import UNIT_PROPERTY, CodeMap, MapRow, SourceMap
from app.fhir.outcome import ISSUES
from app.fhir.ucum import UCUM
from app.fhir.verdicts import (
    ELIGIBILITY_VERDICTS,
    OTHER_CAUSES,
    RESPONSE_VERDICTS,
    TRUTHS,
    VERDICTS,
)
from app.papers import PUBLISHED, RESPONSES

DATE = "2026-11-24"
PUBLISHER = "maa-assess"
AID = "Research criteria: a decision aid, not a diagnosis."

ANALYTE_SYSTEM = f"{BASE}/CodeSystem/analyte"
_LOINC_COPYRIGHT = (
    "This material contains content from LOINC (http://loinc.org). LOINC is copyright (c) "
    "Regenstrief Institute, Inc. and the Logical Observation Identifiers Names and Codes (LOINC) "
    "Committee and is available at no cost under the license at http://loinc.org/license. LOINC "
    "is a registered United States trademark of Regenstrief Institute, Inc."
)
_ASSESSMENTS = {
    "eligibility": "Eligibility by blood counts",
    "response": "Hematologic response by blood counts",
}
OVERRIDE_REASONS = {
    "known": "The diagnosis is already established",
    "other-cause": "Another cause explains the counts",
    "ordered": "The missing test is already ordered",
    "counts-wrong": "The counts are wrong or out of date",
    "not-now": "Not relevant at this visit",
}
_NO_ID = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST_SLUG = 60


def defined(
    kind: str, name_id: str, title: str, description: str, version: str = __version__
) -> Json:
    """What every definition begins with: its canonical, version, names, status and purpose."""
    words = "".join(c if c.isalnum() else " " for c in name_id).split()
    return {
        "resourceType": kind,
        "id": name_id,
        "url": f"{BASE}/{kind}/{name_id}",
        "version": version,
        "name": "".join(word[0].upper() + word[1:] for word in ["maa", *words]),
        "title": title,
        "status": "active",
        "experimental": False,
        "date": DATE,
        "publisher": PUBLISHER,
        "description": description,
    }


def code_slug(analyte: Analyte) -> str:
    """The code of an analyte in our CodeSystem and the id of its ValueSet."""
    return analyte.name.lower().replace("_", "-")


def terminology() -> Iterator[Json]:
    """Every CodeSystem, ValueSet and the ConceptMap."""
    yield code_system("assessment", "What is assessed", _ASSESSMENTS)
    yield code_system("verdict", "Verdicts", VERDICTS)
    yield code_system("criterion", "Criteria and further findings", _criteria())
    yield code_system("other-cause", "Whether the chart names another cause", OTHER_CAUSES)
    yield code_system("truth", "Whether a criterion is met", TRUTHS)
    yield code_system("absence", "Why no day is known to have met a definition", ABSENCES)
    yield code_system("stratifier", "What responders are counted by", _stratifiers())
    meanings = {code: meaning for code, (_, meaning) in ISSUES.items()}
    yield code_system("issue", "Why something was set aside, repaired or doubted", meanings)
    yield code_system("override-reason", "Why a card was dismissed", OVERRIDE_REASONS)
    analytes = {code_slug(analyte): analyte.title for analyte in Analyte}
    yield code_system("analyte", "What a laboratory counts", analytes)
    yield _value_set("eligibility-verdict", "Verdicts of eligibility", ELIGIBILITY_VERDICTS)
    yield _value_set("response-verdict", "Verdicts of response", RESPONSE_VERDICTS)
    yield from (_analyte_value_set(analyte) for analyte in Analyte)
    yield _concept_map()


def _criteria() -> dict[str, str]:
    eligibility = (c for paper in PUBLISHED for c in criteria_of(paper.eligibility))
    affected = (line.affected for paper in RESPONSES for line in paper.lineages)
    named = {c.code: c.title for rule in affected if rule for c in criteria_of(rule)}
    ours = LIFE_COMPONENTS | CHART_COMPONENTS | RESPONSE_COMPONENTS
    return named | {c.code: c.title for c in eligibility} | ours


def _stratifiers() -> dict[str, str]:
    strata = {name: name for name in BY_LINEAGES} | RESPONSE_VERDICTS | TRUTHS
    return strata | {code: title for code, title, _ in STRATIFIERS}


def code_system(name: str, title: str, concepts: Mapping[str, str]) -> Json:
    """A whole CodeSystem of ours."""
    description = f"{title}, as the answers of maa-assess code them."
    return defined("CodeSystem", name, title, description) | {
        "caseSensitive": True,
        "content": "complete",
        "count": len(concepts),
        "concept": [
            {"code": code, "display": display} for code, display in sorted(concepts.items())
        ],
    }


def _value_set(name: str, title: str, concepts: Iterable[str]) -> Json:
    included = {
        "system": f"{BASE}/CodeSystem/verdict",
        "concept": [{"code": code} for code in concepts],
    }
    description = f"{title}, of the verdict CodeSystem."
    return defined("ValueSet", name, title, description) | {"compose": {"include": [included]}}


def _analyte_value_set(analyte: Analyte) -> Json:
    rows = [row for row in codes.ANALYTE_LOINC if row.analyte is analyte]
    description = (
        f"The LOINC codes read as {analyte.title}; held in {analyte.unit} (UCUM). A code of "
        "another specimen or method that is not listed here is not read as one."
    )
    concepts = [{"code": row.code, "display": row.display} for row in rows]
    return defined("ValueSet", code_slug(analyte), analyte.title.capitalize(), description) | {
        "copyright": _LOINC_COPYRIGHT,
        "compose": {"include": [{"system": LOINC, "concept": concepts}]},
    }


def _concept_map() -> Json:
    name, title = "loinc-to-analyte", "LOINC to analyte"
    elements = [
        {"code": row.code, "display": row.display, "target": [_target(row)]}
        for row in codes.ANALYTE_LOINC
    ]
    elements += (
        {"code": code, "target": [{"equivalence": "unmatched", "comment": f"Not read: {why}."}]}
        for code, why in codes.REJECTED_LOINC.items()
    )
    description = "Which analyte a LOINC code is read as, and codes easily taken for one of them."
    return defined("ConceptMap", name, title, description) | {
        "copyright": _LOINC_COPYRIGHT,
        "group": [{"source": LOINC, "target": ANALYTE_SYSTEM, "element": elements}],
    }


def concept_maps(code_map: CodeMap | None) -> dict[tuple[str, str], Json]:
    """The maps of a hospital's own codes, as they are read here, by type and id."""
    found: dict[tuple[str, str], Json] = {}
    taken = {"loinc-to-analyte", "code-to-cause"}
    for one in code_map.maps if code_map else ():
        slug = _NO_ID.sub("-", one.name.rpartition("/")[2])[:_LONGEST_SLUG].strip("-.") or "map"
        name_id = next(i for n in count(1) if (i := slug if n == 1 else f"{slug}-{n}") not in taken)
        taken.add(name_id)
        found["ConceptMap", name_id] = _own_map(one, name_id)
    return found


def _own_map(one: SourceMap, name_id: str) -> Json:
    groups: dict[str, list[Json]] = {}
    for row in one.rows:
        groups.setdefault(row.system, []).append(_own_element(row))
    description = f"A hospital's own codes, from {one.name}: as what this service reads them."
    definition = defined("ConceptMap", name_id, one.name, description)
    # It is the hospital's, not ours: its canonical if it has one, and its version.
    for name in ("url", "version", "date", "publisher"):
        del definition[name]
    if one.url:
        definition |= {"url": one.url}
    if version := one.name.removeprefix(one.url).removeprefix("|") if one.url else "":
        definition |= {"version": version}
    return definition | {
        "copyright": _LOINC_COPYRIGHT,
        "group": [
            {**({"source": system} if system else {}), "target": LOINC, "element": elements}
            for system, elements in groups.items()
        ],
    }


def _own_element(row: MapRow) -> Json:
    target: Json = {
        "code": row.loinc,
        "display": codes.BY_LOINC[row.loinc].display,
        "equivalence": row.equivalence,
    }
    if row.unit:
        target["product"] = [{"property": UNIT_PROPERTY, "system": UCUM, "value": row.unit}]
    return {
        "code": row.code,
        **({"display": row.display} if row.display else {}),
        "target": [target],
    }


def _target(row: codes.LoincRow) -> Json:
    target: Json = {
        "code": code_slug(row.analyte),
        "display": row.analyte.title,
        "equivalence": "inexact" if row.doubtful else "wider",
    }
    if row.doubtful:
        target["comment"] = f"Read with a warning: {row.doubtful}."
    return target
