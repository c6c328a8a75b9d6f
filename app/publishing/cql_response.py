"""The definitions of response as CQL: each paper's rule over the days that MaaResponse makes.

MaaResponse is written by hand, for it is logic and no table: which day is the baseline, which days
are judged, what they come to. What a paper says, and every number and word, is written from tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import indent

from app.domain.chart import Cause
from app.domain.counts import Analyte, Product
from app.domain.dependence import DEPENDENCE_DAYS
from app.domain.limits import Limit
from app.domain.moments import BASELINE_DAYS, COUNTED
from app.domain.paper import ABOUT_3_MONTHS, ABOUT_6_MONTHS, Lineage, ResponsePaper
from app.domain.recovery import NORMAL, NORMAL_HEMOGLOBIN, Doubled, Normal, Recovered, Rise
from app.domain.response import TWO_YEARS_DAYS
from app.domain.rules import AtBaseline, AtLeastOf, Criterion, Not, Rule, all_of, criteria_of
from app.domain.transfusions import FewerUnits, TransfusionDependent, TransfusionIndependent
from app.domain.window import ADULT_DAYS
from app.fhir.cause_words import TRANSPLANT_WORDS
from app.fhir.causes import CAUSE_ROWS
from app.fhir.treatments import MAY_BE_TRANSFUSIONS
from app.papers import SHIPPED_RESPONSES
from app.publishing.cql import (
    COUNTS,
    RESPONSE,
    RESPONSE_TABLES,
    VERSION,
    by_policy,
    library_name,
    limit_on,
    remark,
    response_id,
    several,
)
from app.publishing.cql_tables import decimal, defined, quoted, tuple_of

_BASELINE = 'Response."Baseline"'
_DAY = "D"
_PREFIX = {Product.RED_CELLS: "redCell", Product.PLATELETS: "platelet"}


def generated_responses() -> dict[str, str]:
    """The CQL of response written from tables, by the library's name."""
    papers = {library_name(response_id(paper)): _paper(paper) for paper in SHIPPED_RESPONSES}
    return {**papers, library_name(RESPONSE_TABLES): _tables()}


# A paper

_HEADER = """library {name} version '{version}'

// {title}
{citation}
// {url}
{verified}// Written from the table the service runs (app/papers); `make cql` writes it anew.
// true: met; false: not met; null: not known. Numbers are in 10*9/L, hemoglobin in g/dL.
// When it is judged, and by which data, the parameters of {response} say. "Verdict" is null where
// the data hold what the libraries do not read: "Not read" says what.

using FHIR version '4.0.1'

include {counts} version '{shared}' called Maa
include {response} version '{shared}' called Response

"""
_POLICY = """// How the red-cell criterion is read: {policies}.
parameter "Red cell policy" String default '{first}'

"""
_ASSESSMENTS = """
// What the libraries do not read; then there is no verdict.
define "Not read":
  Response."Not read"

define "Baseline day":
  Response."Baseline".dated

define "Can be judged":
  not exists "Not read"
    and Response."Baseline" is not null{entry}

// Each day since the start of treatment of which a count is judged.
define "Assessments":
  Response."Assessed" D
    let
{lets}
    where "Can be judged"
    return all Tuple {{
{elements}
    }}

define "Told":
  {told}

// The verdict is sought from day {first} to day {last} after the start: the best of these days.
define "In time":
  Response."Between"("Told", {first}, {last})

define "Judged":
  Response."Best"("In time")

define "Day judged":
  First("Assessments" A where A.dated = "Judged".dated return all A)

define "Verdict":
  case
    when exists "Not read" then null
    when "Judged" is null then 'not-evaluable'
    else "Judged".verdict
  end
"""
_ALL_TOLD = """(
    "Assessments" A
      return all Tuple {
        dated: A.dated, daysAfter: A.daysAfter, verdict: Response."Told"(A.complete, A.response)
      })"""
_END = """
define "Transfusion independence":
  if "Day judged" is null then 'unknown'
  else Response."Independence"(
    Response."Baseline".redCellsNeeded, Response."Baseline".plateletsNeeded,
    "Day judged".redCellsFree, "Day judged".plateletsFree)

define "At 3 months":
  Response."Nearest"("Told", {three})

define "At 6 months":
  Response."Nearest"("Told", {six})

define "Best":
  Response."Best"("Told").verdict

define "Current":
  Last("Told" T return all T sort by dated).verdict

define "Kept two years":
  if exists "Not read" then null else Response."Kept two years"("Told", "In time")

// As a Measure asks: the share of the evaluable patients who responded.

define "Initial population":
  Response."Start" is not null

define "Denominator":
  "Initial population"

define "Denominator exclusion":
  Coalesce("Verdict" = 'not-evaluable', false)

define "Numerator":
  Coalesce("Verdict" in {{ 'complete-response', 'response' }}, false)
"""
_RELAPSE = """
// At any assessment after the first response.
define "Relapse":
  First(
    ({ First("Told" T where Response."Rank"(T.verdict) <= 2 return all T sort by dated) }) R
      let later: ("Assessments" A where A.dated after R.dated return all A)
      return all case
        when R is null then 'not-applicable'
        when exists (later L where L.relapse is true) then 'met'
        when exists later and not exists (later L where L.relapse is null) then 'not-met'
        else 'unknown'
      end)
"""


