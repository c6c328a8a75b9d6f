"""Responses as FHIR JSON: what the caller accepts, the answer, the errors."""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from app.body import FHIR_JSON, JSON_TYPES, fhir_version
from app.fhir.json import encode
from app.fhir.outcome import Fault, RequestError

_WILDCARDS = {"*/*", "application/*", "text/*"}
_ACCEPTED = JSON_TYPES | _WILDCARDS
_ISSUE_TYPES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    408: "timeout",
    413: "too-long",
    415: "not-supported",
    422: "processing",
    429: "throttled",
    502: "transient",
    503: "transient",
    504: "timeout",
}


def fhir_response(
    resource: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A resource as `application/fhir+json`."""
    return Response(encode(resource), status, headers, media_type=FHIR_JSON)


def answer_with(request: Request, resource: dict[str, Any]) -> Response:
    """A resource as the caller asked for it: media type, `_pretty`."""
    body = encode(resource)
    if request.query_params.get("_pretty") == "true":
        body = msgspec.json.format(body, indent=2)
    return Response(body, media_type=media_type(request))


def cacheable(request: Request, resource: dict[str, Any]) -> Response:
    """As `answer_with`, with an ETag of the content; 304 to the caller who has it already."""
    response = answer_with(request, resource)
    # Weak: gzip and indentation change the bytes, not what they say.
    etag = f'W/"{hashlib.sha256(encode(resource)).hexdigest()[:32]}"'
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept"}
    if "*" in known or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in known}:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def has_body(request: Request) -> bool:
    """Whether the request brings a body at all."""
    return request.headers.get("content-length", "0") != "0" or (
        "transfer-encoding" in request.headers
    )


def require_json_accepted(request: Request) -> None:
    """RequestError 406 where the caller takes no FHIR R4 JSON; `_format` speaks before Accept."""
    media_type(request)


def media_type(request: Request) -> str:
    """The media type to answer with; RequestError 406 as above."""
    asked = request.query_params.get("_format")
    return _negotiated(asked, ",".join(request.headers.getlist("accept")))


def _negotiated(asked: str | None, accept: str) -> str:
    """The media type to answer with: FHIR's own unless the caller takes a generic one alone."""
    if asked is None and accept in {"", "*/*", FHIR_JSON}:
        return FHIR_JSON
    if asked is not None:
        # A plus sign in a query arrives as a space.
        ranges = _media_ranges(FHIR_JSON if asked == "json" else asked.replace(" ", "+"))
    else:
        ranges = _media_ranges(accept)
    if not ranges:
        return FHIR_JSON
    refused = {name for name, (_, zero) in ranges.items() if zero}
    taken = {name: version for name, (version, zero) in ranges.items() if not zero}
    fitting = [name for name, version in taken.items() if name in _ACCEPTED and version == "4.0"]
    if FHIR_JSON in refused or not fitting:
        text = f"Answers are {FHIR_JSON} of FHIR R4 (4.0) only; XML is not written."
        raise RequestError(406, Fault("not-supported", text))
    generic = next((name for name in fitting if name in JSON_TYPES), FHIR_JSON)
    return FHIR_JSON if FHIR_JSON in fitting or _WILDCARDS & set(fitting) else generic


def _media_ranges(accept: str) -> dict[str, tuple[str, bool]]:
    """The media ranges of an Accept header: FHIR version, and whether refused (q=0)."""
    ranges: dict[str, tuple[str, bool]] = {}
    for part in accept.lower().split(","):
        name, *parameters = part.split(";")
        if name.strip():
            zero = any(re.fullmatch(r"\s*q=0(\.0*)?\s*", text) for text in parameters)
            ranges[name.strip()] = (fhir_version(parameters), zero)
    return ranges


async def request_error(_request: Request | None, error: Exception) -> Response:
    """A request that cannot be answered, as its OperationOutcome."""
    assert isinstance(error, RequestError)  # noqa: S101 registered for this type only
    headers: dict[str, str] = {}
    if error.challenge or error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = error.challenge or "Bearer"
    if error.closes:
        # What the client still sends of its body would be taken for its next request.
        headers["Connection"] = "close"
    if error.retry_after:
        headers["Retry-After"] = str(error.retry_after)
    return fhir_response(error.outcome(), error.status, headers)


async def http_exception(request: Request, error: Exception) -> Response:
    """An error of the framework's own (no such address, wrong method) as OperationOutcome."""
    assert isinstance(error, HTTPException)  # noqa: S101 registered for this type only
    text = {
        404: "No such address. GET /fhir/metadata lists what there is.",
        405: f"{request.method} is not answered here.",
    }.get(error.status_code, HTTPStatus(error.status_code).phrase)
    fault = Fault(_ISSUE_TYPES.get(error.status_code, "processing"), text)
    outcome = RequestError(error.status_code, fault).outcome()
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    return fhir_response(outcome, error.status_code, headers)


def _methods_of(request: Request) -> set[str]:
    """The methods that an address answers: it may have a route for each."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    at_address = [one for one in routes if one.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in at_address for method in route.methods or ()}
    return methods | {"HEAD"} if "GET" in methods else methods


async def disconnected(_request: Request, error: Exception) -> Response:
    """The caller went away; nobody reads this answer."""
    assert isinstance(error, ClientDisconnect)  # noqa: S101 registered for this type only
    return Response(status_code=400)


def misdirected() -> Response:
    """The answer to a call under a name that is not ours."""
    text = "This service is not called by that Host: name it in MAA_TRUSTED_HOSTS."
    return fhir_response(RequestError(421, Fault("security", text)).outcome(), 421)


def stopping() -> Response:
    """The answer to a call that had not come to its end when the service had to stop."""
    fault = Fault("transient", "The service stops: ask again.")
    return fhir_response(RequestError(503, fault).outcome(), 503, {"Retry-After": "2"})


def bug() -> Response:
    """The constant answer to a fault of ours: nothing of the request is repeated."""
    fault = Fault("exception", "The service failed on this request. It is logged by X-Request-Id.")
    return fhir_response(RequestError(500, fault).outcome(), 500)
