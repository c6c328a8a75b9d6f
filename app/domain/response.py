"""Whether a treated patient responded, by a published definition: pure, over one Course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.domain.chart import NOT_LOOKED_FOR, OtherCauses, other_causes
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
    Source,
    When,
)
from app.domain.course_end import remarks_on_the_course, transplant_after
from app.domain.effort import spend
from app.domain.exposure import Exposure, exposure_of
from app.domain.moments import (
    COUNTED,
    RESPONDED,
    FollowUp,
    Moment,
    OtherWindow,
    ResponseVerdict,
    best_of,
    independence_of,
    nearest,
)
from app.domain.paper import ABOUT_3_MONTHS, ABOUT_6_MONTHS, Lineage, ResponsePaper
from app.domain.response_remarks import response_remarks
from app.domain.rules import Known, OfOneAnalyte, Truth
from app.domain.window import Window

TWO_YEARS_DAYS = 730
# To judge one patient, whatever the counts.
_STEPS = 150
_END_POINT = {
    ResponseVerdict.COMPLETE: Truth.MET,
    ResponseVerdict.RESPONSE: Truth.MET,
    ResponseVerdict.NO_RESPONSE: Truth.NOT_MET,
}


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
    """The transfusion-free time follow_up for."""
    other_windows: tuple[OtherWindow, ...]
    """Other published ones under which the verdict, or the independence, would be another."""
    response: Truth
    complete: Truth | None
    """None where the definition has none."""
    kept_two_years: Truth | None
    relapse: Truth | None
    first_response: Moment | None
    first_loss: Moment | None
    timeline: tuple[tuple[date, ResponseVerdict], ...]
    """Every day after the start that has counts, and what they come to."""
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
    causes: OtherCauses = NOT_LOOKED_FOR
    """What the chart says of other causes on the last day."""


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
    follow_up = FollowUp(paper, policy, told, start, window_days, days)
    return _assessment(follow_up, as_of, doses, by_drug, course)


def _as_known(course: Course, as_of: When | None) -> Course:
    if as_of is None:
        return course
    return course._replace(
        counts=tuple(c for c in course.counts if not c.when.after(as_of)),
        derived=tuple(c for c in course.derived if not c.when.after(as_of)),
        transfusions=tuple(t for t in course.transfusions if not t.when.begins_after(as_of)),
        drugs=tuple(d for d in course.drugs if not d.when.begins_after(as_of)),
    )


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


def _last_day(course: Course) -> When | None:
    counted = [c for c in course.counts if c.analyte in COUNTED]
    last = max(counted, key=lambda c: (c.when.last, c.when.text), default=None)
    return last.when if last else None


def _assessment(
    follow_up: FollowUp,
    as_of: When | None,
    doses: Sequence[DrugGiven],
    by_drug: bool,
    whole: Course,
) -> ResponseAssessment:
    baseline = follow_up.baseline()
    chart = follow_up.course.chart
    ended = transplant_after(chart, follow_up.start, as_of)
    moments = follow_up.moments(baseline) if baseline else []
    if ended:
        moments = [m for m in moments if m.day < ended.when.first]
    reason = follow_up.obstacle(baseline)
    if reason:
        moments = []
    judged = best_of(follow_up.in_time(moments))
    if not reason and judged is None:
        reason = follow_up.nothing_in_time()
        if ended:
            reason += f" A stem-cell transplant ended the course ({ended.when.text[:10]})."
    start_sources = [d.source for d in doses] if by_drug else []
    start_sources += [ended.source] if ended else []
    verdict = judged.verdict if judged else ResponseVerdict.NOT_EVALUABLE
    first = next((m for m in moments if m.verdict in RESPONDED), None)
    loss = first and next(
        (m for m in moments if m.day > first.day and m.verdict is ResponseVerdict.NO_RESPONSE),
        None,
    )
    kept, kept_by = _kept(follow_up, moments)
    three = nearest(moments, *ABOUT_3_MONTHS)
    six = nearest(moments, *ABOUT_6_MONTHS)
    current = moments[-1] if moments else None
    best = best_of(moments)
    shown = [m for m in (judged, three, six, current, best, first, loss) if m]
    used = follow_up.in_time(moments) + shown + kept_by
    windows = ([baseline] if baseline else []) + [m.window for m in used]
    counts = tuple(dict.fromkeys(c for window in windows for c in window.counts))
    supporting = [s for t in windows for s in (*t.confounders, *t.dependence_sources)]
    supporting += (s for t in windows for count in t.excluded for s in count.sources)
    known = judged.known if judged else None
    last = as_of or _last_day(follow_up.course)
    causes = other_causes(chart, follow_up.course.looked_at, last.last if last else None, as_of)
    needs, needs_transfusions, unconfirmed = _needs(follow_up, judged)
    return ResponseAssessment(
        paper=follow_up.paper,
        policy=follow_up.policy,
        patient=follow_up.course.patient,
        verdict=verdict,
        reason=reason,
        as_of=last,
        start=follow_up.start,
        baseline=baseline,
        judged=judged,
        at_3_months=three,
        at_6_months=six,
        current=current,
        best=best,
        lineages=tuple(
            _lineage(follow_up, one, baseline, judged) for one in follow_up.paper.lineages
        ),
        independence=independence_of(known) if known else Truth.UNKNOWN,
        independence_days=follow_up.independence_days,
        other_windows=tuple(follow_up.other_windows(judged, moments)),
        response=_END_POINT.get(verdict, Truth.UNKNOWN),
        complete=_complete(follow_up, known),
        kept_two_years=kept,
        relapse=_relapse(follow_up, first, moments),
        first_response=first,
        first_loss=loss,
        timeline=tuple((m.day, m.verdict) for m in moments),
        exposure=exposure_of(doses, follow_up.course.weights),
        counts=counts,
        supporting=tuple(dict.fromkeys([*supporting, *start_sources])),
        needs=needs,
        needs_transfusions=needs_transfusions,
        unconfirmed=unconfirmed,
        remarks=(
            *response_remarks(follow_up, windows, counts, whole, doses, judged),
            *remarks_on_the_course(chart, ended, _first_day(baseline), _until(judged, as_of)),
            *causes.remarks,
        ),
        causes=causes,
    )


def _first_day(baseline: Window | None) -> date:
    return baseline.last_day if baseline and baseline.counts else date.min


def _until(judged: Moment | None, as_of: When | None) -> date:
    """The day up to which what was given may bear on the verdict."""
    if judged:
        return judged.day
    return as_of.last if as_of else date.max


def _complete(follow_up: FollowUp, known: Known | None) -> Truth | None:
    if follow_up.complete is None:
        return None
    return follow_up.complete.check(known) if known else Truth.UNKNOWN


def _needs(
    follow_up: FollowUp, judged: Moment | None
) -> tuple[tuple[Analyte, ...], tuple[Product, ...], bool]:
    """What would settle an open verdict: counts, transfusions, or a confirmation alone."""
    if judged is None or judged.verdict is not ResponseVerdict.INDETERMINATE:
        return (), (), False
    known = judged.known
    if follow_up.response.check(known) is Truth.MET:
        return tuple(one.analyte for one in follow_up.paper.lineages), (), True
    needs: dict[Analyte, None] = {}
    transfusions: dict[Product, None] = {}
    for leaf in follow_up.response.undecided(known):
        if isinstance(leaf, OfOneAnalyte):
            counts = known.counts.get(leaf.analyte, ())
            if all(count.value.exact is None for count in counts):
                needs[leaf.analyte] = None
        transfusions |= dict.fromkeys(leaf.transfusions_asked(known))
    return tuple(needs), tuple(transfusions), False


def _kept(follow_up: FollowUp, moments: list[Moment]) -> tuple[Truth | None, list[Moment]]:
    """Whether the response lasted two years, and the assessments that tell."""
    in_time = follow_up.in_time(moments)
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


def _relapse(follow_up: FollowUp, first: Moment | None, moments: list[Moment]) -> Truth | None:
    if follow_up.paper.relapse is None or first is None:
        return None
    truths = {follow_up.paper.relapse.check(m.known) for m in moments if m.day > first.day}
    if Truth.MET in truths:
        return Truth.MET
    return Truth.NOT_MET if truths == {Truth.NOT_MET} else Truth.UNKNOWN


def _lineage(
    follow_up: FollowUp, lineage: Lineage, baseline: Window | None, judged: Moment | None
) -> LineageReport:
    if baseline is None or judged is None:
        nothing = (None, None, None, None)
        return LineageReport(lineage, None, Truth.UNKNOWN, *nothing, "not evaluable")
    affected = follow_up.read(lineage.affected).check(baseline.known) if lineage.affected else None
    if affected is Truth.NOT_MET:
        truth = None
    else:
        truth = follow_up.read(lineage.responded).check(judged.known)
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