def _paper(paper: ResponsePaper) -> str:
    if paper.independence_days != DEPENDENCE_DAYS:
        raise NotImplementedError(paper.id)  # MaaResponse's parameter has one default
    header = _HEADER.format(
        name=library_name(response_id(paper)),
        version=paper.version,
        title=paper.title,
        citation=remark(paper.citation.text),
        url=paper.citation.url,
        verified="" if paper.verified else "// Unverified: as the field knows it.\n",
        counts=library_name(COUNTS),
        response=library_name(RESPONSE),
        shared=VERSION,
    )
    parts = [header]
    if paper.red_cell_policies:
        policies = ", ".join(paper.red_cell_policies)
        parts.append(_POLICY.format(policies=policies, first=paper.red_cell_policies[0]))
    parts.append("context Patient\n")
    rules = _Rules(paper)
    parts += (
        _define(_before(one), rules.body(one, _BASELINE), one.wording)
        for one in rules.at_start.values()
    )
    if paper.entry is not None:
        parts.append(_define("Meets the entry criteria", rules.rule(paper.entry, _BASELINE)))
    parts.append(_assessments(paper, rules))
    parts += (_lineage(one, rules) for one in paper.lineages)
    if paper.complete:
        parts.append(_define("Complete response", 'Response."Word"("Day judged".complete)'))
    if paper.relapse:
        parts.append(_RELAPSE)
    parts.append(_END.format(three=_days(ABOUT_3_MONTHS), six=_days(ABOUT_6_MONTHS)))
    return "".join(parts)


def _days(about: tuple[int, int, int]) -> str:
    return ", ".join(map(str, about))


def _define(name: str, body: str, words: str = "") -> str:
    said = f"{remark(words)}\n" if words else ""
    return f'\n{said}define "{name}":\n{indent(body, "  ")}\n'


def _before(criterion: Criterion) -> str:
    return f"{criterion.title} before treatment"


def _at_start(paper: ResponsePaper) -> list[Criterion]:
    """What is asked of the baseline by its name."""
    rules = [line.affected for line in paper.lineages if line.affected]
    rules += [rule.rule for rule in _within(paper.response) if isinstance(rule, AtBaseline)]
    rules += [paper.entry] if paper.entry else []
    return list(criteria_of(all_of(*rules)))


def _within(rule: Rule) -> Iterator[Rule]:
    yield rule
    for part in rule.parts():
        yield from _within(part)


def _assessments(paper: ResponsePaper, rules: _Rules) -> str:
    """Every criterion on every day, and what the days come to."""
    lets = ",\n".join(
        f'"{title}":\n{indent(rules.body(one, _DAY), "  ")}'
        for title, one in rules.on_a_day.items()
    )
    ends = {"complete": paper.complete, "response": paper.response, "relapse": paper.relapse}
    elements = {"dated": "D.dated", "daysAfter": "D.daysAfter"}
    elements |= {name: f'"{one.title}"' if one else "null as Boolean" for name, one in ends.items()}
    elements |= {_element(one.responded): f'"{one.responded.title}"' for one in paper.lineages}
    elements |= {f"{name}sFree": f"D.{name}sFree" for name in _PREFIX.values()}
    told = _ALL_TOLD
    if paper.confirmed_after_days:
        told = f'Response."Confirmed"({told}, {paper.confirmed_after_days})'
    return _ASSESSMENTS.format(
        entry='\n    and "Meets the entry criteria" is true' if paper.entry else "",
        lets=indent(lets, " " * 6),
        elements=indent(",\n".join(f"{name}: {one}" for name, one in elements.items()), " " * 6),
        told=told,
        first=paper.days[0],
        last=paper.days[1],
    )


def _element(criterion: Criterion) -> str:
    first, *rest = criterion.code.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _lineage(line: Lineage, rules: _Rules) -> str:
    affected = rules.rule(line.affected, _BASELINE) if line.affected else "true"
    body = (
        "if \"Day judged\" is null then 'unknown'\n"
        f'else Response."Response of a line"(\n{indent(affected, "  ")},\n'
        f'  "Day judged".{_element(line.responded)})'
    )
    return _define(line.responded.title, body, line.responded.wording)


