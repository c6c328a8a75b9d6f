"""What an export is made of: its files, the server they come from, and their lines as bytes."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import msgspec

CHUNK_BYTES = 16 * 1024 * 1024
LONGEST_LINE = 64 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
_GZIP_RATIO = 12
_NAMED = 5
_NAMES = ("*.ndjson", "*.ndjson.gz", "*.jsonl", "*.jsonl.gz")
# What Bulk Data clients write beside the data; the SMART client begins a new one when it is full.
_LOG = re.compile(r"log(\d+|\..+)?\.ndjson(\.gz)?")
# Cumulus ETL writes a folder for each type.
_TABLES = ("diagnosticreport", "medication", "observation", "patient", "procedure")
_OPERATION = re.compile(r"(https?://.+?)/(?:Patient/|Group/[^/]+/)?\$export", re.DOTALL)


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

    @property
    def compressed(self) -> bool:
        """Whether it is gzip, by its name."""
        return self.path.endswith(".gz")


class Chunk(msgspec.Struct, frozen=True):
    """The lines of a file that begin in a range of its bytes; a compressed file is one range."""

    file: int
    start: int
    end: int


class Unread(msgspec.Struct, frozen=True):
    """In place of a line: why there is none to read."""

    text: str


_TOO_LONG = Unread(f"The line is longer than {LONGEST_LINE // 1024**2} MiB: not read.")


def find_files(exports: Sequence[Path]) -> tuple[list[File], list[str]]:
    """The files of exports, each a directory, a manifest or one file; and what is not read there.

    Raises ExportError for what is missing, unreadable, or of servers that are not named.
    """
    found: list[File] = []
    notes: list[str] = []
    for export in exports:
        paths, server, unlisted = _paths(export)
        notes += unlisted
        if len(exports) > 1 and not server:
            raise ExportError(
                f"{export} does not say which server it comes from (manifest.json, log.ndjson), "
                "and patients of two servers may have the same id: assess it alone."
            )
        for path in paths:
            if path.is_dir():
                notes.append(f"{path} is a directory, not a file: not read.")
            else:
                found.append(_file(path, server))
    return list(dict.fromkeys(found)), notes


def _file(path: Path, server: str) -> File:
    try:
        str(path.resolve()).encode()
        with open(path, "rb", opener=_without_waiting) as opened:
            facts = os.fstat(opened.fileno())
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


def _paths(export: Path) -> tuple[list[Path], str, list[str]]:
    """The files of an export, its server, and what stands there and is not read."""
    if export.is_dir():
        manifest = _manifest(export / "manifest.json")
        listed = _listed(manifest, export) if manifest else []
        data = _data(export)
        notes = _unlisted(export, listed, data) if manifest and manifest["output"] else []
        return listed or data, _server(manifest, export), notes
    if not export.exists():
        raise ExportError(f"{export}: there is no such file or directory.")
    manifest = _manifest(export) if export.suffix == ".json" else None
    if manifest is not None:
        listed = _listed(manifest, export.parent)
        if not listed and manifest.get("output"):
            raise ExportError(f"{export}: none of the files it lists stands beside it.")
        return listed, _server(manifest, export.parent), []
    return [export], "", []


def _unlisted(folder: Path, listed: Sequence[Path], data: Iterable[Path]) -> list[str]:
    """A manifest that is of another time than the files beside it, in a sentence."""
    if not listed:
        return [f"{folder}/manifest.json lists none of the files beside it: all of them are read."]
    names = sorted(path.name for path in {*data} - {*listed})
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    text = f"{', '.join(names[:_NAMED])}{more}"
    return [f"{folder}/manifest.json does not list {text}: not read."] if names else []


def _data(folder: Path) -> list[Path]:
    found = {path for name in _NAMES for path in folder.glob(name) if not _LOG.fullmatch(path.name)}
    tables = (folder.glob(f"{table}/{name}") for table in _TABLES for name in _NAMES)
    return sorted(found or {path for table in tables for path in table})


def _manifest(path: Path) -> dict[str, Any] | None:
    """A Bulk Data manifest; None where there is none."""
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: not a manifest: {error}") from error
    outputs = manifest.get("output") if isinstance(manifest, dict) else None
    if not isinstance(outputs, list) or not all(
        isinstance(one, dict) and isinstance(one.get("url"), str) for one in outputs
    ):
        raise ExportError(f"{path}: not a Bulk Data manifest: it has no `output` with a `url`.")
    return dict(manifest)


def _listed(manifest: dict[str, Any], folder: Path) -> list[Path]:
    """The files a manifest names, beside it; none where a client gave them names of its own."""
    outputs = {output["url"]: output for output in manifest["output"]}
    names = [unquote(urlsplit(url).path).rpartition("/")[2] for url in outputs]
    for convention in (names, _smart_names(outputs.values())):
        found = {path for name in convention if (path := _beside(folder, name))}
        # Two URLs may end in the same name: one file would then stand for both.
        if len(found) == len(outputs):
            return sorted(found)
    present = {name for name in names if _beside(folder, name)}
    if present:
        missing = list((Counter(names) - Counter(present)).elements())
        raise ExportError(f"{folder}: the manifest names files that are not there: {missing[:5]}")
    return []


def _smart_names(outputs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """How the SMART client names files, unless told otherwise: numbered within their type."""
    numbers: Counter[str] = Counter()
    for output in outputs:
        kind = str(output.get("type"))
        numbers[kind] += 1
        yield f"{numbers[kind]}.{kind}.ndjson"


def _beside(folder: Path, name: str) -> Path | None:
    beside = [folder / name, folder / f"{name}.gz"] if name.strip(".") else []
    return next((path for path in beside if path.exists()), None)


def _server(manifest: dict[str, Any] | None, folder: Path) -> str:
    """The server an export comes from, as its manifest or what its client left beside it says."""
    named = _base(manifest.get("request")) if manifest else ""
    return named or _logged_server(folder) or _noted_server(folder / ".metadata")


def _base(request: Any) -> str:
    match = _OPERATION.match(request) if isinstance(request, str) else None
    return match.group(1).rstrip("/") if match else ""


def _logged_server(folder: Path) -> str:
    """The server of the newest kick-off in a client's logs: log.ndjson, then log1.ndjson."""
    for path in sorted(folder.glob("log*")):
        if _LOG.fullmatch(path.name) and path.is_file():
            log = _file(path, "")
            lines = (line for _, line in lines_of(log, Chunk(0, 0, log.size)))
            named = (_kicked_off(line) for line in lines if isinstance(line, bytes))
            if servers := [server for server in named if server]:
                return servers[-1]
    return ""


