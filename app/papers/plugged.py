"""Definitions that other distributions bring, by the entry point `maa_assess.papers`.

Nothing is loaded but what an operator installed beside this service.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from app.domain.paper import LINEAGE_RESPONSES, Paper, ResponsePaper
from app.domain.rules import Criterion, Rule, criteria_of

GROUP = "maa_assess.papers"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,50}[a-z0-9])?", re.ASCII)
_OURS = Rule.__module__.rpartition(".")[0]
_NAMES = {"response": "primary-end-point", "complete": "complete", "relapse": "relapse"}
AnyPaper = Paper | ResponsePaper


@dataclass(frozen=True, slots=True)
class Plugged:
    """What is installed: of each plug-in all definitions, or why it brings none."""

    papers: tuple[Paper, ...]
    responses: tuple[ResponsePaper, ...]
    faults: tuple[str, ...]
    """A line for each plug-in that cannot be used: the service does not start with one."""


def plugged(shipped: Iterable[AnyPaper]) -> Plugged:
    """The definitions of all plug-ins, beside those that ship with the service."""
    known = list(shipped)
    found: list[AnyPaper] = []
    faults: list[str] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda one: (one.name, one.value)):
        try:
            brought = _brought(entry, known)
        except Exception as error:  # noqa: BLE001 whatever a plug-in raises, it is named
            faults.append(f"The plug-in {_named(entry)} {_told(error)}.")
        else:
            known += brought
            found += brought
    return Plugged(
        tuple(one for one in found if isinstance(one, Paper)),
        tuple(one for one in found if isinstance(one, ResponsePaper)),
        tuple(faults),
    )


class _UnusableError(Exception):
    """What is wrong with what a plug-in brings, as the end of a sentence."""


def _brought(entry: EntryPoint, known: Iterable[AnyPaper]) -> tuple[AnyPaper, ...]:
    papers = tuple(entry.load())
    titles = {criterion.code: criterion.title for one in known for criterion in _criteria(one)}
    taken = {one.id for one in known}
    kinds = set()
    for paper in papers:
        if not isinstance(paper, AnyPaper):
            raise _UnusableError("brings what is neither a Paper nor a ResponsePaper")
        if not _ID.fullmatch(paper.id):
            raise _UnusableError("brings an id that is not of small letters, digits and hyphens")
        if paper.id in taken or (type(paper), paper.id) in kinds:
            raise _UnusableError(f"brings '{paper.id}', which is a definition already")
        kinds.add((type(paper), paper.id))
        for fault in _faults(paper, titles):
            raise _UnusableError(f"brings '{paper.id}', {fault}")
    return papers


def _faults(paper: AnyPaper, titles: dict[str, str]) -> Iterator[str]:
    """What could not be published of a definition."""
    for rule in _rules(paper):
        if not type(rule).__module__.startswith(f"{_OURS}."):
            yield f"with a kind of rule of its own ({type(rule).__name__})"
    for one in _criteria(paper):
        if titles.get(one.code, one.title) != one.title:
            yield f"whose criterion '{one.code}' is published with another title"
    if isinstance(paper, ResponsePaper):
        for line in paper.lineages:
            if line.responded.code not in LINEAGE_RESPONSES:
                yield f"whose lineages answer to other codes than {', '.join(LINEAGE_RESPONSES)}"
        for name, code in _NAMES.items():
            if (criterion := getattr(paper, name)) and criterion.code != code:
                yield f"whose {name} has another code than '{code}'"


def _criteria(paper: AnyPaper) -> Iterator[Criterion]:
    """The criteria that are published in the CodeSystem."""
    if isinstance(paper, Paper):
        yield from criteria_of(paper.eligibility)
    else:
        for line in paper.lineages:
            yield from criteria_of(line.affected) if line.affected else ()


def _rules(paper: AnyPaper) -> Iterator[Rule]:
    """Every rule of a definition, the innermost too."""
    if isinstance(paper, Paper):
        roots: list[Rule | None] = [paper.eligibility]
    else:
        roots = [paper.response, paper.complete, paper.relapse, paper.entry]
        roots += [rule for one in paper.lineages for rule in (one.affected, one.responded)]
    for root in filter(None, roots):
        seen: list[Rule] = []
        root.rewritten(partial(_noted, seen))
        yield from seen


def _noted(seen: list[Rule], rule: Rule) -> Rule:
    seen.append(rule)
    return rule


def _named(entry: EntryPoint) -> str:
    of = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"{entry.name}{of}"


def _told(error: Exception) -> str:
    if isinstance(error, _UnusableError):
        return str(error)
    return f"cannot be loaded: {type(error).__name__}: {error}"
