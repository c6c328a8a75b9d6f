"""What is said beside a response: of the baseline, of what was not seen, of what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from app.domain.choosing import places
from app.domain.counts import Analyte, Count, Course, DrugGiven, Remark, Severity
from app.domain.exposure import COURSE_GAP_DAYS
from app.domain.moments import FollowUp, Moment, ResponseVerdict
from app.domain.recovery import Recovered, above_normal
from app.domain.remarks import contradictions, of_the_person
from app.domain.rules import AtBaseline, Truth
from app.domain.severity import (
    SEVERE_RETICULOCYTES,
    in_dispute,
    severe_limit_text,
    with_severe_limit,
)
from app.domain.transfusions import TransfusionDependent
from app.domain.window import Window

# Counts older than that before the start are doubtful as a baseline (ruling 13).
OLD_BASELINE_DAYS = 30


def response_remarks(
    follow_up: FollowUp,
    windows: list[Window],
    counts: tuple[Count, ...],
    whole: Course,
    doses: Sequence[DrugGiven],
    judged: Moment | None,
) -> Iterator[Remark]:
    """What is to be said of the windows and counts that a response rests on.

    `whole` is the course as it was sent, also what is later than the day judged.
    """
    yield from dict.fromkeys(remark for window in windows for remark in window.remarks)
    if windows:
        yield from _of_the_baseline(follow_up, windows[0])
        yield from _severe_limits(follow_up, windows[0], judged)
    if judged:
        yield from contradictions(follow_up.response, judged.known, judged.window)
        yield from _not_seen(follow_up, judged)
        yield from _above_normal(judged)
    if windows and follow_up.paper.entry:
        yield from contradictions(follow_up.paper.entry, windows[0].known, windows[0])
    yield from _several_courses(follow_up, doses)
    used = {s.place for c in counts for s in c.sources}
    sent = (s.place for c in whole.counts for s in c.sources)
    rest = tuple(dict.fromkeys(p for p in sent if p not in used))
    if rest:
        yield Remark(
            "not-judged",
            Severity.INFORMATION,
            "Not needed for the verdict: outside the times judged, later than the day "
            "judged, or another result of the same days was judged.",
            rest,
        )


def _several_courses(follow_up: FollowUp, doses: Sequence[DrugGiven]) -> Iterator[Remark]:
    days = sorted(d.when.first for d in doses)
    gaps = [b for a, b in pairwise(days) if (b - a).days > COURSE_GAP_DAYS]
    if gaps:
        yield Remark(
            "several-courses",
            Severity.WARNING,
            f"More than one course of treatment (again from {gaps[0]}): judged from "
            f"{follow_up.start.text if follow_up.start else ''}. To judge another one, send its "
            "'treatmentStart'.",
            tuple(d.source.place for d in doses if d.when.first >= gaps[0]),
        )


def _of_the_baseline(follow_up: FollowUp, baseline: Window) -> Iterator[Remark]:
    assert follow_up.start is not None  # noqa: S101 a baseline has a start
    if (follow_up.start.first - baseline.last_day).days > OLD_BASELINE_DAYS:
        text = (
            f"The baseline is more than {OLD_BASELINE_DAYS} days before the start of treatment "
            f"({follow_up.start.text}): the counts may have changed by then."
        )
        yield Remark("old-baseline", Severity.WARNING, text, places(baseline.counts))
    least = follow_up.paper.least_age_years
    yield from of_the_person(follow_up.course, follow_up.start, least, baseline.counts)


def _severe_limits(
    follow_up: FollowUp, baseline: Window, judged: Moment | None
) -> Iterator[Remark]:
    """Where another published limit of severe disease would change entry or verdict."""
    said = []
    entry = follow_up.read(follow_up.paper.entry) if follow_up.paper.entry else None
    for number in SEVERE_RETICULOCYTES:
        limit = severe_limit_text(number)
        if entry and in_dispute(entry):
            truth = with_severe_limit(entry, number).check(baseline.known)
            if truth is not entry.check(baseline.known):
                said.append(f"{limit}, entry by the baseline {truth.value}")
        if judged and in_dispute(follow_up.response):
            response = with_severe_limit(follow_up.response, number).check(judged.known)
            if response is not follow_up.response.check(judged.known):
                said.append(f"{limit}, response on {judged.day} {response.value}")
    if said:
        yield Remark(
            "severe-limit-disputed",
            Severity.INFORMATION,
            "The limit of reticulocytes for severe disease is in dispute, and the answer hangs "
            f"on it. With another published one (x10⁹/L): {'; '.join(said)}.",
            (),
        )


def _not_seen(follow_up: FollowUp, judged: Moment) -> Iterator[Remark]:
    """Independence that may have been gained, and could not have been seen (ruling 14)."""
    if judged.verdict is not ResponseVerdict.NO_RESPONSE:
        return
    rules = (follow_up.read(one.responded.rule) for one in follow_up.paper.lineages)
    products = {rule.product for rule in rules if isinstance(rule, Recovered) and rule.product}
    for product in sorted(products, key=lambda p: p.value):
        dependent = AtBaseline(TransfusionDependent(product)).check(judged.known)
        if dependent is Truth.UNKNOWN:
            text = (
                f"No response by counts. Whether the patient depended on {product.value} "
                "transfusions before treatment is not known: independence gained could not "
                "have been seen. Send the transfusions, or 'transfusionHistory'."
            )
            yield Remark(
                "transfusion-history-unknown",
                Severity.WARNING,
                text,
                places(judged.window.counts),
            )


def _above_normal(judged: Moment) -> Iterator[Remark]:
    """Counts that are not low, and yet not within the normal range (section 4)."""
    for analyte, counts in judged.known.counts.items():
        above = [count for count in counts if above_normal(count, judged.known)]
        if above and analyte is not Analyte.RETICULOCYTES:
            text = f"{analyte.title} above the upper limit of normal: recovered, since not low."
            yield Remark("above-normal", Severity.INFORMATION, text, places(above))
