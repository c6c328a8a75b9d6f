"""What holds of every course and every Bundle, tried on many."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import product
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app import operations
from app.domain.assessment import Assessment, assess_eligibility
from app.domain.counts import (
    UNDATED,
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Kind,
    NoTransfusion,
    Patient,
    Product,
    Sex,
    Source,
    Transfusion,
    When,
)
from app.domain.derivation import derived_counts
from app.domain.judgement import Verdict, sustained_rules
from app.domain.limits import Limit
from app.domain.paper import Paper, interpretation
from app.domain.recovery import Doubled, Rise
from app.domain.response import assess_response
from app.domain.rules import Rule, Truth
from app.fhir.codes import BY_LOINC, Dimension
from app.fhir.json import encode
from app.fhir.ucum import UNITS, UnitRow
from app.fhir.units import fitting
from app.papers import PUBLISHED, RESPONSES
from tests.naive import Naive
from tests.naive import holds as holds_value
from tests.naive_response import BEST_FIRST, assessed

ANC = Analyte.ABSOLUTE_NEUTROPHIL_COUNT
PLATELETS = Analyte.PLATELETS
HEMOGLOBIN = Analyte.HEMOGLOBIN
RETICULOCYTES = Analyte.RETICULOCYTES
JUDGED = (ANC, PLATELETS, HEMOGLOBIN, RETICULOCYTES)
# On, just under and just over every published limit, and far from all of them.
TELLING = {
    ANC: ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "4"],
    PLATELETS: [
        "10",
        "19",
        "20",
        "21",
        "49",
        "50",
        "51",
        "69",
        "70",
        "71",
        "99",
        "100",
        "101",
        "250",
    ],
    HEMOGLOBIN: ["6", "8.4", "8.5", "8.6", "9.9", "10", "10.1", "14"],
    RETICULOCYTES: ["10", "19", "20", "21", "39", "40", "41", "59", "60", "61", "100"],
}


def at_one_moment(paper: Paper) -> Paper:
    """The definition without what it asks of earlier days, which tests/test_life.py tries."""
    rules = sustained_rules(paper)
    return replace(paper, eligibility=rules[0].rule) if rules else paper


READINGS = [
    (at_one_moment(p), policy) for p in PUBLISHED for policy in (p.red_cell_policies or (None,))
]
readings = st.sampled_from(READINGS)
DAY = date(2024, 3, 5)


# The engine, on arbitrary courses

# Near each other and on both sides of every window; anywhere; at the calendar's ends.
days = st.one_of(
    st.sampled_from([0, 0, 0, 1, 7, 8, 14, 15, 28, 29, 30, 31, 56, 57, 366, -1]).map(
        lambda ago: DAY - timedelta(days=ago)
    ),
    st.dates(),
    st.integers(0, 60).map(lambda n: date.min + timedelta(days=n)),
    st.integers(0, 60).map(lambda n: date.max - timedelta(days=n)),
)
hours = st.sampled_from([0, 8, 23])
# Most courses play near one day, where windows, support and moments of several counts meet.
near = st.sampled_from([0, 0, 0, 1, 5, 7, 8, 14, 15, 28, 29, 30, 31, 55, 56, 57]).map(
    lambda ago: DAY - timedelta(days=ago)
)


@st.composite
def moments(draw: st.DrawFn, of: st.SearchStrategy[date] = days) -> When:
    first = draw(of)
    kind = draw(st.sampled_from(["day", "day", "instant", "instant", "span"]))
    if kind == "span":
        length = min(draw(st.sampled_from([1, 4, 30, 31, 400])), (date.max - first).days)
        last = first + timedelta(days=length)
        return When(first, last, None, f"{first}/{last}")
    if kind == "day":
        return When(first, first, None, str(first))
    # Zones that write another civil day than Greenwich does.
    ahead = draw(st.sampled_from([0, 0, 8, 14, -12])) if 1900 < first.year < 2100 else 0
    zone = timezone(timedelta(hours=ahead))
    local = datetime(first.year, first.month, first.day, draw(hours), tzinfo=zone)
    return When(first, first, local.astimezone(UTC), local.isoformat())


@st.composite
def given_moments(draw: st.DrawFn, of: st.SearchStrategy[date] = days) -> When:
    """When something was given: a moment, or a course that runs on."""
    moment = draw(moments(of))
    if draw(st.sampled_from([False, False, False, True])):
        return When(moment.first, date.max, None, f"{moment.first}/")
    return moment


@st.composite
def intervals(draw: st.DrawFn, analyte: Analyte) -> Interval:
    texts = TELLING.get(analyte, ["0.3", "0.9", "2", "5", "20", "60", "100", "4000"])
    one, other = sorted(Decimal(draw(st.sampled_from(texts))) for _ in range(2))
    return draw(
        st.sampled_from(
            [
                Interval.exactly(one),
                Interval.exactly(other),
                Interval(None, one, high_included=False),
                Interval(None, one),
                Interval(one, None, low_included=False),
                Interval(one, None),
                Interval(one, other),
            ]
        )
    )


sources = st.integers(0, 99).map(
    lambda n: Source(f"Observation/{n}", f"Bundle.entry[{n}].resource")
)


@st.composite
def one_count(draw: st.DrawFn, of: st.SearchStrategy[date] = days) -> Count:
    analyte = draw(st.sampled_from([*JUDGED, *Analyte]))
    return Count(
        analyte,
        draw(intervals(analyte)),
        draw(moments(of)),
        (draw(sources),),
        manual=draw(st.booleans()) and analyte is RETICULOCYTES,
        doubtful=draw(st.sampled_from([False, False, True])),
        specimen=draw(st.sampled_from([None, "Specimen/1"])),
    )


@st.composite
def courses(draw: st.DrawFn, of: st.SearchStrategy[date] | None = None) -> Course:
    if of is None:
        of = draw(st.sampled_from([days, near]))
    some = draw(st.lists(one_count(of), max_size=9))
    when = given_moments(of)
    transfusion = st.builds(Transfusion, st.sampled_from(Product), when, sources, st.booleans())
    undated = st.builds(
        Transfusion, st.sampled_from(Product), st.just(UNDATED), sources, st.just(False)
    )
    return Course(
        Patient("Patient/1"),
        counts=tuple(some),
        derived=derived_counts(some),
        transfusions=tuple(draw(st.lists(st.one_of(transfusion, transfusion, undated)))),
        no_transfusions=tuple(
            draw(
                st.lists(
                    st.builds(
                        NoTransfusion, st.none() | st.sampled_from(Product), moments(of), sources
                    ),
                    max_size=2,
                )
            )
        ),
        transfusion_history_complete=draw(st.booleans()),
        drugs=tuple(
            draw(st.lists(st.builds(DrugGiven, st.sampled_from(Drug), when, sources), max_size=3))
        ),
    )


@given(
    courses(),
    st.lists(st.tuples(one_count(), st.sampled_from(Kind)), max_size=4),
    readings,
    st.none() | moments(),
    st.integers(1, 36_500),
)
def test_every_course_has_a_verdict_and_an_open_one_asks_for_something(
    course: Course, more: list[tuple[Count, Kind]], which: Any, as_of: Any, window: int
) -> None:
    """The engine is total, also over kinds of counts at moments the reader would not make."""
    paper, policy = which
    derived = (*course.derived, *(count._replace(kind=kind) for count, kind in more))
    found = assess_eligibility(paper, course._replace(derived=derived), as_of, window, policy)
    asks = bool(found.needs or found.needs_transfusion_history)
    assert (found.verdict is Verdict.INDETERMINATE) == asks


@given(courses(), readings, st.randoms(use_true_random=False))
def test_order_and_repetition_of_results_change_no_verdict(
    course: Course, which: Any, shuffler: random.Random
) -> None:
    """The order a server answers in tells nothing, and a result sent twice is one result."""
    paper, policy = which
    some = [*course.counts, *course.counts[:3]]
    shuffler.shuffle(some)
    other = course._replace(counts=tuple(some), derived=derived_counts(some))
    one, two = (assess_eligibility(paper, c, policy=policy) for c in (course, other))
    assert (one.verdict, one.needs) == (two.verdict, two.needs)
    assert one.findings == two.findings


# The engine, against the definitions written a second time


@st.composite
def one_day(draw: st.DrawFn) -> dict[Analyte, Interval | None]:
    """Of each count judged what is known on one day: nothing, a number, or an interval."""
    return {analyte: draw(st.none() | intervals(analyte)) for analyte in JUDGED}


def count_of(analyte: Analyte, value: Interval, by_hand: bool = False, day: date = DAY) -> Count:
    return Count(
        analyte,
        value,
        When(day, day, None, day.isoformat()),
        (Source(f"Observation/{analyte.name}", analyte.name),),
        manual=by_hand and analyte is RETICULOCYTES,
    )


def course_of(
    known: dict[Analyte, Interval | None], by_hand: bool = False, complete: bool = False
) -> Course:
    return Course(
        Patient("Patient/1"),
        counts=tuple(
            count_of(analyte, value, by_hand)
            for analyte, value in known.items()
            if value is not None
        ),
        transfusion_history_complete=complete,
    )


def within(value: Decimal, interval: Interval) -> bool:
    if interval.low is not None and (
        value < interval.low or (value == interval.low and not interval.low_included)
    ):
        return False
    return not (
        interval.high is not None
        and (value > interval.high or (value == interval.high and not interval.high_included))
    )


def possible(analyte: Analyte, interval: Interval | None) -> list[Decimal]:
    """Values the count may have: by every limit, and a hair inside of the interval's ends."""
    values = [Decimal(text) for text in TELLING[analyte]]
    if interval is None:
        return values
    ends = [end for end in (interval.low, interval.high) if end is not None]
    hair = Decimal("0.001")
    near_ends = [value for end in ends for value in (end - hair, end, end + hair)]
    return [value for value in dict.fromkeys([*values, *near_ends]) if within(value, interval)]


