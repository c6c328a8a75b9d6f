"""The words papers are written in, and what they say of a patient's counts: three truth values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from app.domain.counts import EXACT, Analyte, Count, Interval, Product, Sex


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


# The limits of reticulocytes below which severe disease is counted, in 10*9/L, and whose they are.
SEVERE_RETICULOCYTES = {
    Decimal("20"): "CIBMTR, AAMDS",
    Decimal("40"): "",
    Decimal("50"): "ASH 2010",
    Decimal("60"): "BSH automated, NIH",
}


@dataclass(frozen=True, slots=True)
class Limit(OfOneAnalyte):
    """One analyte against one published number, in the analyte's own unit.

    `manual` is the number that holds instead for cells counted by hand. `disputed`: it is the limit
    of severe disease for which the sources print other numbers (SEVERE_RETICULOCYTES).
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
class AtLeast(Limit):
    """The count is the number or more."""

    symbol = ">="

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return negation(_below(interval, number))


@dataclass(frozen=True, slots=True)
class Above(Limit):
    """The count is more than the number."""

    symbol = ">"

    def of_interval(self, interval: Interval, number: Decimal) -> Truth:
        return negation(_at_most(interval, number))


@dataclass(frozen=True, slots=True)
class OfOneProduct(Rule):
    """A statement about the transfusions of one product."""

    product: Product

    def transfusions_asked(self, known: Known) -> tuple[Product, ...]:  # noqa: ARG002
        return (self.product,)


@dataclass(frozen=True, slots=True)
class TransfusionDependent(OfOneProduct):
    """The patient depended on transfusions of the product in the weeks before."""

    def check(self, known: Known) -> Truth:
        return known.transfusion_dependent.get(self.product, Truth.UNKNOWN)

    def describe(self) -> str:
        return f"depends on {self.product.value} transfusions"


# Lower and upper limits of normal, the ends included, in the analyte's unit (clinical sources
# agree on these; a laboratory's own range goes before them). What is not low is normal: platelets
# that rose from 45 to 410 have recovered.
NORMAL = {
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT: (Decimal("2.0"), Decimal("7.5")),
    Analyte.PLATELETS: (Decimal("150"), Decimal("400")),
}
NORMAL_HEMOGLOBIN = {
    Sex.MALE: (Decimal("13.5"), Decimal("17.5")),
    Sex.FEMALE: (Decimal("11.5"), Decimal("15.5")),
}


@dataclass(frozen=True, slots=True)
class Normal(OfOneAnalyte):
    """The count is not low: by the laboratory's own range, else by the table for adults."""

    def check(self, known: Known) -> Truth:
        truths = {_normal(count, known) for count in known.counts.get(self.analyte, ())}
        return truths.pop() if len(truths) == 1 else Truth.UNKNOWN

    def describe(self) -> str:
        return f"{self.analyte.short} normal"


def _normal(count: Count, known: Known) -> Truth:
    """Whether a count is at or above the lower limit of normal."""
    if count.normal is not None and count.normal.low is not None:
        return negation(_below(count.value, count.normal.low))
    if known.child:
        return Truth.UNKNOWN
    if count.analyte in NORMAL:
        return _not_below(count.value, NORMAL[count.analyte])
    if known.sex:
        return _not_below(count.value, NORMAL_HEMOGLOBIN[known.sex])
    # Sex unknown: normal from the men's limit up, not normal below the women's.
    if _not_below(count.value, NORMAL_HEMOGLOBIN[Sex.MALE]) is Truth.MET:
        return Truth.MET
    for_women = _not_below(count.value, NORMAL_HEMOGLOBIN[Sex.FEMALE])
    return Truth.NOT_MET if for_women is Truth.NOT_MET else Truth.UNKNOWN


def _not_below(interval: Interval, limits: tuple[Decimal, Decimal]) -> Truth:
    return negation(_below(interval, limits[0]))


