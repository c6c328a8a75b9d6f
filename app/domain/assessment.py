"""What a paper says of one patient's counts on one day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from app.domain.chart import NOT_LOOKED_FOR, Charted, OtherCauses, excluded_by, other_causes
from app.domain.counts import Analyte, Count, Course, Kind, Patient, Remark, Source, When
from app.domain.dependence import DEPENDENCE_DAYS, days_before
from app.domain.exclusions import free_of_exclusions, person_of
from app.domain.limits import Limit
from app.domain.needs import counted_by_hand, counts_needed
from app.domain.paper import (
    PAPERS_KEPT,
    Interpretation,
    Paper,
    default_policy,
    interpretation,
)
from app.domain.person import PersonFinding
from app.domain.recovery import Normal
from app.domain.remarks import contradictions, left_out, of_the_person, stale
from app.domain.rules import Criterion, Known, OfOneProduct, Rule, Truth, criteria_of
from app.domain.severity import SEVERE_RETICULOCYTES, in_dispute, with_severe_limit
from app.domain.sustained import Record, Sustained
from app.domain.timeline import Timeline
from app.domain.window import Window, take_window

if TYPE_CHECKING:
    from app.domain.life import Life

_JUDGEMENTS_KEPT = 20_000


class Verdict(Enum):
    """What an eligibility assessment comes to."""

    ELIGIBLE = "eligible"
    NOT_ELIGIBLE = "not-eligible"
    INDETERMINATE = "indeterminate"


_VERDICTS = {
    Truth.MET: Verdict.ELIGIBLE,
    Truth.NOT_MET: Verdict.NOT_ELIGIBLE,
    Truth.UNKNOWN: Verdict.INDETERMINATE,
}


class Finding(NamedTuple):
    """One criterion's answer."""

    criterion: Criterion
    truth: Truth


class SevereLimit(NamedTuple):
    """What the answer would be with another published limit of reticulocytes for severe disease."""

    number: Decimal
    verdict: Verdict
    not_severe: Truth | None
    """None where the definition does not exclude severe disease."""


@dataclass(frozen=True, eq=False, slots=True)
class Judgement:
    """What a paper makes of the answers to its limits; the same answers give the same object."""

    paper: Paper
    policy: str | None
    verdict: Verdict
    findings: tuple[Finding, ...]
    needs: tuple[Analyte, ...]
    """The counts that would settle an open verdict."""
    needs_transfusion_history: bool
    needs_days_apart: int
    """So far apart must be counts that would settle whether it is sustained; 0: none are asked."""
    other_policies: tuple[tuple[str, Verdict], ...]
    """Policies under which the verdict would be another."""
    severe_limits: tuple[SevereLimit, ...]
    """Other published limits of severe disease under which the answer would be another."""
    by_counts: Verdict
    """The verdict that nothing but the counts gives."""
    exclusion: Truth | None = None
    """Whether the chart is free of what the definition excludes; None where nobody asked."""

    @property
    def severe(self) -> bool:
        """Whether the definition leaves the patient out for severe disease."""
        return any(f.criterion.excludes_severe and f.truth is Truth.NOT_MET for f in self.findings)


