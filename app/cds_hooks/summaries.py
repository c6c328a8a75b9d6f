"""A card's one line: the verdict, and the counts that decided, as long as they fit."""

from __future__ import annotations

from collections.abc import Iterable

from app.cds_hooks.markdown import figure
from app.domain.assessment import Assessment
from app.domain.counts import Analyte, Count
from app.domain.judgement import Verdict
from app.domain.moments import ResponseVerdict
from app.domain.paper import Paper, ResponsePaper
from app.domain.response import ResponseAssessment
from app.domain.rules import Truth
from app.writing.chart import named
from app.writing.narrative import counts_of

_SUMMARY_LENGTH = 139
_CHART_LENGTH = 50
_RESPONSES = {
    ResponseVerdict.COMPLETE: "Complete response by the {short} criteria",
    ResponseVerdict.RESPONSE: "Response by the {short} criteria",
    ResponseVerdict.INDETERMINATE: "Response by the {short} criteria is open",
    ResponseVerdict.NO_RESPONSE: "No response by the {short} criteria",
    ResponseVerdict.NOT_EVALUABLE: "Response by the {short} criteria cannot be judged",
}


def eligibility_summary(found: Assessment, severe: bool) -> str:
    """What an eligibility assessment comes to, with the counts that decided."""
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
        said += f"; chart: {cut(named(recorded))}"
    day = f" ({found.as_of.last})" if found.as_of else ""
    return _fitting(said, deciding, day)


def cut(text: str) -> str:
    """So much of a text as leaves room for the verdict."""
    return text if len(text) <= _CHART_LENGTH else f"{text[: _CHART_LENGTH - 1]}\u2026"


def _named_in_short(paper: Paper | ResponsePaper) -> str:
    return paper.short or paper.title


def response_summary(found: ResponseAssessment) -> str:
    """What a response assessment comes to, with how the counts changed."""
    said = _RESPONSES[found.verdict].format(short=_named_in_short(found.paper))
    changes = [
        f"{report.lineage.analyte.short} {figure(report.before.value)} to "
        f"{figure(report.after.value)}"
        for report in found.lineages
        if report.affected is not Truth.NOT_MET and report.before and report.after
    ]
    day = f" (day {found.judged.days_after}, {found.judged.day})" if found.judged else ""
    return _shortest_first_dropped(said, ", ".join(changes), day)


def _fitting(said: str, counts: Iterable[Count], day: str) -> str:
    told: dict[Analyte, list[str]] = {}
    for count in counts:
        told.setdefault(count.analyte, []).append(figure(count.value))
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
