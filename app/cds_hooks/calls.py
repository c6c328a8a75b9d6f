"""A call of a service: its JSON, checked before anything is read of the patient."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from app.fhir.outcome import Fault, RequestError

T = TypeVar("T")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_USER = re.compile(r"[A-Za-z]+/[A-Za-z0-9\-.]{1,64}", re.ASCII)

_VISIBLE = re.compile(r"[\x21-\x7e]+", re.ASCII)


class Authorization(msgspec.Struct):
    """A token for the client's FHIR server, as the client hands it over."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    subject: str
    patient: str | None = None
    """The one patient whose data the token is good for; None: not said."""


class Context(msgspec.Struct):
    """The context of patient-view."""

    userId: str
    patientId: str
    encounterId: str | None = None


class Call(msgspec.Struct):
    """What a client sends when a hook is triggered; other elements are passed over."""

    hook: str
    hookInstance: str
    context: Context
    fhirServer: str | None = None
    fhirAuthorization: Authorization | None = None
    prefetch: dict[str, Raw] | None = None


class _Named(msgspec.Struct):
    hook: str | None = None


def read_call(body: bytes, hook: str) -> Call:
    """The call of a service on `hook`; RequestError 400 names everything that is wrong with it."""
    named = decode(body, _Named)
    if named.hook is not None and named.hook != hook:
        # Another hook has another context: that it differs is the thing to say.
        raise RequestError(400, Fault("value", f"This service answers the hook '{hook}'.", "hook"))
    call = decode(body, Call)
    faults = tuple(_faults(call))
    if faults:
        raise RequestError(400, *faults)
    return call


def decode(body: bytes, shape: type[T]) -> T:
    """JSON in the shape of a struct; RequestError 400 with the place, never with a value."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at ")
        path = place.strip("`").removeprefix("$").removeprefix(".") or None
        fault = Fault("structure", f"Not a CDS Hooks request: {words}.", path)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = Fault("structure", f"Not JSON: {error}.")
    except RecursionError:
        fault = Fault("structure", "The JSON is nested too deep.")
    raise RequestError(400, fault)


def _faults(call: Call) -> Iterator[Fault]:
    if not UUID.fullmatch(call.hookInstance):
        yield Fault("value", "'hookInstance' is a UUID.", "hookInstance")
    if not _ID.fullmatch(call.context.patientId):
        text = "'patientId' is the id of a Patient alone, such as 123."
        yield Fault("value", text, "context.patientId")
    if not _USER.fullmatch(call.context.userId):
        yield Fault("value", "'userId' is a reference such as Practitioner/123.", "context.userId")
    if call.context.encounterId is not None and not _ID.fullmatch(call.context.encounterId):
        text = "'encounterId' is the id of an Encounter alone."
        yield Fault("value", text, "context.encounterId")
    if call.fhirServer is not None and not _is_address(call.fhirServer):
        yield Fault("value", "'fhirServer' is an absolute http or https URL.", "fhirServer")
    if call.fhirAuthorization is not None:
        if call.fhirServer is None:
            text = "'fhirAuthorization' comes with the 'fhirServer' that it is for."
            yield Fault("required", text, "fhirServer")
        if call.fhirAuthorization.token_type.lower() != "bearer":
            text = "'token_type' is Bearer."
            yield Fault("value", text, "fhirAuthorization.token_type")
        if not _VISIBLE.fullmatch(call.fhirAuthorization.access_token):
            text = "'access_token' is an OAuth 2.0 bearer token."
            yield Fault("value", text, "fhirAuthorization.access_token")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
