"""Whether a treated patient responded, by a published definition: pure, over one Course."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import Enum
from itertools import accumulate, pairwise
from typing import NamedTuple

from app.domain.assessment import Citation, contradictions, of_the_person
from app.domain.counts import (
    EXACT,
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Patient,
    Product,
    Remark,
    Severity,
    Source,
    When,
)
from app.domain.dependence import DEPENDENCE_DAYS, transfusion_independence
from app.domain.effort import spend
from app.domain.recovery import Recovered, above_normal
from app.domain.rules import AtBaseline, Criterion, Known, OfOneAnalyte, Rule, Truth, under_policy
from app.domain.severity import (
    SEVERE_RETICULOCYTES,
    in_dispute,
    severe_limit_text,
    with_severe_limit,
)
from app.domain.timeline import LAST_DAY, Timeline
from app.domain.transfusions import TransfusionDependent, TransfusionIndependent
from app.domain.window import Window, places

# Our own reading of "3 months" and "6 months", in days after the start of treatment.
ABOUT_3_MONTHS = (60, 90, 120)
ABOUT_6_MONTHS = (150, 180, 210)
TWO_YEARS_DAYS = 730
# Counts older than these before the start are doubtful as a baseline, and none (ruling 13).
OLD_BASELINE_DAYS = 30
BASELINE_DAYS = 90
# The transfusion-free times that published definitions ask for, in days; 3 months is the longest
# that three calendar months can be (our reading).
INDEPENDENCE_WINDOWS = {
    56: "8 weeks (IWG-2006)",
    84: "12 weeks (IWG-ELN 2024)",
    92: "3 months (Delphi consensus, PMC8215731)",
    112: "16 weeks (IWG-2018)",
}
# Doses further apart than this belong to two courses of treatment.
COURSE_GAP_DAYS = 90
# To judge one patient, whatever the counts.
_STEPS = 150
_COUNTED = frozenset(
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

_END_POINT = {
    ResponseVerdict.COMPLETE: Truth.MET,
    ResponseVerdict.RESPONSE: Truth.MET,
    ResponseVerdict.NO_RESPONSE: Truth.NOT_MET,
}


@dataclass(frozen=True, slots=True)
class Lineage:
    """One blood count of a definition: when it was affected, and when it responded."""

    analyte: Analyte
    affected: Rule | None
    """Over the baseline; None where the definition judges every patient in it."""
    responded: Criterion


@dataclass(frozen=True, eq=False)
class ResponsePaper:
    """A published definition of response."""

    id: str
    version: str
    title: str
    citation: Citation
    response: Criterion
    complete: Criterion | None = None
    lineages: tuple[Lineage, ...] = ()
    """Empty where the definition judges the counts together only."""
    entry: Rule | None = None
    """What the baseline must meet, or the patient is not evaluable."""
    relapse: Criterion | None = None
    days: tuple[int, int] = (60, 183)
    """The days after the start in which the verdict is sought, ends included."""
    confirmed_after_days: int = 0
    """A response counts only when counts so many days apart agree."""
    also_requires: tuple[str, ...] = ()
    verified: bool = True
    red_cell_policies: tuple[str, ...] = ()
    least_age_years: int | None = None
    """Whoever was known to be younger at the start was not meant."""
    independence_days: int = DEPENDENCE_DAYS
    """Without a transfusion for so long, a patient is independent (IWG-2006)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The verdict on the counts of one window."""

    day: date
    days_after: int
    """Since the start of treatment."""
    verdict: ResponseVerdict
    window: Window
    known: Known


@dataclass(frozen=True, slots=True)
class LineageReport:
    """One lineage before and after treatment, and why it counts as it does."""

    lineage: Lineage
    affected: Truth | None
    """None where the definition does not ask."""
    truth: Truth | None
    """None: not applicable, the lineage was not affected."""
    before: Count | None
    after: Count | None
    change: Decimal | None
    fold: Decimal | None
    """Rounded to hundredths."""
    why: str


@dataclass(frozen=True, slots=True)
class Exposure:
    """The protocol's drug as it was given; information only."""

    doses: int
    first: When
    last: When
    interval_days: tuple[int, ...]
    mg_per_kg: tuple[Decimal, ...]


class OtherWindow(NamedTuple):
    """What a response would come to with another published transfusion-free time."""

    days: int
    verdict: ResponseVerdict
    independence: Truth | None
    """None where the patient did not depend on transfusions."""


