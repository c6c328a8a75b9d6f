"""An export on Apache Spark: the same functions inside `mapInArrow`, the same files come out.

    spark-submit --master spark://HOST:7077 .../app/bulk/spark.py EXPORT --out DIR

Every worker needs this package, and the export under the same path. Lines are read as bytes, by
ranges of the files: a string column fails the whole job on bad UTF-8.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyspark import Broadcast, StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql

from app.bulk.exports import Chunk, ExportError, File, chunks_of, find_files
from app.bulk.judging import Answered, Judge, Places, Question, Summary, all_of
from app.bulk.patients import Problem, Row, read_lines, together
from app.bulk.results import has_pyarrow, write_parquet, write_reports, write_results
from app.settings import Settings

Batches = Iterator[pa.RecordBatch]
_FLUSH_BYTES = 8 * 1024 * 1024
_TASK_BYTES = 64 * 1024 * 1024
_ANSWERS_AT_ONCE = 500
_ENCODE = msgspec.msgpack.Encoder().encode
_ROW = msgspec.msgpack.Decoder(Row).decode
_PROBLEM = msgspec.msgpack.Decoder(Problem).decode
_ANSWERED = msgspec.msgpack.Decoder(Answered).decode
_SUMMARY = msgspec.msgpack.Decoder(Summary).decode
# What a line gives: rows by patient, what links rows, what is broken, how many lines there are.
_FOUND = "kind string, key string, other string, chunk int, line int, packed binary"
_JUDGED = "kind string, patient string, chunk int, line int, packed binary"
_KEPT = StorageLevel.DISK_ONLY


def assess(spark: SparkSession, exports: Sequence[Path], question: Question, out: Path) -> Summary:
    """Assess exports into the directory `out`; what they came to.

    Raises ExportError for an export that cannot be read, RequestError for a bad parameter.
    """
    question.request()
    files, _ = find_files(exports)
    chunks = chunks_of(files)
    out.mkdir(parents=True, exist_ok=True)
    found = _found(spark, files, chunks)
    lines = [0] * len(chunks)
    for row in found.where("kind = 'lines'").collect():
        lines[row.chunk] = row.line
    place = Places([Path(f.path).name for f in files], [c.file for c in chunks], lines)
    servers = [files[chunk.file].server for chunk in chunks]
    judged = _judged(found, question, servers, place, sum(file.size for file in files))
    write_results(
        out,
        question,
        _collected(judged.where("kind = 'answer'").orderBy("patient"), _ANSWERED),
        _collected(
            judged.where("kind = 'problem'")
            .unionByName(found.where("kind = 'problem'").select(*_columns(_JUDGED, found)))
            .orderBy("chunk", "line"),
            _PROBLEM,
        ),
        place,
    )
    if has_pyarrow():
        write_parquet(out)
    summary = all_of(_collected(judged.where("kind = 'summary'"), _SUMMARY))
    write_reports(out, question, summary)
    found.unpersist()
    judged.unpersist()
    return summary


def _columns(schema: str, frame: DataFrame) -> list[Any]:
    names = [column.split()[0] for column in schema.split(", ")]
    return [sql.col(n) if n in frame.columns else sql.lit(None).alias(n) for n in names]


def _collected(frame: DataFrame, decode: Callable[[bytes], Any]) -> Iterator[Any]:
    for row in frame.select("packed").toLocalIterator(prefetchPartitions=True):
        yield decode(bytes(row.packed))


# Functions of the module, not closures: those Spark would pickle with all that they refer to.


def _found(spark: SparkSession, files: Sequence[File], chunks: Sequence[Chunk]) -> DataFrame:
    """What every line gives."""
    numbers = spark.range(len(chunks), numPartitions=max(len(chunks), 1))
    return numbers.mapInArrow(partial(_read, files, chunks), _FOUND).persist(_KEPT)


def _read(files: Sequence[File], chunks: Sequence[Chunk], batches: Batches) -> Batches:
    for batch in batches:
        for number in batch.column(0).to_pylist():
            yield from _read_chunk(number, chunks[number], files)


def _read_chunk(number: int, chunk: Chunk, files: Sequence[File]) -> Batches:
    for portion in read_lines(files[chunk.file], number, chunk, _FLUSH_BYTES):
        links = portion.links
        yield _batch(
            _FOUND,
            [
                *(("row", r.key, None, r.chunk, r.line, _ENCODE(r)) for r in portion.rows),
                *(("lend", name, key, None, None, None) for name, key in portion.lends),
                *(("want", name, key, None, None, None) for name, key in links.wants),
                *(("join", one, other, None, None, None) for one, other in links.joins),
                *(("medication", None, None, r.chunk, r.line, _ENCODE(r))
                  for r in links.medications),
                *(("problem", None, None, p.chunk, p.line, _ENCODE(p)) for p in portion.problems),
                ("lines", None, None, number, portion.lines, None),
            ],
        )  # fmt: skip


def _batch(schema: str, rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    types = {"string": pa.string(), "int": pa.int32(), "binary": pa.binary()}
    fields = [(name, types[kind]) for name, kind in (c.split() for c in schema.split(", "))]
    columns = zip(*rows, strict=True) if rows else ([] for _ in fields)
    arrays = [
        pa.array(list(values), kind) for values, (_, kind) in zip(columns, fields, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _judged(
    found: DataFrame, question: Question, servers: Sequence[str], place: Places, volume: int
) -> DataFrame:
    """What every patient comes to, and what each partition comes to."""
    context = found.sparkSession.sparkContext
    keys = context.broadcast(_keys(found))
    medications: dict[str, list[Row]] = {}
    for row in found.where("kind = 'medication'").orderBy("chunk", "line").collect():
        one = _ROW(bytes(row.packed))
        medications.setdefault(one.name, []).append(one)
    known = context.broadcast(medications)

    rows = found.where("kind = 'row'").select("key", "packed")
    tasks = max(volume // _TASK_BYTES, 2 * context.defaultParallelism)
    return (
        rows.mapInArrow(partial(_rename, keys), "key string, packed binary")
        .repartition(tasks, "key")
        .sortWithinPartitions("key")
        .mapInArrow(partial(_judge, question, servers, place, known), _JUDGED)
        .persist(_KEPT)
    )


def _rename(keys: Broadcast[dict[str, str]], batches: Batches) -> Batches:
    for batch in batches:
        old = batch.column("key").to_pylist()
        new = pa.array([keys.value.get(key, key) for key in old], pa.string())
        yield pa.RecordBatch.from_arrays([new, batch.column("packed")], names=["key", "packed"])


def _judge(
    question: Question,
    servers: Sequence[str],
    place: Places,
    medications: Broadcast[dict[str, list[Row]]],
    batches: Batches,
) -> Batches:
    judge = Judge(question, servers, place, medications.value)
    rows = (
        row
        for batch in batches
        for row in zip(
            batch.column("key").to_pylist(), batch.column("packed").to_pylist(), strict=True
        )
    )
    judged: list[tuple[Any, ...]] = []
    for _, some in groupby(rows, key=lambda row: row[0]):
        answered, unread = judge.read([_ROW(packed) for _, packed in some])
        judged += (("answer", a.patient, None, None, _ENCODE(a)) for a in answered)
        judged += (("problem", None, p.chunk, p.line, _ENCODE(p)) for p in unread)
        if len(judged) >= _ANSWERS_AT_ONCE:
            yield _batch(_JUDGED, judged)
            judged = []
    judged.append(("summary", None, None, None, _ENCODE(judge.summary())))
    yield _batch(_JUDGED, judged)


def _keys(found: DataFrame) -> dict[str, str]:
    """What must be read together: few lines want anything, so only what is wanted is collected."""

    def pairs(frame: DataFrame) -> list[tuple[str, str]]:
        return [(row.key, row.other) for row in frame.select("key", "other").collect()]

    wants = found.where("kind = 'want'")
    lends = found.where("kind = 'lend'").join(wants.select("key").distinct(), "key")
    return together(pairs(wants), pairs(found.where("kind = 'join'")), pairs(lends))


def main() -> int:
    """What `spark-submit` runs; the exit code as of `maa-assess screen`."""
    parser = argparse.ArgumentParser(description="Assess Bulk Data exports on Apache Spark.")
    parser.add_argument("exports", nargs="+", type=Path, metavar="EXPORT")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--response", action="store_true", help="assess response to treatment")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the operation, such as criteria=emaa or asOf=2024-03-05",
    )
    options = parser.parse_args()
    query = tuple((n, v) for n, _, v in (p.partition("=") for p in options.parameter))
    operation = "response" if options.response else "eligibility"
    question = Question(operation, query, Settings().window_days)
    spark = SparkSession.builder.appName("maa-assess").getOrCreate()
    try:
        summary = assess(spark, options.exports, question, options.out)
    except ExportError as error:
        sys.stderr.write(f"maa-assess: {error}\n")
        return 2
    finally:
        spark.stop()
    for name, count in sorted(summary.tally.items()):
        sys.stdout.write(f"{name}: {count}\n")
    return 0 if summary.tally else 1


if __name__ == "__main__":
    # Workers find functions by their module's name, and a submitted file has none.
    from app.bulk import spark as by_name  # noqa: PLW0406 as above

    sys.exit(by_name.main())
