"""The files of an export as bytes: still the same, unpacked, in pieces, line by line."""

from __future__ import annotations

import codecs
import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import msgspec
import pyarrow as pa
from pyarrow import parquet

CHUNK_BYTES = 64 * 1024 * 1024
LONGEST_LINE = 64 * 1024 * 1024
PACKED = (".gz", ".zst", ".parquet")
_BLOCK_BYTES = 1024 * 1024
_LINES_BYTES = 256 * 1024


class ExportError(Exception):
    """An export that cannot be read as a whole: what is wrong, and what to do."""


class ChangedError(ExportError):
    """A file that is no longer what it was when the run began: which, and what to do."""


class File(msgspec.Struct, frozen=True):
    """A file of an export, and the base URL of the server it comes from; empty if not known."""

    path: str
    server: str
    size: int
    modified: int
    inode: int = 0
    """0, as `modified`, where each machine has a copy of its own."""
    unpacked: str = ""
    """Where its lines are, if it is compressed."""

    @property
    def name(self) -> str:
        """Its name, without its folder."""
        return self.path.rpartition("/")[2]

    @property
    def packed(self) -> bool:
        """Whether it has no lines to read before it is unpacked, by its name."""
        return self.path.endswith(PACKED)


class Chunk(msgspec.Struct, frozen=True):
    """The lines of a file that begin in a range of its bytes."""

    file: int
    start: int
    end: int


class Unread(msgspec.Struct, frozen=True):
    """In place of a line: why there is none to read."""

    text: str


_TOO_LONG = Unread(f"The line is longer than {LONGEST_LINE // 1024**2} MiB: not read.")


def found_file(path: Path, server: str = "") -> File:
    """A file as it is now; ExportError for what is none, or cannot be read."""
    try:
        str(path.resolve()).encode()
        with open(path, "rb", opener=_without_waiting) as raw:
            facts = os.fstat(raw.fileno())
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise ExportError(f"{path}: a name that is not UTF-8 cannot be told: rename it.") from error
    if not stat.S_ISREG(facts.st_mode):
        raise ExportError(f"{path} is a pipe, a socket or a device: only files can be read.")
    return File(str(path.resolve()), server, facts.st_size, facts.st_mtime_ns, facts.st_ino)


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file; a pipe that nobody writes to would else be waited for, for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def opened(file: File) -> Iterator[IO[bytes]]:
    """A file to read, the one that was found before; ChangedError where it is another now."""
    try:
        with open(file.path, "rb", _BLOCK_BYTES, opener=_without_waiting) as raw:
            _refuse_changed(file, os.fstat(raw.fileno()))
            yield raw
            _refuse_changed(file, os.fstat(raw.fileno()))
    except OSError as error:
        raise _changed(file, f"cannot be read: {error.strerror}") from error


def refuse_changed(files: Iterable[File]) -> None:
    """Raises ChangedError unless every file is still what it was when it was found."""
    for file in files:
        with opened(file):
            pass


def _refuse_changed(file: File, facts: os.stat_result) -> None:
    if facts.st_size != file.size or file.modified not in {0, facts.st_mtime_ns}:
        raise _changed(file, "was changed while the export was read")
    if file.inode not in {0, facts.st_ino}:
        raise _changed(file, "was replaced while the export was read")


def _changed(file: File, what: str) -> ChangedError:
    return ChangedError(
        f"{file.path} {what}. No results were written: let nobody change the export meanwhile."
    )


@contextmanager
def lines_opened(file: File) -> Iterator[IO[bytes]]:
    """The file's lines to read, where they were unpacked to if it is compressed."""
    if not file.unpacked:
        with opened(file) as raw:
            yield raw
        return
    with open(file.unpacked, "rb", _BLOCK_BYTES) as raw:
        yield raw


def unpack(file: File, into: IO[bytes]) -> Iterator[tuple[int, Unread]]:
    """Write a compressed file's lines; where they end too early the line's number, and why."""
    count = 0
    with opened(file) as raw:
        for block in _blocks_or_damage(file.path, raw):
            if isinstance(block, Unread):
                yield count, block
            else:
                count += block.count(b"\n")
                into.write(block)