@dataclass(frozen=True, slots=True)
class ResponseAssessment:
    """A definition's verdict on one treated patient, with everything it rests on."""

    paper: ResponsePaper
    policy: str | None
    patient: Patient
    verdict: ResponseVerdict
    reason: str
    as_of: When | None
    start: When | None
    baseline: Window | None
    judged: Moment | None
    """The assessment that gave the verdict."""
    at_3_months: Moment | None
    at_6_months: Moment | None
    current: Moment | None
    best: Moment | None
    lineages: tuple[LineageReport, ...]
    independence: Truth | None
    """None where the patient did not depend on transfusions."""
    independence_days: int
    """The transfusion-free time asked for."""
    other_windows: tuple[OtherWindow, ...]
    """Other published ones under which the verdict, or the independence, would be another."""
    response: Truth
    complete: Truth | None
    """None where the definition has none."""
    kept_two_years: Truth | None
    relapse: Truth | None
    first_response: Moment | None
    first_loss: Moment | None
    exposure: Exposure | None
    counts: tuple[Count, ...]
    supporting: tuple[Source, ...]
    needs: tuple[Analyte, ...]
    """The counts that would settle an open verdict."""
    needs_transfusions: tuple[Product, ...]
    """The transfusions that would."""
    unconfirmed: bool
    """Whether only the confirmation of a response is missing."""
    remarks: tuple[Remark, ...]


def assess_response(
    paper: ResponsePaper,
    course: Course,
    start: When | None = None,
    as_of: When | None = None,
    window_days: int = 30,
    policy: str | None = None,
    independence_days: int | None = None,
) -> ResponseAssessment:
    """Whether the patient responded by the paper's definition.

    `start` is the start of treatment; by default the earliest daclizumab given. The baseline is
    the newest counts of one window at or before it, the verdict the best of the assessments in
    the paper's days after it; nothing later than `as_of` is looked at. Whoever had no transfusion
    for `independence_days` (default: the paper's) is independent.
    """
    if policy not in paper.red_cell_policies:
        policy = paper.red_cell_policies[0] if paper.red_cell_policies else None
    spend(_STEPS)
    told = _as_known(course, as_of)
    doses = [d for d in told.drugs if d.drug is Drug.DACLIZUMAB]
    by_drug = start is None
    if start is None and doses:
        start = min((d.began or d.when for d in doses), key=lambda w: (w.first, w.last, w.text))
    days = independence_days or paper.independence_days
    judge = _Judge(paper, policy, told, start, window_days, days)
    return judge.assessment(as_of, doses, by_drug, course)


def _as_known(course: Course, as_of: When | None) -> Course:
    if as_of is None:
        return course
    return course._replace(
        counts=tuple(c for c in course.counts if not c.when.after(as_of)),
        derived=tuple(c for c in course.derived if not c.when.after(as_of)),
        transfusions=tuple(t for t in course.transfusions if not t.when.begins_after(as_of)),
        drugs=tuple(d for d in course.drugs if not d.when.begins_after(as_of)),
    )


