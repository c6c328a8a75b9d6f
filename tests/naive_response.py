"""Response a second time: each day judged by itself, each definition written out as sentences.

Nothing is shared with the engine but the data it is given. Of what is known of a count every
possible value is tried; what is known of transfusions is counted anew for every day. The engine
is held to this on random courses (tests/test_properties.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import product
from typing import NamedTuple

from app.domain.counts import (
    Analyte,
    Count,
    Course,
    Interval,
    NoTransfusion,
    Product,
    Sex,
    Transfusion,
    When,
)
from tests.naive import Naive, Values

ANC, PLATELETS = Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Analyte.PLATELETS
HEMOGLOBIN, RETICULOCYTES = Analyte.HEMOGLOBIN, Analyte.RETICULOCYTES
COUNTED = frozenset({ANC, PLATELETS, HEMOGLOBIN, RETICULOCYTES})
LIMITS = (0.5, 1, 1.2, 1.5, 2, 6, 8, 8.5, 9, 10, 11, 11.5, 13.5, 20, 30, 60, 70, 100, 150)
RISES = (0, 0.5, 1.5, 3, 20)
Truth = bool | None
"""None: not known."""
BEST_FIRST = ["complete-response", "response", "indeterminate", "no-response"]


def exactly(number: float) -> Decimal:
    return Decimal(str(number))


def every(*truths: Truth) -> Truth:
    return False if False in truths else None if None in truths else True


def either(*truths: Truth) -> Truth:
    return True if True in truths else None if None in truths else False


def no(truth: Truth) -> Truth:
    return None if truth is None else not truth


def two_of(*truths: Truth) -> Truth:
    may_be = {
        sum(worlds) >= 2 for worlds in product(*([t] if t is not None else [0, 1] for t in truths))
    }
    return may_be.pop() if len(may_be) == 1 else None


def agreed(answers: set[bool]) -> Truth:
    return answers.pop() if len(answers) == 1 else None


class Day:
    """What is known of one day: the counts of the window that ends on it, and transfusions."""

    def __init__(
        self, course: Course, counts: list[Count], day: date, window: int, free_days: int
    ) -> None:
        until = [c for c in counts if c.when.last <= day]
        ends = {e for c in counts for e in (c.value.low, c.value.high) if e is not None}
        ends |= {e for c in counts if c.normal for e in (c.normal.low,) if e is not None}
        near = {*map(exactly, LIMITS), *ends, *(2 * e for e in ends)}
        near |= {e + exactly(n) for e in ends for n in RISES}
        alone = course._replace(counts=tuple(until), derived=())
        self.naive = Naive(alone, COUNTED, window, near)
        self.course, self.day, self.free_days = course, day, free_days
        judged = [c for some in self.naive.inside.values() if some for c in self.naive.judged(some)]
        self.newest = max((c.when.last for c in judged), default=None)
        self.before: Day | None = None

    # Counts

    def limit(self, analyte: Analyte, meets: Callable[[Decimal, bool], bool]) -> Truth:
        return {"met": True, "not-met": False}.get(self.naive.truth(analyte, meets))

    def at_most(self, analyte: Analyte, number: str) -> Truth:
        return self.limit(analyte, lambda value, _: value <= Decimal(number))

    def below(self, analyte: Analyte, number: str) -> Truth:
        return self.limit(analyte, lambda value, _: value < Decimal(number))

    def above(self, analyte: Analyte, number: str) -> Truth:
        return no(self.at_most(analyte, number))

    def normal(self, analyte: Analyte) -> Truth:
        answers: set[bool] = set()
        for values, _, own in self.naive.known(analyte):
            found = self.not_low(analyte, values, own)
            if found is None:
                return None
            answers.add(found)
        return agreed(answers)

    def not_low(self, analyte: Analyte, values: Values, own: Interval | None) -> Truth:
        """Section 4: the laboratory's range, else the table for adults."""
        if own is not None and own.low is not None:
            lowest = {own.low}
        elif self.may_be_child():
            return None
        elif analyte is HEMOGLOBIN:
            lowest = {
                Sex.MALE: {Decimal("13.5")},
                Sex.FEMALE: {Decimal("11.5")},
                None: {Decimal("13.5"), Decimal("11.5")},
            }[self.course.sex]
        else:
            lowest = {Decimal("2.0") if analyte is ANC else Decimal(150)}
        return agreed({value >= low for value in values for low in lowest})

    def may_be_child(self) -> bool:
        born = self.course.born
        return born is not None and (self.day - born.last).days < 6575

    def risen(self, analyte: Analyte, holds: Callable[[Decimal, Decimal], bool]) -> Truth:
        """Whether every old count against every new one, of all they may be, gives one answer."""
        assert self.before
        old = [v for values, *_ in self.before.naive.known(analyte) for v in values]
        new = [v for values, *_ in self.naive.known(analyte) for v in values]
        return agreed({holds(one, other) for one in old for other in new})

    # Transfusions

    def maybe(self, what: Product, days: int) -> list[Transfusion]:
        return [
            t
            for t in self.course.transfusions
            if t.product in {what, Product.UNKNOWN}
            and t.when.last >= self.back(days)
            and t.when.first <= self.day
        ]

    def surely(self, what: Product, days: int) -> list[Transfusion]:
        return [
            t
            for t in self.maybe(what, days)
            if t.product is what
            and t.standing
            and t.when.first >= self.back(days)
            and (t.when.last <= self.day or t.when.last == date.max)
        ]

    def all_on_record(self, what: Product, days: int) -> bool:
        def says_none(n: NoTransfusion) -> bool:
            covers = n.when.first <= self.back(days) and n.when.last >= self.day
            return covers and n.product in {what, None}

        said = any(says_none(n) for n in self.course.no_transfusions)
        return said or self.course.transfusion_history_complete

    def back(self, days: int) -> date:
        return self.day - min(timedelta(days=days), self.day - date.min)

    def dependent(self, what: Product) -> Truth:
        """At least 4 in 8 weeks."""
        if self.newest is None:
            return None
        if len(self.surely(what, 56)) >= 4:
            return True
        recorded = self.maybe(what, 56)
        if len(recorded) >= 4 or not all(t.standing for t in recorded):
            return None
        return False if self.all_on_record(what, 56) else None

    def independent(self, what: Product) -> Truth:
        if self.newest is None:
            return None
        if self.surely(what, self.free_days):
            return False
        covered = self.all_on_record(what, self.free_days)
        return True if covered and not self.maybe(what, self.free_days) else None

    def units(self, what: Product) -> int | None:
        sure = self.surely(what, 56)
        known = self.all_on_record(what, 56) and len(sure) == len(self.maybe(what, 56))
        return len(sure) if known and self.newest else None

    def became_independent(self, what: Product) -> Truth:
        assert self.before
        return every(self.before.dependent(what), self.independent(what))


