"""The patient-level operations against a FHIR server of the test's own making, by real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fhir.resources.R4B.operationoutcome import OperationOutcome
from pydantic import ValidationError

from app.ehr.authorization import Bearer
from app.ehr.exchange import Limits
from app.ehr.outbound import connections
from app.ehr.searches import SEARCHES
from app.ehr.server import FhirServer
from app.fhir.bodies import Entries
from app.fhir.outcome import RequestError
from app.main import create_app
from app.settings import Settings

FIXTURES = Path(__file__).parents[1] / "fixtures"
ELIGIBILITY = "/fhir/Patient/1/$assess-eligibility"


@dataclass
class Asked:
    """One request as the stub received it."""

    method: str
    path: str
    query: dict[str, list[str]]
    form: dict[str, list[str]]
    headers: dict[str, str]
    target: str = ""


Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Stub:
    """A FHIR server on loopback that answers as `reply` says, and remembers what it was asked."""

    reply: Callable[[Asked], Reply]
    asked: list[Asked] = field(default_factory=list)
    base: str = ""
    host: str = ""


@contextmanager
def serving(reply: Callable[[Asked], Reply]) -> Iterator[Stub]:
    stub = Stub(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, url.path, parse_qs(url.query), parse_qs(body), headers)
            asked.target = f"{stub.host}{self.path}"
            stub.asked.append(asked)
            try:
                status, more, content = stub.reply(asked)
            except ConnectionResetError:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"content-type": "application/fhir+json", **more}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 the standard library's name

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stub.host = f"http://127.0.0.1:{server.server_port}"
        stub.base = f"{stub.host}/fhir"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield stub
        server.shutdown()


def observation(name: str, code: str, value: str, unit: str, subject: str = "Patient/1") -> str:
    return (
        f'{{"resourceType":"Observation","id":"{name}","status":"final",'
        f'"code":{{"coding":[{{"system":"http://loinc.org","code":"{code}"}}]}},'
        f'"subject":{{"reference":"{subject}"}},"effectiveDateTime":"2024-03-05",'
        f'"valueQuantity":{{"value":{value},"unit":"{unit}",'
        f'"system":"http://unitsofmeasure.org","code":"{unit}"}}}}'
    )


PATIENT = '{"resourceType":"Patient","id":"1"}'
COUNTS = {
    "751-8": observation("anc", "751-8", "0.9", "10*9/L"),
    "777-3": observation("platelets", "777-3", "41", "10*9/L"),
    "718-7": observation("hemoglobin", "718-7", "11", "g/dL"),
    "60474-4": observation("reticulocytes", "60474-4", "80", "10*9/L"),
}


def searchset(resources: list[str], following: str = "", mode: str = "match") -> bytes:
    link = f'"link":[{{"relation":"next","url":"{following}"}}],' if following else ""
    entries = ",".join(
        f'{{"resource":{resource},"search":{{"mode":"{mode}"}}}}' for resource in resources
    )
    return f'{{"resourceType":"Bundle","type":"searchset",{link}"entry":[{entries}]}}'.encode()


def codes_of(asked: Asked) -> set[str]:
    given = (asked.query | asked.form).get("code", [""])[0]
    return {token.partition("|")[2] for token in given.split(",")}


def ordinary(asked: Asked) -> Reply:
    """A well-behaved server with one patient who meets the 2003 definition."""
    if asked.path.endswith("/Patient/1"):
        return 200, {}, PATIENT.encode()
    if asked.path.rsplit("/", 1)[1].startswith("$") or "/Patient/" in asked.path:
        return 404, {}, b'{"resourceType":"OperationOutcome"}'
    found = [one for code, one in COUNTS.items() if code in codes_of(asked)]
    return 200, {}, searchset(found if "Observation" in asked.path else [])


class Client:
    """Calls our service without a socket; what it asks of the FHIR server goes over real ones."""

    def __init__(self, settings: Settings, runner: asyncio.Runner) -> None:
        self.app = create_app(settings)
        self.runner = runner
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://localhost"
        )

    def get(self, url: str) -> httpx.Response:
        return self.runner.run(self.client.get(url))

    def post(self, url: str, **more: Any) -> httpx.Response:
        return self.runner.run(self.client.post(url, **more))


@contextmanager
def calling(settings: Settings) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        client = Client(settings, runner)
        try:
            yield client
        finally:
            runner.run(client.client.aclose())
            if client.app.state.fhir_server:
                runner.run(client.app.state.fhir_server.aclose())


@contextmanager
def service(stub: Stub, **settings: Any) -> Iterator[Client]:
    quick = {"fhir_timeout_seconds": 1.0, "fhir_deadline_seconds": 4.0} | settings
    with calling(Settings(fhir_server=stub.base, **quick)) as client:
        yield client


def verdict(answer: dict[str, Any]) -> str:
    code: str = answer["entry"][0]["resource"]["valueCodeableConcept"]["coding"][0]["code"]
    return code


def test_the_patients_counts_are_found_and_judged_as_if_they_were_sent() -> None:
    with serving(ordinary) as stub, service(stub) as client:
        fetched = client.get(ELIGIBILITY).json()
        assert verdict(fetched) == "eligible"
        sent = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": json.loads(one)} for one in (PATIENT, *COUNTS.values())],
        }
        headers = {"content-type": "application/fhir+json"}
        judged = client.post("/fhir/$assess-eligibility", json=sent, headers=headers).json()
        assert fetched["entry"][0]["resource"] == judged["entry"][0]["resource"]
        parts = fetched["entry"][0]["resource"]["component"]
        assert [p["extension"][0]["valueReference"]["reference"] for p in parts[:2]] == [
            "Observation/anc",
            "Observation/platelets",
        ]
    searched = {code for one in stub.asked for code in codes_of(one)}
    assert searched - {""} == {
        token.rpartition("|")[2] for search in SEARCHES for token in search.tokens
    }
    for one in stub.asked[1:]:
        assert one.query["patient"] == ["1"]
        assert one.query["_count"] == ["200"]
        assert len(f"{stub.base}{one.path}?{one.query}") < 2600
    sorts = {one.path: one.query.get("_sort") for one in stub.asked[1:]}
    assert sorts["/fhir/Observation"] == sorts["/fhir/Procedure"] == ["-date"]
    assert sorts["/fhir/MedicationAdministration"] == ["-effective-time"]


def test_an_answer_is_the_same_wherever_its_parameters_stood() -> None:
    """What was remarked names a place in the data that were read, not in the caller's body."""
    odd = observation("odd", "777-3", "41", "furlongs")
    served = [odd, *COUNTS.values()]

    def reply(asked: Asked) -> Reply:
        if asked.path.endswith("/Patient/1"):
            return 200, {}, PATIENT.encode()
        found = [
            one for one in served if json.loads(one)["code"]["coding"][0]["code"] in codes_of(asked)
        ]
        return 200, {}, searchset(found if "Observation" in asked.path else [])

    headers = {"content-type": "application/fhir+json"}
    parameters = {"name": "window", "valuePositiveInt": 20}
    body = {"resourceType": "Parameters", "parameter": [parameters]}
    with serving(reply) as stub, service(stub) as client:
        by_query = client.get(f"{ELIGIBILITY}?window=20")
        by_body = client.post(ELIGIBILITY, json=body, headers=headers)
    assert "Bundle.entry[" in by_query.text
    assert by_body.content == by_query.content


