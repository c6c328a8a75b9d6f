"""Which of the counts of one analyte are judged: the newest that tell, and what contradicts them.

The rulings named are those on messy data (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from app.domain.counts import Analyte, Count, Interval, Kind, newness
from app.domain.dependence import days_before

Chosen = Mapping[Analyte, tuple[Count, ...]]
"""The counts judged of each analyte: several only where nothing tells which is the newer."""

# Civil days of one instant differ by two at the most, however far apart the zones.
APART_DAYS = 2


class Judged(NamedTuple):
    """The counts of one analyte that are judged."""

    counts: tuple[Count, ...]
    passed_over: tuple[Count, ...] = ()
    """Those worked out for the same moment, where the laboratory's own count stands."""
    excluded: tuple[Count, ...] = ()
    """Exact ones that a newer bound excludes."""


def contenders(counts: list[Count]) -> list[Count]:
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


def judged_of(counts: list[Count], window_days: int) -> Judged:
    """The newest exact count, unless a newer bound excludes it: then the bound (ruling 4)."""
    if len(counts) == 1:
        return Judged((counts[0],))
    some = next(some for tells in TELLING if (some := [c for c in counts if tells(c)]))
    told = _latest(some)
    if len(some) == len(counts) and told[0].value.exact is not None:
        return _of_one_moment(told, [])
    standing = set(map(id, told))
    rest = [c for c in counts if c.value.exact is None and id(c) not in standing]
    newer = [c for c in rest if any(c.when.begins_after(t.when) for t in told)]
    if any(_excludes(c, t, window_days) for c in newer for t in told):
        bound = judged_of(newer, window_days)
        return bound._replace(excluded=(*told, *bound.excluded))
    beside = [
        c
        for c in rest
        if not any(c.when.begins_after(t.when) or t.when.begins_after(c.when) for t in told)
    ]
    if told[0].value.exact is None:
        return Judged(_together([*told, *beside]))
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


def _of_one_moment(told: list[Count], beside: list[Count]) -> Judged:
    """Of exact counts the firm and measured ones, and what contradicts them."""
    if len(told) == 1 and not beside:
        return Judged((told[0],))
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
    return Judged(_each_value_once([*best, *against]), tuple(passed_over))


def _together(counts: list[Count]) -> tuple[Count, ...]:
    """Bounds of one moment as the one that all of them leave (ruling 4)."""
    counts = [c for c in counts if not c.doubtful] or counts
    if len(counts) == 1:
        return (counts[0],)
    some = _each_value_once(counts)
    one_moment = all(c.when.same_moment(some[0].when) for c in some)
    normals = {c.normal for c in some if c.normal}
    if not one_moment or len({c.manual for c in some}) > 1 or len(normals) > 1:
        return some
    normal = normals.pop() if normals else None
    for count in some:
        if all(count.value.inside(other.value) for other in some):
            return (count if count.normal == normal else count._replace(normal=normal),)
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
            normal=normal,
        ),
    )


def _each_value_once(counts: Sequence[Count]) -> tuple[Count, ...]:
    """Equal results once: one that tells what is normal, of those the last, stands for all."""
    ranged = {(c.value, c.manual, c.kind) for c in counts if c.normal}
    seen: dict[tuple[Interval, bool, Kind, Interval | None], Count] = {}
    for count in sorted(counts, key=lambda c: (-c.when.last.toordinal(), c.sources[0].reference)):
        if count.normal or (count.value, count.manual, count.kind) not in ranged:
            seen.setdefault((count.value, count.manual, count.kind, count.normal), count)
    return tuple(seen.values())


def places(counts: Iterable[Count]) -> tuple[str, ...]:
    """Where in the request the counts stand, each place once."""
    return tuple(dict.fromkeys([s.place for count in counts for s in count.sources]))
