"""Assessments as cards: the verdict in a clinician's words, its table, and what would settle it.

Nothing is judged here; every value is the assessment's own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.cds_hooks.calls import Call
from app.cds_hooks.markdown import count_text, digits, plain, said, table
from app.cds_hooks.prefetch import Gathered
from app.cds_hooks.summaries import eligibility_summary, response_summary
from app.domain.assessment import Assessment, none_low
from app.domain.chart import LookedFor, OtherCauses
from app.domain.counts import Analyte, Count, Remark, Severity
from app.domain.judgement import Finding, Verdict
from app.domain.moments import ResponseVerdict
from app.domain.response import LineageReport, ResponseAssessment, change_between
from app.fhir.canonicals import BASE
from app.fhir.codes import LOINC, PREFERRED_LOINC
from app.fhir.json import Json, encode
from app.publishing.terminology import OVERRIDE_REASONS
from app.writing.chart import chart_words
from app.writing.narrative import AID, TRUTH_TEXT, counts_of, missing
from app.writing.notes import judgement_remarks
from app.writing.response import (
    exposure_text,
    missing_for_response,
    response_headline,
    transfusions_text,
    window_remarks,
)

OVERRIDE_SYSTEM = f"{BASE}/CodeSystem/override-reason"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, f"{BASE}/cds-services")
# The kinds a card can be of; its place in this list is the last byte of its uuid.
_TYPES = (
    "eligible",
    "severe",
    "not-eligible",
    "indeterminate",
    *(f"response-{verdict.value}" for verdict in ResponseVerdict),
)


_WARNINGS = 5
_LABORATORY = {
    "system": "http://snomed.info/sct",
    "code": "108252007",
    "display": "Laboratory procedure",
}

# What is old is counted, not listed one by one.
_OLD = {"outside-window"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a card needs beside the assessment: the call, our address, the data it rests on."""

    call: Call
    address: str
    """Where this service is reached, without a slash at the end."""
    gathered: Gathered
    silent_when_normal: bool = False
    """Whether nothing is said of counts none of which is low."""
    launched: bool = False
    """Whether the caller's EHR may launch the page."""
    silent_when_not_met: bool = False
    """Whether nothing is said where the definition is not met, or nothing can be ordered."""
    silent_when_explained: bool = False
    """Whether nothing is said where a malignant disease or chemotherapy explains the counts."""


def eligibility_card(found: Assessment, remarks: Sequence[Remark], setting: Setting) -> Json | None:
    """The card of an eligibility assessment; None where there is nothing to say.

    `remarks` were made in reading the patient's data.
    """
    if _is_silent(found, setting):
        return None
    severe = found.judgement.severe
    kind = "severe" if severe else found.verdict.value
    detail = [
        said("Chart", _chart(found.causes, setting.gathered) + "."),
        table(
            ("Criterion", "Answer", "Count", "Date", "Limit"),
            (_criterion_row(found, finding) for finding in found.findings),
        ),
        said("To settle it", missing(found.judgement).removeprefix("To settle it: ")),
        *_doubts([*remarks, *found.remarks], setting),
        *(plain(remark.text) for remark in judgement_remarks(found.judgement)),
        said("Counts cannot tell", "; ".join(found.paper.also_requires) + "."),
        said("Definition", found.paper.citation.text),
        AID,
    ]
    card = _card(found, kind, eligibility_summary(found, severe), detail, setting)
    if severe:
        card["indicator"] = "warning"
    return _named(card | _orders(found.needs, setting), kind, setting)


def _is_silent(found: Assessment, setting: Setting) -> bool:
    """Whether there is nothing to say, or nothing that a clinician wants to hear."""
    if not found.counts or (setting.silent_when_explained and found.causes.explains):
        return True
    if found.verdict is Verdict.ELIGIBLE:
        return False
    if setting.silent_when_normal and none_low(found):
        return True
    return setting.silent_when_not_met and not (found.needs or found.judgement.severe)


