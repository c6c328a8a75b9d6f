"""One FHIR server as a source of a patient's data; no request leaves for another host."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qsl, quote, urlencode

import httpx
import msgspec

from app.ehr.authorization import Authorization, Bearer
from app.ehr.exchange import Ask, Budget, Exchange, Limits, OutageError, Told, failed, origin
from app.ehr.pages import (
    Answer,
    Page,
    decoded,
    each_once,
    found_in,
    is_answer,
    is_match,
    is_proven,
    refuse_warning,
)
from app.ehr.proof import Question
from app.ehr.searches import Search, searches, tokens_of
from app.fhir.bodies import Entry
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError, WithheldError

_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9.\-]{1,64}", re.ASCII)
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}", re.ASCII)
_SORTED_BY = {
    "Observation": "-date",
    "Procedure": "-date",
    "MedicationAdministration": "-effective-time",
    "MedicationStatement": "-effective",
    "MedicationRequest": "-authoredon",
    "Condition": "-recorded-date",
}
_BAD_GATEWAY = 502
_LONGEST_URL = 2000
_LEGIBLE = ":/,"


class FhirServer:
    """One FHIR server as a source of a patient's data; no request leaves for another host.

    The one exception is `token_url`, where it is given. `search_by_post` searches by
    `POST [type]/_search`. A `client` that is given is shared, and left open by `aclose`. `told`
    hears of every request. `refuses_warnings`: what the server warns may not be whole is refused.
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
        refuses_warnings: bool = False,
    ) -> None:
        self._base = httpx.URL(base.rstrip("/"))
        self._limits = limits or Limits()
        self._search_by_post = search_by_post
        self._refuses_warnings = refuses_warnings
        authorization = authorization or Bearer()
        self._exchange = Exchange(self._base, authorization, self._limits, token_url, client, told)

    @property
    def resting(self) -> bool:
        """Whether the server failed so often that it is left alone for now."""
        return self._exchange.resting

    async def aclose(self) -> None:
        """Close the connections, unless they are shared."""
        await self._exchange.aclose()

    async def fetch(self, query: str) -> tuple[Entry, ...]:
        """`Patient/1` or `Observation?patient=1&code=a,b`: what is found, of all pages.

        Resources are passed on as they came, every digit kept. RequestError 502 or 504 with what
        failed, 404 where the resource read is not there, 400 for any other address.
        """
        path, searched, parameters = query.partition("?")
        kind, _, name = path.partition("/")
        if not _TYPE.fullmatch(kind) or not (path == kind if searched else _ID.fullmatch(name)):
            raise RequestError(400, Fault("invalid", "That is no read or search of FHIR's."))
        async with self._exchange.call() as budget:
            if not searched:
                return each_once([await self._read(kind, name, budget)])
            asks = self._asks(kind, parse_qsl(parameters, keep_blank_values=True))
            return each_once(await self._searches(asks, budget))

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
        async with self._exchange.call(holds) as budget:
            found = [await self._read("Patient", patient_id, budget)]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._search_of_patient(search, patient_id, budget))
                        for search in searches(code_map)
                    ]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return each_once([*found, *(entry for task in tasks for entry in task.result())])

    async def _search_of_patient(
        self, search: Search, patient_id: str, budget: Budget
    ) -> list[Answer]:
        fields = [("patient", patient_id)]
        if search.tokens:
            fields.append(("code", ",".join(search.tokens)))
        if search.type in _SORTED_BY:
            fields.append(("_sort", _SORTED_BY[search.type]))
        try:
            return await self._searches(self._asks(search.type, fields), budget)
        except (OutageError, WithheldError):
            raise
        except RequestError as error:
            # Not every server has these, nor lets everybody read them. What the chart says turns
            # no verdict by counts, and the answer tells whether it was looked at.
            if search.optional and error.status == _BAD_GATEWAY:
                return []
            raise

    def _asks(self, kind: str, fields: list[tuple[str, str]]) -> Iterator[Ask]:
        """The search as one POST, or as many GETs by code as keep the address short."""
        what = f"the search of {kind}"
        if not any(name == "_count" for name, _ in fields):
            fields = [*fields, ("_count", str(self._limits.page_count))]
        if self._search_by_post:
            question = Question.of(kind, fields)
            yield Ask(f"{self._base}/{kind}/_search", what, lambda: fields, question)
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
            yield Ask(f"{self._base}/{kind}?{_query(asked)}", what, question=question)

    async def _searches(self, asks: Iterable[Ask], budget: Budget) -> list[Answer]:
        return [entry for ask in asks for entry in await self._search(ask, budget)]

    async def _read(self, kind: str, name: str, budget: Budget) -> Answer:
        """One resource, without a fullUrl.

        The server may name itself differently in its own fullUrls (behind a proxy), and one id
        on two servers would be two patients.
        """
        ask = Ask(f"{self._base}/{kind}/{name}", f"the read of a {kind}")
        body = await self._exchange.body(ask, budget, missing_is_404=True)
        if (read := found_in(body)).resourceType != kind or read.id != name:
            failed("It answered a read with another resource.")
        return read, Entry(None, msgspec.Raw(body))

    async def _search(self, ask: Ask, budget: Budget) -> list[Answer]:
        assert ask.question  # noqa: S101 every search has one
        question, proven, total, matches = ask.question, False, 0, 0
        found: list[Answer] = []
        seen: set[str] = set()
        following: Ask | None = ask
        while following:
            if following.url in seen or len(seen) == self._limits.pages:
                failed("Its pages do not end: a 'next' link leads back, or there are too many.")
            seen.add(following.url)
            page = decoded(await self._exchange.body(following, budget), Page)
            if page.resourceType != "Bundle" or page.type not in {"searchset", ""}:
                failed("It answered a search with something else than a searchset Bundle.")
            if following is ask:
                proven = is_proven(question, page)
            total = max(total, page.total or 0)
            for entry in page.entry:
                if not entry.resource:
                    continue
                told = found_in(entry.resource)
                if is_answer(told, entry, question.kind):
                    if self._refuses_warnings:
                        refuse_warning(told, entry)
                    matches += is_match(told, entry, question, proven)
                    found.append((told, Entry(entry.fullUrl, entry.resource)))
            following = self._next(following, page)
        if matches < total:
            failed(f"It says that {ask.what} found {total}, and sent {matches}: some are missing.")
        return found

    def _next(self, ask: Ask, page: Page) -> Ask | None:
        """The next page; RequestError where its address is not the server's own."""
        given = next((link.url for link in page.link if link.relation == "next"), "")
        if not given:
            return None
        try:
            following = httpx.URL(ask.url.removesuffix("/_search")).join(given)
        except httpx.InvalidURL:
            failed("A 'next' link is no address.")
        if not self._is_own(following):
            failed("A 'next' link leads to another address; set the server's own base URL there.")
        return Ask(str(following), ask.what)

    def _is_own(self, url: httpx.URL) -> bool:
        """Whether the address is the base's or below it, however its path is written."""
        base = self._base.path.rstrip("/")
        # `path` is decoded: an encoded dot segment is seen here as the server would see it.
        below = url.path.rstrip("/") == base or url.path.startswith(f"{base}/")
        climbs = {".", ".."} & set(re.split(r"[/\\]", url.path))
        return origin(url) == origin(self._base) and below and not climbs and not url.userinfo


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
