"""Lines to patients: the resources of an export, and which of them must be read together."""

from __future__ import annotations

import codecs
import gc
import os
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import IO, TypeVar
from zlib import crc32

import msgspec
import numpy as np

from app.bulk.exports import Chunk, File, Unread, lines_of, opened
from app.bulk.lines import (
    PART_NAMES,
    TOTAL_NAMES,
    BrokenLineError,
    Head,
    analyte_of,
    day_of,
    head_of,
    resource_of,
    route,
    subject_of,
)
from app.domain.counts import Count
from app.domain.derivation import PARTS, TOTALS
from app.fhir.maps import CodeMap

T = TypeVar("T")
_BROKEN = "not-fhir"
# What is kept of a plain result, and with the first of its kind its line in the end.
_FOUND_BYTES, _PILE_BYTES = 48, 3000
_WHERE_BYTES = 32
# Days that two civil dates of one moment never differ by, whatever their zones.
APART_DAYS = 3
BY_LINE = attrgetter("chunk", "line")
"""The order of the files, and of their lines."""


class Row(msgspec.Struct, array_like=True, gc=False):
    """A resource on its way to its patient, and the line it stands on."""

    key: str
    chunk: int
    line: int
    """Counted from 0 within the chunk."""
    resource: bytes
    name: str
    medication: str = ""
    subject: str = ""
    """Of a plain result that a newer one may make needless: its patient, as it names it."""
    analyte: str = ""
    day: int = 0


def id_of(row: Row) -> str:
    """The resource's id."""
    return row.name.partition("/")[2]


Where = tuple[int, int, int, int]
"""A result by its id's checksum, its chunk, its line there, and where in the file that begins."""


class Passed(msgspec.Struct, array_like=True, gc=False):
    """Plain results of one analyte that newer ones make needless; they can still be read."""

    key: str
    chunk: int
    """One of the chunks they are from; all of them are of one server."""
    subject: str
    analyte: str
    numbers: bytes
    """Where each stands."""

    def checksums(self) -> array[int]:
        """The checksum of each result's id."""
        return array("q", self.numbers)[::4]

    def places(self) -> list[Where]:
        """Where each stands."""
        numbers = array("q", self.numbers)
        return list(zip(numbers[::4], numbers[1::4], numbers[2::4], numbers[3::4], strict=True))


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


class Held(msgspec.Struct, array_like=True):
    """Some resources of one patient, or of many."""

    rows: list[Row] = []
    passed: list[Passed] = []

    def under(self, keys: Mapping[str, str]) -> Held:
        """Those of these keys, under the new keys they have."""
        found = Held(
            [row for row in self.rows if row.key in keys],
            [one for one in self.passed if one.key in keys],
        )
        for row in found.rows:
            row.key = keys[row.key]
        for one in found.passed:
            one.key = keys[one.key]
        return found

    def by(self, partition: Callable[[str], T]) -> dict[T, Held]:
        """By their keys' partition."""
        found: dict[T, Held] = defaultdict(Held)
        for row in self.rows:
            found[partition(row.key)].rows.append(row)
        for one in self.passed:
            found[partition(one.key)].passed.append(one)
        return found


def by_patient(some: Iterable[Held], moved: Collection[str]) -> dict[str, Held]:
    """By patient, without those that were moved to another key."""
    patients: dict[str, Held] = defaultdict(Held)
    for held in some:
        for row in held.rows:
            if row.key not in moved:
                patients[row.key].rows.append(row)
        for one in held.passed:
            if one.key not in moved:
                patients[one.key].passed.append(one)
    return patients


@dataclass(slots=True)
class Lines:
    """What some lines are."""

    held: Held = field(default_factory=Held)
    lends: list[tuple[str, str]] = field(default_factory=list)
    """A name, and the key that lends under it."""
    problems: list[Problem] = field(default_factory=list)
    links: Links = field(default_factory=Links)
    counts: dict[int, int] = field(default_factory=dict)
    """How many lines each chunk has that was read to its end."""


