"""Whether chart, age and weight are free of what a definition excludes."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.chart import Exclusion, LookedFor, OtherCauses, excluded_by
from app.domain.counts import Course, When
from app.domain.paper import Paper
from app.domain.person import PersonFinding, person_findings
from app.domain.rules import Truth


def person_of(
    paper: Paper, course: Course, day: When | None, window_days: int
) -> tuple[PersonFinding, ...]:
    """Age and weight, where the definition limits them and the data hold them."""
    if day is None or not (course.born or course.weights):
        return ()
    limits = (paper.least_age_years, paper.above_weight_kg)
    return tuple(person_findings(course, day.last, *limits, window_days))


def free_of_exclusions(
    exclusions: Sequence[Exclusion], causes: OtherCauses, person: Sequence[PersonFinding]
) -> Truth:
    """Not met where an exclusion is recorded for sure; unknown where nobody looked, or in doubt."""
    truths = {one.truth for one in person}
    if excluded_by(exclusions, causes) or Truth.NOT_MET in truths:
        return Truth.NOT_MET
    excluded = {one.cause for one in exclusions}
    in_doubt = any(one.cause in excluded for one in causes.doubtful)
    if causes.answer is LookedFor.NOT_LOOKED_FOR or in_doubt or Truth.UNKNOWN in truths:
        return Truth.UNKNOWN
    return Truth.MET
