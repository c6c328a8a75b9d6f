"""What OpenAPI says of CDS Hooks; the example is answered by the service itself."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from app.asking import Data
from app.cds_hooks.answers import answer
from app.cds_hooks.calls import read_call
from app.cds_hooks.discovery import HOOK, SERVICES, discovery
from app.cds_hooks.prefetch import Gathered, sent_along
from app.fhir.json import Json, encode
from app.settings import Settings

_ADDRESS = "https://maa.example.org"
_ID = "example"
_DAY = "2024-03-05"


def _result(name: str, code: str, value: float, unit: str) -> Json:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{_ID}"},
        "effectiveDateTime": f"{_DAY}T08:30:00Z",
        "valueQuantity": {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def _searchset(*resources: Json) -> Json:
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": one, "search": {"mode": "match"}} for one in resources],
    }


EXAMPLE_CALL: Json = {
    "hook": HOOK,
    "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
    "context": {"userId": "Practitioner/example", "patientId": _ID, "encounterId": "89284"},
    "prefetch": {
        "patient": {"resourceType": "Patient", "id": _ID, "gender": "female"},
        "neutrophils": _searchset(_result("anc", "751-8", 0.9, "10*9/L")),
        "platelets": _searchset(_result("platelets", "777-3", 41, "10*9/L")),
        "hemoglobin": _searchset(_result("hemoglobin", "718-7", 9.4, "g/dL")),
        "reticulocytes": None,
        "panels": None,
        "transfusions": None,
        "drugs": None,
    },
}


def _answered(request: Json) -> Any:
    service = SERVICES["maa-eligibility"]
    call = read_call(json.dumps(request).encode(), HOOK)
    # Without an event loop: a worker that loads the application has one running already.
    gathered = Gathered(Data(tuple(sent_along(call, service).entries)), ())
    settings = Settings.model_construct()
    today = date.fromisoformat(_DAY)
    return json.loads(encode(answer(service, call, gathered, settings, _ADDRESS, today)))


_OUTCOME: Json = {"application/fhir+json": {"schema": {"type": "object"}}}
_REFUSALS = {
    400: "not a CDS Hooks request, or another hook",
    401: "the client's JWT is missing or not good",
    403: "the client is not on the list",
    404: "no such service",
    408: "the body did not come in time",
    412: "prefetch keys that cannot be had, by name",
    413: "the body is over the limit",
    415: "the body is not JSON",
    422: "data of another patient than the one in context",
    429: "one caller asks too often: come again (Retry-After)",
    500: "a fault of the service",
    503: "too many are assessed already, or it took too long: come again (Retry-After)",
}


def _refusals(*statuses: int) -> dict[int, Json]:
    return {
        status: {"description": f"OperationOutcome: {_REFUSALS[status]}", "content": _OUTCOME}
        for status in statuses
    }


def _document(
    description: str, answered: Any, request: Any, refusals: dict[int, Json]
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "responses": {
            200: {
                "description": description,
                "content": {
                    "application/json": {"schema": {"type": "object"}, "example": answered}
                },
            },
            **refusals,
        }
    }
    if request:
        content = {"application/json": {"schema": {"type": "object"}, "example": request}}
        document["openapi_extra"] = {"requestBody": {"required": True, "content": content}}
    return document


EXAMPLE_ANSWER = _answered(EXAMPLE_CALL)
EXAMPLE_FEEDBACK: Json = {
    "feedback": [
        {
            "card": EXAMPLE_ANSWER["cards"][0]["uuid"],
            "outcome": "overridden",
            "overrideReason": {
                "reason": {
                    key: EXAMPLE_ANSWER["cards"][0]["overrideReasons"][0][key]
                    for key in ("system", "code")
                }
            },
            "outcomeTimestamp": "2024-03-05T09:30:00Z",
        }
    ]
}
DISCOVERY_DOCUMENT = _document(
    "The services, and the queries whose results they are sent.",
    discovery(),
    None,
    _refusals(401, 403, 429, 500),
)
CALL_DOCUMENT = _document(
    "The cards: at most one, none where there is nothing to say.",
    EXAMPLE_ANSWER,
    EXAMPLE_CALL,
    _refusals(400, 401, 403, 404, 408, 412, 413, 415, 422, 429, 500, 503),
)
FEEDBACK_DOCUMENT = _document(
    "How many feedbacks were received; the same one twice is counted once.",
    {"received": 1},
    EXAMPLE_FEEDBACK,
    _refusals(400, 401, 403, 404, 408, 413, 415, 429, 500, 503),
)
