"""Counts under support: a transfusion or a growth factor shortly before makes them upper bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from app.domain.choosing import Chosen, places
from app.domain.counts import (
    UNDATED,
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Product,
    Remark,
    Severity,
    Source,
    Transfusion,
    When,
)
from app.domain.effort import spend

# Our own reading, said in the answer wherever it bears on a count.
CONFOUNDED_DAYS: dict[Product | Drug, int] = {
    Product.PLATELETS: 7,
    Product.RED_CELLS: 28,
    Drug.FILGRASTIM: 14,
    Drug.LENOGRASTIM: 14,
    Drug.PEGFILGRASTIM: 28,
    Drug.LIPEGFILGRASTIM: 28,
}
CONFOUNDED_BY: Mapping[Product | Drug, Analyte] = {
    Product.RED_CELLS: Analyte.HEMOGLOBIN,
    Product.PLATELETS: Analyte.PLATELETS,
    Drug.FILGRASTIM: Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
    Drug.LENOGRASTIM: Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
    Drug.PEGFILGRASTIM: Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
    Drug.LIPEGFILGRASTIM: Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
}
"""The analyte whose counts each support lifts."""
_PRODUCTS = {a: support for support, a in CONFOUNDED_BY.items() if isinstance(support, Product)}
Support = tuple[Transfusion | DrugGiven, int]
"""What was given, and for how many days it bears on counts."""


def confounded(
    course: Course, chosen: Chosen, as_of: When | None
) -> tuple[Chosen, tuple[Source, ...], tuple[Remark, ...]]:
    """Counts under support, as upper bounds: low still counts as low, high is no evidence.

    Counts that contradict each other still do (ruling 6): what is known of them under support is
    only that none is above the highest.
    """
    if not (course.transfusions or course.drugs):
        return chosen, (), ()
    told = dict(chosen)
    sources: list[Source] = []
    remarks: list[Remark] = []
    for analyte in dict.fromkeys(CONFOUNDED_BY.values()):
        if counts := chosen.get(analyte, ()):
            told[analyte] = tuple(_bounded(course, counts, as_of, sources, remarks))
    return told, tuple(sources), tuple(remarks)


def _bounded(
    course: Course,
    counts: tuple[Count, ...],
    as_of: When | None,
    sources: list[Source],
    remarks: list[Remark],
) -> Iterator[Count]:
    """The counts of one analyte; of what bears on them the sources, and what is to be said."""
    highest = _no_more_than_the_highest(counts)
    supports = _supports(course, counts[0].analyte)
    # Counts of one moment follow the same support, and there may be many of both.
    before: dict[object, list[Transfusion | DrugGiven]] = {}
    for count in counts:
        given = before.get(count.when[:3])
        if given is None:
            spend(len(supports))
            given = [s for s, days in supports if _bears_on(s, days, count.when, as_of)]
            before[count.when[:3]] = given
            sources += (support.source for support in given)
        if given:
            remarks.append(_under_support(count, given[0]))
            yield count._replace(value=highest)
        else:
            yield count


def supports_of(
    course: Course, count: Count, as_of: When | None = None
) -> tuple[Transfusion | DrugGiven, ...]:
    """What was given shortly before the count and sets it, by what is known of the course."""
    given = _supports(course, count.analyte)
    return tuple([s for s, days in given if _bears_on(s, days, count.when, as_of)])


def _supports(course: Course, analyte: Analyte) -> list[Support]:
    """What was given that bears on counts of the analyte."""
    if product := _PRODUCTS.get(analyte):
        days = CONFOUNDED_DAYS[product]
        return [(t, days) for t in course.transfusions if t.product in {product, Product.UNKNOWN}]
    return [
        (d, CONFOUNDED_DAYS[d.drug]) for d in course.drugs if CONFOUNDED_BY.get(d.drug) is analyte
    ]


def _no_more_than_the_highest(counts: Iterable[Count]) -> Interval:
    ends = [(c.value.high, c.value.high_included) for c in counts]
    highest = [(high, included) for high, included in ends if high is not None]
    if len(highest) < len(ends):
        return Interval(None, None)
    high, included = max(highest)
    return Interval(None, high, high_included=included)


def _bears_on(support: Transfusion | DrugGiven, days: int, count: When, as_of: When | None) -> bool:
    """Whether the count may stand within so many days after the support, or while it lasts."""
    given = support.when
    if given is UNDATED or given.begins_after(count) or (as_of and given.begins_after(as_of)):
        return False
    return count.last >= given.first and count.first.toordinal() - given.last.toordinal() <= days


def _under_support(count: Count, support: Transfusion | DrugGiven) -> Remark:
    if isinstance(support, Transfusion):
        code, what = "transfusion-window", f"a transfusion of {support.product.value}"
    else:
        code, what = "growth-factor-window", support.drug.value
    return Remark(
        code,
        Severity.WARNING,
        f"{count.analyte.title} of {count.when.text} stands shortly after {what} "
        f"({support.when.text}): a low value still counts as low, a high one is no evidence.",
        places((count,)),
    )
