"""The limit of severe disease on which the sources differ, and rules with another one of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.domain.limits import Limit
from app.domain.rules import Rule

# The limits of reticulocytes below which severe disease is counted, in 10*9/L, and whose they are.
SEVERE_RETICULOCYTES = {
    Decimal("20"): "CIBMTR, AAMDS",
    Decimal("40"): "",
    Decimal("50"): "ASH 2010",
    Decimal("60"): "BSH automated, NIH",
}


def in_dispute(rule: Rule) -> bool:
    """Whether it asks for a limit of severe disease on which the sources differ."""
    return any(isinstance(leaf, Limit) and leaf.disputed for leaf in rule.leaves())


def severe_limit_text(number: Decimal) -> str:
    """For example: below 20 (CIBMTR, AAMDS)."""
    whose = SEVERE_RETICULOCYTES[number]
    return f"below {number} ({whose})" if whose else f"below {number}"


def with_severe_limit(rule: Rule, number: Decimal) -> Rule:
    """The rule with another of the published limits in dispute, however the cells were counted."""
    return rule.rewritten(
        lambda one: (
            replace(one, number=number, manual=None)
            if isinstance(one, Limit) and one.disputed
            else one
        )
    )
