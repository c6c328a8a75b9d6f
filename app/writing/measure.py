"""A cohort's end point as a FHIR R4 MeasureReport."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.domain.cohort import STRATIFIERS, Cohort, clopper_pearson, strata
from app.domain.counts import Remark, When
from app.domain.response import ResponseAssessment
from app.fhir.canonicals import (
    BASE,
    CONFIDENCE_INTERVAL,
    DEFINITION,
    IMPROVEMENT_SYSTEM,
    MEASURE_ID,
    MEASURE_SCORING,
    MESSAGES,
    NOT_EVALUABLE,
    POPULATION_SYSTEM,
    RESPONSE_GROUP,
    SCORING_SYSTEM,
    STRATIFIER_SYSTEM,
    SUPPORTING_INFO,
)
from app.fhir.json import Json, coded, linked
from app.fhir.outcome import operation_outcome
from app.writing.narrative import named, xhtml_text
from app.writing.notes import standing_notes
from app.writing.observation import subject_of
from app.writing.response import response_answer, response_headline

_TYPES = {"population": "summary", "subject": "individual", "subject-list": "subject-list"}


@dataclass(frozen=True, slots=True)
class Reported:
    """Who is told of, by whom, and when."""

    on: date
    """The day on which the report is made."""
    type: str = "population"
    """`population`, `subject` or `subject-list`."""
    since: When | None = None
    reporter: str | None = None
    """The reference of who reports; None: nobody said."""

    @property
    def names_patients(self) -> bool:
        """Whether what is said of one patient belongs into it: a summary tells of none."""
        return self.type != "population"


def measure_report(
    cohort: Cohort, definition: str, asked: Reported, remarks: Sequence[Remark] = ()
) -> Json:
    """The cohort as a MeasureReport: population, subject or subject-list.

    `definition` is the canonical of the response definition applied. The elements are those of the
    MeasureReport profiles of HL7's Data Exchange for Quality Measures, universal realm,
    1.0.0-ballot; docs/decisions.md has where they are not followed, and why.
    """
    lists: list[Json] = []
    group = _group(cohort, asked, lists)
    report: Json = {
        "resourceType": "MeasureReport",
        "text": {"status": "generated", "div": _narrative(cohort, asked.names_patients)},
    }
    contained = lists
    extensions: list[Json] = [
        {"url": DEFINITION, "valueCanonical": definition},
        {
            "url": MEASURE_SCORING,
            "valueCodeableConcept": coded(SCORING_SYSTEM, "proportion", "Proportion"),
        },
    ]
    extensions += (_excluded(one, asked.names_patients) for one in cohort.not_evaluable)
    if remarks:
        contained.append({**operation_outcome(remarks), "id": "issues"})
        extensions.append({"url": MESSAGES, "valueReference": {"reference": "#issues"}})
    if contained:
        report["contained"] = contained
    report |= {
        "extension": extensions,
        "status": "complete",
        "type": _TYPES[asked.type],
        "measure": f"{BASE}/Measure/{MEASURE_ID}|1.0.0",
    }
    if asked.type == "subject":
        report["subject"] = subject_of(cohort.patients[0].patient)
    report["date"] = asked.on.isoformat()
    if asked.reporter:
        report["reporter"] = {"reference": asked.reporter}
    report |= {
        "period": _period(cohort, asked.since),
        "improvementNotation": coded(IMPROVEMENT_SYSTEM, "increase"),
        "group": [group],
    }
    return report | _evidence(cohort.patients[0]) if asked.type == "subject" else report


def _evidence(found: ResponseAssessment) -> Json:
    """What one patient's report rests on, and the labels under which that is kept."""
    assessment = response_answer(found, ()).observation
    sources = [
        *assessment.get("derivedFrom", ()),
        *(
            extension["valueReference"]
            for extension in assessment.get("extension", ())
            if extension["url"] == SUPPORTING_INFO
        ),
    ]
    evidence: Json = {"evaluatedResource": sources} if sources else {}
    return evidence | ({"meta": assessment["meta"]} if "meta" in assessment else {})


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


def _group(cohort: Cohort, asked: Reported, lists: list[Json]) -> Json:
    listed = lists if asked.type == "subject-list" else None
    group: Json = {
        **linked("MeasureReport.group", RESPONSE_GROUP),
        "population": _populations(cohort, "MeasureReport.group.population", listed),
    }
    score = _score(cohort, of_one_patient=asked.type == "subject")
    if score:
        group["measureScore"] = score
    if cohort.evaluable:
        place = "MeasureReport.group.stratifier"
        group["stratifier"] = [
            {
                **linked(place, f"by-{code}"),
                "code": [coded(STRATIFIER_SYSTEM, code, title)],
                "stratum": [
                    {
                        "value": coded(STRATIFIER_SYSTEM, name),
                        "population": _populations(part, f"{place}.stratum.population"),
                    }
                    for name, part in strata(cohort, kind)
                ],
            }
            for code, title, kind in STRATIFIERS
        ]
    return group


def _populations(cohort: Cohort, place: str, lists: list[Json] | None = None) -> list[Json]:
    once = "stratum" not in place
    return [
        linked(place, code, by_id=once) | _population(code, title, members, lists)
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


def _score(cohort: Cohort, of_one_patient: bool) -> Json | None:
    """The share of responders, with its interval where it is one of several patients."""
    evaluable, responders = len(cohort.evaluable), len(cohort.responders)
    if not evaluable:
        return None
    share = (Decimal(responders) / evaluable).quantize(Decimal("0.0001")).normalize()
    score: Json = {"value": Decimal(f"{share:f}")}
    if of_one_patient:
        return score
    low, high = clopper_pearson(responders, evaluable)
    parts = [
        {"url": "low", "valueDecimal": low},
        {"url": "high", "valueDecimal": high},
        {"url": "level", "valueDecimal": Decimal("0.95")},
        {"url": "method", "valueString": "Clopper-Pearson"},
    ]
    return {"extension": [{"url": CONFIDENCE_INTERVAL, "extension": parts}]} | score


def _excluded(found: ResponseAssessment, named: bool) -> Json:
    parts: list[Json] = [{"url": "reason", "valueString": found.reason}]
    if named:
        parts.insert(0, {"url": "subject", "valueReference": subject_of(found.patient)})
    return {"url": NOT_EVALUABLE, "extension": parts}


def cohort_lines(cohort: Cohort, names_patients: bool = True) -> Iterator[str]:
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
    untreated = [p for p in cohort.patients if p.start is None]
    if names_patients:
        yield from (f"Not evaluable: {named(p.patient)}. {p.reason}" for p in cohort.not_evaluable)
        who = ", ".join(named(p.patient) for p in untreated)
    else:
        reasons = Counter(p.reason for p in cohort.not_evaluable)
        yield from (f"Not evaluable: {number}. {reason}" for reason, number in reasons.items())
        who = f"{len(untreated)}"
    if untreated:
        yield f"Not in the cohort, no start of treatment: {who}."


def _percent(share: Decimal, digits: int) -> str:
    step = Decimal(1).scaleb(-digits)
    return f"{(share * 100).quantize(step, 'ROUND_HALF_UP')}%"


def _narrative(cohort: Cohort, names_patients: bool) -> str:
    rows = "".join(
        f"<tr><td>{xhtml_text(named(one.patient))}</td>"
        f"<td>{xhtml_text(response_headline(one))}</td></tr>"
        for one in (cohort.treated if names_patients else ())
    )
    lines = "".join(f"<p>{xhtml_text(line)}</p>" for line in cohort_lines(cohort, names_patients))
    table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{lines}{table}</div>'
