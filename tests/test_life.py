"""Over a life: the course day by day, held to the single assessment at each of its days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.assessment import Assessment, assess_eligibility
from app.domain.chart import Cause, Charted, Standing
from app.domain.counts import UNDATED, Analyte, Count, Course, Interval, Patient, Source, When
from app.domain.effort import limited
from app.domain.exclusions import ExclusionsByDay
from app.domain.judgement import Verdict, sustained_rules
from app.domain.life import Life, assess_life, sustained_over
from app.domain.paper import Paper, interpretation
from app.domain.person import Person
from app.papers import PUBLISHED
from app.settings import Settings
from tests.test_properties import (
    DAY,
    JUDGED,
    READINGS,
    at_one_moment,
    count_of,
    courses,
    near,
    one_count,
)

windows = st.sampled_from([1, 14, 30, 60])
times = st.sampled_from([0, 0, 1, 7, 14, 42])
readings = st.sampled_from([*READINGS, *[(p, None) for p in PUBLISHED if sustained_rules(p)]])


# Moderate by most definitions, on two days six weeks apart.
LOW = tuple(
    count_of(analyte, Interval.exactly(Decimal(value)), day=DAY - timedelta(days=ago))
    for ago in (50, 8)
    for analyte, value in zip(JUDGED, ("0.9", "45", "8", "30"), strict=True)
)


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
    course = course._replace(counts=(*course.counts, *LOW))
    paper = sustained_over(paper, days) if days else paper
    whole = assess_life(paper, course, None, window, policy)
    first = life_of(whole).first_met
    if first is None:
        return
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
    # Bounds of one moment are judged as one, whose parts are what was sent.
    told = {part for c in (*found.counts, *found.beside) for part in (c, *c.parts)}
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


def daily(days: int, turns: int) -> Course:
    """All four counts every day; low, then normal, for so many days each."""
    low, normal = ("0.9", "45", "8", "50"), ("2.4", "160", "13", "80")
    analytes = (
        Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
        Analyte.PLATELETS,
        Analyte.HEMOGLOBIN,
        Analyte.RETICULOCYTES,
    )
    counts = []
    for number in range(days):
        when = on(date(2004, 1, 1) + timedelta(days=number))
        values = low if number // turns % 2 == 0 else normal
        for analyte, value in zip(analytes, values, strict=True):
            source = Source(f"Observation/{analyte.name}-{number}", f"{analyte.name}-{number}")
            counts.append(Count(analyte, Interval.exactly(Decimal(value)), when, (source,)))
    return Course(Patient("Patient/1"), counts=tuple(counts))


@pytest.mark.parametrize("paper", [PUBLISHED[0], sustained_over(PUBLISHED[0], 3653)])
def test_a_life_costs_as_many_steps_as_it_has_days(paper: Paper) -> None:
    """Twenty years of daily counts stay far within what one evaluation may take."""
    spent = []
    for days in (1825, 7300):
        with limited(Settings().evaluation_steps) as effort:
            assess_life(paper, daily(days, turns=400), with_changes=True)
        spent.append(effort.spent)
    assert spent[1] < 4.2 * spent[0]
    assert spent[1] < Settings().evaluation_steps / 4


def charted(records: int) -> tuple[Charted, ...]:
    """Doses of a drug that excludes nothing, and every fourth a cycle of chemotherapy."""
    days = [on(date(2004, 1, 1) + timedelta(days=3 * number)) for number in range(records)]
    return tuple(
        Charted(
            Cause.LINEZOLID if number % 4 else Cause.CHEMOTHERAPY,
            "a dose",
            day,
            Source(f"MedicationAdministration/{number}", f"dose-{number}"),
            surely_until=day.last,
        )
        for number, day in enumerate(days)
    )


def test_exclusions_over_a_life_cost_no_look_at_every_record_for_each_day() -> None:
    """Twenty years of daily counts, of a patient with 2,000 records in the chart."""
    course = daily(7300, turns=400)
    spent = []
    for records in (0, 2000):
        beside = course._replace(chart=charted(records), looked_at=("conditions",))
        with limited(Settings().evaluation_steps) as effort:
            assess_life(PUBLISHED[0], beside, with_changes=True, exclusions=True)
        spent.append(effort.spent)
    assert spent[1] < 1.5 * spent[0]


DAYS = st.integers(0, 300).map(lambda number: date(2004, 1, 1) + timedelta(days=number))


@st.composite
def records(draw: st.DrawFn) -> Charted:
    first, last = sorted((draw(DAYS), draw(DAYS)))
    return Charted(
        draw(
            st.sampled_from([Cause.LEUKEMIA, Cause.CHEMOTHERAPY, Cause.LINEZOLID, Cause.ANDROGEN])
        ),
        "as charted",
        draw(st.sampled_from([UNDATED, When(first, last, None, "then"), on(first)])),
        Source("Condition/1", "condition"),
        draw(st.sampled_from(Standing)),
        surely_until=draw(st.sampled_from([date.max, first, last])),
    )


def weighed(kilograms: int, day: date) -> Count:
    exactly = Interval.exactly(Decimal(kilograms))
    return Count(Analyte.BODY_WEIGHT, exactly, on(day), (Source("Observation/w", "w"),))


@given(
    st.lists(records(), max_size=4).map(tuple),
    st.lists(st.builds(weighed, st.sampled_from([11, 13]), DAYS), max_size=3).map(tuple),
    st.sampled_from([(), ("conditions",)]),
)
def test_exclusions_of_each_day_are_those_of_single_assessments(
    chart: tuple[Charted, ...], weights: tuple[Count, ...], looked_at: tuple[str, ...]
) -> None:
    course = Course(Patient("Patient/1"), chart=chart, weights=weights, looked_at=looked_at)
    by_day = ExclusionsByDay(PUBLISHED[0], course, Person(PUBLISHED[0], course, 30))
    for number in range(0, 420, 7):
        day = on(date(2004, 1, 1) + timedelta(days=number))
        alone = assess_eligibility(PUBLISHED[0], course, day, exclusions=True)
        assert by_day.free_on(day.last) is alone.judgement.exclusion


def test_an_episode_ends_where_the_definition_is_seen_not_to_be_met() -> None:
    """A day left open ends none, and adds nothing to the longest time met."""
    days = [("2024-01-01", "0.9", "45"), ("2024-03-01", "0.9", None), ("2024-05-01", "0.9", "45")]
    days += [("2024-05-20", "0.9", "45"), ("2024-07-01", "3", "200"), ("2024-09-01", "0.9", "45")]
    counts = [
        Count(analyte, Interval.exactly(Decimal(value)), on(date.fromisoformat(day)), (source,))
        for day, *values in days
        for analyte, value in zip(
            (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Analyte.PLATELETS), values, strict=True
        )
        if value
        for source in [Source(f"Observation/{analyte.name}-{day}", day)]
    ]
    life = life_of(assess_life(PUBLISHED[0], Course(Patient("Patient/1"), counts=tuple(counts))))
    assert [p.verdict.value for p in life.periods] == [
        "eligible",
        "indeterminate",
        "eligible",
        "not-eligible",
        "eligible",
    ]
    assert (life.episodes, life.longest_met_days) == (2, 19)
    assert (life.first_met, life.last_met) == (date(2024, 1, 1), date(2024, 9, 1))


def test_a_longer_time_stands_in_place_of_the_papers_own_and_a_shorter_one_does_not() -> None:
    howard = next(paper for paper in PUBLISHED if sustained_rules(paper))
    assert sustained_over(howard, 14) is howard
    (longer,) = sustained_rules(sustained_over(howard, 84))
    assert (longer.rule, longer.days) == (sustained_rules(howard)[0].rule, 84)
