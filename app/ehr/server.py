"""One FHIR server as a source of a patient's data; no request leaves for another host."""

from __future__ import annotations

import asyncio
import codecs
import math
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NoReturn, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import httpx
import msgspec
from circuitbreaker import CircuitBreaker
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from app.ehr.authorization import Authorization, Bearer, Form
from app.ehr.proof import Found, Issue, Question, tells
from app.ehr.searches import Search, searches, tokens_of
from app.fhir.bodies import Entry
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError

_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9.\-]{1,64}", re.ASCII)
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}", re.ASCII)
# What an HTTP header can carry.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SORTED_BY = {
    "Observation": "-date",
    "Procedure": "-date",
    "MedicationAdministration": "-effective-time",
}
_TRY_AGAIN = {429, 500, 502, 503, 504}
_LONGEST_URL = 2000
_LEGIBLE = ":/,"
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


class _Link(msgspec.Struct):
    relation: str = ""
    url: str = ""


class _Search(msgspec.Struct):
    mode: str = "match"


class _Entry(msgspec.Struct):
    fullUrl: str | None = None  # noqa: N815 FHIR's own name
    resource: msgspec.Raw = msgspec.Raw()
    search: _Search | None = None


class _Page(msgspec.Struct):
    resourceType: str  # noqa: N815 FHIR's own name
    type: str = ""
    total: int | None = None
    link: list[_Link] = []
    entry: list[_Entry] = []


class _Head(msgspec.Struct):
    """What is read of a resource whose other elements are malformed."""

    resourceType: str  # noqa: N815 FHIR's own name
    id: str = ""
    issue: list[Issue] = []


_T = TypeVar("_T", _Page, _Head)
_Told = tuple[Found, Entry]
"""A resource found, and as much of it as was read."""


class _OutageError(RequestError):
    """The server is out of reach, overloaded or too slow: asked again, counted by the breaker."""

    def __init__(self, text: str, status: int = 502, pause: float = 0.0) -> None:
        kind = "timeout" if status == 504 else "transient"
        fault = Fault(kind, f"The FHIR server failed. {text}")
        super().__init__(status, fault, retry_after=math.ceil(pause) or None)
        self.pause = pause


