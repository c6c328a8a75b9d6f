"""An export on one machine: every step in parts that are files, so that a stopped run goes on.

Processes read the lines in pieces, DuckDB brings each patient's together, processes assess them
bucket by bucket, and the results are merged. A part has its name only when it is whole; a part that
is there is not made again. So nothing is lost and nothing counts twice, whenever the run or a
worker is killed.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from pyarrow import parquet
from rich.progress import Progress

from app import __version__
from app.bulk import patients, scan
from app.bulk.files import Chunk, File, chunks_of, refuse_changed
from app.bulk.judging import Order, Problem, Row
from app.bulk.parts import Summary, added, judge_part, medications_of, merge, summary_of, unpacked
from app.bulk.results import clear_results, whole

if TYPE_CHECKING:
    import duckdb

WORK = ".maa-assess-parts"
_PROCESS_BYTES = 290 * 1024 * 1024
"""What a process needs, however much there is to read."""
_LEAST_BYTES = 128 * 1024 * 1024
_LINES_A_BUCKET = 50_000
_LEAST_BUCKETS, _MOST_BUCKETS = 8, 500  # each is an open file when results are merged
_TIMES_A_WORKER_MAY_DIE = 3


class StoppedError(Exception):
    """The run could not be finished: why, and what to do. What is done stays done."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done: the same plan gives the same results, however often it is resumed."""

    version: str
    """Of this program: another one may put parts down otherwise."""
    files: tuple[File, ...]
    order: Order


class Grouped(NamedTuple):
    """What is known when all lines are read."""

    buckets: list[int]
    medications: list[Row]
    broken: list[Problem]


def run(
    files: Sequence[File],
    order: Order,
    out: Path,
    workers: int,
    memory_bytes: int,
    progress: Progress,
) -> Summary:
    """Assess an export into `out`; what it came to.

    Raises StoppedError or duckdb.Error where it cannot go on, ChangedError where a file is no
    longer what it was (its results would be those of half an export), and OSError where the disk
    does not let it; the same call resumes.
    """
    work = out / WORK
    _held.clear()
    plan = _planned(work, files, order)
    with closing(_Crew(work, workers, progress)) as crew:
        crew.make("Unpacking", unpack_file, [n for n, f in enumerate(plan.files) if f.packed])
        crew.make("Reading", read_chunk, range(len(chunks_of(plan.files))))
        memory_bytes -= (workers + 1) * _PROCESS_BYTES
        grouped = _grouped(work, plan, workers, max(memory_bytes, _LEAST_BYTES))
        crew.make("Assessing", judge_bucket, grouped.buckets)
    refuse_changed(files)
    parts = [_part(work, judge_bucket, number) for number in grouped.buckets]
    clear_results(out)
    summary = added(map(summary_of, parts), grouped.broken)
    merge(parts, summary, order, plan.files, out)
    shutil.rmtree(work)
    return summary


def _planned(work: Path, files: Sequence[File], order: Order) -> Plan:
    """The plan, and the folders of its parts; those of another plan are removed."""
    work = work.absolute()
    unpacked = (
        msgspec.structs.replace(f, unpacked=str(work / f"file-{n}")) if f.packed else f
        for n, f in enumerate(files)
    )
    plan = Plan(__version__, tuple(unpacked), order)
    path = work / "plan"
    if path.exists():
        with suppress(msgspec.DecodeError):
            if msgspec.msgpack.decode(path.read_bytes(), type=Plan) == plan:
                return plan
        shutil.rmtree(work)
    for make_part in (unpack_file, read_chunk, judge_bucket):
        _part(work, make_part, 0).parent.mkdir(parents=True, exist_ok=True)
    _write(path, msgspec.msgpack.encode(plan))
    return plan


def _write(path: Path, text: bytes) -> None:
    with whole(path) as file:
        file.write(text)


# The steps: each makes one part, in whatever process

MakePart = Callable[[Path, int], None]


def _part(work: Path, make_part: MakePart, number: int) -> Path:
    """What is there when the part is made."""
    return work / make_part.__name__ / f"{number}"


def unpack_file(work: Path, number: int) -> None:
    """Write the lines of a compressed file, and why they may end too early."""
    told = unpacked(_plan(work).files, number)
    _write(_part(work, unpack_file, number), msgspec.msgpack.encode(told))


def read_chunk(work: Path, number: int) -> None:
    """Read the lines of a chunk, and put down what they are and where they stand."""
    order, files = _plan(work).order, _plan(work).files
    chunk = _chunks(work)[number]
    tables = scan.scan(files[chunk.file], chunk, number, order.until(), order.code_map)
    with (
        whole(_part(work, read_chunk, number)) as file,
        parquet.ParquetWriter(file, scan.ROWS) as writer,
    ):
        for table in tables:
            writer.write_table(table)


def judge_bucket(work: Path, number: int) -> None:
    """Assess every patient of a bucket."""
    plan = _plan(work)
    table = parquet.read_table(work / "patients" / f"bucket={number}", partitioning=None)
    medications = _known(work).medications
    judge_part(plan.order, plan.files, table, medications, _part(work, judge_bucket, number))


