"""What a count has become since treatment: normal, risen, doubled, recovered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from app.domain.counts import EXACT, Analyte, Count, Interval, Product, Sex
from app.domain.limits import at_most, below
from app.domain.rules import AtBaseline, Known, OfOneAnalyte, Rule, Truth, negation
from app.domain.transfusions import TransfusionDependent, TransfusionIndependent

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
        return negation(below(count.value, count.normal.low))
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
    return negation(below(interval, limits[0]))


def above_normal(count: Count, known: Known) -> bool:
    """Whether a count is for sure above the upper limit of normal; no rule of a paper asks it."""
    if count.normal is not None:
        high = count.normal.high
    elif known.child:
        high = None
    else:
        for_the_sex = NORMAL_HEMOGLOBIN[known.sex or Sex.MALE]
        high = NORMAL.get(count.analyte, for_the_sex)[1]
    return high is not None and at_most(count.value, high) is Truth.NOT_MET


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
        short = at_most(rise, self.number) if self.more_than else below(rise, self.number)
        return negation(short)

    def describe(self) -> str:
        sign = ">" if self.more_than else ">="
        return f"{self.analyte.short} {sign} {self.number} {self.analyte.unit} over the baseline"


@dataclass(frozen=True, slots=True)
class Doubled(OverBaseline):
    """The count is twice the baseline or more; twice nothing is nothing."""

    def of_pair(self, new: Interval, old: Interval) -> Truth:
        risen = negation(at_most(_difference(new, old), _NONE))
        doubled = negation(below(_difference(new, old.times(_TWO)), _NONE))
        return doubled if risen is Truth.MET or doubled is Truth.NOT_MET else risen

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
    """What the rise can be: no count is below nothing, whatever a bound leaves open."""
    least, lowest = _from_nothing(new), _from_nothing(old)
    low = None if old.high is None else EXACT.subtract(least[0], old.high)
    high = None if new.high is None else EXACT.subtract(new.high, lowest[0])
    return Interval(low, high, least[1] and old.high_included, new.high_included and lowest[1])


def _from_nothing(value: Interval) -> tuple[Decimal, bool]:
    return (_NONE, True) if value.low is None else (value.low, value.low_included)


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

    def _within(self, change: Callable[[Rule], Rule]) -> Rule:
        return replace(self, depressed=self.depressed.rewritten(change))

    def describe(self) -> str:
        independence = " or transfusion independence gained" if self.product else ""
        return (
            f"{self.analyte.short} normal{independence}; "
            f"not while {self.depressed.describe()}; open between"
        )
