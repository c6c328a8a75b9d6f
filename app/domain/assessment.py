"""What a paper says of one patient's counts on one day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from app.domain.chart import NOT_LOOKED_FOR, Charted, OtherCauses, excluded_by, other_causes
from app.domain.counts import Analyte, Count, Course, Kind, Patient, Remark, Source, When
from app.domain.dependence import DEPENDENCE_DAYS, days_before
from app.domain.exclusions import free_of_exclusions
from app.domain.judgement import Finding, Judgement, Verdict, judgement_of, sustained_rules
from app.domain.limits import Limit
from app.domain.paper import PAPERS_KEPT, Interpretation, Paper, default_policy, interpretation
from app.domain.person import Person, PersonFinding
from app.domain.recovery import Normal
from app.domain.remarks import contradictions, left_out, of_the_person, stale
from app.domain.rules import Known, Rule, Truth
from app.domain.sustained import Record
from app.domain.timeline import Timeline
from app.domain.window import Window, take_window

if TYPE_CHECKING:
    from app.domain.life import Life


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
    causes, person = chart_on(course, Person(paper, course, window_days), day, as_of)
    if exclusions:
        judgement = excluding(judgement, free_of_exclusions(paper.exclusions, causes, person))
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
    course: Course, person: Person, day: When | None, as_of: When | None
) -> tuple[OtherCauses, tuple[PersonFinding, ...]]:
    """What the chart says of other causes on a day, and of age and weight; see `other_causes`."""
    if day is None:
        return other_causes(course.chart, course.looked_at, None, as_of), ()
    causes = other_causes(course.chart, course.looked_at, day.last, as_of)
    return causes, tuple(person.on(day.last))


@lru_cache(maxsize=PAPERS_KEPT)
def excluding(judgement: Judgement, free: Truth) -> Judgement:
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
