"""Where AuditEvents go: a file of JSON lines, or a FHIR server."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx

from app.access.spool import OneOfMany, Spool, SpoolError
from app.ehr.outbound import connections
from app.logs import tell, told_of
from app.settings import Settings

_AT_ONCE = 100
_SECONDS_BETWEEN_LOOKS = 1.0
_MOST_SECONDS_TO_WAIT = 60.0
_TIMEOUT_SECONDS = 10.0
_SECONDS_TO_END = 3.0


class SinkError(Exception):
    """Events cannot be delivered now; the message says why, and nothing of them."""


class Sink(Protocol):
    """Where events go."""

    async def deliver(self, events: Sequence[bytes]) -> int:
        """How many of them, from the first on, have been taken for good; SinkError for none."""

    async def aclose(self) -> None:
        """Let go of it."""


class ToFile:
    """A file of JSON lines, whose owner alone reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, events: Sequence[bytes]) -> int:
        try:
            await asyncio.to_thread(self._append, b"".join(event + b"\n" for event in events))
        except OSError as error:
            raise SinkError(str(error.strerror)) from None
        return len(events)

    def _append(self, lines: bytes) -> None:
        """All of the lines, or none of them."""
        # Opened anew each time: who rotates logs moves it away.
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file).st_size
            try:
                left = memoryview(lines)
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
            except OSError:
                # What is no file, but a device or a pipe, cannot be cut.
                with suppress(OSError):
                    os.ftruncate(file, size)
                raise
        finally:
            os.close(file)

    async def aclose(self) -> None:
        pass


class ToServer:
    """A FHIR server: a create for each event (ITI-20)."""

    def __init__(self, base: str, token: str | None) -> None:
        self._url = f"{base.rstrip('/')}/AuditEvent"
        self._client = connections()
        self._headers = {"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def deliver(self, events: Sequence[bytes]) -> int:
        for number, event in enumerate(events):
            why = await self._create(event)
            if why and not number:
                raise SinkError(why)
            if why:
                return number
        return len(events)

    async def _create(self, event: bytes) -> str:
        """Why the server did not take an event; nothing where it did."""
        try:
            answer = await self._client.post(
                self._url, content=event, headers=self._headers, timeout=_TIMEOUT_SECONDS
            )
        except httpx.HTTPError:
            return "the server does not answer"
        return "" if answer.is_success else f"the server answers {answer.status_code}"

    async def aclose(self) -> None:
        await self._client.aclose()


def sink_of(settings: Settings) -> Sink:
    """Where the settings say that events go."""
    target = settings.audit or ""
    if urlsplit(target).scheme == "file":
        return ToFile(Path(unquote(urlsplit(target).path)))
    token = settings.audit_token
    return ToServer(target, token.get_secret_value() if token else None)


class Delivery:
    """Brings what waits in the spool to its sink: one worker of all does, as long as it lives."""

    def __init__(self, spool: Spool, sink: Sink, directory: Path) -> None:
        self._spool = spool
        self._sink = sink
        self._duty = OneOfMany(directory / "audit.lock")
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.ensure_future(self._run())

    async def aclose(self) -> None:
        """End; what is left waits for the next start."""
        self._ending.set()
        if self._task:
            # Else what was taken would be brought once more.
            await asyncio.wait({self._task}, timeout=_SECONDS_TO_END)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._sink.aclose()
        self._duty.close()
        self._spool.close()

    async def _run(self) -> None:
        while not self._ending.is_set():
            with self._duty as ours:
                if ours:
                    await self._deliver()
            await self._pause(_SECONDS_BETWEEN_LOOKS)

    async def _deliver(self) -> None:
        """Whatever comes, until the end; with longer and longer pauses while it is not taken."""
        pause = _SECONDS_BETWEEN_LOOKS
        while not self._ending.is_set():
            why = ""
            try:
                if await self._some():
                    pause = _SECONDS_BETWEEN_LOOKS
                    continue
            except (SinkError, SpoolError) as error:
                why = str(error)
            except Exception as error:  # noqa: BLE001 what waits must not wait for ever
                why = told_of(error)
            if why:
                tell(logging.ERROR, "audit is not delivered", {"why": why})
                pause = min(2 * pause, _MOST_SECONDS_TO_WAIT)
            await self._pause(pause)

    async def _some(self) -> bool:
        """Bring some; False where none waits."""
        events = await asyncio.to_thread(self._spool.oldest, _AT_ONCE)
        if events:
            taken = await self._sink.deliver([event for _, event in events])
            await asyncio.to_thread(self._spool.delivered, events[taken - 1][0])
        return bool(events)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