def _blocks_or_damage(path: str, raw: IO[bytes]) -> Iterator[bytes | Unread]:
    try:
        yield from _blocks(path, raw)
    except EOFError:
        yield Unread("The compressed file is cut short: what follows is missing.")
    except gzip.BadGzipFile:
        yield Unread("The compressed file is damaged: its checksum or header is wrong.")
    except (zlib.error, pa.ArrowException, OSError) as error:
        # Arrow's own have no number: the others are of the disk.
        if isinstance(error, OSError) and error.errno:
            raise
        yield Unread("The compressed file is damaged: from here on it cannot be read.")


def _blocks(path: str, raw: IO[bytes]) -> Iterator[bytes]:
    if path.endswith(".gz"):
        yield from iter(partial(gzip.GzipFile(fileobj=raw).read1, _BLOCK_BYTES), b"")
        return
    with os.fdopen(os.dup(raw.fileno()), "rb") as again:  # Arrow closes what it has read
        if path.endswith(".parquet"):
            yield from _column(parquet.ParquetFile(again))
            return
        with pa.CompressedInputStream(pa.PythonFile(again, "r"), "zstd") as stream:
            yield from iter(partial(stream.read, _BLOCK_BYTES), b"")


def _column(table: parquet.ParquetFile) -> Iterator[bytes]:
    """Resources in a column of JSON: the only one of text, or the one called `resource`."""
    texts = [f.name for f in table.schema_arrow if pa.types.is_string(f.type) or _large(f.type)]
    name = "resource" if "resource" in texts else texts[0] if len(texts) == 1 else ""
    if not name:
        raise pa.ArrowInvalid("no column `resource`, and not one column of text")
    for batch in table.iter_batches(1000, columns=[name]):
        for text in batch.column(0).to_pylist():
            # Between its elements JSON may have lines.
            yield (text or "").replace("\n", " ").encode() + b"\n"


def _large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind))


def chunks_of(files: Sequence[File], chunk_bytes: int = CHUNK_BYTES) -> list[Chunk]:
    """The files' lines in pieces that can be read on their own, in the order of files and lines."""
    return [
        Chunk(number, start, min(start + chunk_bytes, size))
        for number, file in enumerate(files)
        for size in (os.stat(file.unpacked).st_size if file.unpacked else file.size,)
        for start in range(0, size, chunk_bytes)
    ]


def blocks_of(file: File, chunk: Chunk) -> Iterator[tuple[int, bytes | Unread]]:
    """The lines of a chunk, some at a time, and where they begin; or why one cannot be read."""
    with lines_opened(file) as raw:
        position = chunk.start
        if position:
            raw.seek(position - 1)
            position += sum(len(block) for block in _rest_of_line(raw)) - 1
        while position < chunk.end:
            lines = raw.read(min(_LINES_BYTES, chunk.end - position))
            begun = len(lines) - lines.rfind(b"\n") - 1  # of a line that goes on
            if begun:
                lines += raw.readline(LONGEST_LINE - begun)
            if not lines:
                return
            start, position = position, position + len(lines)
            unread = lines[-1:] != b"\n" and len(lines) - lines.rfind(b"\n") > LONGEST_LINE
            if unread:
                position += sum(len(block) for block in _rest_of_line(raw))
                lines = lines[: lines.rfind(b"\n") + 1]
            # Some programs put a mark of UTF-8 before a file's first line.
            text = lines if start else lines.removeprefix(codecs.BOM_UTF8)
            if text:
                yield start + len(lines) - len(text), text
            if unread:
                yield start + len(lines), _TOO_LONG


class Reader(ExitStack):
    """Lines by where they stand; their files stay open."""

    def __init__(self, files: Sequence[File]) -> None:
        super().__init__()
        self._files = files
        self._opened: dict[int, int] = {}

    def line(self, file: int, start: int, length: int) -> bytes:
        """A line; ChangedError where its file is not what it was."""
        if file not in self._opened:
            raw = self.enter_context(lines_opened(self._files[file]))
            self._opened[file] = raw.fileno()
        line = os.pread(self._opened[file], length, start)
        if len(line) < length:
            raise _changed(self._files[file], "was cut while the export was read")
        return line


def _rest_of_line(raw: IO[bytes]) -> Iterator[bytes]:
    """What is left of a line, in blocks."""
    while block := raw.readline(_BLOCK_BYTES):
        yield block
        if block[-1:] == b"\n":
            return
