"""Over a life: the days on which a definition was met, the first, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from app.domain.assessment import (
    Assessment,
    assess_eligibility,
    chart_on,
    counts_beside,
    excluding,
    known_by,
    supporting_of,
    timeline_of,
)
from app.domain.choosing import places
from app.domain.counts import Count, Course, Remark, Severity, When
from app.domain.exclusions import ExclusionsByDay
from app.domain.judgement import Judgement, Verdict, judgement_of, sustained_rules
from app.domain.paper import Interpretation, Paper, default_policy, interpretation
from app.domain.person import Person
from app.domain.remarks import contradictions, left_out, of_the_person, stale
from app.domain.rules import Known
from app.domain.sustained import Record, sustained
from app.domain.window import Window

_ASKED_WORDING = "held at every assessment over the time asked for"


class Period(NamedTuple):
    """Assessments one after another that come to one verdict; between two nothing is known."""

    first: date
    last: date
    assessments: int
    judgement: Judgement
    """Of the first day: its verdict is that of all."""
    counts: tuple[Count, ...]
    """Judged on the first day."""

    @property
    def verdict(self) -> Verdict:
        """What each assessment comes to."""
        return self.judgement.verdict

    @property
    def days(self) -> int:
        """From the first assessment to the last."""
        return (self.last - self.first).days


class Life(NamedTuple):
    """What the assessments of all days with counts come to."""

    periods: tuple[Period, ...]
    changes: tuple[Assessment, ...] | None
    """The assessments with which a period begins, but the one told of; None: not asked for."""

    @property
    def met(self) -> tuple[Period, ...]:
        """The periods in which the definition was met."""
        return self._of(Verdict.ELIGIBLE)

    @property
    def open(self) -> tuple[Period, ...]:
        """The periods in which it is not known."""
        return self._of(Verdict.INDETERMINATE)

    def _of(self, verdict: Verdict) -> tuple[Period, ...]:
        return tuple(period for period in self.periods if period.verdict is verdict)

    @property
    def assessments(self) -> int:
        """The days judged."""
        return sum(period.assessments for period in self.periods)

    @property
    def first_met(self) -> date | None:
        """The first day on which it was met; None where that is not known of any."""
        return self.met[0].first if self.met else None

    @property
    def last_met(self) -> date | None:
        """The last such day."""
        return self.met[-1].last if self.met else None

    @property
    def may_have_been_met(self) -> bool:
        """Where no day is known to have met it: whether one may have, or none was judged."""
        return bool(self.open) or not self.periods

    @property
    def episodes(self) -> int:
        """How often it was met anew: an episode ends where it is seen not to be met."""
        known = [period for period in self.periods if period.verdict is not Verdict.INDETERMINATE]
        return sum(1 for is_met, _ in groupby(known, _is_met) if is_met)

    @property
    def longest_met_days(self) -> int | None:
        """The longest time at whose every assessment it was met; None where it never was."""
        return max((period.days for period in self.met), default=None)

    @property
    def open_before(self) -> tuple[Period, ...]:
        """The open periods before the first day met: that may be one of theirs."""
        first = self.first_met
        return tuple(period for period in self.open if first is not None and period.first < first)


def _is_met(period: Period) -> bool:
    return period.verdict is Verdict.ELIGIBLE


class _Day(NamedTuple):
    day: date
    window: Window
    known: Known
    judgement: Judgement


def assess_life(
    paper: Paper,
    course: Course,
    as_of: When | None = None,
    window_days: int = 30,
    policy: str | None = None,
    with_changes: bool = False,
    exclusions: bool = False,
) -> Assessment:
    """The assessment of the first day on which the definition was met, and the life beside it.

    Every day with a count is judged as `assess_eligibility` judges it, up to `as_of`. Where none
    is known to have met the definition, the newest assessment is told. `with_changes`: so is the
    first of each period. With `exclusions` what stood in the chart on a day may exclude on it.
    """
    policy = policy or default_policy(paper)
    asked = interpretation(paper, policy)
    until, later = known_by(course, as_of)
    person = Person(paper, course, window_days)
    by_day = ExclusionsByDay(paper, course, person) if exclusions else None
    days = list(_days(paper, policy, course, until, window_days, by_day))
    if not days:
        found = assess_eligibility(paper, course, as_of, window_days, policy, exclusions)
        return found._replace(life=Life((), () if with_changes else None))
    starts, periods = _periods(days)
    met = next((one for one in days if one.judgement.verdict is Verdict.ELIGIBLE), None)
    main = met or days[-1]
    changes = [one for one in starts if one is not main] if with_changes else []
    told = [main, *changes]
    life = Life(
        periods,
        tuple(_assessed(one, course, asked, person) for one in changes) if with_changes else None,
    )
    windows = [one.window for one in days]
    beside = counts_beside(windows, main.window)
    remarks = [
        *(remark for one in told for remark in one.window.remarks),
        *left_out((*main.window.counts, *beside), date.min, until, later, as_of, window_days),
        *(r for one in told for r in contradictions(asked.rule, one.known, one.window)),
        *(() if met else stale(main.window, as_of, window_days)),
        *of_the_person(course, main.window.day, paper.least_age_years, main.window.counts),
        *_earlier_day_open(life),
    ]
    found = _assessed(main, course, asked, person, as_of if met is None else None)
    return found._replace(
        supporting=supporting_of([main.window, *windows], asked),
        remarks=tuple(dict.fromkeys([*remarks, *found.causes.remarks])),
        beside=beside,
        life=life,
    )


def _days(
    paper: Paper,
    policy: str | None,
    course: Course,
    counts: Sequence[Count],
    window_days: int,
    exclusions: ExclusionsByDay | None,
) -> Iterator[_Day]:
    """Each day with a count that is judged, in order."""
    asked = interpretation(paper, policy)
    record = Record(sustained_rules(paper))
    timeline = timeline_of(course, counts, asked, window_days)
    for day in timeline.days():
        window = timeline.judged_on(day)
        if window is None:
            continue
        known = window.known
        if asked.sustained:
            known = known._replace(held_before=record.held_before(day))
            record.add(day, window.known)
        judgement = judgement_of(paper, policy, known)
        if exclusions:
            judgement = excluding(judgement, exclusions.free_on(day))
        yield _Day(day, window, known, judgement)


def _on(day: date) -> When:
    return When(day, day, None, day.isoformat())


def _periods(days: Iterable[_Day]) -> tuple[list[_Day], tuple[Period, ...]]:
    """The days with which a period begins, and the periods."""
    runs = [list(run) for _, run in groupby(days, lambda one: one.judgement.verdict)]
    periods = (
        Period(run[0].day, run[-1].day, len(run), run[0].judgement, run[0].window.counts)
        for run in runs
    )
    return [run[0] for run in runs], tuple(periods)


def _assessed(
    one: _Day,
    course: Course,
    asked: Interpretation,
    person: Person,
    as_of: When | None = None,
) -> Assessment:
    """The assessment of a day, without what is said of the life."""
    day = as_of or _on(one.day)
    causes, findings = chart_on(course, person, day, day)
    return Assessment(
        judgement=one.judgement,
        patient=course.patient,
        as_of=day,
        counts=one.window.counts,
        supporting=supporting_of([one.window], asked),
        known=one.known,
        remarks=(),
        causes=causes,
        person=findings,
    )


def _earlier_day_open(life: Life) -> Iterator[Remark]:
    if before := life.open_before:
        number = sum(period.assessments for period in before)
        days = "1 day" if number == 1 else f"{number} days"
        text = (
            f"On {days} before the first day met, from {before[0].first}, it is not known whether "
            "the definition was met: that day may be one of these."
        )
        yield Remark("earlier-day-open", Severity.WARNING, text, places(before[0].counts))


@lru_cache(maxsize=256)
def sustained_over(paper: Paper, days: int) -> Paper:
    """The definition, to be met over at least so many days, or over its own time if longer."""
    own = next(iter(sustained_rules(paper)), None)
    if own and own.days >= days:
        return paper
    rule = own.rule if own else paper.eligibility
    asked = sustained(rule, days, _ASKED_WORDING, "the request's 'sustained'")
    return replace(paper, eligibility=asked)
