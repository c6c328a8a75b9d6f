"""A paper, and what it says of one patient's counts on one day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import NamedTuple

from app.domain.counts import (
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Kind,
    NoTransfusion,
    Patient,
    Product,
    Remark,
    Severity,
    Source,
    Transfusion,
    When,
    newness,
)
from app.domain.derivation import NEVER_ALONE
from app.domain.effort import spend
from app.domain.needs import counted_by_hand, counts_needed
from app.domain.rules import (
    Criterion,
    Findings,
    Limit,
    NotLow,
    OfOneAnalyte,
    OfOneProduct,
    Rule,
    Truth,
    criteria_of,
    under_policy,
)

# Transfusion dependence: NIH NCT01891994, at least 4 units in the 8 weeks before.
DEPENDENCE_UNITS = 4
DEPENDENCE_DAYS = 56
ADULT_DAYS = 6575  # 18 years
# Our own reading, said in the answer wherever it bears on a count.
CONFOUNDED_DAYS = {
    Product.PLATELETS: 7,
    Product.RED_CELLS: 28,
    Drug.FILGRASTIM: 14,
    Drug.PEGFILGRASTIM: 28,
}


_NOT_KNOWN = {Product.RED_CELLS: Truth.UNKNOWN, Product.PLATELETS: Truth.UNKNOWN}
_INSTANT = attrgetter("when.instant")
_STEPS = 30
"""To judge one patient on one day, whatever the counts."""
_TWO_DAYS = timedelta(days=2)


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
    verified: bool = True
    """Whether the wording was seen in the published source."""
    red_cell_policies: tuple[str, ...] = ()
    """Named readings of the red-cell criterion; the first is the paper's own words."""


class Reading(NamedTuple):
    """A paper's rule under one red-cell policy, and what it asks for."""

    rule: Rule
    criteria: tuple[Criterion, ...]
    analytes: frozenset[Analyte]
    transfusions: bool
    """Whether it asks for transfusions."""


@cache
def reading(paper: Paper, policy: str | None) -> Reading:
    """The paper's rule and its criteria under a red-cell policy it knows."""
    if policy in paper.red_cell_policies:
        rule = under_policy(paper.eligibility, policy)
    else:
        rule = paper.eligibility
    transfusions = any(isinstance(leaf, OfOneProduct) for leaf in rule.leaves())
    return Reading(rule, criteria_of(rule), analytes_of(rule), transfusions)


@cache
def analytes_of(rule: Rule) -> frozenset[Analyte]:
    """The analytes a rule asks for."""
    return frozenset(leaf.analyte for leaf in rule.leaves() if isinstance(leaf, Limit))


class Finding(NamedTuple):
    """One criterion's answer."""

    criterion: Criterion
    truth: Truth


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
    other_policies: tuple[tuple[str, Verdict], ...]
    """Policies under which the verdict would be another."""


