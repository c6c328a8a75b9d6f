"""A request's JSON body, within its limit: what the FHIR addresses and CDS Hooks both read."""

from __future__ import annotations

import zlib
from functools import lru_cache

from starlette.requests import Request

from app.fhir.outcome import Fault, RequestError

FHIR_JSON = "application/fhir+json"
JSON_TYPES = {FHIR_JSON, "application/json", "text/json", "application/json+fhir"}
_VERSIONS_READ = {"4.0", "4.3", "4.3.0", "5.0", "5.0.0"}


async def read_body(request: Request) -> bytes:
    """The request's JSON body.

    RequestError 413 as soon as it grows over the limit, 415 unless it says that it is JSON.
    """
    _require_json(request.headers.get("content-type", ""))
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        text = "Send the body with Content-Encoding gzip, or without one."
        raise RequestError(415, Fault("not-supported", text))
    limit: int = request.app.state.settings.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_long(limit)
    # Most bodies come in one piece, which is then not copied.
    first, more = b"", bytearray()
    async for chunk in request.stream():
        if len(first) + len(more) + len(chunk) > limit:
            raise _too_long(limit)
        if first:
            more += chunk
        else:
            first = chunk
    body = first + more
    return body if encoding == "identity" else _unzipped(body, limit)


# A caller says the same every time; what is refused is not kept.
@lru_cache(maxsize=64)
def _require_json(content_type: str) -> None:
    """RequestError 415 unless the Content-Type is JSON, and FHIR of a version that is read."""
    media_type, *parameters = content_type.lower().split(";")
    if media_type.strip() not in JSON_TYPES:
        named = media_type.strip()[:60]
        text = f"Send Content-Type {FHIR_JSON} (or application/json), not '{named}'."
        raise RequestError(415, Fault("not-supported", text))
    if fhir_version(parameters) not in _VERSIONS_READ:
        text = "FHIR R4 (fhirVersion=4.0) is read; R4B and R5 where the elements are the same."
        raise RequestError(415, Fault("not-supported", text))


def _unzipped(body: bytes, limit: int) -> bytes:
    """A gzip body as it was; 413 as soon as it grows over the limit, 400 when it is no gzip."""
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = unzip.decompress(body, limit + 1)
    except zlib.error:
        raise RequestError(400, Fault("structure", "The body is not gzip.")) from None
    if len(plain) > limit:
        raise _too_long(limit)
    if not unzip.eof or unzip.unused_data:
        raise RequestError(400, Fault("structure", "The gzip body is cut short, or more than one."))
    return plain


def _too_long(limit: int) -> RequestError:
    text = f"The body is larger than {limit} bytes: send fewer patients or results at a time."
    return RequestError(413, Fault("too-long", text))


def fhir_version(parameters: list[str]) -> str:
    """The fhirVersion of a media type, R4 unless it names one."""
    given = (text.strip().partition("=") for text in parameters)
    named = {name.strip(): value.strip(' "') for name, _, value in given}
    return named.get("fhirversion", "4.0").removesuffix(".1")
