"""The papers as CQL libraries: written from the very tables the engine runs, and their ELM.

`libraries()` reads what is kept beside the code; `generated()` writes the CQL anew. A test holds
the two to each other, and compiles the CQL to the ELM on file; `make cql` writes both anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from textwrap import indent, wrap

from app.domain.counts import Analyte
from app.domain.judgement import sustained_rules
from app.domain.limits import Above, AtLeast, AtMost, Below, Limit
from app.domain.paper import Paper, ResponsePaper, interpretation
from app.domain.rules import AtBaseline, AtLeastOf, Criterion, Not, OfOneProduct, Rule, criteria_of
from app.domain.sustained import Sustained, time_of
from app.domain.transfusions import TransfusionDependent, TransfusionsNeeded
from app.papers import SHIPPED, SHIPPED_RESPONSES
from app.publishing.cql_tables import decimal, quoted, tables

COUNTS = "maa-counts"
TABLES = "maa-tables"
RESPONSE = "maa-response"
RESPONSE_TABLES = "maa-response-tables"
VERSION = "1.0.0"
"""Of the libraries that all papers include."""
_FOLDER = files(__package__) / "libraries"


@dataclass(frozen=True, slots=True)
class LibraryText:
    """One CQL library: the id and version of its FHIR Library, its CQL, and its ELM as JSON."""

    id: str
    name: str
    version: str
    title: str
    cql: str
    elm: str


def library_name(library_id: str) -> str:
    """The name of a library in CQL: `nih-daclizumab-2003` is NihDaclizumab2003."""
    return "".join(part.capitalize() for part in library_id.split("-"))


def response_id(paper: ResponsePaper) -> str:
    """The id of a definition of response's library: its paper may define eligibility too."""
    return f"{paper.id}-response"


@cache
def libraries() -> tuple[LibraryText, ...]:
    """The libraries on file: each paper's, of eligibility and response, then what all include."""
    of_papers = ((paper.id, paper.version, paper.title) for paper in SHIPPED)
    of_response = ((response_id(paper), paper.version, paper.title) for paper in SHIPPED_RESPONSES)
    shared = (
        (COUNTS, VERSION, "Which results of a patient count, and what they say"),
        (TABLES, VERSION, "Codes, units and limits of time"),
        (RESPONSE, VERSION, "A treated patient's course, day by day, and what it comes to"),
        (RESPONSE_TABLES, VERSION, "Limits of normal, days and words that response asks for"),
    )
    return tuple(
        LibraryText(
            library_id,
            library_name(library_id),
            version,
            title,
            (_FOLDER / f"{library_name(library_id)}.cql").read_text("utf-8"),
            (_FOLDER / f"{library_name(library_id)}.json").read_text("utf-8"),
        )
        for library_id, version, title in (*of_papers, *of_response, *shared)
    )


def criterion_define(criterion: Criterion) -> str:
    """The name of the expression that a paper's library defines for the criterion."""
    return criterion.title


def generated() -> dict[str, str]:
    """The CQL of eligibility that tables write, by the library's name; the tables too."""
    papers = {library_name(paper.id): _paper(paper) for paper in SHIPPED}
    return {**papers, library_name(TABLES): tables(library_name(TABLES), VERSION)}


# A paper

_HEADER = """library {name} version '{version}'

// {title}
{citation}
// {url}
// Written from the table the service runs (app/papers); `make cql` writes it anew.
// true: met; false: not met; null: not known. Numbers are in 10*9/L, hemoglobin in g/dL.
// It judges the counts alone. What else stands in a chart, age and weight are not looked at: the
// service tells of them, and where exclusions=apply is asked for what the definition excludes makes
// not eligible; the definition's PlanDefinition names it, with the ValueSets of its codes.

using FHIR version '4.0.1'

include {counts} version '{counts_version}' called Maa

// Judged as known on this day; results later than it are left out. Null leaves nothing out.
parameter "As of" DateTime default null
// Results older than this before the newest one judged are not combined with it.
parameter "Window days" Integer default 30
"""
_POLICY = """// How the red-cell criterion is read: {policies}.
parameter "Red cell policy" String default '{first}'
"""
_HISTORY = """// Whether the data hold every transfusion, so that none recorded is none given.
parameter "Transfusion history complete" Boolean default false
"""
_HELD = """// Whether what must be sustained was met at every assessment over the {time} before the
// day judged: false where one of that time did not meet it; null where none lies so long before,
// or one is not known. This library judges one day: what earlier ones told, the caller gives.
parameter "Held before" Boolean default null
"""
_JUDGED = """
context Patient

// Whom a screening counts: everyone with a result.
define "Screened":
  exists [Observation]

define "Analytes asked for":
{analytes}

define "Counts judged":
  Maa."Judged"("Analytes asked for", "As of", "Window days")
"""
_VERDICT = """
define "Meets the definition":
{rule}

define "Verdict":
  case
    when "Meets the definition" is true then 'eligible'
    when "Meets the definition" is false then 'not-eligible'
    else 'indeterminate'
  end
"""