def _chart(causes: OtherCauses, gathered: Gathered) -> str:
    """What the chart says of other causes, or where they were looked for."""
    if causes.answer is LookedFor.RECORDED:
        return chart_words(causes)
    if not gathered.looked_at:
        return "other causes not looked for: neither conditions nor medications were sent"
    missing = [key for key in ("conditions", "medications") if key not in gathered.looked_at]
    without = f"; no {missing[0]} were sent" if missing else ""
    return f"no other cause found in {' and '.join(gathered.looked_at)}{without}"


def response_card(
    found: ResponseAssessment, remarks: Sequence[Remark], setting: Setting
) -> Json | None:
    """The card of a response assessment; None for a patient not known to be treated."""
    if found.start is None or not found.counts:
        return None
    kind = f"response-{found.verdict.value}"
    detail = [
        plain(response_headline(found)) if found.reason else "",
        table(
            ("Lineage", "Answer", "Baseline", "Judged", "Now", "Change to now"),
            (_lineage_row(found, report) for report in found.lineages),
        ),
        _course(found),
        said("Transfusions", transfusions_text(found)),
        *(plain(remark.text) for remark in window_remarks(found)),
        said("To settle it", missing_for_response(found).removeprefix("To settle it: ")),
        *_doubts([*remarks, *found.remarks], setting),
        said("Daclizumab as given", exposure_text(found.exposure) if found.exposure else ""),
        said("How it is read", "; ".join(found.paper.also_requires) + "."),
        said("Definition", found.paper.citation.text),
        AID,
    ]
    card = _card(found, "response", response_summary(found), detail, setting)
    return _named(card | _orders(found.needs, setting), kind, setting)


def card_type(card_uuid: str) -> str:
    """The kind of card a uuid of ours is of: one of a few words, whatever it is asked of."""
    index = int(card_uuid[-2:], 16)
    return _TYPES[index] if index < len(_TYPES) else "unknown"


def _card(
    found: Assessment | ResponseAssessment,
    topic: str,
    summary: str,
    detail: Iterable[str],
    setting: Setting,
) -> Json:
    paper = found.paper
    about = "response" if topic == "response" else "eligibility"
    return {
        "summary": summary,
        "indicator": "info",
        "detail": "\n\n".join(part for part in detail if part),
        "source": {
            "label": paper.title,
            "url": paper.citation.url,
            "topic": {
                "system": f"{BASE}/CodeSystem/assessment",
                "code": about,
                "display": "Hematologic response by blood counts"
                if about == "response"
                else "Eligibility by blood counts",
            },
        },
        "links": [*_links(paper.id, setting)],
        "overrideReasons": [
            {"system": OVERRIDE_SYSTEM, "code": code, "display": display}
            for code, display in OVERRIDE_REASONS.items()
        ],
    }


def _links(paper_id: str, setting: Setting) -> Iterator[Json]:
    """What the definition says, in words and as FHIR; the page where the EHR may launch it."""
    if setting.launched:
        yield {"label": "See it in the chart", "url": f"{setting.address}/launch", "type": "smart"}
    for label, path in (
        ("What the definition says", f"explain/{paper_id}"),
        ("The definition as FHIR", f"fhir/PlanDefinition/{paper_id}"),
    ):
        yield {"label": label, "url": f"{setting.address}/{path}", "type": "absolute"}


def _named(card: Json, kind: str, setting: Setting) -> Json:
    """The card with its uuid: the same call gives the same one, another call another."""
    seed = setting.call.hookInstance.lower() + encode(card).decode()
    name = str(uuid.uuid5(_NAMESPACE, seed))
    return {"uuid": name[:-2] + f"{_TYPES.index(kind):02x}"} | card


def _orders(needs: Iterable[Analyte], setting: Setting) -> Json:
    """A suggestion for each laboratory test that is missing; never anything else."""
    suggestions = [_order(analyte, setting) for analyte in needs]
    return {"suggestions": suggestions, "selectionBehavior": "any"} if suggestions else {}


