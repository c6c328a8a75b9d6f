"""Lines to patients: what each line is, and the query that brings a patient's together.

The query is the same for DuckDB and for Spark. It moves no line: only where each stands.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from zlib import crc32

import numpy as np
import pyarrow as pa

from app.bulk.files import Chunk, File, Unread, lines_of
from app.bulk.lines import (
    NO_COUNT,
    TO_BE_READ,
    BrokenLineError,
    Head,
    analyte_of,
    day_of,
    head_of,
    resource_of,
    route,
    subject_of,
)
from app.domain.choosing import APART_DAYS
from app.domain.needless import INFORMS, SHARES
from app.fhir.maps import CodeMap

OBSERVATION = "Observation/"
_A_DAY = len("2024-03-05")
_CUT = " The file ends in this line: it may have been cut short."


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
_TEXTS = 7
_NO_COUNT, _TO_BE_READ = -1, -2


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
        """Of each plain result the numbers of its patient, its analyte, and its row."""
        self._others: list[tuple[object, ...]] = []
        """Every other row."""

    def read(self, number: int, start: int, line: bytes) -> None:
        """Take a line in."""
        try:
            head = head_of(line)
            if head is None or not self._is_plain(head, number, start, len(line)):
                self._other(head, number, start, line)
        except BrokenLineError as error:
            if line.strip():
                self.note(
                    Kind.BROKEN, str(error) if line[-1:] == b"\n" else f"{error}{_CUT}", number
                )

    def note(self, kind: Kind, name: str, number: int, key: str = "") -> None:
        """A row that is no line of a patient."""
        where = (self._chunk, number, 0, 0, 0, 0, 0)
        self._others.append((int(kind), key, name, "", "", "", "", *where))

    def _is_plain(self, head: Head, number: int, start: int, length: int) -> bool:
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
        self._plain.extend(
            (patient, analyte, self._chunk, number, start, length, day, identity, identifier)
        )
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
        found = route(resource, self._code_map) if resource is not None else None
        if found is None:
            return
        kind, bare = Kind.READ, found.bare.decode()
        if bare:
            kind = Kind.BARE
            if head is not None:
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
        columns = zip(*self._others, strict=True)
        arrays = [pa.array(c, field.type) for c, field in zip(columns, ROWS, strict=True)]
        yield pa.table(arrays, schema=ROWS)
        found = np.frombuffer(self._plain, np.int64).reshape(-1, len(ROWS) - _TEXTS + 2)
        keys, subjects = zip(*self._patients, strict=True) if self._patients else ((), ())
        patient, analyte = pa.array(found[:, 0]), pa.array(found[:, 1])
        same = [pa.repeat(pa.scalar(one), len(found)) for one in (int(Kind.PLAIN), OBSERVATION, "")]
        yield pa.table(
            [
                same[0],
                pa.array(keys, pa.string()).take(patient),
                same[1],
                pa.array(subjects, pa.string()).take(patient),
                pa.array(self._analytes, pa.string()).take(analyte),
                same[2],
                same[2],
                *(pa.array(found[:, n]) for n in range(2, found.shape[1])),
            ],
            schema=ROWS,
        )


def scan(
    file: File, chunk: Chunk, number: int, until: int, code_map: CodeMap | None
) -> Iterator[pa.Table]:
    """What the lines of a chunk are: tables of ROWS. Raises ChangedError.

    Results up to the day `until` (an ordinal) are plain.
    """
    found = _Scan(number, until, code_map)
    count = 0
    for start, line in lines_of(file, chunk):
        if isinstance(line, Unread):
            found.note(Kind.BROKEN, line.text, count)
        else:
            found.read(count, start, line)
        count += 1
    found.note(Kind.LINES, "", count)
    yield from found.tables()


def pieces(files: Sequence[File], chunks: Sequence[Chunk], lines: Mapping[int, int]) -> pa.Table:
    """The view `pieces`: each chunk's file and server, and the lines before it in its file."""
    before: dict[int, int] = {}
    rows = []
    for number, chunk in enumerate(chunks):
        rows.append((number, chunk.file, files[chunk.file].server, before.get(chunk.file, 0)))
        before[chunk.file] = before.get(chunk.file, 0) + lines.get(number, 0)
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    return pa.table(
        {
            "chunk": pa.array(columns[0], pa.int64()),
            "file": pa.array(columns[1], pa.int64()),
            "server": pa.array(columns[2], pa.string()),
            "before": pa.array(columns[3], pa.int64()),
        }
    )


