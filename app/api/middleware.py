"""Around every request: its id, what is counted of it, and the answer to a bug."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.fhir_json import bug, misdirected, stopping
from app.api.metrics import Metrics
from app.domain.tally import TALLY, Tally
from app.evaluation import BugError
from app.fhir.kept import forget
from app.logs import tell, told_of

# Asked every few seconds by machines: told only where everything is.
_PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})
# What nginx calls a caller who went away before there was an answer.
_CALLER_WENT = 499
# A method of the caller's own making would be a time series of its own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_IP_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_NOT_STORED = (b"cache-control", b"no-store")
# What says already how long an answer is good.
_CACHE_HEADERS = {b"cache-control", b"etag"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}", re.ASCII)


class WhenAsked:
    """A middleware that sees only the answers to requests with its header.

    What a cache may keep (never the answer to a POST) it always sees: its Vary belongs there.
    """

    def __init__(
        self, app: ASGIApp, /, header: bytes, middleware: Callable[..., ASGIApp], **options: Any
    ) -> None:
        self._header = header
        self._without = app
        self._with = middleware(app, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope.get("method") != "POST" or any(n == self._header for n, _ in scope["headers"])
        await (self._with if asked else self._without)(scope, receive, send)


def _may_be_called(host: str, hosts: tuple[str, ...] | None) -> bool:
    """Whether a Host header names this machine, an IP address, or one of `hosts` (None: any).

    A page of another's can bring a name of its own to our address (DNS rebinding), but neither
    `localhost` nor an address; and no browser leaves the header out.
    """
    if hosts is None:
        return True
    name = host.lower().partition(":")[0].rstrip(".")
    if not name or name == "localhost" or name[0] == "[" or _IP_ADDRESS.fullmatch(name):
        return True
    return any(name == known or (known[:2] == "*." and name.endswith(known[1:])) for known in hosts)


class RequestMiddleware:
    """Echoes or assigns X-Request-Id, counts the request, turns a bug into a 500.

    Stands below `prefix`. What it answers itself is open to scripts as `open_to_scripts` has it.
    Refuses a call under a name that is not one of `hosts` (None: none is
    refused). Nothing of an answer is kept by a cache that was not told how, nor taken for another
    type than it says.
    The log holds the id, the route, the status, the time and the verdicts: never a body, a query or
    a path parameter.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        hosts: tuple[str, ...] | None = None,
        prefix: str = "",
        open_to_scripts: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = hosts
        self._prefix = prefix
        self._open_to_scripts = open_to_scripts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        scope = self._answered_as(scope)
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        scope["request_id"] = request_id
        status = 0
        tally = Tally()
        TALLY.set(tally)
        self._metrics.in_flight.inc()
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = answered = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    _NO_SNIFFING,
                ]
                if not any(name in _CACHE_HEADERS for name, _ in answered):
                    answered.append(_NOT_STORED)
            await send(message)

        called = _may_be_called(headers.get(b"host", b"").decode("latin-1"), self._hosts)
        try:
            answering = self._app if called else self._open_to_scripts(misdirected())
            await answering(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The server stops, and has waited long enough.
            if status:
                raise
            await self._open_to_scripts(stopping())(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 whatever it is, the caller gets an answer
            # The message may hold patient data: only its type and place are logged.
            bugged = str(error) if isinstance(error, BugError) else told_of(error)
            tell(logging.ERROR, "bug", {"request": request_id, "error": bugged})
            if status == 0:
                await self._open_to_scripts(bug())(scope, receive, send_with_id)
        finally:
            forget()
            tally.patients = ()
            self._told(scope, method, status or _CALLER_WENT, started, request_id, tally)

    def _answered_as(self, scope: Scope) -> Scope:
        """The scope as the application is to see it."""
        if scope["method"] == "HEAD":
            # Answered as GET; the server, which holds the scope as it came, sends no body.
            scope = {**scope, "method": "GET"}
        if self._prefix:
            # As ASGI has it, whether or not a proxy took the prefix off.
            path = scope["path"]
            whole = path if f"{path}/".startswith(f"{self._prefix}/") else self._prefix + path
            scope = {**scope, "root_path": self._prefix, "path": whole}
        return scope

    def _told(
        self, scope: Scope, method: str, status: int, started: float, request_id: str, tally: Tally
    ) -> None:
        """Count the request, and write its line."""
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.in_flight.dec()
        self._metrics.answered(route, method, status, seconds)
        self._metrics.judged(tally)
        fields = {
            "request": request_id,
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
        }
        if "caller" in scope:
            fields["client"] = scope["caller"]
        verdicts = {"verdicts": tally.verdicts} if tally.verdicts else {}
        level = logging.DEBUG if route in _PROBES and status < 500 else logging.INFO
        tell(level, "request", fields | verdicts)