def _paper(paper: Paper) -> str:
    criteria = criteria_of(paper.eligibility)
    bodies = [rule for one in criteria for rule in (one.rule, *dict(one.policies).values())]
    parts = [
        _HEADER.format(
            name=library_name(paper.id),
            version=paper.version,
            title=paper.title,
            citation=remark(paper.citation.text),
            url=paper.citation.url,
            counts=library_name(COUNTS),
            counts_version=VERSION,
        )
    ]
    if paper.red_cell_policies:
        policies = ", ".join(paper.red_cell_policies)
        parts.append(_POLICY.format(policies=policies, first=paper.red_cell_policies[0]))
    if any(isinstance(leaf, OfOneProduct) for body in bodies for leaf in body.leaves()):
        parts.append(_HISTORY)
    if rules := sustained_rules(paper):
        parts.append(_HELD.format(time=time_of(rules[0].days)))
    parts.append(_JUDGED.format(analytes=indent(_analytes(paper), "  ")))
    parts += (_define(criterion) for criterion in criteria)
    rule = indent(_expression(paper.eligibility, named=True), "  ")
    parts.append(_VERDICT.format(rule=rule))
    return "".join(parts)


def _analytes(paper: Paper) -> str:
    """The analytes the definition asks for, which a red-cell policy may change."""
    own = _listed(interpretation(paper, None).analytes)
    others = {
        policy: _listed(interpretation(paper, policy).analytes)
        for policy in paper.red_cell_policies
    }
    return by_policy(own, {policy: asked for policy, asked in others.items() if asked != own})


def _listed(analytes: Iterable[Analyte]) -> str:
    asked = set(analytes)
    return "{ " + ", ".join(quoted(one.title) for one in Analyte if one in asked) + " }"


def _define(criterion: Criterion) -> str:
    others = {
        policy: _expression(rule) for policy, rule in criterion.policies if rule != criterion.rule
    }
    body = by_policy(_expression(criterion.rule), others)
    return (
        f'\n{remark(criterion.wording)}\ndefine "{criterion_define(criterion)}":\n'
        f"{indent(body, '  ')}\n"
    )


def by_policy(own: str, others: Mapping[str, str]) -> str:
    """The paper's own expression, or the one that a red-cell policy puts in its place."""
    if not others:
        return own
    cases = (f"when {quoted(policy)} then\n" + indent(one, "  ") for policy, one in others.items())
    inner = "\n".join((*cases, "else\n" + indent(own, "  ")))
    return 'case "Red cell policy"\n' + indent(inner, "  ") + "\nend"


def _expression(rule: Rule, named: bool = False) -> str:
    """A rule in CQL; criteria by their names, or (within a criterion) by what they say."""
    match rule:
        case Criterion():
            return f'"{criterion_define(rule)}"' if named else _expression(rule.rule)
        case Not():
            return f"not ({_expression(rule.rule, named)})"
        case AtLeastOf():
            return several(rule, [_expression(part, named) for part in rule.rules])
        case Sustained():
            return f'{_expression(rule.rule, named=True)}\nand "Held before"'
        case Limit():
            return limit_on(rule, '"Counts judged"')
        case TransfusionDependent() | TransfusionsNeeded():
            return (
                f'Maa."{_TRANSFUSED[type(rule)]}"("Counts judged", {quoted(rule.product.value)}, '
                '"As of", "Transfusion history complete")'
            )
        case _:
            raise NotImplementedError(type(rule).__name__)


def several(rule: AtLeastOf, parts: Sequence[str]) -> str:
    """What a rule asks of its parts, which are written already."""
    if not _plain(rule):
        return f'Maa."At least"({rule.n}, {{\n' + indent(",\n".join(parts), "  ") + "\n})"
    word = "\nand " if rule.n == len(parts) else "\nor "
    return word.join(
        f"({text})" if "\n" in text and _is_joined(part) else text
        for part, text in zip(rule.rules, parts, strict=True)
    )


def _is_joined(part: Rule) -> bool:
    """Whether it is written as several with a word between them."""
    while isinstance(part, Criterion | AtBaseline):
        part = part.rule
    return isinstance(part, AtLeastOf) and _plain(part)


def _plain(rule: AtLeastOf) -> bool:
    """Whether CQL's own `and` and `or` say it: they know the three values too."""
    return rule.n in {1, len(rule.rules)}


# What statements of transfusions are called in MaaCounts.
_TRANSFUSED: Mapping[type[Rule], str] = {
    TransfusionDependent: "Depends on transfusions",
    TransfusionsNeeded: "Transfused",
}
# What a limit is called in MaaCounts, and whether it is the opposite of that.
_LIMITS = {
    AtMost: ("At most", False),
    Above: ("At most", True),
    Below: ("Below", False),
    AtLeast: ("Below", True),
}


def limit_on(limit: Limit, counts: str) -> str:
    """A limit on the counts that an expression of CQL gives."""
    function, opposite = _LIMITS[type(limit)]
    numbers = [decimal(number) for number in (limit.number, limit.manual) if number is not None]
    arguments = ", ".join((counts, quoted(limit.analyte.title), *numbers))
    call = f'Maa."{function}"({arguments})'
    return f"not {call}" if opposite else call


def remark(words: str) -> str:
    """A comment of as many lines as it takes."""
    return "\n".join(f"// {line}" for line in wrap(words, 97))
