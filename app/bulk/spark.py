"""An export on Apache Spark: the same functions inside `mapInArrow`, the same files come out.

    spark-submit --master spark://HOST:7077 .../app/bulk/spark.py EXPORT --out DIR

Every worker needs this package, and the export under the same path. Lines are read as bytes, by
ranges of the files: a string column fails the whole job on bad UTF-8.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeVar

import msgspec
import pyarrow as pa
from pyspark import Broadcast, StorageLevel
from pyspark.sql import DataFrame, SparkSession

from app.bulk.exports import (
    ChangedError,
    Chunk,
    ExportError,
    File,
    chunks_of,
    find_files,
    refuse_changed,
    unpacked_bytes,
)
from app.bulk.judging import Answered, Judge, Places, Question, Summary, all_of
from app.bulk.patients import (
    BY_LINE,
    Held,
    Links,
    Problem,
    Row,
    by_patient,
    no_collection,
    partition_of,
    read_lines,
    together,
)
from app.bulk.results import (
    BusyError,
    has_pyarrow,
    locked,
    owned,
    write_parquet,
    write_reports,
    write_results,
)
from app.fhir.maps import CodeMapError, read_code_maps
from app.fhir.outcome import RequestError
from app.settings import read_settings

T = TypeVar("T")
Batches = Iterator[pa.RecordBatch]
_FLUSH_BYTES = 128 * 1024 * 1024
_TASK_BYTES = 64 * 1024 * 1024  # in Spark a task costs a twentieth of a second by itself
_AT_ONCE = 50
"""Results of a partition in a block: the driver holds one of each partition when it merges them."""
_CODEC = "zstd"
_SIZE_BYTES = 8
_ENCODE = msgspec.msgpack.Encoder().encode
_HELD = msgspec.msgpack.Decoder(Held).decode
_FOUND = msgspec.msgpack.Decoder(tuple[dict[int, int], Links]).decode
_PAIRS = msgspec.msgpack.Decoder(list[tuple[str, str]]).decode
_PROBLEMS = msgspec.msgpack.Decoder(list[Problem]).decode
_ANSWERS = msgspec.msgpack.Decoder(list[Answered]).decode
_SUMMARY = msgspec.msgpack.Decoder(Summary).decode
# Spark handles few large blocks in place of many small rows: what each holds, of which chunk or
# partition, and that as bytes.
_BLOCKS = "kind string, number int, packed binary"
_KEPT = StorageLevel.DISK_ONLY


def assess(spark: SparkSession, exports: Sequence[Path], question: Question, out: Path) -> Summary:
    """Assess exports into the directory `out`; what they came to.

    Raises ExportError for an export that cannot be read, RequestError for a bad parameter,
    BusyError where another run has `out`, and ChangedError for a file that was changed meanwhile.
    """
    question.request()
    files, _ = find_files(exports)
    with locked(owned(out)):
        try:
            return _assessed(spark, files, question, out)
        except Exception:
            # What an executor met is told by Spark as a trace.
            refuse_changed(files)
            raise


def _assessed(
    spark: SparkSession, found_files: Sequence[File], question: Question, out: Path
) -> Summary:
    # A copy on another machine is of another time.
    files = [msgspec.structs.replace(file, modified=0, inode=0) for file in found_files]
    chunks = chunks_of(files)
    context = spark.sparkContext
    volume = unpacked_bytes(files)
    tasks = max(volume // _TASK_BYTES, 2 * context.defaultParallelism)

    numbers = spark.range(len(chunks), numPartitions=tasks)
    read = partial(_read, files, chunks, question, tasks)
    found = numbers.mapInArrow(read, _BLOCKS).persist(_KEPT)
    lines, links = _links(found, len(chunks))
    keys = context.broadcast(_keys(found, links))
    medications = context.broadcast(links.medications)
    place = Places([Path(f.path).name for f in files], [c.file for c in chunks], lines)

    sorted_out = found.where("kind IN ('rows', 'problems')")
    if keys.value:
        sorted_out = sorted_out.mapInArrow(partial(_moved, keys, tasks), _BLOCKS)
    judge = partial(_judge, question, files, chunks, place, medications, keys)
    judged = sorted_out.repartitionById(tasks, "number").mapInArrow(judge, _BLOCKS).persist(_KEPT)
    summaries = judged.where("kind = 'summary'").collect()
    summary = all_of(_SUMMARY(_opened(block.packed)) for block in summaries)
    refuse_changed(found_files)
    with TemporaryFile(dir=out) as file:
        held = _held(judged.where("kind != 'summary'"), file)
        answers = (_stream(file, some, _ANSWERS) for some in held["answers"].values())
        problems = (_stream(file, some, _PROBLEMS) for some in held["problems"].values())
        write_results(
            out,
            question,
            heapq.merge(*answers, key=lambda one: one.patient),
            heapq.merge(*problems, key=BY_LINE),
            place,
        )
    found.unpersist()
    judged.unpersist()
    if has_pyarrow():
        write_parquet(out)
    write_reports(out, question, summary)
    return summary


def _links(found: DataFrame, chunks: int) -> tuple[list[int], Links]:
    """How many lines each chunk has, and what of all of them links rows."""
    lines, links = [0] * chunks, Links()
    for block in found.where("kind = 'links'").collect():
        counts, some = _FOUND(_opened(block.packed))
        for chunk, count in counts.items():
            lines[chunk] = count
        links.wants += some.wants
        links.joins += some.joins
        links.medications += some.medications
    return lines, links


def _keys(found: DataFrame, links: Links) -> dict[str, str]:
    """What must be read together: few lines want anything, so only what is wanted is collected."""
    names = found.sparkSession.sparkContext.broadcast({name for name, _ in links.wants})
    lends: Iterable[tuple[str, str]] = ()
    if links.wants:
        wanted = found.where("kind = 'lends'").mapInArrow(partial(_wanted, names), _BLOCKS)
        lends = (pair for block in wanted.collect() for pair in _PAIRS(_opened(block.packed)))
    return together(links.wants, links.joins, lends)


def _held(blocks: DataFrame, file: IO[bytes]) -> dict[str, dict[int, list[tuple[int, int]]]]:
    """Put blocks into a file; where those of each kind and partition stand, in their order."""
    held: dict[str, dict[int, list[tuple[int, int]]]] = {"answers": {}, "problems": {}}
    for block in blocks.toLocalIterator(prefetchPartitions=True):
        place = (file.tell(), len(block.packed))
        held[block.kind].setdefault(block.number, []).append(place)
        file.write(block.packed)
    return held


def _stream(
    file: IO[bytes], places: Iterable[tuple[int, int]], decode: Callable[[bytes], list[T]]
) -> Iterator[T]:
    for start, length in places:
        file.seek(start)
        yield from decode(_opened(file.read(length)))


# What runs on the workers. Functions of the module, not closures: those Spark would pickle with
# all that they refer to.


def _packed(value: object) -> bytes:
    """Compressed here: the JVM copies each block several times, and this is a tenth of it."""
    plain = _ENCODE(value)
    compressed: bytes = pa.compress(plain, _CODEC, asbytes=True)
    return len(plain).to_bytes(_SIZE_BYTES, "big") + compressed


def _opened(packed: bytes) -> bytes:
    size = int.from_bytes(packed[:_SIZE_BYTES], "big")
    plain: bytes = pa.decompress(memoryview(packed)[_SIZE_BYTES:], size, _CODEC, asbytes=True)
    return plain


def _blocks(blocks: Sequence[tuple[str, int, bytes]]) -> pa.RecordBatch:
    kinds, numbers, packed = zip(*blocks, strict=True)
    arrays = [pa.array(kinds, pa.string()), pa.array(numbers, pa.int32())]
    arrays.append(pa.array(packed, pa.binary()))
    return pa.RecordBatch.from_arrays(arrays, ["kind", "number", "packed"])


def _unpacked(batches: Batches) -> Iterator[tuple[str, int, bytes]]:
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _by_partition(held: Held, tasks: int) -> Iterator[tuple[str, int, bytes]]:
    for number, some in held.by(partial(partition_of, partitions=tasks)).items():
        yield "rows", number, _packed(some)


def _read(
    files: Sequence[File], chunks: Sequence[Chunk], question: Question, tasks: int, batches: Batches
) -> Batches:
    """What every line gives."""
    mine = {n: chunks[n] for batch in batches for n in batch.column(0).to_pylist()}
    with no_collection():
        until, code_map = question.until(), question.code_map
        for portion in read_lines(files, mine, _FLUSH_BYTES, until, code_map=code_map):
            number = min(mine, default=0)
            blocks = [*_by_partition(portion.held, tasks)]
            blocks.append(("links", number, _packed((portion.counts, portion.links))))
            if portion.lends:
                blocks.append(("lends", number, _packed(portion.lends)))
            if portion.problems:
                blocks.append(("problems", number % tasks, _packed(portion.problems)))
            yield _blocks(blocks)


def _wanted(names: Broadcast[set[str]], batches: Batches) -> Batches:
    """Of what could be lent, what is wanted."""
    for _, number, packed in _unpacked(batches):
        pairs = [pair for pair in _PAIRS(_opened(packed)) if pair[0] in names.value]
        if pairs:
            yield _blocks([("lends", number, _packed(pairs))])


def _moved(keys: Broadcast[dict[str, str]], tasks: int, batches: Batches) -> Batches:
    """Every block, and once more under their new keys the rows that have one."""
    affected = {partition_of(key, tasks) for key in keys.value}
    for block in _unpacked(batches):
        kind, number, packed = block
        blocks = [block]
        if kind == "rows" and number in affected:
            blocks += _by_partition(_HELD(_opened(packed)).under(keys.value), tasks)
        yield _blocks(blocks)


def _judge(
    question: Question,
    files: Sequence[File],
    chunks: Sequence[Chunk],
    place: Places,
    medications: Broadcast[list[Row]],
    keys: Broadcast[dict[str, str]],
    batches: Batches,
) -> Batches:
    """What every patient of one partition comes to, in order, and what all of them come to."""
    problems, some = list[Problem](), list[Held]()
    partition = 0
    for kind, number, packed in _unpacked(batches):
        partition = number
        if kind == "problems":
            problems += _PROBLEMS(_opened(packed))
        else:
            some.append(_HELD(_opened(packed)))
    # What was moved stands under its old key too.
    patients = by_patient(some, keys.value)
    judge = Judge(question, files, chunks, place, medications.value)
    with no_collection():
        answers, unread = judge.read_all(patients)
    problems = sorted([*problems, *unread], key=BY_LINE)
    for kind, results in (("answers", answers), ("problems", problems)):
        for start in range(0, len(results), _AT_ONCE):
            yield _blocks([(kind, partition, _packed(results[start : start + _AT_ONCE]))])
    yield _blocks([("summary", partition, _packed(judge.summary()))])


def main(arguments: Sequence[str] | None = None) -> int:
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
    parser.add_argument("--code-map", action="append", default=[], type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    query = tuple((n, v) for n, _, v in (p.partition("=") for p in options.parameter))
    operation = "response" if options.response else "eligibility"
    settings = read_settings()
    try:
        code_map = read_code_maps(options.code_map or settings.code_maps)
        question = Question(operation, query, settings.window_days, code_map)
        # Before a session is started: a cluster is not asked for what cannot be done.
        question.request()
        _, notes = find_files(options.exports)
    except (ExportError, CodeMapError) as error:
        sys.stderr.write(f"maa-assess: {error}\n")
        return 2
    except RequestError as error:
        for issue in error.outcome()["issue"]:
            sys.stderr.write(f"maa-assess: {issue['diagnostics']}\n")
        return 2
    sys.stderr.writelines(f"maa-assess: {note}\n" for note in notes)
    spark = SparkSession.builder.appName("maa-assess").getOrCreate()
    try:
        summary = assess(spark, options.exports, question, options.out)
    except (BusyError, ChangedError) as error:
        sys.stderr.write(f"maa-assess: {error}\n")
        return 2 if isinstance(error, BusyError) else 3
    finally:
        spark.stop()
    for name, count in sorted(summary.tally.items()):
        sys.stdout.write(f"{name}: {count}\n")
    return 0 if summary.tally else 1


if __name__ == "__main__":
    # Workers find functions by their module's name, and a submitted file has none.
    from app.bulk import spark as by_name  # noqa: PLW0406 as above

    sys.exit(by_name.main())
