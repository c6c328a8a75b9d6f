"""Cases a clinician can read, and proof that every number of every paper matters to one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.domain import confounding, dependence, judgement
from app.domain.assessment import Assessment, assess_eligibility
from app.domain.counts import (
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Patient,
    Product,
    Source,
    Transfusion,
    When,
)
from app.domain.derivation import derived_counts
from app.domain.limits import Above, AtLeast, AtMost, Below, Limit
from app.domain.paper import Paper
from app.domain.recovery import Doubled, Recovered, Rise
from app.domain.rules import AtBaseline, AtLeastOf, Criterion, Not, Rule, Truth
from app.domain.severity import SEVERE_RETICULOCYTES
from app.domain.sustained import Sustained, sustained
from app.domain.transfusions import FewerUnits
from app.papers import PUBLISHED

DAY = date(2024, 3, 5)
COUNTS = {
    "anc": Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
    "platelets": Analyte.PLATELETS,
    "hemoglobin": Analyte.HEMOGLOBIN,
    "reticulocytes": Analyte.RETICULOCYTES,
    "reticulocytes_by_hand": Analyte.RETICULOCYTES,
    "leukocytes": Analyte.LEUKOCYTES,
}
PRODUCTS = {"red_cell_units": Product.RED_CELLS, "platelet_transfusions": Product.PLATELETS}
DRUGS = {drug.value: drug for drug in Drug if drug is not Drug.DACLIZUMAB}
# The smallest step in which laboratories report.
STEP = {
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT: Decimal("0.1"),
    Analyte.HEMOGLOBIN: Decimal("0.1"),
    Analyte.PLATELETS: Decimal(1),
    Analyte.RETICULOCYTES: Decimal(1),
}
Case = dict[str, Any]


def on(days_before: int) -> When:
    day = DAY - timedelta(days=days_before)
    return When(day, day, None, day.isoformat())


def interval(text: str) -> Interval:
    if text.startswith(">="):
        return Interval(Decimal(text[2:]), None)
    if text.startswith(">"):
        return Interval(Decimal(text[1:]), None, low_included=False)
    if text.startswith("<"):
        return Interval(None, Decimal(text[1:]), high_included=False)
    return Interval.exactly(Decimal(text))


def counts_of(case: Case, days_before: int = 0) -> Iterator[Count]:
    for key, analyte in COUNTS.items():
        if key in case:
            yield Count(
                analyte,
                interval(case[key]),
                on(days_before),
                (Source(f"Observation/{key}-{days_before}", f"{key}-{days_before}"),),
                manual=key == "reticulocytes_by_hand",
            )


def course(case: Case) -> Course:
    """`and_before`: the same counts so many days before, too; `before`: others, each day's."""
    earlier = [(case, days) for days in case.get("and_before", [])]
    earlier += ((day, day["days"]) for day in case.get("before", []))
    told = [(case, 0), *earlier]
    counts = tuple(count for some, days in told for count in counts_of(some, days))
    return Course(
        Patient("Patient/case"),
        counts=counts,
        derived=derived_counts(counts),
        transfusions=tuple(
            Transfusion(product, on(days), Source(f"Procedure/{key}-{days}", key))
            for key, product in PRODUCTS.items()
            for days in case.get(key, [])
        ),
        drugs=tuple(
            DrugGiven(drug, on(days), Source(f"MedicationAdministration/{key}-{days}", key))
            for key, drug in DRUGS.items()
            for days in case.get(key, [])
        ),
        transfusion_history_complete=case.get("transfusion_history") == "complete",
    )


def cases_of(paper: Paper) -> list[Case]:
    path = Path(__file__).parent / "cases" / f"{paper.id}.toml"
    cases: list[Case] = tomllib.loads(path.read_text("utf-8"))["case"]
    return cases


def holds(paper: Paper, case: Case) -> bool:
    found = assess_eligibility(paper, course(case), policy=case.get("policy"))
    truths = {finding.criterion.code: finding.truth.value for finding in found.findings}
    return (  # type: ignore[no-any-return]
        found.verdict.value == case["verdict"]
        and truths.items() >= case.get("criteria", {}).items()
        and severe_limits(found) == case.get("severe_limits", severe_limits(found))
    )


def severe_limits(found: Assessment) -> dict[str, str]:
    """What other published limits of severe disease would make of it."""
    severe = {Truth.MET: ", not severe by counts", Truth.NOT_MET: ", severe by counts", None: ""}
    return {
        str(one.number): one.verdict.value + severe.get(one.not_severe, ", severity not known")
        for one in found.judgement.severe_limits
    }


EVERY_CASE = [
    pytest.param(paper, case, id=f"{paper.id}: {case['says']}")
    for paper in PUBLISHED
    for case in cases_of(paper)
]


@pytest.mark.parametrize(("paper", "case"), EVERY_CASE)
def test_the_case_is_as_it_says(paper: Paper, case: Case) -> None:
    assert holds(paper, case)
    found = assess_eligibility(paper, course(case), policy=case.get("policy"))
    assert [analyte.name for analyte in found.needs] == case.get("needs", [])
    assert severe_limits(found) == case.get("severe_limits", severe_limits(found))


def moved(rule: Limit | Rise | FewerUnits) -> Iterator[Rule]:
    """The rule with one of its numbers a step up or down, or with the other strictness."""
    if isinstance(rule, FewerUnits):
        yield from (replace(rule, units=rule.units + change) for change in (1, -1))
        return
    step = STEP[rule.analyte]
    for change in (step, -step):
        yield replace(rule, number=rule.number + change)
        if isinstance(rule, Limit) and rule.manual is not None:
            yield replace(rule, manual=rule.manual + change)
    if isinstance(rule, Rise):
        yield replace(rule, more_than=not rule.more_than)
    other = {AtMost: Below, Below: AtMost, Above: AtLeast, AtLeast: Above}.get(type(rule))  # type: ignore[arg-type]
    if other and isinstance(rule, Limit):
        yield other(rule.analyte, rule.number, rule.manual)