# The definitions


class Definition(NamedTuple):
    """What a paper asks of a day, and of the day before treatment."""

    response: Callable[[Day], Truth]
    complete: Callable[[Day], Truth] | None = None
    entry: Callable[[Day], Truth] | None = None
    days: tuple[int, int] = (60, 183)
    apart: int = 0


def severe(day: Day) -> Truth:
    return two_of(
        day.below(ANC, "0.5"),
        day.below(PLATELETS, "20"),
        day.limit(RETICULOCYTES, lambda value, by_hand: value < (20 if by_hand else 60)),
    )


def few_red_cells(day: Day, policy: str) -> Truth:
    hemoglobin = day.at_most(HEMOGLOBIN, "8.5")
    reticulocytes = day.at_most(RETICULOCYTES, "60")
    if policy == "reticulocytes-only":
        return reticulocytes
    both = every(hemoglobin, reticulocytes)
    if policy == "both":
        return both
    return either(both, every(hemoglobin, no(day.dependent(Product.RED_CELLS))))


def nih_daclizumab(policy: str) -> Definition:
    affected: dict[Analyte, Callable[[Day], Truth]] = {
        ANC: lambda day: day.at_most(ANC, "1.2"),
        PLATELETS: lambda day: day.at_most(PLATELETS, "70"),
        HEMOGLOBIN: lambda day: few_red_cells(day, policy),
    }
    transfused = {PLATELETS: Product.PLATELETS, HEMOGLOBIN: Product.RED_CELLS}

    def recovered(day: Day, line: Analyte) -> Truth:
        assert day.before
        what = transfused.get(line)
        gained: Truth = False
        if what and day.before.dependent(what):
            gained = day.independent(what)
        if day.normal(line) or gained:
            return True
        return False if affected[line](day) and gained is False else None

    def entry(day: Day) -> Truth:
        return every(two_of(*(asked(day) for asked in affected.values())), no(severe(day)))

    def response(day: Day) -> Truth:
        assert day.before
        return either(*(every(affected[a](day.before), recovered(day, a)) for a in affected))

    def complete(day: Day) -> Truth:
        return every(*(day.normal(line) for line in affected))

    return Definition(response, complete, entry)


