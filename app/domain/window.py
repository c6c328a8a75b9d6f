"""The counts of one window, and what bears on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from functools import cache
from typing import NamedTuple

from app.domain.choosing import Chosen, Judged, contenders, judged_of
from app.domain.confounding import confounded
from app.domain.counts import Analyte, Count, Course, Remark, Source, When, newness
from app.domain.dependence import DEPENDENCE_DAYS, days_before, dependence_at
from app.domain.effort import spend
from app.domain.rules import Known

ADULT_DAYS = 6575  # 18 years
_STEPS = 30
"""To judge one patient on one day, whatever the counts."""


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
    judged, start, newest = _newest_of_each(counts, analytes, window_days)
    chosen = {analyte: one.counts for analyte, one in judged.items()}
    supported, confounders, remarks = confounded(course, chosen, as_of)
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


def _newest_of_each(
    counts: Sequence[Count], analytes: frozenset[Analyte], window_days: int
) -> tuple[dict[Analyte, Judged], date, date]:
    """What is judged of each analyte, and the first and the last day of the window."""
    pools = _pools(counts, analytes, window_days)
    judged = {analyte: judged_of(pool, window_days) for analyte, pool in pools.items()}
    newest = max([_last_day(one.counts) for one in judged.values()], default=date.max)
    start = days_before(newest, window_days)
    for analyte, pool in pools.items():
        inside = [c for c in pool if start <= c.when.first and c.when.last <= newest]
        if not inside:
            del judged[analyte]
        elif len(inside) < len(pool):
            judged[analyte] = judged_of(inside, window_days)
    return judged, start, newest


def _pools(
    counts: Sequence[Count], analytes: frozenset[Analyte], window_days: int
) -> dict[Analyte, list[Count]]:
    """The counts that may be judged, by analyte."""
    pools: dict[Analyte, list[Count]] = {analyte: [] for analyte in _in_order(analytes)}
    for count in counts:
        pool = pools.get(count.analyte)
        if pool is not None:
            when = count.when
            if when.first == when.last or placed(count, window_days):
                pool.append(count)
    return {analyte: contenders(pool) for analyte, pool in pools.items() if pool}


@cache
def _in_order(analytes: frozenset[Analyte]) -> tuple[Analyte, ...]:
    return tuple(analyte for analyte in Analyte if analyte in analytes)


def placed(count: Count, window_days: int) -> bool:
    """Whether its date is precise enough to say that it belongs to a window."""
    return (count.when.last - count.when.first).days <= window_days


def _last_day(counts: Iterable[Count]) -> date:
    return max([count.when.last for count in counts])


def _child(course: Course, day: date) -> bool:
    """Whether the patient may have been under 18 years old on the day."""
    return course.born is not None and course.born.last.toordinal() > day.toordinal() - ADULT_DAYS
