"""Counts against published numbers: at most, below, at least, above."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.domain.counts import Count, Interval
from app.domain.rules import Known, OfOneAnalyte, Truth, negation


@dataclass(frozen=True, slots=True)
class Limit(OfOneAnalyte):
    """One analyte against one published number, in the analyte's own unit.

    `manual` is the number that holds instead for cells counted by hand. `disputed`: it is the limit
    of severe disease for which the sources print other numbers (severity.py).
    """

    number: Decimal
    manual: Decimal | None = None
    disputed: bool = False

    symbol = ""

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        """Whether every value in the interval meets the limit, none does, or it is open."""
        raise NotImplementedError

    def of_count(self, count: Count) -> Truth:
        """Whether one count meets the limit."""
        if count.manual and self.manual is not None:
            return self.of_interval(count.value, self.manual)
        return self.of_interval(count.value, self.number)

    def check(self, known: Known) -> Truth:
        """Counts of one moment that stand on either side of the limit leave it unknown."""
        counts = known.counts.get(self.analyte, ())
        if len(counts) == 1:
            return self.of_count(counts[0])
        truths = {self.of_count(count) for count in counts}
        truths.discard(Truth.UNKNOWN)
        return truths.pop() if len(truths) == 1 else Truth.UNKNOWN

    def describe(self) -> str:
        """For example: ANC <= 1.2 10*9/L."""
        by_hand = "" if self.manual is None else f" ({self.manual} if counted by hand)"
        return f"{self.analyte.short} {self.symbol} {self.number}{by_hand} {self.analyte.unit}"


def at_most(interval: Interval, number: Decimal) -> Truth:
    """Whether every value in the interval is the number or less, none is, or it is open."""
    if interval.high is not None and interval.high <= number:
        return Truth.MET
    low = interval.low
    if low is not None and (low > number or (low == number and not interval.low_included)):
        return Truth.NOT_MET
    return Truth.UNKNOWN


def below(interval: Interval, number: Decimal) -> Truth:
    """Whether every value in the interval is less than the number, none is, or it is open."""
    high = interval.high
    if high is not None and (high < number or (high == number and not interval.high_included)):
        return Truth.MET
    if interval.low is not None and interval.low >= number:
        return Truth.NOT_MET
    return Truth.UNKNOWN


@dataclass(frozen=True, slots=True)
class AtMost(Limit):
    """The count is the number or less."""

    symbol = "<="

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return at_most(interval, number)


@dataclass(frozen=True, slots=True)
class Below(Limit):
    """The count is less than the number."""

    symbol = "<"

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return below(interval, number)


@dataclass(frozen=True, slots=True)
class AtLeast(Limit):
    """The count is the number or more."""

    symbol = ">="

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return negation(below(interval, number))


@dataclass(frozen=True, slots=True)
class Above(Limit):
    """The count is more than the number."""

    symbol = ">"

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return negation(at_most(interval, number))
