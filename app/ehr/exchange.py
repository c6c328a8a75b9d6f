"""Requests to one FHIR server: tokens, retries, limits of time and size; one origin only."""

from __future__ import annotations

import asyncio
import codecs
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import urlencode

import httpx
from circuitbreaker import CircuitBreaker
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from app.ehr.authorization import Authorization, Form
from app.ehr.outbound import connections
from app.ehr.proof import Question
from app.fhir.outcome import Fault, RequestError
from app.fhir.zipped import ENCODINGS, NoGzipError, Unzipping

# What an HTTP header can carry.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_TRY_AGAIN = {429, 500, 502, 503, 504}
# For one patient; a slow one leaves room for others.
_AT_ONCE = 4
_RETRY_AFTER_SECONDS = 2
_BACK_OFF = wait_random_exponential(multiplier=0.2, max=5)
Told = Callable[[str, float], None]
"""Hears of each request how it ended (`ok`, `refused`, `other`, `timeout`, `outage`, `wrong`,
`cancelled`) and how many seconds it took."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often and how much is asked of the server."""

    timeout_seconds: float = 10
    """To connect, and between two pieces of an answer."""
    deadline_seconds: float = 30
    """For everything one call of ours needs, retries and pauses too."""
    connections: int = 32
    """The most requests to the server at one time."""
    wait_seconds: float = 5
    """To wait for one of them to end, before somebody is asked to come again."""
    attempts: int = 3
    page_count: int = 200
    pages: int = 100
    bytes: int = 64 * 1024 * 1024
    failures_to_open: int = 5
    """So many failures in a row, and the server is left alone for a while."""
    open_seconds: float = 30


class OutageError(RequestError):
    """The server is out of reach, overloaded or too slow: asked again, counted by the breaker."""

    def __init__(self, text: str, status: int = 502, pause: float = 0.0) -> None:
        kind = "timeout" if status == 504 else "transient"
        fault = Fault(kind, f"The FHIR server failed. {text}")
        super().__init__(status, fault, retry_after=math.ceil(pause) or None)
        self.pause = pause


def failed(text: str) -> NoReturn:
    """Raise that the server failed: a RequestError 502."""
    raise RequestError(502, Fault("transient", f"The FHIR server failed. {text}"))


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a GET, or with a form a POST; and how an error names it."""

    url: str
    what: str
    form: Form | None = None
    question: Question | None = None
    """What a search asks, for its answer to prove."""


@dataclass(slots=True)
class Budget:
    """What one call of ours may still use: bytes, and time until a moment of the loop's clock."""

    bytes: int
    ends: float
    slots: asyncio.Semaphore
    holds: Callable[[int], None] = lambda _size: None
    """Hears of every byte that is held; RequestError where there is no room for it."""

    def spend(self, size: int) -> None:
        """RequestError when more has been read than may be."""
        self.holds(size)
        self.bytes -= size
        if self.bytes < 0:
            failed("It sent more than is read for one patient (MAA_FHIR_MAX_BYTES).")


