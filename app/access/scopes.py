"""SMART scopes: what a token lets its bearer ask.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from app.fhir.outcome import Fault, RequestError

# Version 2 (`.rs`), and 1 (`.read`). One that is narrowed by a query is not among them: whether
# what is assessed lies within it cannot be told.
_SCOPE = re.compile(
    r"(patient|user|system)/(\*|[A-Za-z]+)\.(?:(c?r?u?d?s?)|(read|write|\*))", re.ASCII
)
_READS = {"read", "*"}
# From the widest to the narrowest.
_CONTEXTS = ("system", "user", "patient")
SENT = ("Observation",)
"""What a token must let its bearer read where the data are sent."""
FETCHED = ("MedicationAdministration", "Observation", "Patient", "Procedure")
"""The same where they are read from the FHIR server."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as he has proved it."""

    client: str
    """The program that calls."""
    user: str = ""
    """On whose behalf, by the issuer's name of him; a patient may be one."""
    scopes: str = ""
    patient: str = ""
    """The id of the one patient that is in context, where there is one."""


def confinement(caller: Caller, fetched_patient: str | None) -> str | None:
    """The one patient whose data the caller may ask about; None: anybody's.

    `fetched_patient` is the patient who is read from the FHIR server, None where data are sent.
    RequestError 403 where the scopes do not allow it.
    """
    types = SENT if fetched_patient is None else FETCHED
    context = _weakest(caller.scopes, types)
    if context == "system" or (context == "user" and fetched_patient is None):
        return None
    if not caller.patient:
        # What a user may see only the FHIR server knows, and it would be asked in our own name.
        raise refused(
            f"A token of '{context}/' scopes must say which patient is in context ('patient')."
        )
    if fetched_patient is not None and fetched_patient != caller.patient:
        raise refused("The token is for another patient.")
    return caller.patient


def _weakest(scopes: str, types: Collection[str]) -> str:
    """The narrowest context by which all types may be read and searched; RequestError 403."""
    granted = [_SCOPE.fullmatch(word) for word in scopes.split()]
    readable = [
        (scope[1], scope[2])
        for scope in granted
        if scope and (scope[4] in _READS or {"r", "s"} <= set(scope[3] or ""))
    ]
    weakest = 0
    for kind in types:
        contexts = [c for c, one in readable if one in {"*", kind}]
        if not contexts:
            raise refused(f"The token does not let you read {kind}.", _wanted(types))
        weakest = max(weakest, min(_CONTEXTS.index(one) for one in contexts))
    return _CONTEXTS[weakest]


def _wanted(types: Collection[str]) -> str:
    return " ".join(f"system/{kind}.rs" for kind in types)


def refused(text: str, wanted: str = "") -> RequestError:
    """A refusal by RFC 6750, with the scopes that would do."""
    challenge = 'Bearer error="insufficient_scope"' + (f', scope="{wanted}"' if wanted else "")
    return RequestError(403, Fault("forbidden", text), challenge=challenge)
