"""The end point of a cohort: who was treated, who could be judged, who responded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from math import comb

from app.domain.moments import RESPONDED, ResponseVerdict
from app.domain.paper import LINEAGE_RESPONSES
from app.domain.response import ResponseAssessment
from app.domain.rules import Truth

Kind = Callable[[ResponseAssessment], str]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Assessments of one definition, one for each patient."""

    patients: tuple[ResponseAssessment, ...]

    @property
    def treated(self) -> tuple[ResponseAssessment, ...]:
        """Those with a start of treatment: the initial population and the denominator."""
        return tuple(p for p in self.patients if p.start is not None)

    @property
    def not_evaluable(self) -> tuple[ResponseAssessment, ...]:
        """Treated, and excluded from the denominator."""
        return tuple(p for p in self.treated if p.verdict is ResponseVerdict.NOT_EVALUABLE)

    @property
    def evaluable(self) -> tuple[ResponseAssessment, ...]:
        """Treated and judged, whatever came out."""
        return tuple(p for p in self.treated if p.verdict is not ResponseVerdict.NOT_EVALUABLE)

    @property
    def responders(self) -> tuple[ResponseAssessment, ...]:
        """The numerator."""
        return tuple(p for p in self.evaluable if p.verdict in RESPONDED)

    @property
    def undecided(self) -> tuple[ResponseAssessment, ...]:
        """In the denominator, and not known to have responded."""
        return tuple(p for p in self.evaluable if p.verdict is ResponseVerdict.INDETERMINATE)


# A response that is not complete, by the lineages that responded.
BY_LINEAGES = ("single-lineage", "multi-lineage", "not-by-lineage")


def depth(found: ResponseAssessment) -> str:
    """Complete, or in how many lineages; else the verdict itself."""
    if found.verdict is not ResponseVerdict.RESPONSE:
        return str(found.verdict.value)
    lineages = sum(report.truth is Truth.MET for report in found.lineages)
    single, multi, none = BY_LINEAGES
    return {0: none, 1: single}.get(lineages, multi)


def _truth(truth: Truth | None) -> str:
    return truth.value if truth else "not-applicable"


def _lineage(code: str) -> Kind:
    def of(found: ResponseAssessment) -> str:
        truths = {report.lineage.responded.code: report.truth for report in found.lineages}
        return _truth(truths.get(code))

    return of


# Each stratifier: its code, its title, and the stratum a patient falls in.
STRATIFIERS: tuple[tuple[str, str, Kind], ...] = (
    ("depth", "Complete, single-lineage or multi-lineage", depth),
    (
        "transfusion-independence",
        "Transfusion independence gained",
        lambda found: _truth(found.independence),
    ),
    *((code, title, _lineage(code)) for code, title in LINEAGE_RESPONSES.items()),
    ("kept-two-years", "Kept for two years", lambda found: _truth(found.kept_two_years)),
)


def strata(cohort: Cohort, kind: Kind) -> Iterator[tuple[str, Cohort]]:
    """The cohort's evaluable patients by kind, in the order of the kinds' names."""
    for name in sorted({kind(found) for found in cohort.evaluable}):
        yield name, Cohort(tuple(p for p in cohort.evaluable if kind(p) == name))


_CONFIDENCE = Decimal("0.95")
# Ends are told to four decimals. Between two halves of the fourth, all are rounded alike.
_HALVES = 20_000
_PRECISE = Context(prec=50, Emin=MIN_EMIN, Emax=MAX_EMAX)


def clopper_pearson(successes: int, trials: int) -> tuple[Decimal, Decimal]:
    """The exact 95% interval of a proportion of at least one trial, to four decimals.

    Clopper and Pearson, Biometrika 1934;26:404: were the proportion the low end, so many successes
    or more would have a chance of 2.5%; were it the high end, so many or fewer would.
    """
    return _low_end(successes, trials), 1 - _low_end(trials - successes, trials)


def _low_end(successes: int, trials: int) -> Decimal:
    if not successes:
        return Decimal("0.0000")
    ways = comb(trials, successes)
    with localcontext(_PRECISE):
        found = bisect_left(
            range(_HALVES),
            (1 - _CONFIDENCE) / 2,
            key=lambda halves: _at_least(successes, trials, Decimal(halves) / _HALVES, ways),
        )
    return Decimal(found // 2).scaleb(-4)


def _at_least(successes: int, trials: int, chance: Decimal, ways: int) -> Decimal:
    """How likely so many successes or more are, where one success has the chance."""
    failure = 1 - chance
    term = ways * chance**successes * failure ** (trials - successes)
    total = term
    for number in range(successes, trials):
        term *= chance * (trials - number) / (failure * (number + 1))
        total += term
        if term < total.scaleb(-40):  # the terms grow, then shrink: the rest is nothing
            break
    return total