def telling_for(rule: Rule, analyte: Analyte, interval: Interval | None) -> list[Decimal]:
    """The possible values beside the rule's own numbers, and far from them."""
    numbers = [
        number
        for leaf in rule.leaves()
        if isinstance(leaf, Limit) and leaf.analyte is analyte
        for number in (leaf.number, leaf.manual)
        if number is not None
    ]
    some = possible(analyte, interval)
    beside = {v for v in some if any(abs(v - n) <= Decimal("0.1") or v == n - 1 for n in numbers)}
    return sorted(beside | {min(some), max(some)})


Patients = dict[Analyte, Decimal]


def severe(c: Patients, by_hand: bool) -> bool:
    """Camitta 1976: two of neutrophils < 0.5, platelets < 20, reticulocytes < 60 (by hand 20)."""
    few = c[RETICULOCYTES] < (20 if by_hand else 60)
    return (c[ANC] < Decimal("0.5")) + (c[PLATELETS] < 20) + few >= 2


def moderate(red_cells: Callable[[bool, bool, bool], bool]) -> Callable[..., bool]:
    """The trial: two of ANC <= 1.2, platelets <= 70 and red cells, and not severe."""

    def judge(c: Patients, by_hand: bool, units: int) -> bool:
        low_hb, few = c[HEMOGLOBIN] <= Decimal("8.5"), c[RETICULOCYTES] <= 60
        low = (c[ANC] <= Decimal("1.2")) + (c[PLATELETS] <= 70) + red_cells(low_hb, few, units >= 4)
        return low >= 2 and not severe(c, by_hand)

    return judge