def moves(pairs: Iterable[tuple[str, str]]) -> pa.Table:
    """The view `moves`: from keys that belong together to the one they are all read under."""
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        path = []
        while (parent := parents.get(key, key)) != key:
            path.append(key)
            key = parent
        for passed in path:
            parents[passed] = key
        return key

    for pair in pairs:
        # A patient's own key stands for what names no patient.
        low, high = sorted(map(root, pair), key=lambda k: (not k.startswith("Patient"), k))
        if low != high:
            parents[high] = low
    keys = [key for key in list(parents) if root(key) != key]
    roots = [root(key) for key in keys]
    return pa.table({"key": pa.array(keys, pa.string()), "root": pa.array(roots, pa.string())})


def informs() -> pa.Table:
    """The view `informs`: which count each result is of, or is a part of."""
    return pa.table(
        {
            "analyte": [analyte.name for analyte in INFORMS],
            "target": [analyte.name for analyte in INFORMS.values()],
            "share": [analyte in SHARES for analyte in INFORMS],
        }
    )


# Queries for both engines, over the views `rows`, `pieces`, `moves` and `informs`

PAIRS = f"""
SELECT key, name FROM rows WHERE kind = {Kind.JOINS:d}
UNION ALL
SELECT w.key, l.key FROM rows w JOIN rows l ON l.name = w.name
WHERE w.kind = {Kind.WANTS:d} AND l.kind = {Kind.LENDS:d}
"""  # noqa: S608 made of constants
"""Keys that must be read together."""

LINES = f"SELECT chunk, line FROM rows WHERE kind = {Kind.LINES:d}"  # noqa: S608 as above

_PLACED = """
SELECT r.kind, coalesce(m.root, r.key) AS patient, r.name, p.file, p.server,
       p.before + r.line + 1 AS line, r.start, r.length, r.subject, r.analyte, r.day, r.id,
       r.identifier, r.medication, r.bare
FROM rows r JOIN pieces p ON p.chunk = r.chunk LEFT JOIN moves m ON m.key = r.key
"""

BROKEN = f"SELECT file, line, 'not-fhir', name FROM ({_PLACED}) WHERE kind = {Kind.BROKEN:d}"  # noqa: S608
"""Problems."""

MEDICATIONS = f"SELECT * FROM ({_PLACED}) WHERE kind = {Kind.MEDICATION:d}"  # noqa: S608

_SAME = "a.patient = {0}.patient AND a.server = {0}.server AND a.subject = {0}.subject"
PATIENTS = f"""
WITH placed AS (
    SELECT * FROM ({_PLACED}) WHERE kind <= {Kind.BARE:d}
), newest AS (
    SELECT patient, server, subject, analyte, max(day) AS day FROM placed
    WHERE kind = {Kind.PLAIN:d} GROUP BY patient, server, subject, analyte
), asked AS (
    SELECT n.*, i.target, i.share FROM newest n JOIN informs i ON i.analyte = n.analyte
), shares AS (
    SELECT DISTINCT patient, server, subject, target FROM asked WHERE share
), since AS (
    SELECT a.patient, a.server, a.subject, a.analyte, a.target,
           CASE WHEN d.day IS NOT NULL THEN least(a.day, d.day) - {APART_DAYS}
                WHEN s.target IS NULL THEN a.day - {APART_DAYS} ELSE 0 END AS day
    FROM asked a
    LEFT JOIN newest d ON {_SAME.format("d")} AND a.target = d.analyte
    LEFT JOIN shares s ON {_SAME.format("s")} AND a.target = s.target
), told AS (
    SELECT a.*, s.target, a.kind <> {Kind.PLAIN:d} OR a.day >= s.day AS kept
    FROM placed a LEFT JOIN since s ON {_SAME.format("s")} AND a.analyte = s.analyte
), versions AS (
    SELECT patient FROM told WHERE id <> 0
    GROUP BY patient, id HAVING bool_or(kept) AND NOT bool_and(kept)
    UNION
    SELECT patient FROM told WHERE identifier <> 0
    GROUP BY patient, identifier HAVING bool_or(kept) AND NOT bool_and(kept)
)
SELECT t.patient, t.name, t.file, t.line, t.start, t.length, t.target, t.day, t.medication, t.bare,
       t.kept OR v.patient IS NOT NULL AS kept
FROM told t LEFT JOIN versions v ON v.patient = t.patient
"""  # noqa: S608 as above
"""Each line of each patient, and whether it is kept: `app.domain.needless` says why not.

Another version of a result that is kept may be the newer one: then everything is kept.
"""
