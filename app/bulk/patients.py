"""Lines to patients: the query that brings each patient's together.

It is the same for DuckDB and for Spark, over what `scan` says of each line. It moves no line: only
where each stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from app.bulk.files import Chunk, File
from app.bulk.scan import Kind
from app.domain.choosing import APART_DAYS
from app.domain.needless import INFORMS, SHARES


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