class _Judge:
    """One paper applied to one course."""

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

    def assessment(
        self, as_of: When | None, doses: Sequence[DrugGiven], by_drug: bool, whole: Course
    ) -> ResponseAssessment:
        baseline = self._baseline()
        moments = self._moments(baseline) if baseline else []
        reason = self._obstacle(baseline)
        if reason:
            moments = []
        judged = _best(_between(moments, *self.paper.days))
        if not reason and judged is None:
            reason = self._nothing_in_time()
        start_sources = [d.source for d in doses] if by_drug else []
        verdict = judged.verdict if judged else ResponseVerdict.NOT_EVALUABLE
        first = next((m for m in moments if m.verdict in RESPONDED), None)
        loss = first and next(
            (m for m in moments if m.day > first.day and m.verdict is ResponseVerdict.NO_RESPONSE),
            None,
        )
        kept, kept_by = self._kept(moments)
        three = _nearest(moments, *ABOUT_3_MONTHS)
        six = _nearest(moments, *ABOUT_6_MONTHS)
        current = moments[-1] if moments else None
        best = _best(moments)
        shown = [m for m in (judged, three, six, current, best, first, loss) if m]
        used = _between(moments, *self.paper.days) + shown + kept_by
        windows = ([baseline] if baseline else []) + [m.window for m in used]
        counts = tuple(dict.fromkeys(c for window in windows for c in window.counts))
        supporting = [s for t in windows for s in (*t.confounders, *t.dependence_sources)]
        supporting += (s for t in windows for count in t.excluded for s in count.sources)
        known = judged.known if judged else None
        needs, needs_transfusions, unconfirmed = self._needs(judged)
        return ResponseAssessment(
            paper=self.paper,
            policy=self.policy,
            patient=self.course.patient,
            verdict=verdict,
            reason=reason,
            as_of=as_of or _last_day(self.course),
            start=self.start,
            baseline=baseline,
            judged=judged,
            at_3_months=three,
            at_6_months=six,
            current=current,
            best=best,
            lineages=tuple(self._lineage(one, baseline, judged) for one in self.paper.lineages),
            independence=_independence(known) if known else Truth.UNKNOWN,
            independence_days=self.independence_days,
            other_windows=tuple(self._other_windows(judged, moments)),
            response=_END_POINT.get(verdict, Truth.UNKNOWN),
            complete=self._complete(known),
            kept_two_years=kept,
            relapse=self._relapse(first, moments),
            first_response=first,
            first_loss=loss,
            exposure=_exposure(doses, self.course.weights),
            counts=counts,
            supporting=tuple(dict.fromkeys([*supporting, *start_sources])),
            needs=needs,
            needs_transfusions=needs_transfusions,
            unconfirmed=unconfirmed,
            remarks=tuple(self._remarks(windows, counts, whole, doses, judged)),
        )

    def _complete(self, known: Known | None) -> Truth | None:
        if self.complete is None:
            return None
        return self.complete.check(known) if known else Truth.UNKNOWN

    def _needs(
        self, judged: Moment | None
    ) -> tuple[tuple[Analyte, ...], tuple[Product, ...], bool]:
        """What would settle an open verdict: counts, transfusions, or a confirmation alone."""
        if judged is None or judged.verdict is not ResponseVerdict.INDETERMINATE:
            return (), (), False
        known = judged.known
        if self.response.check(known) is Truth.MET:
            return tuple(one.analyte for one in self.paper.lineages), (), True
        needs: dict[Analyte, None] = {}
        transfusions: dict[Product, None] = {}
        for leaf in self.response.undecided(known):
            if isinstance(leaf, OfOneAnalyte):
                counts = known.counts.get(leaf.analyte, ())
                if all(count.value.exact is None for count in counts):
                    needs[leaf.analyte] = None
            transfusions |= dict.fromkeys(leaf.transfusions_asked(known))
        return tuple(needs), tuple(transfusions), False

    def _baseline(self) -> Window | None:
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
        return next((window for day in near if _newest_of(window := timeline.at(day)) == day), None)

    def _timeline(
        self, course: Course, counts: Iterable[Count], independence_days: int = DEPENDENCE_DAYS
    ) -> Timeline:
        reach = max(DEPENDENCE_DAYS, independence_days, *INDEPENDENCE_WINDOWS)
        return Timeline(course, counts, _COUNTED, self.window_days, reach, independence_days)

    def _moments(self, baseline: Window) -> list[Moment]:
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
            window = timeline.at(day)
            if _newest_of(window) == day:
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

    def _other_windows(self, judged: Moment | None, moments: list[Moment]) -> Iterator[OtherWindow]:
        """The published transfusion-free times under which the answer would be another."""
        if judged is None or not (self.course.transfusions or self.course.no_transfusions):
            return
        if not self.paper.confirmed_after_days:
            moments = _between(moments, *self.paper.days)
        timeline = self._timeline(self.course, ())
        courses = [(m, timeline.between(m.window.last_day, m.window.last_day)) for m in moments]
        answer = judged.verdict, _independence(judged.known)
        for days in INDEPENDENCE_WINDOWS:
            again = self._confirmed([self._with_window(m, course, days) for m, course in courses])
            best = _best(_between(again, *self.paper.days))
            if best and (best.verdict, _independence(best.known)) != answer:
                yield OtherWindow(days, best.verdict, _independence(best.known))

    def _with_window(self, moment: Moment, course: Course, days: int) -> Moment:
        independent = transfusion_independence(course, moment.window.last_day, days)
        known = moment.known._replace(transfusion_independent=independent)
        return replace(moment, known=known, verdict=self._verdict(known))

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

    def _obstacle(self, baseline: Window | None) -> str:
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

    def _nothing_in_time(self) -> str:
        first, last = self.paper.days
        died = self.course.died
        death = f" The patient died ({died.text})." if died else ""
        return f"No counts from day {first} to day {last} after the start.{death}"

    def _kept(self, moments: list[Moment]) -> tuple[Truth | None, list[Moment]]:
        """Whether the response lasted two years, and the assessments that tell."""
        in_time = _between(moments, *self.paper.days)
        first = next((m for m in in_time if m.verdict in RESPONDED), None)
        if first is None:
            return None, []
        later = [m for m in moments if m.day > first.day]
        end = next(
            (
                m
                for m in later
                if m.days_after >= first.days_after + TWO_YEARS_DAYS and m.verdict in RESPONDED
            ),
            None,
        )
        between = [m for m in later if end is None or m.day <= end.day]
        if any(m.verdict is ResponseVerdict.NO_RESPONSE for m in between):
            return Truth.NOT_MET, between
        kept = end is not None and all(m.verdict in RESPONDED for m in between)
        return (Truth.MET if kept else Truth.UNKNOWN), between

    def _relapse(self, first: Moment | None, moments: list[Moment]) -> Truth | None:
        if self.paper.relapse is None or first is None:
            return None
        truths = {self.paper.relapse.check(m.known) for m in moments if m.day > first.day}
        if Truth.MET in truths:
            return Truth.MET
        return Truth.NOT_MET if truths == {Truth.NOT_MET} else Truth.UNKNOWN

    def _lineage(
        self, lineage: Lineage, baseline: Window | None, judged: Moment | None
    ) -> LineageReport:
        if baseline is None or judged is None:
            nothing = (None, None, None, None)
            return LineageReport(lineage, None, Truth.UNKNOWN, *nothing, "not evaluable")
        affected = self.read(lineage.affected).check(baseline.known) if lineage.affected else None
        if affected is Truth.NOT_MET:
            truth = None
        else:
            truth = self.read(lineage.responded).check(judged.known)
            if affected is Truth.UNKNOWN and truth is Truth.MET:
                truth = Truth.UNKNOWN
        analyte = lineage.analyte
        change, fold = change_between(
            baseline.known.counts.get(analyte, ()), judged.known.counts.get(analyte, ())
        )
        return LineageReport(
            lineage,
            affected,
            truth,
            _as_reported(baseline, analyte),
            _as_reported(judged.window, analyte),
            change,
            fold,
            _why(lineage, affected, truth, judged.window),
        )

    def _severe_limits(self, baseline: Window, judged: Moment | None) -> Iterator[Remark]:
        """Where another published limit of severe disease would change entry or verdict."""
        said = []
        entry = self.read(self.paper.entry) if self.paper.entry else None
        for number in SEVERE_RETICULOCYTES:
            limit = severe_limit_text(number)
            if entry and in_dispute(entry):
                truth = with_severe_limit(entry, number).check(baseline.known)
                if truth is not entry.check(baseline.known):
                    said.append(f"{limit}, entry by the baseline {truth.value}")
            if judged and in_dispute(self.response):
                response = with_severe_limit(self.response, number).check(judged.known)
                if response is not self.response.check(judged.known):
                    said.append(f"{limit}, response on {judged.day} {response.value}")
        if said:
            yield Remark(
                "severe-limit-disputed",
                Severity.INFORMATION,
                "The limit of reticulocytes for severe disease is in dispute, and the answer hangs "
                f"on it. With another published one (10*9/L): {'; '.join(said)}.",
                (),
            )

    def _remarks(
        self,
        windows: list[Window],
        counts: tuple[Count, ...],
        whole: Course,
        doses: Sequence[DrugGiven],
        judged: Moment | None,
    ) -> Iterator[Remark]:
        yield from dict.fromkeys(remark for window in windows for remark in window.remarks)
        if windows:
            yield from self._of_the_baseline(windows[0])
            yield from self._severe_limits(windows[0], judged)
        if judged:
            yield from contradictions(self.response, judged.known, judged.window)
            yield from self._not_seen(judged)
            yield from _above_normal(judged)
        if windows and self.paper.entry:
            yield from contradictions(self.paper.entry, windows[0].known, windows[0])
        days = sorted(d.when.first for d in doses)
        gaps = [b for a, b in pairwise(days) if (b - a).days > COURSE_GAP_DAYS]
        if gaps:
            yield Remark(
                "several-courses",
                Severity.WARNING,
                f"More than one course of treatment (again from {gaps[0]}): judged from "
                f"{self.start.text if self.start else ''}. To judge another one, send its "
                "'treatmentStart'.",
                tuple(d.source.place for d in doses if d.when.first >= gaps[0]),
            )
        used = {s.place for c in counts for s in c.sources}
        places = (s.place for c in whole.counts for s in c.sources)
        rest = tuple(dict.fromkeys(p for p in places if p not in used))
        if rest:
            yield Remark(
                "not-judged",
                Severity.INFORMATION,
                "Not needed for the verdict: outside the times judged, later than the day "
                "judged, or another result of the same days was judged.",
                rest,
            )

    def _of_the_baseline(self, baseline: Window) -> Iterator[Remark]:
        assert self.start is not None  # noqa: S101 a baseline has a start
        if (self.start.first - baseline.last_day).days > OLD_BASELINE_DAYS:
            text = (
                f"The baseline is more than {OLD_BASELINE_DAYS} days before the start of treatment "
                f"({self.start.text}): the counts may have changed by then."
            )
            yield Remark("old-baseline", Severity.WARNING, text, places(baseline.counts))
        least = self.paper.least_age_years
        yield from of_the_person(self.course, self.start, least, baseline.counts)

    def _not_seen(self, judged: Moment) -> Iterator[Remark]:
        """Independence that may have been gained, and could not have been seen (ruling 14)."""
        if judged.verdict is not ResponseVerdict.NO_RESPONSE:
            return
        rules = (self.read(one.responded.rule) for one in self.paper.lineages)
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