def _failed(text: str) -> NoReturn:
    raise RequestError(502, Fault("transient", f"The FHIR server failed. {text}"))


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request: a GET, or with a form a POST; and how an error names it."""

    url: str
    what: str
    form: Form | None = None
    question: Question | None = None
    """What a search asks, for its answer to prove."""


@dataclass(slots=True)
class _Budget:
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
            _failed("It sent more than is read for one patient (MAA_FHIR_MAX_BYTES).")


def connections() -> httpx.AsyncClient:
    """A pool of connections that several servers may share.

    It keeps no cookies, since a session of one token must not go with another; it uses no proxy of
    the environment, since nothing may leave for another host; SSL_CERT_FILE is honoured.
    """
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.AsyncClient(trust_env=False, verify=httpx.create_ssl_context(), cookies=no_cookies)


class FhirServer:
    """One FHIR server as a source of a patient's data; no request leaves for another host.

    The one exception is `token_url`, where it is given. `search_by_post` searches by
    `POST [type]/_search`. A `client` that is given is shared, and left open by `aclose`. `told`
    hears of every request.
    """

    def __init__(
        self,
        base: str,
        authorization: Authorization | None = None,
        limits: Limits | None = None,
        search_by_post: bool = False,
        token_url: str | None = None,
        client: httpx.AsyncClient | None = None,
        told: Told | None = None,
    ) -> None:
        self._base = httpx.URL(base.rstrip("/"))
        self._token_url = token_url
        self._authorization: Authorization = authorization or Bearer()
        self._limits = limits or Limits()
        self._search_by_post = search_by_post
        self._slots = asyncio.Semaphore(self._limits.connections)
        self._breaker = CircuitBreaker(
            self._limits.failures_to_open, self._limits.open_seconds, _OutageError
        )
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

    async def fetch(self, query: str) -> tuple[Entry, ...]:
        """`Patient/1` or `Observation?patient=1&code=a,b`: what is found, of all pages.

        Resources are passed on as they came, every digit kept. RequestError 502 or 504 with what
        failed, 404 where the resource read is not there, 400 for any other address.
        """
        path, searched, parameters = query.partition("?")
        kind, _, name = path.partition("/")
        if not _TYPE.fullmatch(kind) or not (path == kind if searched else _ID.fullmatch(name)):
            raise RequestError(400, Fault("invalid", "That is no read or search of FHIR's."))
        async with self._call() as budget:
            if not searched:
                return _each_once([await self._read(kind, name, budget)])
            asks = self._asks(kind, parse_qsl(parameters, keep_blank_values=True))
            return _each_once(await self._searches(asks, budget))

    async def patient_data(
        self,
        patient_id: str,
        code_map: CodeMap | None = None,
        holds: Callable[[int], None] = lambda _size: None,
    ) -> tuple[Entry, ...]:
        """Everything an assessment reads of one patient; errors as in `fetch`.

        `code_map` has a hospital's own codes: they are searched for as well. `holds` hears of the
        bytes as they come, and may raise a RequestError. RequestError 400 for
        what is no FHIR id, before anything is asked.
        """
        if not _ID.fullmatch(patient_id):
            raise RequestError(400, Fault("invalid", "The patient's id is not a FHIR id."))
        async with self._call(holds) as budget:
            found = [await self._read("Patient", patient_id, budget)]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._search_of_patient(search, patient_id, budget))
                        for search in searches(code_map)
                    ]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return _each_once([*found, *(entry for task in tasks for entry in task.result())])

    @asynccontextmanager
    async def _call(
        self, holds: Callable[[int], None] = lambda _size: None
    ) -> AsyncIterator[_Budget]:
        """Around all that one call of ours asks, as one success or failure to the breaker.

        A single request is none: its siblings succeed, or are cancelled, beside one that fails.
        """
        if self._breaker.opened:
            pause = max(1, self._breaker.open_remaining)
            raise _OutageError("It did so repeatedly and is left alone for a while.", pause=pause)
        try:
            async with asyncio.timeout(self._limits.deadline_seconds) as deadline:
                ends = deadline.when() or math.inf
                yield _Budget(self._limits.bytes, ends, asyncio.Semaphore(_AT_ONCE), holds)
        except TimeoutError:
            self._count_failure()
            text = "It did not answer within the time given (MAA_FHIR_DEADLINE_SECONDS)."
            raise _OutageError(text, 504) from None
        except _OutageError:
            self._count_failure()
            raise
        except RequestError:
            self._breaker.reset()
            raise
        self._breaker.reset()

    def _count_failure(self) -> None:
        """Counts a failure, and keeps nothing of the patient for whom it was asked."""
        failure = _OutageError("")
        with suppress(_OutageError), self._breaker:
            raise failure
        # The breaker holds it until the next, and it would hold whatever it was raised beside.
        failure.__traceback__ = failure.__context__ = None

    async def _search_of_patient(
        self, search: Search, patient_id: str, budget: _Budget
    ) -> list[_Told]:
        fields = [("patient", patient_id)]
        if search.tokens:
            fields.append(("code", ",".join(search.tokens)))
        if search.type in _SORTED_BY:
            fields.append(("_sort", _SORTED_BY[search.type]))
        return await self._searches(self._asks(search.type, fields), budget)

    def _asks(self, kind: str, fields: list[tuple[str, str]]) -> Iterator[_Ask]:
        """The search as one POST, or as many GETs by code as keep the address short."""
        what = f"the search of {kind}"
        if not any(name == "_count" for name, _ in fields):
            fields = [*fields, ("_count", str(self._limits.page_count))]
        if self._search_by_post:
            question = Question.of(kind, fields)
            yield _Ask(f"{self._base}/{kind}/_search", what, lambda: fields, question)
            return
        codes = [value for name, value in fields if name == "code"]
        chunks: Iterable[str] = [""]
        if len(codes) == 1:
            without = [(name, "" if name == "code" else value) for name, value in fields]
            room = _LONGEST_URL - len(f"{self._base}/{kind}?{_query(without)}")
            chunks = _chunks(tokens_of(codes[0]), room)
        for chunk in chunks:
            asked = [(name, chunk if chunk and name == "code" else v) for name, v in fields]
            question = Question.of(kind, asked)
            yield _Ask(f"{self._base}/{kind}?{_query(asked)}", what, question=question)

    async def _searches(self, asks: Iterable[_Ask], budget: _Budget) -> list[_Told]:
        return [entry for ask in asks for entry in await self._search(ask, budget)]

    async def _read(self, kind: str, name: str, budget: _Budget) -> _Told:
        """One resource, without a fullUrl.

        The server may name itself differently in its own fullUrls (behind a proxy), and one id
        on two servers would be two patients.
        """
        ask = _Ask(f"{self._base}/{kind}/{name}", f"the read of a {kind}")
        body = await self._exchange(ask, budget, missing_is_404=True)
        if (read := _found(body)).resourceType != kind or read.id != name:
            _failed("It answered a read with another resource.")
        return read, Entry(None, msgspec.Raw(body))

    async def _search(self, ask: _Ask, budget: _Budget) -> list[_Told]:
        assert ask.question  # noqa: S101 every search has one
        question, proven, total, matches = ask.question, False, 0, 0
        found: list[_Told] = []
        seen: set[str] = set()
        following: _Ask | None = ask
        while following:
            if following.url in seen or len(seen) == self._limits.pages:
                _failed("Its pages do not end: a 'next' link leads back, or there are too many.")
            seen.add(following.url)
            page = _decoded(await self._exchange(following, budget), _Page)
            if page.resourceType != "Bundle" or page.type not in {"searchset", ""}:
                _failed("It answered a search with something else than a searchset Bundle.")
            if following is ask:
                proven = _proven(question, page)
            total = max(total, page.total or 0)
            for entry in page.entry:
                if not entry.resource:
                    continue
                told = _found(entry.resource)
                if _is_answer(told, entry, question.kind):
                    matches += _matches(told, entry, question, proven)
                    found.append((told, Entry(entry.fullUrl, entry.resource)))
            following = self._next(following, page)
        if matches < total:
            _failed(f"It says that {ask.what} found {total}, and sent {matches}: some are missing.")
        return found

    def _next(self, ask: _Ask, page: _Page) -> _Ask | None:
        """The next page; RequestError where its address is not the server's own."""
        given = next((link.url for link in page.link if link.relation == "next"), "")
        if not given:
            return None
        try:
            following = httpx.URL(ask.url.removesuffix("/_search")).join(given)
        except httpx.InvalidURL:
            _failed("A 'next' link is no address.")
        if not self._is_own(following):
            _failed("A 'next' link leads to another address; set the server's own base URL there.")
        return _Ask(str(following), ask.what)

    def _is_own(self, url: httpx.URL) -> bool:
        """Whether the address is the base's or below it, however its path is written."""
        base = self._base.path.rstrip("/")
        # `path` is decoded: an encoded dot segment is seen here as the server would see it.
        below = url.path.rstrip("/") == base or url.path.startswith(f"{base}/")
        climbs = {".", ".."} & set(re.split(r"[/\\]", url.path))
        return _origin(url) == _origin(self._base) and below and not climbs and not url.userinfo

    async def _exchange(self, ask: _Ask, budget: _Budget, missing_is_404: bool = False) -> bytes:
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
            _failed(f"It refused our credentials ({status}): check the token, client and scopes.")
        if 300 <= status < 400:
            _failed(f"It redirects elsewhere ({status}), which is not followed: set the final URL.")
        _failed(f"It answered {status} to {ask.what}.")

    async def _token(self, budget: _Budget) -> str | None:
        async def exchange(url: str, form: Form | None = None) -> bytes:
            return await self._token_exchange(url, form, budget)

        token = await self._authorization.token(exchange)
        if token and not _TOKEN.fullmatch(token):
            _failed("The access token for it is not one that a header can carry.")
        return token

    async def _token_exchange(self, url: str, form: Form | None, budget: _Budget) -> bytes:
        if url != self._token_url and not self._same_origin(url):
            _failed("Its token endpoint is on another host: name it in MAA_FHIR_TOKEN_URL.")
        ask = _Ask(url, "the request for a token" if form else "the SMART discovery", form)
        status, body = await self._persist(ask, None, budget)
        if status != 200:
            what = "refused our client" if form else "has no SMART configuration"
            _failed(f"Its authorization service {what} ({status}).")
        return body

    def _same_origin(self, url: str) -> bool:
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL:
            return False
        return _origin(target) == _origin(self._base) and not target.userinfo

    async def _persist(self, ask: _Ask, token: str | None, budget: _Budget) -> tuple[int, bytes]:
        """The answer's status and body; an outage is waited for as long as there is time."""
        left = budget.ends - asyncio.get_running_loop().time()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_OutageError),
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

    async def _once(self, ask: _Ask, token: str | None, budget: _Budget) -> tuple[int, bytes]:
        """One request, and how it ended told."""
        started, outcome = time.perf_counter(), "cancelled"
        try:
            answer = await self._sent(ask, token, budget)
            outcome = {200: "ok", 401: "refused", 403: "refused"}.get(answer[0], "other")
            return answer
        except _OutageError as error:
            outcome = "timeout" if error.status == 504 else "outage"
            raise
        except RequestError:
            outcome = "wrong"
            raise
        finally:
            self._told(outcome, time.perf_counter() - started)

    async def _sent(self, ask: _Ask, token: str | None, budget: _Budget) -> tuple[int, bytes]:
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
            raise _OutageError(text, 504) from None
        except httpx.HTTPError:
            raise _OutageError(f"It cannot be reached, or broke off at {ask.what}.") from None