def test_parameters_go_into_the_query_or_the_body() -> None:
    criteria = {"name": "criteria", "valueUri": "very-severe"}
    parameters = {"resourceType": "Parameters", "parameter": [criteria]}
    headers = {"content-type": "application/fhir+json"}
    with serving(ordinary) as stub, service(stub) as client:
        by_query = client.get(f"{ELIGIBILITY}?criteria=very-severe")
        by_body = client.post(ELIGIBILITY, json=parameters, headers=headers)
        assert verdict(by_query.json()) == verdict(by_body.json()) == "not-eligible"
        assert verdict(client.post(ELIGIBILITY).json()) == "eligible"
        bundle = {"resourceType": "Bundle", "type": "collection"}
        assert client.post(ELIGIBILITY, json=bundle, headers=headers).status_code == 400
        wrong = {**criteria, "name": "critera"}
        body = {"resourceType": "Parameters", "parameter": [wrong]}
        refused = client.post(ELIGIBILITY, json=body, headers=headers)
        assert refused.status_code == 400
        assert refused.json()["issue"][0]["expression"] == ["Parameters.parameter[0]"]
        response = client.get("/fhir/Patient/1/$assess-response?treatmentStart=2024-03-06")
        assert verdict(response.json()) == "not-evaluable"


def test_every_digit_is_kept() -> None:
    """1.2 is depressed; the smallest bit more is not, and no float tells them apart."""

    def reply(asked: Asked) -> Reply:
        if "751-8" in codes_of(asked):
            over = observation("anc", "751-8", "1.2000000000000000001", "10*9/L")
            return 200, {}, searchset([over])
        return ordinary(asked)

    with serving(reply) as stub, service(stub) as client:
        found = client.get(ELIGIBILITY).json()["entry"][0]["resource"]
    assert found["component"][0]["valueCodeableConcept"]["coding"][0]["code"] == "not-met"


@pytest.mark.parametrize("following", ["/fhir/Observation?page={}", "{base}?page={}", "?page={}"])
def test_all_pages_are_followed_and_a_result_on_two_pages_is_one(following: str) -> None:
    """The next link may be relative, absolute, or at the base as some servers have it."""

    def reply(asked: Asked) -> Reply:
        page = int(asked.query.get("page", ["0"])[0])
        if "751-8" not in codes_of(asked) and not page:
            return ordinary(asked)
        address = following.format(page + 1, base=stub.base) if page < 4 else ""
        old = observation(f"anc-{page}", "751-8", "3", "10*9/L").replace("2024", "2023")
        return 200, {}, searchset([COUNTS["751-8"] if page == 4 else old], address)

    with serving(reply) as stub:
        following = following.replace("{base}", stub.base)
        with service(stub) as client:
            assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
    assert [one.query["page"][0] for one in stub.asked if "page" in one.query] == list("1234")


@pytest.mark.parametrize("kind", ["Condition", "MedicationRequest", "MedicationStatement"])
def test_what_turns_no_verdict_may_be_refused(kind: str) -> None:
    def reply(asked: Asked) -> Reply:
        return (403, {}, b"") if f"/{kind}" in asked.path else ordinary(asked)

    with serving(reply) as stub, service(stub) as client:
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"


def test_what_is_refused_of_the_counts_fails_the_call() -> None:
    def reply(asked: Asked) -> Reply:
        return (403, {}, b"") if "/Procedure" in asked.path else ordinary(asked)

    with serving(reply) as stub, service(stub) as client:
        assert client.get(ELIGIBILITY).status_code == 502


def test_search_by_post_keeps_the_patient_out_of_the_address() -> None:
    with serving(ordinary) as stub, service(stub, fhir_search_by_post=True) as client:
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
    searches = [one for one in stub.asked if one.method == "POST"]
    assert len(searches) == len(SEARCHES)
    for one in searches:
        assert one.path.endswith("/_search")
        assert one.form["patient"] == ["1"]
        assert not one.query


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_passes_is_asked_again_after_the_pause_it_names(status: int) -> None:
    times: list[float] = []

    def reply(asked: Asked) -> Reply:
        if asked.path.endswith("/Patient/1"):
            times.append(time.monotonic())
            if len(times) == 1:
                return status, {"retry-after": "1"}, b""
        return ordinary(asked)

    with serving(reply) as stub, service(stub, fhir_deadline_seconds=5) as client:
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
    assert times[1] - times[0] >= 1


