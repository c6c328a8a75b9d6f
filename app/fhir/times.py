"""FHIR date, dateTime, instant and Period as moments; a partial date is an interval of days."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal

from app.domain.counts import When
from app.fhir.kept import for_a_request
from app.fhir.resources import Dated, Period

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_LOCAL_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
_DURATION = re.compile(r"([1-9]\d{0,4}) ?(d|wk|mo|a)", re.ASCII)
# UCUM's month and year are the mean ones of the Julian calendar.
_DAYS = {"d": Decimal(1), "wk": Decimal(7), "mo": Decimal("30.4375"), "a": Decimal("365.25")}
# No blood count lies outside; arithmetic with days stays clear of the calendar's ends.
YEARS = range(1850, 2201)


@for_a_request(4096)
def when(text: str) -> When | None:
    """The moment a FHIR date, dateTime or instant tells; None where it is none."""
    try:
        moment = _day_or_wider(text) if len(text) <= 10 else _instant(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment and moment.first.year in YEARS else None


def _day_or_wider(text: str) -> When | None:
    match = _DATE.fullmatch(text)
    if not match:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    if year is None:
        return None
    first = date(year, month or 1, day or 1)
    if day:
        return When(first, first, None, text)
    last_month = month or 12
    return When(first, date(year, last_month, monthrange(year, last_month)[1]), None, text)


def _instant(text: str) -> When | None:
    match = _INSTANT.fullmatch(text)
    if not match:
        # FHIR asks for seconds and a zone. Without them the instant is not known, the day is.
        day = _LOCAL_TIME.fullmatch(text) and _day_or_wider(text[:10])
        return When(day.first, day.last, None, text) if day else None
    # FHIR allows a leap second and nanoseconds; datetime knows neither.
    if match.group(1) or text[17:19] > "59":
        fraction = (match.group(1) or "")[:7]
        local = datetime.fromisoformat(f"{text[:17]}{min(text[17:19], '59')}{fraction}{match[2]}")
    else:
        local = datetime.fromisoformat(text)
    civil = local.date()
    return When(civil, civil, local.astimezone(UTC), text)


def days_of(duration: str) -> int | None:
    """The days of a duration such as `8 wk` (d, wk, mo, a), rounded up; None where it is none."""
    match = _DURATION.fullmatch(duration)
    if not match:
        return None
    return int((int(match[1]) * _DAYS[match[2]]).to_integral_value(ROUND_CEILING))


def of_period(period: Period) -> When | None:
    """The days a Period spans; the moment of the one end it has."""
    start = when(period.start) if period.start else None
    end = when(period.end) if period.end else None
    if (period.start and not start) or (period.end and not end):
        return None
    if start and end:
        if start.first > end.last or _reversed(start, end):
            return None
        instant = end.instant if start.first == end.last else None
        return When(start.first, end.last, instant, f"{start.text}/{end.text}")
    return start or end


def _reversed(start: When, end: When) -> bool:
    return bool(start.instant and end.instant and start.instant > end.instant)


def effective(resource: Dated) -> tuple[When | None, bool]:
    """When the resource is true of its subject, and whether it says a time at all."""
    if resource.effectiveDateTime is not None:
        return when(resource.effectiveDateTime), True
    if resource.effectiveInstant is not None:
        return when(resource.effectiveInstant), True
    if resource.effectivePeriod is not None:
        return of_period(resource.effectivePeriod), True
    if resource.effectiveTiming is not None:
        events = resource.effectiveTiming.event
        return (when(events[0]) if len(events) == 1 else None), True
    return None, False