# What brings patients together


def _grouped(work: Path, plan: Plan, threads: int, memory_bytes: int) -> Grouped:
    """Each patient's lines in one bucket, as files; and what else is to be known of all lines."""
    path = work / "grouped"
    if not path.exists():
        import duckdb  # noqa: PLC0415 workers need none

        shutil.rmtree(work / "patients", ignore_errors=True)
        settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": threads,
            "memory_limit": f"{memory_bytes // 1024**2}MiB",
            "temp_directory": str(work / "spilled"),
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=settings) as engine:
            _write(path, pickle.dumps(_group(engine, work, plan)))
    return _known(work)


def _group(engine: duckdb.DuckDBPyConnection, work: Path, plan: Plan) -> Grouped:
    chunks = _chunks(work)
    if not chunks:
        return Grouped([], [], [])
    # To DuckDB a path is a pattern.
    read = [
        re.sub(r"([*?\[])", r"[\1]", str(_part(work, read_chunk, number)))
        for number in range(len(chunks))
    ]
    engine.execute("SET enable_progress_bar = false")
    engine.execute("CREATE TABLE rows AS SELECT * FROM read_parquet(?)", [read])
    lines = dict(engine.execute(patients.LINES).fetchall())
    engine.register("pieces", patients.pieces(plan.files, chunks, lines))
    engine.register("moves", patients.moves(engine.execute(patients.PAIRS).fetchall()))
    engine.register("informs", patients.informs())
    count = min(max(sum(lines.values()) // _LINES_A_BUCKET, _LEAST_BUCKETS), _MOST_BUCKETS)
    folder = str(work / "patients").replace("'", "''")
    engine.execute(
        f"COPY (SELECT *, hash(patient) % {count} AS bucket FROM ({patients.PATIENTS})) "  # noqa: S608
        f"TO '{folder}' (FORMAT parquet, PARTITION_BY (bucket))"
    )
    buckets = sorted(int(p.name.partition("=")[2]) for p in (work / "patients").glob("bucket=*"))
    broken = [Problem(*row) for row in engine.execute(patients.BROKEN).fetchall()]
    for number, file in enumerate(plan.files):
        if file.packed:
            told = _part(work, unpack_file, number).read_bytes()
            broken += msgspec.msgpack.decode(told, type=list[Problem])
    return Grouped(
        buckets, medications_of(engine.execute(patients.MEDICATIONS).to_arrow_table()), broken
    )


# What a process has read, for the parts it makes after

_held: dict[Path, Any] = {}


def _once(path: Path, read: Callable[[bytes], Any]) -> Any:
    if path not in _held:
        _held[path] = read(path.read_bytes())
    return _held[path]


def _plan(work: Path) -> Plan:
    plan: Plan = _once(work / "plan", msgspec.msgpack.Decoder(Plan).decode)
    return plan


def _chunks(work: Path) -> list[Chunk]:
    return chunks_of(_plan(work).files)


def _known(work: Path) -> Grouped:
    found: Grouped = _once(work / "grouped", pickle.loads)
    return found


# Workers


# Forking a process that has threads, such as a progress bar's, may deadlock.
_SPAWN = multiprocessing.get_context("spawn")


class _WithoutPandas(MetaPathFinder):
    """Arrow imports it for any list, where it is installed: most of a second, for nothing."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ImportError(name)


def _start_worker() -> None:
    sys.meta_path.insert(0, _WithoutPandas())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run's workers would wait for work for ever: each holds the pipe's both ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _made(make_part: MakePart, work: Path, number: int) -> int:
    # There is no garbage in cycles, and the look for it takes most of the time.
    gc.disable()
    try:
        make_part(work, number)
    finally:
        gc.enable()
    return number


class _Crew:
    """Makes the parts of a step in several processes; a process that dies is replaced."""

    def __init__(self, work: Path, workers: int, progress: Progress) -> None:
        self._work = work
        self._workers = workers
        self._progress = progress
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        """End the processes."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def make(self, title: str, make_part: MakePart, numbers: Iterable[int]) -> None:
        """Make every part that is not there yet."""
        numbers = list(numbers)
        task = self._progress.add_task(title, total=len(numbers))
        deaths = 0
        while missing := [n for n in numbers if not _part(self._work, make_part, n).exists()]:
            self._progress.update(task, completed=len(numbers) - len(missing))
            try:
                for _ in self._each_made(make_part, missing):
                    self._progress.advance(task)
            except BrokenProcessPool:
                self._pool = None
                deaths += 1
                if deaths >= _TIMES_A_WORKER_MAY_DIE:
                    raise StoppedError(
                        "Worker processes are killed again and again, perhaps for want of memory: "
                        "take fewer --workers."
                    ) from None
        self._progress.update(task, completed=len(numbers))

    def _each_made(self, make_part: MakePart, numbers: Sequence[int]) -> Iterator[int]:
        if self._workers == 1:
            for number in numbers:
                yield _made(make_part, self._work, number)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, _SPAWN, _start_worker)
        waiting = [self._pool.submit(_made, make_part, self._work, number) for number in numbers]
        for future in as_completed(waiting):
            yield future.result()
