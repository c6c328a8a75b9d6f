"""Resources of a Bundle, each once, and where in the request each stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import get_args

import msgspec
from msgspec import UNSET, Raw, UnsetType

from app.domain.counts import Label, Remark, Severity
from app.domain.effort import spend
from app.fhir.bodies import (
    DECODE_BODY,
    DECODE_OUTCOME,
    DECODE_READ_BODY,
    DECODE_TYPED,
    Body,
    Entries,
    ReadBody,
)
from app.fhir.outcome import Fault, RequestError
from app.fhir.resources import (
    DECODE_IDENTIFIERS,
    DECODE_LABELLED,
    DECODE_META,
    DECODE_RESOURCE,
    Identifier,
    Medicated,
    Observation,
    Procedure,
    Readable,
    told_by,
)
from app.fhir.times import when
from app.reading.aside import short
from app.reading.subjects import server_of

WITHDRAWN = {"entered-in-error", "cancelled"}
_KINDS = {kind: str(kind.__struct_config__.tag) for kind in get_args(Readable)}
_READ_TYPES = set(_KINDS.values())
_BUNDLES_DEEP = 3


class Item(msgspec.Struct, frozen=True, gc=False):
    """A resource, and where in the request it stands."""

    resource: Readable
    place: str
    reference: str
    full_url: str | None
    server: str
    """The server its fullUrl names, where relative references lead."""
    container: Item | None = None


def collect(
    entries: Entries,
    place: str,
    found: list[Item],
    orphans: list[Remark],
    depth: int = 0,
) -> None:
    """Every resource of a Bundle, those in its Bundles and those contained as well."""
    spend(3 * len(entries))
    before, server = "", ""
    for index, entry in enumerate(entries):
        here = f"{place}.entry[{index}].resource"
        resource, url = entry.resource, entry.fullUrl
        if isinstance(resource, Raw):
            resource = _decoded(resource, here, found, orphans, depth)
        if resource is UNSET:
            continue
        reference = f"{_KINDS[type(resource)]}/{resource.id}" if resource.id else url or ""
        if url:
            # Nearly always the same type on the same server as the entry before.
            address = url.rpartition("/")[0]
            if address != before:
                before, server = address, server_of(url)
        item = Item(resource, here, reference, url, server if url else "")
        found.append(item)
        if resource.contained:
            _collect_contained(item, found, orphans, depth)


def _collect_contained(item: Item, found: list[Item], orphans: list[Remark], depth: int) -> None:
    """Nothing outside may refer to a contained resource; its container stands for it."""
    spend(3 * len(item.resource.contained))
    for number, raw in enumerate(item.resource.contained):
        within = f"{item.place}.contained[{number}]"
        inner = _decoded(raw, within, found, orphans, depth)
        if inner is not UNSET:
            found.append(Item(inner, within, item.reference, None, "", item))


def _decoded(
    raw: Raw, place: str, found: list[Item], orphans: list[Remark], depth: int
) -> Readable | UnsetType:
    """One resource; unset where we do not read it, collect what is in it, or set it aside."""
    if not raw:
        return UNSET
    try:
        return DECODE_RESOURCE(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words, path = told_by(error)
    kind = _type_name(raw)
    if kind == "Bundle":
        if depth >= _BUNDLES_DEEP:
            raise RequestError(
                400, Fault("structure", f"Bundles deeper than {_BUNDLES_DEEP} in Bundles.", place)
            )
        collect(decode_body(raw, place).entry, place, found, orphans, depth + 1)
    elif kind == "OperationOutcome":
        orphans.extend(_warnings(raw, place))
    elif kind is None or kind in _READ_TYPES:
        text = f"Not a FHIR {kind or 'resource'} ({words}): set aside."
        orphans.append(Remark("not-fhir", Severity.WARNING, text, (place + path,)))
    return UNSET


def _warnings(raw: Raw, place: str) -> Iterator[Remark]:
    """What a server says of data that it did not or could not give."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        for index, issue in enumerate(DECODE_OUTCOME(raw).issue):
            if issue.severity in {"warning", "error", "fatal"}:
                why = issue.said or short(issue.code) or "without a reason"
                text = f"The source of the data warns that some may be missing: {why}"
                yield Remark("source-warning", Severity.WARNING, text, (f"{place}.issue[{index}]",))


