"""Which results of a window are judged, and what support does to them.

The rulings named are those on messy data (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import cache
from typing import NamedTuple

from app.domain.counts import (
    UNDATED,
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Kind,
    Product,
    Remark,
    Severity,
    Source,
    Transfusion,
    When,
    newness,
)
from app.domain.dependence import DEPENDENCE_DAYS, days_before, dependence_at
from app.domain.effort import spend
from app.domain.rules import Known

ADULT_DAYS = 6575  # 18 years
# Our own reading, said in the answer wherever it bears on a count.
CONFOUNDED_DAYS = {
    Product.PLATELETS: 7,
    Product.RED_CELLS: 28,
    Drug.FILGRASTIM: 14,
    Drug.LENOGRASTIM: 14,
    Drug.PEGFILGRASTIM: 28,
    Drug.LIPEGFILGRASTIM: 28,
}
# Civil days of one instant differ by two at the most, however far apart the zones.
APART_DAYS = 2
_STEPS = 30
"""To judge one patient on one day, whatever the counts."""

Chosen = Mapping[Analyte, tuple[Count, ...]]
"""The counts judged of each analyte: several only where nothing tells which is the newer."""


class Window(NamedTuple):
    """The counts of one window, and what bears on them."""

    day: When | None
    first_day: date
    """Where the window begins."""
    last_day: date
    """Where it ends."""
    chosen: Chosen
    """The counts judged, as the laboratory gave them."""
    passed_over: Chosen
    """Those worked out for the moment of a count that was measured: the measured one stands."""
    excluded: tuple[Count, ...]
    """Older exact counts that a newer bound excludes: else one older still would be judged."""
    known: Known
    confounders: tuple[Source, ...]
    dependence_sources: tuple[Source, ...]
    remarks: tuple[Remark, ...]

    @property
    def counts(self) -> tuple[Count, ...]:
        """The counts judged, as the laboratory gave them."""
        return tuple([count for some in self.chosen.values() for count in some])


def take_window(
    course: Course,
    counts: Sequence[Count],
    analytes: frozenset[Analyte],
    window_days: int,
    as_of: When | None = None,
    independence_days: int = DEPENDENCE_DAYS,
) -> Window:
    """The newest of the counts for each analyte, none outside the window.

    The course tells what bears on them; of that nothing later than `as_of` is looked at.
    Independence is nothing transfused in `independence_days`.
    """
    spend(_STEPS + len(counts))
    pools: dict[Analyte, list[Count]] = {analyte: [] for analyte in _in_order(analytes)}
    for count in counts:
        pool = pools.get(count.analyte)
        if pool is not None:
            when = count.when
            if when.first == when.last or placed(count, window_days):
                pool.append(count)
    pools = {analyte: _contenders(pool) for analyte, pool in pools.items() if pool}
    judged = {analyte: _judged(pool, window_days) for analyte, pool in pools.items()}
    newest = max([_last_day(one.counts) for one in judged.values()], default=date.max)
    start = days_before(newest, window_days)
    for analyte, pool in pools.items():
        inside = [c for c in pool if start <= c.when.first and c.when.last <= newest]
        if not inside:
            del judged[analyte]
        elif len(inside) < len(pool):
            judged[analyte] = _judged(inside, window_days)
    chosen = {analyte: one.counts for analyte, one in judged.items()}
    supported, confounders, remarks = _confounded(course, chosen, as_of)
    depends = dependence_at(course, newest, as_of, independence_days)
    last = max((c for some in chosen.values() for c in some), key=newness, default=None)
    child = _child(course, newest)
    return Window(
        day=last.when if last else None,
        first_day=start,
        last_day=newest,
        chosen=chosen,
        passed_over={a: one.passed_over for a, one in judged.items() if one.passed_over},
        excluded=tuple([count for one in judged.values() for count in one.excluded]),
        known=Known(
            supported, depends.dependent, depends.independent, depends.units, course.sex, child
        ),
        confounders=confounders,
        dependence_sources=depends.sources,
        remarks=remarks,
    )


@cache
def _in_order(analytes: frozenset[Analyte]) -> tuple[Analyte, ...]:
    return tuple(analyte for analyte in Analyte if analyte in analytes)


def placed(count: Count, window_days: int) -> bool:
    """Whether its date is precise enough to say that it belongs to a window."""
    return (count.when.last - count.when.first).days <= window_days


def places(counts: Iterable[Count]) -> tuple[str, ...]:
    """Where in the request the counts stand, each place once."""
    return tuple(dict.fromkeys([s.place for count in counts for s in count.sources]))


def _last_day(counts: Iterable[Count]) -> date:
    return max([count.when.last for count in counts])


def _contenders(counts: list[Count]) -> list[Count]:
    """The counts that may be judged, whatever the window: none is long before an exact one."""
    if len(counts) == 1:
        return counts
    for tells in TELLING:
        if some := [c for c in counts if tells(c)]:
            newest = max([c.when.last for c in some if c.when.precise], default=None)
            if newest is None:
                return counts
            since = days_before(newest, APART_DAYS)
            return [c for c in counts if c.when.last >= since]
    return counts


def _is_exact(count: Count) -> bool:
    low, high, _, _ = count.value
    return low is not None and (low is high or low == high)


def _is_direct(count: Count) -> bool:
    return count.kind is not Kind.BOUND


TELLING: tuple[Callable[[Count], bool], ...] = (_is_exact, _is_direct, lambda _: True)
"""What tells of an analyte, the most telling first: where some counts are of one of these kinds,
none that is surely before the newest of them is judged."""


class _Judged(NamedTuple):
    """The counts of one analyte that are judged."""

    counts: tuple[Count, ...]
    passed_over: tuple[Count, ...] = ()
    """Those worked out for the same moment, where the laboratory's own count stands."""
    excluded: tuple[Count, ...] = ()
    """Exact ones that a newer bound excludes."""


