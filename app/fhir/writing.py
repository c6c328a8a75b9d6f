"""Assessments to FHIR R4 resources, in one Bundle; the same assessment gives the same bytes."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

import msgspec

from app.domain.assessment import Assessment, Finding, Paper, Verdict
from app.domain.counts import (
    Analyte,
    Count,
    Interval,
    Kind,
    Patient,
    Product,
    Remark,
    Severity,
    Source,
)
from app.domain.response import ResponseAssessment, ResponsePaper
from app.fhir import codes
from app.fhir.narrative import AID, UNVERIFIED, counts_of, missing, narrative, rule_text
from app.fhir.outcome import BASE, operation_outcome

Json = dict[str, Any]

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
ASSESSMENT_SYSTEM = f"{BASE}/CodeSystem/assessment"
VERDICT_SYSTEM = f"{BASE}/CodeSystem/verdict"
CRITERION_SYSTEM = f"{BASE}/CodeSystem/criterion"
TRUTH_SYSTEM = f"{BASE}/CodeSystem/truth"
DECIDED_BY = f"{BASE}/StructureDefinition/decided-by"
SUPPORTING_INFO = "http://hl7.org/fhir/StructureDefinition/workflow-supportingInfo"

_ENROLMENT = {
    Verdict.ELIGIBLE: "eligible",
    Verdict.NOT_ELIGIBLE: "ineligible",
    Verdict.INDETERMINATE: "screening",
}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, BASE)
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


def encode(resource: Json) -> bytes:
    """A resource as JSON, decimals with every digit."""
    return _ENCODE(resource)


def canonical(paper: Paper | ResponsePaper) -> str:
    """The versioned canonical of a definition."""
    return f"{BASE}/PlanDefinition/{paper.id}|{paper.version}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One assessment as FHIR, and what the resources beside it need."""

    observation: Json
    canonical: str
    patient: Patient
    day: str
    verdict: str
    open: bool
    note: str
    requirements: list[Json]
    remarks: tuple[Remark, ...]
    enrolment: str


def eligibility_answer(assessment: Assessment, remarks: Sequence[Remark]) -> Answer:
    """An eligibility assessment, with the remarks made in reading its patient's data."""
    open_verdict = assessment.verdict is Verdict.INDETERMINATE
    return Answer(
        observation=_observation(assessment),
        canonical=canonical(assessment.paper),
        patient=assessment.patient,
        day=day_of(assessment),
        verdict=assessment.verdict.value,
        open=open_verdict,
        note=missing(assessment) if open_verdict else "",
        requirements=data_requirements(
            assessment.needs,
            (Product.RED_CELLS,) if assessment.needs_transfusion_history else (),
        )
        if open_verdict
        else [],
        remarks=(*remarks, *assessment.remarks, *_policy_remarks(assessment)),
        enrolment=_ENROLMENT[assessment.verdict],
    )


def write_answers(
    answers: Iterable[Answer], orphans: Sequence[Remark], study: str | None = None
) -> Json:
    """A collection Bundle: for each assessment its Observation, GuidanceResponse and more.

    `orphans` are remarks that belong to no patient. `study` is the reference of a ResearchStudy.
    """
    entries: list[Json] = []
    orphan = _entry_of(operation_outcome(orphans)) if orphans else None
    for answer in answers:
        observation = _entry_of(answer.observation)
        messages = [orphan] if orphan else []
        entries.append(observation)
        outcome = None
        if answer.remarks:
            outcome = _entry_of(operation_outcome(answer.remarks), observation["fullUrl"])
            messages.insert(0, outcome)
        entries.append(_entry_of(_guidance(answer, observation["fullUrl"], messages)))
        if outcome:
            entries.append(outcome)
        if study:
            entries.append(_entry_of(_research_subject(answer, study), observation["fullUrl"]))
    if orphan:
        entries.append(orphan)
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _entry_of(resource: Json, seed: str = "") -> Json:
    """An entry named by its content: the same content has the same name."""
    # As uuid.uuid5 does, which would have the bytes decoded to encode them again.
    name = sha1(_NAMESPACE.bytes + seed.encode() + encode(resource), usedforsecurity=False)
    digits = name.hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return {
        "fullUrl": f"urn:uuid:{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-"
        f"{variant}{digits[17:20]}-{digits[20:32]}",
        "resource": resource,
    }