def emaa(c: Patients, by_hand: bool, units: int) -> bool:
    low = (Decimal("0.5") < c[ANC] < Decimal("1.2")) + (c[PLATELETS] < 70) + (c[RETICULOCYTES] < 60)
    worst = (c[ANC] < Decimal("0.5")) + (c[PLATELETS] < 20) + (c[RETICULOCYTES] < 20)
    return low >= 2 and worst < 2


def two_below(**limits: str) -> Callable[..., bool]:
    def judge(c: Patients, by_hand: bool, units: int) -> bool:
        return sum(c[Analyte[name]] < Decimal(limit) for name, limit in limits.items()) >= 2

    return judge


ORACLE: dict[tuple[str, str | None], Callable[..., bool]] = {
    ("nih-daclizumab-2003", "both"): moderate(lambda hb, few, dependent: hb and few),
    ("nih-daclizumab-2003", "reticulocytes-when-transfused"): moderate(
        lambda hb, few, dependent: hb and (few or not dependent)
    ),
    ("nih-daclizumab-2003", "reticulocytes-only"): moderate(lambda hb, few, dependent: few),
    ("camitta-severe-1976", None): lambda c, by_hand, units: severe(c, by_hand),
    ("very-severe", None): lambda c, by_hand, units: severe(c, by_hand) and c[ANC] < Decimal("0.2"),
    ("nih-severe", None): two_below(
        ABSOLUTE_NEUTROPHIL_COUNT="0.5", PLATELETS="20", RETICULOCYTES="60"
    ),
    ("bsh-diagnosis", None): two_below(
        ABSOLUTE_NEUTROPHIL_COUNT="1.5", PLATELETS="50", HEMOGLOBIN="10"
    ),
    ("howard-2004-pediatric", None): two_below(
        ABSOLUTE_NEUTROPHIL_COUNT="1.5", PLATELETS="100", RETICULOCYTES="40"
    ),
    ("emaa", None): emaa,
    ("cibmtr-severe", None): two_below(
        ABSOLUTE_NEUTROPHIL_COUNT="0.5", PLATELETS="20", RETICULOCYTES="20"
    ),
    ("mhlw-diagnosis", None): two_below(
        HEMOGLOBIN="10", ABSOLUTE_NEUTROPHIL_COUNT="1.5", PLATELETS="100"
    ),
    ("nih-prca-2003", None): lambda c, by_hand, units: c[RETICULOCYTES] <= 50 and units > 0,
}


def outcomes(
    which: Any, known: dict[Analyte, Interval | None], by_hand: bool, units: set[int]
) -> set[bool]:
    """What the definition comes to over every sampled completion of what is not known.

    `units` are how many of red cells may have been given in the 8 weeks before.
    """
    paper, policy = which
    judge = ORACLE[paper.id, policy]
    asked = interpretation(paper, policy).analytes
    choices = [possible(a, known[a]) if a in asked else [Decimal(1)] for a in JUDGED]
    found = set()
    for values in product(*choices):
        for given_units in units:
            found.add(judge(dict(zip(JUDGED, values, strict=True)), by_hand, given_units))
        if len(found) > 1:
            break
    return found


def test_every_published_reading_is_written_a_second_time_here() -> None:
    """Else the oracle would be silent on a definition."""
    assert set(ORACLE) == {(paper.id, policy) for paper, policy in READINGS}


VERDICTS = {
    frozenset({True}): Verdict.ELIGIBLE,
    frozenset({False}): Verdict.NOT_ELIGIBLE,
    frozenset({True, False}): Verdict.INDETERMINATE,
}


@settings(max_examples=400)
@given(one_day(), readings, st.booleans(), st.booleans())
def test_a_verdict_is_what_every_completion_of_the_unknown_comes_to(
    known: dict[Analyte, Interval | None], which: Any, by_hand: bool, complete: bool
) -> None:
    """Decided where all completions agree, open where they differ: neither too bold nor too shy."""
    paper, policy = which
    assume(all(value is None or possible(a, value) for a, value in known.items()))
    # A complete history without a transfusion in it is independence; none is no evidence. The day
    # up to which there were none is that of a count asked for.
    dated = complete and any(known[analyte] for analyte in interpretation(paper, policy).analytes)
    units = {0} if dated else {0, 1, 4}
    found = assess_eligibility(paper, course_of(known, by_hand, complete), policy=policy)
    expected = outcomes(which, known, by_hand and known[RETICULOCYTES] is not None, units)
    assert found.verdict is VERDICTS[frozenset(expected)]


