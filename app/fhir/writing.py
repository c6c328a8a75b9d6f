"""Assessments to FHIR R4 resources, in one Bundle; the same assessment gives the same bytes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from app.domain.assessment import Assessment, Finding, Verdict
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
from app.fhir import codes
from app.fhir.narrative import AID, counts_of, missing, narrative
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


def canonical(assessment: Assessment) -> str:
    """The versioned canonical of the definition an assessment applied."""
    return f"{BASE}/PlanDefinition/{assessment.paper.id}|{assessment.paper.version}"


def write_assessments(
    groups: Iterable[tuple[Assessment, Sequence[Remark]]],
    orphans: Sequence[Remark],
    study: str | None = None,
) -> Json:
    """A collection Bundle: for each assessment its Observation, GuidanceResponse and more.

    Each assessment comes with the remarks made in reading its patient's data; `orphans` belong
    to no patient. `study` is the reference of a ResearchStudy.
    """
    entries: list[Json] = []
    orphan = _entry(operation_outcome(orphans)) if orphans else None
    for assessment, remarks in groups:
        observation = _entry(_observation(assessment))
        messages = [orphan] if orphan else []
        entries.append(observation)
        outcome = None
        said = (*remarks, *assessment.remarks, *_policy_remarks(assessment))
        if said:
            outcome = _entry(operation_outcome(said), observation["fullUrl"])
            messages.insert(0, outcome)
        entries.append(_entry(_guidance(assessment, observation["fullUrl"], messages)))
        if outcome:
            entries.append(outcome)
        if study:
            entries.append(_entry(_research_subject(assessment, study), observation["fullUrl"]))
    if orphan:
        entries.append(orphan)
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _entry(resource: Json, seed: str = "") -> Json:
    """An entry named by its content: the same content has the same name."""
    name = uuid.uuid5(_NAMESPACE, seed + encode(resource).decode())
    return {"fullUrl": f"urn:uuid:{name}", "resource": resource}


def _subject(patient: Patient) -> Json:
    if patient.reference:
        return {"reference": patient.reference}
    identifier = {"system": patient.system, "value": patient.value}
    return {"identifier": {key: value for key, value in identifier.items() if value}}


def _observation(assessment: Assessment) -> Json:
    notes = _notes(assessment)
    observation: Json = {
        "resourceType": "Observation",
        "text": {"status": "generated", "div": narrative(assessment, notes)},
    }
    extensions = [
        {"url": SUPPORTING_INFO, "valueReference": {"reference": reference}}
        for reference in _supporting(assessment)
    ]
    if extensions:
        observation["extension"] = extensions
    observation |= {
        "status": "final",
        "code": {
            "coding": [
                {
                    "system": ASSESSMENT_SYSTEM,
                    "code": "eligibility",
                    "display": "Eligibility by blood counts",
                }
            ],
            "text": assessment.paper.title,
        },
        "subject": _subject(assessment.patient),
    }
    if assessment.as_of:
        observation["effectiveDateTime"] = assessment.as_of.last.isoformat()
    observation |= {
        "valueCodeableConcept": _coded(VERDICT_SYSTEM, assessment.verdict.value),
        "note": [{"text": note} for note in notes],
        "method": {
            "coding": [{"system": "urn:ietf:rfc:3986", "code": canonical(assessment)}],
            "text": f"{assessment.paper.citation.text} {assessment.paper.citation.url}",
        },
    }
    sources = _derived_from(assessment.counts)
    if sources:
        observation["derivedFrom"] = sources
    observation["component"] = [
        *(_criterion(assessment, finding) for finding in assessment.findings),
        *(_count(count) for count in _shown(assessment.counts)),
    ]
    return observation


def _coded(system: str, code: str, display: str = "") -> Json:
    coding = {"system": system, "code": code}
    if display:
        coding["display"] = display
    return {"coding": [coding]}


def _reference(source: Source) -> Json:
    return {"reference": source.reference} if source.reference else {"display": source.place}


def _is_report(reference: str) -> bool:
    return reference.startswith("DiagnosticReport/")


def _derived_from(counts: Iterable[Count]) -> list[Json]:
    """Every Observation judged, and every panel that lent it something."""
    found: dict[str, Json] = {}
    for count in counts:
        for source in count.sources:
            if not _is_report(source.reference):
                found.setdefault(source.reference or source.place, _reference(source))
            for lender in source.lenders:
                if not _is_report(lender):
                    found.setdefault(lender, {"reference": lender})
    return list(found.values())


def _supporting(assessment: Assessment) -> list[str]:
    """Reports that hold or lend to a count judged, then transfusions and drugs that bore on it."""
    reports = [
        reference
        for count in assessment.counts
        for source in count.sources
        for reference in (source.reference, *source.lenders)
        if _is_report(reference)
    ]
    others = [source.reference for source in assessment.supporting if source.reference]
    return list(dict.fromkeys(reports + others))


def _notes(assessment: Assessment) -> list[str]:
    paper = assessment.paper
    notes = [AID]
    if not paper.verified:
        notes.append("Unverified: the wording of this definition was not seen in its source.")
    notes.append("Also required, and not told by counts: " + "; ".join(paper.also_requires) + ".")
    if assessment.policy:
        notes.append(f"Red cells were judged under the policy '{assessment.policy}'.")
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
            {"url": DECIDED_BY, "valueReference": _reference(source)}
            for source in dict.fromkeys(sources)
        ]
    return component | {
        "code": _coded(CRITERION_SYSTEM, criterion.code, criterion.title),
        "valueCodeableConcept": _coded(TRUTH_SYSTEM, finding.truth.value),
        "referenceRange": [{"text": criterion.describe()}],
    }


def _shown(counts: Iterable[Count]) -> list[Count]:
    """Each count judged; in place of a bound the results it rests on."""
    shown: list[Count] = []
    for count in counts:
        for one in count.parts if count.kind is Kind.BOUND else (count,):
            if one not in shown:
                shown.append(one)
    return shown


def _count(count: Count) -> Json:
    code, display = codes.PREFERRED_LOINC[count.analyte]
    return {
        "extension": [
            {"url": DECIDED_BY, "valueReference": _reference(source)} for source in count.sources
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


def _guidance(assessment: Assessment, observation: str, messages: Sequence[Json]) -> Json:
    open_verdict = assessment.verdict is Verdict.INDETERMINATE
    guidance: Json = {
        "resourceType": "GuidanceResponse",
        "contained": [
            {
                "resourceType": "Parameters",
                "id": "output",
                "parameter": [
                    {"name": "verdict", "valueCode": assessment.verdict.value},
                    {"name": "assessment", "valueReference": {"reference": observation}},
                ],
            }
        ],
        "moduleCanonical": canonical(assessment),
        "status": "data-required" if open_verdict else "success",
        "subject": _subject(assessment.patient),
    }
    if assessment.as_of:
        guidance["occurrenceDateTime"] = assessment.as_of.last.isoformat()
    if open_verdict:
        guidance["note"] = [{"text": missing(assessment)}]
    if messages:
        guidance["evaluationMessage"] = [{"reference": m["fullUrl"]} for m in messages]
    guidance["outputParameters"] = {"reference": "#output"}
    if open_verdict:
        guidance["dataRequirement"] = _data_requirements(assessment)
    return guidance


def _data_requirements(assessment: Assessment) -> list[Json]:
    wanted = [
        ("Observation", {"system": LOINC, "code": code, "display": display})
        for code, display in (codes.PREFERRED_LOINC[analyte] for analyte in assessment.needs)
    ]
    if assessment.needs_transfusion_history:
        wanted += (
            ("Procedure", {"system": system, "code": code})
            for (system, code), product in codes.TRANSFUSIONS.items()
            if product is Product.RED_CELLS
        )
    return [
        {"type": kind, "codeFilter": [{"path": "code", "code": [coding]}]}
        for kind, coding in wanted
    ]


def _research_subject(assessment: Assessment, study: str) -> Json:
    return {
        "resourceType": "ResearchSubject",
        "status": _ENROLMENT[assessment.verdict],
        "study": {"reference": study},
        "individual": _subject(assessment.patient),
    }
