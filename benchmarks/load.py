"""A small load generator: HTTP/1.1 over kept connections, as fast as answers come or at a rate.

At a rate, a request's time counts from when it was due, not from when a connection was free: a
service that stalls does not slow down its own measurement.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True)
class Load:
    """What was seen: answers per second, and each answer's time in seconds, in order of size."""

    rate: float
    times: tuple[float, ...]
    failures: int

    def percentile(self, percent: float) -> float:
        """The time in seconds that so many percent of the answers did not exceed."""
        return self.times[min(len(self.times) - 1, int(len(self.times) * percent / 100))]


def post(path: str, body: bytes) -> bytes:
    """The bytes of one request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """One connection; `done` is called with the status at the end of each answer."""

    def __init__(self, load: _Run) -> None:
        self._load = load
        self._buffer = bytearray()
        self._missing = -1
        self.due = 0.0
        self.transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._missing < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            length = head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
            self._missing = end + 4 + int(length)
        if len(self._buffer) >= self._missing:
            good = self._buffer.startswith(b"HTTP/1.1 200")
            self._buffer.clear()
            self._missing = -1
            self._load.done(self, good)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 asyncio's own
        self._load.lost()


class _Run:
    """The requests of one measurement, sent at a rate, or (rate 0) as answers come."""

    def __init__(self, requests: Sequence[bytes], seconds: float, rate: float) -> None:
        self._requests = requests
        self._rate = rate
        self._sent = 0
        self._free: deque[_Connection] = deque()
        self._start = time.perf_counter()
        self._end = self._start + seconds
        self._times: list[float] = []
        self._failures = 0
        self._last = self._start

    async def run(self, port: int, connections: int) -> Load:
        loop = asyncio.get_running_loop()
        opened = [
            (await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        self._start = time.perf_counter()
        self._free.extend(opened)
        self._send()
        while time.perf_counter() < self._end or (
            len(self._free) < connections and time.perf_counter() < self._end + 5
        ):
            await asyncio.sleep(min(1 / self._rate, 0.001) if self._rate else 0.01)
            self._send()
        for connection in opened:
            connection.transport.close()
        rate = len(self._times) / (self._last - self._start)
        return Load(rate, tuple(sorted(self._times)), self._failures)

    def _send(self) -> None:
        """Every request that is due, on the connections that are free."""
        now = time.perf_counter()
        while self._free and now < self._end:
            due = self._start + self._sent / self._rate if self._rate else now
            if due > now:
                return
            connection = self._free.popleft()
            connection.due = due
            connection.transport.write(self._requests[self._sent % len(self._requests)])
            self._sent += 1

    def done(self, connection: _Connection, good: bool) -> None:
        self._last = time.perf_counter()
        self._times.append(self._last - connection.due)
        self._failures += not good
        self._free.append(connection)
        self._send()

    def lost(self) -> None:
        if time.perf_counter() < self._end:
            self._failures += 1


def measure(
    port: int, requests: Sequence[bytes], seconds: float, rate: float = 0, connections: int = 8
) -> Load:
    """Send the requests in turn for so many seconds to the port on this machine.

    With a rate (per second) they are sent when due, else as soon as a connection is free.
    """
    try:
        import uvloop  # noqa: PLC0415 not on every system

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        return runner.run(_Run(requests, seconds, rate).run(port, connections))
