"""A request's JSON body, within its limits: what the FHIR addresses and CDS Hooks both read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast
from urllib.parse import parse_qsl

from starlette.requests import Request

from app.domain.effort import TooCostlyError, limited
from app.fhir.kept import forget
from app.fhir.outcome import Fault, RequestError
from app.fhir.zipped import ENCODINGS, NoGzipError, Unzipping

T = TypeVar("T")

FHIR_JSON = "application/fhir+json"
JSON_TYPES = {FHIR_JSON, "application/json", "text/json", "application/json+fhir"}
FORM = "application/x-www-form-urlencoded"
_MOST_FORM_BYTES = 64 * 1024
# A few patients take a millisecond or two: the way to another process would cost more.
AT_ONCE_BYTES = 128 * 1024
# What turns out to take longer is given up, and begun again in another process.
_AT_ONCE_STEPS = 4_000
_VERSIONS_READ = {"4.0", "4.3", "4.3.0", "5.0", "5.0.0"}
_RETRY_AFTER_SECONDS = 2
# So much is read on, and so long, after a body was found too long: a client that is still writing
# would be cut off, and not see the answer.
_READ_ON_BYTES = 32 * 1024 * 1024
_READ_ON_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it was sent."""

    sent: bytes
    zipped: bool = False
    most_bytes: int = 0
    check: Callable[[bytes], None] | None = None
    """Raises a RequestError where the caller may not ask about this JSON."""

    def plain(self) -> bytes:
        """The JSON; RequestError 400 where it is not the gzip it says it is, 413 where too long.

        403 where the caller may not ask about it.
        """
        plain = _unzipped(self.sent, self.most_bytes) if self.zipped else self.sent
        if self.check:
            self.check(plain)
        return plain

    def is_small(self, most_bytes: int) -> bool:
        """Whether the JSON is no longer than that; found out without making it whole."""
        if not self.zipped:
            return len(self.sent) <= most_bytes
        try:
            return len(Unzipping().piece(self.sent, most_bytes)) <= most_bytes
        except NoGzipError:
            return True


NO_BODY = Body(b"")


class Room:
    """The bytes of bodies that are held at one time."""

    def __init__(self, most_bytes: int) -> None:
        """Small bodies have as much for themselves: a few large ones do not shut them out."""
        self._left = {False: most_bytes, True: most_bytes}

    def take(self, size: int, small: bool) -> None:
        """RequestError 503 where there is no room for so many bytes."""
        if size > self._left[small]:
            text = "The service holds as many bodies as it may (MAA_MAX_BYTES_AT_ONCE)."
            fault = Fault("throttled", text)
            raise RequestError(503, fault, retry_after=_RETRY_AFTER_SECONDS, closes=True)
        self._left[small] -= size

    def give(self, size: int, small: bool) -> None:
        """Give bytes back."""
        self._left[small] += size


@asynccontextmanager
async def body_of(request: Request) -> AsyncIterator[Body]:
    """The request's JSON body, which has its room as long as this lasts.

    RequestError 413 as soon as it grows over the limit, 415 unless it says that it is JSON, 408
    where it does not come in time, 503 where there is no room for it.
    """
    _require_json(request.headers.get("content-type", ""))
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", *ENCODINGS}:
        text = "Send the body with Content-Encoding gzip, or without one."
        raise RequestError(415, Fault("not-supported", text))
    settings = request.app.state.settings
    with Held(request.app.state.room) as held:
        sent = await _read(request, settings.max_body_bytes, settings.body_seconds, held)
        check = request.scope.get("check_body")
        yield Body(sent, encoding != "identity", settings.max_body_bytes, check)


async def form_of(request: Request) -> list[tuple[str, str]]:
    """What an HTML form's body has, in its order: the parameters of a search.

    RequestError 415 unless it says that it is one, 413 where it is longer than any search, 408 and
    503 as above.
    """
    settings = request.app.state.settings
    with Held(request.app.state.room) as held:
        most_bytes = min(_MOST_FORM_BYTES, settings.max_body_bytes)
        sent = await _read(request, most_bytes, settings.body_seconds, held)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if sent and media_type != FORM:
            text = f"Send the parameters of a search with Content-Type {FORM}."
            raise RequestError(415, Fault("not-supported", text))
        return parse_qsl(bytes(sent).decode("utf-8", "replace"), keep_blank_values=True)


