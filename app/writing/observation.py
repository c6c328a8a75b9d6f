"""The Observation that every assessment is: its verdict, its evidence, and the counts judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

from app.domain.assessment import Assessment
from app.domain.counts import Analyte, Count, Interval, Kind, Patient, Source
from app.domain.effort import spend
from app.domain.paper import Paper, ResponsePaper
from app.domain.response import ResponseAssessment
from app.fhir import codes
from app.fhir.canonicals import BASE, DECIDED_BY, SUPPORTING_INFO
from app.fhir.codes import LOINC
from app.fhir.json import Json, as_sent, quantity


def canonical(paper: Paper | ResponsePaper) -> str:
    """The versioned canonical of a definition."""
    return f"{BASE}/PlanDefinition/{paper.id}|{paper.version}"


def subject_of(patient: Patient) -> Json:
    """The reference by which the caller knows the patient."""
    if patient.reference:
        return {"reference": patient.reference}
    identifier = {"system": patient.system, "value": patient.value}
    return {"identifier": {key: value for key, value in identifier.items() if value}}


def assessment_observation(
    assessment: Assessment | ResponseAssessment,
    code: Json,
    verdict: Json,
    div: str,
    notes: Iterable[str],
    components: Iterable[Json],
    beside: tuple[Count, ...] = (),
    extensions: Iterable[Json] = (),
    charted: tuple[Source, ...] = (),
) -> Json:
    """The Observation every assessment is: its verdict, evidence, components, then its counts.

    `beside` are counts of other days that it rests on too, and weights; `charted` are records of
    other causes.
    """
    evidence = (*assessment.counts, *beside)
    spend(20 * len(assessment.counts) + len(beside))
    paper = assessment.paper
    supporting = (*assessment.supporting, *charted)
    observation: Json = {"resourceType": "Observation"}
    if labels := _labels_of(evidence, supporting):
        observation["meta"] = {"security": labels}
    observation["text"] = {"status": "generated", "div": div}
    extensions = [*_supporting_of(evidence, supporting), *extensions]
    if extensions:
        observation["extension"] = extensions
    observation["status"] = "final"
    observation["code"] = code | {"text": paper.title}
    observation["subject"] = subject_of(assessment.patient)
    if assessment.as_of:
        observation["effectiveDateTime"] = day_of(assessment)
    observation["valueCodeableConcept"] = verdict
    observation["note"] = [{"text": note} for note in notes]
    observation["method"] = _method(paper)
    sources = _derived_from(evidence)
    if sources:
        observation["derivedFrom"] = sources
    counts = [_count_component(count) for count in _shown_counts(assessment.counts)]
    observation["component"] = [*components, *counts]
    return observation


@lru_cache(maxsize=256)
def _method(paper: Paper | ResponsePaper) -> Json:
    """The definition applied, and where it was published."""
    return {
        "coding": [{"system": "urn:ietf:rfc:3986", "code": canonical(paper)}],
        "text": f"{paper.citation.text} {paper.citation.url}",
    }


def day_of(assessment: Assessment | ResponseAssessment) -> str:
    """The day judged; empty where there is none."""
    return assessment.as_of.last.isoformat() if assessment.as_of else ""


def reference_of(source: Source) -> Json:
    """A reference to a source, or its place where the caller named it nothing."""
    return {"reference": source.reference} if source.reference else {"display": source.place}


def _is_report(reference: str) -> bool:
    return reference.startswith("DiagnosticReport/")


def _derived_from(counts: Iterable[Count]) -> list[Json]:
    """Every Observation judged, and every panel that lent it something."""
    found: dict[str, Json] = {}
    for count in counts:
        for source in count.sources:
            if not _is_report(source.reference):
                found.setdefault(source.reference or source.place, reference_of(source))
            for lender in source.lenders:
                if not _is_report(lender):
                    found.setdefault(lender, {"reference": lender})
    return list(found.values())


def _labels_of(counts: Iterable[Count], supporting: Iterable[Source]) -> list[Json]:
    """The security labels of the evidence: what is worked out from it is to be kept like it."""
    sources = (*(source for count in counts for source in count.sources), *supporting)
    labels = sorted({label for source in sources for label in source.labels}, reverse=True)
    # Of one code in several words the first is left.
    by_code = {(label.system, label.code): label for label in labels}
    return [
        {name: value for name, value in label._asdict().items() if value}
        for _, label in sorted(by_code.items())
        if label.code or label.system or label.display
    ]


def _supporting_of(counts: Iterable[Count], supporting: Iterable[Source]) -> list[Json]:
    """Reports that hold or lend to a count judged, then transfusions and drugs that bore on it."""
    found = [
        reference
        for count in counts
        for source in count.sources
        for reference in (source.reference, *source.lenders)
        if _is_report(reference)
    ]
    found += [
        reference
        for source in supporting
        for reference in (source.reference, *source.lenders)
        if reference
    ]
    return [
        {"url": SUPPORTING_INFO, "valueReference": {"reference": reference}}
        for reference in dict.fromkeys(found)
    ]


def decided_by(component: Json, sources: Sequence[Source]) -> Json:
    """The component with the sources that decided it."""
    references = [
        {"url": DECIDED_BY, "valueReference": reference_of(source)}
        for source in (dict.fromkeys(sources) if len(sources) > 1 else sources)
    ]
    return {"extension": references, **component} if references else component


def _shown_counts(counts: Iterable[Count]) -> list[Count]:
    """Each count judged; in place of a bound the results it rests on."""
    shown = (c.parts if c.kind is Kind.BOUND else (c,) for c in counts)
    return list(dict.fromkeys(chain.from_iterable(shown)))


def _count_component(count: Count) -> Json:
    """A count judged, as a component."""
    code, display = codes.PREFERRED_LOINC[count.analyte]
    component = {
        "code": {
            "coding": [{"system": LOINC, "code": code, "display": display}],
            "text": f"{count.analyte.title}, {count.when.text}",
        },
        **_value(count.value, count.analyte),
    }
    return decided_by(component, count.sources)


def _value(interval: Interval, analyte: Analyte) -> Json:
    if sent := as_sent(interval):
        number, comparator = sent
        return {"valueQuantity": quantity(number, analyte.unit, comparator)}
    ends = (("low", interval.low), ("high", interval.high))
    told = {name: quantity(end, analyte.unit) for name, end in ends if end is not None}
    return {"valueRange": told}
