"""Whether a patient depends on transfusions, or is independent of them, by what is on record."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from app.domain.counts import Course, NoTransfusion, Product, Source, Transfusion, When
from app.domain.effort import spend
from app.domain.rules import Truth

# Transfusion dependence: NIH NCT01891994, at least 4 units in the 8 weeks before.
DEPENDENCE_UNITS = 4
DEPENDENCE_DAYS = 56
_NOT_KNOWN = {Product.RED_CELLS: Truth.UNKNOWN, Product.PLATELETS: Truth.UNKNOWN}


class Dependence(NamedTuple):
    """Of each product, what is known of the weeks up to a day."""

    dependent: dict[Product, Truth]
    independent: dict[Product, Truth]
    units: dict[Product, int | None]
    """Transfused; None where it is not known."""
    sources: tuple[Source, ...]


def dependence_at(
    course: Course, day: date, as_of: When | None, independence_days: int
) -> Dependence:
    """Dependence on and independence of transfusions up to the day, and the units if known.

    No transfusion in the data is not "no transfusions": without evidence that covers the time
    the answer is unknown. So it is without a count, whose day tells up to when.
    """
    told = course.transfusions or course.no_transfusions or course.transfusion_history_complete
    if day == date.max or not told:
        return Dependence(_NOT_KNOWN, _NOT_KNOWN, {}, ())
    dependent: dict[Product, Truth] = {}
    independent: dict[Product, Truth] = {}
    units: dict[Product, int | None] = {}
    longest = max(DEPENDENCE_DAYS, independence_days)
    sources = [t.source for t in _recorded(course, day, longest, as_of)]
    for product in _NOT_KNOWN:
        given = _given(course, product, day, DEPENDENCE_DAYS, as_of)
        within = given
        if independence_days != DEPENDENCE_DAYS:
            within = _given(course, product, day, independence_days, as_of)
        dependent[product] = given.enough(DEPENDENCE_UNITS)
        independent[product] = within.none
        for one in (given, within):
            sources += (statement.source for statement in one.statements)
        sure = len(given.sure)
        units[product] = sure if given.covered and sure == len(given.possible) else None
    return Dependence(dependent, independent, units, tuple(dict.fromkeys(sources)))


def transfusion_independence(course: Course, day: date, days: int) -> dict[Product, Truth]:
    """Whether, by evidence, nothing of each product was transfused in the days up to one."""
    return {product: _given(course, product, day, days, None).none for product in _NOT_KNOWN}


class _Given(NamedTuple):
    """What is known of the transfusions of one product in a time."""

    sure: list[Transfusion]
    possible: list[Transfusion]
    """Those that may be of the product, and may be in the time."""
    statements: list[NoTransfusion]
    """That none was given in all of the time."""
    covered: bool
    """Whether every transfusion is on record."""

    def enough(self, number: int) -> Truth:
        """Whether so many were given; one that was set aside leaves it unknown (ruling 1)."""
        if len(self.sure) >= number:
            return Truth.MET
        if not self.covered or any(not t.standing for t in self.possible):
            return Truth.UNKNOWN
        return Truth.NOT_MET if len(self.possible) < number else Truth.UNKNOWN

    @property
    def none(self) -> Truth:
        """Whether none was given."""
        if self.sure:
            return Truth.NOT_MET
        return Truth.MET if self.covered and not self.possible else Truth.UNKNOWN


def _given(course: Course, product: Product, day: date, days: int, as_of: When | None) -> _Given:
    start = days_before(day, days)
    recorded = _recorded(course, day, days, as_of)
    statements = [
        n
        for n in course.no_transfusions
        if n.product in {product, None} and n.when.first <= start and n.when.last >= day
    ]
    possible = [t for t in recorded if t.product in {product, Product.UNKNOWN}]
    return _Given(
        sure=[
            t
            for t in possible
            if t.standing
            and t.product is product
            and t.when.first >= start
            and (t.when.last <= day or t.when.lasting)
        ],
        possible=possible,
        statements=statements,
        covered=bool(course.transfusion_history_complete or statements),
    )


def _recorded(course: Course, day: date, days: int, as_of: When | None) -> list[Transfusion]:
    """The transfusions that may lie in the days up to one."""
    spend(len(course.transfusions) + len(course.no_transfusions))
    start = days_before(day, days)
    return [
        t
        for t in course.transfusions
        if t.when.last >= start
        and t.when.first <= day
        and not (as_of and t.when.begins_after(as_of))
    ]


def days_before(day: date, days: int) -> date:
    """The day so many days before, or the calendar's first."""
    return date.fromordinal(max(day.toordinal() - days, 1))
