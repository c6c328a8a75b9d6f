"""Lines to patients: the resources of an export, and which of them must be read together."""

from __future__ import annotations

import codecs
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from zlib import crc32

import msgspec

from app.bulk.exports import LONGEST_LINE, Chunk, File, Unread, lines_of
from app.bulk.lines import (
    PART_NAMES,
    TOTAL_NAMES,
    BrokenLineError,
    Plain,
    Routed,
    plain,
    resource_of,
    route,
)
from app.domain.counts import Count
from app.domain.derivation import PARTS, TOTALS

T = TypeVar("T")
_BROKEN = "not-fhir"
# Days that two civil dates of one moment never differ by, whatever their zones.
APART_DAYS = 3


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


class Passed(msgspec.Struct, array_like=True, gc=False):
    """Plain results of one analyte that newer ones make needless; they can still be read."""

    key: str
    chunk: int
    subject: str
    analyte: str
    names: list[str]
    lines: list[int]
    places: list[int]
    """Where in its file each line begins."""


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
    """What the lines of one chunk are."""

    held: Held = field(default_factory=Held)
    lends: list[tuple[str, str]] = field(default_factory=list)
    """A name, and the key that lends under it."""
    problems: list[Problem] = field(default_factory=list)
    links: Links = field(default_factory=Links)
    lines: int = 0


class _Pile:
    """One patient's plain results of one analyte: those that may be the newest, and the others."""

    __slots__ = ("newest", "passed", "rows")

    def __init__(self) -> None:
        self.newest = 0
        self.rows: list[tuple[Row, int]] = []
        """Each with where in its file its line begins."""
        self.passed: list[tuple[str, int, int]] = []

    def add(self, row: Row, place: int) -> int:
        """Take in a row that may be the newest; by how many bytes the rows held have grown."""
        grown = len(row.resource)
        if row.day > self.newest:
            self.newest = row.day
            oldest = row.day - APART_DAYS
            older = [one for one in self.rows if one[0].day <= oldest]
            if older:
                self.rows = [one for one in self.rows if one[0].day > oldest]
                self.passed += ((one.name, one.line, where) for one, where in older)
                grown -= sum([len(one.resource) for one, _ in older])
        self.rows.append((row, place))
        return grown


class _Reading:
    """The lines of one chunk as they come."""

    def __init__(self, chunk: int, until: int, passing: bool) -> None:
        self._chunk = chunk
        self._until = until
        self._passing = passing
        self._bare: set[bytes] = set()
        self._piles: dict[tuple[str, str], _Pile] = {}
        self._parts = False
        """Whether there are percentages: then older totals matter."""
        self._portion = Lines()

    def read(self, number: int, place: int, line: bytes | Unread) -> int:
        """Take a line in; by how many bytes what is held has grown."""
        if isinstance(line, Unread):
            self._portion.problems.append(Problem(self._chunk, number, _BROKEN, line.text))
            return 0
        try:
            found = resource_of(line)
        except BrokenLineError as error:
            if line.strip():
                self._portion.problems.append(_problem(self._chunk, number, line, str(error)))
            return 0
        if found is None:
            return 0
        known = plain(found)
        if known is not None:
            return self._add_plain(known, number, place, line)
        routed = route(found)
        return 0 if routed is None else self._add(routed, number, line)

    def portion(self) -> Lines:
        """What has come together."""
        portion, self._portion = self._portion, Lines()
        for (subject, analyte), pile in self._piles.items():
            portion.held.rows += (row for row, _ in pile.rows)
            if pile.passed:
                names, lines, places = map(list, zip(*pile.passed, strict=True))
                key = pile.rows[0][0].key
                portion.held.passed.append(
                    Passed(key, self._chunk, subject, analyte, names, lines, places)
                )
        self._piles = {}
        return portion

    def _add_plain(self, known: Plain, number: int, place: int, line: bytes) -> int:
        key, name, subject, analyte, day = known
        part = analyte in PART_NAMES
        if part or day > self._until:
            subject = ""
        self._parts |= part
        pile = None
        if subject and self._passing and not (self._parts and analyte in TOTAL_NAMES):
            pile = self._piles.get((subject, analyte))
            if pile is None:
                pile = self._piles[subject, analyte] = _Pile()
            elif day <= pile.newest - APART_DAYS:
                pile.passed.append((name, number, place))
                return 0
        row = Row(key, self._chunk, number, line, name, "", subject, analyte, day)
        if pile is not None:
            return pile.add(row, place)
        self._portion.held.rows.append(row)
        return len(line)

    def _add(self, found: Routed, number: int, line: bytes) -> int:
        portion, chunk = self._portion, self._chunk
        if found.bare:
            if found.bare in self._bare:
                return 0
            self._bare.add(found.bare)
        key = found.key or f"line {chunk}.{number}"
        row = Row(key, chunk, number, found.bare or line, found.name, found.medication)
        if found.name.startswith("Medication/"):
            portion.links.medications.append(row)
            return len(line)
        portion.held.rows.append(row)
        portion.lends += ((name, key) for name in found.lends)
        portion.links.wants += ((name, key) for name in found.wants)
        portion.links.joins += ((key, other) for other in found.joins)
        return len(row.resource)


