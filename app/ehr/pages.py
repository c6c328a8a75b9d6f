"""A page of what a search found: what it must be, and what of it is an answer."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

import msgspec

from app.ehr.exchange import failed
from app.ehr.proof import Found, Issue, Question, tells
from app.fhir.bodies import DECODE_OUTCOME, Entry
from app.fhir.outcome import Fault, WithheldError


class _Link(msgspec.Struct):
    relation: str = ""
    url: str = ""


class _Search(msgspec.Struct):
    mode: str = "match"


class FoundEntry(msgspec.Struct):
    """An entry, and whether it is a match or beside one."""

    fullUrl: str | None = None  # noqa: N815 FHIR's own name
    resource: msgspec.Raw = msgspec.Raw()
    search: _Search | None = None


class Page(msgspec.Struct):
    """One page of a searchset Bundle."""

    resourceType: str  # noqa: N815 FHIR's own name
    type: str = ""
    total: int | None = None
    link: list[_Link] = []
    entry: list[FoundEntry] = []


class _Head(msgspec.Struct):
    """What is read of a resource whose other elements are malformed."""

    resourceType: str  # noqa: N815 FHIR's own name
    id: str = ""
    issue: list[Issue] = []


_T = TypeVar("_T", Page, _Head)
Answer = tuple[Found, Entry]
"""A resource found, and as much of it as was read."""


def decoded(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    """What the server sent, as FHIR; RequestError 502 where it is none."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        failed("It answered with something that is no FHIR JSON.")


def is_proven(question: Question, page: Page) -> bool:
    """Whether the server says that it searched by what was asked; RequestError where it did not.

    A link without parameters, as HAPI's after a POST, says nothing.
    """
    link = next((link.url for link in page.link if link.relation == "self"), "")
    if not tells(link):
        return False
    if ignored := question.ignored(link):
        failed(
            f"It did not search {question.kind} by '{ignored}' as asked, by its own 'self' link: "
            "what it sent is not believed."
        )
    return True


def found_in(resource: bytes | msgspec.Raw) -> Found:
    """What tells which question a resource answers."""
    try:
        return msgspec.json.decode(resource, type=Found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = decoded(resource, _Head)
        return Found(head.resourceType, head.id, head.issue)


def is_match(told: Found, entry: FoundEntry, question: Question, proven: bool) -> bool:
    """Whether the entry is a match; RequestError where it does not answer the question."""
    if told.resourceType != question.kind or (entry.search and entry.search.mode != "match"):
        return False
    if contradicted := question.contradicted(told, proven):
        failed(
            f"It answered the search of {question.kind} with one of another {contradicted} than "
            f"was asked for: it ignores the parameter '{contradicted}'."
        )
    return True


def is_answer(told: Found, entry: FoundEntry, kind: str) -> bool:
    """Whether the entry holds something found, or a warning that is to be passed on.

    RequestError where it says that something is missing, or where another type was found.
    """
    if told.resourceType == "OperationOutcome":
        if any(issue.severity in {"error", "fatal"} for issue in told.issue):
            failed("It could not complete a search and says so with an OperationOutcome.")
        return any(issue.severity == "warning" for issue in told.issue)
    if told.resourceType != kind and (entry.search is None or entry.search.mode == "match"):
        failed(f"It answered the search of {kind} with resources of another type.")
    return True


def refuse_warning(told: Found, entry: FoundEntry) -> None:
    """WithheldError where the entry is a warning that something may be missing, with its words."""
    if told.resourceType != "OperationOutcome":
        return
    said = ""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        issues = DECODE_OUTCOME(entry.resource).issue
        said = next((one.said for one in issues if one.severity == "warning" and one.said), "")
    text = "The FHIR server warns that data may be missing, and MAA_FHIR_SERVER_WARNINGS=refuse: "
    raise WithheldError(502, Fault("incomplete", text + (said or "it gives no reason.")))


def each_once(found: Iterable[Answer]) -> tuple[Entry, ...]:
    """What was found, each resource once: two searches or pages may find the same."""
    unique: dict[str | bytes, Entry] = {}
    for told, entry in found:
        name = f"{told.resourceType}/{told.id}" if told.id else bytes(entry.resource)
        unique.setdefault(name, entry)
    return tuple(unique.values())
