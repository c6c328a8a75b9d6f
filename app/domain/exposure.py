"""The protocol's drug as it was given."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from app.domain.counts import Count, DrugGiven, When
from app.domain.timeline import LAST_DAY

# Doses further apart than this belong to two courses of treatment.
COURSE_GAP_DAYS = 90


@dataclass(frozen=True, slots=True)
class Exposure:
    """The protocol's drug as it was given; information only."""

    doses: int
    first: When
    last: When
    interval_days: tuple[int, ...]
    mg_per_kg: tuple[Decimal, ...]


def exposure_of(given: Sequence[DrugGiven], weights: Sequence[Count]) -> Exposure | None:
    """How the drug was given; None where no dose is known, only that it was taken."""
    doses = [d for d in given if not d.stated]
    if not doses:
        return None
    ordered = sorted(doses, key=lambda d: (d.when.first, d.source.place))
    days = [d.when.first for d in ordered]
    in_order = sorted((w for w in weights if w.value.exact), key=LAST_DAY)
    per_kg = [found for d in ordered if (found := _per_kg(d, in_order)) is not None]
    return Exposure(
        doses=len(ordered),
        first=ordered[0].when,
        last=ordered[-1].when,
        interval_days=tuple((b - a).days for a, b in pairwise(days)),
        mg_per_kg=tuple(per_kg),
    )


def _per_kg(dose: DrugGiven, weights: Sequence[Count]) -> Decimal | None:
    """The dose by the newest of the weights, which are exact and in order."""
    if dose.dose_mg_per_kg is not None:
        return dose.dose_mg_per_kg
    until = bisect_right(weights, dose.when.last, key=LAST_DAY)
    if dose.dose_mg is None or not until:
        return None
    # Of several of one day the first that was sent.
    newest = bisect_left(weights, weights[until - 1].when.last, key=LAST_DAY)
    weight = weights[newest].value.exact
    return (dose.dose_mg / weight).quantize(Decimal("0.01")) if weight else None
