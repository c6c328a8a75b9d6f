"""Which counts would settle an open verdict: enough of them, and none that cannot matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise, product

from app.domain.counts import Analyte, Count, Interval, Source, When
from app.domain.limits import Limit
from app.domain.rules import Known, OfOneProduct, Rule, Truth, negation
from app.domain.sustained import Sustained
from app.domain.transfusions import TransfusionDependent, TransfusionsNeeded

_SOME_DAY = When(date.min, date.min, None, "")


def counts_needed(rule: Rule, known: Known) -> tuple[Analyte, ...]:
    """The analytes whose exact counts settle an open rule, whatever they turn out to be.

    None of them can be left out: for each there are values of the others that leave it open.
    """
    asked = {leaf.analyte for leaf in rule.undecided(known) if isinstance(leaf, Limit)}
    if not asked:
        return ()
    truths = tuple(leaf.check(known) for leaf in rule.leaves())
    in_order = tuple(a for a in Analyte if a in asked)
    return _needed(rule, truths, in_order, counted_by_hand(known))


def counted_by_hand(known: Known) -> frozenset[Analyte]:
    """The analytes of which a count was counted by hand: another limit may hold for them."""
    return frozenset([c.analyte for some in known.counts.values() for c in some if c.manual])


@lru_cache(maxsize=4096)
def _needed(
    rule: Rule,
    truths: tuple[Truth, ...],
    asked: tuple[Analyte, ...],
    by_hand: frozenset[Analyte],
) -> tuple[Analyte, ...]:
    """Depends on the counts by what they say of each limit only, so few are worked out anew."""
    leaves = tuple(rule.leaves())
    of_products = [
        (x, t) for x, t in zip(leaves, truths, strict=True) if isinstance(x, OfOneProduct)
    ]
    dependent = {x.product: t for x, t in of_products if isinstance(x, TransfusionDependent)}
    independent = {
        x.product: negation(t) for x, t in of_products if isinstance(x, TransfusionsNeeded)
    }
    limits = [(x, t) for x, t in zip(leaves, truths, strict=True) if isinstance(x, Limit)]
    # What earlier days leave open, no count of this day settles.
    held: dict[Rule, Truth] = {x: Truth.MET for x in leaves if isinstance(x, Sustained)}
    known_of = {
        leaf.analyte: all(t is not Truth.UNKNOWN for x, t in limits if x.analyte is leaf.analyte)
        for leaf, _ in limits
    }
    telling = {
        analyte: tuple(_telling(analyte, limits, analyte in by_hand))
        for analyte, is_known in known_of.items()
        if is_known or analyte in asked
    }
    if not all(telling.values()):
        # Results that contradict each other fit no single value: ask for all.
        return asked
    # A count not asked for still tells what it told before.
    fixed = {analyte: (_span(counts),) for analyte, counts in telling.items()}
    needed = asked
    for analyte in asked:
        others = tuple(other for other in needed if other is not analyte)
        if all(
            rule.check(
                Known(
                    fixed | dict(zip(others, values, strict=True)),
                    dependent,
                    independent,
                    held_before=held,
                )
            )
            is not Truth.UNKNOWN
            for values in product(*([(count,) for count in telling[other]] for other in others))
        ):
            needed = others
    return needed


def _span(counts: tuple[Count, ...]) -> Count:
    values = [count.value.exact or Decimal(0) for count in counts]
    return counts[0]._replace(value=Interval(min(values), max(values)))


def _telling(
    analyte: Analyte, limits: Iterable[tuple[Limit, Truth]], by_hand: bool
) -> Iterator[Count]:
    """A count on, between and beyond all limits of an analyte, where it agrees with the known."""
    own = [(leaf, truth) for leaf, truth in limits if leaf.analyte is analyte]
    numbers = sorted({n for leaf, _ in own for n in (leaf.number, leaf.manual) if n is not None})
    between = [(one + other) / 2 for one, other in pairwise(numbers)]
    for value in [numbers[0] / 2, *numbers, *between, numbers[-1] + 1]:
        count = Count(analyte, Interval.exactly(value), _SOME_DAY, (Source("", ""),), by_hand)
        if all(truth in {Truth.UNKNOWN, leaf.of_count(count)} for leaf, truth in own):
            yield count
