"""An assessment as XHTML that a clinician can read alone."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from html import escape
from typing import NamedTuple

from app.domain.assessment import Assessment
from app.domain.chart import LookedFor
from app.domain.counts import Analyte, Count, Interval, Kind, Patient
from app.domain.judgement import Finding, Judgement, Verdict
from app.domain.paper import analytes_of
from app.domain.rules import Criterion, Truth
from app.domain.sustained import time_of
from app.writing.chart import chart_words
from app.writing.words import readable

AID = "Research criteria, applied to blood counts: a decision aid, not a diagnosis."
UNVERIFIED = "Unverified: the wording of this definition was not seen in its source."
BETWEEN = "What lies between two assessments is not known."
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HOW = {
    Kind.MEASURED: "",
    Kind.DERIVED: ", worked out",
    Kind.BOUND: ", a bound from other results",
}
TRUTH_TEXT: dict[Truth | None, str] = {
    Truth.MET: "met",
    Truth.NOT_MET: "not met",
    Truth.UNKNOWN: "unknown",
    None: "-",
}
"""None: a definition does not ask."""


def text_of(interval: Interval) -> str:
    """A value, or an interval, in figures."""
    low, high, low_included, high_included = interval
    if low is None and high is None:
        return "not known"
    if low is None:
        return f"{'<=' if high_included else '<'} {high:f}"
    if high is None:
        return f"{'>=' if low_included else '>'} {low:f}"
    if low != high:
        return f"{low:f} to {high:f}"
    return f"{low:f}"


def headline(judgement: Judgement) -> str:
    """The verdict in one sentence."""
    finding = judgement.paper.finding
    if judgement.exclusion is Truth.NOT_MET:
        by_counts = headline(replace(judgement, verdict=judgement.by_counts, exclusion=None))
        return f"Not eligible: excluded by what is recorded. {by_counts}"
    if judgement.verdict is Verdict.ELIGIBLE:
        return f"The counts meet the definition of {finding}."
    if judgement.verdict is Verdict.INDETERMINATE:
        return f"It is not known whether the counts meet the definition of {finding}."
    return f"The counts do not meet the definition of {finding}" + (
        ": severe by counts." if judgement.severe else "."
    )


def missing(judgement: Judgement) -> str:
    """What would settle an open verdict; empty when it is settled."""
    needs = [analyte.title for analyte in judgement.needs]
    if judgement.needs_transfusion_history:
        needs.append("the transfusions of the last 8 weeks")
    if judgement.needs_days_apart:
        needs[-1] += f", on days at least {time_of(judgement.needs_days_apart)} apart"
    return f"To settle it: {', '.join(needs)}." if needs else ""


def counts_of(assessment: Assessment, finding: Finding) -> tuple[Count, ...]:
    """The counts a criterion was judged on."""
    asked = analytes_of(finding.criterion)
    return tuple([count for count in assessment.counts if count.analyte in asked])


class _Frame(NamedTuple):
    """A narrative but for its patient, counts and day."""

    opening: str
    after_patient: str
    after_day: str
    rows: tuple[tuple[frozenset[Analyte], str, str], ...]
    """Each criterion's analytes, and what stands before and after its counts."""
    after_rows: str
    closing: str


def narrative(assessment: Assessment, notes: tuple[str, ...]) -> str:
    """The assessment as an XHTML div: verdict, criteria with their counts, what counts omit."""
    frame = _frame(assessment.judgement, notes)
    told = [(count.analyte, _count(count)) for count in assessment.counts]
    sources = "; ".join([_sources(count) for count in assessment.counts])
    results = f"<p>Results: {sources}.</p>" if sources else ""
    rows = [
        f"{before}{'; '.join([t for a, t in told if a in asked]) or 'no count'}{after}"
        for asked, before, after in frame.rows
    ]
    day = f" Judged on {assessment.as_of.last}." if assessment.as_of else ""
    chart = f" Chart: {xhtml_text(chart_words(assessment.causes))}."
    if assessment.causes.answer is LookedFor.RECORDED:
        chart = f"<b>{chart}</b>"
    return (
        f"{frame.opening}{as_xhtml(named(assessment.patient))}{frame.after_patient}{chart}{day} "
        f"{frame.after_day}{''.join(rows)}{frame.after_rows}{results}{frame.closing}"
    )


@lru_cache(maxsize=1024)
def _frame(judgement: Judgement, notes: tuple[str, ...]) -> _Frame:
    paragraphs = "".join(f"<p>{as_xhtml(note)}</p>" for note in notes)
    return _Frame(
        f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{as_xhtml(judgement.paper.title)}: ',
        f"<br/><b>{as_xhtml(headline(judgement))}</b>",
        f"{as_xhtml(missing(judgement))}</p>"
        "<table><thead><tr><th>Criterion</th><th>Answer</th><th>Counts</th><th>Limit</th>"
        "<th>The paper's words</th></tr></thead><tbody>",
        tuple(
            (
                analytes_of(finding.criterion),
                f"<tr><td>{as_xhtml(finding.criterion.title)}</td>"
                f"<td>{TRUTH_TEXT[finding.truth]}</td><td>",
                f"</td>{rule_cells(finding.criterion)}</tr>",
            )
            for finding in judgement.findings
        ),
        "</tbody></table>",
        f"<p>{as_xhtml(judgement.paper.citation.text)}</p>{paragraphs}</div>",
    )


@lru_cache(maxsize=256)
def rule_text(criterion: Criterion) -> str:
    """The criterion's rule in words and numbers."""
    return criterion.describe()


@lru_cache(maxsize=256)
def rule_cells(criterion: Criterion) -> str:
    """The last two cells of a criterion's row: the rule, and the paper's words."""
    return (
        f"<td>{as_xhtml(rule_text(criterion))}</td>"
        f"<td>{as_xhtml(criterion.wording)} ({as_xhtml(criterion.source)})</td>"
    )


def _count(count: Count) -> str:
    analyte = count.analyte
    return as_xhtml(
        f"{analyte.short} {text_of(count.value)} {analyte.unit} "
        f"of {count.when.text}{_HOW[count.kind]}"
    )


def _sources(count: Count) -> str:
    """Where a count comes from: what the caller knows it by, else its place."""
    where = ", ".join([source.reference or source.place for source in count.sources])
    return xhtml_text(f"{count.analyte.short} of {count.when.text}: {where}")


def named(patient: Patient) -> str:
    """How a text names a patient."""
    return patient.reference or patient.value


def as_xhtml(text: str) -> str:
    """Our own words for a place in XHTML, as they are printed."""
    return xhtml_text(readable(text))


def xhtml_text(text: str) -> str:
    """Text for a place in XHTML, whatever it holds."""
    if not text.isprintable():
        text = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
    return escape(text)