def changed(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """The rule with one limit changed, one rule for each change there is; policies too."""
    if isinstance(rule, Limit | Rise | FewerUnits):
        for other in moved(rule):
            yield f"{rule.describe()} -> {other.describe()}", other
    elif isinstance(rule, Doubled):
        yield f"{rule.describe()} -> any rise", Rise(rule.analyte, Decimal(0), more_than=True)
    elif isinstance(rule, AtLeastOf) and (criterion := sustained_in(rule)):
        yield from changed_sustained(criterion)
    elif isinstance(rule, AtLeastOf):
        yield from changed_list(rule)
    elif isinstance(rule, Not | AtBaseline):
        yield from ((what, replace(rule, rule=other)) for what, other in changed(rule.rule))
    elif isinstance(rule, Recovered):
        yield from ((w, replace(rule, depressed=other)) for w, other in changed(rule.depressed))
    elif isinstance(rule, Criterion):
        yield from changed_criterion(rule)


def sustained_in(rule: AtLeastOf) -> Criterion | None:
    """The criterion of a rule that must be sustained: the rule stands in it once more."""
    last = rule.rules[-1]
    return last if isinstance(last, Criterion) and isinstance(last.rule, Sustained) else None


def changed_sustained(criterion: Criterion) -> Iterator[tuple[str, Rule]]:
    rule = criterion.rule
    assert isinstance(rule, Sustained)
    words = criterion.wording, criterion.source
    for what, other in changed(rule.rule):
        yield what, sustained(other, rule.days, *words)
    for days in (rule.days - 1, rule.days + 1):
        yield f"sustained for {days} days", sustained(rule.rule, days, *words)


def changed_list(rule: AtLeastOf) -> Iterator[tuple[str, Rule]]:
    for index, part in enumerate(rule.rules):
        before, after = rule.rules[:index], rule.rules[index + 1 :]
        for what, other in changed(part):
            yield what, replace(rule, rules=(*before, other, *after))
    for n in {rule.n - 1, rule.n + 1} & set(range(1, len(rule.rules) + 1)):
        yield f"{rule.describe()} -> at least {n}", replace(rule, n=n)


def changed_criterion(rule: Criterion) -> Iterator[tuple[str, Rule]]:
    for what, other in changed(rule.rule):
        readings = tuple((p, other if r is rule.rule else r) for p, r in rule.policies)
        yield what, replace(rule, rule=other, policies=readings)
    for policy, reading in rule.policies[1:]:
        for what, other in changed(reading):
            readings = tuple((p, other if p == policy else r) for p, r in rule.policies)
            yield f"{policy}: {what}", replace(rule, policies=readings)


EVERY_CHANGE = [
    pytest.param(paper, rule, id=f"{paper.id}: {what}")
    for paper in PUBLISHED
    for what, rule in changed(paper.eligibility)
]


@pytest.mark.parametrize(("paper", "rule"), EVERY_CHANGE)
def test_every_number_of_a_paper_matters_to_some_case(paper: Paper, rule: Rule) -> None:
    other = replace(paper, eligibility=rule)
    assert not all(holds(other, case) for case in cases_of(paper))


NIH = PUBLISHED[0]


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("name", ["DEPENDENCE_UNITS", "DEPENDENCE_DAYS"])
def test_the_numbers_of_dependence_matter_to_some_case(
    monkeypatch: pytest.MonkeyPatch, name: str, change: int
) -> None:
    monkeypatch.setattr(dependence, name, getattr(dependence, name) + change)
    assert not all(holds(NIH, case) for case in cases_of(NIH))


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("number", SEVERE_RETICULOCYTES, ids=str)
def test_the_published_limits_of_severe_disease_matter_to_some_case(
    monkeypatch: pytest.MonkeyPatch, number: Decimal, change: int
) -> None:
    monkeypatch.setattr(judgement, "_judgements", {})
    monkeypatch.delitem(SEVERE_RETICULOCYTES, number)
    monkeypatch.setitem(SEVERE_RETICULOCYTES, number + change, "")
    for kept in (judgement._leaves, judgement._limits):
        kept.cache_clear()
    assert not all(holds(NIH, case) for case in cases_of(NIH))
    for kept in (judgement._leaves, judgement._limits):
        kept.cache_clear()


def test_no_definition_counts_severe_disease_from_a_limit_nobody_published() -> None:
    limits = [leaf for paper in PUBLISHED for leaf in paper.eligibility.leaves()]
    disputed = [leaf for leaf in limits if isinstance(leaf, Limit) and leaf.disputed]
    assert {
        number for leaf in disputed for number in (leaf.number, leaf.manual) if number is not None
    } <= set(SEVERE_RETICULOCYTES)
    assert {leaf.analyte for leaf in disputed} == {Analyte.RETICULOCYTES}


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("support", list(confounding.CONFOUNDED_DAYS), ids=lambda s: s.value)
def test_the_days_of_support_matter_to_some_case(
    monkeypatch: pytest.MonkeyPatch, support: Product | Drug, change: int
) -> None:
    days = confounding.CONFOUNDED_DAYS[support] + change
    monkeypatch.setitem(confounding.CONFOUNDED_DAYS, support, days)
    assert not all(holds(NIH, case) for case in cases_of(NIH))