BOMB = gzip.compress(b" " * 50_000_000)


def failing(kind: str, other: str) -> Callable[[Asked], Reply]:
    """A server that fails in one way at the search for neutrophils."""

    def reply(asked: Asked) -> Reply:
        if "751-8" not in codes_of(asked) and "page" not in asked.query:
            return ordinary(asked)
        outcome = '{"resourceType":"OperationOutcome","issue":[{"severity":"error"}]}'
        if kind == "slow":
            time.sleep(1)
        return {
            "slow": (200, {}, searchset([])),
            "html": (200, {"content-type": "text/html"}, b"<html>Log in</html>"),
            "another resource": (200, {}, PATIENT.encode()),
            "not a searchset": (200, {}, b'{"resourceType":"Bundle","type":"history"}'),
            "loop": (200, {}, searchset([], f"/fhir{asked.path[5:]}?page=1")),
            "oversized": (200, {}, searchset([json.dumps("x" * 300_000)])),
            "half failing": (200, {}, searchset([outcome], mode="outcome")),
            "refused token": (401, {}, b""),
            "forbidden": (403, {}, b""),
            "redirect": (302, {"location": f"{other}/fhir/Observation"}, b""),
            "next elsewhere": (200, {}, searchset([], f"{other}/fhir/Observation?page=1")),
            "next outside the base": (200, {}, searchset([], "/other/Observation?page=1")),
            "next with a user": (
                200,
                {},
                searchset([], asked.headers["host"].join(["http://a@", "/fhir?page=1"])),
            ),
            "always failing": (500, {}, b""),
            "gone": (404, {}, b""),
            "no address": (200, {}, searchset([], "http://[::1")),
            "next climbs": (200, {}, searchset([], "/fhir/%2e%2e/admin?page=1")),
            "not UTF-8": (200, {}, '{"resourceType":"Bündel"}'.encode("latin-1")),
            "another type": (200, {}, searchset([PATIENT])),
            "zipped": (200, {"content-encoding": "gzip"}, BOMB),
            "not zipped": (200, {"content-encoding": "gzip"}, b"{}"),
            "unasked encoding": (200, {"content-encoding": "zstd"}, b"{}"),
        }[kind]

    return reply


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("slow", 504, "in time"),
        ("html", 502, "no FHIR JSON"),
        ("another resource", 502, "searchset"),
        ("not a searchset", 502, "searchset"),
        ("loop", 502, "do not end"),
        ("oversized", 502, "MAA_FHIR_MAX_BYTES"),
        ("half failing", 502, "OperationOutcome"),
        ("refused token", 502, "credentials"),
        ("forbidden", 502, "credentials"),
        ("redirect", 502, "redirects"),
        ("next elsewhere", 502, "another address"),
        ("next outside the base", 502, "another address"),
        ("next with a user", 502, "another address"),
        ("always failing", 502, "answered 500"),
        ("gone", 502, "answered 404"),
        ("no address", 502, "no address"),
        ("next climbs", 502, "another address"),
        ("not UTF-8", 502, "no FHIR JSON"),
        ("another type", 502, "another type"),
        ("zipped", 502, "MAA_FHIR_MAX_BYTES"),
        ("not zipped", 502, "gzip"),
        ("unasked encoding", 502, "Content-Encoding"),
    ],
)
def test_a_server_that_fails_is_told_and_no_other_host_is_asked(
    kind: str, status: int, said: str
) -> None:
    limits = {"fhir_max_bytes": 200_000} | ({"fhir_timeout_seconds": 0.3} if kind == "slow" else {})
    with serving(ordinary) as other, serving(failing(kind, other.host)) as stub:
        with service(stub, **limits, fhir_token="secret-token") as client:
            began = time.monotonic()
            response = client.get(ELIGIBILITY)
            assert time.monotonic() - began < 3
        assert other.asked == []
    assert response.status_code == status, response.text
    outcome = response.json()
    OperationOutcome.model_validate(outcome)
    assert said in outcome["issue"][0]["diagnostics"]
    assert "Patient" not in response.text
    assert "secret-token" not in response.text


def test_a_server_that_trickles_ends_at_the_deadline() -> None:
    def reply(asked: Asked) -> Reply:
        time.sleep(0.2)
        page = int(asked.query.get("page", ["0"])[0])
        return 200, {}, searchset([], f"/fhir/Observation?page={page + 1}")

    def patient_first(asked: Asked) -> Reply:
        return ordinary(asked) if "Patient/1" in asked.path else reply(asked)

    with serving(patient_first) as stub, service(stub, fhir_deadline_seconds=1) as client:
        began = time.monotonic()
        assert client.get(ELIGIBILITY).status_code == 504
        assert time.monotonic() - began < 2


def test_a_server_that_cannot_be_reached_is_left_alone_after_a_while() -> None:
    with serving(ordinary) as stub:
        gone = stub.base
    settings = Settings(fhir_server=gone, fhir_timeout_seconds=0.3)
    with calling(settings) as client:
        assert client.get("/health/live").status_code == 200
        said = [client.get(ELIGIBILITY).json()["issue"][0]["diagnostics"] for _ in range(6)]
        assert "cannot be reached" in said[0]
        assert "left alone" in said[-1]
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["notReady"]) == (503, ["fhir-server"])
        assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "name", ["%2e%2e", "...%2f..", "1%2f..%2f2", "1?x=y", "a b", "1%00", "%C3%A4", "x" * 65, "1%23"]
)
def test_an_id_with_path_tricks_asks_nothing(name: str) -> None:
    with serving(ordinary) as stub, service(stub) as client:
        assert client.get(f"/fhir/Patient/{name}/$assess-eligibility").status_code in {
            400,
            404,
            405,
        }
    assert stub.asked == []


