"""A treated patient's course, judged day by day against the baseline."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from itertools import accumulate
from typing import NamedTuple

from app.domain.counts import Analyte, Count, Course, Product, When
from app.domain.dependence import DEPENDENCE_DAYS, transfusion_independence
from app.domain.paper import ResponsePaper
from app.domain.rules import AtBaseline, Known, Rule, Truth, under_policy
from app.domain.timeline import Timeline
from app.domain.transfusions import TransfusionDependent, TransfusionIndependent
from app.domain.window import Window

# Counts older than that before the start are no baseline (ruling 13).
BASELINE_DAYS = 90
# The transfusion-free times that published definitions ask for, in days; 3 months is the longest
# that three calendar months can be (our reading).
INDEPENDENCE_WINDOWS = {
    56: "8 weeks (IWG-2006)",
    84: "12 weeks (IWG-ELN 2024)",
    92: "3 months (Delphi consensus, PMC8215731)",
    112: "16 weeks (IWG-2018)",
}
COUNTED = frozenset(
    {
        Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
        Analyte.PLATELETS,
        Analyte.HEMOGLOBIN,
        Analyte.RETICULOCYTES,
    }
)


class ResponseVerdict(Enum):
    """What a response assessment comes to."""

    COMPLETE = "complete-response"
    RESPONSE = "response"
    INDETERMINATE = "indeterminate"
    NO_RESPONSE = "no-response"
    NOT_EVALUABLE = "not-evaluable"


# The best first.
_ORDER = list(ResponseVerdict)
_OPEN = _ORDER.index(ResponseVerdict.INDETERMINATE)
RESPONDED = {ResponseVerdict.COMPLETE, ResponseVerdict.RESPONSE}


@dataclass(frozen=True, slots=True)
class Moment:
    """The verdict on the counts of one window."""

    day: date
    days_after: int
    """Since the start of treatment."""
    verdict: ResponseVerdict
    window: Window
    known: Known


class OtherWindow(NamedTuple):
    """What a response would come to with another published transfusion-free time."""

    days: int
    verdict: ResponseVerdict
    independence: Truth | None
    """None where the patient did not depend on transfusions."""


class FollowUp:
    """One paper applied to one treated patient's course, as known on the day judged."""

    def __init__(
        self,
        paper: ResponsePaper,
        policy: str | None,
        course: Course,
        start: When | None,
        window_days: int,
        independence_days: int,
    ) -> None:
        self.paper = paper
        self.policy = policy
        self.course = course
        self.start = start
        self.window_days = window_days
        self.independence_days = independence_days
        self.response = self.read(paper.response)
        self.complete = self.read(paper.complete) if paper.complete else None

    def read(self, rule: Rule) -> Rule:
        """The rule under the red-cell policy asked for."""
        return under_policy(rule, self.policy) if self.policy else rule

    def baseline(self) -> Window | None:
        """The newest counts of one window at or before the start, if there are any near it."""
        if self.start is None:
            return None
        start = self.start
        everything = (*self.course.counts, *self.course.derived)
        before = [
            c
            for c in everything
            if not c.when.after(start) and (start.precise or c.when.last <= start.first)
        ]
        told = self.course._replace(
            transfusions=tuple(
                t for t in self.course.transfusions if not t.when.begins_after(start)
            ),
            drugs=tuple(d for d in self.course.drugs if not d.when.begins_after(start)),
        )
        timeline = self._timeline(told, before)
        near = (d for d in reversed(timeline.days()) if (start.first - d).days <= BASELINE_DAYS)
        return next((window for day in near if (window := timeline.judged_on(day))), None)

    def moments(self, baseline: Window) -> list[Moment]:
        """An assessment for each day after the start of which a count is judged, in order."""
        start = self.start
        assert start is not None  # noqa: S101 a baseline has a start
        later = [
            c
            for c in (*self.course.counts, *self.course.derived)
            if c.when.after(start) and c.when.first >= start.last
        ]
        timeline = self._timeline(self.course, later, self.independence_days)
        moments = []
        for day in timeline.days():
            if window := timeline.judged_on(day):
                known = window.known._replace(baseline=baseline.known)
                days_after = (day - start.first).days
                moments.append(Moment(day, days_after, self._verdict(known), window, known))
        return self._confirmed(moments)

    def _verdict(self, known: Known) -> ResponseVerdict:
        if self.complete and self.complete.check(known) is Truth.MET:
            return ResponseVerdict.COMPLETE
        return {
            Truth.MET: ResponseVerdict.RESPONSE,
            Truth.NOT_MET: ResponseVerdict.NO_RESPONSE,
            Truth.UNKNOWN: ResponseVerdict.INDETERMINATE,
        }[self.response.check(known)]

    def _confirmed(self, moments: list[Moment]) -> list[Moment]:
        """Each response only as good as another assessment far enough from it confirms."""
        apart = self.paper.confirmed_after_days
        if not apart:
            return moments
        days = [m.days_after for m in moments]
        ranks = [_ORDER.index(m.verdict) for m in moments]
        # The best of the first k assessments, and of those from the k-th; at least open.
        before = list(accumulate(ranks, min, initial=_OPEN))
        after = list(accumulate(reversed(ranks), min, initial=_OPEN))[::-1]
        confirmed = []
        for moment, day, rank in zip(moments, days, ranks, strict=True):
            others = before[bisect_right(days, day - apart)], after[bisect_left(days, day + apart)]
            confirmed.append(replace(moment, verdict=_ORDER[max(rank, min(others))]))
        return confirmed

    def _timeline(
        self, course: Course, counts: Iterable[Count], independence_days: int = DEPENDENCE_DAYS
    ) -> Timeline:
        reach = max(DEPENDENCE_DAYS, independence_days, *INDEPENDENCE_WINDOWS)
        return Timeline(course, counts, COUNTED, self.window_days, reach, independence_days)

    def other_windows(self, judged: Moment | None, moments: list[Moment]) -> Iterator[OtherWindow]:
        """The published transfusion-free times under which the answer would be another."""
        if judged is None or not (self.course.transfusions or self.course.no_transfusions):
            return
        if not self.paper.confirmed_after_days:
            moments = self.in_time(moments)
        timeline = self._timeline(self.course, ())
        courses = [(m, timeline.between(m.window.last_day, m.window.last_day)) for m in moments]
        answer = judged.verdict, independence_of(judged.known)
        for days in INDEPENDENCE_WINDOWS:
            again = self._confirmed([self._with_window(m, course, days) for m, course in courses])
            best = best_of(self.in_time(again))
            if best and (best.verdict, independence_of(best.known)) != answer:
                yield OtherWindow(days, best.verdict, independence_of(best.known))

    def _with_window(self, moment: Moment, course: Course, days: int) -> Moment:
        independent = transfusion_independence(course, moment.window.last_day, days)
        known = moment.known._replace(transfusion_independent=independent)
        return replace(moment, known=known, verdict=self._verdict(known))

    def obstacle(self, baseline: Window | None) -> str:
        """What is wrong with the baseline; empty when it can be judged against."""
        if self.start is None:
            return (
                "No start of treatment: send 'treatmentStart', or the MedicationAdministration "
                "of daclizumab."
            )
        if baseline is None or not baseline.counts:
            return (
                f"No counts in the {BASELINE_DAYS} days up to the start of treatment "
                f"({self.start.text}): there is no baseline."
            )
        if self.paper.entry is not None:
            entry = self.read(self.paper.entry).check(baseline.known)
            if entry is Truth.NOT_MET:
                return "The baseline does not meet the definition's entry criteria."
            if entry is Truth.UNKNOWN:
                return (
                    "It is not known whether the baseline meets the entry criteria: "
                    "ask $assess-eligibility as of the start of treatment what is missing."
                )
        return ""

    def in_time(self, moments: Iterable[Moment]) -> list[Moment]:
        """The assessments of the days in which the paper seeks its verdict."""
        return between(moments, *self.paper.days)

    def nothing_in_time(self) -> str:
        """That there is no such assessment, in words."""
        first, last = self.paper.days
        died = self.course.died
        death = f" The patient died ({died.text})." if died else ""
        return f"No counts from day {first} to day {last} after the start.{death}"


