"""Why one result is set aside, and what was repaired of those that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from app.fhir.resources import told_by

T = TypeVar("T")
Repairs = tuple[tuple[str, str], ...]
"""What was repaired, or read as an interval: a remark's code and its text, each."""
BY_MAPS = frozenset({"code-mapped", "unit-declared"})
"""The codes of what a hospital's own map made of a result."""


class SetAside(Exception):  # noqa: N818 not an error: the result is named as set aside
    """One result that cannot be used: the remark's code, its text, and the element at fault."""

    def __init__(self, code: str, text: str, element: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.element = element


def short(text: str | None) -> str:
    """What the sender wrote, cut to a length that fits a remark."""
    return (text or "")[:40]


def read_element(decode: Callable[[bytes], T], raw: bytes, element: str) -> T | None:
    """An element that stayed raw; None where it is absent. Raises SetAside: it is not FHIR."""
    if not raw:
        return None
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words, path = told_by(error)
        text = f"Not a FHIR Observation ({words}): set aside."
        raise SetAside("not-fhir", text, element + path) from None
