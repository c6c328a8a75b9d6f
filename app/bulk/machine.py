"""An export on one machine: every step in parts that are files, so that a stopped run goes on.

`map` reads lines and sorts them by partition, `join` finds what must be read together, `move`
brings that together, `judge` assesses one partition after the other, and the results are merged
in the order of the patients. A part has its name only when it is whole; a part that is there is
not made again. So nothing is lost and nothing counts twice, whenever the run or a worker is killed.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.progress import Progress

from app import __version__
from app.bulk.exports import CHUNK_BYTES, Chunk, File, chunks_of, refuse_changed, unpacked_bytes
from app.bulk.judging import Answered, Judge, Places, Question, Summary, all_of
from app.bulk.patients import (
    BY_LINE,
    Held,
    Lines,
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
    has_pyarrow,
    owned,
    whole,
    write_parquet,
    write_reports,
    write_results,
)

T = TypeVar("T")
WORK = ".maa-assess-parts"
_BASE_BYTES = 120 * 1024 * 1024
"""What a worker needs before it has read anything."""
_LEAST_BYTES = 32 * 1024 * 1024
_SHARE_BYTES = 4 * 1024 * 1024 * 1024
_LEAST_PARTITIONS = 32  # small ones stay in the processor's memory
_MOST_PARTITIONS = 500  # each is an open file when results are merged
_TICK_SECONDS = 0.2
_TIMES_A_WORKER_MAY_DIE = 3
_LENDS, _PROBLEMS = "lends", "problems"


class StoppedError(Exception):
    """The run could not be finished: why, and what to do. What is done stays done."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done: the same plan gives the same results, however often it is resumed."""

    version: str
    """Of this program: another one may put parts down otherwise."""
    files: tuple[File, ...]
    question: Question
    chunks: tuple[Chunk, ...]
    shares: tuple[tuple[int, ...], ...]
    """Which chunks are read one after the other, and make one part."""
    partitions: int
    flush_bytes: int


class Segment(msgspec.Struct, array_like=True):
    """Where in a part's file a portion of one kind stands."""

    kind: str
    """A partition's number, or what is not by partition."""
    start: int
    length: int


class Contents(msgspec.Struct):
    """What a part of the `map` step holds."""

    counts: dict[int, int]
    """How many lines each chunk has."""
    segments: list[Segment]
    links: Links


class Moves(msgspec.Struct):
    """What is read under another key, and the drugs that records refer to."""

    keys: dict[str, str]
    medications: list[Row]


_ENCODE = msgspec.msgpack.Encoder().encode
_HELD = msgspec.msgpack.Decoder(Held).decode
_PAIRS = msgspec.msgpack.Decoder(list[tuple[str, str]]).decode
_PROBLEM_LIST = msgspec.msgpack.Decoder(list[Problem]).decode
_CONTENTS = msgspec.msgpack.Decoder(Contents).decode
_MOVES = msgspec.msgpack.Decoder(Moves).decode
_SUMMARY = msgspec.msgpack.Decoder(Summary).decode
_PLAN = msgspec.msgpack.Decoder(Plan).decode
_ANSWERED = msgspec.msgpack.Decoder(Answered).decode
_PROBLEM = msgspec.msgpack.Decoder(Problem).decode


def run(
    files: Sequence[File],
    question: Question,
    out: Path,
    workers: int,
    memory_bytes: int,
    progress: Progress,
) -> tuple[Summary, int]:
    """Assess an export into `out`; what it came to, and how many lines were not read.

    Raises StoppedError where it cannot go on, ChangedError where a file is no longer what it was
    (its results would be those of half an export), and OSError where the disk does not let it; the
    same call resumes.
    """
    work = out / WORK
    _held.clear()
    plan = _planned(work, files, question, workers, memory_bytes)
    with closing(_Crew(work, workers, progress)) as crew:
        _make_parts(crew, work, plan)
    refuse_changed(files)
    summary, errors = _merged(work, plan, out)
    shutil.rmtree(work)
    return summary, errors


def _make_parts(crew: _Crew, work: Path, plan: Plan) -> None:
    sizes = [_size(plan.chunks[number] for number in share) for share in plan.shares]
    crew.make("Reading", map_share, range(len(plan.shares)), sizes, _mapped)
    moves = _joined(work, plan)
    if moves.keys:
        crew.make("Joining", move_share, range(len(plan.shares)), sizes, _moved)
    crew.make("Assessing", judge_partition, range(plan.partitions), _volumes(work, plan), _judged)


