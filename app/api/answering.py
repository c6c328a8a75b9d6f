"""From a body to the bytes of its answer: at once where that is little work, else elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from app.api.fhir_json import media_type
from app.api.strict import asks_strict, check_strictly, require_checkable
from app.asking import with_data
from app.body import AT_ONCE_BYTES, Body, elsewhere_if_large
from app.domain.effort import tell
from app.fhir.json import Json, encode

_ZIPPED_FROM_BYTES = 64 * 1024

Judge = Callable[[bytes], Json]
"""An operation with its parameters: the body in, FHIR out."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How the caller wants the answer."""

    strict: bool = False
    pretty: bool = False
    zipped: bool = False


async def answered(
    request: Request, judge: Judge, body: Body, data: bytes | None = None
) -> Response:
    """The answer to a body; with `data` the body, which may be empty, is the parameters to it."""
    asked = Asked(
        strict=asks_strict(request),
        pretty=request.query_params.get("_pretty") == "true",
        zipped="gzip" in request.headers.get("accept-encoding", ""),
    )
    if asked.strict:
        require_checkable(request)
    call = partial(_content, judge, body, data, asked)
    if asked.strict or len(data or b"") > AT_ONCE_BYTES:
        content, zipped = await request.app.state.evaluator.run(request, call)
    else:
        content, zipped = await elsewhere_if_large(request, call, body)
    headers = {}
    if zipped:
        headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    if asked.strict:
        headers["Preference-Applied"] = "handling=strict"
    return Response(content, headers=headers, media_type=media_type(request))


def _content(judge: Judge, body: Body, data: bytes | None, asked: Asked) -> tuple[bytes, bool]:
    """The answer's bytes, and whether they are gzip: the large ones are not left to the loop."""
    plain = body.plain()
    if data is not None:
        plain = with_data(plain, data) if plain else data
    if asked.strict:
        check_strictly(plain)
    content = encode(judge(plain))
    if asked.pretty:
        tell(2 * len(content))
        content = msgspec.json.format(content, indent=2)
    if asked.zipped and len(content) >= _ZIPPED_FROM_BYTES:
        return gzip.compress(content, compresslevel=3, mtime=0), True
    return content, False