def subject_of(patient: Patient) -> Json:
    """The reference by which the caller knows the patient."""
    if patient.reference:
        return {"reference": patient.reference}
    identifier = {"system": patient.system, "value": patient.value}
    return {"identifier": {key: value for key, value in identifier.items() if value}}


def _observation(assessment: Assessment) -> Json:
    notes = _notes(assessment)
    code = coded(ASSESSMENT_SYSTEM, "eligibility", "Eligibility by blood counts")
    return assessment_observation(
        assessment,
        code,
        coded(VERDICT_SYSTEM, assessment.verdict.value),
        narrative(assessment, notes),
        notes,
        [_criterion(assessment, finding) for finding in assessment.findings],
    )


def assessment_observation(
    assessment: Assessment | ResponseAssessment,
    code: Json,
    verdict: Json,
    div: str,
    notes: Iterable[str],
    components: Iterable[Json],
) -> Json:
    """The Observation every assessment is: its verdict, evidence, components, then its counts."""
    observation: Json = {
        "resourceType": "Observation",
        "text": {"status": "generated", "div": div},
    }
    extensions = _supporting_of(assessment.counts, assessment.supporting)
    if extensions:
        observation["extension"] = extensions
    observation |= {
        "status": "final",
        "code": code | {"text": assessment.paper.title},
        "subject": subject_of(assessment.patient),
    }
    if assessment.as_of:
        observation["effectiveDateTime"] = day_of(assessment)
    observation |= {
        "valueCodeableConcept": verdict,
        "note": [{"text": note} for note in notes],
        "method": {
            "coding": [{"system": "urn:ietf:rfc:3986", "code": canonical(assessment.paper)}],
            "text": f"{assessment.paper.citation.text} {assessment.paper.citation.url}",
        },
    }
    sources = _derived_from(assessment.counts)
    if sources:
        observation["derivedFrom"] = sources
    counts = (_count_component(count) for count in _shown_counts(assessment.counts))
    observation["component"] = [*components, *counts]
    return observation


def day_of(assessment: Assessment | ResponseAssessment) -> str:
    """The day judged; empty where there is none."""
    return assessment.as_of.last.isoformat() if assessment.as_of else ""


def coded(system: str, code: str, display: str = "") -> Json:
    """A CodeableConcept of one coding."""
    coding = {"system": system, "code": code}
    if display:
        coding["display"] = display
    return {"coding": [coding]}


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


def _supporting_of(counts: Iterable[Count], supporting: Iterable[Source]) -> list[Json]:
    """Reports that hold or lend to a count judged, then transfusions and drugs that bore on it."""
    reports = [
        reference
        for count in counts
        for source in count.sources
        for reference in (source.reference, *source.lenders)
        if _is_report(reference)
    ]
    others = [source.reference for source in supporting if source.reference]
    return [
        {"url": SUPPORTING_INFO, "valueReference": {"reference": reference}}
        for reference in dict.fromkeys(reports + others)
    ]


def standing_notes(paper: Paper | ResponsePaper) -> list[str]:
    """What is said wherever a definition is applied."""
    return [AID] if paper.verified else [AID, UNVERIFIED]


def policy_note(policy: str) -> str:
    """The red-cell policy in words."""
    return f"Red cells were judged under the policy '{policy}'."


def _notes(assessment: Assessment) -> list[str]:
    paper = assessment.paper
    notes = standing_notes(paper)
    notes.append("Also required, and not told by counts: " + "; ".join(paper.also_requires) + ".")
    if assessment.policy:
        notes.append(policy_note(assessment.policy))
    notes += (remark.text for remark in _policy_remarks(assessment))
    return notes


def _policy_remarks(assessment: Assessment) -> list[Remark]:
    return [
        Remark(
            "policy-disagreement",
            Severity.INFORMATION,
            f"Under the red-cell policy '{policy}' the verdict would be {verdict.value}.",
            (),
        )
        for policy, verdict in assessment.other_policies
    ]