@settings(max_examples=600)
@given(courses(near), readings, st.sampled_from([1, 14, 30, 60]))
def test_every_limit_is_answered_as_a_slow_judge_answers_it(
    course: Course, which: Any, window: int
) -> None:
    """Which counts are judged, what bounds leave of them and what support does to them."""
    paper, policy = which
    rule, _, analytes, *_ = interpretation(paper, policy)
    limits = [leaf for leaf in rule.leaves() if isinstance(leaf, Limit)]
    numbers = {n for leaf in limits for n in (leaf.number, leaf.manual) if n is not None}
    slow = Naive(course, analytes, window, numbers)
    found = assess_eligibility(paper, course, window_days=window, policy=policy)
    for leaf in limits:

        def meets(value: Decimal, by_hand: bool, leaf: Limit = leaf) -> bool:
            number = leaf.manual if by_hand and leaf.manual is not None else leaf.number
            return SIGNS[leaf.symbol](value, number)

        assert leaf.check(found.known).value == slow.truth(leaf.analyte, meets), leaf


# Around a start of treatment on DAY: on both sides of every day that a definition names.
BEFORE = (-119, -91, -90, -60, -30, -28, -7, -5, 0, 0, 0)
IN_TIME = (1, 59, 60, 62, 75, 87, 88, 90, 90, 91, 100, 116, 120, 121, 149, 150, 180, 180, 183, 184)
LATER = (210, 211, 400, 790, 819, 820, 900)
course_days = st.sampled_from([*BEFORE, *IN_TIME, *LATER]).map(
    lambda after: DAY + timedelta(days=after)
)


LOW = {ANC: ["0", "0.3", "0.5", "0.6", "1.2"], PLATELETS: ["0", "19", "20", "50", "70"]}
LOW |= {HEMOGLOBIN: ["5.9", "6", "8.5", "8.5"], RETICULOCYTES: ["19", "41", "60", "60"]}


@st.composite
def treated(draw: st.DrawFn) -> Course:
    """A course that mostly has low counts before the start, and all counts of days after it."""
    course = draw(courses(course_days))
    panels = [(draw(st.sampled_from(BEFORE)), LOW if draw(st.integers(0, 4)) else TELLING)]
    for days in (IN_TIME, IN_TIME, LATER):
        panels += [(day, TELLING) for day in draw(st.lists(st.sampled_from(days), max_size=2))]
    more = []
    for after, values in panels:
        for analyte in JUDGED:
            value = Interval.exactly(Decimal(draw(st.sampled_from(values[analyte]))))
            own = draw(st.sampled_from([None, None, None, Interval(Decimal(1), Decimal(400))]))
            day = DAY + timedelta(days=after)
            when = When(day, day, None, str(day))
            more.append(Count(analyte, value, when, (draw(sources),), normal=own))
    born = draw(st.none() | st.sampled_from([6574, 6575, 6640]).map(born_days_before))
    return course._replace(
        counts=(*(course.counts if draw(st.booleans()) else ()), *more),
        derived=course.derived,
        sex=draw(st.sampled_from([*Sex, None])),
        born=born,
    )


def born_days_before(days: int) -> When:
    day = DAY - timedelta(days=days)
    return When(day, day, None, str(day))


BY_ID = {paper.id: paper for paper in RESPONSES}
RESPONSE_READINGS = [
    (paper.id, policy) for paper in RESPONSES for policy in (paper.red_cell_policies or (None,))
]


@settings(max_examples=300)
@given(
    treated(),
    st.sampled_from(RESPONSE_READINGS),
    st.one_of(st.just(DAY), st.just(DAY), st.just(DAY), course_days).map(
        lambda day: When(day, day, None, str(day))
    ),
    st.sampled_from([1, 14, 30, 60]),
    st.sampled_from([56, 84, 112]),
)
def test_every_response_is_the_one_a_slow_judge_comes_to(
    course: Course, which: Any, start: When, window: int, free_days: int
) -> None:
    """Baseline, support, dependence, each day's verdict, and what they come to together."""
    name, policy = which
    found = assess_response(BY_ID[name], course, start, None, window, policy, free_days)
    slow = assessed(name, policy or "both", course, start, window, free_days)
    assert found.verdict.value == slow.verdict
    for moment, day in (
        (found.at_3_months, slow.at_3_months),
        (found.at_6_months, slow.at_6_months),
        (found.current, slow.current),
    ):
        assert (moment.verdict.value if moment else None) == day
    if slow.by_day and found.best:
        assert found.best.verdict.value == min(slow.by_day.values(), key=BEST_FIRST.index)
    kept = {Truth.MET: True, Truth.NOT_MET: False, Truth.UNKNOWN: None, None: "not-applicable"}
    assert kept[found.kept_two_years] == slow.kept_two_years


SIGNS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


