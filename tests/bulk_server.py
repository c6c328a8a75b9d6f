"""A FHIR Bulk Data server on loopback, for one export: what a kept client asks of one.

python -m tests.bulk_server DIRECTORY PORT
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_CAPABILITIES = {
    "resourceType": "CapabilityStatement",
    "status": "active",
    "date": "2024-06-01",
    "kind": "instance",
    "fhirVersion": "4.0.1",
    "format": ["json"],
    "rest": [
        {
            "mode": "server",
            "operation": [
                {
                    "name": "export",
                    "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
                }
            ],
        }
    ],
}


@contextmanager
def bulk_server(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve the NDJSON files of a folder as an export; the server's base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            base = f"http://{self.headers['Host']}/fhir"
            path = self.path.partition("?")[0]
            if path == "/fhir/metadata":
                self.answer(200, json.dumps(_CAPABILITIES).encode())
            elif path.endswith("/$export"):
                self.answer(202, b"", {"Content-Location": f"{base}/status"})
            elif path == "/fhir/status":
                files = sorted(folder.glob("*.ndjson"))
                outputs = [
                    {"type": file.name.split(".")[0], "url": f"{base}/files/{file.name}"}
                    for file in files
                ]
                manifest: dict[str, Any] = {
                    "transactionTime": "2024-06-01T00:00:00Z",
                    "request": f"{base}/$export",
                    "requiresAccessToken": False,
                    "output": outputs,
                    "error": [],
                }
                self.answer(200, json.dumps(manifest).encode())
            elif path.startswith("/fhir/files/"):
                file = folder / path.rpartition("/")[2]
                self.answer(200, file.read_bytes(), {"Content-Type": "application/fhir+ndjson"})
            else:
                self.answer(404, b"{}")

        def do_DELETE(self) -> None:
            self.answer(202, b"")

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/fhir"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    with bulk_server(Path(sys.argv[1]), int(sys.argv[2])) as url:
        sys.stdout.write(f"{url} until Enter\n")
        sys.stdin.readline()
