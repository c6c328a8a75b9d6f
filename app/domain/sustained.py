"""The word for what must last: met at every assessment over a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date

from app.domain.rules import Criterion, Known, Rule, Truth, all_of


@dataclass(frozen=True, slots=True)
class Sustained(Rule):
    """The rule holds, and held at every assessment over at least so many days: two at the least.

    Not met where it was not met at an assessment of that time. Unknown where no assessment lies so
    long before, or one since then is open. What lies between two assessments is not known.
    """

    rule: Rule
    days: int

    def check(self, known: Known) -> Truth:
        now = self.rule.check(known)
        before = self._before(known)
        if Truth.NOT_MET in {now, before}:
            return Truth.NOT_MET
        return now if before is Truth.MET else Truth.UNKNOWN

    def _before(self, known: Known) -> Truth:
        return known.held_before.get(self, Truth.UNKNOWN)

    def _within(self, change: Callable[[Rule], Rule]) -> Rule:
        return replace(self, rule=self.rule.rewritten(change))

    def leaves(self) -> Iterator[Rule]:
        yield from self.rule.leaves()
        yield self

    def undecided(self, known: Known) -> Iterator[Rule]:
        if self.check(known) is Truth.UNKNOWN:
            yield from self.rule.undecided(known)
            if self._before(known) is Truth.UNKNOWN:
                yield self

    def describe(self) -> str:
        return (
            f"at every assessment over at least {time_of(self.days)}, two at the least: "
            f"{self.rule.describe()}"
        )


def time_of(days: int) -> str:
    """A time in words, for example: 6 weeks."""
    number, unit = (days, "day") if days % 7 else (days // 7, "week")
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def sustained(rule: Rule, days: int, wording: str, source: str) -> Rule:
    """The rule, and as a criterion of its own that it is sustained over at least so many days."""
    title = f"Sustained for {time_of(days)}"
    return all_of(rule, Criterion("sustained", title, Sustained(rule, days), wording, source))


class Record:
    """What each assessment told of the rules, added in the order of their days."""

    def __init__(self, rules: Iterable[Sustained]) -> None:
        self._rules = tuple(rules)
        self._days: list[int] = []
        self._last: dict[tuple[Rule, Truth], int] = {}
        """The newest day on which a rule was open, or not met."""

    def add(self, day: date, known: Known) -> None:
        """The assessment of a day later than all so far."""
        number = day.toordinal()
        self._days.append(number)
        for rule in self._rules:
            truth = rule.rule.check(known)
            if truth is not Truth.MET:
                self._last[rule, truth] = number

    def held_before(self, day: date) -> dict[Rule, Truth]:
        """Of each rule, whether it held over its time up to the assessment before this day's."""
        return {rule: self._held(rule, day.toordinal() - rule.days) for rule in self._rules}

    def _held(self, rule: Rule, since: int) -> Truth:
        not_met = self._last.get((rule, Truth.NOT_MET), 0)
        if not_met >= max(since, 1):
            return Truth.NOT_MET
        long_enough = bisect_right(self._days, since)
        if not long_enough:
            return Truth.UNKNOWN
        start = self._days[long_enough - 1]
        is_open = max(not_met, self._last.get((rule, Truth.UNKNOWN), 0)) >= start
        return Truth.UNKNOWN if is_open else Truth.MET
