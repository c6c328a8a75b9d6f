"""What is written down of each patient assessed: an AuditEvent of IHE's Basic Audit Log Patterns.

https://profiles.ihe.net/ITI/BALP/StructureDefinition-IHE.BasicAudit.PatientQuery.html
"""

from __future__ import annotations

import ipaddress
import uuid
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.access.scopes import Caller
from app.domain.counts import Patient
from app.fhir.json import Json, encode

PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientQuery"
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_REQUEST_ID = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"


@dataclass(frozen=True, slots=True)
class Happened:
    """A request that was answered with assessments."""

    request_id: str
    method: str
    address: str
    """Path and query, as they were called."""
    client_address: str
    server: str
    """The name or address of the server that was called."""
    caller: Caller | None = None
    issuer: str | None = None


def events_of(happened: Happened, patients: Iterable[Patient]) -> list[bytes]:
    """An AuditEvent for each patient, as JSON."""
    recorded = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    common: Json = {
        "resourceType": "AuditEvent",
        "meta": {"profile": [PROFILE]},
        "type": _coding(f"{_TERMINOLOGY}/audit-event-type", "rest"),
        "subtype": [_coding("http://hl7.org/fhir/restful-interaction", "operation")],
        "action": "E",
        "recorded": recorded,
        "outcome": "0",
        "agent": _agents(happened),
        "source": {
            "observer": {"display": "maa-assess"},
            "type": [_coding(f"{_TERMINOLOGY}/security-source-type", "4")],
        },
    }
    asked = f"{happened.method} {happened.address}"
    entities: list[Json] = [
        {
            "type": _coding(f"{_TERMINOLOGY}/audit-entity-type", "2"),
            "role": _coding(f"{_TERMINOLOGY}/object-role", "24"),
            "query": b64encode(asked.encode()).decode(),
        },
        {
            "type": _coding(_REQUEST_ID, "XrequestId"),
            "what": {"identifier": {"value": happened.request_id}},
        },
    ]
    return [
        encode(common | {"id": str(uuid.uuid4()), "entity": [_entity_of(patient), *entities]})
        for patient in patients
    ]


def _agents(happened: Happened) -> list[Json]:
    """Who asked whom, and on whose behalf."""
    caller = happened.caller
    client: Json = {"display": "not asked who he is"}
    if caller:
        client = {"identifier": {"value": caller.client or caller.user}}
    agents: list[Json] = [
        {
            "type": _concept(_DICOM, "110153"),
            "who": client,
            "requestor": not (caller and caller.user),
            "network": _network(happened.client_address),
        },
        {
            "type": _concept(_DICOM, "110152"),
            "who": {"identifier": {"value": happened.server}},
            "requestor": False,
            "network": _network(happened.server),
        },
    ]
    if caller and caller.user:
        user = {"system": happened.issuer, "value": caller.user}
        known = {name: value for name, value in user.items() if value}
        recipient = _concept(f"{_TERMINOLOGY}/v3-ParticipationType", "IRCP")
        agents.append({"type": recipient, "who": {"identifier": known}, "requestor": True})
    return agents


def _entity_of(patient: Patient) -> Json:
    identifier = {"system": patient.system, "value": patient.value}
    known: Json = {"identifier": {name: value for name, value in identifier.items() if value}}
    if patient.reference:
        known = {"reference": patient.reference}
    return {
        "what": {**known, "type": "Patient"},
        "type": _coding(f"{_TERMINOLOGY}/audit-entity-type", "1"),
        "role": _coding(f"{_TERMINOLOGY}/object-role", "1"),
    }


def _network(address: str) -> Json:
    """A machine's name (1) or IP address (2)."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"address": address or "unknown", "type": "1"}
    return {"address": address, "type": "2"}


def _coding(system: str, code: str) -> Json:
    return {"system": system, "code": code}


def _concept(system: str, code: str) -> Json:
    return {"coding": [_coding(system, code)]}
