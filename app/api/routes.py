"""The addresses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.api.answering import Asked, answered, made, of_data
from app.api.documents import (
    ELIGIBILITY_DOCUMENT,
    ELIGIBILITY_OF_PATIENT,
    MATCH_DOCUMENT,
    MEASURE_DOCUMENT,
    PLOT_DOCUMENT,
    RESPONSE_DOCUMENT,
    RESPONSE_OF_PATIENT,
)
from app.api.fhir_json import has_body, require_json_accepted
from app.api.metrics import Metrics
from app.api.plots import plotted
from app.asking import (
    ASSESS_ELIGIBILITY,
    ASSESS_RESPONSE,
    EVALUATE_MEASURE,
    MATCH,
    Data,
)
from app.body import NO_BODY, Held, body_of
from app.ehr.server import FhirServer
from app.fhir.outcome import Fault, RequestError


class _Operation(APIRoute):
    """A route whose endpoint takes the request alone, and needs nothing of FastAPI but OpenAPI."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself: FastAPI's handler solves dependencies on every request."""
        return self.endpoint


_operations = APIRouter(route_class=_Operation)
_router = APIRouter()


@_operations.post(
    "/fhir/$assess-eligibility",
    summary="Do a patient's blood counts meet a published definition?",
    operation_id="assess-eligibility",
    response_class=Response,
    **ELIGIBILITY_DOCUMENT,
)
async def assess_eligibility(request: Request) -> Response:
    """A Bundle of Observations (or Parameters) in, a Bundle of sourced assessments out."""
    return await _answer(request, ASSESS_ELIGIBILITY)


@_operations.post(
    "/fhir/$assess-response",
    summary="Did a treated patient respond, by a published definition?",
    operation_id="assess-response",
    response_class=Response,
    **RESPONSE_DOCUMENT,
)
async def assess_response(request: Request) -> Response:
    """Counts before and after treatment in, a Bundle of sourced response assessments out."""
    return await _answer(request, ASSESS_RESPONSE)


@_operations.post(
    "/fhir/Measure/maa-hematologic-response/$evaluate-measure",
    summary="How many of a cohort responded?",
    operation_id="evaluate-measure",
    response_class=Response,
    **MEASURE_DOCUMENT,
)
async def evaluate_measure(request: Request) -> Response:
    """A cohort's data as `additionalData` in, a MeasureReport out; nothing is stored."""
    return await _answer(request, EVALUATE_MEASURE)


@_operations.post(
    "/fhir/$plot",
    summary="How do a patient's counts stand against a definition over time?",
    operation_id="plot",
    response_class=Response,
    **PLOT_DOCUMENT,
)
async def plot(request: Request) -> Response:
    """A Bundle of one patient (or Parameters) in, a picture out as SVG or PNG."""
    return await plotted(request)


@_operations.post(
    "/fhir/ResearchStudy/$match",
    summary="Which studies' criteria does the patient meet by counts, and why?",
    operation_id="match",
    response_class=Response,
    **MATCH_DOCUMENT,
)
async def match(request: Request) -> Response:
    """A Bundle of one patient (or Parameters) in, a searchset of studies with the reasons out."""
    require_json_accepted(request)
    server = request.app.state.settings.address(str(request.base_url))
    async with body_of(request) as body:
        asked = _asked(request, MATCH, request.query_params.multi_items())
        return await answered(request, partial(asked.matched, server, body), body)


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
    return await _answer_of_patient(request, id, ASSESS_ELIGIBILITY)


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
    return await _answer_of_patient(request, id, ASSESS_RESPONSE)


async def _answer_of_patient(request: Request, patient_id: str, operation: str) -> Response:
    require_json_accepted(request)
    server: FhirServer | None = request.app.state.fhir_server
    if server is None:
        text = "No FHIR server is configured here: set MAA_FHIR_SERVER, or send the data."
        raise RequestError(404, Fault("not-supported", text))
    query = [*request.query_params.multi_items(), ("subject", f"Patient/{patient_id}")]
    async with body_of(request) if has_body(request) else nullcontext(NO_BODY) as body:
        # A wrong parameter is told before the FHIR server is troubled.
        question = await made(
            request, partial(_asked(request, operation, query).question, body), body
        )
    with Held(request.app.state.room) as held:
        data = Data(await server.patient_data(patient_id, question.code_map, held.add))
        return await answered(request, partial(of_data, question, data), data)


async def _answer(request: Request, operation: str) -> Response:
    require_json_accepted(request)
    async with body_of(request) as body:
        asked = _asked(request, operation, request.query_params.multi_items())
        return await answered(request, partial(asked.answer, body), body)


def _asked(request: Request, operation: str, query: list[tuple[str, str]]) -> Asked:
    state = request.app.state
    return Asked(operation, query, state.settings.window_days, state.code_map)


@_router.get("/health/live", operation_id="live", summary="Is the process alive?")
async def live() -> JSONResponse:
    """Always ok while the process answers."""
    return JSONResponse({"status": "ok"})


@_router.get(
    "/health/ready",
    operation_id="ready",
    summary="Can it take requests?",
    responses={503: {"description": "What is not ready, and why"}},
)
async def ready(request: Request) -> JSONResponse:
    """Ready from the start, unless a configured FHIR server is not there."""
    server: FhirServer | None = request.app.state.fhir_server
    fault = await request.app.state.probe.fault() if server else ""
    if server and server.resting:
        fault = "it failed repeatedly and is left alone for a while"
    if fault:
        reasons = {"fhir-server": fault}
        return JSONResponse(
            {"status": "not ready", "notReady": [*reasons], "reasons": reasons}, 503
        )
    return JSONResponse({"status": "ok", "notReady": []})


@_router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
)
async def read_metrics(request: Request) -> Response:
    """What was counted, by all workers where they share a directory."""
    metrics: Metrics = request.app.state.metrics
    # In a thread: the files of every worker are read.
    return Response(await run_in_threadpool(metrics.exposition), media_type=CONTENT_TYPE_LATEST)


ROUTES = [*_operations.routes, *_router.routes]
