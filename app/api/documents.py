"""What OpenAPI says; the example is answered by the service itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from app import operations
from app.asking import RED_CELL_POLICIES, REPORT_TYPES, TRANSFUSION_HISTORIES
from app.domain.paper import Paper, ResponsePaper
from app.fhir.json import encode
from app.papers import PUBLISHED, RESPONSES
from app.plots import PLOTTED
from app.writing.sheet import DEFAULT_WIDTH, WIDTHS

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


def _answered(operation: Callable[[bytes], Any], request: dict[str, Any]) -> Any:
    return json.loads(encode(operation(json.dumps(request).encode())))


def _parameter(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string"} | schema}


_OUTCOME: dict[str, Any] = {"application/fhir+json": {"schema": {"type": "object"}}}


_BODY = (
    "Bundle, or Parameters: the parameters below by their names, the Bundle as 'data' "
    "('additionalData' for the measure), and as 'codeMap', which may be repeated, ConceptMaps of "
    "the sender's own codes to LOINC, for this request alone"
)


def _document(
    papers: Sequence[Paper] | Sequence[ResponsePaper],
    example: dict[str, Any],
    operation: Callable[[bytes], Any],
    *more: dict[str, Any],
    answer: str = "Bundle (collection): for each patient and definition an Observation, a "
    "GuidanceResponse, an OperationOutcome where something was set aside, and a ResearchSubject "
    "where a study was named.",
) -> dict[str, Any]:
    return {
        "openapi_extra": {
            "parameters": [
                _parameter(
                    "criteria",
                    "Published definition, by id or canonical; may be repeated. Known: "
                    + ", ".join(paper.id for paper in papers),
                    default=papers[0].id,
                ),
                *more,
                *_PARAMETERS,
            ],
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


_PARAMETERS = (
    _parameter("asOf", "Judge as known on that day; later results are left out.", minLength=1),
    _parameter("subject", "Only this patient; also the patient of results without one."),
    _parameter(
        "window",
        "Days before the newest count judged within which counts are combined.",
        type="integer",
        minimum=1,
        default=30,
    ),
    _parameter(
        "redCellPolicy",
        "How the red-cell criterion is read.",
        enum=list(RED_CELL_POLICIES),
        default=RED_CELL_POLICIES[0],
    ),
    _parameter(
        "transfusionHistory",
        "'complete': no transfusion recorded is none given.",
        enum=list(TRANSFUSION_HISTORIES),
        default="unknown",
    ),
    _parameter("study", "Reference of a ResearchStudy: adds a ResearchSubject."),
)
_ERRORS = {
    status: {"description": f"OperationOutcome: {why}", "content": _OUTCOME}
    for status, why in {
        400: "not JSON, not FHIR, or a bad parameter",
        406: "no JSON accepted",
        408: "the body did not come in time",
        413: "the body is over the limit, or would take too much to assess",
        415: "the body is not JSON",
        422: "nothing to assess, or an unknown definition",
        500: "a fault of the service",
        503: "too many are assessed already, or it took too long: come again (Retry-After)",
    }.items()
}
ELIGIBILITY_DOCUMENT = _document(PUBLISHED, EXAMPLE_REQUEST, operations.eligibility)
_TREATMENT_START = _parameter(
    "treatmentStart",
    "Start of treatment. Default: the earliest administration of daclizumab in the data.",
)
_INDEPENDENCE = _parameter(
    "independenceWindow",
    "Transfusion-free time that makes independent, such as '12 wk' (d, wk, mo, a; up to 2 a). "
    "Default: the definition's, 8 weeks.",
)
RESPONSE_DOCUMENT = _document(
    RESPONSES, RESPONSE_EXAMPLE, operations.response, _TREATMENT_START, _INDEPENDENCE
)
MEASURE_DOCUMENT = _document(
    RESPONSES,
    MEASURE_EXAMPLE,
    operations.evaluate_measure,
    _parameter(
        "reportType",
        "The whole cohort, one patient, or the cohort with its patients by name.",
        enum=list(REPORT_TYPES),
        default=REPORT_TYPES[0],
    ),
    _TREATMENT_START,
    _INDEPENDENCE,
    answer="MeasureReport: who was treated, evaluable, and responded, with the exact 95% interval.",
)

PLOT_DOCUMENT: dict[str, Any] = {
    "openapi_extra": {
        "parameters": [
            _parameter(
                "operation",
                "What is drawn: one patient's eligibility or response; 'measure': the course of "
                "each patient of a cohort, and the end point. Default: response where "
                "'treatmentStart' is given, else eligibility.",
                enum=list(PLOTTED),
            ),
            _parameter(
                "width",
                "Pixels.",
                type="integer",
                minimum=WIDTHS[0],
                maximum=WIDTHS[1],
                default=DEFAULT_WIDTH,
            ),
            _parameter("criteria", "One published definition, by id or canonical."),
            _TREATMENT_START,
            _INDEPENDENCE,
            *(one for one in _PARAMETERS if one["name"] != "study"),
        ],
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
