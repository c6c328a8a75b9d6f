"""What must be remembered so that it counts once: used tokens, and feedback that came before.

By itself each process remembers in its own memory; a store that the settings name is shared.
Only digests are kept, and only as long as they matter.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Protocol
from urllib.parse import urlsplit

from cachetools import TLRUCache
from starlette.concurrency import run_in_threadpool

from app.fhir.outcome import Fault, RequestError
from app.settings import Settings, SettingsError

_SECONDS_TO_WAIT = 2
_TABLE = (
    "CREATE TABLE IF NOT EXISTS remembered (name BLOB PRIMARY KEY, until REAL NOT NULL) "
    "WITHOUT ROWID"
)
_REMEMBER = (
    "INSERT INTO remembered VALUES (?, ?) "
    "ON CONFLICT (name) DO UPDATE SET until = excluded.until WHERE until <= ?"
)


class Remembered(Protocol):
    """What was there before, until some moment."""

    async def is_new(self, name: bytes, until: float) -> bool:
        """Whether the name was not there yet; from now on it is, until that moment (Unix time).

        RequestError 503 where that cannot be told.
        """

    async def aclose(self) -> None:
        """Let go of it."""


class InMemory:
    """Remembers in this process; of more than `most` names the oldest are forgotten first."""

    def __init__(self, most: int, clock: Callable[[], float] = time.time) -> None:
        self._names: TLRUCache[bytes, float] = TLRUCache(
            most, ttu=lambda _name, until, _now: until, timer=clock
        )

    def __len__(self) -> int:
        return len(self._names)

    async def is_new(self, name: bytes, until: float) -> bool:
        if name in self._names:
            return False
        self._names[name] = until
        return True

    async def aclose(self) -> None:
        pass


class InFile:
    """Remembers in an SQLite file, which the workers of one machine share."""

    def __init__(self, path: str) -> None:
        """Opens or makes the file; OSError or sqlite3.Error where that cannot be."""
        # Nobody else's, whatever the umask.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.Lock()
        self._file = sqlite3.connect(
            path, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False
        )
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute(_TABLE)
        self._file.execute("CREATE INDEX IF NOT EXISTS ends ON remembered (until)")

    async def is_new(self, name: bytes, until: float) -> bool:
        return await run_in_threadpool(self._is_new, name, until)

    def _is_new(self, name: bytes, until: float) -> bool:
        now = time.time()
        try:
            with self._lock, closing(self._file.cursor()) as file:
                new = file.execute(_REMEMBER, (name, until, now)).rowcount == 1
                file.execute("DELETE FROM remembered WHERE until <= ?", (now,))
        except sqlite3.Error:
            raise _unknown() from None
        return new

    async def aclose(self) -> None:
        self._file.close()


class InRedis:
    """Remembers in Redis, which any number of machines share."""

    def __init__(self, url: str) -> None:
        """Does not connect yet; ImportError without the extra `redis`."""
        from redis.asyncio import Redis  # noqa: PLC0415 an extra
        from redis.exceptions import RedisError  # noqa: PLC0415

        self._failures = (RedisError, OSError)
        self._redis: Any = Redis.from_url(
            url, socket_timeout=_SECONDS_TO_WAIT, socket_connect_timeout=_SECONDS_TO_WAIT
        )

    async def is_new(self, name: bytes, until: float) -> bool:
        key, seconds = f"maa-assess:{name.hex()}", max(1, int(until - time.time()) + 1)
        try:
            return bool(await self._redis.set(key, b"", nx=True, ex=seconds))
        except self._failures:
            raise _unknown() from None

    async def aclose(self) -> None:
        await self._redis.aclose()


def _unknown() -> RequestError:
    text = "Whether this came before cannot be looked up now (MAA_SHARED_STORE): ask again."
    return RequestError(503, Fault("transient", text), retry_after=_SECONDS_TO_WAIT)


def shared_store(settings: Settings) -> Remembered | None:
    """The store that the settings name; SettingsError where it cannot be opened."""
    if settings.shared_store is None:
        return None
    url = settings.shared_store.get_secret_value()
    try:
        if urlsplit(url).scheme == "sqlite":
            return InFile(urlsplit(url).path)
        return InRedis(url)
    except ImportError:
        raise SettingsError(
            "MAA_SHARED_STORE names Redis, which needs the extra: pip install 'maa-assess[redis]'."
        ) from None
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"MAA_SHARED_STORE cannot be opened ({why}).") from None
    except ValueError:
        raise SettingsError("MAA_SHARED_STORE is no URL that Redis understands.") from None
