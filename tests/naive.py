"""The rulings on which counts are judged, a second time: plainly, without a memo or a shortcut.

Every pair of counts is compared; nothing is sorted and nothing is left out early. The engine is
held to this on random courses (tests/test_properties.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from decimal import Decimal
from itertools import product

from app.domain.counts import Analyte, Count, Course, Drug, Interval, Kind, Product, When

HAIR = Decimal("0.0001")
Values = frozenset[Decimal]
"""What a count may be, of enough values to tell limits and intervals apart."""
SUPPORT_DAYS = {
    (Analyte.PLATELETS, Product.PLATELETS): 7,
    (Analyte.PLATELETS, Product.UNKNOWN): 7,
    (Analyte.HEMOGLOBIN, Product.RED_CELLS): 28,
    (Analyte.HEMOGLOBIN, Product.UNKNOWN): 28,
    (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Drug.FILGRASTIM): 14,
    (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Drug.LENOGRASTIM): 14,
    (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Drug.PEGFILGRASTIM): 28,
    (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Drug.LIPEGFILGRASTIM): 28,
}


def holds(interval: Interval, value: Decimal) -> bool:
    """Whether the count may be this value."""
    low, high = interval.low, interval.high
    if low is not None and (value < low or (value == low and not interval.low_included)):
        return False
    return high is None or value < high or (value == high and interval.high_included)


def is_later(one: When, other: When) -> bool:
    """Ruling 3: by the instant where both have one, else by civil days as written."""
    if one.instant and other.instant:
        return one.instant > other.instant
    return one.first > other.last


def latest(counts: list[Count]) -> list[Count]:
    """Those to which no other is later; in a ring of zones, those that reach the last day."""
    found = [c for c in counts if not any(is_later(o.when, c.when) for o in counts)]
    last = max(c.when.first for c in counts)
    return found or [c for c in counts if c.when.last >= last]


class Naive:
    """One course under one window."""

    def __init__(
        self,
        course: Course,
        analytes: frozenset[Analyte],
        window: int,
        limits: Iterable[Decimal],
    ) -> None:
        self.course = course
        self.window = window
        everything = (*course.counts, *course.derived)
        ends = {e for c in everything for e in (c.value.low, c.value.high) if e is not None}
        near = {end + step for end in {*ends, *limits} for step in (-HAIR, Decimal(0), HAIR)}
        self.values = frozenset(v for v in {*near, Decimal(0), Decimal(10**6)} if v >= 0)
        pools = {
            analyte: [
                c
                for c in everything
                if c.analyte is analyte and (c.when.last - c.when.first).days <= window
            ]
            for analyte in analytes
        }
        days = [c.when.last for pool in pools.values() if pool for c in self.judged(pool)]
        last = max(days, default=date.max)
        first = last - min(timedelta(days=window), last - date.min)
        self.inside = {
            analyte: [c for c in pool if first <= c.when.first and c.when.last <= last]
            for analyte, pool in pools.items()
        }

    def may_be(self, count: Count) -> Values:
        return frozenset(v for v in self.values if holds(count.value, v))

    def judged(self, counts: list[Count]) -> list[Count]:
        """Ruling 4: the newest exact count, unless a newer bound excludes it; then the bound.

        Ruling 15: a measured count stands before one worked out for the same moment.
        """
        exact = [c for c in counts if c.value.exact is not None]
        direct = [c for c in counts if c.kind is not Kind.BOUND]
        told = latest(exact or direct or counts)
        bounds = [c for c in counts if c.value.exact is None and all(c is not t for t in told)]
        newer = [c for c in bounds if any(is_later(c.when, t.when) for t in told)]
        for bound, old in product(newer, told):
            far = (bound.when.first - old.when.last).days > self.window
            if far or not self.may_be(old) <= self.may_be(bound):
                return self.judged(newer)
        beside = [
            c
            for c in bounds
            if not any(is_later(c.when, t.when) or is_later(t.when, c.when) for t in told)
        ]
        if not exact:
            some = [*told, *beside]
            return [c for c in some if not c.doubtful] or some
        firm = [c for c in told if not c.doubtful] or told
        best = [c for c in firm if c.kind is Kind.MEASURED] or firm
        return best + [
            c
            for c in beside
            if not all(self.may_be(b) <= self.may_be(c) for b in best)
            and not self.is_outdone(c, best)
        ]

    def is_outdone(self, count: Count, best: list[Count]) -> bool:
        measured = [b for b in best if b.kind is Kind.MEASURED]
        derived = count.kind is not Kind.MEASURED
        return derived and any(count.when.same_moment(b.when) for b in measured)

    def truth(self, analyte: Analyte, meets: Callable[[Decimal, bool], bool]) -> str:
        """Whether what is judged meets a limit, told of a value and whether cells are by hand."""
        known = self.known(analyte)
        if not known:
            return "unknown"
        answers = set()
        for values, manual, _ in known:
            found = {meets(value, manual) for value in values}
            answers |= found if len(found) == 1 else set()
        return {frozenset({True}): "met", frozenset({False}): "not-met"}.get(
            frozenset(answers), "unknown"
        )

    def known(self, analyte: Analyte) -> list[tuple[Values, bool, Interval | None]]:
        """Of each count judged what it may be, whether by hand, and its laboratory's normal."""
        if not self.inside[analyte]:
            return []
        counts = self.judged(self.inside[analyte])
        known = [(self.may_be(c), c.manual, self.is_supported(c), c.normal) for c in counts]
        together = frozenset.intersection(*(values for values, *_ in known))
        one_moment = all(c.when.same_moment(counts[0].when) for c in counts)
        normals = {normal for *_, normal in known if normal}
        by_hand = {manual for _, manual, *_ in known}
        if together and one_moment and len(by_hand) == 1 and len(normals) <= 1:
            under = any(supported for _, _, supported, _ in known)
            known = [(together, known[0][1], under, normals.pop() if normals else None)]
        # Of equal results one tells what is normal for the others.
        told = {(values, manual) for values, manual, _, normal in known if normal}
        known = [one for one in known if one[3] or one[:2] not in told]
        # Ruling 6: under support none is above the highest, and nothing more is known.
        highest = max(max(values) for values, *_ in known)
        at_most = frozenset(v for v in self.values if v <= highest)
        return [(at_most if under else v, manual, normal) for v, manual, under, normal in known]

    def is_supported(self, count: Count) -> bool:
        """Whether a transfusion or a growth factor bears on the count (section 3)."""
        given: list[tuple[Product | Drug, When]] = [
            (t.product, t.when) for t in self.course.transfusions
        ]
        given += [(d.drug, d.when) for d in self.course.drugs]
        for what, when in given:
            days = SUPPORT_DAYS.get((count.analyte, what))
            undated = when.first == date.min and when.last == date.max
            if days is None or undated or is_later(when, count.when):
                continue
            after = (count.when.first - when.last).days
            if when.first <= count.when.last and after <= days:
                return True
        return False
