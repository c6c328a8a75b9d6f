"""The tables of other causes as FHIR: a CodeSystem, a ValueSet for each, and a ConceptMap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from app.domain.chart import Cause, CauseKind
from app.fhir.canonicals import BASE
from app.fhir.causes import CAUSE_ROWS, CauseRow
from app.fhir.json import Json
from app.publishing.terminology import code_system, defined

CAUSE_SYSTEM = f"{BASE}/CodeSystem/chart-cause"
OTHER_CAUSES = f"{BASE}/ValueSet/other-causes"
"""Every code that is told of as another cause."""
_COPYRIGHT = (
    "ICD-10 and ATC are of the World Health Organization, SNOMED CT of SNOMED International, CPT "
    "of the American Medical Association, RxNorm of the U.S. National Library of Medicine. Single "
    "codes are named here; the terms of their owners hold for their use."
)


def causes() -> Iterator[Json]:
    """What the chart is searched for, by cause."""
    titles = {cause.code: cause.title for cause in Cause}
    yield code_system("chart-cause", "What a chart may say beside the counts", titles)
    for cause in Cause:
        rows = [row for row in CAUSE_ROWS if row.cause is cause]
        if rows:
            yield _value_set(cause, rows)
    yield _other_causes()
    yield _concept_map()


def value_set_of(cause: Cause) -> str | None:
    """The canonical of a cause's codes; None where it has none and is read by its words alone."""
    has_codes = any(row.cause is cause for row in CAUSE_ROWS)
    return f"{BASE}/ValueSet/cause-{cause.code}" if has_codes else None


def _other_causes() -> Json:
    description = (
        "Every code that is read as another cause of low counts. What is given for aplastic anemia "
        "itself is none."
    )
    told = [cause for cause in Cause if cause.kind is not CauseKind.IMMUNOSUPPRESSION]
    include = [{"valueSet": [url]} for url in map(value_set_of, told) if url]
    return defined("ValueSet", "other-causes", "Other causes of low counts", description) | {
        "copyright": _COPYRIGHT,
        "compose": {"include": include},
    }


def _value_set(cause: Cause, rows: Sequence[CauseRow]) -> Json:
    title = f"{cause.title[0].upper()}{cause.title[1:]}"
    unseen = ", ".join(row.code for row in rows if not row.verified)
    description = (
        f"The codes read as {cause.title}; what has none of them is read by its words. Sources: "
        f"{'; '.join(dict.fromkeys(row.source for row in rows if row.verified)) or 'none'}."
        + (f" Unverified, not seen in a source: {unseen}." if unseen else "")
    )
    include = [
        part
        for system, ours in groupby(rows, key=lambda row: row.system)
        for part in _included(system, list(ours))
    ]
    return defined("ValueSet", f"cause-{cause.code}", title, description) | {
        "experimental": bool(unseen),
        "copyright": _COPYRIGHT,
        "compose": {"include": include},
    }


def _included(system: str, rows: Sequence[CauseRow]) -> Iterator[Json]:
    exact = [row for row in rows if not row.below]
    if exact:
        concepts = [{"code": row.code, "display": row.display} for row in exact]
        yield {"system": system, "concept": concepts}
    for row in rows:
        if row.below:
            is_a = {"property": "concept", "op": "is-a", "value": row.code}
            yield {"system": system, "filter": [is_a]}


def _concept_map() -> Json:
    groups = [
        {
            "source": system,
            "target": CAUSE_SYSTEM,
            "element": [_element(row) for row in CAUSE_ROWS if row.system == system],
        }
        for system in dict.fromkeys(row.system for row in CAUSE_ROWS)
    ]
    description = "As which cause of low counts, or treatment, a code in a chart is read."
    return defined("ConceptMap", "code-to-cause", "Code to cause", description) | {
        "copyright": _COPYRIGHT,
        "group": groups,
    }


def _element(row: CauseRow) -> Json:
    said = "And every code below it. " if row.below else ""
    said += f"Source: {row.source}." if row.verified else f"Unverified: {row.source}."
    target = {
        "code": row.cause.code,
        "display": row.cause.title,
        "equivalence": "wider",
        "comment": said,
    }
    return {"code": row.code, "display": row.display, "target": [target]}
