"""What an evaluation came to, in the words we publish: for logs and metrics, of no patient.

Whom it was about stands beside it, for the audit alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from itertools import chain

from app.domain.assessment import Assessment
from app.domain.counts import Course, Patient, Remark
from app.domain.response import ResponseAssessment


class Tally:
    """How often which verdict was come to, and what was remarked."""

    __slots__ = ("operation", "patients", "remarks", "verdicts")

    def __init__(self) -> None:
        self.operation = ""
        self.verdicts: dict[str, dict[str, int]] = {}
        """By definition, how often each verdict."""
        self.remarks: dict[str, int] = {}
        """By the code of the reason, how many results were set aside, repaired or doubted."""
        self.patients: tuple[Patient, ...] = ()
        """Who was assessed; never logged."""

    def take(self, other: Tally) -> None:
        """Become as another, which was made elsewhere."""
        self.operation = other.operation
        self.verdicts, self.remarks = other.verdicts, other.remarks
        self.patients = other.patients


TALLY: ContextVar[Tally | None] = ContextVar("tally", default=None)
"""Where it is set, the newest evaluation is counted in it: one made anew replaces the first."""


def count(
    operation: str,
    remarks: Iterable[Remark],
    courses: Iterable[Course],
    found: Sequence[Assessment] | Sequence[ResponseAssessment],
) -> None:
    """Count an evaluation, where somebody counts."""
    tally = TALLY.get()
    if tally is None:
        return
    tally.operation, tally.verdicts, tally.remarks = operation, {}, {}
    tally.patients = tuple(dict.fromkeys(one.patient for one in found))
    for one in found:
        verdicts = tally.verdicts.setdefault(one.paper.id, {})
        verdicts[one.verdict.value] = verdicts.get(one.verdict.value, 0) + 1
    told = chain((course.remarks for course in courses), (one.remarks for one in found))
    for remark in chain(remarks, *told):
        tally.remarks[remark.code] = tally.remarks.get(remark.code, 0) + max(1, len(remark.places))