def camitta_2000(_: str) -> Definition:
    lines = [
        (ANC, "0.5", "0.5", None),
        (PLATELETS, "20", "20", Product.PLATELETS),
        (HEMOGLOBIN, "6", "3.0", Product.RED_CELLS),
    ]

    def line(day: Day, analyte: Analyte, low: str, rise: str, what: Product | None) -> Truth:
        assert day.before
        doubled = day.risen(analyte, lambda old, new: new >= 2 * old and new > old)
        risen = day.risen(analyte, lambda old, new: new - old > Decimal(rise))
        return every(
            no(day.before.normal(analyte)),
            either(
                day.normal(analyte),
                doubled,
                every(day.before.below(analyte, low), risen),
                day.became_independent(what) if what else False,
            ),
        )

    return Definition(
        response=lambda day: either(*(line(day, *one) for one in lines)),
        complete=lambda day: every(
            day.normal(HEMOGLOBIN), day.above(ANC, "1.5"), day.above(PLATELETS, "150")
        ),
        apart=28,
    )


def nih_eltrombopag(_: str) -> Definition:
    def fewer_units(day: Day) -> Truth:
        assert day.before
        before, now = day.before.units(Product.RED_CELLS), day.units(Product.RED_CELLS)
        return None if before is None or now is None else before - now >= 4

    def response(day: Day) -> Truth:
        assert day.before
        return either(
            every(
                day.before.below(ANC, "0.5"),
                day.risen(ANC, lambda old, new: new >= 2 * old and new > old),
            ),
            day.risen(ANC, lambda old, new: new - old > Decimal("0.5")),
            day.risen(PLATELETS, lambda old, new: new - old >= 20),
            day.became_independent(Product.PLATELETS),
            every(
                day.before.below(HEMOGLOBIN, "9"),
                day.risen(HEMOGLOBIN, lambda old, new: new - old >= Decimal("1.5")),
            ),
            fewer_units(day),
        )

    return Definition(response)


def japan_childhood(_: str) -> Definition:
    return Definition(
        response=lambda day: every(
            day.above(ANC, "1.0"),
            day.above(PLATELETS, "30"),
            day.above(HEMOGLOBIN, "8"),
            day.independent(Product.RED_CELLS),
            day.independent(Product.PLATELETS),
        ),
        complete=lambda day: every(
            day.above(ANC, "1.5"), day.above(PLATELETS, "100"), day.above(HEMOGLOBIN, "11")
        ),
        days=(150, 210),
    )


def nih_severe(_: str) -> Definition:
    def still(day: Day) -> Truth:
        return two_of(
            day.below(ANC, "0.5"), day.below(PLATELETS, "20"), day.below(RETICULOCYTES, "60")
        )

    return Definition(
        response=lambda day: no(still(day)),
        complete=lambda day: every(
            no(day.below(ANC, "1.0")),
            no(day.below(HEMOGLOBIN, "10")),
            no(day.below(PLATELETS, "100")),
        ),
        entry=still,
    )


