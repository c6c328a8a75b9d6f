"""A number with its comparator and unit that stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Raw

from app.domain.counts import Interval
from app.fhir import units
from app.fhir.codes import LoincRow
from app.fhir.resources import Quantity, Valued
from app.reading.aside import Repairs, SetAside
from app.reading.quantities import interval_of

_TEXT_VALUE = re.compile(
    r"(<=|>=|<|>|≤|≥)? ?"
    r"([0-9]+(?:[.,'\u2019 ][0-9]{3}(?![0-9^*eE(]))*(?:[.,][0-9]+)?)(?![0-9]) ?(.*)"
)
# What a laboratory prints beside a number to say that it is low, high or commented on.
_FLAGS = r"\*+|[↑↓!]+|\((?:HH?|LL?|A|N|[a-z])\)"
_FLAG_BEFORE = re.compile(rf"^(?:{_FLAGS}|(?:HH?|LL?|A|N)(?= |$)) ?")
_FLAG_AFTER = re.compile(rf"(?: ?(?:{_FLAGS})| (?:HH?|LL?|A|N))$")


def from_text(valued: Valued, row: LoincRow, declared: str) -> tuple[Interval, Repairs]:
    """A number with its comparator and unit that stand in valueString.

    Of several ways to read them the plausible one, where there is exactly one.
    """
    text = valued.valueString or ""
    match = _TEXT_VALUE.fullmatch(units.tidy(text)) if len(text) <= 100 else None
    ways = list(_ways_to_read(match[2], match[3])) if match else []
    if match is None or not ways:
        raise SetAside("invalid-value", "The text is no number with a unit.", ".value")
    taken: dict[Interval, Repairs] = {}
    asides = []
    for number, unit in ways:
        quantity = Quantity(Raw(number.encode()), _ascii(match[1]), unit or None)
        try:
            interval, repairs = interval_of(quantity, row, declared)
            taken.setdefault(interval, repairs)
        except SetAside as aside:
            asides.append(aside)
    if not taken:
        raise asides[0]
    said = " or ".join(number for number, _ in ways)
    if len(taken) > 1:
        raise SetAside("ambiguous-number", f"It may be {said}: write it in one way.", ".value")
    [(interval, repairs)] = taken.items()
    alone = f": of {said} one alone is plausible" if len(ways) > 1 else ""
    return interval, (*repairs, ("unit-repaired", f"The value was read from text{alone}."))


def _ways_to_read(number: str, rest: str) -> Iterator[tuple[str, str]]:
    """A number as it may be meant, as plain digits, with the unit it then has."""
    unit = _without_flags(rest)
    for digits in _numbers(number):
        yield digits, unit
    # 5 103/uL is a grouped number, or five by a power that has lost its form.
    first, space, group = number.rpartition(" ")
    if space and units.readings(group + rest):
        for digits in _numbers(first):
            yield digits, group + rest


def _without_flags(unit: str) -> str:
    """The unit without what only says that the value is low, high or commented on."""
    for flag in (_FLAG_AFTER, _FLAG_BEFORE):
        if not units.readings(unit):
            unit = flag.sub("", unit, count=1)
    return unit


def _numbers(text: str) -> tuple[str, ...]:
    """What a number may be: a point or a comma before three digits has two readings."""
    digits = re.sub(r"[ '\u2019]", "", text)
    marks = re.sub("[0-9]", "", digits)
    if not marks:
        return (digits,)
    groups = re.split("[.,]", digits)
    decimal = "".join(groups[:-1]) + "." + groups[-1]
    if len(marks) > 1:
        # One mark again and again only groups; another one at the end is the decimal mark.
        same = len(set(marks)) == 1
        if same and len(groups[-1]) == 3:
            return ("".join(groups),)
        return (decimal,) if not same and len(set(marks[:-1])) == 1 else ()
    two_ways = (
        len(groups[1]) == 3 and len(groups[0]) <= 3 and groups[0][0] != "0" and digits == text
    )
    return (decimal, "".join(groups)) if two_ways else (decimal,)


def _ascii(comparator: str | None) -> str | None:
    return {"≤": "<=", "≥": ">="}.get(comparator, comparator) if comparator else None