supports = st.lists(
    st.tuples(
        st.sampled_from(
            [Product.RED_CELLS, Product.PLATELETS, Drug.FILGRASTIM, Drug.PEGFILGRASTIM]
        ),
        st.sampled_from([-1, 0, 7, 8, 14, 15, 28, 29, 56, 57]),
    ),
    max_size=7,
)
# The product or drug, what it lifts, and for how many days.
LIFTS = {
    Product.RED_CELLS: (HEMOGLOBIN, 28),
    Product.PLATELETS: (PLATELETS, 7),
    Drug.FILGRASTIM: (ANC, 14),
    Drug.PEGFILGRASTIM: (ANC, 28),
}


def supported(course: Course, given_support: list[tuple[Product | Drug, int]]) -> Course:
    transfusions, drugs = [], []
    for what, ago in given_support:
        day = DAY - timedelta(days=ago)
        when, source = When(day, day, None, str(day)), Source(f"Procedure/{ago}", "")
        if isinstance(what, Product):
            transfusions.append(Transfusion(what, when, source))
        else:
            drugs.append(DrugGiven(what, when, source))
    return course._replace(transfusions=tuple(transfusions), drugs=tuple(drugs))


def without_lower_ends(
    known: dict[Analyte, Interval | None], given_support: list[tuple[Product | Drug, int]]
) -> dict[Analyte, Interval | None]:
    """A high count under support is no evidence, a low one still counts as low."""
    rest = dict(known)
    for what, ago in given_support:
        analyte, days_after = LIFTS[what]
        value = rest[analyte]
        if value is not None and 0 <= ago <= days_after:
            rest[analyte] = value._replace(low=None)
    return rest


@settings(max_examples=400)
@given(one_day(), readings, supports, st.booleans())
def test_a_verdict_under_support_is_what_the_counts_without_it_may_come_to(
    known: dict[Analyte, Interval | None],
    which: Any,
    given_support: list[tuple[Product | Drug, int]],
    complete: bool,
) -> None:
    """As above, with transfusions and growth factors around the ends of their days."""
    paper, policy = which
    assume(all(value is None or possible(a, value) for a, value in known.items()))
    asked = interpretation(paper, policy).analytes
    assume(any(known[analyte] for analyte in asked))
    units = sum(what is Product.RED_CELLS and 0 <= ago <= 56 for what, ago in given_support)
    may_be = {units} if complete else {units, units + 1, units + 4}
    course = supported(course_of(known, complete=complete), given_support)
    found = assess_eligibility(paper, course, policy=policy)
    expected = outcomes(which, without_lower_ends(known, given_support), False, may_be)
    assert found.verdict is VERDICTS[frozenset(expected)]


# What is learned later


def learned(course: Course, found: Assessment, told: dict[Analyte, Decimal]) -> Course:
    """The course with exact counts of the day judged, counted as the others of the analyte were."""
    day = found.as_of.last if found.as_of else DAY
    by_hand = any(count.manual for count in found.counts)
    more = tuple(count_of(a, Interval.exactly(v), by_hand, day) for a, v in told.items())
    return course._replace(counts=(*course.counts, *more))


@given(courses(near), readings, st.data())
def test_a_decided_verdict_stands_whatever_is_learned_of_missing_counts(
    course: Course, which: Any, data: st.DataObject
) -> None:
    """Nothing was guessed of what was missing, whatever else is in the chart."""
    paper, policy = which
    found = assess_eligibility(paper, course, policy=policy)
    assume(found.verdict is not Verdict.INDETERMINATE)
    missing = set(JUDGED) - {count.analyte for count in (*course.counts, *course.derived)}
    told = {a: Decimal(data.draw(st.sampled_from(TELLING[a]))) for a in JUDGED if a in missing}
    more = assess_eligibility(paper, learned(course, found, told), policy=policy)
    assert more.verdict is found.verdict


@given(one_day(), readings)
def test_exact_counts_of_the_missing_never_turn_a_decided_verdict(
    known: dict[Analyte, Interval | None], which: Any
) -> None:
    """As above on one day, with every value that tells, of every missing count together."""
    paper, policy = which
    course = course_of(known)
    found = assess_eligibility(paper, course, policy=policy)
    assume(found.verdict is not Verdict.INDETERMINATE)
    missing = [analyte for analyte, value in known.items() if value is None]
    for values in product(*(TELLING[a][::2] for a in missing)):
        told = {a: Decimal(v) for a, v in zip(missing, values, strict=True)}
        more = assess_eligibility(paper, learned(course, found, told), policy=policy)
        assert more.verdict is found.verdict


@given(one_day(), readings, st.booleans())
def test_the_counts_asked_for_settle_the_verdict_and_each_of_them_can_matter(
    known: dict[Analyte, Interval | None], which: Any, by_hand: bool
) -> None:
    """No round of questions is wasted: enough is asked for at once, and nothing in vain."""
    paper, policy = which
    by_hand = by_hand and known[RETICULOCYTES] is not None
    assume(all(value is None or possible(a, value) for a, value in known.items()))
    found = assess_eligibility(paper, course_of(known, by_hand), policy=policy)
    assume(found.verdict is Verdict.INDETERMINATE and not found.needs_transfusion_history)
    rule, _, asked, *_ = interpretation(paper, policy)
    assert set(found.needs) <= asked
    matters: set[Analyte] = set()
    for values in product(*(telling_for(rule, a, known[a]) for a in found.needs)):
        told = {a: Interval.exactly(v) for a, v in zip(found.needs, values, strict=True)}
        settled = assess_eligibility(paper, course_of(known | told, by_hand), policy=policy)  # type: ignore[operator]
        assert settled.verdict is not Verdict.INDETERMINATE
        for analyte in set(found.needs) - matters:
            some = known | told | {analyte: known[analyte]}
            without = assess_eligibility(paper, course_of(some, by_hand), policy=policy)
            if without.verdict is Verdict.INDETERMINATE:
                matters.add(analyte)
    assert matters == set(found.needs)