class Assessment(NamedTuple):
    """A paper's verdict on one patient, with everything it rests on."""

    judgement: Judgement
    patient: Patient
    as_of: When | None
    """The day judged: as asked for, else the day of the newest count judged."""
    counts: tuple[Count, ...]
    """The counts judged, as the laboratory gave them."""
    supporting: tuple[Source, ...]
    """Transfusions, drugs and statements that bore on the verdict."""
    known: Known
    """What the rule was checked against: the counts, those under support as upper bounds."""
    remarks: tuple[Remark, ...]
    beside: tuple[Count, ...] = ()
    """Counts of other days that it rests on too."""
    life: Life | None = None
    """Where a whole life was asked for."""
    causes: OtherCauses = NOT_LOOKED_FOR
    """What the chart says of other causes on the day judged."""
    person: tuple[PersonFinding, ...] = ()
    """Age and weight, where the definition limits them and the data hold them."""

    @property
    def excluding(self) -> tuple[Charted, ...]:
        """What stands in the chart on the day judged, and the definition excludes."""
        return excluded_by(self.paper.exclusions, self.causes)

    @property
    def paper(self) -> Paper:
        """The definition applied."""
        return self.judgement.paper

    @property
    def verdict(self) -> Verdict:
        """What it comes to."""
        return self.judgement.verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The answer to each criterion."""
        return self.judgement.findings

    @property
    def needs(self) -> tuple[Analyte, ...]:
        """The counts that would settle an open verdict."""
        return self.judgement.needs

    @property
    def needs_transfusion_history(self) -> bool:
        """Whether the transfusions would help to settle it."""
        return self.judgement.needs_transfusion_history

    @property
    def other_policies(self) -> tuple[tuple[str, Verdict], ...]:
        """Policies under which the verdict would be another."""
        return self.judgement.other_policies


def assess_eligibility(
    paper: Paper,
    course: Course,
    as_of: When | None = None,
    window_days: int = 30,
    policy: str | None = None,
    exclusions: bool = False,
) -> Assessment:
    """Whether the patient's counts meet the paper's definition.

    Counts later than `as_of` are left out (default: nothing is later). The newest count of each
    analyte is judged, none older than `window_days` before the newest of them all. With
    `exclusions` what the chart records for sure, and the definition excludes, makes not eligible.
    """
    policy = policy or default_policy(paper)
    asked = interpretation(paper, policy)
    until, later = known_by(course, as_of)
    window = take_window(course, until, asked.analytes, window_days, as_of)
    known = window.known
    earlier: list[Window] = []
    if asked.sustained and window.counts:
        timeline = timeline_of(course, until, asked, window_days)
        held_before, earlier = _earlier(paper, timeline, window.last_day)
        known = known._replace(held_before=held_before)
    beside = counts_beside(earlier, window)
    judged = (*window.counts, *beside)
    day = as_of or window.day
    judgement = judgement_of(paper, policy, known)
    beside_counts = chart_on(paper, course, day, as_of, window_days)
    if exclusions:
        judgement = with_exclusions(judgement, beside_counts)
    causes, person = beside_counts
    return Assessment(
        judgement=judgement,
        patient=course.patient,
        as_of=day,
        counts=window.counts,
        supporting=supporting_of([window, *earlier], asked),
        known=known,
        remarks=(
            *(remark for one in [window, *earlier] for remark in one.remarks),
            *left_out(judged, window.first_day, until, later, as_of, window_days),
            *contradictions(asked.rule, known, window),
            *stale(window, as_of, window_days),
            *of_the_person(course, window.day, paper.least_age_years, window.counts),
            *causes.remarks,
        ),
        beside=beside,
        causes=causes,
        person=person,
    )


def chart_on(
    paper: Paper, course: Course, day: When | None, as_of: When | None, window_days: int
) -> tuple[OtherCauses, tuple[PersonFinding, ...]]:
    """What the chart says of other causes on a day, and of age and weight; see `other_causes`."""
    causes = other_causes(course.chart, course.looked_at, day.last if day else None, as_of)
    return causes, person_of(paper, course, day, window_days)


def with_exclusions(
    judgement: Judgement, beside_counts: tuple[OtherCauses, tuple[PersonFinding, ...]]
) -> Judgement:
    """The judgement where what the chart records may exclude."""
    return _excluding(judgement, free_of_exclusions(judgement.paper.exclusions, *beside_counts))


@lru_cache(maxsize=PAPERS_KEPT)
def _excluding(judgement: Judgement, free: Truth) -> Judgement:
    """The judgement where exclusions count; the same ones give the same object."""
    found = replace(judgement, exclusion=free)
    if free is not Truth.NOT_MET:
        return found
    return replace(
        found,
        verdict=Verdict.NOT_ELIGIBLE,
        needs=(),
        needs_transfusion_history=False,
        needs_days_apart=0,
        other_policies=(),
        severe_limits=(),
    )


def known_by(course: Course, as_of: When | None) -> tuple[Sequence[Count], Sequence[Count]]:
    """The counts up to a day, and those later than it."""
    everything = (*course.counts, *course.derived)
    if as_of is None:
        return everything, ()
    later = [c for c in everything if c.when.after(as_of)]
    return [c for c in everything if not c.when.after(as_of)], later


def timeline_of(
    course: Course, counts: Sequence[Count], asked: Interpretation, window_days: int
) -> Timeline:
    """The course day by day, for what is asked."""
    days = DEPENDENCE_DAYS
    return Timeline(course, counts, asked.analytes, window_days, days, days)


def supporting_of(windows: Sequence[Window], asked: Interpretation) -> tuple[Source, ...]:
    """Transfusions, drugs and statements that bear on what is asked of the windows' counts."""
    sources: list[Source] = []
    for window in windows:
        sources += window.confounders
        sources += window.dependence_sources if asked.transfusions else ()
    return tuple(dict.fromkeys(sources))


def counts_beside(windows: Sequence[Window], own: Window) -> tuple[Count, ...]:
    """The counts judged in other windows, each once."""
    if not windows:
        return ()
    found = {count: None for window in windows for count in window.counts}
    for count in own.counts:
        found.pop(count, None)
    return tuple(found)


def _earlier(paper: Paper, timeline: Timeline, day: date) -> tuple[dict[Rule, Truth], list[Window]]:
    """What the assessments before a day told of the rules that must be sustained, and these."""
    rules = sustained_rules(paper)
    since = days_before(day, max(rule.days for rule in rules))
    found = []
    for earlier in reversed(timeline.days()):
        if earlier < day and (window := timeline.judged_on(earlier)):
            found.append(window)
            if earlier <= since:
                break
    record = Record(rules)
    for window in reversed(found):
        record.add(window.last_day, window.known)
    return record.held_before(day), found


