"""What each line of a chunk is, and where it stands: the rows that patients are made of."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from enum import IntEnum
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.bulk.files import Chunk, File, Unread, blocks_of
from app.bulk.lines import (
    NO_COUNT,
    TO_BE_READ,
    BrokenLineError,
    Head,
    analyte_of,
    day_of,
    head_of,
    heads_of,
    resource_of,
    subject_of,
)
from app.bulk.routing import OBSERVATION, route
from app.fhir.maps import CodeMap

_A_DAY = len("2024-03-05")
_CUT = " The file ends in this line: it may have been cut short."
_NEW_LINE, _BRACE = b"\n{"


class Kind(IntEnum):
    """What a row says of a line."""

    PLAIN = 0
    """A result that a newer one may make needless: dated, standing by itself, as nearly all do."""
    READ = 1
    """Anything else of a patient."""
    BARE = 2
    """Only that there is such a patient."""
    MEDICATION = 3
    WANTS = 4
    """`key` needs whatever lends under `name`."""
    LENDS = 5
    JOINS = 6
    """`key` and `name` belong together."""
    BROKEN = 7
    """It cannot be read: `name` says why."""
    LINES = 8
    """How many lines the chunk has."""


ROWS = pa.schema(
    {
        "kind": pa.int64(),
        "key": pa.string(),  # the patient; where the resource names none, the resource itself
        "name": pa.string(),  # how others refer to it; of PLAIN only OBSERVATION
        "subject": pa.string(),  # of PLAIN, the patient as it names it
        "analyte": pa.string(),  # of PLAIN
        "medication": pa.string(),  # the Medication it refers to
        "bare": pa.string(),  # all that matters of it, where that is little
        "chunk": pa.int64(),
        "line": pa.int64(),  # counted from 0 in its chunk
        "start": pa.int64(),  # where in its file the line begins
        "length": pa.int64(),
        "day": pa.int64(),  # of PLAIN, an ordinal
        "id": pa.int64(),  # a checksum, and one of its identifiers
        "identifier": pa.int64(),
    }
)
_PLAIN_COLUMNS = 6
"""Of a plain result: the numbers of its patient and analyte, its line, day, id, identifier."""
_NO_COUNT, _TO_BE_READ = -1, -2
_NEW_LINE, _BRACE = b"\n{"


class _Scan:
    """The lines of a chunk. A plain result is looked at no closer than it takes to place it."""

    def __init__(self, chunk: int, until: int, code_map: CodeMap | None) -> None:
        self._chunk = chunk
        self._until = until
        self._code_map = code_map
        self._codes: dict[bytes, int] = {}
        """By the code as it is written the number of its analyte; below 0 where it is no count's,
        or more must be read."""
        self._analytes: list[str] = []
        self._subjects: dict[bytes, int] = {}
        """By the subject as it is written the number of its patient; below 0 without one."""
        self._patients: list[tuple[str, str]] = []
        """The key, and the name."""
        self._days: dict[str, int] = {}
        self._bare: set[object] = set()
        self._plain = array("q")
        """Of each plain result _PLAIN_COLUMNS."""
        self._others: list[tuple[object, ...]] = []
        """Every other row."""
        self._count = 0
        self._starts: list[npt.NDArray[np.int64]] = []
        self._ends: list[npt.NDArray[np.int64]] = []
        """Where in the file lines begin and end, block by block."""

    def read(self, start: int, lines: bytes) -> None:
        """Take the next lines in, which begin there."""
        text = np.frombuffer(lines, np.uint8)
        ends = np.flatnonzero(text == _NEW_LINE) + 1
        if lines[-1:] != b"\n":
            ends = np.append(ends, len(lines))
        starts = np.concatenate(([0], ends[:-1]))
        heads: Sequence[Head | None] | None = heads_of(lines)
        # Two objects on one line and none on another must not be taken for one on each.
        if heads is None or len(heads) != len(ends) or not (text[starts] == _BRACE).all():
            heads = [None] * len(ends)
        first = self._count
        alone = [
            index
            for index, head in enumerate(heads)
            if head is None or not self._is_plain(head, first + index)
        ]
        for index in alone:
            begin = int(starts[index])
            line = lines[begin : ends[index]]
            self._alone(heads[index], first + index, start + begin, line)
        self._count += len(ends)
        self._starts.append(starts + start)
        self._ends.append(ends + start)

    def skip(self, why: str) -> None:
        """Take in that the next line cannot be read."""
        self.note(Kind.BROKEN, why, self._count)
        self._count += 1
        for some in (self._starts, self._ends):
            some.append(np.zeros(1, np.int64))

    def _alone(self, head: Head | None, number: int, start: int, line: bytes) -> None:
        """Take a line in that could not be placed by its head, or not beside the others'."""
        try:
            head = head or head_of(line)
            if head is None or not self._is_plain(head, number):
                self._other(head, number, start, line)
        except BrokenLineError as error:
            if line.strip():
                told = str(error) if line[-1:] == b"\n" else f"{error}{_CUT}"
                self.note(Kind.BROKEN, told, number)

    def note(self, kind: Kind, name: str, number: int, key: str = "") -> None:
        """A row that is no line of a patient."""
        where = (self._chunk, number, 0, 0, 0, 0, 0)
        self._others.append((int(kind), key, name, "", "", "", "", *where))

    def _is_plain(self, head: Head, number: int) -> bool:
        """Whether it is a plain result; its row is then kept."""
        if not head.stands_by_itself():
            return False
        code, subject = bytes(head.code), bytes(head.subject)
        analyte = self._codes.get(code)
        if analyte is None:
            analyte = self._codes[code] = self._analyte_number(head)
        if analyte < 0:
            return analyte == _NO_COUNT and subject in self._bare
        patient = self._subjects.get(subject)
        if patient is None:
            patient = self._subjects[subject] = self._patient_number(subject)
        text = (head.effectiveDateTime or "")[:_A_DAY]
        day = self._days.get(text)
        if day is None:
            day = self._days[text] = day_of(text)
        if patient < 0 or not 0 < day <= self._until:
            return False
        identity = crc32((head.id or "").encode())
        identifier = crc32(head.identifier) if head.identifier else 0
        self._plain.extend((patient, analyte, number, day, identity, identifier))
        return True

    def _analyte_number(self, head: Head) -> int:
        analyte = analyte_of(head, self._code_map)
        if analyte in {NO_COUNT, TO_BE_READ}:
            return _NO_COUNT if analyte == NO_COUNT else _TO_BE_READ
        self._analytes.append(analyte)
        return len(self._analytes) - 1

    def _patient_number(self, subject: bytes) -> int:
        found = subject_of(subject)
        if not found[0]:
            return -1
        self._patients.append(found)
        return len(self._patients) - 1

    def _other(self, head: Head | None, number: int, start: int, line: bytes) -> None:
        """Anything but a plain result."""
        resource = resource_of(line)
        head = head if head and head.stands_by_itself() else None
        found = route(resource, self._code_map) if resource is not None else None
        if found is None:
            return
        kind, bare = Kind.READ, found.bare.decode()
        if bare:
            kind = Kind.BARE
            if head:
                self._bare.add(bytes(head.subject))
            if bare in self._bare:
                return
            self._bare.add(bare)
        if found.name.startswith("Medication/"):
            kind = Kind.MEDICATION
        key = found.key or f"line {self._chunk}.{number}"
        identity = head.id if head else found.name.removeprefix(OBSERVATION)
        checksum = crc32(identity.encode()) if identity and not bare else 0
        identifier = crc32(head.identifier) if head and head.identifier else 0
        where = (self._chunk, number, start, len(line), 0, checksum, identifier)
        self._others.append((int(kind), key, found.name, "", "", found.medication, bare, *where))
        for linked, names in (
            (Kind.LENDS, found.lends),
            (Kind.WANTS, found.wants),
            (Kind.JOINS, found.joins),
        ):
            for name in names:
                self.note(linked, name, number, key)

    def tables(self) -> Iterator[pa.Table]:
        """What has come together."""
        self.note(Kind.LINES, "", self._count)
        columns = zip(*self._others, strict=True)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, ROWS, strict=True)]
        yield pa.table(arrays, schema=ROWS)
        if not self._plain:
            return
        found = np.frombuffer(self._plain, np.int64).reshape(-1, _PLAIN_COLUMNS)
        patient, analyte, line, day, identity, identifier = (
            np.ascontiguousarray(column) for column in found.T
        )
        start = np.concatenate(self._starts)[line]
        length = np.concatenate(self._ends)[line] - start
        keys, subjects = zip(*self._patients, strict=True)

        def same(value: int | str) -> pa.Array:
            return pa.repeat(pa.scalar(value), len(found))

        columns_by_name = {
            "kind": same(int(Kind.PLAIN)),
            "key": pa.array(keys).take(pa.array(patient)),
            "name": same(OBSERVATION),
            "subject": pa.array(subjects).take(pa.array(patient)),
            "analyte": pa.array(self._analytes).take(pa.array(analyte)),
            "medication": same(""),
            "bare": same(""),
            "chunk": same(self._chunk),
            "line": line,
            "start": start,
            "length": length,
            "day": day,
            "id": identity,
            "identifier": identifier,
        }
        yield pa.table(columns_by_name, schema=ROWS)


def scan(
    file: File, chunk: Chunk, number: int, until: int, code_map: CodeMap | None
) -> Iterator[pa.Table]:
    """What the lines of a chunk are: tables of ROWS. Raises ChangedError.

    Results up to the day `until` (an ordinal) are plain.
    """
    found = _Scan(number, until, code_map)
    for start, lines in blocks_of(file, chunk):
        if isinstance(lines, Unread):
            found.skip(lines.text)
        else:
            found.read(start, lines)
    yield from found.tables()