DEFINITIONS: dict[str, Callable[[str], Definition]] = {
    "nih-daclizumab-2003": nih_daclizumab,
    "camitta-2000-non-severe": camitta_2000,
    "nih-eltrombopag-2012": nih_eltrombopag,
    "japan-childhood": japan_childhood,
    "nih-severe": nih_severe,
}


# A course of treatment


@dataclass
class Told:
    """What the slow judge says."""

    verdict: str = "not-evaluable"
    by_day: dict[date, str] = field(default_factory=dict)
    """Of every assessment after the start, as confirmed."""
    at_3_months: str | None = None
    at_6_months: str | None = None
    current: str | None = None
    kept_two_years: Truth | str = "not-applicable"


def assessed(
    paper: str, policy: str, course: Course, start: When, window: int, free_days: int
) -> Told:
    """The verdict from the counts after `start`, with what stands beside it."""
    definition = DEFINITIONS[paper](policy)
    everything = [c for c in (*course.counts, *course.derived) if c.analyte in COUNTED]
    before = baseline(course, everything, start, window)
    if before is None or (definition.entry and not definition.entry(before)):
        return Told()
    after = [c for c in everything if c.when.after(start) and c.when.first >= start.last]
    found = {}
    for last in sorted({c.when.last for c in after}):
        day = Day(course, after, last, window, free_days)
        day.before = before
        if day.newest == last:
            found[last] = verdict(definition, day)
    found = confirmed(found, definition.apart)
    days = {day: (day - start.first).days for day in found}
    in_time = [d for d in found if definition.days[0] <= days[d] <= definition.days[1]]
    told = Told(by_day=found)
    if in_time:
        told.verdict = min((found[d] for d in in_time), key=BEST_FIRST.index)
    told.at_3_months = nearest(found, days, 60, 90, 120)
    told.at_6_months = nearest(found, days, 150, 180, 210)
    told.current = found[max(found)] if found else None
    told.kept_two_years = kept(found, days, in_time)
    return told


def baseline(course: Course, counts: list[Count], start: When, window: int) -> Day | None:
    """The newest day with counts judged, none after the start or 90 days before it."""
    until = [
        c
        for c in counts
        if not c.when.after(start) and (start.first == start.last or c.when.last <= start.first)
    ]
    then = course._replace(
        transfusions=tuple(t for t in course.transfusions if not t.when.begins_after(start)),
        drugs=tuple(d for d in course.drugs if not d.when.begins_after(start)),
    )
    for last in sorted({c.when.last for c in until}, reverse=True):
        day = Day(then, until, last, window, 56)
        if (start.first - last).days <= 90 and day.newest == last:
            return day
    return None


def verdict(definition: Definition, day: Day) -> str:
    if definition.complete and definition.complete(day):
        return "complete-response"
    return {True: "response", False: "no-response", None: "indeterminate"}[definition.response(day)]


def confirmed(found: dict[date, str], apart: int) -> dict[date, str]:
    """Each no better than the best of those far enough from it; open where there is none."""
    if not apart:
        return found
    rank = BEST_FIRST.index
    told = {}
    for day, one in found.items():
        far = [other for at, other in found.items() if abs((at - day).days) >= apart]
        best = min([*far, "indeterminate"], key=rank)
        told[day] = max(one, best, key=rank)
    return told


def nearest(
    found: dict[date, str], days: dict[date, int], first: int, about: int, last: int
) -> str | None:
    inside = sorted(d for d in found if first <= days[d] <= last)
    return found[min(inside, key=lambda d: abs(days[d] - about))] if inside else None


def kept(found: dict[date, str], days: dict[date, int], in_time: list[date]) -> Truth | str:
    """Still so two years after the first response, and at every assessment between."""
    good = {"complete-response", "response"}
    responded = [d for d in in_time if found[d] in good]
    if not responded:
        return "not-applicable"
    first = min(responded)
    ends = [d for d in found if days[d] >= days[first] + 730 and found[d] in good]
    between = [found[d] for d in found if d > first and (not ends or d <= min(ends))]
    if "no-response" in between:
        return False
    return True if ends and all(one in good for one in between) else None
