"""Whose tokens are taken: SMART's well-known configuration."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.access.callers import Callers
from app.access.keys import UnreadableError
from app.access.scopes import FETCHED
from app.fhir.json import encode

router = APIRouter(tags=["definitions"])

# What the issuer says of himself and a client needs.
_PASSED_ON = (
    "jwks_uri",
    "authorization_endpoint",
    "token_endpoint",
    "token_endpoint_auth_methods_supported",
    "grant_types_supported",
    "introspection_endpoint",
    "revocation_endpoint",
    "registration_endpoint",
    "response_types_supported",
    "code_challenge_methods_supported",
)


@router.get(
    "/.well-known/smart-configuration",
    operation_id="smart-configuration",
    summary="Whose access tokens are taken, where they are asked for",
    response_class=Response,
    responses={404: {"description": "OperationOutcome: no token is asked for"}},
)
# SMART looks for it below the base of FHIR.
@router.get("/fhir/.well-known/smart-configuration", include_in_schema=False)
async def smart_configuration(request: Request) -> Response:
    """https://hl7.org/fhir/smart-app-launch/conformance.html."""
    if not request.app.state.settings.asks_for_tokens:
        raise HTTPException(404)
    callers: Callers = request.app.state.callers
    told: dict[str, Any] = {
        "capabilities": ["permission-patient", "permission-user", "permission-v1", "permission-v2"],
        "scopes_supported": [
            f"{context}/{kind}.rs"
            for context in ("system", "user", "patient")
            for kind in ("*", *FETCHED)
        ],
    }
    if callers.issuer:
        told["issuer"] = callers.issuer.name
        try:
            metadata = await callers.issuer.metadata()
        except UnreadableError:
            # A client that knows the issuer can ask him himself.
            metadata = {}
        told |= {name: metadata[name] for name in _PASSED_ON if name in metadata}
    return Response(encode(told), media_type="application/json")
