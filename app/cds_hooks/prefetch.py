"""The patient's data: what the client sent along, the rest from its FHIR server, in one Bundle."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from app.asking import Data
from app.cds_hooks.calls import Call, decode
from app.cds_hooks.discovery import Service
from app.fhir.bodies import Entry
from app.fhir.codes import BY_LOINC, LoincRow
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError, WithheldError
from app.fhir.resources import (
    Coding,
    Concept,
)
from app.fhir.times import when

_BUNDLES_DEEP = 3
_ENTRY = re.compile(r"Bundle\.entry\[(\d+)\]", re.ASCII)


class FhirServer(Protocol):
    """A client's FHIR server, read with the token that the client handed over."""

    async def fetch(self, query: str) -> tuple[Entry, ...]:
        """What a read or a search finds, of all pages; RequestError where it fails."""

    async def aclose(self) -> None:
        """Let go of its connections."""


OpenServer = Callable[[str, str], FhirServer]
"""A server by its base URL and the access token."""


class _Link(msgspec.Struct):
    relation: str | None = None


class _Slot(msgspec.Struct):
    """One prefetched resource: a Bundle, or what a read gives."""

    resourceType: str
    entry: tuple[Entry, ...] = ()
    link: tuple[_Link, ...] = ()


class _Result(msgspec.Struct):
    code: Concept | None = None
    effectiveDateTime: str | None = None
    effectiveInstant: str | None = None
    performedDateTime: str | None = None
    # As R5 names them.
    occurrenceDateTime: str | None = None
    occurenceDateTime: str | None = None

    @property
    def at(self) -> str | None:
        """When it was, by whichever name."""
        return (
            self.effectiveDateTime
            or self.effectiveInstant
            or self.performedDateTime
            or self.occurrenceDateTime
            or self.occurenceDateTime
        )