def _criterion(assessment: Assessment, finding: Finding) -> Json:
    criterion = finding.criterion
    sources = [s for count in counts_of(assessment, finding) for s in count.sources]
    component: Json = {}
    if sources:
        component["extension"] = [
            {"url": DECIDED_BY, "valueReference": reference_of(source)}
            for source in dict.fromkeys(sources)
        ]
    return component | {
        "code": coded(CRITERION_SYSTEM, criterion.code, criterion.title),
        "valueCodeableConcept": coded(TRUTH_SYSTEM, finding.truth.value),
        "referenceRange": [{"text": rule_text(criterion)}],
    }


def _shown_counts(counts: Iterable[Count]) -> list[Count]:
    """Each count judged; in place of a bound the results it rests on."""
    shown: list[Count] = []
    for count in counts:
        for one in count.parts if count.kind is Kind.BOUND else (count,):
            if one not in shown:
                shown.append(one)
    return shown


def _count_component(count: Count) -> Json:
    """A count judged, as a component."""
    code, display = codes.PREFERRED_LOINC[count.analyte]
    return {
        "extension": [
            {"url": DECIDED_BY, "valueReference": reference_of(source)} for source in count.sources
        ],
        "code": {
            "coding": [{"system": LOINC, "code": code, "display": display}],
            "text": f"{count.analyte.title}, {count.when.text}",
        },
        **_value(count.value, count.analyte),
    }


def _value(interval: Interval, analyte: Analyte) -> Json:
    unit = {"unit": analyte.unit, "system": UCUM, "code": analyte.unit}
    if interval.exact is not None:
        return {"valueQuantity": {"value": interval.exact, **unit}}
    if interval.low is None:
        comparator = "<=" if interval.high_included else "<"
        return {"valueQuantity": {"value": interval.high, "comparator": comparator, **unit}}
    if interval.high is None:
        comparator = ">=" if interval.low_included else ">"
        return {"valueQuantity": {"value": interval.low, "comparator": comparator, **unit}}
    return {
        "valueRange": {
            "low": {"value": interval.low, **unit},
            "high": {"value": interval.high, **unit},
        }
    }


def _guidance(answer: Answer, observation: str, messages: Sequence[Json]) -> Json:
    guidance: Json = {
        "resourceType": "GuidanceResponse",
        "contained": [
            {
                "resourceType": "Parameters",
                "id": "output",
                "parameter": [
                    {"name": "verdict", "valueCode": answer.verdict},
                    {"name": "assessment", "valueReference": {"reference": observation}},
                ],
            }
        ],
        "moduleCanonical": answer.canonical,
        "status": "data-required" if answer.open else "success",
        "subject": subject_of(answer.patient),
    }
    if answer.day:
        guidance["occurrenceDateTime"] = answer.day
    if answer.note:
        guidance["note"] = [{"text": answer.note}]
    if messages:
        guidance["evaluationMessage"] = [{"reference": m["fullUrl"]} for m in messages]
    guidance["outputParameters"] = {"reference": "#output"}
    if answer.requirements:
        guidance["dataRequirement"] = answer.requirements
    return guidance


def data_requirements(needs: Iterable[Analyte], transfusions: Collection[Product]) -> list[Json]:
    """The counts, and the transfusions, that would settle an open verdict."""
    wanted = [
        ("Observation", {"system": LOINC, "code": code, "display": display})
        for code, display in (codes.PREFERRED_LOINC[analyte] for analyte in needs)
    ]
    wanted += (
        ("Procedure", {"system": system, "code": code})
        for (system, code), product in codes.TRANSFUSIONS.items()
        if product in transfusions
    )
    return [
        {"type": kind, "codeFilter": [{"path": "code", "code": [coding]}]}
        for kind, coding in wanted
    ]


def _research_subject(answer: Answer, study: str) -> Json:
    return {
        "resourceType": "ResearchSubject",
        "status": answer.enrolment,
        "study": {"reference": study},
        "individual": subject_of(answer.patient),
    }
