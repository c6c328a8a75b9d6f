"""Where AuditEvents wait on disk until they have been delivered."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType

_SECONDS_TO_WAIT = 5
_TABLE = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB)"


class SpoolError(Exception):
    """Events cannot be kept; the message says why, and nothing of them."""


class Spool:
    """Events in the order they came, shared by the workers of one machine.

    What `put` has returned for is on disk, whatever becomes of the process or the machine.
    """

    def __init__(self, directory: Path, most_events: int) -> None:
        """Opens or makes the directory's file; SpoolError where that cannot be."""
        self._most = most_events
        self._lock = threading.Lock()
        path = directory / "audit.db"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Nobody else's, whatever the umask; SQLite's own files beside it get the same rights.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._file = sqlite3.connect(
                path, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False
            )
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")
            # What was delivered is not to be found in what is left of the file.
            self._file.execute("PRAGMA secure_delete = ON")
            self._file.execute(_TABLE)
        except OSError as error:
            raise SpoolError(str(error.strerror)) from None
        except sqlite3.Error as error:
            raise SpoolError(str(error)) from None

    def put(self, events: Sequence[bytes]) -> None:
        """Keep all of them, or none; SpoolError where there is no room."""
        try:
            with self._lock, self._file:
                self._file.execute("BEGIN IMMEDIATE")
                if self._waiting() + len(events) > self._most:
                    raise SpoolError("as many events wait as may (MAA_AUDIT_SPOOL_EVENTS)")
                self._file.executemany(
                    "INSERT INTO events (event) VALUES (?)", [(event,) for event in events]
                )
        except sqlite3.Error as error:
            raise SpoolError(str(error)) from None

    def _waiting(self) -> int:
        # They come and go in order, so that nobody has to be counted.
        (number,) = self._file.execute(
            "SELECT COALESCE(MAX(id) - MIN(id) + 1, 0) FROM events"
        ).fetchone()
        return int(number)

    def oldest(self, most: int) -> list[tuple[int, bytes]]:
        """The events that have waited longest, each with its number; SpoolError."""
        try:
            with self._lock, closing(self._file.cursor()) as file:
                return file.execute(
                    "SELECT id, event FROM events ORDER BY id LIMIT ?", (most,)
                ).fetchall()
        except sqlite3.Error as error:
            raise SpoolError(str(error)) from None

    def delivered(self, last: int) -> None:
        """Let go of the events up to that number; SpoolError."""
        try:
            with self._lock, self._file:
                self._file.execute("DELETE FROM events WHERE id <= ?", (last,))
        except sqlite3.Error as error:
            raise SpoolError(str(error)) from None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class OneOfMany:
    """Held by one process at a time, and let go of when it ends however that is."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)

    def __enter__(self) -> bool:
        """Whether it is this process."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it for good."""
        os.close(self._file)
