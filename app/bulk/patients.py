"""Lines to patients: the resources of an export, and which of them must be read together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from app.bulk.exports import Chunk, File, Unread, lines_of
from app.bulk.lines import BrokenLineError, Routed, route

_BROKEN = "not-fhir"


class Row(msgspec.Struct, array_like=True, gc=False):
    """A resource on its way to its patient, and the line it stands on."""

    key: str
    chunk: int
    line: int
    """Counted from 0 within the chunk."""
    resource: bytes
    name: str
    medication: str


class Problem(msgspec.Struct, array_like=True, gc=False):
    """A line, or something on it, that was not read: where, and why."""

    chunk: int
    line: int
    """Counted from 0 within the chunk."""
    code: str
    text: str
    severity: str = "error"


class Links(msgspec.Struct, array_like=True):
    """What of a chunk may have to be read together with other lines."""

    wants: list[tuple[str, str]] = []
    """A name, and the key that needs whatever lends under it."""
    joins: list[tuple[str, str]] = []
    """Two keys that belong together."""
    medications: list[Row] = []


@dataclass(slots=True)
class Lines:
    """What the lines of one chunk are, in their order."""

    rows: list[Row] = field(default_factory=list)
    lends: list[tuple[str, str]] = field(default_factory=list)
    """A name, and the key that lends under it."""
    problems: list[Problem] = field(default_factory=list)
    links: Links = field(default_factory=Links)
    lines: int = 0


def read_lines(file: File, number: int, chunk: Chunk, flush_bytes: int) -> Iterator[Lines]:
    """The resources of a chunk, in portions of about `flush_bytes`; what is broken as Problems."""
    portion, size, bare, count = Lines(), 0, set[bytes](), 0
    for count, line in enumerate(lines_of(file, chunk), 1):
        if isinstance(line, Unread):
            portion.problems.append(Problem(number, count - 1, _BROKEN, line.text))
            continue
        try:
            found = route(line)
        except BrokenLineError as error:
            if line.strip():
                portion.problems.append(_problem(number, count - 1, line, str(error)))
            continue
        if found is None or (found.bare and found.resource in bare):
            continue
        if found.bare:
            bare.add(found.resource)
        _add(portion, found, number, count - 1)
        size += len(found.resource)
        if size > flush_bytes:
            yield portion
            portion, size = Lines(), 0
    portion.lines = count
    yield portion


def _problem(chunk: int, line: int, text: bytes, why: str) -> Problem:
    cut = "" if text[-1:] == b"\n" else " The file ends in this line: it may have been cut short."
    return Problem(chunk, line, _BROKEN, why + cut)


def _add(portion: Lines, found: Routed, chunk: int, line: int) -> None:
    key = found.key or f"line {chunk}.{line}"
    row = Row(key, chunk, line, found.resource, found.name, found.medication)
    if found.name.startswith("Medication/"):
        portion.links.medications.append(row)
        return
    portion.rows.append(row)
    if found.lends:
        portion.lends += ((name, key) for name in found.lends)
    if found.wants:
        portion.links.wants += ((name, key) for name in found.wants)
    if found.joins:
        portion.links.joins += ((key, other) for other in found.joins)


def partition_of(key: str, partitions: int) -> int:
    """The partition of a patient; those who are named by no id are in one of their own."""
    return crc32(key.encode()) % partitions if key.startswith("Patient") else partitions


def together(
    wants: Iterable[tuple[str, str]],
    joins: Iterable[tuple[str, str]],
    lends: Iterable[tuple[str, str]],
) -> dict[str, str]:
    """Which key each key is to be read under; a key that stands for itself is left out.

    Few lines want anything, nearly all could lend: only `wants` and `joins` are held.
    """
    wanted: dict[str, list[str]] = {}
    for name, key in wants:
        wanted.setdefault(name, []).append(key)
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        path = []
        while (parent := parents.get(key, key)) != key:
            path.append(key)
            key = parent
        for passed in path:
            parents[passed] = key
        return key

    def join(one: str, other: str) -> None:
        # A patient's own key stands for what names no patient.
        low, high = sorted((root(one), root(other)), key=lambda k: (not k.startswith("Patient"), k))
        if low != high:
            parents[high] = low

    for one, other in joins:
        join(one, other)
    for name, key in lends:
        for wanting in wanted.get(name, ()):
            join(wanting, key)
    return {key: root(key) for key in list(parents) if root(key) != key}
