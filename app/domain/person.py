"""Age and weight against the limits that a definition names, where the data hold them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from app.domain.counts import Count, Course, When
from app.domain.rules import Truth


class PersonFinding(NamedTuple):
    """Whether age or weight is within the definition's limit; the counts' verdict stands apart."""

    code: str
    title: str
    truth: Truth
    limit: str
    told: str
    """What the data hold, in words."""
    weight: Count | None = None


def person_findings(
    course: Course,
    day: date | None,
    least_age_years: int | None,
    above_weight_kg: Decimal | None,
    window_days: int,
) -> Iterator[PersonFinding]:
    """The limits that a definition names and the data tell something of, on the day judged."""
    if day is None:
        return
    if least_age_years is not None and course.born:
        yield PersonFinding(
            "age",
            "Age",
            reached(course.born, least_age_years, day),
            f"age >= {least_age_years} years",
            f"born {course.born.text}",
        )
    if above_weight_kg is not None and course.weights:
        yield from _weight(course, day, above_weight_kg, window_days)


def reached(born: When, years: int, day: date) -> Truth:
    """Whether somebody has reached an age on a day; unknown where the birth date is too coarse."""
    if _age(born.last, day) >= years:
        return Truth.MET
    return Truth.NOT_MET if _age(born.first, day) < years else Truth.UNKNOWN


def _age(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _weight(
    course: Course, day: date, above_kg: Decimal, window_days: int
) -> Iterator[PersonFinding]:
    """The newest weight up to the day. Who was too light long ago may have grown since."""
    until = [one for one in course.weights if one.when.last <= day and one.value.exact is not None]
    newest = max(until, key=lambda one: one.when.last, default=None)
    if newest is None or newest.value.exact is None:
        return
    truth = Truth.MET
    if newest.value.exact <= above_kg:
        is_old = (day - newest.when.last).days > window_days
        truth = Truth.UNKNOWN if is_old else Truth.NOT_MET
    told = f"{newest.value.exact:f} kg of {newest.when.text[:10]}"
    yield PersonFinding("weight", "Weight", truth, f"weight > {above_kg} kg", told, newest)