def above_normal(count: Count, known: Known) -> bool:
    """Whether a count is for sure above the upper limit of normal; no rule of a paper asks it."""
    if count.normal is not None:
        high = count.normal.high
    elif known.child:
        high = None
    else:
        for_the_sex = NORMAL_HEMOGLOBIN[known.sex or Sex.MALE]
        high = NORMAL.get(count.analyte, for_the_sex)[1]
    return high is not None and _at_most(count.value, high) is Truth.NOT_MET


@dataclass(frozen=True, slots=True)
class OverBaseline(OfOneAnalyte):
    """A statement about a count and the one before treatment: the pair decides."""

    def of_pair(self, new: Interval, old: Interval) -> Truth:
        """Whether the count rose enough, where these are the two."""
        raise NotImplementedError

    def check(self, known: Known) -> Truth:
        before = known.baseline.counts.get(self.analyte, ()) if known.baseline else ()
        old = [count.value for count in before]
        new = [count.value for count in known.counts.get(self.analyte, ())]
        if not (old and new):
            return Truth.UNKNOWN
        # Of all pairs the least rise and the greatest: between them lie the others.
        if self.of_pair(min(new, key=_lower_end), max(old, key=_upper_end)) is Truth.MET:
            return Truth.MET
        greatest = self.of_pair(max(new, key=_upper_end), min(old, key=_lower_end))
        return Truth.NOT_MET if greatest is Truth.NOT_MET else Truth.UNKNOWN


@dataclass(frozen=True, slots=True)
class Rise(OverBaseline):
    """The count rose over the baseline by the number: at least, or by more."""

    number: Decimal
    more_than: bool = False

    def of_pair(self, new: Interval, old: Interval) -> Truth:
        rise = _difference(new, old)
        short = _at_most(rise, self.number) if self.more_than else _below(rise, self.number)
        return negation(short)

    def describe(self) -> str:
        sign = ">" if self.more_than else ">="
        return f"{self.analyte.short} {sign} {self.number} {self.analyte.unit} over the baseline"


@dataclass(frozen=True, slots=True)
class Doubled(OverBaseline):
    """The count is twice the baseline or more; twice nothing is nothing."""

    def of_pair(self, new: Interval, old: Interval) -> Truth:
        if _at_most(_difference(new, old), _NONE) is Truth.MET:
            return Truth.NOT_MET
        return negation(_below(_difference(new, old.times(_TWO)), _NONE))

    def describe(self) -> str:
        return f"{self.analyte.short} at least 2 times the baseline"


_NONE, _TWO = Decimal(0), Decimal(2)


def _lower_end(value: Interval) -> tuple[bool, Decimal, bool, tuple[bool, Decimal, bool]]:
    """Orders intervals by where they begin, then by where they end."""
    low, _, included, _ = value
    return low is not None, low or Decimal(0), not included, _end(value)


def _upper_end(value: Interval) -> tuple[tuple[bool, Decimal, bool], bool, Decimal]:
    """Orders intervals by where they end, then by where they begin."""
    return _end(value), value.low is not None, value.low or Decimal(0)


def _end(value: Interval) -> tuple[bool, Decimal, bool]:
    return value.high is None, value.high or Decimal(0), value.high_included


def _difference(new: Interval, old: Interval) -> Interval:
    low = None if new.low is None or old.high is None else EXACT.subtract(new.low, old.high)
    high = None if new.high is None or old.low is None else EXACT.subtract(new.high, old.low)
    return Interval(
        low,
        high,
        new.low_included and old.high_included,
        new.high_included and old.low_included,
    )


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

    def describe(self) -> str:
        return f"before treatment {self.rule.describe()}"


@dataclass(frozen=True, slots=True)
class TransfusionIndependent(OfOneProduct):
    """Nothing of the product was transfused in the weeks before, by evidence."""

    def check(self, known: Known) -> Truth:
        return known.transfusion_independent.get(self.product, Truth.UNKNOWN)

    def describe(self) -> str:
        return f"independent of {self.product.value} transfusions"


@dataclass(frozen=True, slots=True)
class TransfusionsNeeded(OfOneProduct):
    """The product was transfused in the weeks before: once is enough, none is by evidence."""

    def check(self, known: Known) -> Truth:
        return negation(TransfusionIndependent(self.product).check(known))

    def describe(self) -> str:
        return f"{self.product.value} transfused in the 8 weeks before"


