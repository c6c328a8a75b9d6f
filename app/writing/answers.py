"""Assessments to FHIR R4 resources, in one Bundle; the same assessment gives the same bytes."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from hashlib import sha1
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from app.domain.assessment import Assessment, Judgement, SevereLimit, Verdict
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
from app.domain.effort import spend, tell
from app.domain.paper import Paper, ResponsePaper, analytes_of
from app.domain.response import ResponseAssessment
from app.domain.rules import Criterion, Truth
from app.domain.severity import severe_limit_text
from app.fhir import codes
from app.fhir.codes import LOINC
from app.fhir.outcome import BASE, operation_outcome
from app.fhir.treatments import TRANSFUSIONS
from app.fhir.ucum import UCUM
from app.writing.narrative import AID, UNVERIFIED, missing, narrative, rule_text

Json = dict[str, Any]

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
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, BASE).bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
# To judge a patient's counts, and to write what came of it.
_STEPS_OF_AN_ANSWER = 150
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


def encode(resource: Json) -> bytes:
    """A resource as JSON, decimals with every digit."""
    return _ENCODE(resource)


def canonical(paper: Paper | ResponsePaper) -> str:
    """The versioned canonical of a definition."""
    return f"{BASE}/PlanDefinition/{paper.id}|{paper.version}"


class Answer(NamedTuple):
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


class _Words(NamedTuple):
    """What an answer says of its judgement, whoever the patient is."""

    canonical: str
    note: str
    requirements: list[Json]
    remarks: tuple[Remark, ...]
    enrolment: str
    notes: tuple[str, ...]
    code: Json
    value: Json
    criteria: tuple[tuple[frozenset[Analyte], Json], ...]
    """Each criterion's analytes, and its component."""


@lru_cache(maxsize=1024)
def _words(judgement: Judgement) -> _Words:
    paper = judgement.paper
    is_open = judgement.verdict is Verdict.INDETERMINATE
    history = (Product.RED_CELLS,) if judgement.needs_transfusion_history else ()
    remarks = judgement_remarks(judgement)
    return _Words(
        canonical=canonical(paper),
        note=missing(judgement) if is_open else "",
        requirements=data_requirements(judgement.needs, history) if is_open else [],
        remarks=remarks,
        enrolment=_ENROLMENT[judgement.verdict],
        notes=_notes(judgement, remarks),
        code=coded(ASSESSMENT_SYSTEM, "eligibility", "Eligibility by blood counts"),
        value=coded(VERDICT_SYSTEM, judgement.verdict.value),
        criteria=tuple(
            (analytes_of(f.criterion), _criterion(f.criterion, f.truth)) for f in judgement.findings
        ),
    )


def eligibility_answer(assessment: Assessment, remarks: Sequence[Remark]) -> Answer:
    """An eligibility assessment, with the remarks made in reading its patient's data."""
    judgement = assessment.judgement
    words = _words(judgement)
    told = [(count.analyte, source) for count in assessment.counts for source in count.sources]
    return Answer(
        assessment_observation(
            assessment,
            words.code,
            words.value,
            narrative(assessment, words.notes),
            words.notes,
            [
                decided_by(component, [source for analyte, source in told if analyte in asked])
                for asked, component in words.criteria
            ],
        ),
        words.canonical,
        assessment.patient,
        day_of(assessment),
        judgement.verdict.value,
        judgement.verdict is Verdict.INDETERMINATE,
        words.note,
        words.requirements,
        (*remarks, *assessment.remarks, *words.remarks),
        words.enrolment,
    )