def decode_body(raw: bytes | Raw, place: str = "") -> Body | ReadBody:
    """A Bundle or Parameters, decoded; RequestError 400 where it is not one.

    `place` is its FHIRPath in the request; by default it is the request.
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return DECODE_READ_BODY(raw)
    # Some resource is malformed or is one that we do not read: one by one, then.
    try:
        return DECODE_BODY(raw)
    except msgspec.ValidationError as error:
        words, path = told_by(error)
        where = (place or _type_name(raw) or "") + path
        fault = Fault("structure", f"Not FHIR: {words}.", where)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = Fault("structure", f"Not JSON: {error}. Send a Bundle or Parameters as JSON.")
    except RecursionError:
        fault = Fault("structure", "Not FHIR: the JSON is nested too deep.")
    raise RequestError(400, fault)


def _type_name(raw: bytes | Raw) -> str | None:
    try:
        return DECODE_TYPED(raw).resourceType
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def each_once(items: list[Item], orphans: list[Remark]) -> tuple[list[Item], set[str]]:
    """Each resource once (rulings 2 and 7), and the places of those that contradict themselves.

    Of several versions (a history Bundle) the newest stands. One that was sent twice is one. One
    id with two statuses, and nothing that tells which is the later, is used in neither.
    """
    names = [(i.reference, i.full_url) for i in items if i.reference and i.container is None]
    if len(set(names)) == len(names):
        return items, set()
    named: dict[tuple[str, str | None], list[Item]] = defaultdict(list)
    for item in items:
        if item.reference and item.container is None:
            named[item.reference, item.full_url].append(item)
    passed_over: set[int] = set()
    contradicted: set[str] = set()
    for same in named.values():
        if len(same) > 1:
            passed_over |= {id(item) for item in _older(same, orphans)}
            standing = [item for item in same if id(item) not in passed_over]
            if _contradict(standing):
                contradicted |= {item.place for item in standing}
    return [item for item in items if id(item) not in passed_over], contradicted


def _older(items: Iterable[Item], orphans: list[Remark]) -> Iterator[Item]:
    """All but the newest version of one resource, and whatever of it was sent a second time."""
    versions = [(_version(item), item) for item in items]
    newest = max((version for version, _ in versions if version), default=None)
    kept: set[bytes] = set()
    for version, item in versions:
        written = msgspec.json.encode(item.resource)
        if version and version != newest:
            orphans.append(_older_version(item))
            yield item
        elif written in kept:
            yield item
        else:
            kept.add(written)


# A result is corrected after it was final, and final after it was preliminary.
_ORDERED = {"registered", "preliminary", "final", "amended", "corrected"}


def _contradict(versions: list[Item]) -> bool:
    """Whether one resource has statuses of which none is known to be the later."""
    statuses = {item.resource.status for item in versions}
    return len(statuses) > 1 and not statuses <= _ORDERED


def _version(item: Item) -> tuple[str, int, str] | None:
    """Orders versions: by their time, then by their number; None where neither is told."""
    try:
        meta = DECODE_META(item.resource.meta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if meta is None or not (meta.versionId or meta.lastUpdated):
        return None
    updated = when(meta.lastUpdated) if meta.lastUpdated else None
    version = meta.versionId or ""
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 19 else -1
    return str(updated.instant) if updated else "", number, version


def _older_version(item: Item) -> Remark:
    return Remark(
        "superseded", Severity.INFORMATION, "An older version of the same resource.", (item.place,)
    )


def labels_of(items: Iterable[Item]) -> tuple[Label, ...]:
    """The security labels of resources, each once."""
    found: dict[Label, None] = {}
    for item in items:
        meta = item.resource.meta
        if meta and b'"security"' in bytes(meta):
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                for one in DECODE_LABELLED(meta).security:
                    found[Label(one.system or "", one.code or "", one.display or "")] = None
    return tuple(found)


def identifiers_of(resource: Observation | Procedure | Medicated) -> Iterator[Identifier]:
    """Its identifiers that have a value; none where they are not FHIR."""
    raw = resource.identifier
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        for identifier in (DECODE_IDENTIFIERS(raw) if raw else None) or ():
            if identifier.value:
                yield identifier