@dataclass(frozen=True, slots=True)
class FewerUnits(OfOneProduct):
    """At least so many units fewer than in the same weeks before treatment."""

    units: int

    def check(self, known: Known) -> Truth:
        before = known.baseline.units.get(self.product) if known.baseline else None
        now = known.units.get(self.product)
        if before is None or now is None:
            return Truth.UNKNOWN
        return Truth.MET if before - now >= self.units else Truth.NOT_MET

    def describe(self) -> str:
        return f"at least {self.units} units of {self.product.value} fewer per 8 weeks"


@dataclass(frozen=True, slots=True)
class Recovered(OfOneAnalyte):
    """A lineage recovered, did not, or stands between where a paper prints no number.

    Met by a normal count or by transfusion independence gained; not met while still depressed.
    """

    depressed: Rule
    product: Product | None = None

    def check(self, known: Known) -> Truth:
        gained = self._gained(known)
        if Normal(self.analyte).check(known) is Truth.MET or gained is Truth.MET:
            return Truth.MET
        if self.depressed.check(known) is Truth.MET and gained is Truth.NOT_MET:
            return Truth.NOT_MET
        return Truth.UNKNOWN

    def _gained(self, known: Known) -> Truth:
        """Whoever is not known to have depended on transfusions cannot become independent."""
        if self.product is None:
            return Truth.NOT_MET
        if AtBaseline(TransfusionDependent(self.product)).check(known) is not Truth.MET:
            return Truth.NOT_MET
        return TransfusionIndependent(self.product).check(known)

    def transfusions_asked(self, known: Known) -> tuple[Product, ...]:
        if self.product and self._gained(known) is Truth.UNKNOWN:
            return (self.product,)
        return ()

    def leaves(self) -> Iterator[Rule]:
        yield Normal(self.analyte)
        yield from self.depressed.leaves()

    def describe(self) -> str:
        independence = " or transfusion independence gained" if self.product else ""
        return (
            f"{self.analyte.short} normal{independence}; "
            f"not while {self.depressed.describe()}; open between"
        )


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

    def describe(self) -> str:
        return f"not ({self.rule.describe()})"


def independence_gained(product: Product) -> Rule:
    """A patient who depended on transfusions of the product no longer does."""
    return all_of(AtBaseline(TransfusionDependent(product)), TransfusionIndependent(product))


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

    def __hash__(self) -> int:
        """By its code: what is worked out once for each criterion is looked up by it."""
        return hash(self.code)

    def check(self, known: Known) -> Truth:
        return self.rule.check(known)

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
    return _rewritten(
        rule,
        lambda one: (
            replace(one, rule=dict(one.policies).get(policy, one.rule))
            if isinstance(one, Criterion)
            else one
        ),
    )


def in_dispute(rule: Rule) -> bool:
    """Whether it asks for a limit of severe disease on which the sources differ."""
    return any(isinstance(leaf, Limit) and leaf.disputed for leaf in rule.leaves())


def severe_limit_text(number: Decimal) -> str:
    """For example: below 20 (CIBMTR, AAMDS)."""
    whose = SEVERE_RETICULOCYTES[number]
    return f"below {number} ({whose})" if whose else f"below {number}"


def with_severe_limit(rule: Rule, number: Decimal) -> Rule:
    """The rule with another of the published limits in dispute, however the cells were counted."""
    return _rewritten(
        rule,
        lambda one: (
            replace(one, number=number, manual=None)
            if isinstance(one, Limit) and one.disputed
            else one
        ),
    )


def _rewritten(rule: Rule, change: Callable[[Rule], Rule]) -> Rule:
    """The rule and all within it changed, from the top down."""
    rule = change(rule)
    if isinstance(rule, AtLeastOf):
        return replace(rule, rules=tuple(_rewritten(part, change) for part in rule.rules))
    if isinstance(rule, Criterion | Not | AtBaseline):
        return replace(rule, rule=_rewritten(rule.rule, change))
    if isinstance(rule, Recovered):
        return replace(rule, depressed=_rewritten(rule.depressed, change))
    return rule