def _judged(counts: list[Count], window_days: int) -> _Judged:
    """The newest exact count, unless a newer bound excludes it: then the bound (ruling 4)."""
    if len(counts) == 1:
        return _Judged((counts[0],))
    some = next(some for tells in TELLING if (some := [c for c in counts if tells(c)]))
    told = _latest(some)
    if len(some) == len(counts) and told[0].value.exact is not None:
        return _of_one_moment(told, [])
    standing = set(map(id, told))
    rest = [c for c in counts if c.value.exact is None and id(c) not in standing]
    newer = [c for c in rest if any(c.when.begins_after(t.when) for t in told)]
    if any(_excludes(c, t, window_days) for c in newer for t in told):
        bound = _judged(newer, window_days)
        return bound._replace(excluded=(*told, *bound.excluded))
    beside = [
        c
        for c in rest
        if not any(c.when.begins_after(t.when) or t.when.begins_after(c.when) for t in told)
    ]
    if told[0].value.exact is None:
        return _Judged(_together([*told, *beside]))
    return _of_one_moment(told, beside)


def _latest(counts: Sequence[Count]) -> list[Count]:
    """The counts that nothing is known to be later than.

    By the instant where both have one, else by the civil days as written (ruling 3): a month and
    a day within it are not ordered.
    """
    if len(counts) < 2:
        return list(counts)
    instants = [c.when.instant for c in counts if c.when.instant]
    last_instant = max(instants, default=None)
    if len(instants) == len(counts):
        return [c for c in counts if c.when.instant == last_instant]
    first_days = [c.when.first for c in counts if not c.when.instant]
    last_day = max(first_days, default=date.min)
    last_first = max(c.when.first for c in counts)
    latest = [
        c
        for c in counts
        if c.when.last >= (last_day if c.when.instant else last_first)
        and c.when.instant in {None, last_instant}
    ]
    # Zones can make a circle of a day and two instants; then none of them is the latest.
    return latest or [c for c in counts if c.when.last >= last_first]


def _excludes(bound: Count, older: Count, window_days: int) -> bool:
    """Whether the older count cannot be what the newer bound is of, or is too old to be judged."""
    apart = (bound.when.first - older.when.last).days
    return apart > window_days or not older.value.inside(bound.value)


def _of_one_moment(told: list[Count], beside: list[Count]) -> _Judged:
    """Of exact counts the firm and measured ones, and what contradicts them."""
    if len(told) == 1 and not beside:
        return _Judged((told[0],))
    firm = [c for c in told if not c.doubtful] or told
    best = [c for c in firm if c.kind is Kind.MEASURED] or firm
    measured = best[0].kind is Kind.MEASURED
    against = []
    passed_over = [c for c in firm if c.kind is not Kind.MEASURED] if measured else []
    for count in beside:
        if all(one.value.inside(count.value) for one in best):
            continue
        same = any(count.when.same_moment(one.when) for one in best)
        if measured and same and count.kind is not Kind.MEASURED:
            passed_over.append(count)  # ruling 15
        else:
            against.append(count)
    return _Judged(_each_value_once([*best, *against]), tuple(passed_over))


