"""Assessments as cards: the verdict in a clinician's words, its table, and what would settle it.

Nothing is judged here; every value is the assessment's own.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.cds_hooks.calls import Call
from app.cds_hooks.prefetch import Gathered
from app.domain.assessment import Assessment, none_low
from app.domain.chart import LookedFor, OtherCauses
from app.domain.counts import Analyte, Count, Interval, Kind, Remark, Severity
from app.domain.judgement import Finding, Verdict
from app.domain.moments import ResponseVerdict
from app.domain.paper import Paper, ResponsePaper
from app.domain.response import LineageReport, ResponseAssessment, change_between
from app.domain.rules import Truth
from app.fhir.canonicals import BASE
from app.fhir.codes import LOINC, PREFERRED_LOINC
from app.fhir.json import Json, encode
from app.publishing.terminology import OVERRIDE_REASONS
from app.writing.chart import chart_words, named
from app.writing.narrative import AID, TRUTH_TEXT, counts_of, missing, text_of
from app.writing.notes import judgement_remarks
from app.writing.response import (
    exposure_text,
    missing_for_response,
    response_headline,
    transfusions_text,
    window_remarks,
)
from app.writing.words import readable

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
_SUMMARY_LENGTH = 139
_CHART_LENGTH = 50
_WARNINGS = 5
_LABORATORY = {
    "system": "http://snomed.info/sct",
    "code": "108252007",
    "display": "Laboratory procedure",
}
_RESPONSES = {
    ResponseVerdict.COMPLETE: "Complete response by the {short} criteria",
    ResponseVerdict.RESPONSE: "Response by the {short} criteria",
    ResponseVerdict.INDETERMINATE: "Response by the {short} criteria is open",
    ResponseVerdict.NO_RESPONSE: "No response by the {short} criteria",
    ResponseVerdict.NOT_EVALUABLE: "Response by the {short} criteria cannot be judged",
}
# What is old is counted, not listed one by one.
_OLD = {"outside-window"}
# What a renderer of GitHub Flavored Markdown would take for more than text.
_MARKED_UP = re.compile(r"([\\`*_\[\]<>|~#&])")


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
        _said("Chart", _chart(found.causes, setting.gathered) + "."),
        _table(
            ("Criterion", "Answer", "Count", "Date", "Limit"),
            (_criterion_row(found, finding) for finding in found.findings),
        ),
        _said("To settle it", missing(found.judgement).removeprefix("To settle it: ")),
        *_doubts([*remarks, *found.remarks], setting),
        *(_plain(remark.text) for remark in judgement_remarks(found.judgement)),
        _said("Counts cannot tell", "; ".join(found.paper.also_requires) + "."),
        _said("Definition", found.paper.citation.text),
        AID,
    ]
    card = _card(found, kind, _eligibility_summary(found, severe), detail, setting)
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
        _plain(response_headline(found)) if found.reason else "",
        _table(
            ("Lineage", "Answer", "Baseline", "Judged", "Now", "Change to now"),
            (_lineage_row(found, report) for report in found.lineages),
        ),
        _course(found),
        _said("Transfusions", transfusions_text(found)),
        *(_plain(remark.text) for remark in window_remarks(found)),
        _said("To settle it", missing_for_response(found).removeprefix("To settle it: ")),
        *_doubts([*remarks, *found.remarks], setting),
        _said("Daclizumab as given", exposure_text(found.exposure) if found.exposure else ""),
        _said("How it is read", "; ".join(found.paper.also_requires) + "."),
        _said("Definition", found.paper.citation.text),
        AID,
    ]
    card = _card(found, "response", _response_summary(found), detail, setting)
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


# Summaries


def _eligibility_summary(found: Assessment, severe: bool) -> str:
    depressed = [f for f in found.findings if not f.criterion.excludes_severe]
    criteria = f"{_named_in_short(found.paper)} criteria"
    met = [f for f in depressed if f.truth is Truth.MET]
    share = f"({len(met)} of {len(depressed)})"
    deciding = [count for f in met for count in counts_of(found, f)]
    if severe:
        said = f"Severe by counts, beyond the {criteria}"
    elif found.verdict is Verdict.ELIGIBLE:
        said = f"Counts meet the {criteria} {share}"
    elif found.verdict is Verdict.NOT_ELIGIBLE:
        said = f"Counts do not meet the {criteria} {share}"
        deciding = list(found.counts)
    else:
        one = len(found.needs) == 1
        needed = ", ".join(analyte.title if one else analyte.short for analyte in found.needs)
        said = f"{criteria}: open" + (f", missing {needed}" if needed else "")
        deciding = list(found.counts)
    if recorded := found.causes.recorded:
        said += f"; chart: {_cut(named(recorded))}"
    day = f" ({found.as_of.last})" if found.as_of else ""
    return _fitting(said, deciding, day)


def _cut(text: str) -> str:
    """So much of a text as leaves room for the verdict."""
    return text if len(text) <= _CHART_LENGTH else f"{text[: _CHART_LENGTH - 1]}\u2026"


def _named_in_short(paper: Paper | ResponsePaper) -> str:
    return paper.short or paper.title


def _response_summary(found: ResponseAssessment) -> str:
    said = _RESPONSES[found.verdict].format(short=_named_in_short(found.paper))
    changes = [
        f"{report.lineage.analyte.short} {_figure(report.before.value)} to "
        f"{_figure(report.after.value)}"
        for report in found.lineages
        if report.affected is not Truth.NOT_MET and report.before and report.after
    ]
    day = f" (day {found.judged.days_after}, {found.judged.day})" if found.judged else ""
    return _shortest_first_dropped(said, ", ".join(changes), day)


def _fitting(said: str, counts: Iterable[Count], day: str) -> str:
    told: dict[Analyte, list[str]] = {}
    for count in counts:
        told.setdefault(count.analyte, []).append(_figure(count.value))
    values = ", ".join(
        f"{analyte.short} {' and '.join(dict.fromkeys(figures))}"
        for analyte, figures in told.items()
    )
    return _shortest_first_dropped(said, values, day)


def _shortest_first_dropped(said: str, values: str, day: str) -> str:
    """The sentence with values and day where it stays short enough; the day goes first."""
    whole = f"{said}: {values}" if values else said
    candidates = (whole + day, whole, said + day, said)
    return next(text for text in candidates if len(text) <= _SUMMARY_LENGTH)


# Details


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _criterion_row(found: Assessment, finding: Finding) -> tuple[str, ...]:
    counts = counts_of(found, finding)
    return (
        finding.criterion.title,
        TRUTH_TEXT[finding.truth],
        "; ".join(_count(count) for count in counts) or "not measured",
        ", ".join(dict.fromkeys(_plain(count.when.text[:10]) for count in counts)) or "-",
        _plain(finding.criterion.describe()),
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
        f"{_digits(change):+f} {_plain(analyte.unit)}" if change is not None else "-",
    )


def _now(found: ResponseAssessment, analyte: Analyte) -> Count | None:
    counts = found.current.window.counts if found.current else ()
    return next((count for count in counts if count.analyte is analyte), None)


def _dated(count: Count | None) -> str:
    return f"{_count(count)} ({_plain(count.when.text[:10])})" if count else "not measured"


def _course(found: ResponseAssessment) -> str:
    """Since when: the start, the first response, its loss, and whether it lasted."""
    said = [f"Treatment started {_plain(found.start.text)}."] if found.start else []
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
    texts = list(dict.fromkeys(_plain(_doubt(one, setting.gathered)) for one in warnings))
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


def _said(title: str, text: str) -> str:
    return f"**{title}:** {_plain(text)}" if text else ""


def _count(count: Count) -> str:
    how = {Kind.DERIVED: ", worked out", Kind.BOUND: ", a bound"}.get(count.kind, "")
    return _plain(f"{count.analyte.short} {_figure(count.value)} {count.analyte.unit}{how}")


def _figure(interval: Interval) -> str:
    """A value as a clinician writes it: without zeros that the unit's conversion left."""
    shown = re.sub(r"\d+\.\d+", lambda found: f"{_digits(Decimal(found[0])):f}", text_of(interval))
    return readable(shown)


def _digits(value: Decimal) -> Decimal:
    whole = value.to_integral_value()
    return whole if value == whole else value.normalize()


def _plain(text: str) -> str:
    """Text on one line, none of which a renderer of markdown takes for markup."""
    return _MARKED_UP.sub(r"\\\1", readable(" ".join(text.split())))
