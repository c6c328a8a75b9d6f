"""Which results newer ones make needless, for who need not read a patient's whole life."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.assessment import Assessment
from app.domain.choosing import APART_DAYS
from app.domain.counts import Analyte, Kind
from app.domain.derivation import PARTS, TOTALS
from app.domain.paper import interpretation

_NEUTROPHILS, _RETICULOCYTES = Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Analyte.RETICULOCYTES
_OF_RED_CELLS = {Analyte.ERYTHROCYTES, Analyte.RETICULOCYTE_PERCENT}
INFORMS = {
    **{
        analyte: analyte
        for analyte in (_NEUTROPHILS, Analyte.PLATELETS, Analyte.HEMOGLOBIN, _RETICULOCYTES)
    },
    **{part: _RETICULOCYTES if part in _OF_RED_CELLS else _NEUTROPHILS for part in PARTS},
}
"""Which count each result is of, or is worked out for."""

SHARES = frozenset(PARTS - TOTALS)
"""What tells nothing without a total of its moment, which may be an older one."""

# A result may be passed over if it is more than APART_DAYS older than the newest of its kind. One
# that others are worked out from must also be so much older than the newest direct count; without
# a direct count it may only be passed over where there are no shares.


def settled(found: Assessment, passed: Mapping[Analyte, int], window_days: int) -> bool:
    """Whether results that were passed over could not have changed an assessment.

    `passed` has for each count the last day (as an ordinal) of what was passed over of it, or of
    what it is worked out from. They could not where an exact newer count was judged, or where all
    of them lie before the window. Else the newest did not stand, or told a bound only. What must be
    sustained rests on all of them.
    """
    asked = interpretation(found.paper, found.judgement.policy)
    if asked.sustained:
        return not passed
    newest = max([count.when.last.toordinal() for count in found.counts], default=0)
    # A share belongs to its specimen's total however late this is dated: then no bound is left.
    bounds = {count.analyte for count in found.counts if count.kind is Kind.BOUND}
    return all(
        (last < newest - window_days - APART_DAYS and analyte not in bounds)
        or _judged_after(found, analyte, last)
        for analyte, last in passed.items()
        if analyte in asked.analytes
    )


def _judged_after(found: Assessment, analyte: Analyte, last: int) -> bool:
    judged = [count for count in found.counts if count.analyte is analyte]
    return any(
        count.value.exact is not None and count.kind is not Kind.BOUND for count in judged
    ) and all(count.when.first.toordinal() > last + APART_DAYS for count in judged)
