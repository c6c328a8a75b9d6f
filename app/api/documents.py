"""What OpenAPI says; the example is answered by the service itself."""

from __future__ import annotations

import json
from typing import Any

from app import matching, operations
from app.asking import (
    ASSESS_ELIGIBILITY,
    ASSESS_RESPONSE,
    EVALUATE_MEASURE,
    MATCH,
    PLOT,
    Parameter,
    parameters_of,
)
from app.fhir.json import encode

_EXAMPLE_SERVER = "http://127.0.0.1:8000"
_ANC = "Neutrophils [#/volume] in Blood"
_PLATELETS = "Platelets [#/volume] in Blood"


def _result(
    name: str, code: str, display: str, value: float, unit: str, day: str = "2024-03-05"
) -> dict[str, Any]:
    return {
        "resource": {
            "resourceType": "Observation",
            "id": name,
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]},
            "subject": {"reference": "Patient/example"},
            "effectiveDateTime": f"{day}T08:30:00Z",
            "valueQuantity": {
                "value": value,
                "unit": unit,
                "system": "http://unitsofmeasure.org",
                "code": unit,
            },
        }
    }


EXAMPLE_REQUEST: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        _result("anc", "751-8", _ANC, 0.9, "10*9/L"),
        _result("platelets", "777-3", _PLATELETS, 41, "10*9/L"),
        _result("hemoglobin", "718-7", "Hemoglobin [Mass/volume] in Blood", 9.4, "g/dL"),
    ],
}


RESPONSE_EXAMPLE: dict[str, Any] = {
    "resourceType": "Parameters",
    "parameter": [
        {"name": "treatmentStart", "valueDate": "2024-03-06"},
        {
            "name": "data",
            "resource": {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [
                    *EXAMPLE_REQUEST["entry"],
                    _result("anc-2", "751-8", _ANC, 2.6, "10*9/L", "2024-06-04"),
                    _result("platelets-2", "777-3", _PLATELETS, 52, "10*9/L", "2024-06-04"),
                ],
            },
        },
    ],
}
MEASURE_EXAMPLE: dict[str, Any] = {
    "resourceType": "Parameters",
    "parameter": [
        {"name": "reportType", "valueCode": "population"},
        RESPONSE_EXAMPLE["parameter"][0],
        {"name": "additionalData", "resource": RESPONSE_EXAMPLE["parameter"][1]["resource"]},
    ],
}


def _answered(operation: str, request: dict[str, Any]) -> Any:
    body = json.dumps(request).encode()
    if operation == MATCH:
        return json.loads(encode(matching.match(body, server=_EXAMPLE_SERVER)))
    return json.loads(encode(operations.answered(operation, body)))


_SCHEMAS: dict[str, dict[str, Any]] = {
    "positiveInt": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "minLength": 1},
    "dateTime": {"type": "string", "minLength": 1},
}


def _parameters(operation: str) -> list[dict[str, Any]]:
    """The parameters that a query may hold."""
    return [_parameter(one, operation) for one in parameters_of(operation) if not one.is_resource]


def _parameter(one: Parameter, operation: str) -> dict[str, Any]:
    schema: dict[str, Any] = dict(_SCHEMAS.get(one.type, {"type": "string"}))
    if one.limits:
        schema["minimum"], schema["maximum"] = one.limits
    if one.choices:
        schema["enum"] = list(one.choices)
    if one.default:
        schema["default"] = int(one.default) if schema["type"] == "integer" else one.default
    text = one.told(operation) + (" May be repeated." if one.repeats else "")
    return {"name": one.name, "in": "query", "description": text, "schema": schema}


_OUTCOME: dict[str, Any] = {"application/fhir+json": {"schema": {"type": "object"}}}


_BODY = (
    "Bundle, or Parameters: the parameters below by their names, the Bundle as 'data' "
    "('additionalData' for the measure), and as 'codeMap', which may be repeated, ConceptMaps of "
    "the sender's own codes to LOINC, for this request alone"
)
_ERRORS = {
    status: {"description": f"OperationOutcome: {why}", "content": _OUTCOME}
    for status, why in {
        400: "not JSON, not FHIR, or a bad parameter",
        401: "no access token, or none that is good, where one is asked for",
        403: "the token does not allow it, or nobody is asked who he is and this is not loopback",
        406: "no JSON accepted",
        408: "the body did not come in time",
        413: "the body is over the limit, or would take too much to assess",
        415: "the body is not JSON",
        422: "nothing to assess, or an unknown definition",
        429: "the caller has asked as often as he may: come again (Retry-After)",
        500: "a fault of the service",
        503: "too many are assessed already, or it took too long: come again (Retry-After)",
    }.items()
}
_ASSESSMENTS = (
    "Bundle (collection): for each patient and definition an Observation, a GuidanceResponse, an "
    "OperationOutcome where something was set aside, and a ResearchSubject where a study was named."
)