def _kicked_off(event: bytes) -> str:
    try:
        return _base(json.loads(event)["eventDetail"]["exportUrl"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return ""


def _noted_server(notes: Path) -> str:
    """The server of a folder that SMART Fetch manages: it keeps the logs in folders below."""
    if not notes.is_file():
        return ""
    try:
        return _base(f"{json.loads(notes.read_bytes())['fhir-url']}/$export")
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return ""


def unpacked_bytes(files: Iterable[File]) -> int:
    """About how many bytes there are to read; what is in a compressed file is guessed."""
    return sum(file.size * (_GZIP_RATIO if file.compressed else 1) for file in files)


def chunks_of(files: Sequence[File], chunk_bytes: int = CHUNK_BYTES) -> list[Chunk]:
    """The files in pieces that can be read on their own, in the order of files and lines."""
    return [
        Chunk(number, start, min(start + chunk_bytes, file.size))
        for number, file in enumerate(files)
        for start in range(0, file.size, file.size if file.compressed else chunk_bytes)
    ]


def lines_of(file: File, chunk: Chunk) -> Iterator[tuple[int, bytes | Unread]]:
    """The lines of a chunk with their ends, and where each begins; or why one cannot be read.

    In a compressed file the place is its number of bytes once it is unpacked.
    """
    with opened(file) as raw:
        if file.compressed:
            yield from _lines_of_gzip(raw)
            return
        position = chunk.start
        if position:
            raw.seek(position - 1)
            position += sum(len(block) for block in _rest_of_line(raw)) - 1
        while position < chunk.end and (line := raw.readline(LONGEST_LINE)):
            start = position
            position += len(line)
            if len(line) == LONGEST_LINE and line[-1:] != b"\n":
                position += sum(len(block) for block in _rest_of_line(raw))
                yield start, _TOO_LONG
            else:
                yield start, line if start else line.removeprefix(codecs.BOM_UTF8)


def _lines_of_gzip(raw: IO[bytes]) -> Iterator[tuple[int, bytes | Unread]]:
    with gzip.open(raw, "rb") as opened:
        position = 0
        try:
            line = opened.readline(LONGEST_LINE).removeprefix(codecs.BOM_UTF8)
            while line:
                if len(line) >= LONGEST_LINE - len(codecs.BOM_UTF8) and line[-1:] != b"\n":
                    sum(len(block) for block in _rest_of_line(opened))
                    yield position, _TOO_LONG
                else:
                    yield position, line
                position = opened.tell()
                line = opened.readline(LONGEST_LINE)
        except EOFError:
            yield position, Unread("The compressed file is cut short: what follows is missing.")
        except gzip.BadGzipFile:
            yield (
                position,
                Unread("The compressed file is damaged: its checksum or header is wrong."),
            )
        except zlib.error:
            yield (
                position,
                Unread("The compressed file is damaged: from here on it cannot be read."),
            )


def _rest_of_line(raw: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """What is left of a line, in blocks."""
    while block := raw.readline(_BLOCK_BYTES):
        yield block
        if block[-1:] == b"\n":
            return