def best_of(moments: Sequence[Moment]) -> Moment | None:
    """The best of the verdicts; of equal ones the earliest."""
    return min(moments, key=lambda m: (_ORDER.index(m.verdict), m.day), default=None)


def between(moments: Iterable[Moment], first: int, last: int) -> list[Moment]:
    """Those of so many days after the start, both ends included."""
    return [m for m in moments if first <= m.days_after <= last]


def nearest(moments: Iterable[Moment], first: int, about: int, last: int) -> Moment | None:
    """Of those between the first and the last day, the one nearest to the day about which."""
    inside = between(moments, first, last)
    return min(inside, key=lambda m: abs(m.days_after - about), default=None)


def independence_of(known: Known) -> Truth | None:
    """Whether a dependent patient became independent; None for one who was not dependent."""
    depended = {
        product: AtBaseline(TransfusionDependent(product)).check(known)
        for product in (Product.RED_CELLS, Product.PLATELETS)
    }
    gained = {
        TransfusionIndependent(product).check(known)
        for product, before in depended.items()
        if before is Truth.MET
    }
    for truth in (Truth.MET, Truth.UNKNOWN, Truth.NOT_MET):
        if truth in gained:
            return truth
    return Truth.UNKNOWN if Truth.UNKNOWN in depended.values() else None