def _order(analyte: Analyte, setting: Setting) -> Json:
    code, display = PREFERRED_LOINC[analyte]
    context = setting.call.context
    request: Json = {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "proposal",
        "category": [{"coding": [_LABORATORY]}],
        "code": {
            "coding": [{"system": LOINC, "code": code, "display": display}],
            "text": analyte.title.capitalize(),
        },
        "subject": {"reference": f"Patient/{context.patientId}"},
    }
    if context.encounterId:
        request["encounter"] = {"reference": f"Encounter/{context.encounterId}"}
    seed = f"{setting.call.hookInstance.lower()} {context.patientId} {code}"
    return {
        "label": f"Order: {analyte.title}",
        "uuid": str(uuid.uuid5(_NAMESPACE, seed)),
        "actions": [
            {
                "type": "create",
                "description": f"Order a laboratory test: {analyte.title} (LOINC {code})",
                "resource": request,
            }
        ],
    }


def _criterion_row(found: Assessment, finding: Finding) -> tuple[str, ...]:
    counts = counts_of(found, finding)
    return (
        finding.criterion.title,
        TRUTH_TEXT[finding.truth],
        "; ".join(count_text(count) for count in counts) or "not measured",
        ", ".join(dict.fromkeys(plain(count.when.text[:10]) for count in counts)) or "-",
        plain(finding.criterion.describe()),
    )


def _lineage_row(found: ResponseAssessment, report: LineageReport) -> tuple[str, ...]:
    analyte = report.lineage.analyte
    now = _now(found, analyte)
    change = None
    if found.baseline and found.current:
        change, _ = change_between(
            found.baseline.known.counts.get(analyte, ()),
            found.current.known.counts.get(analyte, ()),
        )
    return (
        report.lineage.responded.title,
        f"{TRUTH_TEXT[report.truth]}: {report.why}" if report.truth else report.why,
        _dated(report.before),
        _dated(report.after),
        _dated(now),
        f"{digits(change):+f} {plain(analyte.unit)}" if change is not None else "-",
    )


def _now(found: ResponseAssessment, analyte: Analyte) -> Count | None:
    counts = found.current.window.counts if found.current else ()
    return next((count for count in counts if count.analyte is analyte), None)


def _dated(count: Count | None) -> str:
    return f"{count_text(count)} ({plain(count.when.text[:10])})" if count else "not measured"


def _course(found: ResponseAssessment) -> str:
    """Since when: the start, the first response, its loss, and whether it lasted."""
    said = [f"Treatment started {plain(found.start.text)}."] if found.start else []
    if found.first_response:
        first = found.first_response
        said.append(f"Responding since {first.day} (day {first.days_after}).")
    if found.first_loss:
        said.append(f"Lost on {found.first_loss.day} (day {found.first_loss.days_after}).")
    if found.kept_two_years:
        said.append(f"Kept for two years: {TRUTH_TEXT[found.kept_two_years]}.")
    return " ".join(said)


def _doubts(remarks: Iterable[Remark], setting: Setting) -> Iterator[str]:
    """What was set aside or doubted, and what was not read."""
    warnings = (one for one in remarks if one.severity is Severity.WARNING)
    texts = list(dict.fromkeys(plain(_doubt(one, setting.gathered)) for one in warnings))
    if texts:
        rest = [f"{len(texts) - _WARNINGS} more."] if len(texts) > _WARNINGS else []
        yield "\n".join(
            ["**Set aside or doubted:**", *(f"- {t}" for t in texts[:_WARNINGS] + rest)]
        )
    if setting.gathered.first_pages:
        keys = ", ".join(setting.gathered.first_pages)
        yield f"**Only the newest page was sent** of: {keys}. Older results were not looked at."


def _doubt(remark: Remark, gathered: Gathered) -> str:
    """A remark, with the results it is about."""
    if remark.code in _OLD:
        many = len(remark.places)
        return f"{many} older result{'s' if many > 1 else ''}: {remark.text}"
    results = list(dict.fromkeys(filter(None, map(gathered.result_at, remark.places))))
    named = ", ".join(results[:_WARNINGS])
    return f"{named}: {remark.text}" if named else remark.text
