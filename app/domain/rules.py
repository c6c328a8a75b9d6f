"""The words papers are written in, and what they say of a patient's counts: three truth values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from app.domain.counts import Analyte, Count, Product, Sex


class Truth(Enum):
    """Kleene's three values; unknown is a value of its own, never a default."""

    MET = "met"
    NOT_MET = "not-met"
    UNKNOWN = "unknown"

    # As Analyte: a rule's answer is looked up often.
    __hash__ = object.__hash__


_NEGATIONS = {Truth.MET: Truth.NOT_MET, Truth.NOT_MET: Truth.MET, Truth.UNKNOWN: Truth.UNKNOWN}


def negation(truth: Truth) -> Truth:
    """The truth of the opposite statement."""
    return _NEGATIONS[truth]


class Known(NamedTuple):
    """What is known of one patient at one time: the counts of one window, and dependence.

    An analyte has several counts only where they are of one moment.
    """

    counts: Mapping[Analyte, tuple[Count, ...]]
    transfusion_dependent: Mapping[Product, Truth]
    transfusion_independent: Mapping[Product, Truth] = {}
    """Nothing transfused in the weeks before, and evidence that nothing was."""
    units: Mapping[Product, int | None] = {}
    """Transfused in the weeks before; None where it is not known."""
    sex: Sex | None = None
    child: bool = False
    baseline: Known | None = None
    """What was known before treatment, where a response is judged."""
    held_before: Mapping[Rule, Truth] = {}
    """Of each rule that must be sustained, whether it held so long up to the assessment before."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A statement about what is known that is met, not met, or not known."""

    def check(self, known: Known) -> Truth:
        """Whether what is known meets the rule."""
        raise NotImplementedError

    def parts(self) -> tuple[Rule, ...]:
        """The rules this one is made of."""
        return ()

    def describe(self) -> str:
        """The rule in words and numbers, as a clinician would write it."""
        raise NotImplementedError

    def transfusions_asked(self, known: Known) -> tuple[Product, ...]:  # noqa: ARG002
        """The products whose transfusions would settle this rule."""
        return ()

    def rewritten(self, change: Callable[[Rule], Rule]) -> Rule:
        """The rule and all within it changed, from the top down."""
        return change(self)._within(change)

    def _within(self, change: Callable[[Rule], Rule]) -> Rule:  # noqa: ARG002
        return self

    def leaves(self) -> Iterator[Rule]:
        """The rules at the bottom, left to right."""
        if not self.parts():
            yield self
        for part in self.parts():
            yield from part.leaves()

    def undecided(self, known: Known) -> Iterator[Rule]:
        """The leaves whose answer would settle this rule: unknown, under unknown rules only."""
        if self.check(known) is Truth.UNKNOWN:
            if not self.parts():
                yield self
            for part in self.parts():
                yield from part.undecided(known)


@dataclass(frozen=True, slots=True)
class OfOneAnalyte(Rule):
    """A statement about one analyte, count by count."""

    analyte: Analyte

    def contradicted(self, known: Known) -> bool:
        """Whether counts of one moment answer differently."""
        counts = known.counts.get(self.analyte, ())
        if len(counts) < 2:
            return False
        alone = (known._replace(counts={self.analyte: (count,)}) for count in counts)
        return {Truth.MET, Truth.NOT_MET} <= {self.check(one) for one in alone}


@dataclass(frozen=True, slots=True)
class OfOneProduct(Rule):
    """A statement about the transfusions of one product."""

    product: Product

    def transfusions_asked(self, known: Known) -> tuple[Product, ...]:  # noqa: ARG002
        return (self.product,)


@dataclass(frozen=True, slots=True)
class AtLeastOf(Rule):
    """At least n of the rules: decided when enough are met, refuted when too few can be."""

    n: int
    rules: tuple[Rule, ...]

    def check(self, known: Known) -> Truth:
        wanted, spare = self.n, len(self.rules) - self.n
        for rule in self.rules:
            truth = rule.check(known)
            if truth is Truth.MET:
                wanted -= 1
            elif truth is Truth.NOT_MET:
                spare -= 1
            if wanted <= 0:
                return Truth.MET
            if spare < 0:
                return Truth.NOT_MET
        return Truth.UNKNOWN

    def parts(self) -> tuple[Rule, ...]:
        return self.rules

    def _within(self, change: Callable[[Rule], Rule]) -> Rule:
        return replace(self, rules=tuple(rule.rewritten(change) for rule in self.rules))

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

    def check(self, known: Known) -> Truth:
        return negation(self.rule.check(known))

    def parts(self) -> tuple[Rule, ...]:
        return (self.rule,)

    def _within(self, change: Callable[[Rule], Rule]) -> Rule:
        return replace(self, rule=self.rule.rewritten(change))

    def describe(self) -> str:
        return f"not ({self.rule.describe()})"


@dataclass(frozen=True, slots=True)
class AtBaseline(Rule):
    """The rule held before treatment."""

    rule: Rule

    def check(self, known: Known) -> Truth:
        return self.rule.check(known.baseline) if known.baseline else Truth.UNKNOWN

    def transfusions_asked(self, known: Known) -> tuple[Product, ...]:
        before = known.baseline
        if before is None:
            return ()
        undecided = self.rule.undecided(before)
        return tuple(p for leaf in undecided for p in leaf.transfusions_asked(before))

    def _within(self, change: Callable[[Rule], Rule]) -> Rule:
        return replace(self, rule=self.rule.rewritten(change))

    def describe(self) -> str:
        return f"before treatment {self.rule.describe()}"


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
    excludes_severe: bool = False
    """Whether who does not meet it is left out for severe disease."""

    def __hash__(self) -> int:
        """By its code: what is worked out once for each criterion is looked up by it."""
        return hash(self.code)

    def check(self, known: Known) -> Truth:
        return self.rule.check(known)

    def parts(self) -> tuple[Rule, ...]:
        return (self.rule,)

    def _within(self, change: Callable[[Rule], Rule]) -> Rule:
        return replace(self, rule=self.rule.rewritten(change))

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
    return rule.rewritten(
        lambda one: (
            replace(one, rule=dict(one.policies).get(policy, one.rule))
            if isinstance(one, Criterion)
            else one
        )
    )
