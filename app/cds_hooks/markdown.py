"""Values and tables as a card's markdown, none of which is taken for more than text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from app.domain.counts import Count, Interval, Kind
from app.writing.narrative import text_of
from app.writing.words import readable

# What a renderer of GitHub Flavored Markdown would take for more than text.
_MARKED_UP = re.compile(r"([\\`*_\[\]<>|~#&])")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are plain already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def said(title: str, text: str) -> str:
    """A paragraph under its title; empty where there is nothing to say."""
    return f"**{title}:** {plain(text)}" if text else ""


def count_text(count: Count) -> str:
    """A count with its unit, and how it was come by."""
    how = {Kind.DERIVED: ", worked out", Kind.BOUND: ", a bound"}.get(count.kind, "")
    return plain(f"{count.analyte.short} {figure(count.value)} {count.analyte.unit}{how}")


def figure(interval: Interval) -> str:
    """A value as a clinician writes it: without zeros that the unit's conversion left."""
    shown = re.sub(r"\d+\.\d+", lambda found: f"{digits(Decimal(found[0])):f}", text_of(interval))
    return readable(shown)


def digits(value: Decimal) -> Decimal:
    """The value without zeros at its end."""
    whole = value.to_integral_value()
    return whole if value == whole else value.normalize()


def plain(text: str) -> str:
    """Text on one line, none of which a renderer of markdown takes for markup."""
    return _MARKED_UP.sub(r"\\\1", readable(" ".join(text.split())))