# A rule


class _Rules:
    """A paper's rules in CQL: a criterion by its name where it is defined, else written out."""

    def __init__(self, paper: ResponsePaper) -> None:
        self.at_start = {one.title: one for one in _at_start(paper)}
        ends = (paper.complete, paper.response, paper.relapse)
        judged = [*(line.responded for line in paper.lineages), *filter(None, ends)]
        self.on_a_day = {one.title: one for one in judged}

    def body(self, criterion: Criterion, of: str) -> str:
        """What a criterion says of a day or the baseline, under whatever red-cell policy."""
        own = self.rule(criterion.rule, of)
        others = {policy: self.rule(rule, of) for policy, rule in criterion.policies}
        return by_policy(own, {policy: one for policy, one in others.items() if one != own})

    def rule(self, rule: Rule, of: str) -> str:
        """A rule over a day or the baseline."""
        match rule:
            case Criterion():
                return self._criterion(rule, of)
            case AtBaseline():
                return self.rule(rule.rule, _BASELINE)
            case Not():
                return f"not ({self.rule(rule.rule, of)})"
            case AtLeastOf():
                return several(rule, [self.rule(part, of) for part in rule.rules])
            case Recovered():
                return self._recovered(rule, of)
            case _:
                return _leaf(rule, of)

    def _criterion(self, criterion: Criterion, of: str) -> str:
        if of == _BASELINE and self.at_start.get(criterion.title) == criterion:
            return f'"{_before(criterion)}"'
        if of == _DAY and self.on_a_day.get(criterion.title) == criterion:
            return f'"{criterion.title}"'
        return self.body(criterion, of)

    def _recovered(self, rule: Recovered, of: str) -> str:
        gained = "false"
        if rule.product:
            prefix = _PREFIX[rule.product]
            gained = f"({_BASELINE}.{prefix}sNeeded is true) and {of}.{prefix}sFree"
        parts = (_leaf(Normal(rule.analyte), of), gained, self.rule(rule.depressed, of))
        return 'Response."Recovered"(\n' + indent(",\n".join(parts), "  ") + ")"


def _leaf(rule: Rule, of: str) -> str:  # noqa: PLR0911 a line for each kind of rule
    match rule:
        case Limit():
            return limit_on(rule, f"{of}.counts")
        case Normal():
            return f'Response."Normal"({of}.counts, {of}.child, {quoted(rule.analyte.title)})'
        case Rise():
            rise = f"{decimal(rule.number)}, {str(rule.more_than).lower()}"
            return f'Response."Risen"({_pair(of, rule.analyte)}, {rise})'
        case Doubled():
            return f'Response."Doubled"({_pair(of, rule.analyte)})'
        case TransfusionDependent():
            return f"{of}.{_PREFIX[rule.product]}sNeeded"
        case TransfusionIndependent():
            return f"{of}.{_PREFIX[rule.product]}sFree"
        case FewerUnits():
            units = f"{_PREFIX[rule.product]}Units"
            return f"{_BASELINE}.{units} - {of}.{units} >= {rule.units}"
        case _:
            raise NotImplementedError(type(rule).__name__)


def _pair(of: str, analyte: Analyte) -> str:
    return f"{of}.counts, {_BASELINE}.counts, {quoted(analyte.title)}"


# The tables


def _tables() -> str:
    normal = [
        tuple_of(analyte=quoted(analyte.title), gender="null as String", least=decimal(least))
        for analyte, (least, _) in NORMAL.items()
    ]
    normal += (
        tuple_of(
            analyte=quoted(Analyte.HEMOGLOBIN.title), gender=quoted(sex.value), least=decimal(least)
        )
        for sex, (least, _) in NORMAL_HEMOGLOBIN.items()
    )
    lists = {
        "Counts of response": [quoted(one.title) for one in Analyte if one in COUNTED],
        "Lower limits of normal": normal,
        "Transplants by code": list(
            dict.fromkeys(quoted(row.code) for row in CAUSE_ROWS if row.cause is Cause.TRANSPLANT)
        ),
    }
    single = {
        "Days of a baseline": str(BASELINE_DAYS),
        "Days of two years": str(TWO_YEARS_DAYS),
        "Days to be an adult": str(ADULT_DAYS),
        "Words of transfusions": quoted(MAY_BE_TRANSFUSIONS),
        "Words of transplants": quoted(TRANSPLANT_WORDS),
    }
    return (
        f"library {library_name(RESPONSE_TABLES)} version '{VERSION}'\n\n"
        "// Written from the tables the service runs (app/domain, app/fhir); `make cql` writes it\n"
        "// anew. Words are regular expressions over text in lower case; a code of a transplant\n"
        "// stands for all that begin with it.\n" + defined(lists, single)
    )