class Held:
    """The room that one body takes, or what is fetched for one request."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def add(self, size: int) -> None:
        """RequestError 503 where there is no room for so many bytes more."""
        self.grow(self._size + size)

    def grow(self, size: int) -> None:
        """RequestError 503 where there is no room for so many bytes in all."""
        if self._size <= AT_ONCE_BYTES < size:
            # It has turned out to be a large one.
            self._room.take(size, small=False)
            self._room.give(self._size, small=True)
        else:
            self._room.take(size - self._size, small=size <= AT_ONCE_BYTES)
        self._size = size

    def give_back(self) -> None:
        """Give all of it back."""
        self._room.give(self._size, small=self._size <= AT_ONCE_BYTES)
        self._size = 0


async def _read(request: Request, most_bytes: int, seconds: float, held: Held) -> bytes:
    declared = request.headers.get("content-length", "")
    length = int(declared[:20]) if declared.isascii() and declared.isdigit() else 0
    if length > most_bytes:
        # Who waits to be told to go on has sent nothing yet.
        if request.headers.get("expect", "").lower() != "100-continue":
            await _read_on(request)
        raise _too_long(most_bytes, closes=True)
    # Most bodies come in one piece, which is then not copied.
    first, more = b"", bytearray()
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most_bytes:
                    await _read_on(request)
                    raise _too_long(most_bytes, closes=True)
                held.grow(size)
                if more:
                    more += chunk
                elif first:
                    more = bytearray(first) + chunk
                    first = b""
                else:
                    first = chunk
    except TimeoutError:
        text = f"The body did not come within {seconds:g} seconds (MAA_BODY_SECONDS)."
        raise RequestError(408, Fault("timeout", text), closes=True) from None
    # A large one is not copied: whoever reads JSON takes a bytearray for bytes.
    return first or cast(bytes, more)


async def _read_on(request: Request) -> None:
    """Reads what the client is still writing, and forgets it, as long as that is not too much."""
    left = _READ_ON_BYTES
    try:
        async with asyncio.timeout(_READ_ON_SECONDS):
            message = await request.receive()
            while message.get("more_body") and left > 0:
                left -= len(message.get("body", b""))
                message = await request.receive()
    except TimeoutError:
        pass


def _require_json(content_type: str) -> None:
    """RequestError 415 unless the Content-Type is JSON, and FHIR of a version that is read."""
    if content_type in JSON_TYPES:
        return
    media_type, *parameters = content_type.lower().split(";")
    if media_type.strip() not in JSON_TYPES:
        named = media_type.strip()[:60]
        text = f"Send Content-Type {FHIR_JSON} (or application/json), not '{named}'."
        raise RequestError(415, Fault("not-supported", text))
    if fhir_version(parameters) not in _VERSIONS_READ:
        text = "FHIR R4, R4B and R5 are read: fhirVersion=4.0, 4.3 or 5.0."
        raise RequestError(415, Fault("not-supported", text))


def _unzipped(body: bytes, limit: int) -> bytes:
    """A gzip body as it was; 413 as soon as it grows over the limit, 400 when it is no gzip."""
    unzip = Unzipping()
    try:
        plain = unzip.piece(body, limit)
    except NoGzipError:
        raise RequestError(400, Fault("structure", "The body is not gzip.")) from None
    if len(plain) > limit:
        raise _too_long(limit)
    if not unzip.ended or unzip.is_followed:
        raise RequestError(400, Fault("structure", "The gzip body is cut short, or more than one."))
    return plain


def _too_long(limit: int, closes: bool = False) -> RequestError:
    text = f"The body is larger than {limit} bytes: send fewer patients or results at a time."
    return RequestError(413, Fault("too-long", text), closes=closes)


def fhir_version(parameters: list[str]) -> str:
    """The fhirVersion of a media type, R4 unless it names one."""
    given = (text.strip().partition("=") for text in parameters)
    named = {name.strip(): value.strip(' "') for name, _, value in given}
    return named.get("fhirversion", "4.0").removesuffix(".1")


class Sized(Protocol):
    """What may be too much to be looked at here."""

    def is_small(self, most_bytes: int) -> bool:
        """Whether it is no longer than that."""


async def elsewhere_if_large(request: Request, call: Callable[[], T], data: Sized) -> T:
    """What the call makes of the data: at once, or in another process where it is much work."""
    if data.is_small(AT_ONCE_BYTES):
        try:
            with suppress(TooCostlyError), limited(_AT_ONCE_STEPS):
                return call()
        finally:
            forget()
    made: T = await request.app.state.evaluator.run(request, call)
    return made
