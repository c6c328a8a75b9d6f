"""The addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import operations
from app.api.documents import ELIGIBILITY_DOCUMENT, HOME_PAGE, MEASURE_DOCUMENT, RESPONSE_DOCUMENT
from app.api.fhir_json import answer_with, read_body, require_json_accepted
from app.api.strict import asks_strict, check_strictly
from app.fhir.writing import Json

router = APIRouter()


@router.post(
    "/fhir/$assess-eligibility",
    summary="Do a patient's blood counts meet a published definition?",
    operation_id="assess-eligibility",
    response_class=Response,
    **ELIGIBILITY_DOCUMENT,
)
async def assess_eligibility(request: Request) -> Response:
    """A Bundle of Observations (or Parameters) in, a Bundle of sourced assessments out."""
    return await _answer(request, operations.eligibility)


@router.post(
    "/fhir/$assess-response",
    summary="Did a treated patient respond, by a published definition?",
    operation_id="assess-response",
    response_class=Response,
    **RESPONSE_DOCUMENT,
)
async def assess_response(request: Request) -> Response:
    """Counts before and after treatment in, a Bundle of sourced response assessments out."""
    return await _answer(request, operations.response)


@router.post(
    "/fhir/Measure/maa-hematologic-response/$evaluate-measure",
    summary="How many of a cohort responded?",
    operation_id="evaluate-measure",
    response_class=Response,
    **MEASURE_DOCUMENT,
)
async def evaluate_measure(request: Request) -> Response:
    """A cohort's data as `additionalData` in, a MeasureReport out; nothing is stored."""
    return await _answer(request, operations.evaluate_measure)


async def _answer(request: Request, operation: Callable[..., Json]) -> Response:
    require_json_accepted(request)
    body = await read_body(request)
    settings = request.app.state.settings
    query = request.query_params.multi_items()
    strict = asks_strict(request)

    def answer() -> Response:
        if strict:
            check_strictly(body)
        response = answer_with(request, operation(body, query, settings.window_days))
        if strict:
            response.headers["Preference-Applied"] = "handling=strict"
        return response

    # In a thread: a cohort takes seconds, and the health checks are answered meanwhile.
    return await run_in_threadpool(answer)


@router.get("/health/live", operation_id="live", summary="Is the process alive?")
async def live() -> JSONResponse:
    """Always ok while the process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/health/ready", operation_id="ready", summary="Can it take requests?")
async def ready() -> JSONResponse:
    """Ready from the start: nothing outside is needed."""
    return JSONResponse({"status": "ok", "notReady": []})


@router.get("/metrics", operation_id="metrics", summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    """Counts and times of requests."""
    registry: Any = request.app.state.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def home() -> HTMLResponse:
    """What this is, and where to go on."""
    return HTMLResponse(HOME_PAGE)
