"""One FHIR server as a source of a patient's data; no request leaves for another host."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn, TypeVar
from urllib.parse import quote, urlencode

import httpx
import msgspec
from circuitbreaker import CircuitBreaker
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from app.ehr.authorization import Authorization, Bearer
from app.fhir.outcome import Fault, RequestError
from app.fhir.searches import SEARCHES, Search

_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9.\-]{1,64}", re.ASCII)
_SORTED_BY = {"Observation": "-date", "Procedure": "-date"}
_TRY_AGAIN = {429, 500, 502, 503, 504}
_LONGEST_URL = 2000
_AT_ONCE = 4
_BACK_OFF = wait_random_exponential(multiplier=0.2, max=5)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often and how much is asked of the server."""

    timeout_seconds: float = 10
    """To connect, and between two pieces of an answer."""
    deadline_seconds: float = 30
    """For everything one call of ours needs, retries and pauses too."""
    attempts: int = 3
    page_count: int = 200
    pages: int = 100
    bytes: int = 64 * 1024 * 1024
    failures_to_open: int = 5
    """So many failures in a row, and the server is left alone for a while."""
    open_seconds: float = 30


class _Link(msgspec.Struct):
    relation: str = ""
    url: str = ""


class _Search(msgspec.Struct):
    mode: str = "match"


class _Entry(msgspec.Struct, omit_defaults=True):
    fullUrl: str | None = None  # noqa: N815 FHIR's own name
    resource: msgspec.Raw = msgspec.Raw()
    search: _Search | None = None


class _Page(msgspec.Struct):
    resourceType: str  # noqa: N815 FHIR's own name
    type: str = ""
    link: list[_Link] = []
    entry: list[_Entry] = []


class _Issue(msgspec.Struct):
    severity: str = "error"


class _Resource(msgspec.Struct):
    resourceType: str  # noqa: N815 FHIR's own name
    id: str = ""
    issue: list[_Issue] = []


_T = TypeVar("_T", _Page, _Resource)


class _TransientError(Exception):
    """A failure that may pass; after the last attempt it becomes a RequestError."""

    def __init__(self, said: str, pause: float = 0.0) -> None:
        super().__init__(said)
        self.said = said
        self.pause = pause


