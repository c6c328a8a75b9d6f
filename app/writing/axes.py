"""From days and counts to places on a picture, and where an axis is marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from app.writing.svg import width_of

TICK_SIZE = 11
_BETWEEN_TICKS = 16
_STEPS_OF_DAYS = (1, 2, 7, 14)
_STEPS_OF_MONTHS = (1, 3, 6, 12, 24, 60, 120, 240, 600, 1200)


class TimeAxis:
    """Days from left to right."""

    def __init__(self, days: Iterable[date], left: float, right: float) -> None:
        """All the days have a place; there is some room before and after them."""
        ordinals = [day.toordinal() for day in days]
        span = max(ordinals) - min(ordinals)
        room = max(2.0, span * 0.03)
        self.left, self.right = left, right
        self._first = min(ordinals) - room
        self._scale = (right - left) / (span + 2 * room)

    def x(self, day: date) -> float:
        """Where a day stands; what lies outside stands at the edge."""
        place = self.left + (day.toordinal() - self._first) * self._scale
        return min(max(place, self.left), self.right)

    def ticks(self) -> list[tuple[float, str]]:
        """Days that are marked and what is written there, as close as the words have room."""
        for days, text_of in self._candidates():
            ticks = [(self.x(day), text_of(day)) for day in days]
            # Half of the first and of the last stand outside the axis.
            apart = max((width_of(text, TICK_SIZE) for _, text in ticks), default=0) + 8
            near = any(b - a < apart for (a, _), (b, _) in pairwise(ticks))
            if ticks and not near:
                return ticks
        return []

    def _candidates(self) -> Iterator[tuple[list[date], Callable[[date], str]]]:
        first = date.fromordinal(math.ceil(self._first))
        end = self._first + (self.right - self.left) / self._scale
        last = date.fromordinal(math.floor(end))
        days = (last - first).days
        for step in _STEPS_OF_DAYS:
            if days / step < 100:
                # Weeks begin on Mondays.
                begin = first.toordinal() + (1 - first.toordinal()) % step
                yield [date.fromordinal(n) for n in range(begin, last.toordinal() + 1, step)], str
        for months in _STEPS_OF_MONTHS:
            if days / 30 / months < 100:
                written = _month if months < 12 else _year
                yield list(_months(first, last, months)), written
        # No month and no year begins within, and the days have no room: the middle one is told.
        yield [first + timedelta(days=days // 2)], str


def _months(first: date, last: date, step: int) -> Iterator[date]:
    """The first days of every so many months, of which January is one."""
    month = first.year * 12 + first.month - (1 if first.day == 1 else 0)
    month += -month % step
    while (day := date(month // 12, month % 12 + 1, 1)) <= last:
        yield day
        month += step


def _month(day: date) -> str:
    return f"{day.year:04}-{day.month:02}"


def _year(day: date) -> str:
    return f"{day.year:04}"


class ValueAxis:
    """Counts from the bottom up, in steps of equal size or of equal ratio.

    Nothing is the only count that has no place among ratios: it stands at the foot of the axis.
    """

    def __init__(
        self, values: Sequence[Decimal], top: float, bottom: float, ratios: bool = False
    ) -> None:
        """All the values have a place."""
        self.top, self.bottom = top, bottom
        self._ratios = ratios
        positive = [float(value) for value in values if value > 0] or [1.0]
        self.has_zero = ratios and any(value <= 0 for value in values)
        low, high = min(positive), max(positive)
        if ratios:
            self._low, self._high = math.log10(low / 1.35), math.log10(high * 1.35)
        else:
            room = max((high - low) * 0.12, high * 0.05)
            low = 0.0 if any(value <= 0 for value in values) else low
            self._low, self._high = max(0.0, low - room), high + room
        self._foot = bottom - 14 if self.has_zero else bottom

    def y(self, value: Decimal) -> float:
        """Where a value stands; what lies outside stands at the edge."""
        if self._ratios and value <= 0:
            return self.bottom if not self.has_zero else self.bottom - 4
        known = math.log10(value) if self._ratios else float(value)
        place = self._foot - (known - self._low) / (self._high - self._low) * (
            self._foot - self.top
        )
        return min(max(place, self.top), self._foot)

    def ticks(self) -> list[tuple[float, str]]:
        """Values that are marked, and what is written there."""
        chosen: list[Decimal] = []
        for candidates in self._ratio_steps() if self._ratios else self._even_steps():
            places = [self.y(value) for value in candidates]
            pairs = pairwise(places)
            if candidates and all(a - b >= _BETWEEN_TICKS for a, b in pairs):
                chosen = candidates
                break
        zero = [(self.y(Decimal(0)), "0")] if self.has_zero else []
        return zero + [(self.y(value), f"{value:f}") for value in chosen]

    def _ratio_steps(self) -> Iterator[list[Decimal]]:
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            steps = [Decimal(digit).scaleb(power) for power in powers for digit in digits]
            yield [step for step in steps if self._low <= math.log10(step) <= self._high]

    def _even_steps(self) -> Iterator[list[Decimal]]:
        power = math.floor(math.log10(self._high - self._low)) - 1
        for exponent in range(power, power + 3):
            for digit in (1, 2, 5):
                step = Decimal(digit).scaleb(exponent)
                first = math.ceil(Decimal(self._low) / step)
                last = math.floor(Decimal(self._high) / step)
                if last - first < 100:
                    yield [step * n for n in range(first, last + 1)]
