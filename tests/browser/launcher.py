"""An EHR on loopback that launches the page: SMART App Launch 2.2, for a public client with PKCE.

It refuses what the standard has it refuse, so that a launch that comes through has kept to it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

Json = dict[str, Any]
CLIENT = "maa-page"
PATIENT = "p-4711"
SCOPE = (
    "launch patient/Patient.rs patient/Observation.rs patient/Procedure.rs "
    "patient/MedicationAdministration.rs"
)


@dataclass
class Ehr:
    """What the EHR holds, how it behaves, and what it was asked."""

    chart: list[Json]
    scope: str = SCOPE
    refuses: str = ""
    """The OAuth error it sends the clinician back with."""
    ended: bool = False
    """Whether it has ended the session before the chart is read."""
    forbidden: tuple[str, ...] = ()
    """Types whose reading is 403 though the token has their scope."""
    patient: str | None = PATIENT
    base: str = ""
    launches: set[str] = field(default_factory=set)
    codes: dict[str, Json] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def launch(self) -> str:
        """A launch context, as the chart opens it."""
        self.launches.add(made := secrets.token_urlsafe(8))
        return made

    def authorize(self, query: dict[str, str], redirect: str) -> str:
        """Where the clinician is sent on to; what is wrong with the request becomes a fault."""
        wanted = {
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": redirect,
            "aud": self.base,
            "code_challenge_method": "S256",
        }
        wrong = [name for name, value in wanted.items() if query.get(name) != value]
        scopes = query.get("scope", "").split()
        if "launch" in query:
            wrong += [] if query["launch"] in self.launches and "launch" in scopes else ["launch"]
        elif "launch/patient" not in scopes:
            wrong.append("launch/patient")
        if len(query.get("state", "")) < 16 or len(query.get("code_challenge", "")) < 43:
            wrong.append("state or code_challenge")
        self.faults += wrong
        if self.refuses or wrong:
            error = self.refuses or "invalid_request"
            told = {"error": error, "error_description": "Refused.", "state": query["state"]}
            return f"{redirect}?{urlencode(told)}"
        code = secrets.token_urlsafe(16)
        self.codes[code] = {"challenge": query["code_challenge"], "redirect": redirect}
        return f"{redirect}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str]) -> Json | None:
        """The token response; None for a code that is not good, or not this client's."""
        known = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
        if known is None or known["challenge"] != challenge or form.get("client_id") != CLIENT:
            self.faults.append("token")
            return None
        self.tokens.add(token := secrets.token_urlsafe(16))
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": 300}
        patient = {"patient": self.patient} if self.patient else {}
        return answer | {"scope": self.scope} | patient

    def read(self, path: str, query: dict[str, str]) -> Json | None:
        """A resource by its address, or a searchset."""
        type_, _, id_ = path.partition("/")
        if id_:
            found = [r for r in self.chart if r["resourceType"] == type_ and r["id"] == id_]
            return found[0] if found else None
        codes = query.get("code", "").split(",") if "code" in query else None
        found = [
            resource
            for resource in self.chart
            if resource["resourceType"] == type_
            and resource["subject"]["reference"] == f"Patient/{query.get('patient')}"
            and (codes is None or resource["code"]["coding"][0]["code"] in codes)
        ]
        entries = [{"resource": resource} for resource in found]
        return {"resourceType": "Bundle", "type": "searchset", "entry": entries}


class Handler(BaseHTTPRequestHandler):
    """The addresses of an EHR."""

    ehr: Ehr
    redirect: str

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path.removeprefix("/fhir/")
        if path == ".well-known/smart-configuration":
            origin = self.ehr.base.removesuffix("/fhir")
            self.answer(
                200,
                {
                    "authorization_endpoint": f"{origin}/authorize",
                    "token_endpoint": f"{origin}/token",
                    "grant_types_supported": ["authorization_code"],
                    "code_challenge_methods_supported": ["S256"],
                    "capabilities": ["launch-ehr", "launch-standalone", "client-public"],
                },
            )
        elif path == "/authorize":
            self.send_response(302)
            self.send_header("Location", self.ehr.authorize(query, self.redirect))
            self.end_headers()
        elif path == "metadata":
            self.answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
        else:
            self.chart(path, query)

    def chart(self, path: str, query: dict[str, str]) -> None:
        self.ehr.asked.append(path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.ehr.ended or token not in self.ehr.tokens:
            self.answer(401, {"resourceType": "OperationOutcome"})
        elif path.partition("/")[0] in self.ehr.forbidden:
            self.answer(403, {"resourceType": "OperationOutcome"})
        else:
            found = self.ehr.read(path, query)
            self.answer(200 if found else 404, found or {"resourceType": "OperationOutcome"})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        form = parse_qs(self.rfile.read(length).decode())
        answer = self.ehr.token({name: values[0] for name, values in form.items()})
        self.answer(200 if answer else 400, answer or {"error": "invalid_grant"})

    def do_OPTIONS(self) -> None:
        self.answer(200, {})

    def answer(self, status: int, content: Json) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "*, Authorization")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def launching(ehr: Ehr, redirect: str) -> Iterator[Ehr]:
    """The EHR, answering; `redirect` is the one address it sends its clinicians back to."""

    bound = {"ehr": ehr, "redirect": redirect}
    handler = type("Bound", (Handler,), bound)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        ehr.base = f"http://127.0.0.1:{http.server_port}/fhir"
        yield ehr
        http.shutdown()
        thread.join()
