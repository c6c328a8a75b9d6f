"""The numbers a definition asks for, and the range of normal, as lines of a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from app.domain.counts import Analyte, Count, Interval
from app.domain.limits import Limit
from app.domain.recovery import NORMAL, NORMAL_HEMOGLOBIN, OverBaseline, Recovered, Rise
from app.domain.rules import AtBaseline, AtLeastOf, Criterion, Known, Rule, Truth
from app.writing.narrative import text_of
from app.writing.words import readable

_AT_LEAST = readable(">=")
# What a limit is of, by the criterion it stands in; of any other it is the definition's own.
_OF = {"not-severe": "severe", "complete": "complete", "relapse": "relapse"}


class LimitLine(NamedTuple):
    """A number of the definition."""

    number: Decimal
    text: str
    own: bool
    """Whether it is the definition's own limit, and not that of another state."""


def limit_lines(
    rule: Rule, before: Known | None, of: str = ""
) -> Iterator[tuple[Analyte, LimitLine]]:
    """Every number the rule asks for; a rise over what was known before treatment as its number."""
    if isinstance(rule, Limit):
        sign = readable(rule.symbol)
        for number, hand in ((rule.number, ""), (rule.manual, "by hand")):
            if number is not None:
                text = " ".join(filter(None, (sign, f"{number:f}", of, hand)))
                yield rule.analyte, LimitLine(number, text, not of)
    elif isinstance(rule, OverBaseline):
        yield from _rise(rule, before)
    elif isinstance(rule, Criterion):
        yield from limit_lines(rule.rule, before, _OF.get(rule.code, of))
    elif isinstance(rule, AtBaseline):
        # What held before treatment is drawn for the lineages that are affected.
        return
    elif isinstance(rule, Recovered):
        yield from limit_lines(rule.depressed, before, of)
    elif not _ruled_out(rule, before):
        for part in rule.parts():
            yield from limit_lines(part, before, of)


def _ruled_out(rule: Rule, before: Known | None) -> bool:
    """Whether it asks for what did not hold before treatment: its numbers are not for this."""
    if before is None or not isinstance(rule, AtLeastOf) or rule.n < len(rule.rules):
        return False
    asked = [part.rule for part in rule.rules if isinstance(part, AtBaseline)]
    return any(part.check(before) is Truth.NOT_MET for part in asked)


def _rise(rule: OverBaseline, before: Known | None) -> Iterator[tuple[Analyte, LimitLine]]:
    """The number that a rise over the baseline comes to, where the baseline is exact."""
    counts = before.counts.get(rule.analyte, ()) if before else ()
    exact = counts[0].value.exact if len(counts) == 1 else None
    if exact is None:
        return
    if isinstance(rule, Rise):
        number = exact + rule.number
        sign = ">" if rule.more_than else _AT_LEAST
    else:
        number, sign = 2 * exact, _AT_LEAST
    yield rule.analyte, LimitLine(number, f"{sign} {number:f} response", own=False)


def normal_range(
    analyte: Analyte, counts: Sequence[Count], known: Known | None
) -> tuple[Interval | None, str]:
    """The range of normal, and whose it is: the newest laboratory's, else that of adults."""
    newest = max(
        (c for c in counts if c.normal), key=lambda c: (c.when.last, c.when.text), default=None
    )
    if newest and newest.normal:
        return newest.normal, f"normal (lab) {_range(newest.normal)}"
    if known is None or known.child:
        return None, ""
    limits = NORMAL.get(analyte)
    if analyte is Analyte.HEMOGLOBIN and known.sex:
        limits = NORMAL_HEMOGLOBIN[known.sex]
    if limits is None:
        return None, ""
    normal = Interval(*limits)
    return normal, f"normal {_range(normal)}"


def _range(normal: Interval) -> str:
    if normal.low is not None and normal.high is not None:
        return f"{normal.low:f}\N{EN DASH}{normal.high:f}"
    return in_words(normal)


def known_ends(value: Interval) -> tuple[Decimal | None, Decimal | None]:
    """The ends that say something: cells are never fewer than none."""
    bound = value.exact is None and value.low is not None and value.low <= 0
    return None if bound else value.low, value.high


def in_words(value: Interval) -> str:
    """A value, or an interval, as it is written for people."""
    low, _ = known_ends(value)
    return readable(text_of(value._replace(low=low)))
