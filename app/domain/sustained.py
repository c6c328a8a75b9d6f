"""The word for what must last: met at every assessment over a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
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
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        # What is known of earlier days is looked up by the rule, day after day; a criterion's own
        # hash is the same under every policy.
        object.__setattr__(self, "_hash", hash((self.rule.describe(), self.days)))

    def __hash__(self) -> int:
        return self._hash

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
        self._times = frozenset(rule.days for rule in self._rules)
        self._leaves = leaves_of(self._rules)
        self._days: list[int] = []
        self._told: dict[tuple[Truth, ...], tuple[Truth, ...]] = {}
        """Of each rule what it comes to, by what its limits do: few are worked out anew."""
        self._open = [0] * len(self._rules)
        """The newest day on which each rule was open."""
        self._not_met = [0] * len(self._rules)

    def add(self, day: date, known: Known) -> None:
        """The assessment of a day later than all so far."""
        number = day.toordinal()
        self._days.append(number)
        key = tuple([leaf.check(known) for leaf in self._leaves])
        if key not in self._told:
            self._told[key] = tuple([rule.rule.check(known) for rule in self._rules])
        for index, truth in enumerate(self._told[key]):
            if truth is Truth.NOT_MET:
                self._not_met[index] = number
            elif truth is Truth.UNKNOWN:
                self._open[index] = number

    def held_before(self, day: date) -> dict[Rule, Truth]:
        """Of each rule, whether it held over its time up to the assessment before this day's."""
        until = day.toordinal()
        starts = {days: self._start(until - days) for days in self._times}
        return {
            rule: self._held(number, until - rule.days, starts[rule.days])
            for number, rule in enumerate(self._rules)
        }

    def _start(self, since: int) -> int:
        """The newest assessment that lies so long before; 0 for none."""
        long_enough = bisect_right(self._days, since)
        return self._days[long_enough - 1] if long_enough else 0

    def _held(self, number: int, since: int, start: int) -> Truth:
        not_met = self._not_met[number]
        if not_met and not_met >= since:
            return Truth.NOT_MET
        is_open = not start or max(not_met, self._open[number]) >= start
        return Truth.UNKNOWN if is_open else Truth.MET


def leaves_of(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """What the rules come down to in one day's counts, each once."""
    leaves = dict.fromkeys(leaf for rule in rules for leaf in rule.leaves())
    return tuple(leaf for leaf in leaves if not isinstance(leaf, Sustained))
