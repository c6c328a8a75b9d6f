"""An export on Apache Spark: the same reading, the same query and the same judgement.

    spark-submit --master spark://HOST:7077 .../spark.py EXPORT --out DIR

Every machine needs this package, and the export and DIR under the same path. Spark brings together
where lines stand, not lines: each is read where its patient is judged.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import GroupedData, SparkSession

from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.bulk import patients, scan
from app.bulk.exports import find_files
from app.bulk.files import ChangedError, Chunk, ExportError, File, chunks_of, refuse_changed
from app.bulk.judging import Order, Problem, Row, Written
from app.bulk.parts import (
    Summary,
    added,
    judge_part,
    medications_of,
    merge,
    summary_of,
    tallied,
    unpacked,
    write_part,
    write_total,
)
from app.bulk.results import BusyError, clear_results, for_owner_only, locked
from app.fhir.map_files import read_code_maps
from app.fhir.maps import CodeMapError
from app.fhir.outcome import RequestError
from app.settings import read_settings

WORK = ".maa-assess-spark"
Batches = Iterator[pa.RecordBatch]
_LINES_A_BUCKET = 50_000
_ROWS = ", ".join(
    f"{field.name} {'string' if pa.types.is_string(field.type) else 'long'}" for field in scan.ROWS
)
_KEPT = StorageLevel.DISK_ONLY


def assess(
    spark: SparkSession,
    exports: Sequence[Path],
    order: Order,
    out: Path,
    single_files: bool = False,
) -> Summary:
    """Assess exports into the directory `out`; what they came to.

    Executors write their results as parts, and `single_files` has the driver merge them. Raises
    ExportError for an export that cannot be read, RequestError for a bad parameter, BusyError where
    another run has `out`, and ChangedError for a file that was changed meanwhile.
    """
    order.question()
    files, _ = find_files(exports)
    out = out.absolute()  # executors have folders of their own
    with for_owner_only():
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            clear_results(out)
            work = out / WORK
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                return _assessed(spark, files, order, out, single_files)
            except Exception:
                # What an executor met is told by Spark as a trace.
                refuse_changed(files)
                raise
            finally:
                shutil.rmtree(work)


def _assessed(
    spark: SparkSession, found: Sequence[File], order: Order, out: Path, single_files: bool
) -> Summary:
    work = out / WORK
    # A copy on another machine is of another time.
    files = [
        msgspec.structs.replace(
            file, modified=0, inode=0, unpacked=str(work / f"file-{n}") if file.packed else ""
        )
        for n, file in enumerate(found)
    ]
    packed = [number for number, file in enumerate(files) if file.packed]
    broken = _each(spark, partial(_unpack, files), packed)
    chunks = chunks_of(files)
    numbers = spark.range(len(chunks), numPartitions=max(len(chunks), 1))
    rows = numbers.mapInArrow(partial(_read, files, chunks, order), _ROWS).persist(_KEPT)
    rows.createOrReplaceTempView("rows")
    lines = dict(map(tuple, spark.sql(patients.LINES).collect()))
    views = {
        "pieces": patients.pieces(files, chunks, lines),
        "moves": patients.moves(map(tuple, spark.sql(patients.PAIRS).collect())),
        "informs": patients.informs(),
    }
    for name, view in views.items():
        spark.createDataFrame(view).createOrReplaceTempView(name)
    broken += [Problem(*row) for row in spark.sql(patients.BROKEN).collect()]
    medications = medications_of(spark.sql(patients.MEDICATIONS).toArrow())

    def judge(bucket: pa.Table) -> pa.Table:  # Spark takes no partial here
        return _judge(order, files, medications, out, single_files, bucket)

    judged = _buckets(spark, sum(lines.values())).applyInArrow(judge, "bucket int, packed binary")
    told = [(row.bucket, pickle.loads(row.packed)) for row in judged.collect()]  # noqa: S301 ours
    rows.unpersist()
    refuse_changed(found)
    summary = added((summary for _, summary in told), broken)
    if single_files:
        merge([work / f"{bucket}" for bucket, _ in told], summary, order, files, out)
    else:
        write_total(summary, order, files, out)
    return summary


def _each(
    spark: SparkSession, work: Callable[[int], list[Problem]], numbers: Sequence[int]
) -> list[Problem]:
    if not numbers:
        return []
    told = spark.sparkContext.parallelize(numbers, len(numbers)).map(work).collect()
    return [problem for some in told for problem in some]


def _buckets(spark: SparkSession, lines: int) -> GroupedData:
    """Each patient's lines in one bucket."""
    count = max(lines // _LINES_A_BUCKET, 2 * spark.sparkContext.defaultParallelism)
    return spark.sql(
        f"SELECT *, pmod(hash(patient), {count}) AS bucket FROM ({patients.PATIENTS})"  # noqa: S608
    ).groupBy("bucket")


# What runs on the executors


def _unpack(files: Sequence[File], number: int) -> list[Problem]:
    with for_owner_only():
        return unpacked(files, number)


def _read(
    files: Sequence[File], chunks: Sequence[Chunk], order: Order, batches: Batches
) -> Batches:
    until, code_map = order.until(), order.code_map
    for batch in batches:
        for number in batch.column(0).to_pylist():
            chunk = chunks[number]
            for table in scan.scan(files[chunk.file], chunk, number, until, code_map):
                yield from table.to_batches()


def _judge(
    order: Order,
    files: Sequence[File],
    medications: Sequence[Row],
    out: Path,
    single_files: bool,
    table: pa.Table,
) -> pa.Table:
    """Assess a bucket's patients, and write what they come to."""
    bucket = table["bucket"][0].as_py()
    part = out / WORK / f"{bucket}"
    with for_owner_only():
        judge_part(order, files, table, medications, part)
        summary = summary_of(part)
        if not single_files:
            write_part(part, order, files, out)
            summary = summary._replace(problems=[])
    packed = pickle.dumps(summary)
    return pa.table({"bucket": pa.array([bucket], pa.int32()), "packed": [packed]})


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
    parser.add_argument("--assessments", choices=[one.value for one in Written], default="all")
    parser.add_argument(
        "--counts", action="store_true", help="write every count as it was read too"
    )
    parser.add_argument(
        "--single-files", action="store_true", help="merge the executors' results on the driver"
    )
    options = parser.parse_args(arguments)
    query = tuple((n, v) for n, _, v in (p.partition("=") for p in options.parameter))
    operation = ASSESS_RESPONSE if options.response else ASSESS_ELIGIBILITY
    settings = read_settings()
    try:
        code_map = read_code_maps(options.code_map or settings.code_maps)
        written = Written(options.assessments)
        order = Order(operation, query, settings.window_days, code_map, written, options.counts)
        # Before a session is started: a cluster is not asked for what cannot be done.
        order.question()
        _, notes = find_files(options.exports)
    except (ExportError, CodeMapError) as error:
        return _say(str(error), 2)
    except RequestError as error:
        return _say("\n".join(issue["diagnostics"] for issue in error.outcome()["issue"]), 2)
    for note in notes:
        _say(note)
    spark = SparkSession.builder.appName("maa-assess").getOrCreate()
    try:
        summary = assess(spark, options.exports, order, options.out, options.single_files)
    except (BusyError, ChangedError) as error:
        return _say(str(error), 2 if isinstance(error, BusyError) else 3)
    finally:
        spark.stop()
    sys.stdout.writelines(f"{line}\n" for line in tallied(summary.tally))
    return 0 if summary.tally else 1


def _say(text: str, code: int = 0) -> int:
    sys.stderr.write(f"maa-assess: {text}\n")
    return code


if __name__ == "__main__":
    # Workers find functions by their module's name, and a submitted file has none.
    from app.bulk import spark as by_name  # noqa: PLW0406 as above

    sys.exit(by_name.main())