# Through FHIR

CODES = dict(zip(("751-8", "777-3", "718-7", "60474-4"), JUDGED, strict=True))
HELD_IN = {code: analyte.unit for code, analyte in CODES.items()}


# What is not UCUM stands beside the table: one spelling for each way to write a magnitude.
WRITTEN = [
    "K/uL",
    "x10\u00b3/\u00b5L",
    "E9/L",
    "10000/\u03bcL",
    "lakhs/cumm",
    "G/L",
    "M/uL",
    "gm%",
    "cells/mm3",
]


def spellings_of(code: str) -> list[UnitRow]:
    """Every spelling of a unit the code's values may come in."""
    row = BY_LOINC[code]
    written = (
        UnitRow(text, u.dimension, u.factor) for text in WRITTEN if (u := fitting(text, row))
    )
    return [unit for unit in (*UNITS, *written) if unit.dimension is row.dimension]


def quantity(value: str, unit: str, comparator: str = "", coded: bool = False) -> str:
    """A Quantity as it is sent, the number with every digit it is written with."""
    rest = {"comparator": comparator} if comparator else {}
    rest |= {"system": "http://unitsofmeasure.org", "code": unit} if coded else {}
    return f'{{"value":{value},{json.dumps({"unit": unit} | rest)[1:]}'


def observation(name: str, code: str, when: str, amount: str, **more: Any) -> str:
    rest = {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": when,
    }
    return f'{json.dumps(rest | more)[:-1]},"valueQuantity":{amount}}}'


def procedure(name: str, code: str, status: str = "completed", **performed: Any) -> str:
    rest = {
        "resourceType": "Procedure",
        "id": name,
        "status": status,
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
        "subject": {"reference": "Patient/1"},
    }
    return json.dumps(rest | performed)


def administration(name: str, drug: str, when: str, status: str = "completed") -> str:
    return json.dumps(
        {
            "resourceType": "MedicationAdministration",
            "id": name,
            "status": status,
            "medicationCodeableConcept": {"text": drug},
            "subject": {"reference": "Patient/1"},
            "effectiveDateTime": when,
        }
    )


PATIENT = '{"resourceType":"Patient","id":"1"}'


def ask(resources: list[str], **parameters: str) -> dict[str, Any]:
    entries = ",".join(f'{{"resource":{resource}}}' for resource in resources)
    body = f'{{"resourceType":"Bundle","type":"collection","entry":[{entries}]}}'
    answer: dict[str, Any] = json.loads(
        encode(operations.eligibility(body.encode(), list(parameters.items())))
    )
    return answer


def parameters_of(which: Any, **more: str) -> dict[str, str]:
    paper, policy = which
    return {"criteria": paper.id, "redCellPolicy": policy or "both", **more}


def verdict_of(answer: dict[str, Any]) -> tuple[str, list[str]]:
    """The verdict and every criterion's answer."""
    found = answer["entry"][0]["resource"]
    return found["valueCodeableConcept"]["coding"][0]["code"], [
        part["valueCodeableConcept"]["coding"][0]["code"]
        for part in found["component"]
        if "valueCodeableConcept" in part
    ]


def ways_to_write(value: Decimal) -> list[str]:
    """One number as JSON allows it: 1.2, 1.20, 12e-1, 0.12E+1."""
    plain = format(value, "f")
    whole, _, fraction = plain.partition(".")
    digits = (whole + fraction).lstrip("0") or "0"
    return [
        plain,
        f"{plain}0" if fraction else f"{plain}.0",
        f"{digits}e-{len(fraction)}",
        f"{format(value / 10, 'f')}E+1",
    ]


