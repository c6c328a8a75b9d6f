"""From a body to the bytes of its answer: at once where that is little work, else elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from app import matching, operations
from app.api.fhir_json import media_type
from app.api.strict import asks_strict, check_strictly, require_checkable
from app.asking import Data, Question
from app.body import Body, Sized, elsewhere_if_large
from app.domain.effort import tell
from app.fhir.json import Json, encode
from app.fhir.maps import CodeMap
from app.requests import read_question

_ZIPPED_FROM_BYTES = 64 * 1024

T = TypeVar("T")
Answer = Callable[[bool], Json]
"""Answers in FHIR; where it is told to be strict, it checks the whole input first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, as far as the address and the settings tell."""

    operation: str
    query: list[tuple[str, str]]
    window_days: int
    code_map: CodeMap | None

    def answer(self, body: Body, strict: bool) -> Json:
        """The answer to a body that has the data."""
        plain = _plain(body, strict)
        return operations.answered(
            self.operation, plain, self.query, self.window_days, self.code_map
        )

    def matched(self, server: str, body: Body, strict: bool) -> Json:
        """The studies that a body's patient matches; `server` is our own address."""
        plain = _plain(body, strict)
        return matching.match(plain, self.query, self.window_days, self.code_map, server)

    def question(self, parameters: Body, strict: bool) -> Question:
        """The question, whose body has parameters or is empty."""
        plain = parameters.plain()
        if strict and plain:
            check_strictly(plain)
        return read_question(self.query, self.operation, self.window_days, self.code_map, plain)


def _plain(body: Body, strict: bool) -> bytes:
    """A body's bytes, checked first where it is to be strict."""
    plain = body.plain()
    if strict:
        check_strictly(plain)
    return plain


def of_data(question: Question, data: Data, strict: bool) -> Json:
    """The answer to a question of data that were fetched."""
    if strict:
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": data.entries}
        check_strictly(msgspec.json.encode(bundle))
    return operations.written(operations.judged(question, data))


@dataclass(frozen=True, slots=True)
class Wish:
    """How the caller wants the answer."""

    pretty: bool = False
    zipped: bool = False


async def answered(request: Request, answer: Answer, data: Sized) -> Response:
    """The answer, made of the data: here where they are small, else elsewhere."""
    wish = Wish(
        pretty=request.query_params.get("_pretty") == "true",
        zipped="gzip" in request.headers.get("accept-encoding", ""),
    )
    content, zipped = await made(request, partial(_content, answer, wish), data)
    headers = {}
    if zipped:
        headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    if asks_strict(request):
        headers["Preference-Applied"] = "handling=strict"
    return Response(content, headers=headers, media_type=media_type(request))


async def made(request: Request, make: Callable[[bool], T], data: Sized, much: bool = False) -> T:
    """What is made of the data, strictly where the caller prefers it.

    It is `much` work where even small data are left to another process. RequestError 415 where the
    input cannot be checked.
    """
    strict = asks_strict(request)
    if strict:
        require_checkable(request)
    call = partial(make, strict)
    if strict or much:
        found: T = await request.app.state.evaluator.run(request, call)
        return found
    return await elsewhere_if_large(request, call, data)


def _content(answer: Answer, wish: Wish, strict: bool) -> tuple[bytes, bool]:
    """The answer's bytes, and whether they are gzip: the large ones are not left to the loop."""
    content = encode(answer(strict))
    if wish.pretty:
        tell(2 * len(content))
        content = msgspec.json.format(content, indent=2)
    if wish.zipped and len(content) >= _ZIPPED_FROM_BYTES:
        return gzip.compress(content, compresslevel=3, mtime=0), True
    return content, False
