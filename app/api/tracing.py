"""Spans for OpenTelemetry, by the extra `otel`: off unless a setting asks for them.

A span holds what is set here and nothing else: neither path, query, header nor the text of an
exception, which may name a patient. Where spans go, OpenTelemetry's own variables (OTEL_...) say.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.domain.tally import TALLY

_NANOSECONDS = 1_000_000_000
_SECONDS_TO_FLUSH = 5


class Tracer:
    """Makes the spans of one process, and sends them away."""

    def __init__(self) -> None:
        """ImportError without the extra `otel`."""
        from opentelemetry import trace  # noqa: PLC0415 an extra
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        named = {"service.name": "maa-assess", "service.version": __version__}
        self._provider = TracerProvider(resource=Resource.create(named))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("maa_assess", __version__)
        # Baggage is the caller's own text: it is not read.
        self._came_from = TraceContextTextMapPropagator().extract
        self._server, self._client = trace.SpanKind.SERVER, trace.SpanKind.CLIENT

    def request(self, traceparent: str) -> Any:
        """A span, as a context manager, for a request; below the caller's where it names one."""
        return self._tracer.start_as_current_span(
            "request",
            self._came_from({"traceparent": traceparent}),
            self._server,
            record_exception=False,
            set_status_on_exception=False,
        )

    def asked(self, outcome: str, seconds: float) -> None:
        """Tell of a request to a FHIR server that has just ended."""
        now = time.time_ns()
        began = now - int(seconds * _NANOSECONDS)
        span = self._tracer.start_span("fhir request", kind=self._client, start_time=began)
        span.set_attribute("maa.outcome", outcome)
        span.end(now)

    def close(self) -> None:
        """Send what is left, if that is quick."""
        self._provider.force_flush(_SECONDS_TO_FLUSH * 1000)
        self._provider.shutdown()


class Tracing:
    """A span around every request that reaches an address."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_and_see(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        with self._tracer.request(parent) as span:
            try:
                await self._app(scope, receive, send_and_see)
            finally:
                route = getattr(scope.get("route"), "path", "unknown")
                span.update_name(route)
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                tally = TALLY.get()
                for definition, verdicts in tally.verdicts.items() if tally else ():
                    for verdict, count in verdicts.items():
                        span.set_attribute(f"maa.verdicts.{definition}.{verdict}", count)