def _planned(
    work: Path, files: Sequence[File], question: Question, workers: int, memory_bytes: int
) -> Plan:
    """The plan of an earlier run of the same question over the same files, or a new one."""
    for_each = max(memory_bytes // workers - _BASE_BYTES, _LEAST_BYTES)
    # The more is read at once, the more is found needless before it is put down.
    flush_bytes = for_each // 3
    volume = unpacked_bytes(files)
    # Rows are held once as they were read and once taken apart, beside what is made of them.
    partitions = min(max(volume * 3 // for_each + 1, _LEAST_PARTITIONS), _MOST_PARTITIONS)
    chunks = chunks_of(files, CHUNK_BYTES)
    shares = _shares(chunks, min(max(volume // workers, CHUNK_BYTES), _SHARE_BYTES))
    plan = Plan(__version__, tuple(files), question, tuple(chunks), shares, partitions, flush_bytes)
    path = work / "plan"
    if path.exists():
        with suppress(msgspec.DecodeError):
            earlier = _PLAN(path.read_bytes())
            if _asked(earlier) == _asked(plan):
                return earlier
        shutil.rmtree(work)
    owned(work)
    for step in ("map", "move", "judge"):
        owned(work / step)
    _write(path, [_ENCODE(plan)])
    return plan


def _asked(plan: Plan) -> tuple[str, tuple[File, ...], Question]:
    return plan.version, plan.files, plan.question


def _size(chunks: Iterable[Chunk]) -> int:
    return sum(chunk.end - chunk.start for chunk in chunks)


def _shares(chunks: Sequence[Chunk], share_bytes: int) -> tuple[tuple[int, ...], ...]:
    shares: list[list[int]] = [[]]
    size = 0
    for number, chunk in enumerate(chunks):
        if size >= share_bytes:
            shares.append([])
            size = 0
        shares[-1].append(number)
        size += chunk.end - chunk.start
    return tuple(tuple(share) for share in shares)


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    with whole(path) as file:
        file.writelines(blocks)


# The steps: each makes one part, in whatever process


def _mapped(work: Path, number: int) -> Path:
    return work / "map" / f"{number}"


def _moved(work: Path, number: int) -> Path:
    return work / "move" / f"{number}"


def _judged(work: Path, number: int) -> Path:
    return work / "judge" / f"{number}"


@no_collection()
def map_share(work: Path, number: int) -> None:
    """Read a share's lines, and put its resources down by partition."""
    plan = _plan(work)
    chunks = {chunk: plan.chunks[chunk] for chunk in plan.shares[number]}
    until, code_map = plan.question.until(), plan.question.code_map
    portions = read_lines(plan.files, chunks, plan.flush_bytes, until, _advance, code_map)
    _write(_mapped(work, number), _packed(portions, plan.partitions))


def _packed(portions: Iterable[Lines], partitions: int) -> Iterator[bytes]:
    contents = Contents({}, [], Links())
    position = 0
    for portion in portions:
        by_partition = portion.held.by(partial(partition_of, partitions=partitions))
        kinds: dict[str, Any] = {f"{p}": held for p, held in sorted(by_partition.items())}
        kinds |= {_LENDS: portion.lends, _PROBLEMS: portion.problems}
        for kind, held in kinds.items():
            if held:
                packed = _ENCODE(held)
                contents.segments.append(Segment(kind, position, len(packed)))
                position += len(packed)
                yield packed
        contents.counts |= portion.counts
        contents.links.wants += portion.links.wants
        contents.links.joins += portion.links.joins
        contents.links.medications += portion.links.medications
    packed = _ENCODE(contents)
    yield packed
    yield len(packed).to_bytes(8, "big")


def _contents(path: Path) -> Contents:
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(8), "big")
        file.seek(-8 - length, os.SEEK_END)
        return _CONTENTS(file.read(length))


def _segments(path: Path, contents: Contents, kind: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        for segment in contents.segments:
            if segment.kind == kind:
                file.seek(segment.start)
                yield file.read(segment.length)


def _joined(work: Path, plan: Plan) -> Moves:
    """Which keys are read together, over all chunks."""
    path = work / "moves"
    if not path.exists():
        parts = [_mapped(work, number) for number in range(len(plan.shares))]
        held = [_contents(part) for part in parts]
        wants = [want for one in held for want in one.links.wants]
        lends = (
            pair
            for part, contents in zip(parts, held, strict=True)
            for packed in (_segments(part, contents, _LENDS) if wants else ())
            for pair in _PAIRS(packed)
        )
        keys = together(wants, (pair for one in held for pair in one.links.joins), lends)
        medications = [row for one in held for row in one.links.medications]
        _write(path, [_ENCODE(Moves(keys, medications))])
    return _MOVES(path.read_bytes())


def _volumes(work: Path, plan: Plan) -> list[int]:
    """The bytes of each partition, for the progress bar."""
    volumes = [0] * (plan.partitions)
    for share in range(len(plan.shares)):
        for segment in _contents_of(_mapped(work, share)).segments:
            if segment.kind not in {_LENDS, _PROBLEMS}:
                volumes[int(segment.kind)] += segment.length
    return volumes


@no_collection()
def move_share(work: Path, number: int) -> None:
    """Put down again, under their new keys, the rows of one share that have one."""
    plan, moves = _plan(work), _moves(work)
    part = _mapped(work, number)
    contents = _contents(part)
    moved = Lines()
    for partition in sorted({partition_of(key, plan.partitions) for key in moves.keys}):
        for packed in _segments(part, contents, f"{partition}"):
            found = _HELD(packed).under(moves.keys)
            moved.held.rows += found.rows
            moved.held.passed += found.passed
    _write(_moved(work, number), _packed([moved], plan.partitions))
    _advance(_size(plan.chunks[chunk] for chunk in plan.shares[number]))


@no_collection()
def judge_partition(work: Path, number: int) -> None:
    """Assess every patient of one partition."""
    plan, moves = _plan(work), _moves(work)
    # What was moved stands under its old key too.
    patients = by_patient(_held_by(work, plan, moves, number), moves.keys)
    judge = Judge(plan.question, plan.files, plan.chunks, _places(work, plan), moves.medications)
    answers, problems = judge.read_all(patients)
    part = _judged(work, number)
    _write(part.with_suffix(".answers"), _framed(map(_ENCODE, answers)))
    _write(part.with_suffix(".problems"), _framed(_ENCODE(one) for one in problems))
    _write(part, [_ENCODE(judge.summary())])
    _advance(_volumes(work, plan)[number])


def _held_by(work: Path, plan: Plan, moves: Moves, number: int) -> Iterator[Held]:
    """What belongs to a partition: what stayed in it, and what was moved there."""
    for share in range(len(plan.shares)):
        part = _mapped(work, share)
        for packed in _segments(part, _contents_of(part), f"{number}"):
            yield _HELD(packed)
        if moves.keys:
            part = _moved(work, share)
            yield from map(_HELD, _segments(part, _contents_of(part), f"{number}"))


def _framed(records: Iterable[bytes]) -> Iterator[bytes]:
    for record in records:
        yield len(record).to_bytes(8, "big")
        yield record


def _records(path: Path, decode: Callable[[bytes], T]) -> Iterator[T]:
    with path.open("rb") as file:
        while length := file.read(8):
            yield decode(file.read(int.from_bytes(length, "big")))


# What a process has read, for the parts it makes after

_held: dict[Path, Any] = {}


def _plan(work: Path) -> Plan:
    if work / "plan" not in _held:
        _held.clear()
        _held[work / "plan"] = _PLAN((work / "plan").read_bytes())
    plan: Plan = _held[work / "plan"]
    return plan


def _moves(work: Path) -> Moves:
    if work / "moves" not in _held:
        _held[work / "moves"] = _MOVES((work / "moves").read_bytes())
    moves: Moves = _held[work / "moves"]
    return moves


def _places(work: Path, plan: Plan) -> Places:
    counts: dict[int, int] = {}
    for share in range(len(plan.shares)):
        counts |= _contents_of(_mapped(work, share)).counts
    lines = [counts[number] for number in range(len(plan.chunks))]
    names = [Path(file.path).name for file in plan.files]
    return Places(names, [chunk.file for chunk in plan.chunks], lines)


def _contents_of(part: Path) -> Contents:
    if part not in _held:
        contents = _contents(part)
        contents.links = Links()
        _held[part] = contents
    found: Contents = _held[part]
    return found


# Workers


# Forking a process that has threads, such as a progress bar's, may deadlock.
_SPAWN = multiprocessing.get_context("spawn")
_meter: Any = None
"""How many bytes were read in this step, by all processes; for the progress bar."""


_show: Callable[[], None] | None = None
"""Shows it, where the work is done in the process that has the progress bar."""


def _share_meter(meter: Any, show: Callable[[], None] | None = None) -> None:
    # Each process has one, and it cannot be sent along with the work.
    global _meter, _show
    _meter, _show = meter, show


def _start_worker(meter: Any) -> None:
    _share_meter(meter)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run's workers would wait for work for ever: each holds the pipe's both ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _advance(size: int) -> None:
    with _meter.get_lock():
        _meter.value += size
    if _show:
        _show()


class _Crew:
    """Makes the parts of a step in several processes; a process that dies is replaced."""

    def __init__(self, work: Path, workers: int, progress: Progress) -> None:
        self._work = work
        self._workers = workers
        self._progress = progress
        self._pool: ProcessPoolExecutor | None = None
        _share_meter(_SPAWN.Value("Q", 0))

    def close(self) -> None:
        """End the processes."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def make(
        self,
        title: str,
        make_part: Callable[[Path, int], None],
        numbers: Sequence[int],
        sizes: Sequence[int],
        path: Callable[[Path, int], Path],
    ) -> None:
        """Make every part that is not there yet; `sizes` are for the progress bar."""
        missing = {number for number in numbers if not path(self._work, number).exists()}
        there = sum(sizes[number] for number in numbers if number not in missing)
        task = self._progress.add_task(title, total=sum(sizes), completed=there)
        _meter.value = 0
        _share_meter(_meter, lambda: self._progress.update(task, completed=there + _meter.value))
        deaths = 0
        while missing:
            try:
                for number in self._made(make_part, sorted(missing)):
                    if number is not None:
                        missing.remove(number)
                    self._progress.update(task, completed=there + _meter.value)
            except BrokenProcessPool:
                self._pool = None
                deaths += 1
                if deaths >= _TIMES_A_WORKER_MAY_DIE:
                    raise StoppedError(
                        "Worker processes are killed again and again, perhaps for want of memory: "
                        "take fewer --workers."
                    ) from None
                missing = {n for n in missing if not path(self._work, n).exists()}
        self._progress.update(task, completed=sum(sizes))

    def _made(
        self, make_part: Callable[[Path, int], None], numbers: Sequence[int]
    ) -> Iterator[int | None]:
        """Each number when its part is made; None now and then while they are."""
        if self._workers == 1:
            for number in numbers:
                make_part(self._work, number)
                yield number
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, _SPAWN, _start_worker, (_meter,))
        waiting: dict[Future[None], int] = {
            self._pool.submit(make_part, self._work, number): number for number in numbers
        }
        while waiting:
            done, _ = wait(waiting, _TICK_SECONDS, FIRST_COMPLETED)
            for future in done:
                future.result()
                yield waiting.pop(future)
            yield None


def _merged(work: Path, plan: Plan, out: Path) -> tuple[Summary, int]:
    """The results of all partitions, as files in the order of the patients and of the lines."""
    mapped = [_mapped(work, number) for number in range(len(plan.shares))]
    parts = [_judged(work, number) for number in range(plan.partitions)]
    broken = (
        problem
        for part in mapped
        for packed in _segments(part, _contents(part), _PROBLEMS)
        for problem in _PROBLEM_LIST(packed)
    )
    unread = (_records(part.with_suffix(".problems"), _PROBLEM) for part in parts)
    answers = (_records(part.with_suffix(".answers"), _ANSWERED) for part in parts)
    errors = write_results(
        out,
        plan.question,
        heapq.merge(*answers, key=lambda one: one.patient),
        heapq.merge(broken, *unread, key=BY_LINE),
        _places(work, plan),
    )
    if has_pyarrow():
        write_parquet(out)
    summary = all_of(_SUMMARY(part.read_bytes()) for part in parts)
    write_reports(out, plan.question, summary)
    return summary, errors
