"""A definition as a page: what a card links to, so that nobody has to read a PlanDefinition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from html import escape

from app.domain.paper import Paper, ResponsePaper
from app.domain.rules import Criterion, criteria_of
from app.papers import PUBLISHED, RESPONSES
from app.web.blocks import html
from app.web.transparency import TITLE, sheet
from app.writing.narrative import AID
from app.writing.words import readable


@cache
def explained(paper_id: str) -> str | None:
    """The page of a definition of eligibility or response, or of both; None for an unknown id."""
    eligibility = next((paper for paper in PUBLISHED if paper.id == paper_id), None)
    response = next((paper for paper in RESPONSES if paper.id == paper_id), None)
    first = eligibility or response
    if first is None:
        return None
    parts = [*(_eligibility(eligibility) if eligibility else ())]
    parts += _response(response) if response else ()
    return "\n".join([*_head(first), *parts, *_foot(first)])


@cache
def transparency() -> str:
    """The transparency sheet as a page."""
    return f"{_top(TITLE, TITLE)}\n{html(sheet())}\n</main></body></html>"


def _top(title: str, heading: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/web/VERSION/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/web/VERSION/style.css"></head>
<body><header><a class="name" href="/">maa-assess</a></header>
<main class="text"><h1>{heading}</h1>"""


def _head(paper: Paper | ResponsePaper) -> Iterator[str]:
    title = escape(paper.title)
    yield _top(f"{title}: what the definition says", title)
    yield f"<p>{AID}</p>"
    if not paper.verified:
        yield (
            "<p><strong>Unverified:</strong> the published wording could not be seen; these rules "
            "are as others report them.</p>"
        )


def _eligibility(paper: Paper) -> Iterator[str]:
    yield "<h2>Whom it means</h2>"
    rule = _read(paper.eligibility.describe())
    yield f"<p>Counts that come to {escape(paper.finding)}: {rule}.</p>"
    yield from _table("Criteria", criteria_of(paper.eligibility))
    if paper.red_cell_policies:
        policies = ", ".join(paper.red_cell_policies)
        yield (
            f"<p>Its red-cell criterion can be read in more than one way ({escape(policies)}); the "
            "first is the paper's own words, and an answer says where another comes to another "
            "verdict.</p>"
        )
    yield from _beyond(paper.also_requires, "What it also asks, and counts cannot tell")


def _response(paper: ResponsePaper) -> Iterator[str]:
    yield "<h2>When a treated patient has responded</h2>"
    first, last = paper.days
    yield (
        f"<p>The best assessment from day {first} to day {last} after the start of treatment is "
        "the verdict.</p>"
    )
    lineages = [lineage.responded for lineage in paper.lineages]
    others = [one for one in (paper.complete, paper.relapse) if one]
    yield from _table("Criteria of response", [*lineages, paper.response, *others])
    yield from _beyond(paper.also_requires, "How it is read")


def _table(name: str, criteria: Iterable[Criterion]) -> Iterator[str]:
    yield (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}"><table><thead><tr>'
        "<th>Criterion</th><th>Limit</th><th>The paper's words</th></tr></thead><tbody>"
    )
    for one in dict.fromkeys(criteria):
        yield (
            f'<tr><th scope="row">{escape(one.title)}</th><td>{_read(one.describe())}</td>'
            f"<td><q>{_read(one.wording)}</q> <small>{escape(one.source)}</small></td></tr>"
        )
    yield "</tbody></table></div>"


def _beyond(texts: tuple[str, ...], title: str) -> Iterator[str]:
    if texts:
        yield f"<h3>{title}</h3><ul>"
        yield from (f"<li>{_read(text)}</li>" for text in texts)
        yield "</ul>"


def _foot(paper: Paper | ResponsePaper) -> Iterator[str]:
    url = escape(paper.citation.url)
    yield f"""<h2>Source</h2>
<p>{escape(paper.citation.text)} <a rel="noreferrer" href="{url}">{url}</a></p>
<p>The same as FHIR: <a href="/fhir/PlanDefinition/{paper.id}">PlanDefinition/{paper.id}</a>.
To see counts judged by it: <a href="/">the page</a>. How it was tested, what it uses of a
patient and where it ends: <a href="/transparency#{paper.id}">the transparency sheet</a>.</p>
</main></body></html>"""


def _read(text: str) -> str:
    """A rule with the signs that a clinician reads."""
    return escape(readable(text))