class _Reading:
    """Lines as they come. A plain result is looked at no closer than it takes to know it needless.

    Plain are dated results that stand by themselves, as nearly all do.
    """

    def __init__(
        self,
        files: Sequence[File],
        chunks: Mapping[int, Chunk],
        until: int,
        code_map: CodeMap | None,
    ) -> None:
        self._code_map = code_map
        self._files = files
        self._chunks = chunks
        self._until = until
        self._bare: set[bytes] = set()
        self._analytes: dict[bytes, bytes] = {}
        """By the code as it is written; empty where it is no blood count's."""
        self._piles: dict[bytes, int] = {}
        """A number for each patient's results of one analyte, by both as they are written."""
        self._named: list[tuple[str, str, str]] = []
        """The key, the subject and the analyte of each pile."""
        self._found = array("q")
        """Of each plain result its pile, its day, and where it stands: no more is ever wanted of
        most of them."""
        self._parts = False
        """Whether there are percentages: then older totals matter."""
        self._portion = Lines()

    def read(self, chunk: int, number: int, place: int | None, line: bytes) -> int:
        """Take a line in; by how many bytes what is held has grown.

        `place` is where in its file it begins; None where it cannot be read again.
        """
        try:
            head = head_of(line)
        except BrokenLineError as error:
            self._portion.problems.append(_problem(chunk, number, line, str(error)))
            return 0
        if head is None:
            return self._other(chunk, number, line)
        analyte = self._analytes.get(bytes(head.code))
        if analyte is None:
            analyte = self._analytes[bytes(head.code)] = analyte_of(head, self._code_map).encode()
            self._parts |= analyte.decode() in PART_NAMES
        text = head.effectiveDateTime or ""
        if not analyte:
            return self._other(chunk, number, line)
        same = bytes(head.subject) + analyte
        pile = self._piles.get(same)
        if pile is not None and place is not None:
            day = day_of(text[:10])
            if 0 < day <= self._until:
                checksum = _checksum(head.id or "")
                self._found.extend((pile, day, checksum, chunk, number, place))
                return _FOUND_BYTES
        return self._add_plain(head, analyte.decode(), chunk, number, place, line)

    def _add_plain(
        self, head: Head, analyte: str, chunk: int, number: int, place: int | None, line: bytes
    ) -> int:
        """A result that has no pile yet, or is none that a newer one may make needless."""
        day = day_of((head.effectiveDateTime or "")[:10])
        key, subject = subject_of(bytes(head.subject))
        if not day or not key:
            return self._other(chunk, number, line)
        passable = analyte not in PART_NAMES and day <= self._until
        if passable and place is not None and not (self._parts and analyte in TOTAL_NAMES):
            pile = self._piles[bytes(head.subject) + analyte.encode()] = len(self._named)
            self._named.append((key, subject, analyte))
            self._found.extend((pile, day, _checksum(head.id or ""), chunk, number, place))
            return _PILE_BYTES
        name = f"Observation/{head.id}"
        subject = subject if passable else ""
        self._portion.held.rows.append(
            Row(key, chunk, number, line, name, "", subject, analyte, day)
        )
        return len(line)

    def _other(self, chunk: int, number: int, line: bytes) -> int:
        """Anything but a plain result."""
        portion = self._portion
        try:
            resource = resource_of(line)
        except BrokenLineError as error:
            if line.strip():
                portion.problems.append(_problem(chunk, number, line, str(error)))
            return 0
        found = route(resource, self._code_map) if resource is not None else None
        if found is None or (found.bare and found.bare in self._bare):
            return 0
        if found.bare:
            self._bare.add(found.bare)
        key = found.key or f"line {chunk}.{number}"
        row = Row(key, chunk, number, found.bare or line, found.name, found.medication)
        if found.name.startswith("Medication/"):
            portion.links.medications.append(row)
            return len(row.resource)
        portion.held.rows.append(row)
        portion.lends += ((name, key) for name in found.lends)
        portion.links.wants += ((name, key) for name in found.wants)
        portion.links.joins += ((key, other) for other in found.joins)
        return len(row.resource)

    def unread(self, chunk: int, number: int, text: str) -> None:
        """Note a line that could not be had at all."""
        self._portion.problems.append(Problem(chunk, number, _BROKEN, text))

    def finished(self, chunk: int, count: int) -> None:
        """Note how many lines a chunk has."""
        self._portion.counts[chunk] = count

    def portion(self) -> Lines:
        """What has come together."""
        portion, self._portion = self._portion, Lines()
        found = np.frombuffer(self._found, np.int64).reshape(-1, 6)
        piles, days = found[:, 0], found[:, 1]
        newest = np.zeros(len(self._named), np.int64)
        np.maximum.at(newest, piles, days)
        late = days > newest[piles] - APART_DAYS
        portion.held.rows += self._late(found[late].tolist())
        passed = found[~late]
        passed = passed[np.argsort(passed[:, 0], kind="stable")]
        places = passed[:, 2:].tobytes()
        starts = [0, *(np.flatnonzero(np.diff(passed[:, 0])) + 1).tolist()] if len(passed) else []
        for start, end in pairwise([*starts, len(passed)]):
            key, subject, analyte = self._named[passed[start, 0]]
            some = places[start * _WHERE_BYTES : end * _WHERE_BYTES]
            portion.held.passed.append(Passed(key, int(passed[start, 3]), subject, analyte, some))
        self._piles, self._named, self._found = {}, [], array("q")
        return portion

    def _late(self, found: list[list[int]]) -> Iterator[Row]:
        """The rows of results that may be the newest."""
        again = read_again(
            self._files, self._chunks, [(one[2], one[3], one[4], one[5]) for one in found]
        )
        for (pile, day, _, chunk, number, _), (name, line) in zip(found, again, strict=True):
            key, subject, analyte = self._named[pile]
            yield Row(key, chunk, number, line, name, "", subject, analyte, day)


