"""A cohort's end point as a FHIR R4 MeasureReport."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from app.domain.cohort import STRATIFIERS, Cohort, clopper_pearson, strata
from app.domain.counts import Remark, When
from app.domain.response import ResponseAssessment
from app.fhir.canonicals import (
    BASE,
    CONFIDENCE_INTERVAL,
    DEFINITION,
    MEASURE_ID,
    MESSAGES,
    NOT_EVALUABLE,
    POPULATION_SYSTEM,
    STRATIFIER_SYSTEM,
)
from app.fhir.json import Json, coded
from app.fhir.outcome import operation_outcome
from app.writing.narrative import named, xhtml_text
from app.writing.notes import standing_notes
from app.writing.observation import subject_of
from app.writing.response import response_headline

_TYPES = {"population": "summary", "subject": "individual", "subject-list": "subject-list"}


def measure_report(
    cohort: Cohort,
    definition: str,
    report_type: str,
    remarks: Sequence[Remark] = (),
    since: When | None = None,
) -> Json:
    """The cohort as a MeasureReport: population, subject or subject-list.

    `definition` is the canonical of the response definition applied.
    """
    lists: list[Json] = []
    group = _group(cohort, lists if report_type == "subject-list" else None)
    report: Json = {
        "resourceType": "MeasureReport",
        "text": {"status": "generated", "div": _narrative(cohort)},
    }
    contained = lists
    extensions: list[Json] = [{"url": DEFINITION, "valueCanonical": definition}]
    extensions += (_excluded(one) for one in cohort.not_evaluable)
    if remarks:
        contained.append({**operation_outcome(remarks), "id": "issues"})
        extensions.append({"url": MESSAGES, "valueReference": {"reference": "#issues"}})
    if contained:
        report["contained"] = contained
    report |= {
        "extension": extensions,
        "status": "complete",
        "type": _TYPES[report_type],
        "measure": f"{BASE}/Measure/{MEASURE_ID}|1.0.0",
    }
    if report_type == "subject":
        report["subject"] = subject_of(cohort.patients[0].patient)
    report["period"] = _period(cohort, since)
    report["group"] = [group]
    return report


def _period(cohort: Cohort, since: When | None) -> Json:
    """From the day asked for, or the first start of treatment, to the last day judged."""
    starts = [since.first] if since else [p.start.first for p in cohort.treated if p.start]
    ends = [p.as_of.last for p in cohort.patients if p.as_of]
    period = {}
    if starts:
        period["start"] = min(starts).isoformat()
    if ends and (not starts or max(ends) >= min(starts)):
        period["end"] = max(ends).isoformat()
    if not period:
        absent = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
        return {"extension": [{"url": absent, "valueCode": "unknown"}]}
    return period


def _group(cohort: Cohort, lists: list[Json] | None) -> Json:
    group: Json = {"population": _populations(cohort, lists)}
    score = _score(cohort)
    if score:
        group["measureScore"] = score
    if cohort.evaluable:
        group["stratifier"] = [
            {
                "code": [coded(STRATIFIER_SYSTEM, code, title)],
                "stratum": [
                    {
                        "value": coded(STRATIFIER_SYSTEM, name),
                        "population": _populations(part, None),
                    }
                    for name, part in strata(cohort, kind)
                ],
            }
            for code, title, kind in STRATIFIERS
        ]
    return group


def _populations(cohort: Cohort, lists: list[Json] | None) -> list[Json]:
    return [
        _population(code, title, members, lists)
        for code, title, members in (
            ("initial-population", "Initial Population", cohort.treated),
            ("denominator", "Denominator", cohort.treated),
            ("denominator-exclusion", "Denominator Exclusion", cohort.not_evaluable),
            ("numerator", "Numerator", cohort.responders),
        )
    ]


def _population(
    code: str, title: str, members: Sequence[ResponseAssessment], lists: list[Json] | None
) -> Json:
    population: Json = {"code": coded(POPULATION_SYSTEM, code, title), "count": len(members)}
    if lists is not None and members:
        entries = [{"item": subject_of(one.patient)} for one in members]
        lists.append(
            {
                "resourceType": "List",
                "id": code,
                "status": "current",
                "mode": "snapshot",
                "entry": entries,
            }
        )
        population["subjectResults"] = {"reference": f"#{code}"}
    return population


def _score(cohort: Cohort) -> Json | None:
    evaluable, responders = len(cohort.evaluable), len(cohort.responders)
    if not evaluable:
        return None
    low, high = clopper_pearson(responders, evaluable)
    score = (Decimal(responders) / evaluable).quantize(Decimal("0.0001")).normalize()
    return {
        "extension": [
            {
                "url": CONFIDENCE_INTERVAL,
                "extension": [
                    {"url": "low", "valueDecimal": low},
                    {"url": "high", "valueDecimal": high},
                    {"url": "level", "valueDecimal": Decimal("0.95")},
                    {"url": "method", "valueString": "Clopper-Pearson"},
                ],
            }
        ],
        "value": Decimal(f"{score:f}"),
    }


def _excluded(found: ResponseAssessment) -> Json:
    return {
        "url": NOT_EVALUABLE,
        "extension": [
            {"url": "subject", "valueReference": subject_of(found.patient)},
            {"url": "reason", "valueString": found.reason},
        ],
    }


def cohort_lines(cohort: Cohort) -> Iterator[str]:
    """The result in sentences, for a narrative and for a terminal."""
    paper = cohort.patients[0].paper
    yield f"{paper.title}."
    yield from standing_notes(paper)
    evaluable, responders = len(cohort.evaluable), len(cohort.responders)
    yield (
        f"{len(cohort.treated)} treated, {len(cohort.not_evaluable)} not evaluable, "
        f"{evaluable} evaluable, {responders} responded."
    )
    if evaluable:
        low, high = clopper_pearson(responders, evaluable)
        yield (
            f"Response rate {_percent(Decimal(responders) / evaluable, 1)} "
            f"({_percent(Decimal(responders) / evaluable, 0)}), exact 95% interval "
            f"{_percent(low, 1)} to {_percent(high, 1)} (Clopper-Pearson)."
        )
    if cohort.undecided:
        yield (
            f"{len(cohort.undecided)} of the evaluable are not decided, and are counted as not "
            "having responded: the rate is a lower bound."
        )
    for _, title, kind in STRATIFIERS:
        parts = [
            f"{name} {len(part.evaluable)}"
            for name, part in strata(Cohort(cohort.responders), kind)
        ]
        if parts:
            yield f"{title}, among responders: {', '.join(parts)}."
    yield from (f"Not evaluable: {named(p.patient)}. {p.reason}" for p in cohort.not_evaluable)
    untreated = [p for p in cohort.patients if p.start is None]
    if untreated:
        yield (
            "Not in the cohort, no start of treatment: "
            f"{', '.join(named(p.patient) for p in untreated)}."
        )


def _percent(share: Decimal, digits: int) -> str:
    step = Decimal(1).scaleb(-digits)
    return f"{(share * 100).quantize(step, 'ROUND_HALF_UP')}%"


def _narrative(cohort: Cohort) -> str:
    rows = "".join(
        f"<tr><td>{xhtml_text(named(one.patient))}</td>"
        f"<td>{xhtml_text(response_headline(one))}</td></tr>"
        for one in cohort.treated
    )
    lines = "".join(f"<p>{xhtml_text(line)}</p>" for line in cohort_lines(cohort))
    table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{lines}{table}</div>'
