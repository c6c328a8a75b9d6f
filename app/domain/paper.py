"""A published definition as the engine takes it: its rules, and what counts cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from app.domain.chart import Exclusion
from app.domain.counts import Analyte
from app.domain.dependence import DEPENDENCE_DAYS
from app.domain.limits import Limit
from app.domain.rules import Criterion, OfOneProduct, Rule, criteria_of, under_policy
from app.domain.sustained import Sustained

# Callers may ask for times of their own: what is worked out for these is not kept for ever.
PAPERS_KEPT = 1024

# Our own reading of "3 months" and "6 months", in days after the start of treatment.
ABOUT_3_MONTHS = (60, 90, 120)
ABOUT_6_MONTHS = (150, 180, 210)


@dataclass(frozen=True, slots=True)
class Citation:
    """The publication a definition comes from."""

    text: str
    url: str


@dataclass(frozen=True, eq=False)
class Paper:
    """A published definition: its rule, and what it requires that counts cannot tell."""

    id: str
    version: str
    title: str
    finding: str
    """What a patient who meets it has, for example: moderate aplastic anemia."""
    citation: Citation
    eligibility: Rule
    also_requires: tuple[str, ...]
    short: str = ""
    """What a card's few words call it: the ... criteria."""
    verified: bool = True
    """Whether the wording was seen in the published source."""
    red_cell_policies: tuple[str, ...] = ()
    """Named readings of the red-cell criterion; the first is the paper's own words."""
    least_age_years: int | None = None
    """Whoever is known to be younger was not meant."""
    above_weight_kg: Decimal | None = None
    """Whoever is known to weigh no more was not meant."""
    exclusions: tuple[Exclusion, ...] = ()
    """What in a chart excludes a patient, where the caller asks for it."""


_CELLS = {
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT: "neutrophils",
    Analyte.PLATELETS: "platelets",
    Analyte.HEMOGLOBIN: "hemoglobin",
    Analyte.RETICULOCYTES: "reticulocytes",
}


def depressed(rule: Rule, wording: str, source: str) -> Criterion:
    """That the one count a rule asks for is so low, under the code that all papers have for it."""
    (cells,) = {_CELLS[leaf.analyte] for leaf in rule.leaves() if isinstance(leaf, Limit)}
    title = f"{cells.capitalize()} depressed"
    return Criterion(f"{cells}-depressed", title, rule, wording, source)


@dataclass(frozen=True, slots=True)
class Lineage:
    """One blood count of a definition: when it was affected, and when it responded."""

    analyte: Analyte
    affected: Rule | None
    """Over the baseline; None where the definition judges every patient in it."""
    responded: Criterion


@dataclass(frozen=True, eq=False)
class ResponsePaper:
    """A published definition of response."""

    id: str
    version: str
    title: str
    citation: Citation
    response: Criterion
    complete: Criterion | None = None
    lineages: tuple[Lineage, ...] = ()
    """Empty where the definition judges the counts together only."""
    entry: Rule | None = None
    """What the baseline must meet, or the patient is not evaluable."""
    relapse: Criterion | None = None
    days: tuple[int, int] = (60, 183)
    """The days after the start in which the verdict is sought, ends included."""
    confirmed_after_days: int = 0
    """A response counts only when counts so many days apart agree."""
    also_requires: tuple[str, ...] = ()
    short: str = ""
    """What a card's few words call it: the ... criteria."""
    verified: bool = True
    red_cell_policies: tuple[str, ...] = ()
    least_age_years: int | None = None
    """Whoever was known to be younger at the start was not meant."""
    independence_days: int = DEPENDENCE_DAYS
    """Without a transfusion for so long, a patient is independent (IWG-2006)."""


@dataclass(frozen=True, eq=False)
class Study:
    """A registered study, and the definitions by which it took its patients."""

    id: str
    """As the registry, ClinicalTrials.gov, names it."""
    title: str
    condition: str
    description: str
    status: str
    """A code of FHIR's ResearchStudyStatus."""
    arm: str
    end_point: str
    sponsors_id: str
    papers: tuple[Paper, ...]
    """The first is the definition of the study's main arm."""
    warning: str = ""
    """What whoever is told of the study must know besides."""

    @property
    def takes_patients(self) -> bool:
        """Whether it recruits."""
        return self.status == "active"


LINEAGE_RESPONSES = {
    "neutrophil-response": "Neutrophil response",
    "platelet-response": "Platelet response",
    "red-cell-response": "Red-cell response",
}
"""What the definitions call the response of a lineage, by code; each judges some of them."""


class Interpretation(NamedTuple):
    """A paper's rule under one red-cell policy, and what it asks for."""

    rule: Rule
    criteria: tuple[Criterion, ...]
    analytes: frozenset[Analyte]
    transfusions: bool
    """Whether it asks for transfusions."""
    sustained: bool
    """Whether it asks what earlier assessments told."""


@lru_cache(maxsize=PAPERS_KEPT)
def interpretation(paper: Paper, policy: str | None) -> Interpretation:
    """The paper's rule and its criteria under a red-cell policy it knows."""
    if policy in paper.red_cell_policies:
        rule = under_policy(paper.eligibility, policy)
    else:
        rule = paper.eligibility
    transfusions = any(isinstance(leaf, OfOneProduct) for leaf in rule.leaves())
    sustained = any(isinstance(leaf, Sustained) for leaf in rule.leaves())
    return Interpretation(rule, criteria_of(rule), analytes_of(rule), transfusions, sustained)


def default_policy(paper: Paper | ResponsePaper) -> str | None:
    """The red-cell policy in the paper's own words; None where it needs none."""
    return paper.red_cell_policies[0] if paper.red_cell_policies else None


@lru_cache(maxsize=PAPERS_KEPT)
def analytes_of(rule: Rule) -> frozenset[Analyte]:
    """The analytes a rule asks for."""
    return frozenset(leaf.analyte for leaf in rule.leaves() if isinstance(leaf, Limit))
