"""A course day by day: for each day only what bears on it, however long the course is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import partial
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import Generic, TypeVar

from app.domain.choosing import APART_DAYS, TELLING
from app.domain.confounding import CONFOUNDED_DAYS
from app.domain.counts import Analyte, Count, Course, DrugGiven, Transfusion
from app.domain.dependence import days_before
from app.domain.effort import spend
from app.domain.window import Window, take_window

Support = TypeVar("Support", bound=Transfusion | DrugGiven)
LAST_DAY = attrgetter("when.last")
_CONFOUNDED_DAYS = max(CONFOUNDED_DAYS.values())
# What was given over a longer time is looked at for every day.
_LONG_DAYS = 60


class Timeline:
    """A course cut to the days that matter for one assessment."""

    def __init__(
        self,
        course: Course,
        counts: Iterable[Count],
        analytes: frozenset[Analyte],
        window_days: int,
        reach_days: int,
        independence_days: int,
    ) -> None:
        """Transfusions bear on a day that they precede by `reach_days` or less."""
        self._course = course
        self._analytes = analytes
        self._window_days = window_days
        self._reach_days = reach_days
        self._independence_days = independence_days
        of_analyte: dict[Analyte, list[Count]] = {}
        for count in counts:
            if count.analyte in analytes:
                of_analyte.setdefault(count.analyte, []).append(count)
        self._series = [_Series(sorted(some, key=LAST_DAY)) for some in of_analyte.values()]
        self._transfusions = _Given(course.transfusions)
        self._drugs = _Given(course.drugs)

    def days(self) -> list[date]:
        """Every day with a count, in order."""
        return sorted({day for series in self._series for day in series.days})

    def at(self, day: date) -> Window:
        """The counts of the window that ends on the day."""
        # A bound may span a window, and an exact count a window before it still stand before it.
        start = days_before(day, 2 * self._window_days)
        counts = [c for s in self._series for c in s.contenders(start, day)]
        earliest = min([count.when.first for count in counts], default=day)
        return take_window(
            self.between(earliest, day),
            counts,
            self._analytes,
            self._window_days,
            independence_days=self._independence_days,
        )

    def judged_on(self, day: date) -> Window | None:
        """The assessment of a day; None where no count of that day is judged.

        Leukocytes beside an older neutrophil count make none: else a count would confirm itself.
        """
        window = self.at(day)
        newest = max((count.when.last for count in window.counts), default=None)
        return window if newest == day else None

    def between(self, first: date, last: date) -> Course:
        """The course with only the transfusions and drugs that bear on counts of these days."""
        since = min(days_before(first, _CONFOUNDED_DAYS), days_before(last, self._reach_days))
        return self._course._replace(
            transfusions=self._transfusions.between(since, last),
            drugs=self._drugs.between(since, last),
        )


class _Given(Generic[Support]):
    """Transfusions, or drugs given, by their days."""

    def __init__(self, given: Sequence[Support]) -> None:
        numbered: list[tuple[int, Support]] = list(enumerate(given))
        self._long = [one for one in numbered if _span_days(one[1]) > _LONG_DAYS]
        short = [one for one in numbered if _span_days(one[1]) <= _LONG_DAYS]
        self._short = sorted(short, key=lambda one: one[1].when.first)
        self._first_days = [one.when.first for _, one in self._short]

    def between(self, since: date, until: date) -> tuple[Support, ...]:
        """What may have been given in these days, both included, in the order of the data."""
        first = bisect_left(self._first_days, days_before(since, _LONG_DAYS))
        near = self._short[first : bisect_right(self._first_days, until)]
        spend(len(near) + len(self._long))
        found = [
            one
            for one in (*near, *self._long)
            if one[1].when.last >= since and one[1].when.first <= until
        ]
        return tuple([given for _, given in sorted(found, key=itemgetter(0))])


def _of_a_day(tells: Callable[[Count], bool], count: Count) -> bool:
    return count.when.precise and tells(count)


def _span_days(given: Transfusion | DrugGiven) -> int:
    return (given.when.last - given.when.first).days


class _Series:
    """The counts of one analyte in the order of their days."""

    def __init__(self, counts: list[Count]) -> None:
        self._counts = counts
        self.days = [count.when.last for count in counts]
        self._newest = [
            (_newest_yet(counts, tells), _newest_yet(counts, partial(_of_a_day, tells)))
            for tells in TELLING
        ]

    def contenders(self, since: date, until: date) -> list[Count]:
        """The counts of these days that may be judged: without those that a newer one outdoes."""
        first, end = bisect_left(self.days, since), bisect_right(self.days, until)
        if first == end:
            return []
        newest = next(
            of_a_day[end - 1] for told, of_a_day in self._newest if told[end - 1] >= first
        )
        if newest >= first:
            first = max(first, bisect_left(self.days, days_before(self.days[newest], APART_DAYS)))
        return self._counts[first:end]


def _newest_yet(counts: list[Count], is_one: Callable[[Count], bool]) -> list[int]:
    """For each count the position of the newest up to it that is one; -1 where none is."""
    return list(accumulate((n if is_one(c) else -1 for n, c in enumerate(counts)), max))