def test_a_patient_who_is_not_there_and_a_server_that_is_not_configured() -> None:
    with serving(ordinary) as stub, service(stub) as client:
        missing = client.get("/fhir/Patient/2/$assess-eligibility")
    assert (missing.status_code, missing.json()["issue"][0]["code"]) == (404, "not-found")
    with calling(Settings()) as client:
        response = client.get(ELIGIBILITY)
    assert response.status_code == 404
    assert "MAA_FHIR_SERVER" in response.json()["issue"][0]["diagnostics"]


def test_a_patient_without_counts_cannot_be_assessed() -> None:
    def reply(asked: Asked) -> Reply:
        return ordinary(asked) if "Patient/1" in asked.path else (200, {}, searchset([]))

    with serving(reply) as stub, service(stub) as client:
        assert client.get(ELIGIBILITY).status_code == 422


@dataclass
class Issuer:
    """The stub's authorization service: checks each assertion and hands out tokens in turn."""

    public_key: Any
    algorithm: str
    good: set[str] = field(default_factory=set)
    issued: int = 0
    ids: set[str] = field(default_factory=set)
    kids: set[str | None] = field(default_factory=set)

    def reply(self, asked: Asked) -> Reply:
        host = f"http://{asked.headers['host']}"
        if asked.path.endswith("smart-configuration"):
            return 200, {}, json.dumps({"token_endpoint": f"{host}/fhir/token"}).encode()
        if asked.path.endswith("/token"):
            return self._token(asked, f"{host}/fhir/token")
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        return ordinary(asked) if token in self.good else (401, {}, b"")

    def _token(self, asked: Asked, endpoint: str) -> Reply:
        form = {name: values[0] for name, values in asked.form.items()}
        assert form["grant_type"] == "client_credentials"
        assert form["client_assertion_type"].endswith("client-assertion-type:jwt-bearer")
        claims = jwt.decode(
            form["client_assertion"], self.public_key, [self.algorithm], audience=endpoint
        )
        assert claims["iss"] == claims["sub"] == "our-client"
        assert claims["exp"] - time.time() <= 300
        assert claims["jti"] not in self.ids
        self.kids.add(jwt.get_unverified_header(form["client_assertion"]).get("kid"))
        self.ids.add(claims["jti"])
        self.issued += 1
        token = f"token-{self.issued}"
        self.good.add(token)
        return 200, {}, json.dumps({"access_token": token, "expires_in": 300}).encode()


def key_of(algorithm: str) -> Any:
    if algorithm == "RS384":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
@pytest.mark.parametrize("form", ["pem", "jwk"])
def test_smart_backend_services(algorithm: str, form: str, tmp_path: Path) -> None:
    key = key_of(algorithm)
    file = tmp_path / "key"
    if form == "pem":
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    else:
        kind = jwt.algorithms.RSAAlgorithm if algorithm == "RS384" else jwt.algorithms.ECAlgorithm
        file.write_text(json.dumps({**kind.to_jwk(key, as_dict=True), "kid": "k1"}))
    issuer = Issuer(key.public_key(), algorithm)
    settings = {"fhir_client_id": "our-client", "fhir_private_key_file": file}
    with serving(issuer.reply) as stub, service(stub, **settings) as client:
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
        assert issuer.issued == 1, "the token is kept"
        issuer.good.clear()
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
        assert issuer.issued == 2, "an expired token is renewed once"
    assert issuer.kids == ({"k1"} if form == "jwk" else {None})