def _document(
    operation: str, example: dict[str, Any], answer: str = _ASSESSMENTS
) -> dict[str, Any]:
    return {
        "openapi_extra": {
            "parameters": _parameters(operation),
            "requestBody": {
                "required": True,
                "content": {
                    "application/fhir+json": {
                        "schema": {"type": "object", "description": _BODY},
                        "example": example,
                    }
                },
            },
        },
        "responses": {
            200: {
                "description": answer,
                "content": {
                    "application/fhir+json": {
                        "schema": {"type": "object"},
                        "example": _answered(operation, example),
                    }
                },
            },
            **_ERRORS,
        },
    }


ELIGIBILITY_DOCUMENT = _document(ASSESS_ELIGIBILITY, EXAMPLE_REQUEST)
RESPONSE_DOCUMENT = _document(ASSESS_RESPONSE, RESPONSE_EXAMPLE)
MEASURE_DOCUMENT = _document(
    EVALUATE_MEASURE,
    MEASURE_EXAMPLE,
    "MeasureReport: who was treated, evaluable, and responded, with the exact 95% interval.",
)
MATCH_DOCUMENT = _document(
    MATCH,
    EXAMPLE_REQUEST,
    "Bundle (searchset): each study whose criteria the counts meet (score 1) or leave open (0.5, "
    "also where the data record what it excludes) as a match; the Observation with every criterion "
    "and the GuidanceResponse with what is missing as included, whether a study is matched or "
    "not; OperationOutcomes with what else is to be known.",
)

PLOT_DOCUMENT: dict[str, Any] = {
    "openapi_extra": {
        "parameters": _parameters(PLOT),
        "requestBody": ELIGIBILITY_DOCUMENT["openapi_extra"]["requestBody"],
    },
    "responses": {
        200: {
            "description": "One patient's counts over time against one definition, or a cohort's "
            "course: as SVG, or as PNG where Accept says so and the extra 'png' is installed.",
            "content": {
                "image/svg+xml": {"schema": {"type": "string"}},
                "image/png": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **_ERRORS,
    },
}


def _of_patient(document: dict[str, Any]) -> dict[str, Any]:
    """The same operation where the FHIR server brings the data and the path names the patient."""
    parameters = document["openapi_extra"]["parameters"]
    failed = {
        404: "no such patient, or no FHIR server is configured",
        502: "the FHIR server failed",
        504: "the FHIR server did not answer in time",
    }
    return {
        "openapi_extra": {"parameters": [p for p in parameters if p["name"] != "subject"]},
        "responses": document["responses"]
        | {
            status: {"description": f"OperationOutcome: {why}", "content": _OUTCOME}
            for status, why in failed.items()
        },
    }


ELIGIBILITY_OF_PATIENT = _of_patient(ELIGIBILITY_DOCUMENT)
RESPONSE_OF_PATIENT = _of_patient(RESPONSE_DOCUMENT)
_SCHEMES = {
    "accessToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "An OAuth 2.0 access token with SMART scopes, of the issuer that "
        "/.well-known/smart-configuration names. Asked for where MAA_AUTH_ISSUER or "
        "MAA_AUTH_INTROSPECTION_URL is set; a client certificate does as well where "
        "MAA_AUTH_CERTIFICATE_HEADER is. Without these nobody is asked who he is.",
    },
    "cdsHooksClient": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT that the CDS Hooks client signed for this call, of one of "
        "MAA_CDS_CLIENTS: asked for where MAA_CDS_REQUIRE_JWT is set in place of an access token.",
    },
}


def secured(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document, which says too where a token may be asked for; that is optional there.

    The document is one and the same whatever is set.
    """
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, item in document["paths"].items():
        hooks = path.startswith("/cds-services")
        # Discovery tells of nobody: only who asks for tokens of hooks' clients asks there too.
        names = ["accessToken"] * (path != "/cds-services") + ["cdsHooksClient"] * hooks
        for operation in item.values():
            if "401" in operation["responses"]:
                operation["security"] = [{}, *({name: []} for name in names)]
    return document
