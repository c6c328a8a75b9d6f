"""How much one evaluation may cost, in steps that are counted: the same data cost the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class TooCostlyError(Exception):
    """The evaluation would take more steps than it may."""


class Effort:
    """The steps an evaluation may still take; one is about a microsecond."""

    __slots__ = ("_allowed", "left")

    def __init__(self, steps: int) -> None:
        self._allowed = self.left = steps

    @property
    def spent(self) -> int:
        """The steps taken so far."""
        return self._allowed - self.left


_effort: ContextVar[Effort | None] = ContextVar("effort", default=None)


def spend(steps: int) -> None:
    """Count steps before they are taken; TooCostlyError where they are too many.

    Outside of `limited` nothing is counted.
    """
    effort = _effort.get()
    if effort is not None:
        effort.left -= steps
        if effort.left < 0:
            raise TooCostlyError


@contextmanager
def limited(steps: int) -> Iterator[Effort]:
    """Within it no more than so many steps are taken."""
    effort = Effort(steps)
    token = _effort.set(effort)
    try:
        yield effort
    finally:
        _effort.reset(token)