class Exchange:
    """Requests to one server, each within its limits; no request leaves for another host.

    The one exception is `token_url`, where it is given. A `client` that is given is shared, and
    left open by `aclose`. `told` hears of every request.
    """

    def __init__(
        self,
        base: httpx.URL,
        authorization: Authorization,
        limits: Limits,
        token_url: str | None,
        client: httpx.AsyncClient | None,
        told: Told | None,
    ) -> None:
        self._base = base
        self._token_url = token_url
        self._authorization = authorization
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.connections)
        self._breaker = CircuitBreaker(limits.failures_to_open, limits.open_seconds, OutageError)
        self._told = told or (lambda _outcome, _seconds: None)
        self._shared = client is not None
        self._client = client or connections()

    @property
    def resting(self) -> bool:
        """Whether the server failed so often that it is left alone for now."""
        return bool(self._breaker.opened)

    async def aclose(self) -> None:
        """Close the connections, unless they are shared."""
        if not self._shared:
            await self._client.aclose()

    @asynccontextmanager
    async def call(
        self, holds: Callable[[int], None] = lambda _size: None
    ) -> AsyncIterator[Budget]:
        """Around all that one call of ours asks, as one success or failure to the breaker.

        A single request is none: its siblings succeed, or are cancelled, beside one that fails.
        """
        if self._breaker.opened:
            pause = max(1, self._breaker.open_remaining)
            raise OutageError("It did so repeatedly and is left alone for a while.", pause=pause)
        try:
            async with asyncio.timeout(self._limits.deadline_seconds) as deadline:
                ends = deadline.when() or math.inf
                yield Budget(self._limits.bytes, ends, asyncio.Semaphore(_AT_ONCE), holds)
        except TimeoutError:
            self._count_failure()
            text = "It did not answer within the time given (MAA_FHIR_DEADLINE_SECONDS)."
            raise OutageError(text, 504) from None
        except OutageError:
            self._count_failure()
            raise
        except RequestError:
            self._breaker.reset()
            raise
        self._breaker.reset()

    def _count_failure(self) -> None:
        """Counts a failure, and keeps nothing of the patient for whom it was asked."""
        failure = OutageError("")
        with suppress(OutageError), self._breaker:
            raise failure
        # The breaker holds it until the next, and it would hold whatever it was raised beside.
        failure.__traceback__ = failure.__context__ = None

    async def body(self, ask: Ask, budget: Budget, missing_is_404: bool = False) -> bytes:
        """The body of one answer, asked for again while that may help."""
        for last in (False, True):
            token = await self._token(budget)
            status, body = await self._persist(ask, token, budget)
            if status == 401 and not last and self._authorization.refused(token):
                continue
            break
        if status == 200:
            return body
        if missing_is_404 and status in {404, 410}:
            raise RequestError(404, Fault("not-found", "The FHIR server has no such patient."))
        if status in {401, 403}:
            failed(f"It refused our credentials ({status}): check the token, client and scopes.")
        if 300 <= status < 400:
            failed(f"It redirects elsewhere ({status}), which is not followed: set the final URL.")
        failed(f"It answered {status} to {ask.what}.")

    async def _token(self, budget: Budget) -> str | None:
        async def exchange(url: str, form: Form | None = None) -> bytes:
            return await self._token_exchange(url, form, budget)

        token = await self._authorization.token(exchange)
        if token and not _TOKEN.fullmatch(token):
            failed("The access token for it is not one that a header can carry.")
        return token

    async def _token_exchange(self, url: str, form: Form | None, budget: Budget) -> bytes:
        if url != self._token_url and not self._same_origin(url):
            failed("Its token endpoint is on another host: name it in MAA_FHIR_TOKEN_URL.")
        ask = Ask(url, "the request for a token" if form else "the SMART discovery", form)
        status, body = await self._persist(ask, None, budget)
        if status != 200:
            what = "refused our client" if form else "has no SMART configuration"
            failed(f"Its authorization service {what} ({status}).")
        return body

    def _same_origin(self, url: str) -> bool:
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL:
            return False
        return origin(target) == origin(self._base) and not target.userinfo

    async def _persist(self, ask: Ask, token: str | None, budget: Budget) -> tuple[int, bytes]:
        """The answer's status and body; an outage is waited for as long as there is time."""
        left = budget.ends - asyncio.get_running_loop().time()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(OutageError),
            stop=stop_after_attempt(self._limits.attempts) | stop_before_delay(left),
            wait=_pause,
            reraise=True,
        )
        return await retrying(self._once, ask, token, budget)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the requests to the server; RequestError 503 where there are too many for long."""
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            text = "The FHIR server is busy with other patients (MAA_FHIR_CONNECTIONS)."
            fault = Fault("throttled", text)
            raise RequestError(503, fault, retry_after=_RETRY_AFTER_SECONDS) from None
        try:
            yield
        finally:
            self._slots.release()

    async def _once(self, ask: Ask, token: str | None, budget: Budget) -> tuple[int, bytes]:
        """One request, and how it ended told."""
        started, outcome = time.perf_counter(), "cancelled"
        try:
            answer = await self._sent(ask, token, budget)
            outcome = {200: "ok", 401: "refused", 403: "refused"}.get(answer[0], "other")
            return answer
        except OutageError as error:
            outcome = "timeout" if error.status == 504 else "outage"
            raise
        except RequestError:
            outcome = "wrong"
            raise
        finally:
            self._told(outcome, time.perf_counter() - started)

    async def _sent(self, ask: Ask, token: str | None, budget: Budget) -> tuple[int, bytes]:
        headers = {"accept": "application/fhir+json, application/json;q=0.9"}
        headers |= {"accept-encoding": "gzip", "user-agent": "maa-assess"}
        content = None
        if token:
            headers["authorization"] = f"Bearer {token}"
        if ask.form:
            headers["content-type"] = "application/x-www-form-urlencoded"
            content = urlencode(ask.form()).encode()
        request = self._client.build_request(
            "POST" if ask.form else "GET",
            ask.url,
            content=content,
            headers=headers,
            timeout=self._limits.timeout_seconds,
        )
        try:
            async with budget.slots, self._slot():
                response = await self._client.send(request, stream=True, follow_redirects=False)
                try:
                    return response.status_code, await _body(response, ask, budget)
                finally:
                    await response.aclose()
        except httpx.TimeoutException:
            text = f"It did not answer {ask.what} in time (MAA_FHIR_TIMEOUT_SECONDS)."
            raise OutageError(text, 504) from None
        except httpx.HTTPError:
            raise OutageError(f"It cannot be reached, or broke off at {ask.what}.") from None


async def _body(response: httpx.Response, ask: Ask, budget: Budget) -> bytes:
    """The body of a 200, and of no other status."""
    if response.status_code in _TRY_AGAIN:
        text = f"It answered {response.status_code} to {ask.what}."
        raise OutageError(text, pause=_retry_after(response))
    if response.status_code != 200:
        return b""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", *ENCODINGS}:
        failed("It sent a Content-Encoding that was not asked for.")
    unzip = Unzipping() if encoding in ENCODINGS else None
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            plain = unzip.piece(chunk, budget.bytes) if unzip else chunk
            budget.spend(len(plain))
            body += plain
    except NoGzipError:
        failed("It sent a body that is not the gzip it says it is.")
    if unzip and not unzip.ended:
        raise OutageError(f"It cannot be reached, or broke off at {ask.what}.")
    return bytes(body).removeprefix(codecs.BOM_UTF8)


def _pause(state: RetryCallState) -> float:
    """What the server asks for, else a growing pause with jitter."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.pause if isinstance(failure, OutageError) else 0.0
    return asked or _BACK_OFF(state)


def _retry_after(response: httpx.Response) -> float:
    """The pause the server asks for: seconds, or until a date."""
    given = response.headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return float(given[:9])
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return 0.0
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until.tzinfo else 0.0


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """The scheme, host and port of an address, as they are compared."""
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