def read_lines(
    files: Sequence[File],
    chunks: Mapping[int, Chunk],
    flush_bytes: int,
    until: int = 0,
    advance: Callable[[int], object] = int,
    code_map: CodeMap | None = None,
) -> Iterator[Lines]:
    """The resources of chunks by their numbers, in portions of about `flush_bytes`.

    Plain results up to the day `until` are passed over where newer ones make them needless and
    they can be read again: not in a compressed file. `advance` hears how many bytes were read.
    """
    reading = _Reading(files, chunks, until, code_map)
    server, size = "", 0
    for number, chunk in chunks.items():
        file = files[chunk.file]
        if file.server != server:
            # The same name on two servers is two patients.
            yield reading.portion()
            server, size = file.server, 0
        count, seekable = 0, not file.compressed
        for place, line in lines_of(file, chunk):
            if isinstance(line, Unread):
                reading.unread(number, count, line.text)
            else:
                size += reading.read(number, count, place if seekable else None, line)
            count += 1
            if size > flush_bytes:
                yield reading.portion()
                size = 0
        reading.finished(number, count)
        advance(chunk.end - chunk.start)
    yield reading.portion()


def _problem(chunk: int, line: int, text: bytes, why: str) -> Problem:
    cut = "" if text[-1:] == b"\n" else " The file ends in this line: it may have been cut short."
    return Problem(chunk, line, _BROKEN, why + cut)


class Piles:
    """One patient's rows without those that newer ones make needless.

    A plain result is needless where a newer one of the same analyte and patient stands: the newest
    is judged. Whether one stands is known when it is read.
    """

    def __init__(self, rows: list[Row], passed: Sequence[Passed], servers: Sequence[str]) -> None:
        """`servers` are those of each chunk: the same name on two servers is two patients."""
        self.rows: list[Row] = []
        self._passed = passed
        self._early: list[Row] = []
        self._newest: list[list[Row]] = []
        """Of each pile that has lost some, the newest, of which one must stand."""
        parts = any(row.analyte in PART_NAMES for row in rows)
        piles: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            if row.subject and not (parts and row.analyte in TOTAL_NAMES):
                piles.setdefault((servers[row.chunk], row.subject, row.analyte), []).append(row)
            else:
                self.rows.append(row)
        thinned = {(servers[one.chunk], one.subject, one.analyte) for one in passed}
        for pile, some in piles.items():
            newest = max([row.day for row in some])
            late = [row for row in some if row.day > newest - APART_DAYS]
            self.rows += late
            if len(late) < len(some):
                self._early += (row for row in some if row.day <= newest - APART_DAYS)
                thinned.add(pile)
            if pile in thinned:
                self._newest.append([row for row in late if row.day == newest])
        self._totals = any(analyte in TOTAL_NAMES for _, _, analyte in thinned)

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return not (self._passed or self._early)

    def settled_by(self, counts: Collection[Count]) -> bool:
        """Whether what was left out cannot matter, now that `rows` were read to these counts."""
        # In panels, or under names that are not plain, there may be percentages all the same.
        if self._totals and any(count.analyte in PARTS - TOTALS for count in counts):
            return False
        # Another version of one that stands may be the newer version.
        named = {_checksum(id_of(row)) for row in self.rows}
        if not (
            all(named.isdisjoint(one.checksums()) for one in self._passed)
            and named.isdisjoint([_checksum(id_of(row)) for row in self._early])
        ):
            return False
        places = {source.place for count in counts for source in count.sources}
        standing = {
            id(row)
            for number, row in enumerate(self.rows)
            if f"Bundle.entry[{number}].resource" in places
        }
        return all(any(id(row) in standing for row in some) for some in self._newest)


def _checksum(text: str) -> int:
    return crc32(text.encode())


def read_again(
    files: Sequence[File], chunks: Sequence[Chunk] | Mapping[int, Chunk], places: Iterable[Where]
) -> Iterator[tuple[str, bytes]]:
    """The name and the line of each plain result, best asked for in the order of the files."""
    with ExitStack() as stack:
        raws: dict[File, IO[bytes]] = {}
        for _, chunk, _, place in places:
            file = files[chunks[chunk].file]
            if file not in raws:
                raws[file] = stack.enter_context(opened(file))
            line = _line_at(raws[file].fileno(), place)
            head = head_of(line)
            yield f"Observation/{head.id}" if head else "", line


def _line_at(file: int, place: int) -> bytes:
    size = 4096
    while True:
        block = os.pread(file, size, place)
        end = block.find(b"\n") + 1
        if end or len(block) < size:
            return block[: end or None].removeprefix(codecs.BOM_UTF8)
        size *= 4


@contextmanager
def no_collection() -> Iterator[None]:
    """Without looking for garbage in cycles: there is none, and the look takes most of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key."""
    return _checksum(key) % partitions


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