def read_lines(
    file: File, number: int, chunk: Chunk, flush_bytes: int, until: int = 0
) -> Iterator[Lines]:
    """The resources of a chunk, in portions of about `flush_bytes`; what is broken as Problems.

    Plain results up to the day `until` are passed over where newer ones make them needless and
    they can be read again: not in a compressed file.
    """
    reading = _Reading(number, until, not file.compressed)
    count = size = 0
    for place, line in lines_of(file, chunk):
        size += reading.read(count, place, line)
        count += 1
        if size > flush_bytes:
            yield reading.portion()
            size = 0
    last = reading.portion()
    last.lines = count
    yield last


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
        self._newest: list[list[Row]] = []
        """Of each pile that has lost some, the newest, of which one must stand."""
        self._needless = [name for one in passed for name in one.names]
        parts = any(row.analyte in PART_NAMES for row in rows)
        self._totals = any(one.analyte in TOTAL_NAMES for one in passed)
        thinned = {(servers[one.chunk], one.subject, one.analyte) for one in passed}
        piles: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            if row.subject and not (parts and row.analyte in TOTAL_NAMES):
                piles.setdefault((servers[row.chunk], row.subject, row.analyte), []).append(row)
            else:
                self.rows.append(row)
        for pile, some in piles.items():
            newest = max([row.day for row in some])
            late = [row for row in some if row.day > newest - APART_DAYS]
            self.rows += late
            if len(late) < len(some):
                self._needless += (row.name for row in some if row.day <= newest - APART_DAYS)
                self._totals |= pile[2] in TOTAL_NAMES
            elif pile not in thinned:
                continue
            self._newest.append([row for row in late if row.day == newest])

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return not self._needless

    def settled_by(self, counts: Collection[Count]) -> bool:
        """Whether what was left out cannot matter, now that `rows` were read to these counts."""
        # In panels, or under names that are not plain, there may be percentages all the same.
        if self._totals and any(count.analyte in PARTS - TOTALS for count in counts):
            return False
        # Another version of one that stands may be the newer version.
        if not {row.name for row in self.rows}.isdisjoint(self._needless):
            return False
        places = {source.place for count in counts for source in count.sources}
        standing = {
            (row.chunk, row.line)
            for number, row in enumerate(self.rows)
            if f"Bundle.entry[{number}].resource" in places
        }
        return all(any((r.chunk, r.line) in standing for r in some) for some in self._newest)


def read_again(
    files: Sequence[File], chunks: Sequence[Chunk], passed: Iterable[Passed]
) -> list[Row]:
    """The results that were passed over."""
    rows = []
    for one in passed:
        with open(files[chunks[one.chunk].file].path, "rb") as file:
            for name, line, place in zip(one.names, one.lines, one.places, strict=True):
                file.seek(place)
                resource = file.readline(LONGEST_LINE).removeprefix(codecs.BOM_UTF8)
                rows.append(Row(one.key, one.chunk, line, resource, name))
    return rows


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