class Assessment(NamedTuple):
    """A paper's verdict on one patient, with everything it rests on."""

    judgement: Judgement
    patient: Patient
    as_of: When | None
    """The day judged: as asked for, else the day of the newest count judged."""
    counts: tuple[Count, ...]
    """The counts judged, as the laboratory gave them."""
    supporting: tuple[Source, ...]
    """Transfusions, drugs and statements that bore on the verdict."""
    judged: Findings
    """What the rule was checked against: the counts, those under support as upper bounds."""
    remarks: tuple[Remark, ...]

    @property
    def paper(self) -> Paper:
        """The definition applied."""
        return self.judgement.paper

    @property
    def verdict(self) -> Verdict:
        """What it comes to."""
        return self.judgement.verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The answer to each criterion."""
        return self.judgement.findings

    @property
    def needs(self) -> tuple[Analyte, ...]:
        """The counts that would settle an open verdict."""
        return self.judgement.needs

    @property
    def needs_transfusion_history(self) -> bool:
        """Whether the transfusions would help to settle it."""
        return self.judgement.needs_transfusion_history

    @property
    def other_policies(self) -> tuple[tuple[str, Verdict], ...]:
        """Policies under which the verdict would be another."""
        return self.judgement.other_policies


def assess_eligibility(
    paper: Paper,
    course: Course,
    as_of: When | None = None,
    window_days: int = 30,
    policy: str | None = None,
) -> Assessment:
    """Whether the patient's counts meet the paper's definition.

    Counts later than `as_of` are left out (default: nothing is later). The newest count of each
    analyte is judged, none older than `window_days` before the newest of them all.
    """
    if policy is None and paper.red_cell_policies:
        policy = paper.red_cell_policies[0]
    asked = reading(paper, policy)
    everything = (*course.counts, *course.derived)
    known: Sequence[Count] = everything
    later: Sequence[Count] = ()
    if as_of:
        later = [c for c in everything if c.when.after(as_of)]
        known = [c for c in everything if not c.when.after(as_of)]
    baseline = take_baseline(course, known, asked.analytes, window_days, as_of)
    findings = baseline.findings
    judgement = _judgement(paper, policy, findings)
    supporting = baseline.confounders + (baseline.dependence_sources if asked.transfusions else ())
    return Assessment(
        judgement=judgement,
        patient=course.patient,
        as_of=as_of or baseline.day,
        counts=baseline.counts,
        supporting=tuple(dict.fromkeys(supporting)),
        judged=findings,
        remarks=(
            *baseline.remarks,
            *_left_out(baseline, known, later, as_of, window_days),
            *contradictions(asked.rule, findings),
        ),
    )


_judgements: dict[object, Judgement] = {}


def _judgement(paper: Paper, policy: str | None, findings: Findings) -> Judgement:
    """Depends on what the counts say of each limit only: few are worked out anew."""
    truths = tuple([leaf.check(findings) for leaf in _leaves(paper)])
    by_hand = counted_by_hand(findings)
    key = (paper, policy, truths, by_hand)
    found = _judgements.get(key)
    if found is None:
        found = _judgements[key] = _worked_out(paper, policy, findings)
    return found


@cache
def _leaves(paper: Paper) -> tuple[Rule, ...]:
    """Every limit of the paper, under whatever policy."""
    policies = paper.red_cell_policies or (None,)
    rules = (reading(paper, policy).rule for policy in policies)
    return tuple(dict.fromkeys(leaf for rule in rules for leaf in rule.leaves()))


def _worked_out(paper: Paper, policy: str | None, findings: Findings) -> Judgement:
    asked = reading(paper, policy)
    rule = asked.rule
    truth = rule.check(findings)
    undecided = tuple(rule.undecided(findings)) if truth is Truth.UNKNOWN else ()
    return Judgement(
        paper=paper,
        policy=policy if policy in paper.red_cell_policies else None,
        verdict=_VERDICTS[truth],
        findings=tuple(Finding(one, one.check(findings)) for one in asked.criteria),
        needs=counts_needed(rule, findings) if undecided else (),
        needs_transfusion_history=any(isinstance(leaf, OfOneProduct) for leaf in undecided),
        other_policies=_other_policies(paper, policy, truth, findings),
    )


def _other_policies(
    paper: Paper, policy: str | None, truth: Truth, findings: Findings
) -> tuple[tuple[str, Verdict], ...]:
    verdicts = (
        (other, reading(paper, other).rule.check(findings))
        for other in paper.red_cell_policies
        if other != policy
    )
    return tuple((other, _VERDICTS[found]) for other, found in verdicts if found is not truth)


def none_low(found: Assessment) -> bool:
    """Whether no count judged is, or may be, below normal.

    A bound from other results tells only where it is itself low. Reticulocytes without the
    laboratory's range have no normal limit: they tell by the definition's own, and only where no
    hemoglobin stands beside them.
    """
    counts_of = found.judged.counts
    for analyte, counts in counts_of.items():
        if analyte is Analyte.RETICULOCYTES and any(c.normal is None for c in counts):
            rule = reading(found.paper, found.judgement.policy).rule
            limits = (x for x in rule.leaves() if isinstance(x, Limit) and x.analyte is analyte)
            low = any(limit.check(found.judged) is not Truth.NOT_MET for limit in limits)
            if low and Analyte.HEMOGLOBIN not in counts_of:
                return False
            continue
        truth = NotLow(analyte).check(found.judged)
        bound = all(count.kind is Kind.BOUND for count in counts)
        if truth is Truth.NOT_MET or (truth is Truth.UNKNOWN and not bound):
            return False
    return True


def contradictions(rule: Rule, findings: Findings) -> Iterator[Remark]:
    """Results of one moment that answer a rule differently, each analyte once."""
    if max(map(len, findings.counts.values()), default=0) < 2:
        return
    seen = set()
    leaves = (leaf for leaf in rule.leaves() if isinstance(leaf, OfOneAnalyte))
    for leaf in leaves:
        spend(2 * len(findings.counts.get(leaf.analyte, ())))
        if leaf.analyte not in seen and leaf.contradicted(findings):
            seen.add(leaf.analyte)
            yield Remark(
                "contradiction",
                Severity.WARNING,
                f"Results of one moment stand on either side of a limit ({leaf.describe()}): "
                f"{leaf.analyte.title} is not known. Correct or repeat the count.",
                _places(findings.counts[leaf.analyte]),
            )


def _places(counts: Iterable[Count]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([s.place for count in counts for s in count.sources]))


class Baseline(NamedTuple):
    """The counts of one window, and what bears on them."""

    day: When | None
    first_day: date
    """Where the window begins."""
    last_day: date
    """Where it ends."""
    counts: tuple[Count, ...]
    findings: Findings
    confounders: tuple[Source, ...]
    dependence_sources: tuple[Source, ...]
    remarks: tuple[Remark, ...]


def take_baseline(
    course: Course,
    counts: Sequence[Count],
    analytes: frozenset[Analyte],
    window_days: int,
    as_of: When | None = None,
    independence_days: int = DEPENDENCE_DAYS,
) -> Baseline:
    """The newest of the counts for each analyte, none outside the window.

    The course tells what bears on them; of that nothing later than `as_of` is looked at.
    Independence is nothing transfused in `independence_days`.
    """
    spend(_STEPS + len(counts))
    pools: dict[Analyte, list[Count]] = {analyte: [] for analyte in _in_order(analytes)}
    for count in counts:
        pool = pools.get(count.analyte)
        if pool is not None:
            when = count.when
            if when.first == when.last or _placed(count, window_days):
                pool.append(count)
    pools = {analyte: _contenders(pool) for analyte, pool in pools.items() if pool}
    newest = max([_last_day(_tellers(pool)) for pool in pools.values()], default=date.max)
    start = _days_before(newest, timedelta(days=window_days))
    chosen: dict[Analyte, tuple[Count, ...]] = {}
    for analyte, pool in pools.items():
        inside = [c for c in pool if start <= c.when.first and c.when.last <= newest]
        if inside:
            chosen[analyte] = _newest(_tellers(inside))
    used = tuple([count for some in chosen.values() for count in some])
    supported, confounders, remarks = _confounded(course, chosen, as_of)
    dependent, independent, units, sources = _dependence(course, newest, as_of, independence_days)
    last = max(used, key=newness, default=None)
    return Baseline(
        day=last.when if last else None,
        first_day=start,
        last_day=newest,
        counts=used,
        findings=Findings(
            supported, dependent, independent, units, course.sex, _child(course, newest)
        ),
        confounders=confounders,
        dependence_sources=sources,
        remarks=remarks,
    )


@cache
def _in_order(analytes: frozenset[Analyte]) -> tuple[Analyte, ...]:
    return tuple(analyte for analyte in Analyte if analyte in analytes)


def _days_before(day: date, days: timedelta) -> date:
    return day - min(days, day - date.min)


def _placed(count: Count, window_days: int) -> bool:
    """Whether its date is precise enough to say that it belongs to a window."""
    return (count.when.last - count.when.first).days <= window_days


def _contenders(counts: list[Count]) -> list[Count]:
    """The counts that may be of the newest moment, whatever the window."""
    if len(counts) == 1:
        return counts
    exact = [
        c.when.last for c in counts if c.when.first == c.when.last and c.kind is not Kind.BOUND
    ]
    if not exact:
        return counts
    # Civil days of one instant differ by two at the most, however far apart the zones.
    since = _days_before(max(exact), _TWO_DAYS)
    return [c for c in counts if c.when.last >= since]


def _tellers(counts: list[Count]) -> list[Count]:
    """The counts that tell of the analyte itself; mere bounds only where there are none."""
    return [c for c in counts if c.kind is not Kind.BOUND] or counts


def _last_day(counts: list[Count]) -> date:
    return max([count.when.last for count in counts])


def _newest(counts: list[Count]) -> tuple[Count, ...]:
    """The counts of the newest moment, those that tell most: exact days, firm, measured."""
    if len(counts) == 1:
        return (counts[0],)
    counts = [c for c in counts if c.when.first == c.when.last] or counts
    last_day = _last_day(counts)
    newest = next(c.when for c in counts if c.when.last == last_day)
    timed = [c for c in counts if c.when.instant]
    if timed:
        newest_timed = max(timed, key=_INSTANT).when
        if newest_timed.last == last_day:
            newest = newest_timed
    moment = [c for c in counts if c.when is newest or c.when.same_moment(newest)]
    if len(moment) == 1:
        return (moment[0],)
    moment = [c for c in moment if not c.doubtful] or moment
    measured = [c for c in moment if c.kind is Kind.MEASURED]
    # A censored measured count does not overrule an exact one worked out from its parts.
    if any(c.value.exact is not None for c in measured):
        moment = measured
    return _each_value_once(moment)


def _each_value_once(counts: Iterable[Count]) -> tuple[Count, ...]:
    seen: dict[tuple[Interval, bool, Kind], Count] = {}
    for count in sorted(counts, key=lambda c: c.sources[0].reference):
        seen.setdefault((count.value, count.manual, count.kind), count)
    return tuple(seen.values())


def _confounded(
    course: Course, chosen: Mapping[Analyte, tuple[Count, ...]], as_of: When | None
) -> tuple[dict[Analyte, tuple[Count, ...]], tuple[Source, ...], tuple[Remark, ...]]:
    """Counts under support, as upper bounds: low still counts as low, high is no evidence."""
    findings = dict(chosen)
    if not (course.transfusions or course.drugs):
        return findings, (), ()
    sources: list[Source] = []
    remarks: list[Remark] = []
    for analyte, supports, code in (
        (Analyte.HEMOGLOBIN, _transfusions(course, Product.RED_CELLS), "transfusion-window"),
        (Analyte.PLATELETS, _transfusions(course, Product.PLATELETS), "transfusion-window"),
        (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, _growth_factors(course), "growth-factor-window"),
    ):
        bounded = []
        # Counts of one moment follow the same support, and there may be many of both.
        before: dict[object, list[Transfusion | DrugGiven]] = {}
        for count in chosen.get(analyte, ()):
            moment = count.when[:3]
            given = before.get(moment)
            if given is None:
                spend(len(supports))
                given = before[moment] = [
                    support
                    for support, days in supports
                    if _may_follow(count.when, support.when, days)
                    and not (as_of and support.when.after(as_of))
                ]
                sources += (support.source for support in given)
            if given:
                remarks.append(_under_support(count, given[0], code))
                bounded.append(count._replace(value=count.value._replace(low=None)))
            else:
                bounded.append(count)
        if bounded:
            findings[analyte] = tuple(bounded)
    return findings, tuple(sources), tuple(remarks)


Support = tuple[Transfusion | DrugGiven, int]


def _transfusions(course: Course, product: Product) -> list[Support]:
    days = CONFOUNDED_DAYS[product]
    return [(t, days) for t in course.transfusions if t.product in {product, Product.UNKNOWN}]


def _growth_factors(course: Course) -> list[Support]:
    return [(d, CONFOUNDED_DAYS[d.drug]) for d in course.drugs if d.drug in CONFOUNDED_DAYS]


def _may_follow(count: When, support: When, days: int) -> bool:
    """Whether the count may stand within so many days after the support."""
    if support.after(count) and support.first >= count.last:
        return False
    return (
        count.last >= support.first and count.first.toordinal() - support.last.toordinal() <= days
    )


def _under_support(count: Count, support: Transfusion | DrugGiven, code: str) -> Remark:
    what = (
        f"a transfusion of {support.product.value}"
        if isinstance(support, Transfusion)
        else support.drug.value
    )
    return Remark(
        code,
        Severity.WARNING,
        f"{count.analyte.title} of {count.when.text} stands shortly after {what} "
        f"({support.when.text}): a low value still counts as low, a high one is no evidence.",
        _places((count,)),
    )


def _child(course: Course, day: date) -> bool:
    """Whether the patient may have been under 18 years old on the day."""
    return course.born is not None and course.born.last.toordinal() > day.toordinal() - ADULT_DAYS


def _dependence(
    course: Course, newest: date, as_of: When | None, independence_days: int
) -> tuple[
    dict[Product, Truth], dict[Product, Truth], dict[Product, int | None], tuple[Source, ...]
]:
    """Dependence on and independence of transfusions up to the day, and the units if known.

    No transfusion in the data is not "no transfusions": without evidence that covers the time
    the answer is unknown. So it is without a count, whose day tells up to when.
    """
    told = course.transfusions or course.no_transfusions or course.transfusion_history_complete
    if newest == date.max or not told:
        return _NOT_KNOWN, _NOT_KNOWN, {}, ()
    dependent: dict[Product, Truth] = {}
    independent: dict[Product, Truth] = {}
    units: dict[Product, int | None] = {}
    longest = max(DEPENDENCE_DAYS, independence_days)
    sources = [t.source for t in _recorded(course, newest, longest, as_of)]
    for product in _NOT_KNOWN:
        given = _given(course, product, newest, DEPENDENCE_DAYS, as_of)
        within = given
        if independence_days != DEPENDENCE_DAYS:
            within = _given(course, product, newest, independence_days, as_of)
        dependent[product] = given.enough(DEPENDENCE_UNITS)
        independent[product] = within.none
        for one in (given, within):
            sources += (statement.source for statement in one.statements)
        sure = len(given.sure)
        units[product] = sure if given.covered and sure == len(given.possible) else None
    return dependent, independent, units, tuple(dict.fromkeys(sources))


def transfusion_independence(course: Course, newest: date, days: int) -> dict[Product, Truth]:
    """Whether, by evidence, nothing of each product was transfused in the days up to one."""
    return {product: _given(course, product, newest, days, None).none for product in _NOT_KNOWN}


class _Given(NamedTuple):
    """What is known of the transfusions of one product in a time."""

    sure: list[Transfusion]
    possible: list[Transfusion]
    """Those that may be of the product, and may be in the time."""
    statements: list[NoTransfusion]
    """That none was given in all of the time."""
    covered: bool
    """Whether every transfusion is on record."""

    def enough(self, number: int) -> Truth:
        """Whether so many were given."""
        if len(self.sure) >= number:
            return Truth.MET
        return Truth.NOT_MET if self.covered and len(self.possible) < number else Truth.UNKNOWN

    @property
    def none(self) -> Truth:
        """Whether none was given."""
        if self.sure:
            return Truth.NOT_MET
        return Truth.MET if self.covered and not self.possible else Truth.UNKNOWN


def _given(course: Course, product: Product, newest: date, days: int, as_of: When | None) -> _Given:
    start = _days_before(newest, timedelta(days=days))
    recorded = _recorded(course, newest, days, as_of)
    statements = [
        n
        for n in course.no_transfusions
        if n.product in {product, None} and n.when.first <= start and n.when.last >= newest
    ]
    return _Given(
        sure=[
            t
            for t in recorded
            if t.product is product and start <= t.when.first and t.when.last <= newest
        ],
        possible=[t for t in recorded if t.product in {product, Product.UNKNOWN}],
        statements=statements,
        covered=bool(course.transfusion_history_complete or statements),
    )


def _recorded(course: Course, newest: date, days: int, as_of: When | None) -> list[Transfusion]:
    """The transfusions that may lie in the days up to one."""
    spend(len(course.transfusions) + len(course.no_transfusions))
    start = _days_before(newest, timedelta(days=days))
    return [
        t
        for t in course.transfusions
        if t.when.last >= start and t.when.first <= newest and not (as_of and t.when.after(as_of))
    ]


def _left_out(
    baseline: Baseline,
    known: Sequence[Count],
    later: Sequence[Count],
    as_of: When | None,
    window_days: int,
) -> Iterator[Remark]:
    """What was not judged: for each kind of reason its places, every place under one reason."""
    told = set(_places(baseline.counts))
    first_day = baseline.first_day if told else date.min
    left: dict[str, list[str]] = {reason: [] for reason in _REASONS}
    vague, outside = left["imprecise-date"], left["outside-window"]
    unpaired, superseded = left["unpaired"], left["superseded"]
    for count in known:
        if count.kind is not Kind.MEASURED or (place := count.sources[0].place) in told:
            continue
        first, last, _, _ = count.when
        if first != last and not _placed(count, window_days):
            vague.append(place)
        elif first < first_day:
            outside.append(place)
        elif count.analyte in NEVER_ALONE:
            unpaired.append(place)
        else:
            superseded.append(place)
    if unpaired:
        paired = {s.place for c in known for part in c.parts for s in part.sources}
        superseded += (place for place in unpaired if place in paired)
        left["unpaired"] = [place for place in unpaired if place not in paired]
    left["after-as-of"] += (c.sources[0].place for c in later if c.kind is Kind.MEASURED)
    for reason, (severity, text) in _REASONS.items():
        if left[reason]:
            said = text.format(as_of=as_of.text if as_of else "", days=window_days)
            yield Remark(reason, severity, said, tuple(left[reason]))


_REASONS = {
    "after-as-of": (Severity.INFORMATION, "Later than {as_of}, the day judged: not used."),
    "imprecise-date": (
        Severity.WARNING,
        "The date is less precise than the window of {days} days: it cannot be told whether the "
        "result belongs to the day judged. Send the day.",
    ),
    "outside-window": (
        Severity.WARNING,
        "More than {days} days before the newest count judged: not combined with it.",
    ),
    "unpaired": (
        Severity.WARNING,
        "A part or a percentage tells nothing without its total (leukocytes or erythrocytes) of "
        "the same specimen or moment.",
    ),
    "superseded": (
        Severity.INFORMATION,
        "Not needed: a newer or more direct result was judged, or the definition does not ask for "
        "this one.",
    ),
}
"""Why a result was not judged, the first reason that holds."""
