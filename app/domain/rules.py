"""The words papers are written in, and what they say of a patient's counts: three truth values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from app.domain.counts import Analyte, Count, Interval, Product


class Truth(Enum):
    """Kleene's three values; unknown is a value of its own, never a default."""

    MET = "met"
    NOT_MET = "not-met"
    UNKNOWN = "unknown"


def _negation(truth: Truth) -> Truth:
    return {Truth.MET: Truth.NOT_MET, Truth.NOT_MET: Truth.MET}.get(truth, Truth.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of one patient at one time: the counts of one window, and dependence.

    An analyte has several counts only where they are of one moment.
    """

    counts: Mapping[Analyte, tuple[Count, ...]]
    transfusion_dependent: Mapping[Product, Truth]


@dataclass(frozen=True, slots=True)
class Rule:
    """A statement about findings that is met, not met, or not known."""

    def check(self, findings: Findings) -> Truth:
        """Whether the findings meet the rule."""
        raise NotImplementedError

    def parts(self) -> tuple[Rule, ...]:
        """The rules this one is made of."""
        return ()

    def describe(self) -> str:
        """The rule in words and numbers, as a clinician would write it."""
        raise NotImplementedError

    def leaves(self) -> Iterator[Rule]:
        """The rules at the bottom, left to right."""
        if not self.parts():
            yield self
        for part in self.parts():
            yield from part.leaves()

    def undecided(self, findings: Findings) -> Iterator[Rule]:
        """The leaves whose answer would settle this rule: unknown, under unknown rules only."""
        if self.check(findings) is Truth.UNKNOWN:
            if not self.parts():
                yield self
            for part in self.parts():
                yield from part.undecided(findings)


@dataclass(frozen=True, slots=True)
class Limit(Rule):
    """One analyte against one published number, in the analyte's own unit.

    `manual` is the number that holds instead for cells counted by hand.
    """

    analyte: Analyte
    number: str
    manual: str | None = None

    symbol = ""

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        """Whether every value in the interval meets the limit, none does, or it is open."""
        raise NotImplementedError

    def of_count(self, count: Count) -> Truth:
        """Whether one count meets the limit."""
        number = self.manual if count.manual and self.manual else self.number
        return self.of_interval(count.value, _number(number))

    def check(self, findings: Findings) -> Truth:
        """Counts of one moment that stand on either side of the limit leave it unknown."""
        truths = {self.of_count(count) for count in findings.counts.get(self.analyte, ())}
        truths.discard(Truth.UNKNOWN)
        return truths.pop() if len(truths) == 1 else Truth.UNKNOWN

    def contradicted(self, findings: Findings) -> bool:
        """Whether counts of one moment stand on either side of the limit."""
        truths = {self.of_count(count) for count in findings.counts.get(self.analyte, ())}
        return {Truth.MET, Truth.NOT_MET} <= truths

    def describe(self) -> str:
        """For example: ANC <= 1.2 10*9/L."""
        by_hand = f" ({self.manual} if counted by hand)" if self.manual else ""
        return f"{self.analyte.short} {self.symbol} {self.number}{by_hand} {self.analyte.unit}"


_NUMBERS: dict[str, Decimal] = {}


def _number(text: str) -> Decimal:
    number = _NUMBERS.get(text)
    if number is None:
        number = _NUMBERS[text] = Decimal(text)
    return number


def _at_most(interval: Interval, number: Decimal) -> Truth:
    if interval.high is not None and interval.high <= number:
        return Truth.MET
    low = interval.low
    if low is not None and (low > number or (low == number and not interval.low_included)):
        return Truth.NOT_MET
    return Truth.UNKNOWN


def _below(interval: Interval, number: Decimal) -> Truth:
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
        return _at_most(interval, number)


@dataclass(frozen=True, slots=True)
class Below(Limit):
    """The count is less than the number."""

    symbol = "<"

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return _below(interval, number)


@dataclass(frozen=True, slots=True)
class Above(Limit):
    """The count is more than the number."""

    symbol = ">"

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return _negation(_at_most(interval, number))


@dataclass(frozen=True, slots=True)
class TransfusionDependent(Rule):
    """The patient depended on transfusions of the product in the weeks before."""

    product: Product

    def check(self, findings: Findings) -> Truth:
        return findings.transfusion_dependent.get(self.product, Truth.UNKNOWN)

    def describe(self) -> str:
        return f"depends on {self.product.value} transfusions"


@dataclass(frozen=True, slots=True)
class AtLeastOf(Rule):
    """At least n of the rules: decided when enough are met, refuted when too few can be."""

    n: int
    rules: tuple[Rule, ...]

    def check(self, findings: Findings) -> Truth:
        truths = [rule.check(findings) for rule in self.rules]
        met = truths.count(Truth.MET)
        if met >= self.n:
            return Truth.MET
        return Truth.NOT_MET if met + truths.count(Truth.UNKNOWN) < self.n else Truth.UNKNOWN

    def parts(self) -> tuple[Rule, ...]:
        return self.rules

    def describe(self) -> str:
        if self.n == len(self.rules):
            return " and ".join(_bracketed(rule) for rule in self.rules)
        if self.n == 1:
            return " or ".join(_bracketed(rule) for rule in self.rules)
        return f"at least {self.n} of: " + "; ".join(rule.describe() for rule in self.rules)


def _bracketed(rule: Rule) -> str:
    return f"({rule.describe()})" if len(rule.parts()) > 1 else rule.describe()


def at_least(n: int, *rules: Rule) -> Rule:
    """At least n of the rules."""
    return AtLeastOf(n, rules)


def all_of(*rules: Rule) -> Rule:
    """Every one of the rules."""
    return AtLeastOf(len(rules), rules)


def any_of(*rules: Rule) -> Rule:
    """One of the rules, or more."""
    return AtLeastOf(1, rules)


@dataclass(frozen=True, slots=True)
class Not(Rule):
    """The rule does not hold."""

    rule: Rule

    def check(self, findings: Findings) -> Truth:
        return _negation(self.rule.check(findings))

    def parts(self) -> tuple[Rule, ...]:
        return (self.rule,)

    def describe(self) -> str:
        return f"not ({self.rule.describe()})"


@dataclass(frozen=True, slots=True)
class Criterion(Rule):
    """A rule a paper names: its code, its title, the paper's words and where they stand.

    `policies` are named readings of the same sentence; the first is the paper's own.
    """

    code: str
    title: str
    rule: Rule
    wording: str
    source: str
    policies: tuple[tuple[str, Rule], ...] = ()

    def check(self, findings: Findings) -> Truth:
        return self.rule.check(findings)

    def parts(self) -> tuple[Rule, ...]:
        return (self.rule,)

    def describe(self) -> str:
        return self.rule.describe()


def criteria_of(rule: Rule) -> tuple[Criterion, ...]:
    """The criteria a rule is made of, in the paper's order, each once."""
    found: dict[str, Criterion] = {}
    if isinstance(rule, Criterion):
        return (rule,)
    for part in rule.parts():
        for criterion in criteria_of(part):
            found.setdefault(criterion.code, criterion)
    return tuple(found.values())


def under_policy(rule: Rule, policy: str) -> Rule:
    """The rule with every criterion read under the named policy, where it knows one."""
    if isinstance(rule, Criterion):
        reading = dict(rule.policies).get(policy, rule.rule)
        return Criterion(rule.code, rule.title, reading, rule.wording, rule.source, rule.policies)
    if isinstance(rule, AtLeastOf):
        return AtLeastOf(rule.n, tuple(under_policy(part, policy) for part in rule.rules))
    if isinstance(rule, Not):
        return Not(under_policy(rule.rule, policy))
    return rule
