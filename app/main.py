"""The application: settings, addresses, error handlers."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect

from app import __version__
from app.access.callers import Callers
from app.access.rates import Rates
from app.access.sinks import Delivery, sink_of
from app.access.spool import Spool, SpoolError
from app.api import definitions, repository, routes, smart
from app.api.auditing import Auditing
from app.api.documents import secured
from app.api.fhir_json import disconnected, http_exception, request_error
from app.api.guard import Guard, LoopbackOnly, Proxied
from app.api.metrics import Metrics
from app.api.middleware import RequestMiddleware, WhenAsked
from app.api.tracing import Tracer, Tracing
from app.body import Room
from app.cds_hooks import routes as cds_hooks
from app.cds_hooks.remembered import Remembered, shared_store
from app.ehr.authorization import Authorization, BackendServices, Bearer, PrivateKey
from app.ehr.exchange import Limits, Told
from app.ehr.probe import Probe
from app.ehr.server import FhirServer
from app.evaluation import Bounds, Evaluator
from app.fhir.map_files import read_code_maps
from app.fhir.maps import CodeMap, CodeMapError
from app.fhir.outcome import RequestError
from app.logs import configure_logs, silence_the_talkative, tell
from app.papers import FAULTS
from app.publishing.terminology import concept_maps
from app.settings import Settings, SettingsError, read_settings
from app.web import routes as web

_PATIENCE_SECONDS = 5.0
# What uvicorn and gunicorn know a worker by that will never start.
_CANNOT_START = 3


def code_map_of(settings: Settings) -> CodeMap | None:
    """The hospital's own codes; SettingsError says in a line which file and row do not hold."""
    try:
        return read_code_maps(settings.code_maps)
    except CodeMapError as error:
        raise SettingsError(f"MAA_CODE_MAPS: {error}") from None


def fhir_server_of(settings: Settings, told: Told | None = None) -> FhirServer | None:
    """The FHIR server that the settings name, None where they name none; `told` as FhirServer's."""
    if settings.fhir_server is None:
        return None
    authorization: Authorization = Bearer(
        settings.fhir_token.get_secret_value() if settings.fhir_token else None
    )
    if settings.fhir_client_id and settings.fhir_private_key_file:
        authorization = BackendServices(
            settings.fhir_client_id,
            _private_key(settings.fhir_private_key_file, settings.fhir_key_id),
            settings.fhir_scope,
            settings.fhir_server.rstrip("/"),
            settings.fhir_token_url,
        )
    limits = Limits(
        timeout_seconds=settings.fhir_timeout_seconds,
        deadline_seconds=settings.fhir_deadline_seconds,
        connections=settings.fhir_connections,
        page_count=settings.fhir_page_count,
        bytes=settings.fhir_max_bytes,
    )
    return FhirServer(
        settings.fhir_server,
        authorization,
        limits,
        settings.fhir_search_by_post,
        settings.fhir_token_url,
        told=told,
        refuses_warnings=settings.fhir_server_warnings == "refuse",
    )


def _private_key(file: Path, key_id: str | None) -> PrivateKey:
    """The key of SMART Backend Services; SettingsError where the file holds none that fits."""
    try:
        return PrivateKey(file, key_id)
    except OSError as error:
        raise SettingsError(
            f"MAA_FHIR_PRIVATE_KEY_FILE cannot be read: {error.strerror}."
        ) from None
    except ValueError as error:
        raise SettingsError(f"MAA_FHIR_PRIVATE_KEY_FILE: {error}") from None


def _fhir_server_of_call(settings: Settings, told: Told, base: str, token: str) -> FhirServer:
    """The FHIR server that a CDS Hooks call names: a clinician waits, so it is asked once."""
    limits = Limits(
        timeout_seconds=min(settings.fhir_timeout_seconds, _PATIENCE_SECONDS),
        deadline_seconds=min(settings.fhir_deadline_seconds, _PATIENCE_SECONDS),
        attempts=1,
        bytes=settings.fhir_max_bytes,
    )
    refuses = settings.fhir_server_warnings == "refuse"
    return FhirServer(base, Bearer(token), limits, told=told, refuses_warnings=refuses)


def _tracer(settings: Settings) -> Tracer | None:
    """What makes spans, where they are asked for; SettingsError where that cannot be."""
    try:
        return Tracer() if settings.traces else None
    except ImportError:
        raise SettingsError(
            "MAA_TRACES=true needs the extra: pip install 'maa-assess[otel]'."
        ) from None


