"""The CapabilityStatement."""

from __future__ import annotations

from app import __version__
from app.asking import EVALUATE_MEASURE, MATCH, OPERATIONS
from app.fhir.canonicals import BASE
from app.fhir.json import Json
from app.publishing.crmi import (
    CANONICAL_TYPES,
    DATA_REQUIREMENTS,
    PACKAGE,
    REPOSITORIES,
    profiles_of,
)
from app.publishing.definitions import DEFINITION_TYPES, EMPTY_TYPES
from app.publishing.searching import is_of_r4, parameters_of
from app.publishing.terminology import AID, DATE, PUBLISHER

# https://hl7.org/fhir/smart-app-launch/conformance.html
_SMART: Json = {
    "service": [
        {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                    "code": "SMART-on-FHIR",
                }
            ]
        }
    ],
    "description": "Operations ask for an access token (OAuth 2.0, SMART scopes): "
    "/.well-known/smart-configuration says whose.",
}
_OF_TYPE = {"Measure": EVALUATE_MEASURE, "ResearchStudy": MATCH}


def capability_statement(server: str, cors: bool = True, asks_for_tokens: bool = False) -> Json:
    """The CapabilityStatement: exactly what answers at this server, to scripts, or to tokens."""
    resources = [_of_type(kind) for kind in (*DEFINITION_TYPES, *EMPTY_TYPES)]
    assessments = [_offered(name) for name in OPERATIONS[:2]]
    resources.append({"type": "Patient", "operation": assessments})
    return {
        "resourceType": "CapabilityStatement",
        "url": f"{BASE}/CapabilityStatement/maa-assess",
        "version": __version__,
        "name": "MaaAssess",
        "title": "maa-assess",
        "status": "active",
        "experimental": False,
        "date": DATE,
        "publisher": PUBLISHER,
        "description": f"Assesses blood counts against published definitions of aplastic anemia. "
        f"{AID}",
        "kind": "instance",
        "instantiates": list(REPOSITORIES),
        "software": {"name": "maa-assess", "version": __version__},
        "implementation": {"description": "maa-assess", "url": f"{server}/fhir"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "security": {"cors": cors} | (_SMART if asks_for_tokens else {}),
                "resource": sorted(resources, key=lambda one: str(one["type"])),
                "operation": [*assessments, _offered("plot")],
            }
        ],
    }


def _of_type(kind: str) -> Json:
    """What may be done with the definitions of a type."""
    found: Json = {
        "type": kind,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [
            {"name": name, "type": one.type} | _searched(kind, name)
            for name, one in parameters_of(kind).items()
        ],
    }
    if kind in CANONICAL_TYPES:
        found["supportedProfile"] = profiles_of(kind)
        found["operation"] = [
            {"name": "package", "definition": PACKAGE},
            {"name": "data-requirements", "definition": DATA_REQUIREMENTS},
        ]
    if kind in _OF_TYPE:
        found.setdefault("operation", []).append(_offered(_OF_TYPE[kind]))
    return found


def _searched(kind: str, name: str) -> Json:
    if not is_of_r4(kind, name):
        return {}
    owner = "Resource-id" if name == "_id" else f"{kind}-{name}"
    return {"definition": f"http://hl7.org/fhir/SearchParameter/{owner}"}


def _offered(name: str) -> Json:
    return {"name": name, "definition": f"{BASE}/OperationDefinition/{name}"}
