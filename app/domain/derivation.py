"""Counts worked out from other results of the same specimen or moment, without rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from itertools import product

from app.domain.counts import EXACT, Analyte, Count, Interval, Kind, When, newness

_HUNDREDTH = Decimal("0.01")
_ZERO = Decimal(0)
ROUNDED_UP, A_TENTH = Decimal("1.05"), Decimal("0.1")
_NEUTROPHILS = (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Analyte.SEGMENTED_NEUTROPHILS)
PARTS = {
    Analyte.LEUKOCYTES,
    Analyte.ERYTHROCYTES,
    Analyte.SEGMENTED_NEUTROPHILS,
    Analyte.BAND_NEUTROPHILS,
    Analyte.NEUTROPHIL_PERCENT,
    Analyte.SEGMENTED_PERCENT,
    Analyte.BAND_PERCENT,
    Analyte.RETICULOCYTE_PERCENT,
}
"""What counts are worked out from."""
TOTALS = {Analyte.LEUKOCYTES, Analyte.ERYTHROCYTES}
"""Of the parts, those that parts and percentages are shares of."""
NEVER_ALONE = PARTS - TOTALS - {Analyte.SEGMENTED_NEUTROPHILS}
# The most exact way first: of several ways for one moment the first that applies is taken.
_PRODUCTS = (
    (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Analyte.LEUKOCYTES, Analyte.NEUTROPHIL_PERCENT),
    (Analyte.RETICULOCYTES, Analyte.ERYTHROCYTES, Analyte.RETICULOCYTE_PERCENT),
)
_SEGMENTED = {Analyte.SEGMENTED_NEUTROPHILS, Analyte.SEGMENTED_PERCENT}
Group = dict[Analyte, list[Count]]


def derived_counts(counts: Iterable[Count]) -> tuple[Count, ...]:
    """Neutrophil and reticulocyte counts worked out from other results of one moment.

    ANC = leukocytes x neutrophil %, or x (segmented % + bands %), or segmented + bands;
    ARC = erythrocytes x reticulocyte %. Where only a part is known the result is a bound:
    neutrophils never exceed leukocytes and are never fewer than the segmented ones. Of one
    moment's leukocytes those corrected for nucleated red cells are taken, where there are any.
    """
    counts = list(counts)
    counted = {
        c.when.text
        for c in counts
        if c.analyte is Analyte.ABSOLUTE_NEUTROPHIL_COUNT and c.value.exact is not None
    }
    some = [c for c in counts if c.analyte in PARTS]
    if TOTALS.issuperset(c.analyte for c in some):
        # Beside an exact count of neutrophils their mere bound by leukocytes is never judged.
        some = [c for c in some if c.when.text not in counted]
    corrected = {_moment(c.when) for c in some if c.corrected}
    if corrected:
        some = [
            c
            for c in some
            if c.corrected
            or c.analyte is not Analyte.LEUKOCYTES
            or _moment(c.when) not in corrected
        ]
    found: dict[object, Count] = {}
    for group in _groups(some):
        for analyte, kind, parts, arithmetic in _ways(group):
            # One specimen's results stand in its group and in their moment's.
            key = (analyte, *map(id, parts))
            if key not in found:
                found[key] = _combined(analyte, kind, parts, arithmetic)
    return tuple(found.values())


def impossible_pairs(counts: Sequence[Count]) -> tuple[tuple[Count, ...], ...]:
    """Neutrophils that outnumber the leukocytes of their moment, with these (ruling 5).

    Beyond rounding one of the two is wrong, and nothing tells which. Where several leukocyte counts
    stand at one moment, the neutrophils must outnumber all of them.
    """
    counted = {count.analyte for count in counts}
    if Analyte.LEUKOCYTES not in counted or counted.isdisjoint(_NEUTROPHILS):
        return ()
    groups: dict[object, Group] = {}
    for count in counts:
        if count.analyte in _NEUTROPHILS or count.analyte is Analyte.LEUKOCYTES:
            group = groups.setdefault(_moment(count.when), {})
            group.setdefault(count.analyte, []).append(count)
    found = []
    for group in groups.values():
        leukocytes = group.get(Analyte.LEUKOCYTES, [])
        highs = [c.value.high for c in leukocytes]
        if not leukocytes or None in highs:
            continue
        most = EXACT.add(
            EXACT.multiply(max(h for h in highs if h is not None), ROUNDED_UP), A_TENTH
        )
        above = [
            count
            for analyte in _NEUTROPHILS
            for count in group.get(analyte, ())
            if count.value.low is not None and count.value.low > most
        ]
        if above:
            found.append((*above, *leukocytes))
    return tuple(found)


def _groups(counts: Iterable[Count]) -> Iterator[Group]:
    """Results that may be combined: of one moment, and of one specimen."""
    groups: dict[object, Group] = {}
    for count in counts:
        moment = _moment(count.when)
        for key in (moment, count.specimen) if count.specimen else (moment,):
            group = groups.setdefault(key, {})
            group.setdefault(count.analyte, []).append(count)
    for group in groups.values():
        yield {analyte: _extremes(some) for analyte, some in group.items()}


def _moment(when: When) -> object:
    return when.instant or (when.first, when.last)


def _extremes(counts: list[Count]) -> list[Count]:
    """The lowest and the highest: limits are one-sided, so these two show every contradiction.

    Of what was counted by hand and what was not apart: other limits hold for them.
    """
    if len(counts) == 1:
        return counts
    by_hand = [count for count in counts if count.manual]
    if by_hand and len(by_hand) < len(counts):
        return _extremes(by_hand) + _extremes([count for count in counts if not count.manual])
    # Of equal results the one that can be placed best: min and max keep the first.
    counts = sorted(counts, key=_vagueness)
    lowest = min(counts, key=lambda count: (_from(count.value), _to(count.value)))
    highest = max(counts, key=lambda count: (_to(count.value), _from(count.value)))
    return [lowest] if lowest is highest else [lowest, highest]


def _vagueness(count: Count) -> tuple[int, bool, date]:
    when = count.when
    return (when.last - when.first).days, count.doubtful, when.last


def _from(value: Interval) -> tuple[Decimal, bool]:
    return value.low or _ZERO, not value.low_included


def _to(value: Interval) -> tuple[bool, Decimal, bool]:
    return value.high is None, value.high or _ZERO, value.high_included


Arithmetic = Callable[[tuple[Interval, ...]], Interval]
Way = tuple[Analyte, Kind, tuple[Count, ...], Arithmetic]
"""What is worked out, how directly, from which results, and how."""


def _ways(group: Group) -> Iterator[Way]:
    """Every pair is worked out, so that results which contradict stay visible as such."""
    for analyte, cells, percent in _PRODUCTS:
        if cells in group and percent in group:
            for pair in product(group[cells], group[percent]):
                yield analyte, Kind.DERIVED, pair, _percent_of
    by_percent = Analyte.NEUTROPHIL_PERCENT in group and Analyte.LEUKOCYTES in group
    if not by_percent and not _SEGMENTED.isdisjoint(group):
        yield from _neutrophils_from_parts(group)
    for leukocytes in group.get(Analyte.LEUKOCYTES, ()):
        yield Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Kind.BOUND, (leukocytes,), _at_most_the_first


def _neutrophils_from_parts(group: Group) -> Iterator[Way]:
    analyte = Analyte.ABSOLUTE_NEUTROPHIL_COUNT
    for segmented in group.get(Analyte.SEGMENTED_NEUTROPHILS, ()):
        yield analyte, Kind.BOUND, (segmented,), _at_least_the_first
        for bands in group.get(Analyte.BAND_NEUTROPHILS, ()):
            yield analyte, Kind.DERIVED, (segmented, bands), _sum
    for leukocytes, segmented in product(
        group.get(Analyte.LEUKOCYTES, ()), group.get(Analyte.SEGMENTED_PERCENT, ())
    ):
        yield analyte, Kind.BOUND, (leukocytes, segmented), _at_least_a_percent
        for bands in group.get(Analyte.BAND_PERCENT, ()):
            yield analyte, Kind.DERIVED, (leukocytes, segmented, bands), _percents_of


def _combined(
    analyte: Analyte, kind: Kind, parts: tuple[Count, ...], arithmetic: Arithmetic
) -> Count:
    """The moment is the latest of the parts: before it the count was not known."""
    latest = max(parts, key=newness)
    return Count(
        analyte=analyte,
        value=arithmetic(tuple([part.value for part in parts])),
        when=latest.when,
        sources=tuple([source for part in parts for source in part.sources]),
        manual=any(part.manual for part in parts),
        doubtful=any(part.doubtful for part in parts),
        kind=kind,
        parts=parts,
    )


def _percent_of(values: tuple[Interval, ...]) -> Interval:
    cells, percent = values
    return Interval(
        _product(cells.low, percent.low) or _ZERO,
        _product(cells.high, percent.high),
        cells.low_included and percent.low_included,
        cells.high_included and percent.high_included,
    )


def _product(cells: Decimal | None, percent: Decimal | None) -> Decimal | None:
    if cells is None or percent is None:
        return None
    return EXACT.multiply(EXACT.multiply(cells, percent), _HUNDREDTH)


def _sum(values: tuple[Interval, ...]) -> Interval:
    one, other = values
    return Interval(
        EXACT.add(one.low or _ZERO, other.low or _ZERO),
        None if one.high is None or other.high is None else EXACT.add(one.high, other.high),
        one.low_included and other.low_included,
        one.high_included and other.high_included,
    )


def _at_least_the_first(values: tuple[Interval, ...]) -> Interval:
    return Interval(values[0].low, None, values[0].low_included)


def _at_most_the_first(values: tuple[Interval, ...]) -> Interval:
    return Interval(_ZERO, values[0].high, high_included=values[0].high_included)


def _at_least_a_percent(values: tuple[Interval, ...]) -> Interval:
    least, most = _percent_of(values), values[0]
    return Interval(least.low, most.high, least.low_included, most.high_included)


def _percents_of(values: tuple[Interval, ...]) -> Interval:
    return _percent_of((values[0], _sum(values[1:])))