@dataclass(frozen=True, slots=True)
class Gathered:
    """A patient's data, and the keys of which only the newest page is in it."""

    data: Data
    first_pages: tuple[str, ...]
    code_map: CodeMap | None = None
    """The hospital's own codes."""
    looked_at: tuple[str, ...] = ()
    """Of the keys that an answer can do without those that were had, be it with nothing in them."""

    def result_at(self, place: str) -> str:
        """Which result stands at a place in the Bundle: its analyte and day, where it has them."""
        index = _ENTRY.match(place)
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if index and isinstance(raw := self.data.entries[int(index[1])].resource, Raw):
                found = msgspec.json.decode(raw, type=_Result)
                codings = found.code.coding if found.code else ()
                row = next(filter(None, map(self._row, codings)), None)
                text = found.effectiveDateTime or found.effectiveInstant
                moment = when(text) if text else None
                if row:
                    return row.analyte.title + (f" of {moment.text[:10]}" if moment else "")
        return ""

    def _row(self, coding: Coding) -> LoincRow | None:
        if coding.code in BY_LOINC:
            return BY_LOINC[coding.code]
        mapped = self.code_map.mapped(coding.system, coding.code) if self.code_map else None
        return mapped.row if mapped else None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent along: the data, and why a key has to be fetched."""

    entries: list[Entry]
    missing: Mapping[str, str]
    first_pages: Mapping[str, list[Entry]]
    """Of the missing, those whose first page does: it holds the newest results."""
    looked_at: tuple[str, ...] = ()
    """See `Gathered`."""
    cut: tuple[str, ...] = ()
    """Of these, those that have further pages, which are not fetched."""


def sent_along(call: Call, service: Service) -> Sent:
    """What the client sent of what the service needs; RequestError 400 for what is no resource."""
    entries: list[Entry] = []
    missing: dict[str, str] = {}
    pages: dict[str, list[Entry]] = {}
    sent = call.prefetch or {}
    looked_at: list[str] = []
    cut: list[str] = []
    for key in service.queries(""):
        if key not in sent:
            missing[key] = "was not sent"
            continue
        slot = _slot(sent[key], key)
        if key in service.optional and (slot is None or slot.resourceType != "OperationOutcome"):
            looked_at.append(key)
        if slot is None:
            continue
        found = list(_entries(sent[key], slot, key, 0))
        if key in service.optional:
            entries += found if key in looked_at else ()
            cut += [key] if any(link.relation == "next" for link in slot.link) else []
        elif slot.resourceType == "OperationOutcome":
            missing[key] = "could not be had by the client (OperationOutcome)"
        elif any(link.relation == "next" for link in slot.link):
            missing[key] = "has further pages"
            pages[key] = found
        else:
            entries += found
    first = {} if service.whole_course else {k: p for k, p in pages.items() if _newest_first(p)}
    return Sent(entries, missing, first, tuple(looked_at), tuple(cut))


async def gather(
    call: Call, service: Service, sent: Sent, allowed: Iterable[str], open_server: OpenServer
) -> Gathered:
    """Everything the service needs to know of the patient.

    What was not sent along is fetched from the client's server if that is one of the `allowed`.
    RequestError 412 names what cannot be had.
    """
    entries, first = sent.entries, sent.first_pages
    fetched = await _fetch(call, service, sent.missing, first, allowed, open_server)
    for key, found in fetched.items():
        entries += first[key] if found is None else _opened(found, key, 0)
    first_pages = (*sent.cut, *(key for key, found in fetched.items() if found is None))
    looked_at = (*sent.looked_at, *(key for key in fetched if key in service.optional))
    return Gathered(Data(tuple(entries)), first_pages, service.code_map, tuple(sorted(looked_at)))


def _slot(raw: Raw, key: str) -> _Slot | None:
    """A prefetched value; None where the client says that there is no data."""
    return None if bytes(raw).strip() == b"null" else _read(raw, key)


def _read(raw: Raw, key: str) -> _Slot:
    try:
        return decode(bytes(raw), _Slot)
    except RequestError as error:
        place = ".".join(filter(None, (f"prefetch.{key}", error.faults[0].place)))
        text = "A prefetched value is a FHIR resource, or null."
        raise RequestError(400, Fault("structure", text, place)) from None


def _entries(raw: Raw, slot: _Slot, key: str, depth: int) -> Iterator[Entry]:
    """The resources of a slot; pages that come as Bundles in a Bundle are opened."""
    if slot.resourceType != "Bundle":
        yield Entry(None, Raw(bytes(raw)))
        return
    if depth >= _BUNDLES_DEEP:
        text = f"Bundles deeper than {_BUNDLES_DEEP} in Bundles."
        raise RequestError(400, Fault("structure", text, f"prefetch.{key}"))
    yield from _opened(slot.entry, key, depth)


def _opened(entries: Iterable[Entry], key: str, depth: int) -> Iterator[Entry]:
    """The resources of entries, those of Bundles among them in their place."""
    for entry in entries:
        if entry.resource:
            inner = _bundle_in(entry.resource)
            if inner is None:
                yield _placeless(entry)
            else:
                yield from _entries(entry.resource, inner, key, depth + 1)


def _placeless(entry: Entry) -> Entry:
    """The entry without its address on a server: a gateway's and the server's own may differ.

    All data of a call are of one server; only what a Bundle makes up to refer to stays.
    """
    named = entry.fullUrl if (entry.fullUrl or "").startswith("urn:") else None
    return Entry(named, entry.resource)


def _bundle_in(raw: Raw) -> _Slot | None:
    if b'"Bundle"' not in bytes(raw):
        return None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        slot = msgspec.json.decode(raw, type=_Slot)
        return slot if slot.resourceType == "Bundle" else None
    return None


def _newest_first(entries: Iterable[Entry]) -> bool:
    """Whether a page holds the newest results, so that what follows it is older."""
    days: list[date] = []
    for entry in entries:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = msgspec.json.decode(entry.resource, type=_Result).at
            moment = when(text) if text else None
            if moment:
                days.append(moment.last)
    return len(days) > 1 and all(newer >= older for newer, older in pairwise(days))


async def _fetch(
    call: Call,
    service: Service,
    missing: Mapping[str, str],
    first_pages: Mapping[str, list[Entry]],
    allowed: Iterable[str],
    open_server: OpenServer,
) -> dict[str, tuple[Entry, ...] | None]:
    """The missing keys' data; None where the first page that was sent has to do.

    What an answer can do without is left out where it cannot be had.
    """
    obstacle = _obstacle(call, allowed)
    fetched: dict[str, tuple[Entry, ...] | RequestError] = {}
    if missing and not obstacle and call.fhirServer and call.fhirAuthorization:
        server = open_server(call.fhirServer, call.fhirAuthorization.access_token)
        queries = service.queries(call.context.patientId)
        try:
            answers = await asyncio.gather(*(_attempt(server, queries[key]) for key in missing))
        finally:
            await server.aclose()
        fetched = dict(zip(missing, answers, strict=True))
    faults = []
    needless = {
        key for key in service.optional if not isinstance(fetched.get(key), tuple | WithheldError)
    }
    missing = {key: why for key, why in missing.items() if key not in needless}
    for key, why in missing.items():
        answer = fetched.get(key)
        does = isinstance(answer, tuple) or key in first_pages
        if not does or isinstance(answer, WithheldError):
            reason = answer.faults[0].text if isinstance(answer, RequestError) else obstacle
            text = f"The prefetch key '{key}' {why}, and nothing was fetched: {reason}"
            faults.append(Fault("required", text, f"prefetch.{key}"))
    if faults:
        raise RequestError(412, *faults)
    return {key: None if isinstance(f := fetched.get(key), RequestError) else f for key in missing}


async def _attempt(server: FhirServer, query: str) -> tuple[Entry, ...] | RequestError:
    try:
        return await server.fetch(query)
    except RequestError as error:
        return error


def _obstacle(call: Call, allowed: Iterable[str]) -> str:
    """Why the client's server is not read; empty where it is."""
    if call.fhirServer is None:
        return "there is no 'fhirServer' in the request."
    if call.fhirAuthorization is None:
        return "there is no 'fhirAuthorization' for the 'fhirServer'."
    if _base(call.fhirServer) not in {_base(url) for url in allowed}:
        return "the 'fhirServer' is not one that this service is set up to read."
    if call.fhirAuthorization.expires_in <= 0:
        return "the 'fhirAuthorization' has expired."
    if call.fhirAuthorization.patient not in {None, call.context.patientId}:
        return "the 'fhirAuthorization' is for another patient than the one in context."
    return ""


def _base(url: str) -> str:
    parts = urlsplit(url.rstrip("/"))
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower()).geturl()
