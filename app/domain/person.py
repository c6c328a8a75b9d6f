"""Age and weight against the limits that a definition names, where the data hold them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from operator import itemgetter
from typing import NamedTuple

from app.domain.counts import Count, Course, When
from app.domain.paper import Paper
from app.domain.rules import Truth


class PersonFinding(NamedTuple):
    """Whether age or weight is within the definition's limit; the counts' verdict stands apart."""

    code: str
    title: str
    truth: Truth
    limit: str
    told: str
    """What the data hold, in words."""
    weight: Count | None = None


class Person:
    """Age and weight against a definition's limits, on any day of a course."""

    def __init__(self, paper: Paper, course: Course, window_days: int) -> None:
        self._born = course.born
        self._least_age_years = paper.least_age_years
        self._above_weight_kg = paper.above_weight_kg
        self._window_days = window_days
        self._weights = sorted(
            (
                (one.when.last, one.value.exact, one)
                for one in course.weights
                if one.value.exact is not None
            ),
            key=itemgetter(0),
        )

    def on(self, day: date) -> Iterator[PersonFinding]:
        """The limits that the definition names and the data tell something of."""
        if self._least_age_years is not None and self._born:
            yield PersonFinding(
                "age",
                "Age",
                reached(self._born, self._least_age_years, day),
                f"age >= {self._least_age_years} years",
                f"born {self._born.text}",
            )
        if self._above_weight_kg is not None:
            yield from self._weight(day, self._above_weight_kg)

    def _weight(self, day: date, above_kg: Decimal) -> Iterator[PersonFinding]:
        """The newest weight up to the day. Who was too light long ago may have grown since."""
        until = bisect_right(self._weights, day, key=itemgetter(0))
        if not until:
            return
        newest_day = self._weights[until - 1][0]
        # Of several of one day the first in the data.
        first = bisect_left(self._weights, newest_day, key=itemgetter(0))
        _, kilograms, newest = self._weights[first]
        truth = Truth.MET
        if kilograms <= above_kg:
            is_old = (day - newest_day).days > self._window_days
            truth = Truth.UNKNOWN if is_old else Truth.NOT_MET
        told = f"{kilograms:f} kg of {newest.when.text[:10]}"
        yield PersonFinding("weight", "Weight", truth, f"weight > {above_kg} kg", told, newest)


def reached(born: When, years: int, day: date) -> Truth:
    """Whether somebody has reached an age on a day; unknown where the birth date is too coarse."""
    if _age(born.last, day) >= years:
        return Truth.MET
    return Truth.NOT_MET if _age(born.first, day) < years else Truth.UNKNOWN


def _age(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))
