"""What the service writes to standard error: a line for each event, as JSON or as text.

A line holds what its caller names in `fields`, and never the text of an exception: it may repeat
what a patient's data say.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

# Our own, the server's, and the one that gunicorn gives its workers.
_LOGGERS = ("maa_assess", "uvicorn", "uvicorn.error", "gunicorn.error")
_LOG = logging.getLogger("maa_assess")
_ENCODE = msgspec.json.Encoder(enc_hook=str).encode


def configure_logs(level: str, style: str | None) -> None:
    """Send every log of this process to standard error; by default as text to a terminal."""
    as_text = style == "text" or (style is None and sys.stderr.isatty())
    handler = _StandardError()
    handler.setFormatter(_Text() if as_text else _Json())
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, _StandardError)]
    root.addHandler(handler)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level.upper())


def silence_the_talkative() -> None:
    """Turn off the loggers of libraries that repeat what may name a patient."""
    # The path and the query.
    logging.getLogger("uvicorn.access").disabled = True
    # At INFO httpx tells every address it asks; httpcore the headers.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def tell(level: int, message: str, fields: Mapping[str, Any]) -> None:
    """A line of our own; as the logger would write it, in a fifth of the time where it is JSON."""
    if not _LOG.isEnabledFor(level):
        return
    handlers = logging.root.handlers
    if len(handlers) == 1 and type(handlers[0].formatter) is _Json:
        # Where its disk is full, or its reader gone, callers are answered all the same.
        with suppress(OSError):
            sys.stderr.write(_line(time.time(), logging.getLevelName(level), message, fields))
    else:
        _LOG.log(level, message, extra={"fields": fields})


def told_of(error: BaseException) -> str:
    """The type of an exception and where it was raised: its text may repeat a patient's data."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__} at {place}"


class _StandardError(logging.StreamHandler[TextIO]):
    """Standard error as it is now: a test or a daemon may have put another in its place."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Kept by nobody: see above."""


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1]:
        return {**fields, "error": told_of(record.exc_info[1])}
    return fields


def _line(seconds: float, level: str, message: str, fields: Mapping[str, Any]) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    line = {"time": moment, "level": level.lower(), "message": message.strip(), **fields}
    return _ENCODE(line).decode() + "\n"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message, fields = record.getMessage(), _fields(record)
        return _line(record.created, record.levelname, message, fields).rstrip()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return f"{moment} {record.levelname} {record.getMessage()} {told}".rstrip()
