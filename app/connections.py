"""uvicorn's connections, with an end to what a client may keep waiting or send before its body."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.body import FHIR_JSON
from app.fhir.json import encode
from app.fhir.outcome import Fault, RequestError
from app.settings import Settings, read_settings

# So long a client may go on with a body whose answer it has, before it is cut off.
_READ_ON_SECONDS = 5
_PHRASES = {
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


@cache
def _settings() -> Settings:
    return read_settings()


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = _settings()
        self._without_body = 0
        """The bytes since the last that belonged to a body: a head, or trailers."""
        self._head_begun = False
        self._waiting: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            text = "There are as many connections as there may be (MAA_CONNECTIONS)."
            self._refuse(503, Fault("throttled", text))
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._writing:
            self._writing.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._without_body += len(data)
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        super().data_received(data)
        if self._without_body > self._limits.header_bytes:
            text = "The headers are larger than they may be (MAA_HEADER_BYTES)."
            self._refuse(431, Fault("too-long", text))

    def on_message_begin(self) -> None:
        self._head_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_begun = False
        self._stop_waiting()
        self._without_body = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_waiting()
        self._without_body = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        self._stop_waiting()
        if self.cycle.more_body:
            # Answered before the body was read.
            self._waiting = self.loop.call_later(_READ_ON_SECONDS, self.transport.close)
        elif self._head_begun:
            # The next head has begun to come.
            self._expect_head()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        seconds = self._limits.write_seconds
        self._writing = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        if self._writing:
            self._writing.cancel()
        super().resume_writing()

    def _expect_head(self) -> None:
        self._waiting = self.loop.call_later(self._limits.header_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        text = "The request's headers did not come in time (MAA_HEADER_SECONDS)."
        self._refuse(408, Fault("timeout", text))

    def _refuse(self, status: int, fault: Fault) -> None:
        """Answers without the application, and closes."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = encode(RequestError(status, fault).outcome())
            head = (
                f"content-type: {FHIR_JSON}\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n"
            )
            line = b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES[status])
            self.transport.write(line + head.encode() + body)
        self.transport.close()