class _Budget:
    """How many bytes one call of ours may still read."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            _failed("It sent more than is read for one patient (MAA_FHIR_MAX_BYTES).")


def _failed(text: str, status: int = 502) -> NoReturn:
    kind = "timeout" if status == 504 else "transient"
    raise RequestError(status, Fault(kind, f"The FHIR server failed. {text}"))


class FhirServer:
    """One FHIR server as a source of a patient's data; no request leaves for another host.

    The one exception is `token_url`, where it is given. `search_by_post` searches by
    `POST [type]/_search`.
    """

    def __init__(
        self,
        base: str,
        authorization: Authorization | None = None,
        limits: Limits | None = None,
        search_by_post: bool = False,
        token_url: str | None = None,
    ) -> None:
        self._base = httpx.URL(base.rstrip("/"))
        self._token_url = token_url
        self._authorization: Authorization = authorization or Bearer()
        self._limits = limits or Limits()
        self._search_by_post = search_by_post
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._breaker = CircuitBreaker(
            self._limits.failures_to_open, self._limits.open_seconds, _TransientError
        )
        self._client = httpx.AsyncClient(
            timeout=self._limits.timeout_seconds,
            follow_redirects=False,
            headers={"accept": "application/fhir+json", "user-agent": "maa-assess"},
        )

    @property
    def resting(self) -> bool:
        """Whether the server failed so often that it is left alone for now."""
        return bool(self._breaker.opened)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def fetch(self, query: str) -> bytes:
        """`Patient/1` or `Observation?patient=1&code=a,b`: all pages as one searchset Bundle.

        Resources are passed on as they came, every digit kept. RequestError 502 or 504 with what
        failed, 404 where the resource read is not there.
        """
        async with self._deadline():
            budget = _Budget(self._limits.bytes)
            if "?" not in query:
                return _bundle([await self._read(query, budget)])
            return _bundle(await self._search(f"{self._base}/{query}", None, budget))

    async def patient_data(self, patient_id: str) -> bytes:
        """Everything an assessment reads of one patient, as one Bundle; errors as in `fetch`.

        RequestError 400 for what is no FHIR id, before anything is asked.
        """
        if not _ID.fullmatch(patient_id):
            raise RequestError(400, Fault("invalid", "The patient's id is not a FHIR id."))
        budget = _Budget(self._limits.bytes)
        async with self._deadline():
            patient = await self._read(f"Patient/{patient_id}", budget)
            asked = [ask for search in SEARCHES for ask in self._asked(search, patient_id)]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._search(*ask, budget)) for ask in asked]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return _bundle([patient, *(entry for task in tasks for entry in task.result())])

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                yield
        except TimeoutError:
            _failed("It did not answer within the time given (MAA_FHIR_DEADLINE_SECONDS).", 504)

    def _asked(
        self, search: Search, patient_id: str
    ) -> Iterable[tuple[str, dict[str, str] | None]]:
        """The search as URL and form: one POST, or as many GETs as keep the address short."""
        fixed = {"patient": patient_id, "_count": str(self._limits.page_count)}
        if search.type in _SORTED_BY:
            fixed["_sort"] = _SORTED_BY[search.type]
        address = f"{self._base}/{search.type}"
        if self._search_by_post:
            yield f"{address}/_search", fixed | {"code": ",".join(search.tokens)}
            return
        room = _LONGEST_URL - len(f"{address}?{urlencode(fixed)}&code=")
        for tokens in _chunks(search.tokens, room):
            yield f"{address}?{urlencode(fixed | {'code': tokens})}", None

    async def _read(self, path: str, budget: _Budget) -> _Entry:
        url = f"{self._base}/{quote(path)}"
        body = await self._exchange(url, budget=budget, missing_is_404=True)
        kind, _, name = path.partition("/")
        if (read := _decoded(body, _Resource)).resourceType != kind or read.id != name:
            _failed("It answered a read with another resource.")
        return _Entry(url, msgspec.Raw(body))

    async def _search(self, url: str, form: dict[str, str] | None, budget: _Budget) -> list[_Entry]:
        found: dict[str, _Entry] = {}
        seen: set[str] = set()
        while url:
            if url in seen or len(seen) == self._limits.pages:
                _failed("Its pages do not end: a 'next' link leads back, or there are too many.")
            seen.add(url)
            page = _decoded(await self._exchange(url, form, budget), _Page)
            if page.resourceType != "Bundle" or page.type not in {"searchset", ""}:
                _failed("It answered a search with something else than a searchset Bundle.")
            for entry in page.entry:
                if entry.resource:
                    found.setdefault(_identity(entry), entry)
            url, form = self._next(url, page), None
        return [entry for entry in found.values() if not _is_outcome(entry)]

    def _next(self, url: str, page: _Page) -> str:
        """The next page's address; RequestError where it is not the server's own."""
        given = next((link.url for link in page.link if link.relation == "next"), "")
        if not given:
            return ""
        following = httpx.URL(url).join(given)
        own = following.path.rstrip("/") == self._base.path.rstrip("/") or (
            following.path.startswith(f"{self._base.path.rstrip('/')}/")
        )
        if _origin(following) != _origin(self._base) or not own or following.userinfo:
            _failed("A 'next' link leads to another address; set the server's own base URL there.")
        return str(following)

    async def _exchange(
        self,
        url: str,
        form: dict[str, str] | None = None,
        budget: _Budget | None = None,
        missing_is_404: bool = False,
    ) -> bytes:
        """The body of one answer, asked for again while that may help."""
        budget = budget or _Budget(self._limits.bytes)
        for last in (False, True):
            token = await self._authorization.token(self._token_exchange)
            async with self._slots:
                status, body = await self._persist(url, form, token, budget)
            if status == 401 and not last and self._authorization.refused():
                continue
            break
        if status == 200:
            return body
        if missing_is_404 and status in {404, 410}:
            raise RequestError(404, Fault("not-found", "The FHIR server has no such patient."))
        if status in {401, 403}:
            _failed(f"It refused our credentials ({status}): check the token, client and scopes.")
        if 300 <= status < 400:
            _failed(f"It redirects elsewhere ({status}), which is not followed: set the final URL.")
        _failed(f"It answered {status} to a search or read.")

    async def _token_exchange(self, url: str, form: dict[str, str] | None = None) -> bytes:
        target = httpx.URL(url)
        if _origin(target) != _origin(self._base) and url != self._token_url:
            _failed("Its token endpoint is on another host: name it in MAA_FHIR_TOKEN_URL.")
        status, body = await self._persist(url, form, None, _Budget(self._limits.bytes))
        if status != 200:
            what = "refused our client" if form else "has no SMART configuration"
            _failed(f"Its authorization service {what} ({status}).")
        return body

    async def _persist(
        self, url: str, form: dict[str, str] | None, token: str | None, budget: _Budget
    ) -> tuple[int, bytes]:
        if self._breaker.opened:
            _failed("It failed repeatedly and is left alone for a while.")
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TransientError),
            stop=stop_after_attempt(self._limits.attempts),
            wait=_pause,
            reraise=True,
        )
        try:
            with self._breaker:
                return await retrying(self._once, url, form, token, budget)
        except _TransientError as failure:
            _failed(failure.said, 504 if "time" in failure.said else 502)

    async def _once(
        self, url: str, form: dict[str, str] | None, token: str | None, budget: _Budget
    ) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        method = "POST" if form else "GET"
        try:
            async with self._client.stream(method, url, data=form, headers=headers) as response:
                if response.status_code in _TRY_AGAIN:
                    raise _TransientError(
                        f"It answered {response.status_code}.", _retry_after(response)
                    )
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    budget.spend(len(chunk))
                    body += chunk
                return response.status_code, bytes(body)
        except httpx.TimeoutException:
            raise _TransientError("It did not answer in time (MAA_FHIR_TIMEOUT_SECONDS).") from None
        except httpx.HTTPError:
            raise _TransientError("It cannot be reached, or broke off.") from None


def _pause(state: RetryCallState) -> float:
    """What the server asks for, else a growing pause with jitter."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.pause if isinstance(failure, _TransientError) else 0.0
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


