"""Assessments to FHIR R4 resources, in one Bundle; the same assessment gives the same bytes."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from hashlib import sha1
from typing import NamedTuple

from msgspec import Raw

from app.domain.assessment import Assessment
from app.domain.counts import Analyte, Patient, Product, Remark
from app.domain.effort import spend, tell
from app.domain.judgement import Judgement, Verdict, sustained_rules
from app.domain.paper import analytes_of
from app.domain.rules import Criterion, Truth
from app.fhir import codes
from app.fhir.canonicals import (
    ASSESSMENT_SYSTEM,
    BASE,
    CRITERION_SYSTEM,
)
from app.fhir.codes import LOINC
from app.fhir.json import Json, coded, encode
from app.fhir.outcome import operation_outcome
from app.fhir.treatments import TRANSFUSIONS
from app.fhir.verdicts import truth_coded, verdict_coded
from app.writing.chart import chart_components
from app.writing.life import life_components, life_extensions, life_text, with_life
from app.writing.narrative import BETWEEN, missing, narrative, rule_text
from app.writing.notes import judgement_remarks, policy_note, standing_notes
from app.writing.observation import (
    assessment_observation,
    canonical,
    day_of,
    decided_by,
    subject_of,
)
from app.writing.words import readable

_ENROLMENT = {
    Verdict.ELIGIBLE: "eligible",
    Verdict.NOT_ELIGIBLE: "ineligible",
    Verdict.INDETERMINATE: "screening",
}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, BASE).bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
# To judge a patient's counts, and to write what came of it.
_STEPS_OF_AN_ANSWER = 150


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
    changes: tuple[Json, ...] = ()
    """The Observations of further days, where a whole life was asked for."""


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
        value=verdict_coded(judgement.verdict),
        criteria=tuple(
            (analytes_of(f.criterion), _criterion(f.criterion, f.truth)) for f in judgement.findings
        ),
    )


def _notes(judgement: Judgement, remarks: Iterable[Remark]) -> tuple[str, ...]:
    paper = judgement.paper
    notes = standing_notes(paper)
    notes.append("Also required, and not told by counts: " + "; ".join(paper.also_requires) + ".")
    if judgement.policy:
        notes.append(policy_note(judgement.policy))
    if sustained_rules(paper):
        notes.append(BETWEEN)
    return (*notes, *(remark.text for remark in remarks))


def _criterion(criterion: Criterion, truth: Truth) -> Json:
    return {
        "code": coded(CRITERION_SYSTEM, criterion.code, criterion.title),
        "valueCodeableConcept": truth_coded(truth),
        "referenceRange": [{"text": readable(rule_text(criterion))}],
    }


def eligibility_answer(assessment: Assessment, remarks: Sequence[Remark]) -> Answer:
    """An eligibility assessment, with the remarks made in reading its patient's data."""
    judgement = assessment.judgement
    words = _words(judgement)
    told = [(count.analyte, source) for count in assessment.counts for source in count.sources]
    components = [
        decided_by(component, [source for analyte, source in told if analyte in asked])
        for asked, component in words.criteria
    ]
    components += chart_components(assessment)
    div, notes = narrative(assessment, words.notes), words.notes
    extensions: Iterable[Json] = ()
    if life := assessment.life:
        div, notes = with_life(div, life), (*notes, life_text(life))
        components += life_components(life)
        extensions = life_extensions(life)
    return Answer(
        assessment_observation(
            assessment,
            words.code,
            words.value,
            div,
            notes,
            components,
            (*assessment.beside, *(one.weight for one in assessment.person if one.weight)),
            extensions,
            assessment.causes.sources,
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
        tuple(eligibility_answer(one, ()).observation for one in life.changes or ())
        if life
        else (),
    )


def write_answers(
    answers: Iterable[Answer], orphans: Sequence[Remark], study: str | None = None
) -> Json:
    """A collection Bundle: for each assessment its Observation, GuidanceResponse and more.

    The resources in it are JSON already, so that none is encoded twice. `orphans` are remarks that
    belong to no patient. `study` is the reference of a ResearchStudy.
    """
    entries: list[Json] = []
    orphan = entry_of(operation_outcome(orphans)) if orphans else None
    for answer in answers:
        spend(_STEPS_OF_AN_ANSWER)
        observation = entry_of(answer.observation)
        name = observation["fullUrl"]
        seed = name.encode()
        beside = []
        messages = [orphan["fullUrl"]] if orphan else []
        if answer.remarks:
            beside.append(entry_of(operation_outcome(answer.remarks), seed))
            messages.insert(0, beside[0]["fullUrl"])
        if study:
            beside.append(entry_of(_research_subject(answer, study), seed))
        entries += (observation, entry_of(_guidance(answer, name, messages)), *beside)
        spend(_STEPS_OF_AN_ANSWER * len(answer.changes))
        entries += (entry_of(change) for change in answer.changes)
    if orphan:
        entries.append(orphan)
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def entry_of(resource: Json, seed: bytes = b"") -> Json:
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
