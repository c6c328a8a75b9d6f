"""Requests and responses as FHIR JSON: the body within its limit, the answer, the errors."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.fhir.outcome import Fault, RequestError
from app.fhir.writing import encode

FHIR_JSON = "application/fhir+json"
_JSON_TYPES = {FHIR_JSON, "application/json", "text/json", "application/json+fhir"}
_ACCEPTED = {*_JSON_TYPES, "*/*", "application/*", "text/*"}
_ISSUE_TYPES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
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


async def read_body(request: Request) -> bytes:
    """The request's JSON body.

    RequestError 413 as soon as it grows over the limit, 415 unless it says that it is JSON.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type not in _JSON_TYPES:
        text = f"Send Content-Type {FHIR_JSON} (or application/json), not '{media_type[:60]}'."
        raise RequestError(415, Fault("not-supported", text))
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, Fault("not-supported", "Send the body without Content-Encoding."))
    limit: int = request.app.state.settings.max_body_bytes
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_long(limit)
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_long(limit)
        body += chunk
    return bytes(body)


def _too_long(limit: int) -> RequestError:
    text = f"The body is larger than {limit} bytes: send fewer patients or results at a time."
    return RequestError(413, Fault("too-long", text))


def require_json_accepted(request: Request) -> None:
    """RequestError 406 where the caller takes no JSON; `_format` speaks before Accept."""
    asked = request.query_params.get("_format")
    if asked is not None:
        # A plus sign in a query arrives as a space.
        wanted = {asked.replace(" ", "+").split(";")[0].strip().lower()} - {""}
        refused: set[str] = set()
        accepted = _JSON_TYPES | {"json"}
    else:
        wanted, refused = _media_ranges(",".join(request.headers.getlist("accept")))
        accepted = _ACCEPTED
    if (wanted or refused) and (FHIR_JSON in refused or not wanted & accepted):
        raise RequestError(
            406, Fault("not-supported", f"Answers are {FHIR_JSON} only; XML is not written.")
        )


def _media_ranges(accept: str) -> tuple[set[str], set[str]]:
    """The media ranges an Accept header takes, and those it refuses (q=0)."""
    wanted: set[str] = set()
    refused: set[str] = set()
    for part in accept.lower().split(","):
        name, *parameters = part.split(";")
        if name.strip():
            zero = any(re.fullmatch(r"\s*q=0(\.0*)?\s*", text) for text in parameters)
            (refused if zero else wanted).add(name.strip())
    return wanted, refused


async def request_error(_request: Request, error: Exception) -> Response:
    """A request that cannot be answered, as its OperationOutcome."""
    assert isinstance(error, RequestError)  # noqa: S101 registered for this type only
    return fhir_response(error.outcome(), error.status)


async def http_exception(request: Request, error: Exception) -> Response:
    """An error of the framework's own (no such address, wrong method) as OperationOutcome."""
    assert isinstance(error, HTTPException)  # noqa: S101 registered for this type only
    text = {
        404: "No such address. GET /fhir/metadata lists what there is.",
        405: f"{request.method} is not answered here.",
    }.get(error.status_code, HTTPStatus(error.status_code).phrase)
    fault = Fault(_ISSUE_TYPES.get(error.status_code, "processing"), text)
    outcome = RequestError(error.status_code, fault).outcome()
    return fhir_response(outcome, error.status_code, dict(error.headers or {}))


async def disconnected(_request: Request, error: Exception) -> Response:
    """The caller went away; nobody reads this answer."""
    assert isinstance(error, ClientDisconnect)  # noqa: S101 registered for this type only
    return Response(status_code=400)


def bug() -> Response:
    """The constant answer to a fault of ours: nothing of the request is repeated."""
    fault = Fault("exception", "The service failed on this request. It is logged by X-Request-Id.")
    return fhir_response(RequestError(500, fault).outcome(), 500)