async def _body(response: httpx.Response, ask: _Ask, budget: _Budget) -> bytes:
    """The body of a 200, and of no other status.

    It is unzipped here, piece by piece: a few zipped bytes may become any number of plain ones.
    """
    if response.status_code in _TRY_AGAIN:
        text = f"It answered {response.status_code} to {ask.what}."
        raise _OutageError(text, pause=_retry_after(response))
    if response.status_code != 200:
        return b""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        _failed("It sent a Content-Encoding that was not asked for.")
    unzip = None if encoding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            plain = unzip.decompress(chunk, budget.bytes + 1) if unzip else chunk
            budget.spend(len(plain))
            body += plain
    except zlib.error:
        _failed("It sent a body that is not the gzip it says it is.")
    if unzip and not unzip.eof:
        raise _OutageError(f"It cannot be reached, or broke off at {ask.what}.")
    return bytes(body).removeprefix(codecs.BOM_UTF8)


def _pause(state: RetryCallState) -> float:
    """What the server asks for, else a growing pause with jitter."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.pause if isinstance(failure, _OutageError) else 0.0
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


def _query(fields: list[tuple[str, str]]) -> str:
    """The fields in their order, as legible as a query may be: it is the one that was published."""
    return urlencode(fields, quote_via=quote, safe=_LEGIBLE)


def _chunks(tokens: Iterable[str], room: int) -> Iterable[str]:
    chunk: list[str] = []
    for token in tokens:
        if chunk and len(quote(",".join([*chunk, token]), safe=_LEGIBLE)) > room:
            yield ",".join(chunk)
            chunk = []
        chunk.append(token)
    yield ",".join(chunk)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _decoded(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _failed("It answered with something that is no FHIR JSON.")


def _proven(question: Question, page: _Page) -> bool:
    """Whether the server says that it searched by what was asked; RequestError where it did not.

    A link without parameters, as HAPI's after a POST, says nothing.
    """
    link = next((link.url for link in page.link if link.relation == "self"), "")
    if not tells(link):
        return False
    if ignored := question.ignored(link):
        _failed(
            f"It did not search {question.kind} by '{ignored}' as asked, by its own 'self' link: "
            "what it sent is not believed."
        )
    return True


def _found(resource: bytes | msgspec.Raw) -> Found:
    """What tells which question a resource answers."""
    try:
        return msgspec.json.decode(resource, type=Found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = _decoded(resource, _Head)
        return Found(head.resourceType, head.id, head.issue)


def _matches(told: Found, entry: _Entry, question: Question, proven: bool) -> bool:
    """Whether the entry is a match; RequestError where it does not answer the question."""
    if told.resourceType != question.kind or (entry.search and entry.search.mode != "match"):
        return False
    if contradicted := question.contradicted(told, proven):
        _failed(
            f"It answered the search of {question.kind} with one of another {contradicted} than "
            f"was asked for: it ignores the parameter '{contradicted}'."
        )
    return True


def _is_answer(told: Found, entry: _Entry, kind: str) -> bool:
    """Whether the entry holds something found, or a warning that is to be passed on.

    RequestError where it says that something is missing, or where another type was found.
    """
    if told.resourceType == "OperationOutcome":
        if any(issue.severity in {"error", "fatal"} for issue in told.issue):
            _failed("It could not complete a search and says so with an OperationOutcome.")
        return any(issue.severity == "warning" for issue in told.issue)
    if told.resourceType != kind and (entry.search is None or entry.search.mode == "match"):
        _failed(f"It answered the search of {kind} with resources of another type.")
    return True


def _each_once(found: Iterable[_Told]) -> tuple[Entry, ...]:
    """What was found, each resource once: two searches or pages may find the same."""
    unique: dict[str | bytes, Entry] = {}
    for told, entry in found:
        name = f"{told.resourceType}/{told.id}" if told.id else bytes(entry.resource)
        unique.setdefault(name, entry)
    return tuple(unique.values())
