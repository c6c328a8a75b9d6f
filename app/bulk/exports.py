"""What an export is made of: its files, and the server they come from."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from app.bulk.files import ExportError, File, found_file, opened, unpack

_NAMED = 5
_NAMES = [f"*.{name}{packed}" for name in ("ndjson", "jsonl") for packed in ("", ".gz", ".zst")]
# What Bulk Data clients write beside the data; the SMART client begins a new one when it is full.
_LOG = re.compile(r"log(\d+|\..+)?\.ndjson(\.gz)?")
# Cumulus ETL writes a folder for each type.
_TABLES = ("diagnosticreport", "medication", "observation", "patient", "procedure")
_OPERATION = re.compile(r"(https?://.+?)/(?:Patient/|Group/[^/]+/)?\$export", re.DOTALL)


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
                found.append(found_file(path, server))
    return list(dict.fromkeys(found)), notes


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
    others = {path for table in tables for path in table}
    return sorted(found or others or folder.glob("*.parquet"))


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
    beside = [folder / f"{name}{end}" for end in ("", ".gz", ".zst")] if name.strip(".") else []
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
            lines = _log_lines(found_file(path))
            named = [_kicked_off(line) for line in lines]
            if servers := [server for server in named if server]:
                return servers[-1]
    return ""


def _log_lines(log: File) -> list[bytes]:
    text = io.BytesIO()
    if log.packed:
        list(unpack(log, text))
        return text.getvalue().splitlines()
    with opened(log) as raw:
        return raw.read().splitlines()


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
