"""Signs and units as they are printed for people."""

from __future__ import annotations

_PRINTED = {
    "10*9/L": "x10⁹/L",
    "10^9/L": "10⁹/L",
    "<=": "\N{LESS-THAN OR EQUAL TO}",
    ">=": "\N{GREATER-THAN OR EQUAL TO}",
}


def readable(text: str) -> str:
    """Units and signs as they are printed: UCUM writes 10*9/L."""
    for written, printed in _PRINTED.items():
        text = text.replace(written, printed)
    return text