@st.composite
def told_twice(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """The same counts, once plainly and once in other units, spellings and order."""
    plain: list[str] = []
    other: list[str] = []
    for code, analyte in CODES.items():
        if draw(st.booleans()):
            value = draw(st.sampled_from(TELLING[analyte]))
            sign = draw(st.sampled_from(["", "", "<", "<=", ">", ">="]))
            unit = draw(st.sampled_from(spellings_of(code)))
            written = draw(st.sampled_from(ways_to_write(Decimal(value) / unit.factor)))
            coded = unit in UNITS and draw(st.booleans())
            plain.append(
                observation(code, code, "2024-03-05", quantity(value, HELD_IN[code], sign))
            )
            other.append(
                observation(code, code, "2024-03-05", quantity(written, unit.text, sign, coded))
            )
    assume(plain)
    other += other[: draw(st.integers(0, 2))]
    return plain, draw(st.permutations(other))


@settings(max_examples=250)
@given(told_twice(), readings)
def test_unit_spelling_order_and_repetition_change_no_verdict(
    told: tuple[list[str], list[str]], which: Any
) -> None:
    """1.2 10*9/L, 1200 /uL and 12e-1 K/uL are one count."""
    asked = parameters_of(which)
    assert verdict_of(ask(told[0], **asked)) == verdict_of(ask(told[1], **asked))


@given(
    st.decimals(3, 15, places=2),
    st.sampled_from(["5.276", "5.277", "6.207", "6.208"]).map(Decimal) | st.none(),
    readings,
)
def test_hemoglobin_in_mmol_is_judged_as_the_same_in_grams(
    millimoles: Decimal, by_a_limit: Decimal | None, which: Any
) -> None:
    """1 mmol/L of hemoglobin monomer is 1.611 g/dL; 8.5 and 10 g/dL are no round numbers of it."""
    molar = by_a_limit or millimoles
    grams = molar * Decimal("1.611")
    rest = [
        observation("anc", "751-8", "2024-03-05", quantity("1.0", "10*9/L")),
        observation("plt", "777-3", "2024-03-05", quantity("150", "10*9/L")),
        observation("arc", "60474-4", "2024-03-05", quantity("60", "10*9/L")),
    ]
    asked = parameters_of(which)
    one, other = (
        ask([*rest, observation("hb", code, "2024-03-05", amount)], **asked)
        for code, amount in (
            ("59260-0", quantity(str(molar), "mmol/L")),
            ("718-7", quantity(str(grams), "g/dL")),
        )
    )
    assert verdict_of(one) == verdict_of(other)


def test_every_unit_of_the_four_counts_is_tried() -> None:
    """The table's number and mass units all belong to a count judged here."""
    tried = {unit.text for code in CODES for unit in spellings_of(code)}
    assert tried >= {
        unit.text
        for unit in UNITS
        if unit.dimension in {Dimension.NUMBER_CONCENTRATION, Dimension.MASS_CONCENTRATION}
    }


MORE = [
    ("6690-2", "10*9/L", ["0.4", "0.9", "2.0", "6"]),
    ("770-8", "%", ["20", "60", "61"]),
    ("769-0", "%", ["20", "55"]),
    ("764-1", "%", ["1", "5"]),
    ("30451-9", "10*9/L", ["0.3", "1.3"]),
    ("26507-4", "10*9/L", ["0.1"]),
    ("789-8", "10*12/L", ["2.0", "4.0"]),
    ("17849-1", "%", ["0.5", "1.5", "3"]),
    ("40665-2", "10*9/L", ["19", "20", "59"]),
    *((code, HELD_IN[code], TELLING[analyte]) for code, analyte in CODES.items()),
]
WHENS = [
    "2024-03-05",
    "2024-03-05T08:00:00Z",
    "2024-03-05T09:00:00+01:00",
    "2024-03-05T06:30:00+08:00",
    "2024-03-04T23:45:00Z",
    "2024-03-04",
    "2024-02-20",
    "2024-02-04",
    "2024-02-03",
    "2024-03",
    "2024",
    "2019-03-05",
]
GIVEN = [*WHENS, "2024-03-01", "2024-02-26", "2024-01-20", "2024-01-09", "2024-03-20"]
PERIODS = [("2023-12-01", "2024-03-31"), ("2024-01-09", "2024-03-05"), ("2024-02-01", "2024-03-05")]


@st.composite  # type: ignore[arg-type]
def results(draw: st.DrawFn, name: str, **more: Any) -> str:
    code, unit, some = draw(st.sampled_from(MORE))
    if draw(st.booleans()):
        more["specimen"] = {"reference": "Specimen/1"}
    sign = draw(st.sampled_from(["", "", "", "<", ">="]))
    amount = quantity(draw(st.sampled_from(some)), unit, sign)
    return observation(name, code, draw(st.sampled_from(WHENS)), amount, **more)


@st.composite
def charts(draw: st.DrawFn) -> list[str]:
    """Results, transfusions, statements that none were given, and drugs, of one patient."""
    resources = [PATIENT]
    resources += (draw(results(f"o{index}")) for index in range(draw(st.integers(1, 9))))
    for index in range(draw(st.integers(0, 6))):
        code = draw(st.sampled_from(["116863004", "12719002", "116859006"]))
        when = draw(st.sampled_from([*GIVEN, "", "the day before"]))
        dated = {"performedDateTime": when} if when else {}
        status = draw(st.sampled_from(["completed", "completed", "completed", "unknown"]))
        given_ = json.loads(procedure(f"p{index}", code, status, **dated))
        if draw(st.booleans()):
            given_["code"] = {"text": draw(st.sampled_from(IN_WORDS))}
        resources.append(json.dumps(given_))
    if draw(st.booleans()):
        start, end = draw(st.sampled_from(PERIODS))
        code = draw(st.sampled_from(["116863004", "116859006"]))
        period = {"start": start, "end": end}
        resources.append(procedure("none", code, "not-done", performedPeriod=period))
    for index in range(draw(st.integers(0, 2))):
        drug = draw(st.sampled_from(["filgrastim", "pegfilgrastim", "Packed red cells"]))
        status = draw(st.sampled_from(["completed", "completed", "in-progress", "unknown"]))
        resources.append(administration(f"d{index}", drug, draw(st.sampled_from(GIVEN)), status))
    return resources


IN_WORDS = ["Packed red cell transfusion", "Thrombozytenkonzentrat", "Blood transfusion"]


@st.composite
def wrong_entries(draw: st.DrawFn) -> str:
    """A result, a transfusion or a drug that was entered in error."""
    wrong = "entered-in-error"
    when = draw(st.sampled_from(GIVEN))
    return draw(
        st.one_of(
            results("wrong", status=wrong),
            st.just(procedure("wrong", "116863004", wrong, performedDateTime=when)),
            st.just(administration("wrong", "filgrastim", when, wrong)),
        )
    )


def all_but_remarks(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer's resources without the OperationOutcome and the references to it."""
    return [
        {key: value for key, value in resource.items() if key != "evaluationMessage"}
        for resource in (entry["resource"] for entry in answer["entry"])
        if resource["resourceType"] != "OperationOutcome"
    ]


@given(charts(), st.lists(wrong_entries(), min_size=1, max_size=3), readings)
def test_what_was_entered_in_error_changes_nothing_but_the_outcome(
    chart: list[str], wrong: list[str], which: Any
) -> None:
    """Assessment and guidance stay the same to the last word."""
    asked = parameters_of(which)
    one, other = all_but_remarks(ask(chart, **asked)), all_but_remarks(ask(chart + wrong, **asked))
    assert [resource["resourceType"] for resource in one] == ["Observation", "GuidanceResponse"]
    assert one == other


@given(charts(), st.sampled_from(MORE), readings)
def test_a_result_entered_in_error_is_told_of(chart: list[str], row: Any, which: Any) -> None:
    """Set aside, and never in silence."""
    code, unit, some = row
    amount = quantity(some[0], unit)
    wrong = observation("wrong", code, "2024-03-05", amount, status="entered-in-error")
    said = json.dumps([e["resource"] for e in ask([*chart, wrong])["entry"]])
    assert f"Bundle.entry[{len(chart)}].resource.status" in said


@settings(max_examples=500)
@given(
    charts(),
    readings,
    st.sampled_from(["complete", "unknown"]),
    st.sampled_from(["", "2024-03-05", "2024-03-04T12:00:00Z", "2024-02-20"]),
    st.sampled_from(["1", "30", "31", "400"]),
)
def test_the_answers_own_evidence_is_enough(
    chart: list[str], which: Any, history: str, as_of: str, window: str
) -> None:
    """Whoever keeps what the assessment names, and the patient, can judge again the same."""
    asked = parameters_of(which, transfusionHistory=history, window=window)
    asked |= {"asOf": as_of} if as_of else {}
    answer = ask(chart, **asked)
    found = answer["entry"][0]["resource"]
    named = {source.get("reference") for source in found.get("derivedFrom", [])}
    named |= {e["valueReference"]["reference"] for e in found.get("extension", [])}
    kept = [
        text
        for text in chart
        if (r := json.loads(text)) and f"{r['resourceType']}/{r['id']}" in {*named, "Patient/1"}
    ]
    assume(any('"Observation"' in text for text in kept))
    assert verdict_of(ask(kept, **asked)) == verdict_of(answer)


@given(charts(), readings, st.randoms(use_true_random=False))
def test_the_order_of_entries_and_a_repeated_resource_change_no_verdict(
    chart: list[str], which: Any, shuffler: random.Random
) -> None:
    """A Bundle is no list: neither order nor a resource twice (with its id) says anything."""
    other = [*chart, *shuffler.sample(chart, min(3, len(chart)))]
    shuffler.shuffle(other)
    asked = parameters_of(which)
    assert verdict_of(ask(chart, **asked)) == verdict_of(ask(other, **asked))


def test_a_rise_is_what_every_pair_of_possible_counts_says() -> None:
    """Doubled, or risen by a number: for every shape of two intervals, as pairs of values say."""
    ends = [None, *map(Decimal, ["0", "0.5", "1", "2"])]
    shapes = [
        Interval(low, high, *included)
        for low, high in product(ends, ends)
        for included in product([True, False], repeat=2)
        if high is None or (low or 0) < high or ((low or 0) == high and all(included))
    ]
    near = [
        end + step for end in (0, HALF, 1, Decimal("1.5"), 2, Decimal("2.5"), 4) for step in HAIRS
    ]
    values = [*(value for value in near if value >= 0), Decimal(1000), Decimal(100_000)]
    for rule, holds in (
        (Doubled(PLATELETS), lambda old, new: new >= 2 * old and new > old),
        (Rise(PLATELETS, HALF), lambda old, new: new - old >= HALF),
        (Rise(PLATELETS, HALF, more_than=True), lambda old, new: new - old > HALF),
    ):
        for old, new in product(shapes, shapes):
            pairs = product(may_be(old, values), may_be(new, values))
            assert rule.of_pair(new, old) is told({holds(*pair) for pair in pairs}), (old, new)  # type: ignore[no-untyped-call]


HALF = Decimal("0.5")
HAIRS = (Decimal("-0.0001"), Decimal(0), Decimal("0.0001"))


def may_be(interval: Interval, values: list[Decimal]) -> list[Decimal]:
    return [value for value in values if holds_value(interval, value)]


def told(answers: set[bool]) -> Truth:
    known = {frozenset({True}): Truth.MET, frozenset({False}): Truth.NOT_MET}
    return known.get(frozenset(answers), Truth.UNKNOWN)
