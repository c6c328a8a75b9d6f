"""Whether chart, age and weight are free of what a definition excludes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date

from app.domain.chart import (
    CauseKind,
    Exclusion,
    LookedFor,
    OtherCauses,
    days_maybe_there,
    days_surely_there,
    excluded_by,
)
from app.domain.counts import Course
from app.domain.effort import spend
from app.domain.paper import Paper
from app.domain.person import Person, PersonFinding
from app.domain.rules import Truth


def free_of_exclusions(
    exclusions: Sequence[Exclusion], causes: OtherCauses, person: Sequence[PersonFinding]
) -> Truth:
    """Not met where an exclusion is recorded for sure; unknown where nobody looked, or in doubt."""
    excluded = {one.cause for one in exclusions}
    return _free(
        surely=bool(excluded_by(exclusions, causes)),
        maybe=any(one.cause in excluded for one in causes.doubtful),
        looked_for=causes.answer is not LookedFor.NOT_LOOKED_FOR,
        person=person,
    )


class ExclusionsByDay:
    """The same for any day of a course, without a look at every record for each day."""

    def __init__(self, paper: Paper, course: Course, person: Person) -> None:
        spend(len(course.chart))
        excluded = {one.cause for one in paper.exclusions}
        told = [one for one in course.chart if one.kind is not CauseKind.IMMUNOSUPPRESSION]
        excluding = [one for one in told if one.cause in excluded]
        self._surely = _Spans(map(days_surely_there, excluding))
        self._maybe = _Spans(map(days_maybe_there, excluding))
        self._recorded = _Spans(map(days_maybe_there, told))
        self._looked_at = bool(course.looked_at)
        self._person = person

    def free_on(self, day: date) -> Truth:
        """As `free_of_exclusions` of what is known on the day."""
        return _free(
            surely=self._surely.any_on(day),
            maybe=self._maybe.any_on(day),
            looked_for=self._looked_at or self._recorded.any_on(day),
            person=self._person.on(day),
        )


def _free(surely: bool, maybe: bool, looked_for: bool, person: Iterable[PersonFinding]) -> Truth:
    truths = {one.truth for one in person}
    if surely or Truth.NOT_MET in truths:
        return Truth.NOT_MET
    return Truth.UNKNOWN if maybe or not looked_for or Truth.UNKNOWN in truths else Truth.MET


class _Spans:
    """Spans of days: those that have begun less those that have ended are those of a day."""

    def __init__(self, spans: Iterable[range]) -> None:
        some = [span for span in spans if span]
        self._starts = sorted(span.start for span in some)
        self._stops = sorted(span.stop for span in some)

    def any_on(self, day: date) -> bool:
        number = day.toordinal()
        return bisect_right(self._starts, number) > bisect_right(self._stops, number)
