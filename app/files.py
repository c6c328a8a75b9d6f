"""The files given on the command line: what they hold, and which command reads it."""

from __future__ import annotations

import codecs
import json
import sys
from pathlib import Path

import msgspec

from app.fhir.bodies import Typed
from app.fhir.canonicals import BASE
from app.fhir.resources import Concept

UNUSABLE, BAD_USAGE = 1, 2
"""Exit codes: of data that cannot be assessed, and of a command that has to be written anew."""
LINES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
"""How files end that have a resource on each line."""
_GZIP = b"\x1f\x8b"


class UnusableError(Exception):
    """What ends a command: sentences, and its exit code."""

    def __init__(self, *lines: str, code: int = BAD_USAGE) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.code = code


class OursError(UnusableError):
    """Data that are none: an answer of ours."""


def data_of(name: str) -> bytes:
    """The Bundle in a file; UnusableError where it is none, naming the command that reads it."""
    path = Path(name)
    if name != "-" and path.is_dir():
        raise UnusableError(
            f"{name} is a directory. `maa-assess screen`, and with --out `maa-assess response`, "
            "read a Bulk Data export; `maa-assess cohort` reads a directory of Bundles."
        )
    try:
        data = sys.stdin.buffer.read() if name == "-" else path.read_bytes()
    except OSError as error:
        raise UnusableError(f"{name}: {error.strerror}") from None
    shown = "standard input" if name == "-" else name
    data = _as_utf8(data, shown)
    try:
        found = msgspec.json.decode(data, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if _is_lines(data):
            raise UnusableError(
                f"{shown} has a resource on each line, as exports have: `maa-assess screen` reads "
                "it, and with --out `maa-assess response`.",
                code=UNUSABLE,
            ) from None
        return data
    if found.is_ours():
        raise OursError(
            f"{shown} is an answer of maa-assess, and has no patient's data.", code=UNUSABLE
        )
    if found.resourceType not in {"Bundle", "Parameters"}:
        what = (
            f"one {found.resourceType[:60]}" if found.resourceType else "JSON without resourceType"
        )
        raise UnusableError(
            f"{shown} is {what}, not a Bundle. A single resource goes into a Bundle of type "
            "'collection' as its entry.",
            code=UNUSABLE,
        )
    return data


class _Written(Typed):
    code: Concept | None = None
    module: str | None = msgspec.field(default=None, name="moduleCanonical")

    def is_ours(self) -> bool:
        if self.resourceType == "Observation":
            coding = self.code.coding if self.code else ()
            return any((one.system or "").startswith(BASE) for one in coding)
        return self.resourceType in {"GuidanceResponse", "OperationOutcome", "ResearchSubject"}


class _WrittenEntry(msgspec.Struct):
    resource: _Written | None = None


class _Answer(Typed):
    """As much of a Bundle as tells an answer of ours; other entries are data, ours beside them."""

    entry: tuple[_WrittenEntry, ...] = ()
    measure: str | None = None

    def is_ours(self) -> bool:
        if self.resourceType == "MeasureReport":
            return (self.measure or "").startswith(BASE)
        written = [entry.resource for entry in self.entry if entry.resource]
        return any((one.module or "").startswith(BASE) for one in written) and all(
            one.is_ours() for one in written
        )


def refuse_no_export(export: Path, command: str) -> None:
    """UnusableError for one Bundle in an export's place, and for lines that are not UTF-8."""
    if not export.is_file():
        return
    with export.open("rb") as opened:
        if opened.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            raise UnusableError(f"{export} is UTF-16: save it as UTF-8, which NDJSON is.")
    if export.name.endswith(LINES):
        return
    try:
        kind = msgspec.json.decode(export.read_bytes(), type=Typed).resourceType
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if kind in {"Bundle", "Parameters"}:
        raise UnusableError(
            f"{export} is one {kind}, not an export: `maa-assess {command} {export}` reads it."
        )


def _as_utf8(data: bytes, shown: str) -> bytes:
    """JSON of another Unicode encoding as UTF-8, without a byte order mark."""
    if data.startswith(_GZIP):
        raise UnusableError(f"{shown} is gzip: unpack it first.", code=UNUSABLE)
    encoding = json.detect_encoding(data)
    if encoding == "utf-8":
        return data
    try:
        return data.decode(encoding).encode()
    except UnicodeError:
        text = f"{shown} seems to be {encoding}, and is not: save it as UTF-8."
        raise UnusableError(text, code=UNUSABLE) from None


def _is_lines(data: bytes) -> bool:
    """Whether the first line is a resource by itself."""
    try:
        return msgspec.json.decode(data.split(b"\n", 1)[0], type=Typed).resourceType is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