_judgements: dict[object, Judgement] = {}


def judgement_of(paper: Paper, policy: str | None, known: Known) -> Judgement:
    """Depends on what the counts say of each limit only: few are worked out anew."""
    truths = tuple([leaf.check(known) for leaf in _leaves(paper)])
    by_hand = counted_by_hand(known)
    key = (paper, policy, truths, by_hand, *known.held_before.values())
    found = _judgements.get(key)
    if found is None:
        if len(_judgements) >= _JUDGEMENTS_KEPT:
            _judgements.clear()
        found = _judgements[key] = _worked_out(paper, policy, known)
    return found


@lru_cache(maxsize=PAPERS_KEPT)
def sustained_rules(paper: Paper) -> tuple[Sustained, ...]:
    """What must be sustained, under whatever policy and published limit."""
    return tuple(leaf for leaf in _leaves(paper) if isinstance(leaf, Sustained))


@lru_cache(maxsize=PAPERS_KEPT)
def _leaves(paper: Paper) -> tuple[Rule, ...]:
    """Every limit of the paper, under whatever policy, and the published ones in their place."""
    policies = paper.red_cell_policies or (None,)
    rules = (interpretation(paper, policy).rule for policy in policies)
    leaves = dict.fromkeys(leaf for rule in rules for leaf in rule.leaves())
    others = (
        with_severe_limit(leaf, number)
        for leaf in leaves
        if in_dispute(leaf)
        for number in SEVERE_RETICULOCYTES
    )
    return tuple(dict.fromkeys([*leaves, *others]))


def _worked_out(paper: Paper, policy: str | None, known: Known) -> Judgement:
    asked = interpretation(paper, policy)
    rule = asked.rule
    truth = rule.check(known)
    undecided = tuple(rule.undecided(known)) if truth is Truth.UNKNOWN else ()
    days_apart = next((leaf.days for leaf in undecided if isinstance(leaf, Sustained)), 0)
    needs = counts_needed(rule, known) if undecided else ()
    if days_apart:
        needs = tuple(analyte for analyte in Analyte if analyte in asked.analytes)
    return Judgement(
        paper=paper,
        policy=policy if policy in paper.red_cell_policies else None,
        verdict=_VERDICTS[truth],
        by_counts=_VERDICTS[truth],
        findings=tuple(Finding(one, one.check(known)) for one in asked.criteria),
        needs=needs,
        needs_transfusion_history=any(isinstance(leaf, OfOneProduct) for leaf in undecided),
        needs_days_apart=days_apart,
        other_policies=_other_policies(paper, policy, truth, known),
        severe_limits=_severe_limits(paper, policy, known),
    )


def _other_policies(
    paper: Paper, policy: str | None, truth: Truth, known: Known
) -> tuple[tuple[str, Verdict], ...]:
    verdicts = (
        (other, interpretation(paper, other).rule.check(known))
        for other in paper.red_cell_policies
        if other != policy
    )
    return tuple((other, _VERDICTS[found]) for other, found in verdicts if found is not truth)


def _severe_limits(paper: Paper, policy: str | None, known: Known) -> tuple[SevereLimit, ...]:
    """The published limits of severe disease that would change the verdict, or severity."""
    rule = interpretation(paper, policy).rule
    if not in_dispute(rule):
        return ()
    own = _severity(rule, known)
    others = {
        number: _severity(with_severe_limit(rule, number), known) for number in SEVERE_RETICULOCYTES
    }
    return tuple(
        SevereLimit(number, _VERDICTS[truth], not_severe)
        for number, (truth, not_severe) in others.items()
        if (truth, not_severe) != own
    )


def _severity(rule: Rule, known: Known) -> tuple[Truth, Truth | None]:
    """What the rule comes to, and its exclusion of severe disease."""
    exclusion = next((one for one in criteria_of(rule) if one.excludes_severe), None)
    return rule.check(known), exclusion.check(known) if exclusion else None


def none_low(found: Assessment) -> bool:
    """Whether no count judged is, or may be, below normal.

    A bound from other results tells only where it is itself low. Reticulocytes without the
    laboratory's range have no normal limit: they tell by the definition's own, and only where no
    hemoglobin stands beside them.
    """
    counts_of = found.known.counts
    for analyte, counts in counts_of.items():
        if analyte is Analyte.RETICULOCYTES and any(c.normal is None for c in counts):
            rule = interpretation(found.paper, found.judgement.policy).rule
            limits = (x for x in rule.leaves() if isinstance(x, Limit) and x.analyte is analyte)
            low = any(limit.check(found.known) is not Truth.NOT_MET for limit in limits)
            if low and Analyte.HEMOGLOBIN not in counts_of:
                return False
            continue
        truth = Normal(analyte).check(found.known)
        bound = all(count.kind is Kind.BOUND for count in counts)
        if truth is Truth.NOT_MET or (truth is Truth.UNKNOWN and not bound):
            return False
    return True