def _newest_of(window: Window) -> date | None:
    """The day of the newest count judged: a day of which none is judged is no day of its own."""
    return max((count.when.last for count in window.counts), default=None)


def _as_reported(window: Window, analyte: Analyte) -> Count | None:
    return next((count for count in window.counts if count.analyte is analyte), None)


def change_between(
    before: Sequence[Count], after: Sequence[Count]
) -> tuple[Decimal | None, Decimal | None]:
    """The rise and the ratio, between counts that no support and no other result puts in doubt."""
    old = before[0].value.exact if len(before) == 1 else None
    new = after[0].value.exact if len(after) == 1 else None
    if old is None or new is None:
        return None, None
    fold = (new / old).quantize(Decimal("0.01")) if old else None
    return EXACT.subtract(new, old), fold


def _why(lineage: Lineage, affected: Truth | None, truth: Truth | None, window: Window) -> str:
    if truth is not Truth.UNKNOWN:
        return {
            None: "not affected before treatment",
            Truth.MET: "responded",
            Truth.NOT_MET: "still affected" if lineage.affected else "did not reach the limit",
        }[truth]
    counts = window.known.counts.get(lineage.analyte, ())
    if not counts:
        return "not measured"
    if affected is Truth.UNKNOWN:
        return "not known whether it was affected before treatment"
    if counts != tuple(count for count in window.counts if count.analyte is lineage.analyte):
        return "confounded by a transfusion or a growth factor shortly before"
    if len(counts) > 1:
        return "contradictory results of one moment"
    return "decided neither by the definition's limits nor by what is known of transfusions"


