"""Over a life: the course day by day, held to the single assessment at each of its days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.assessment import Assessment, assess_eligibility
from app.domain.counts import Analyte, Count, Course, Interval, Patient, Source, When
from app.domain.judgement import Verdict, sustained_rules
from app.domain.life import Life, assess_life, sustained_over
from app.domain.paper import Paper, interpretation
from app.papers import PUBLISHED
from tests.test_properties import READINGS, at_one_moment, courses, near, one_count

windows = st.sampled_from([1, 14, 30, 60])
times = st.sampled_from([0, 0, 1, 7, 14, 42])
readings = st.sampled_from([*READINGS, *[(p, None) for p in PUBLISHED if sustained_rules(p)]])


def on(day: date) -> When:
    return When(day, day, None, day.isoformat())


def naive_days(
    paper: Paper, policy: str | None, course: Course, window: int
) -> Iterator[tuple[date, Verdict]]:
    """Each day of which a count is judged, as a single assessment at that day comes to it."""
    asked = interpretation(paper, policy).analytes
    every = {c.when.last for c in (*course.counts, *course.derived) if c.analyte in asked}
    for day in sorted(every):
        found = assess_eligibility(paper, course, on(day), window, policy)
        if any(count.when.last == day for count in found.counts):
            yield day, found.verdict


def naive_sustained(days: dict[date, Verdict], day: date, least: int) -> Verdict:
    """Every pair of days, by the words: at every assessment over so long, two at the least."""
    if any(
        verdict is Verdict.NOT_ELIGIBLE and 0 <= (day - other).days <= least
        for other, verdict in days.items()
    ):
        return Verdict.NOT_ELIGIBLE
    for start in days:
        between = {verdict for other, verdict in days.items() if start <= other <= day}
        if (day - start).days >= least and between == {Verdict.ELIGIBLE}:
            return Verdict.ELIGIBLE
    return Verdict.INDETERMINATE


def expected_days(
    paper: Paper, policy: str | None, course: Course, window: int
) -> dict[date, Verdict]:
    days = dict(naive_days(at_one_moment(paper), policy, course, window))
    if rules := sustained_rules(paper):
        return {day: naive_sustained(days, day, rules[0].days) for day in days}
    return days


def runs(days: dict[date, Verdict]) -> list[tuple[date, date, int, Verdict]]:
    """Neighbours of one verdict together, one after another."""
    found: list[tuple[date, date, int, Verdict]] = []
    for day, verdict in sorted(days.items()):
        if found and found[-1][3] is verdict:
            first, _, number, _ = found.pop()
            found.append((first, day, number + 1, verdict))
        else:
            found.append((day, day, 1, verdict))
    return found


def life_of(found: Assessment) -> Life:
    assert found.life is not None
    return found.life


@settings(max_examples=200)
@given(courses(), readings, times, windows)
def test_the_life_is_what_single_assessments_at_each_of_its_days_come_to(
    course: Course, which: Any, days: int, window: int
) -> None:
    paper, policy = which
    paper = sustained_over(paper, days) if days else paper
    found = assess_life(paper, course, None, window, policy, with_changes=True)
    life = life_of(found)
    told = [(p.first, p.last, p.assessments, p.verdict) for p in life.periods]
    assert told == runs(expected_days(paper, policy, course, window))
    assert life.changes is not None
    alone = [one for one in (*life.changes, found) if one.as_of and life.periods]
    days_told = [(one.as_of.last, one.verdict) for one in alone if one.as_of]
    assert {(p.first, p.verdict) for p in life.periods} <= set(days_told)
    assert len(days_told) == len(set(days_told)) <= len(life.periods) + 1


@settings(max_examples=200)
@given(courses(), readings, times, windows, st.none() | st.integers(0, 60))
def test_the_last_period_agrees_with_the_newest_assessment(
    course: Course, which: Any, days: int, window: int, ago: int | None
) -> None:
    paper, policy = which
    paper = sustained_over(paper, days) if days else paper
    as_of = None
    if ago is not None:
        every = [c.when.last for c in course.counts]
        assume(every)
        as_of = on(sorted(every)[ago % len(every)])
    newest = assess_eligibility(paper, course, as_of, window, policy)
    found = assess_life(paper, course, as_of, window, policy)
    life = life_of(found)
    if not newest.counts:
        assert not life.periods
        assert life.may_have_been_met
        return
    assert life.periods[-1].verdict is newest.verdict
    if not life.met:
        assert found.judgement is newest.judgement
        assert found.counts == newest.counts


@settings(max_examples=100)
@given(courses(near), readings, times, windows, st.lists(one_count(near), max_size=3))
def test_nothing_after_the_first_day_met_moves_it(
    course: Course, which: Any, days: int, window: int, more: list[Count]
) -> None:
    """Neither the data cut at a later day nor counts added after it."""
    paper, policy = which
    paper = sustained_over(paper, days) if days else paper
    whole = assess_life(paper, course, None, window, policy)
    first = life_of(whole).first_met
    assume(first is not None)
    assert first is not None
    for day in {c.when.last for c in course.counts if c.when.last >= first}:
        cut = assess_life(paper, course, on(day), window, policy)
        assert life_of(cut).first_met == first
        assert (cut.judgement, cut.counts) == (whole.judgement, whole.counts)
    added = tuple(count for count in more if count.when.first > first)
    grown = course._replace(counts=(*course.counts, *added))
    assert life_of(assess_life(paper, grown, None, window, policy)).first_met == first


@settings(max_examples=100)
@given(courses(near), readings, times, windows)
def test_the_counts_told_of_give_the_same_life(
    course: Course, which: Any, days: int, window: int
) -> None:
    paper, policy = which
    paper = sustained_over(paper, days) if days else paper
    found = assess_life(paper, course, None, window, policy)
    told = {*found.counts, *found.beside}
    evidence = course._replace(
        counts=tuple(c for c in course.counts if c in told),
        derived=tuple(c for c in course.derived if c in told),
    )
    again = assess_life(paper, evidence, None, window, policy)
    assert [p[:3] for p in life_of(again).periods] == [p[:3] for p in life_of(found).periods]
    assert (again.verdict, again.counts) == (found.verdict, found.counts)


def test_a_bound_that_spans_days_makes_none_where_an_older_count_stands() -> None:
    """The count of 20 February is a window before the bound of 5 and 6 March and fits it."""
    anc = Interval.exactly(Decimal("0.1"))
    bound = Interval(None, Decimal("0.1"))
    span = When(date(2024, 3, 5), date(2024, 3, 6), None, "2024-03-05/2024-03-06")
    told = (
        (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, anc, on(date(2024, 2, 20))),
        (Analyte.PLATELETS, Interval.exactly(Decimal(10)), on(date(2024, 3, 5))),
        (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, bound, span),
    )
    counts = tuple(Count(*one, (Source(f"Observation/{n}", ""),)) for n, one in enumerate(told))
    course = Course(Patient("Patient/1"), counts=counts)
    life = life_of(assess_life(PUBLISHED[0], course, window_days=14))
    assert [p.last for p in life.periods] == [date(2024, 2, 20), date(2024, 3, 5)]