def test_a_client_that_is_not_known_and_a_token_endpoint_elsewhere(tmp_path: Path) -> None:
    key = key_of("ES384")
    file = tmp_path / "key.jwk"
    file.write_text(json.dumps(jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)))
    settings = {"fhir_client_id": "our-client", "fhir_private_key_file": file}

    def elsewhere(asked: Asked) -> Reply:
        return 200, {}, json.dumps({"token_endpoint": f"{other.base}/token"}).encode()

    with serving(ordinary) as other, serving(elsewhere) as stub:
        with service(stub, **settings) as client:
            response = client.get(ELIGIBILITY)
        assert other.asked == []
    assert response.status_code == 502
    assert "MAA_FHIR_TOKEN_URL" in response.json()["issue"][0]["diagnostics"]

    def refusing(asked: Asked) -> Reply:
        if asked.path.endswith("/token"):
            return 400, {}, b'{"error":"invalid_client"}'
        return 200, {}, json.dumps({"token_endpoint": f"{stub.base}/token"}).encode()

    with serving(refusing) as stub, service(stub, **settings) as client:
        response = client.get(ELIGIBILITY)
    assert response.status_code == 502
    assert "refused our client" in response.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    "settings",
    [
        {"fhir_server": "http://fhir.example.org"},
        {"fhir_server": "ftp://fhir.example.org"},
        {"fhir_server": "fhir"},
        {"fhir_client_id": "alone"},
        {"fhir_token_url": "http://example.org/token"},
        {"fhir_server": "https://user:word@fhir.example.org"},
        {"fhir_server": "https://fhir.example.org/fhir?tenant=1"},
        {"fhir_server": "https://[::1"},
        {"fhir_token": "t", "fhir_client_id": "c", "fhir_private_key_file": "key.pem"},
    ],
)
def test_settings_that_would_leak_or_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**settings)
    assert Settings(fhir_server="http://hapi:8080/fhir", fhir_allow_http=True).fhir_server


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256R1())]
)
def test_a_weak_or_unfit_key_is_refused_at_the_start(key: Any, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    encoding = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    file.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    settings = Settings(
        fhir_server="https://fhir.example.org",
        fhir_client_id="c",
        fhir_private_key_file=file,
    )
    with pytest.raises(ValueError, match="neither RSA of 2048 bits"):
        create_app(settings)


def fetched(stub: Stub, query: str, **more: Any) -> list[dict[str, Any]]:
    """The resources that a server of its own brings for one query, as for one call of CDS Hooks."""

    async def fetch() -> Entries:
        server = FhirServer(stub.base, **more)
        try:
            return await server.fetch(query)
        finally:
            await server.aclose()

    return [json.loads(bytes(entry.resource)) for entry in asyncio.run(fetch())]  # type: ignore[arg-type]


def test_a_read_and_a_search_bring_resources() -> None:
    with serving(ordinary) as stub:
        read = fetched(stub, "Patient/1", authorization=Bearer("theirs"))
        found = fetched(stub, "Observation?patient=1&code=http://loinc.org|751-8")
    assert read == [json.loads(PATIENT)]
    assert [resource["id"] for resource in found] == ["anc"]
    assert stub.asked[0].headers["authorization"] == "Bearer theirs"
    assert "authorization" not in stub.asked[1].headers


@pytest.mark.parametrize("by_post", [False, True])
def test_many_codes_are_asked_in_short_addresses_each_once(by_post: bool) -> None:
    codes = [f"http://loinc.org|{number}-1" for number in range(10_000, 10_300)]
    query = f"Observation?patient=1&date=ge2020&date=le2024&code={','.join(codes)}"
    with serving(ordinary) as stub:
        fetched(stub, query, search_by_post=by_post)
    fields = [one.form if by_post else one.query for one in stub.asked]
    assert [code for one in fields for code in one["code"][0].split(",")] == codes
    assert all(one["date"] == ["ge2020", "le2024"] for one in fields)
    if by_post:
        assert len(stub.asked) == 1
    else:
        assert len(stub.asked) > 1
        assert max(len(one.target) for one in stub.asked) <= 2000


@pytest.mark.parametrize(
    "query",
    [
        "../admin",
        "Patient/..",
        "Patient/%2e%2e/x",
        "../../x?y=1",
        "Patient/../../other/secret",
        "Patient/1?x=y",
        "Patient",
        "//other.example/Patient?a=b",
        "$export?a=b",
    ],
)
def test_what_is_no_read_or_search_is_not_asked(query: str) -> None:
    with serving(ordinary) as stub, pytest.raises(RequestError) as refused:
        fetched(stub, query)
    assert refused.value.status == 400
    assert stub.asked == []


def test_shared_connections_stay_open_and_carry_no_cookie_from_one_token_to_the_next() -> None:
    def reply(asked: Asked) -> Reply:
        status, headers, content = ordinary(asked)
        return status, {**headers, "set-cookie": "session=first"}, content

    async def twice(base: str) -> None:
        async with connections() as shared:
            for token in ("first", "second"):
                server = FhirServer(base, Bearer(token), client=shared)
                await server.fetch("Patient/1")
                await server.aclose()

    with serving(reply) as stub:
        asyncio.run(twice(stub.base))
    assert [one.headers["authorization"] for one in stub.asked] == ["Bearer first", "Bearer second"]
    assert not any("cookie" in one.headers for one in stub.asked)


def test_a_server_that_names_itself_otherwise_has_the_same_patient() -> None:
    """Behind a proxy the server's own fullUrls hold a name that we do not ask it by."""

    def reply(asked: Asked) -> Reply:
        status, headers, content = ordinary(asked)
        page = json.loads(content)
        for entry in page.get("entry", []):
            entry["fullUrl"] = f"http://inside:8080/fhir/Observation/{entry['resource']['id']}"
        return status, headers, json.dumps(page).encode()

    with serving(reply) as stub, service(stub) as client:
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"


def test_a_wrong_parameter_is_told_before_the_server_is_asked() -> None:
    with serving(ordinary) as stub, service(stub) as client:
        assert client.get(f"{ELIGIBILITY}?asOf=yesterday").status_code == 400
        assert client.get(f"{ELIGIBILITY}?subject=Patient/2").status_code == 400
    assert stub.asked == []


def test_a_search_that_keeps_failing_opens_the_breaker_though_the_patient_is_read() -> None:
    """Neither the read that succeeds nor the searches cancelled beside it count as a recovery."""

    def reply(asked: Asked) -> Reply:
        return ordinary(asked) if asked.path.endswith("/Patient/1") else (503, {}, b"")

    with serving(reply) as stub, service(stub) as client:
        for _ in range(5):
            assert "answered 503" in client.get(ELIGIBILITY).text
        before = len(stub.asked)
        rested = client.get(ELIGIBILITY)
        assert (rested.status_code, len(stub.asked)) == (502, before)
        assert "left alone" in rested.text
        assert 1 <= int(rested.headers["retry-after"]) <= 30


def test_a_server_left_alone_is_asked_again_later_and_is_ready_when_it_answers() -> None:
    answers: list[Any] = [(503, {}, b"")] * 2

    def reply(asked: Asked) -> Reply:
        return answers.pop() if answers else ordinary(asked)

    async def thrice(base: str) -> list[bool]:
        limits = Limits(attempts=1, failures_to_open=2, open_seconds=0.2)
        server = FhirServer(base, limits=limits)
        for _ in range(2):
            with pytest.raises(RequestError):
                await server.fetch("Patient/1")
        resting = [server.resting]
        await asyncio.sleep(0.3)
        await server.fetch("Patient/1")
        resting.append(server.resting)
        await server.aclose()
        return resting

    with serving(reply) as stub:
        assert asyncio.run(thrice(stub.base)) == [True, False]
    assert len(stub.asked) == 3


def test_one_call_that_is_answered_wrongly_does_not_count_as_an_outage() -> None:
    with serving(failing("html", "")) as stub, service(stub) as client:
        for _ in range(7):
            assert "no FHIR JSON" in client.get(ELIGIBILITY).text


def test_a_pause_beyond_the_deadline_is_not_waited_for_but_passed_on() -> None:
    def reply(_: Asked) -> Reply:
        return 503, {"retry-after": "3600"}, b""

    with serving(reply) as stub, service(stub) as client:
        began = time.monotonic()
        busy = client.get(ELIGIBILITY)
        assert time.monotonic() - began < 1
    assert (busy.status_code, busy.headers["retry-after"]) == (502, "3600")
    assert len(stub.asked) == 1


def test_a_pause_until_a_date_is_kept() -> None:
    times: list[float] = []

    def reply(asked: Asked) -> Reply:
        times.append(time.monotonic())
        if len(times) > 1:
            return ordinary(asked)
        until = datetime.now(UTC) + timedelta(seconds=2)
        return 429, {"retry-after": format_datetime(until, usegmt=True)}, b""

    with serving(reply) as stub:
        fetched(stub, "Patient/1")
    # The date has whole seconds: up to one of the two is lost.
    assert 0.9 <= times[1] - times[0] <= 3


def test_a_connection_that_breaks_off_is_tried_again() -> None:
    broken: list[Asked] = []

    def reply(asked: Asked) -> Reply:
        if not broken:
            broken.append(asked)
            raise ConnectionResetError
        return ordinary(asked)

    with serving(reply) as stub:
        assert fetched(stub, "Patient/1")
    assert len(stub.asked) == 2


def test_a_zipped_answer_is_read_and_a_bomb_is_never_unpacked() -> None:
    def zipped(asked: Asked) -> Reply:
        status, headers, content = ordinary(asked)
        return status, {**headers, "content-encoding": "gzip"}, gzip.compress(content)

    with serving(zipped) as stub:
        assert fetched(stub, "Patient/1") == [json.loads(PATIENT)]
    assert stub.asked[0].headers["accept-encoding"] == "gzip"
    with serving(lambda _: (200, {"content-encoding": "gzip"}, BOMB)) as stub:
        tracemalloc.start()
        with pytest.raises(RequestError):
            fetched(stub, "Patient/1", limits=Limits(bytes=200_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ordinary) as proxy, serving(ordinary) as stub:
        for name in ("HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.host)
        with service(stub) as client:
            assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
        assert proxy.asked == []


def test_no_log_names_the_patient_or_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(ordinary) as stub, service(stub, fhir_token="secret-token") as client:
        assert client.get(ELIGIBILITY).status_code == 200
    assert "Patient/1" not in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize("token", ["tökén", "two words", "line\nbreak"])
def test_a_token_that_no_header_can_carry_is_told(token: str) -> None:
    with serving(ordinary) as stub, service(stub, fhir_token=token) as client:
        response = client.get(ELIGIBILITY)
    assert response.status_code == 502
    assert "header" in response.json()["issue"][0]["diagnostics"]
    assert token not in response.text
    assert stub.asked == []


def test_a_token_that_expires_amid_the_searches_is_renewed_once(tmp_path: Path) -> None:
    key = key_of("ES384")
    file = tmp_path / "key.jwk"
    file.write_text(json.dumps(jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)))
    issuer = Issuer(key.public_key(), "ES384")
    together, first = threading.Barrier(4), iter(range(4))

    def reply(asked: Asked) -> Reply:
        if asked.headers.get("authorization") == "Bearer token-1" and "/Patient/" not in asked.path:
            # The first four wait for each other, and are refused one after the other.
            if next(first, None) is not None:
                time.sleep(0.05 * together.wait(5))
            return 401, {}, b""
        return issuer.reply(asked)

    settings = {"fhir_client_id": "our-client", "fhir_private_key_file": file}
    with serving(reply) as stub, service(stub, fhir_timeout_seconds=2, **settings) as client:
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
    assert issuer.issued == 2


def test_an_assertion_is_never_sent_twice(tmp_path: Path) -> None:
    """An authorization service may take the second for a replay."""
    key = key_of("ES384")
    file = tmp_path / "key.jwk"
    file.write_text(json.dumps(jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)))
    issuer = Issuer(key.public_key(), "ES384")

    def reply(asked: Asked) -> Reply:
        answer = issuer.reply(asked)
        busy = asked.path.endswith("/token") and issuer.issued == 1
        return (503, {}, b"") if busy else answer

    settings = {"fhir_client_id": "our-client", "fhir_private_key_file": file}
    with serving(reply) as stub, service(stub, **settings) as client:
        assert verdict(client.get(ELIGIBILITY).json()) == "eligible"
    assert (issuer.issued, len(issuer.ids)) == (2, 2)


def test_a_key_that_cannot_be_read_is_refused_without_repeating_it(tmp_path: Path) -> None:
    file = tmp_path / "key.jwk"
    file.write_text('{"kty": "EC", "crv": "P-384", "d": "secret"}')
    settings = Settings(
        fhir_server="https://fhir.example.org", fhir_client_id="c", fhir_private_key_file=file
    )
    with pytest.raises(ValueError, match="not a JWK") as refused:
        create_app(settings)
    assert "secret" not in str(refused.value)


def test_a_setting_left_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compose file passes `MAA_FHIR_SERVER=` on when nobody has set it."""
    monkeypatch.setenv("MAA_FHIR_SERVER", "")
    assert Settings().fhir_server is None


# What the server's word is worth


def linked(link: str, resources: list[str], more: str = "") -> Reply:
    """A searchset with a `self` link; without one where it is empty."""
    given = {"relation": "self", "url": link}
    links = f'"link":[{json.dumps(given)}],' if link else ""
    entries = ",".join(f'{{"resource":{one}}}' for one in resources)
    body = f'{{"resourceType":"Bundle","type":"searchset",{links}{more}"entry":[{entries}]}}'
    return 200, {}, body.encode()


def found_for(asked: Asked) -> list[str]:
    return [one for code, one in COUNTS.items() if code in codes_of(asked)]


def answering(said: Callable[[str, Asked], str], **other: Any) -> Callable[[Asked], Reply]:
    """The ordinary server, whose `self` link is made of the query it was asked."""

    def reply(asked: Asked) -> Reply:
        if not asked.path.endswith(("/Observation", "/Observation/_search")):
            return ordinary(asked)
        query = urlencode(
            [(n, v) for n, vs in (asked.query | asked.form).items() for v in vs], quote_via=quote
        )
        return linked(said(query, asked), found_for(asked), **other)

    return reply


def replaced(name: str, new: str) -> Callable[[str, Asked], str]:
    """The query as asked with one parameter written anew; left out where that is empty."""

    def said(query: str, asked: Asked) -> str:
        parts = [part for part in query.split("&") if not part.startswith(f"{name}=")]
        kept = next(part for part in query.split("&") if part.startswith(f"{name}="))
        value = kept.partition("=")[2]
        return f"{asked.path}?" + "&".join([*parts, *([new.format(value)] if new else [])])

    return said


@pytest.mark.parametrize("by_post", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        lambda query, asked: f"https://other.example{asked.path}?{query}",
        lambda query, asked: "?" + "&".join(reversed(query.split("&"))),
        lambda query, asked: f"Observation?_format=json&{query}&_total=none&_getpages=7",
        lambda query, asked: f"Observation?{unquote(query)}",
        lambda query, asked: f"Observation?{query.replace('%', '%25')}",
        lambda query, asked: f"Observation?{query.replace('http%3A%2F%2Floinc.org%7C', '')}",
        replaced("patient", "patient=Patient/{}"),
        replaced("patient", "patient=http%3A%2F%2Fa.example%2Ffhir%2FPatient%2F{}"),
        replaced("patient", "subject=Patient%2F{}"),
        replaced("patient", "subject:Patient={}"),
        replaced("code", "code:in=x&code={}"),
        replaced("_sort", ""),
        replaced("_count", "_count=20"),
        lambda query, asked: "",
        lambda query, asked: f"{asked.path}",
        lambda query, asked: "http://[",
    ],
)
def test_a_self_link_in_other_words_is_believed(
    said: Callable[[str, Asked], str], by_post: bool
) -> None:
    with serving(answering(said)) as stub, service(stub, fhir_search_by_post=by_post) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
        assert (answer.status_code, verdict(answer.json())) == (200, "eligible")


@pytest.mark.parametrize("by_post", [False, True])
@pytest.mark.parametrize(
    ("said", "parameter"),
    [
        (replaced("code", ""), "code"),
        (replaced("code", "code="), "code"),
        (replaced("code", "code=http://loinc.org|777-3"), "code"),
        (replaced("code", "_code={}"), "code"),
        (replaced("patient", ""), "patient"),
        (replaced("patient", "patient="), "patient"),
        (replaced("patient", "patient=Patient/2"), "patient"),
        (replaced("patient", "patient=1{}"), "patient"),
    ],
)
def test_a_server_that_ignores_a_parameter_by_its_own_word_is_not_believed(
    said: Callable[[str, Asked], str], parameter: str, by_post: bool
) -> None:
    with serving(answering(said)) as stub, service(stub, fhir_search_by_post=by_post) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
    (issue,) = answer.json()["issue"]
    assert answer.status_code == 502
    assert f"did not search Observation by '{parameter}'" in issue["diagnostics"]


def asked_for(query: str, asked: Asked) -> str:
    return f"{asked.path}?{query}"


@pytest.mark.parametrize(
    ("said", "sent", "parameter"),
    [
        (asked_for, observation("anc", "751-8", "0.1", "10*9/L", "Patient/2"), "patient"),
        (asked_for, observation("anc", "751-8", "0.1", "10*9/L", "Group/1"), "patient"),
        (asked_for, observation("anc", "751-8", "0.1", "10*9/L", "http://a/Patient/12"), "patient"),
        (None, observation("anc", "751-8", "0.1", "10*9/L", "Patient/2"), "patient"),
        (None, observation("anc", "751-8", "0.1", "10*9/L", ""), "patient"),
        (None, observation("potassium", "2823-3", "4", "mmol/L"), "code"),
        (
            None,
            '{"resourceType":"Observation","id":"x","subject":{"reference":"Patient/1"}}',
            "code",
        ),
        (None, '{"resourceType":"Observation","id":"x","subject":[1]}', "patient"),
    ],
)
def test_what_another_question_would_find_is_not_believed(
    said: Callable[[str, Asked], str] | None, sent: str, parameter: str
) -> None:
    def reply(asked: Asked) -> Reply:
        if not asked.path.endswith("/Observation"):
            return ordinary(asked)
        link = said(urlencode(asked.query, doseq=True), asked) if said else ""
        return linked(link, [*found_for(asked), sent])

    with serving(reply) as stub, service(stub) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
    assert answer.status_code == 502
    assert f"ignores the parameter '{parameter}'" in answer.text


@pytest.mark.parametrize("kind", ["Procedure", "MedicationAdministration"])
def test_another_patients_transfusions_and_drugs_are_not_believed(kind: str) -> None:
    def reply(asked: Asked) -> Reply:
        if not asked.path.endswith(f"/{kind}"):
            return ordinary(asked)
        other = f'{{"resourceType":"{kind}","id":"x","subject":{{"reference":"Patient/2"}}}}'
        return linked("", [other])

    with serving(reply) as stub, service(stub) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
    assert answer.status_code == 502
    assert f"the search of {kind} with one of another patient" in answer.text


@pytest.mark.parametrize(
    ("subject", "status"),
    [
        ("Patient/1", 200),
        ("https://a.example/fhir/Patient/1", 200),
        ("Patient/1/_history/3", 200),
        ("Patient/2", 502),
    ],
)
def test_the_patient_goes_by_several_names(subject: str, status: int) -> None:
    def reply(asked: Asked) -> Reply:
        if not asked.path.endswith("/Observation"):
            return ordinary(asked)
        return linked("", [one.replace("Patient/1", subject) for one in found_for(asked)])

    with serving(reply) as stub, service(stub) as client:
        assert client.get("/fhir/Patient/1/$assess-eligibility").status_code == status


@pytest.mark.parametrize(
    ("total", "status"),
    [("57", 502), ("5", 502), ("0", 200), ("1", 200), ("null", 200), ('"1"', 502), ("-1", 200)],
)
def test_a_total_beyond_what_was_sent_is_no_whole_answer(total: str, status: int) -> None:
    def reply(asked: Asked) -> Reply:
        if "777-3" not in codes_of(asked):
            return ordinary(asked)
        found = [COUNTS["777-3"]]
        return linked("", found, more=f'"total":{total},')

    with serving(reply) as stub, service(stub) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
    assert answer.status_code == status
    if total in {"57", "5"}:
        assert f"found {total}, and sent 1: some are missing" in answer.text


def test_the_total_counts_every_page_and_nothing_but_matches() -> None:
    following = "/fhir/Observation?next=2"

    def reply(asked: Asked) -> Reply:
        if "next" in asked.query:
            return linked("/fhir/Observation?next=2", [COUNTS["777-3"]])
        if "777-3" not in codes_of(asked):
            return ordinary(asked)
        other = COUNTS["777-3"].replace('"platelets"', '"platelets-2"')
        status, headers, body = linked("", [other], more='"total":2,')
        link = f'"link":[{{"relation":"next","url":"{following}"}}],"total"'
        return status, headers, body.replace(b'"total"', link.encode())

    with serving(reply) as stub, service(stub) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
        assert (answer.status_code, verdict(answer.json())) == (200, "eligible")


def withholding(issue: Any, kind: str = "Observation") -> Callable[[Asked], Reply]:
    """A server that tells an issue beside what it finds of platelets, or of another type."""
    outcome = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]})

    def reply(asked: Asked) -> Reply:
        of_platelets = kind == "Observation"
        if not asked.path.endswith(f"/{kind}") or of_platelets != ("777-3" in codes_of(asked)):
            return ordinary(asked)
        found = [COUNTS["777-3"]] if of_platelets else []
        return linked("", [*found, outcome])

    return reply


@pytest.mark.parametrize(
    ("severity", "status", "remarked"),
    [("information", 200, 0), ("warning", 200, 1), ("error", 502, 0), ("fatal", 502, 0)],
)
def test_what_a_server_says_it_withheld_is_in_the_answer(
    severity: str, status: int, remarked: int
) -> None:
    issue = {
        "severity": severity,
        "code": "suppressed",
        "diagnostics": "3 results were withheld by consent",
    }
    with serving(withholding(issue)) as stub, service(stub) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
    assert answer.status_code == status
    found = [
        issue
        for entry in answer.json().get("entry", [])
        if entry["resource"]["resourceType"] == "OperationOutcome"
        for issue in entry["resource"]["issue"]
    ]
    assert len(found) == remarked
    for one in found:
        assert one["details"]["coding"][0]["code"] == "source-warning"
        assert one["severity"] == "warning"
        assert one["diagnostics"].endswith("3 results were withheld by consent")


@pytest.mark.parametrize("kind", ["Observation", "Procedure", "Condition"])
def test_where_warnings_are_refused_what_was_withheld_gives_no_answer(kind: str) -> None:
    issue = {"severity": "warning", "code": "suppressed", "diagnostics": "withheld by consent"}
    with (
        serving(withholding(issue, kind)) as stub,
        service(stub, fhir_server_warnings="refuse") as client,
    ):
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
        assert answer.status_code == 502
        (told,) = answer.json()["issue"]
        assert (told["severity"], told["code"]) == ("error", "incomplete")
        assert told["diagnostics"].endswith("MAA_FHIR_SERVER_WARNINGS=refuse: withheld by consent")
    with serving(withholding(issue, kind)) as stub, service(stub) as client:
        assert client.get("/fhir/Patient/1/$assess-eligibility").status_code == 200


@pytest.mark.parametrize(
    ("issue", "status"),
    [
        ({"severity": "warning"}, 502),
        ({"severity": "warning", "diagnostics": 7}, 502),
        ({"severity": "warning", "details": {"text": "by consent"}}, 502),
        ({"severity": "information", "diagnostics": "all is well"}, 200),
    ],
)
def test_a_warning_without_words_is_refused_and_other_words_are_not(
    issue: Any, status: int
) -> None:
    with (
        serving(withholding(issue)) as stub,
        service(stub, fhir_server_warnings="refuse") as client,
    ):
        answer = client.get("/fhir/Patient/1/$assess-eligibility")
    assert answer.status_code == status
    if status != 200:
        why = issue.get("details", {}).get("text", "it gives no reason.")
        assert answer.json()["issue"][0]["diagnostics"].endswith(f"=refuse: {why}")