def write_answers(
    answers: Iterable[Answer], orphans: Sequence[Remark], study: str | None = None
) -> Json:
    """A collection Bundle: for each assessment its Observation, GuidanceResponse and more.

    The resources in it are JSON already, so that none is encoded twice. `orphans` are remarks that
    belong to no patient. `study` is the reference of a ResearchStudy.
    """
    entries: list[Json] = []
    orphan = _entry_of(operation_outcome(orphans)) if orphans else None
    for answer in answers:
        spend(_STEPS_OF_AN_ANSWER)
        observation = _entry_of(answer.observation)
        name = observation["fullUrl"]
        seed = name.encode()
        beside = []
        messages = [orphan["fullUrl"]] if orphan else []
        if answer.remarks:
            beside.append(_entry_of(operation_outcome(answer.remarks), seed))
            messages.insert(0, beside[0]["fullUrl"])
        if study:
            beside.append(_entry_of(_research_subject(answer, study), seed))
        entries += (observation, _entry_of(_guidance(answer, name, messages)), *beside)
    if orphan:
        entries.append(orphan)
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _entry_of(resource: Json, seed: bytes = b"") -> Json:
    """An entry named by its content: the same content has the same name."""
    written = encode(resource)
    tell(len(written))
    # As uuid.uuid5 does, which would have the bytes decoded to encode them again.
    digits = sha1(b"".join((_NAMESPACE, seed, written)), usedforsecurity=False).hexdigest()
    return {
        "fullUrl": f"urn:uuid:{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-"
        f"{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}",
        "resource": Raw(written),
    }


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
) -> Json:
    """The Observation every assessment is: its verdict, evidence, components, then its counts."""
    spend(20 * len(assessment.counts))
    paper = assessment.paper
    observation: Json = {"resourceType": "Observation"}
    if labels := _labels_of(assessment.counts, assessment.supporting):
        observation["meta"] = {"security": labels}
    observation["text"] = {"status": "generated", "div": div}
    extensions = _supporting_of(assessment.counts, assessment.supporting)
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
    sources = _derived_from(assessment.counts)
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


def standing_notes(paper: Paper | ResponsePaper) -> list[str]:
    """What is said wherever a definition is applied."""
    return [AID] if paper.verified else [AID, UNVERIFIED]


def policy_note(policy: str) -> str:
    """The red-cell policy in words."""
    return f"Red cells were judged under the policy '{policy}'."


def _notes(judgement: Judgement, remarks: Iterable[Remark]) -> tuple[str, ...]:
    paper = judgement.paper
    notes = standing_notes(paper)
    notes.append("Also required, and not told by counts: " + "; ".join(paper.also_requires) + ".")
    if judgement.policy:
        notes.append(policy_note(judgement.policy))
    return (*notes, *(remark.text for remark in remarks))


def judgement_remarks(judgement: Judgement) -> tuple[Remark, ...]:
    """The readings of the same words, and the published limits, that would change the answer."""
    remarks = [
        Remark(
            "policy-disagreement",
            Severity.INFORMATION,
            f"Under the red-cell policy '{policy}' the verdict would be {verdict.value}.",
            (),
        )
        for policy, verdict in judgement.other_policies
    ]
    if judgement.severe_limits:
        said = "; ".join(_severe_limit(one) for one in judgement.severe_limits)
        text = (
            "The limit of reticulocytes for severe disease is in dispute, and the answer hangs on "
            f"it. With another published one (10*9/L) it would be: {said}."
        )
        remarks.append(Remark("severe-limit-disputed", Severity.INFORMATION, text, ()))
    return tuple(remarks)


_NOT_SEVERE = {
    Truth.MET: ", not severe by counts",
    Truth.NOT_MET: ", severe by counts",
    Truth.UNKNOWN: ", severity not known",
    None: "",
}


def _severe_limit(other: SevereLimit) -> str:
    """For example: below 20 (CIBMTR, AAMDS) eligible, not severe by counts."""
    limit = severe_limit_text(other.number)
    return f"{limit} {other.verdict.value}{_NOT_SEVERE[other.not_severe]}"


def _criterion(criterion: Criterion, truth: Truth) -> Json:
    return {
        "code": coded(CRITERION_SYSTEM, criterion.code, criterion.title),
        "valueCodeableConcept": coded(TRUTH_SYSTEM, truth.value),
        "referenceRange": [{"text": rule_text(criterion)}],
    }


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
    low, high, low_included, high_included = interval
    unit = {"unit": analyte.unit, "system": UCUM, "code": analyte.unit}
    if low == high:
        return {"valueQuantity": {"value": low, **unit}}
    if low is None:
        comparator = "<=" if high_included else "<"
        return {"valueQuantity": {"value": high, "comparator": comparator, **unit}}
    if high is None:
        comparator = ">=" if low_included else ">"
        return {"valueQuantity": {"value": low, "comparator": comparator, **unit}}
    return {"valueRange": {"low": {"value": low, **unit}, "high": {"value": high, **unit}}}


def _guidance(answer: Answer, observation: str, messages: Sequence[str]) -> Json:
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
        guidance["evaluationMessage"] = [{"reference": name} for name in messages]
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
        for (system, code), product in TRANSFUSIONS.items()
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