def _best(moments: Sequence[Moment]) -> Moment | None:
    return min(moments, key=lambda m: (_ORDER.index(m.verdict), m.day), default=None)


def _between(moments: Iterable[Moment], first: int, last: int) -> list[Moment]:
    return [m for m in moments if first <= m.days_after <= last]


def _nearest(moments: Iterable[Moment], first: int, about: int, last: int) -> Moment | None:
    inside = _between(moments, first, last)
    return min(inside, key=lambda m: abs(m.days_after - about), default=None)


def _independence(known: Known) -> Truth | None:
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


def _last_day(course: Course) -> When | None:
    counted = [c for c in course.counts if c.analyte in _COUNTED]
    last = max(counted, key=lambda c: (c.when.last, c.when.text), default=None)
    return last.when if last else None


def _exposure(given: Sequence[DrugGiven], weights: Sequence[Count]) -> Exposure | None:
    doses = [d for d in given if not d.stated]
    if not doses:
        return None
    ordered = sorted(doses, key=lambda d: (d.when.first, d.source.place))
    days = [d.when.first for d in ordered]
    in_order = sorted((w for w in weights if w.value.exact), key=LAST_DAY)
    per_kg = [found for d in ordered if (found := _per_kg(d, in_order)) is not None]
    return Exposure(
        doses=len(ordered),
        first=ordered[0].when,
        last=ordered[-1].when,
        interval_days=tuple((b - a).days for a, b in pairwise(days)),
        mg_per_kg=tuple(per_kg),
    )


def _per_kg(dose: DrugGiven, weights: Sequence[Count]) -> Decimal | None:
    """The dose by the newest of the weights, which are exact and in order."""
    if dose.dose_mg_per_kg is not None:
        return dose.dose_mg_per_kg
    until = bisect_right(weights, dose.when.last, key=LAST_DAY)
    if dose.dose_mg is None or not until:
        return None
    # Of several of one day the first that was sent.
    newest = bisect_left(weights, weights[until - 1].when.last, key=LAST_DAY)
    weight = weights[newest].value.exact
    return (dose.dose_mg / weight).quantize(Decimal("0.01")) if weight else None