def _tell_all(metrics: Metrics, tracer: Tracer, outcome: str, seconds: float) -> None:
    metrics.asked(outcome, seconds)
    tracer.asked(outcome, seconds)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Frees the collector of what stays for good; closes the FHIR server's connections at last."""
    # Else a large Bundle pays for going through every module and model again and again.
    gc.collect()
    gc.freeze()
    app.state.evaluator.start()
    app.state.metrics.forget_the_dead()
    if app.state.settings.insecure and not app.state.callers:
        text = "Whoever reaches this service may ask: MAA_INSECURE=true, and there is no login."
        tell(logging.WARNING, text, {})
    store: Remembered | None = app.state.store
    if store is None:
        tell(logging.INFO, "Used tokens and feedback are remembered by this process alone.", {})
    if app.state.delivery:
        app.state.delivery.start()
    yield
    gc.unfreeze()
    if app.state.delivery:
        await app.state.delivery.aclose()
    app.state.evaluator.close()
    if store:
        await store.aclose()
    if app.state.tracer:
        await run_in_threadpool(app.state.tracer.close)
    if app.state.fhir_server:
        await app.state.fhir_server.aclose()
        await app.state.probe.aclose()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service, ready to be served; settings come from the environment unless given.

    Where those of the environment cannot be used, it says so in a line for each and exits.
    """
    if settings is not None:
        return _application(settings)
    try:
        settings = read_settings()
        configure_logs(settings.log_level, settings.log_format)
        return _application(settings)
    except SettingsError as error:
        sys.stderr.writelines(f"maa-assess: {line}\n" for line in error.lines)
        # So that a server of several workers starts no other in its place.
        raise SystemExit(_CANNOT_START) from None


def _application(settings: Settings) -> FastAPI:
    if FAULTS:
        raise SettingsError(*FAULTS)
    app: FastAPI = FastAPIOffline(
        title="maa-assess",
        version=__version__,
        description="Blood counts in, sourced assessments of aplastic anemia out, as FHIR R4.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=_lifespan,
        # A tracer is told the path and the query, which may name a patient.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Not by include_router, which matches every request three times over.
        routes=[
            *routes.ROUTES,
            *repository.router.routes,
            *definitions.router.routes,
            *cds_hooks.router.routes,
            *web.router.routes,
            *smart.router.routes,
        ],
        servers=[{"url": settings.public_url}] if settings.public_url else None,
        root_path_in_servers=settings.public_url is None,
    )
    without_security = app.openapi
    app.openapi = lambda: secured(without_security())  # type: ignore[method-assign]
    silence_the_talkative()
    app.state.settings = settings
    app.state.code_map = code_map = code_map_of(settings)
    app.state.concept_maps = concept_maps(code_map)
    app.state.metrics = metrics = Metrics()
    app.state.tracer = tracer = _tracer(settings)
    told = partial(_tell_all, metrics, tracer) if tracer else metrics.asked
    app.state.fhir_server = fhir_server_of(settings, told)
    app.state.probe = Probe(settings.fhir_server) if settings.fhir_server else None
    app.state.room = Room(settings.max_bytes_at_once)
    app.state.evaluator = Evaluator(
        Bounds(
            seconds=settings.evaluation_seconds,
            steps=settings.evaluation_steps,
            answer_bytes=settings.max_answer_bytes,
            memory_bytes=settings.evaluation_memory_bytes,
            at_once=settings.evaluations,
            waiting=settings.evaluations_waiting,
        )
    )
    app.state.store = shared_store(settings)
    app.state.callers = Callers(settings) if settings.authenticates else None
    app.state.cds_hooks = cds_hooks.CdsHooks(
        settings,
        metrics.registry,
        partial(_fhir_server_of_call, settings, told),
        code_map,
        app.state.store,
    )
    app.add_exception_handler(RequestError, request_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(ClientDisconnect, disconnected)
    # The last added is the outermost.
    app.add_middleware(
        WhenAsked,
        header=b"accept-encoding",
        middleware=GZipMiddleware,
        minimum_size=1000,
        compresslevel=3,
    )
    _audited(app, settings)
    _guard(app, settings)
    if tracer:
        app.add_middleware(Tracing, tracer=tracer)
    open_to_scripts = partial(
        WhenAsked,
        header=b"origin",
        middleware=CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        expose_headers=(
            "ETag",
            "X-Request-Id",
            "Preference-Applied",
            "Retry-After",
            "WWW-Authenticate",
        ),
        max_age=600,
    )
    app.add_middleware(open_to_scripts)
    app.add_middleware(
        RequestMiddleware,
        metrics=metrics,
        hosts=settings.hosts,
        prefix=settings.prefix,
        open_to_scripts=open_to_scripts,
    )
    if settings.trusted_proxies:
        app.add_middleware(Proxied, trusted=settings.trusted_proxies)
    return app


def _audited(app: FastAPI, settings: Settings) -> None:
    """Write down who is assessed, where that is asked for; SettingsError where it cannot be."""
    app.state.delivery = None
    if settings.audit is None or settings.audit_spool is None:
        return
    try:
        spool = Spool(settings.audit_spool, settings.audit_spool_events)
    except SpoolError as error:
        raise SettingsError(f"MAA_AUDIT_SPOOL cannot be used ({error}).") from None
    app.state.delivery = Delivery(spool, sink_of(settings), settings.audit_spool)
    app.add_middleware(
        Auditing,
        spool=spool,
        required=settings.audit_required,
        issuer=settings.auth_issuer,
        server=urlsplit(settings.public_url or "").hostname,
    )


def _guard(app: FastAPI, settings: Settings) -> None:
    """Ask who calls, or answer this machine alone, unless that is not wanted."""
    if settings.authenticates or settings.rate_limit:
        app.add_middleware(
            Guard,
            callers=app.state.callers,
            rates=Rates(settings.rate_limit) if settings.rate_limit else None,
            hooks_ask=settings.cds_require_jwt,
        )
    if settings.authenticates:
        return
    if not settings.insecure:
        app.add_middleware(LoopbackOnly, hooks_ask=settings.cds_require_jwt)
