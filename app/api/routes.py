"""The addresses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import operations
from app.api.documents import (
    ELIGIBILITY_DOCUMENT,
    ELIGIBILITY_OF_PATIENT,
    HOME_PAGE,
    MEASURE_DOCUMENT,
    RESPONSE_DOCUMENT,
    RESPONSE_OF_PATIENT,
)
from app.api.fhir_json import answer_with, has_body, require_json_accepted
from app.api.strict import asks_strict, check_strictly
from app.body import read_body
from app.domain.effort import TooCostlyError, limited
from app.ehr.server import FhirServer
from app.fhir.outcome import Fault, RequestError
from app.fhir.requests import read_request, with_data
from app.fhir.writing import Json


class _Operation(APIRoute):
    """A route whose endpoint takes the request alone, and needs nothing of FastAPI but OpenAPI."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself: FastAPI's handler solves dependencies on every request."""
        return self.endpoint


_operations = APIRouter(route_class=_Operation)
_router = APIRouter()

# A few patients take a millisecond or two: the way to a thread and back would cost a fifth of it.
_AT_ONCE_BYTES = 128 * 1024
# What turns out to take longer is given up, and begun again in a thread.
_AT_ONCE_STEPS = 4_000
_NO_DATA = b'{"resourceType":"Bundle"}'


@_operations.post(
    "/fhir/$assess-eligibility",
    summary="Do a patient's blood counts meet a published definition?",
    operation_id="assess-eligibility",
    response_class=Response,
    **ELIGIBILITY_DOCUMENT,
)
async def assess_eligibility(request: Request) -> Response:
    """A Bundle of Observations (or Parameters) in, a Bundle of sourced assessments out."""
    return await _answer(request, operations.eligibility)


@_operations.post(
    "/fhir/$assess-response",
    summary="Did a treated patient respond, by a published definition?",
    operation_id="assess-response",
    response_class=Response,
    **RESPONSE_DOCUMENT,
)
async def assess_response(request: Request) -> Response:
    """Counts before and after treatment in, a Bundle of sourced response assessments out."""
    return await _answer(request, operations.response)


@_operations.post(
    "/fhir/Measure/maa-hematologic-response/$evaluate-measure",
    summary="How many of a cohort responded?",
    operation_id="evaluate-measure",
    response_class=Response,
    **MEASURE_DOCUMENT,
)
async def evaluate_measure(request: Request) -> Response:
    """A cohort's data as `additionalData` in, a MeasureReport out; nothing is stored."""
    return await _answer(request, operations.evaluate_measure)


@_router.get(
    "/fhir/Patient/{id}/$assess-eligibility",
    summary="Do the counts on the FHIR server meet a published definition?",
    operation_id="assess-eligibility-of-patient",
    response_class=Response,
    **ELIGIBILITY_OF_PATIENT,
)
@_router.post(
    "/fhir/Patient/{id}/$assess-eligibility",
    summary="The same, with the parameters in the body",
    operation_id="assess-eligibility-of-patient-by-post",
    response_class=Response,
    **ELIGIBILITY_OF_PATIENT,
)
async def assess_eligibility_of_patient(request: Request, id: str) -> Response:  # noqa: A002
    """The patient's data are read from the configured FHIR server."""
    return await _answer_of_patient(request, id, operations.eligibility)


@_router.get(
    "/fhir/Patient/{id}/$assess-response",
    summary="Do the counts on the FHIR server show a response?",
    operation_id="assess-response-of-patient",
    response_class=Response,
    **RESPONSE_OF_PATIENT,
)
@_router.post(
    "/fhir/Patient/{id}/$assess-response",
    summary="The same, with the parameters in the body",
    operation_id="assess-response-of-patient-by-post",
    response_class=Response,
    **RESPONSE_OF_PATIENT,
)
async def assess_response_of_patient(request: Request, id: str) -> Response:  # noqa: A002
    """The patient's data are read from the configured FHIR server."""
    return await _answer_of_patient(request, id, operations.response)


async def _answer_of_patient(
    request: Request, patient_id: str, operation: Callable[..., Json]
) -> Response:
    require_json_accepted(request)
    parameters = await read_body(request) if has_body(request) else b""
    server: FhirServer | None = request.app.state.fhir_server
    if server is None:
        text = "No FHIR server is configured here: set MAA_FHIR_SERVER, or send the data."
        raise RequestError(404, Fault("not-supported", text))
    query = [*request.query_params.multi_items(), ("subject", f"Patient/{patient_id}")]
    # A wrong parameter is told before the FHIR server is troubled.
    body = with_data(parameters, _NO_DATA) if parameters else _NO_DATA
    asked = read_request(body, query, code_map=request.app.state.code_map)
    data = await server.patient_data(patient_id, asked.code_map)
    body = with_data(parameters, data) if parameters else data
    return await _answered(request, operation, body, query)


async def _answer(request: Request, operation: Callable[..., Json]) -> Response:
    require_json_accepted(request)
    body = await read_body(request)
    return await _answered(request, operation, body, request.query_params.multi_items())


async def _answered(
    request: Request, operation: Callable[..., Json], body: bytes, query: list[tuple[str, str]]
) -> Response:
    state = request.app.state
    settings = state.settings
    strict = asks_strict(request)

    def answer() -> Response:
        if strict:
            check_strictly(body)
        response = answer_with(
            request, operation(body, query, settings.window_days, state.code_map)
        )
        if strict:
            response.headers["Preference-Applied"] = "handling=strict"
        return response

    if len(body) <= _AT_ONCE_BYTES and not strict:
        with suppress(TooCostlyError), limited(_AT_ONCE_STEPS):
            return answer()
    # In a thread: a cohort takes seconds, and the health checks are answered meanwhile.
    return await run_in_threadpool(answer)


@_router.get("/health/live", operation_id="live", summary="Is the process alive?")
async def live() -> JSONResponse:
    """Always ok while the process answers."""
    return JSONResponse({"status": "ok"})


@_router.get("/health/ready", operation_id="ready", summary="Can it take requests?")
async def ready(request: Request) -> JSONResponse:
    """Ready from the start, unless a configured FHIR server failed repeatedly just now."""
    server: FhirServer | None = request.app.state.fhir_server
    if server is not None and server.resting:
        return JSONResponse({"status": "not ready", "notReady": ["fhir-server"]}, 503)
    return JSONResponse({"status": "ok", "notReady": []})


@_router.get("/metrics", operation_id="metrics", summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    """Counts and times of requests."""
    registry: Any = request.app.state.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@_router.get("/", include_in_schema=False)
async def home() -> HTMLResponse:
    """What this is, and where to go on."""
    return HTMLResponse(HOME_PAGE)


ROUTES = [*_operations.routes, *_router.routes]
