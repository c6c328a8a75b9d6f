"""How much one evaluation may cost, in steps that are counted: the same data cost the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class TooCostlyError(Exception):
    """The evaluation would take more than it may; says what, and the remedy."""


class Effort:
    """What an evaluation may still take, and how long its answer may still become."""

    __slots__ = ("_allowed", "bytes_left", "steps_left")

    def __init__(self, steps: int, answer_bytes: int | None) -> None:
        self._allowed = self.steps_left = steps
        self.bytes_left = answer_bytes

    @property
    def spent(self) -> int:
        """The steps taken so far; one is about a microsecond."""
        return self._allowed - self.steps_left


_effort: ContextVar[Effort | None] = ContextVar("effort", default=None)


def spend(steps: int) -> None:
    """Count steps before they are taken; TooCostlyError where they are too many.

    Outside of `limited` nothing is counted.
    """
    effort = _effort.get()
    if effort is not None:
        effort.steps_left -= steps
        if effort.steps_left < 0:
            raise TooCostlyError(
                "To assess this takes more steps than one request may (MAA_EVALUATION_STEPS): "
                "send fewer patients or results, or ask fewer definitions at a time."
            )


def tell(size: int) -> None:
    """Count bytes of the answer, as they are written; TooCostlyError where they are too many."""
    effort = _effort.get()
    if effort is not None and effort.bytes_left is not None:
        effort.bytes_left -= size
        if effort.bytes_left < 0:
            raise TooCostlyError(
                "The answer would be larger than one may be (MAA_MAX_ANSWER_BYTES): send fewer "
                "patients, or ask fewer definitions at a time."
            )


@contextmanager
def limited(steps: int, answer_bytes: int | None = None) -> Iterator[Effort]:
    """Within it no more than so many steps are taken, and no more told than so many bytes."""
    effort = Effort(steps, answer_bytes)
    token = _effort.set(effort)
    try:
        yield effort
    finally:
        _effort.reset(token)
