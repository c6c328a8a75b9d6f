"""What a paper makes of the answers to its limits: few judgements, for any number of patients."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from app.domain.counts import Analyte
from app.domain.needs import counted_by_hand, counts_needed
from app.domain.paper import PAPERS_KEPT, Paper, interpretation
from app.domain.rules import Criterion, Known, OfOneProduct, Rule, Truth, criteria_of
from app.domain.severity import SEVERE_RETICULOCYTES, in_dispute, with_severe_limit
from app.domain.sustained import Sustained, leaves_of

_JUDGEMENTS_KEPT = 20_000


class Verdict(Enum):
    """What an eligibility assessment comes to."""

    ELIGIBLE = "eligible"
    NOT_ELIGIBLE = "not-eligible"
    INDETERMINATE = "indeterminate"


_VERDICTS = {
    Truth.MET: Verdict.ELIGIBLE,
    Truth.NOT_MET: Verdict.NOT_ELIGIBLE,
    Truth.UNKNOWN: Verdict.INDETERMINATE,
}


class Finding(NamedTuple):
    """One criterion's answer."""

    criterion: Criterion
    truth: Truth


class SevereLimit(NamedTuple):
    """What the answer would be with another published limit of reticulocytes for severe disease."""

    number: Decimal
    verdict: Verdict
    not_severe: Truth | None
    """None where the definition does not exclude severe disease."""


@dataclass(frozen=True, eq=False, slots=True)
class Judgement:
    """What a paper makes of the answers to its limits; the same answers give the same object."""

    paper: Paper
    policy: str | None
    verdict: Verdict
    findings: tuple[Finding, ...]
    needs: tuple[Analyte, ...]
    """The counts that would settle an open verdict."""
    needs_transfusion_history: bool
    needs_days_apart: int
    """So far apart must be counts that would settle whether it is sustained; 0: none are asked."""
    other_policies: tuple[tuple[str, Verdict], ...]
    """Policies under which the verdict would be another."""
    severe_limits: tuple[SevereLimit, ...]
    """Other published limits of severe disease under which the answer would be another."""
    by_counts: Verdict
    """The verdict that nothing but the counts gives."""
    exclusion: Truth | None = None
    """Whether the chart is free of what the definition excludes; None where nobody asked."""

    @property
    def severe(self) -> bool:
        """Whether the definition leaves the patient out for severe disease."""
        return any(f.criterion.excludes_severe and f.truth is Truth.NOT_MET for f in self.findings)


_judgements: dict[object, Judgement] = {}


def judgement_of(paper: Paper, policy: str | None, known: Known) -> Judgement:
    """Depends on what the counts say of each limit only: few are worked out anew."""
    truths = tuple([leaf.check(known) for leaf in _limits(paper)])
    by_hand = counted_by_hand(known)
    key = (paper, policy, truths, by_hand, *known.held_before.values())
    found = _judgements.get(key)
    if found is None:
        if len(_judgements) >= _JUDGEMENTS_KEPT:
            _judgements.clear()
        found = _judgements[key] = _worked_out(paper, policy, known)
    return found


@lru_cache(maxsize=PAPERS_KEPT)
def _limits(paper: Paper) -> tuple[Rule, ...]:
    """What is asked of one day's counts; what earlier days told stands beside it."""
    return leaves_of(_leaves(paper))


@lru_cache(maxsize=PAPERS_KEPT)
def sustained_rules(paper: Paper) -> tuple[Sustained, ...]:
    """What must be sustained, under whatever policy and published limit."""
    return tuple(leaf for leaf in _leaves(paper) if isinstance(leaf, Sustained))


@lru_cache(maxsize=PAPERS_KEPT)
def _leaves(paper: Paper) -> tuple[Rule, ...]:
    """Every limit of the paper, under whatever policy, and the published ones in their place."""
    policies = paper.red_cell_policies or (None,)
    rules = (interpretation(paper, policy).rule for policy in policies)
    leaves = dict.fromkeys(leaf for rule in rules for leaf in rule.leaves())
    others = (
        with_severe_limit(leaf, number)
        for leaf in leaves
        if in_dispute(leaf)
        for number in SEVERE_RETICULOCYTES
    )
    return tuple(dict.fromkeys([*leaves, *others]))


def _worked_out(paper: Paper, policy: str | None, known: Known) -> Judgement:
    asked = interpretation(paper, policy)
    rule = asked.rule
    truth = rule.check(known)
    undecided = tuple(rule.undecided(known)) if truth is Truth.UNKNOWN else ()
    days_apart = next((leaf.days for leaf in undecided if isinstance(leaf, Sustained)), 0)
    needs = counts_needed(rule, known) if undecided else ()
    if days_apart:
        needs = tuple(analyte for analyte in Analyte if analyte in asked.analytes)
    return Judgement(
        paper=paper,
        policy=policy if policy in paper.red_cell_policies else None,
        verdict=_VERDICTS[truth],
        by_counts=_VERDICTS[truth],
        findings=tuple(Finding(one, one.check(known)) for one in asked.criteria),
        needs=needs,
        needs_transfusion_history=any(isinstance(leaf, OfOneProduct) for leaf in undecided),
        needs_days_apart=days_apart,
        other_policies=_other_policies(paper, policy, truth, known),
        severe_limits=_severe_limits(paper, policy, known),
    )


def _other_policies(
    paper: Paper, policy: str | None, truth: Truth, known: Known
) -> tuple[tuple[str, Verdict], ...]:
    verdicts = (
        (other, interpretation(paper, other).rule.check(known))
        for other in paper.red_cell_policies
        if other != policy
    )
    return tuple((other, _VERDICTS[found]) for other, found in verdicts if found is not truth)


def _severe_limits(paper: Paper, policy: str | None, known: Known) -> tuple[SevereLimit, ...]:
    """The published limits of severe disease that would change the verdict, or severity."""
    rule = interpretation(paper, policy).rule
    if not in_dispute(rule):
        return ()
    own = _severity(rule, known)
    others = {
        number: _severity(with_severe_limit(rule, number), known) for number in SEVERE_RETICULOCYTES
    }
    return tuple(
        SevereLimit(number, _VERDICTS[truth], not_severe)
        for number, (truth, not_severe) in others.items()
        if (truth, not_severe) != own
    )


def _severity(rule: Rule, known: Known) -> tuple[Truth, Truth | None]:
    """What the rule comes to, and its exclusion of severe disease."""
    exclusion = next((one for one in criteria_of(rule) if one.excludes_severe), None)
    return rule.check(known), exclusion.check(known) if exclusion else None
