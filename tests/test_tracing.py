"""OpenTelemetry: off by default; what a span holds is on a list, and never of a patient."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests import test_ehr
from tests.conftest import FHIR_JSON, OPERATION, ROOT, serving

ALLOWED = {"http.route", "http.response.status_code", "maa.outcome"}
ELIGIBLE = (ROOT / "fixtures/anc-below-0-5/request.json").read_bytes()
SECRET = b"Secret-Patient"


@contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a collector, and what it was sent."""
    sent: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sent.append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


def test_spans_hold_what_is_on_the_list_and_nothing_of_a_patient(tmp_path: Path) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with collecting() as (endpoint, sent), test_ehr.serving(test_ehr.ordinary) as stub:
        settings = {
            "MAA_TRACES": "true",
            "MAA_FHIR_SERVER": stub.base,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with serving(tmp_path / "log", **settings) as url:
            headers = {
                "content-type": FHIR_JSON,
                "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
                "baggage": "patient=Secret-Patient",
                "x-request-id": "Secret-Patient",
                "user-agent": "Secret-Patient",
            }
            body = ELIGIBLE.replace(b"Patient/", b"Patient/Secret-Patient-")
            assert httpx.post(url + OPERATION, content=body, headers=headers).status_code == 200
            httpx.get(f"{url}{test_ehr.ELIGIBILITY}", headers=headers)
            httpx.get(f"{url}/fhir/Patient/Secret-Patient/$assess-eligibility?x=Secret-Patient")
            httpx.get(f"{url}/nowhere/Secret-Patient")
    assert sent
    assert not any(SECRET in one for one in sent)
    requests = [ExportTraceServiceRequest.FromString(one) for one in sent]
    spans = [
        span
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    keys = {attribute.key for span in spans for attribute in span.attributes}
    verdicts = {key for key in keys if key.startswith("maa.verdicts.")}
    assert verdicts == {"maa.verdicts.nih-daclizumab-2003.eligible"}
    assert keys - verdicts == ALLOWED
    assert not any(span.events or span.status.message for span in spans)
    assert {span.name for span in spans} >= {
        OPERATION,
        "/fhir/Patient/{id}/$assess-eligibility",
        "unknown",
        "fhir request",
    }
    (judged,) = (span for span in spans if span.name == OPERATION)
    assert judged.trace_id.hex() == trace
    asked = [span for span in spans if span.name == "fhir request"]
    assert {span.trace_id.hex() for span in asked} >= {trace}, "below the request's own span"


def test_without_the_setting_nothing_is_sent_whatever_the_environment_says(
    tmp_path: Path,
) -> None:
    with collecting() as (endpoint, sent):
        with serving(tmp_path / "log", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as url:
            httpx.get(f"{url}/fhir/metadata")
        assert sent == []