def _chunks(tokens: Iterable[str], room: int) -> Iterable[str]:
    chunk: list[str] = []
    for token in tokens:
        if chunk and len(quote(",".join([*chunk, token]), safe="")) > room:
            yield ",".join(chunk)
            chunk = []
        chunk.append(token)
    yield ",".join(chunk)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError):
        _failed("It answered with something that is no FHIR JSON.")


def _identity(entry: _Entry) -> str:
    """What a resource found twice, by two searches or on two pages, is known by."""
    resource = _decoded(bytes(entry.resource), _Resource)
    return f"{resource.resourceType}/{resource.id}" if resource.id else bytes(entry.resource).hex()


def _is_outcome(entry: _Entry) -> bool:
    """An OperationOutcome among the matches; RequestError where it says that some are missing."""
    resource = _decoded(bytes(entry.resource), _Resource)
    if resource.resourceType != "OperationOutcome":
        return False
    if any(issue.severity in {"error", "fatal"} for issue in resource.issue):
        _failed("It could not complete a search and says so with an OperationOutcome.")
    return True


def _bundle(entries: Iterable[_Entry]) -> bytes:
    unique = {_identity(entry): entry for entry in entries}
    found = list(unique.values())
    return msgspec.json.encode({"resourceType": "Bundle", "type": "searchset", "entry": found})