def _together(counts: list[Count]) -> tuple[Count, ...]:
    """Bounds of one moment as the one that all of them leave (ruling 4)."""
    counts = [c for c in counts if not c.doubtful] or counts
    if len(counts) == 1:
        return (counts[0],)
    some = _each_value_once(counts)
    one_moment = all(c.when.same_moment(some[0].when) for c in some)
    if not one_moment or len({c.manual for c in some}) > 1:
        return some
    for count in some:
        if all(count.value.inside(other.value) for other in some):
            return (count,)
    value = some[0].value
    for count in some[1:]:
        both = value.both(count.value)
        if both is None:
            return some
        value = both
    return (
        Count(
            some[0].analyte,
            value,
            max(some, key=newness).when,
            tuple(dict.fromkeys(s for c in some for s in c.sources)),
            manual=some[0].manual,
            doubtful=some[0].doubtful,
            kind=Kind.BOUND,
            parts=tuple(p for c in some for p in (c.parts or (c,))),
        ),
    )


def _each_value_once(counts: Iterable[Count]) -> tuple[Count, ...]:
    seen: dict[tuple[Interval, bool, Kind], Count] = {}
    for count in sorted(counts, key=lambda c: c.sources[0].reference):
        seen.setdefault((count.value, count.manual, count.kind), count)
    return tuple(seen.values())


Support = tuple[Transfusion | DrugGiven, int]
_CONFOUNDS = {
    Analyte.HEMOGLOBIN: Product.RED_CELLS,
    Analyte.PLATELETS: Product.PLATELETS,
}


def _confounded(
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
    for analyte, supports, code in (
        (Analyte.HEMOGLOBIN, _transfusions(course, Product.RED_CELLS), "transfusion-window"),
        (Analyte.PLATELETS, _transfusions(course, Product.PLATELETS), "transfusion-window"),
        (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, _growth_factors(course), "growth-factor-window"),
    ):
        counts = chosen.get(analyte, ())
        if not counts:
            continue
        highest = _no_more_than_the_highest(counts)
        bounded = []
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
                remarks.append(_under_support(count, given[0], code))
                bounded.append(count._replace(value=highest))
            else:
                bounded.append(count)
        told[analyte] = tuple(bounded)
    return told, tuple(sources), tuple(remarks)


def supports_of(
    course: Course, count: Count, as_of: When | None = None
) -> tuple[Transfusion | DrugGiven, ...]:
    """What was given shortly before the count and sets it, by what is known of the course."""
    given: list[Support] = []
    if count.analyte is Analyte.ABSOLUTE_NEUTROPHIL_COUNT:
        given = _growth_factors(course)
    elif product := _CONFOUNDS.get(count.analyte):
        given = _transfusions(course, product)
    return tuple([s for s, days in given if _bears_on(s, days, count.when, as_of)])


def _no_more_than_the_highest(counts: Iterable[Count]) -> Interval:
    ends = [(c.value.high, c.value.high_included) for c in counts]
    highest = [(high, included) for high, included in ends if high is not None]
    if len(highest) < len(ends):
        return Interval(None, None)
    high, included = max(highest)
    return Interval(None, high, high_included=included)


def _transfusions(course: Course, product: Product) -> list[Support]:
    days = CONFOUNDED_DAYS[product]
    return [(t, days) for t in course.transfusions if t.product in {product, Product.UNKNOWN}]


def _growth_factors(course: Course) -> list[Support]:
    return [(d, CONFOUNDED_DAYS[d.drug]) for d in course.drugs if d.drug in CONFOUNDED_DAYS]


def _bears_on(support: Transfusion | DrugGiven, days: int, count: When, as_of: When | None) -> bool:
    """Whether the count may stand within so many days after the support, or while it lasts."""
    given = support.when
    if given is UNDATED or given.begins_after(count) or (as_of and given.begins_after(as_of)):
        return False
    return count.last >= given.first and count.first.toordinal() - given.last.toordinal() <= days


def _under_support(count: Count, support: Transfusion | DrugGiven, code: str) -> Remark:
    what = (
        f"a transfusion of {support.product.value}"
        if isinstance(support, Transfusion)
        else support.drug.value
    )
    return Remark(
        code,
        Severity.WARNING,
        f"{count.analyte.title} of {count.when.text} stands shortly after {what} "
        f"({support.when.text}): a low value still counts as low, a high one is no evidence.",
        places((count,)),
    )


def _child(course: Course, day: date) -> bool:
    """Whether the patient may have been under 18 years old on the day."""
    return course.born is not None and course.born.last.toordinal() > day.toordinal() - ADULT_DAYS
