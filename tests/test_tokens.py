"""Who may call: access tokens claim by claim, scope by scope, and whose data come with them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.routing import Route

from app.access import keys as key_sets
from app.access import tokens
from app.access.confined import require_only
from app.access.keys import UnreadableError, fetch
from app.access.scopes import Caller, confinement
from app.access.tokens import Issuer, Tokens
from app.api.guard import is_open
from app.ehr import outbound
from app.fhir.outcome import RequestError
from app.main import create_app
from app.settings import Settings, SettingsError
from tests.conftest import FHIR_JSON, OPERATION
from tests.test_ehr import (
    COUNTS,
    ELIGIBILITY,
    PATIENT,
    Asked,
    Reply,
    Stub,
    calling,
    ordinary,
    service,
    serving,
)

AUDIENCE = "https://maa.example.org/fhir"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
SHORT_KEY = rsa.generate_private_key(65537, 1024)
STRANGER = ec.generate_private_key(ec.SECP256R1())
KEYS = [
    json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())) | {"kid": "ec", "use": "sig"},
    json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": "rsa", "alg": "RS256"},
    json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": "to-encrypt", "use": "enc"},
    json.loads(RSAAlgorithm.to_jwk(SHORT_KEY.public_key())) | {"kid": "short"},
    {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
]
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
NOW = int(time.time())
LATER = NOW + 86_400  # the suite may take long
DATA = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [{"resource": json.loads(one)} for one in (PATIENT, *COUNTS.values())],
}


class Hospital:
    """A stub of a FHIR server and of who issues tokens, on one address."""

    def __init__(self) -> None:
        self.keys: list[Any] = [*KEYS]
        self.down = False
        self.issuer = ""
        self.introspected: dict[str, Any] = {}

    def __call__(self, asked: Asked) -> Reply:
        if asked.path.startswith("/auth"):
            if self.down:
                return 500, {}, b""
            return 200, {}, json.dumps(self._told(asked)).encode()
        return ordinary(asked)

    def _told(self, asked: Asked) -> Any:
        if asked.path.endswith("/jwks"):
            return {"keys": self.keys}
        if asked.path.endswith("/introspect"):
            assert asked.headers["authorization"].startswith("Basic ")
            return self.introspected.get(asked.form["token"][0], {"active": False})
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token",
        }


class Service:
    """Calls a service that asks for tokens."""

    def __init__(self, client: Any, stub: Stub, hospital: Hospital) -> None:
        self.client, self.stub, self.hospital = client, stub, hospital

    def token(
        self, key: Any = EC_KEY, alg: str = "ES256", headers: Any = None, **claims: Any
    ) -> str:
        """A good token, but for what is given; a claim of None is left out."""
        said = {
            "iss": self.hospital.issuer,
            "aud": AUDIENCE,
            "exp": time.time() + 300,
            "iat": time.time(),
            "client_id": "analytics",
            "scope": "system/*.rs",
        }
        said = {name: value for name, value in (said | claims).items() if value is not None}
        head = {"kid": "ec"} | (headers or {})
        head = {name: value for name, value in head.items() if value is not None}
        with warnings.catch_warnings(action="ignore"):
            return jwt.encode(said, key, algorithm=alg, headers=head)

    def post(self, token: str | None, data: Any = None, url: str = OPERATION) -> httpx.Response:
        headers = {"content-type": FHIR_JSON}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        answer: httpx.Response = self.client.post(url, json=data or DATA, headers=headers)
        return answer

    def get(self, token: str, url: str = ELIGIBILITY) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        answer: httpx.Response = self.client.runner.run(
            self.client.client.get(url, headers=headers)
        )
        return answer


@contextmanager
def asking(**settings: Any) -> Iterator[Service]:
    hospital = Hospital()
    with serving(hospital) as stub:
        hospital.issuer = f"{stub.host}/auth"
        given = {"auth_issuer": hospital.issuer, "auth_audience": [AUDIENCE]} | settings
        given = {name: value for name, value in given.items() if value is not None}
        with calling(Settings(fhir_server=stub.base, **given)) as client:
            yield Service(client, stub, hospital)


@pytest.fixture(scope="module")
def caller() -> Iterator[Service]:
    with asking() as one:
        yield one


def test_a_good_token_is_answered_whichever_of_the_issuers_keys_signed_it(caller: Service) -> None:
    good = caller.token()
    assert caller.post(good).status_code == 200
    assert caller.get(good).status_code == 200
    by_rsa = caller.token(RSA_KEY, "RS256", {"kid": "rsa"}, aud=["https://a.example", AUDIENCE])
    assert caller.post(by_rsa).status_code == 200
    # The clocks of two machines differ.
    skewed = caller.token(exp=time.time() - 20, nbf=time.time() + 20, iat=time.time() + 20)
    assert caller.post(skewed).status_code == 200


def test_who_does_not_say_who_he_is_is_asked_to(caller: Service, outcome_of: Any) -> None:
    for authorization in (None, "Basic YTpi", "Bearer", "Bearer  "):
        headers = {"content-type": FHIR_JSON}
        if authorization:
            headers["authorization"] = authorization
        answer = caller.client.post(OPERATION, json=DATA, headers=headers)
        assert answer.status_code == 401
        # RFC 6750, 3.1: no error code where nothing was said.
        assert answer.headers["www-authenticate"] == "Bearer"
        assert outcome_of(answer)["issue"][0]["code"] == "login"


HMAC_BY_PUBLIC_KEY = {"key": PUBLIC_PEM.decode(), "alg": "HS256", "headers": {"kid": "rsa"}}


def forged(key: Any, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token that the library would not sign: HMAC with a public key for its secret."""
    import base64
    import hashlib
    import hmac

    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part(header) + b"." + part(claims)
    signature = hmac.new(key, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_a_public_key_is_no_secret_to_sign_with(caller: Service) -> None:
    claims = jwt.decode(caller.token(), options={"verify_signature": False})
    for secret in (PUBLIC_PEM, PUBLIC_PEM.strip(), b"secret"):
        for kid in ("rsa", "shared", "ec"):
            answer = caller.post(forged(secret, {"alg": "HS256", "kid": kid}, claims))
            assert answer.status_code == 401
            assert "'alg'" in answer.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aud": "https://other.example.org/fhir"}, "'aud'"),
        ({"aud": None}, "'aud'"),
        ({"aud": 7}, "'aud'"),
        ({"aud": [AUDIENCE, 7]}, "'aud'"),
        ({"aud": AUDIENCE.upper()}, "'aud'"),
        ({"iss": "https://stranger.example.org"}, "'iss'"),
        ({"iss": None}, "'iss'"),
        ({"exp": NOW - 3600}, "'exp'"),
        ({"exp": None}, "'exp'"),
        ({"exp": float("nan")}, "not valid"),
        ({"exp": float("inf")}, "not valid"),
        ({"exp": 10**400}, "not valid"),
        ({"exp": -(10**400)}, "'exp'"),
        ({"exp": 1e308}, "not valid"),
        ({"exp": f"{LATER}"}, "not valid"),
        ({"nbf": 10**400}, "'nbf'"),
        ({"nbf": float("inf")}, "not valid"),
        ({"iat": 10**400}, "'nbf' or 'iat'"),
        ({"iat": float("inf")}, "not valid"),
        ({"exp": "soon"}, "not valid"),
        ({"exp": [NOW + 60]}, "not valid"),
        ({"nbf": LATER}, "'nbf'"),
        ({"nbf": float("nan")}, "not valid"),
        ({"iat": LATER}, "'nbf' or 'iat'"),
        ({"key": STRANGER}, "not signed by its issuer"),
        ({"key": None, "alg": "none"}, "'alg'"),
        ({"key": RSA_KEY, "alg": "RS256"}, "'kid'"),
        ({"key": RSA_KEY, "alg": "RS384", "headers": {"kid": "rsa"}}, "'kid'"),
        ({"headers": {"kid": "rsa"}}, "'kid'"),
        ({"headers": {"kid": "unknown"}}, "'kid'"),
        ({"headers": {"kid": "shared"}}, "'kid'"),
        ({"key": RSA_KEY, "alg": "RS256", "headers": {"kid": "to-encrypt"}}, "'kid'"),
        ({"key": SHORT_KEY, "alg": "RS256", "headers": {"kid": "short"}}, "too short"),
        ({"headers": {"crit": ["b64"], "b64": True}}, "no JWT"),
        ({"headers": {"jwk": KEYS[0], "kid": "mine"}, "key": STRANGER}, "'kid'"),
        ({"headers": {"jku": "http://169.254.169.254/"}, "key": STRANGER}, "not signed by"),
        ({"client_id": None, "sub": None}, "for whom"),
        ({"client_id": 7}, "wrong type"),
        ({"patient": ["1"]}, "wrong type"),
        ({"more": "x" * 17_000}, "longer than one may be"),
    ],
    ids=str,
)
def test_a_token_is_refused_by_what_is_wrong_with_it(
    caller: Service, outcome_of: Any, changes: dict[str, Any], said: str
) -> None:
    token = caller.token(**changes)
    answer = caller.post(token)
    assert answer.status_code == 401, answer.text
    assert said in outcome_of(answer)["issue"][0]["diagnostics"]
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert token.rpartition(".")[2] not in answer.text or not token.rpartition(".")[2]


@pytest.mark.parametrize(
    "token",
    ["x", "a.b.c", "...", "a.b", "." * 10_000, "ey" * 5_000, "e30.e30.", "é.é.é", "\x7f", "a b"],
)
def test_what_is_no_token_is_refused(caller: Service, token: str) -> None:
    headers = {"content-type": FHIR_JSON, "authorization": b"Bearer " + token.encode("latin-1")}
    assert caller.client.post(OPERATION, json=DATA, headers=headers).status_code == 401


def test_a_caller_who_says_twice_who_he_is_is_not_believed(caller: Service) -> None:
    headers = [
        ("content-type", FHIR_JSON),
        ("authorization", f"Bearer {caller.token()}"),
        ("authorization", f"Bearer {caller.token(client_id='other')}"),
    ]
    assert caller.client.post(OPERATION, json=DATA, headers=headers).status_code == 401


# What is open, and what a token must allow


def test_every_address_asks_for_a_token_but_those_that_tell_of_nobody() -> None:
    routes = [one for one in create_app(Settings()).routes if isinstance(one, Route)]
    asked = {
        (method, route.path)
        for route in routes
        for method in route.methods or ()
        if not is_open(method, route.path)
    }
    operations = {
        (method, f"/fhir/Patient/{{id}}/$assess-{what}")
        for what in ("eligibility", "response")
        for method in ("GET", "POST", "HEAD")
    }
    # The rest of what is not open only ever answers to POST.
    assert {one for one in asked if one[0] != "POST"} <= operations
    assert asked >= {
        ("GET", ELIGIBILITY.replace("/1/", "/{id}/")),
        ("POST", ELIGIBILITY.replace("/1/", "/{id}/")),
        ("POST", OPERATION),
        ("POST", "/fhir/$assess-response"),
        ("POST", "/fhir/Measure/maa-hematologic-response/$evaluate-measure"),
        ("POST", "/fhir/ResearchStudy/$match"),
        ("POST", "/cds-services/{service_id}"),
        ("POST", "/cds-services/{service_id}/feedback"),
    }


@pytest.mark.parametrize(
    "path",
    [
        "/fhir/Patient/1/$assess-eligibility",
        "/fhir/$plot",
        "/fhir/Observation",
        "/fhir/",
        "/fhir/x",
    ],
)
def test_an_address_nobody_has_thought_of_is_not_open(path: str) -> None:
    assert not is_open("GET", path)
    assert not is_open("POST", "/anything")


def test_definitions_health_and_discovery_are_open(caller: Service) -> None:
    for path in (
        "/fhir/metadata",
        "/fhir/PlanDefinition",
        "/fhir/ValueSet/platelets",
        "/health/live",
        "/metrics",
        "/cds-services",
        "/openapi.json",
        "/docs",
        "/",
    ):
        assert caller.client.get(path).status_code == 200, path


def test_hooks_ask_for_an_access_token_where_they_ask_for_none_of_their_own(
    caller: Service,
) -> None:
    path = "/cds-services/maa-eligibility"
    assert caller.post(None, {}, path).status_code == 401
    assert caller.post(caller.token(), {}, path).status_code == 400
    of_patient = caller.token(scope="patient/*.rs", patient="1")
    assert caller.post(of_patient, {}, path).status_code == 403


EVERY = "Patient.rs {0}/Observation.rs {0}/Procedure.rs {0}/MedicationAdministration.rs"
ALL = "{0}/" + EVERY


@pytest.mark.parametrize(
    ("scope", "sent", "fetched"),
    [
        ("system/*.rs", 200, 200),
        ("system/*.cruds", 200, 200),
        ("system/*.read", 200, 200),
        ("system/*.*", 200, 200),
        (ALL.format("system"), 200, 200),
        ("openid system/Observation.rs", 200, 403),
        ("system/Observation.read", 200, 403),
        ("user/*.rs", 200, 403),
        ("user/*.rs system/*.rs", 200, 200),
        ("system/Observation.r", 403, 403),
        ("system/Observation.s", 403, 403),
        ("system/Observation.sr", 403, 403),
        ("system/Observation.write", 403, 403),
        ("system/Observation.cud", 403, 403),
        ("system/Observation.", 403, 403),
        ("system/Condition.rs", 403, 403),
        ("system/observation.rs", 403, 403),
        ("system/Observation.rs?category=laboratory", 403, 403),
        ("system/Observation.rsx", 403, 403),
        ("xsystem/Observation.rs", 403, 403),
        ("SYSTEM/Observation.rs", 403, 403),
        ("patient/*.rs", 403, 403),
        ("openid fhirUser launch/patient", 403, 403),
        ("", 403, 403),
        (None, 403, 403),
    ],
)
def test_scopes_say_what_may_be_asked(
    caller: Service, outcome_of: Any, scope: str | None, sent: int, fetched: int
) -> None:
    token = caller.token(scope=scope)
    for answer, status in ((caller.post(token), sent), (caller.get(token), fetched)):
        assert answer.status_code == status, answer.text
        if status == 403:
            assert outcome_of(answer)["issue"][0]["code"] == "forbidden"
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_scopes_may_come_as_a_list(caller: Service) -> None:
    assert caller.post(caller.token(scope=None, scp=["system/Observation.rs"])).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "patient", "fetched", "expected"),
    [
        ("system/*.rs patient/*.rs", "1", "2", None),
        # One type that only the patient's own scope lets in confines all of it.
        ("system/Observation.rs patient/*.rs", "1", "1", "1"),
        ("user/*.rs", "1", "1", "1"),
        ("user/*.rs", "1", None, None),
        ("patient/*.rs", "1", None, "1"),
        ("user/Patient.rs patient/*.rs", "1", "1", "1"),
    ],
)
def test_the_narrowest_scope_that_is_needed_counts(
    scopes: str, patient: str, fetched: str | None, expected: str | None
) -> None:
    assert confinement(Caller("c", "", scopes, patient), fetched) == expected


def test_a_token_of_a_patient_reads_no_other_from_the_fhir_server(caller: Service) -> None:
    asked = len(caller.stub.asked)
    for scopes in ("patient/*.rs", "user/*.rs", "system/Patient.rs patient/*.rs"):
        answer = caller.get(caller.token(scope=scopes, patient="2"))
        assert answer.status_code == 403
    assert len(caller.stub.asked) == asked
    for patient in ("1", "Patient/1"):
        assert caller.get(caller.token(scope="patient/*.rs", patient=patient)).status_code == 200


def changed(**changes: Any) -> dict[str, Any]:
    """The data of Patient 1, with one result changed."""
    data: dict[str, Any] = json.loads(json.dumps(DATA))
    data["entry"][1]["resource"] |= changes
    return data


def added(*resources: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(DATA))
    data["entry"] += [{"resource": one} for one in resources]
    return data


SECOND = json.loads(COUNTS["777-3"]) | {"id": "second", "subject": {"reference": "Patient/2"}}
PARAMETERS = {
    "resourceType": "Parameters",
    "parameter": [{"name": "data", "resource": DATA}],
}


@pytest.mark.parametrize(
    "data",
    [
        changed(subject={"reference": "Patient/2"}),
        changed(subject={"reference": "https://elsewhere.example.org/Patient/2"}),
        changed(subject={"reference": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}),
        changed(subject={"identifier": {"value": "1"}}),
        changed(subject={"reference": "#p"}, contained=[{"resourceType": "Patient", "id": "p"}]),
        changed(subject={"reference": "Patient/2/_history/1"}),
        changed(subject={"reference": "Patient/1/../2"}),
        changed(subject={"reference": "Group/1"}),
        changed(subject={"reference": 1}),
        changed(subject="Patient/1"),
        changed(contained=[SECOND]),
        added(SECOND),
        added({"resourceType": "Patient", "id": "2"}),
        added({"resourceType": "Patient"}),
        added({"resourceType": "Condition", "subject": {"reference": "Patient/2"}}),
        added({"resourceType": "Immunization", "patient": {"reference": "Patient/2"}}),
        added({"resourceType": "Bundle", "entry": [{"resource": SECOND}]}),
        added(
            SECOND | {"subject": {"reference": "https://a.example.org/Patient/1"}},
            SECOND | {"subject": {"reference": "https://b.example.org/Patient/1"}},
        ),
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "data", "resource": DATA},
                {"name": "subject", "valueString": "Patient/2"},
            ],
        },
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "data", "resource": DATA},
                {"name": "subject", "valueReference": {"reference": "Patient/2"}},
            ],
        },
    ],
    ids=range(20),
)
def test_a_token_of_a_patient_is_refused_with_anothers_data(
    caller: Service, outcome_of: Any, data: Any
) -> None:
    answer = caller.post(caller.token(scope="patient/*.rs", patient="1"), data)
    assert answer.status_code == 403, answer.text
    assert "another one" in outcome_of(answer)["issue"][0]["diagnostics"]
    # It is the token that is narrow.
    assert caller.post(caller.token(), data).status_code in {200, 400, 422}


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        PARAMETERS,
        changed(subject={"reference": "Patient/1/_history/7"}),
        changed(subject={"reference": "https://fhir.example.org/r4/Patient/1"}),
        changed(subject=None),
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "1"}},
                {"resource": SECOND | {"subject": {"reference": "urn:uuid:1"}}},
            ],
        },
    ],
    ids=range(6),
)
def test_a_token_of_a_patient_is_answered_with_his_own_data(caller: Service, data: Any) -> None:
    answer = caller.post(caller.token(scope="patient/*.rs", patient="1"), data)
    assert answer.status_code == 200, answer.text


def test_results_of_nobody_are_not_given_to_another_patient(caller: Service) -> None:
    orphan = {key: value for key, value in SECOND.items() if key != "subject"}
    data = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": orphan}]}
    token = caller.token(scope="patient/*.rs", patient="1")
    assert caller.post(token, data, f"{OPERATION}?subject=Patient/1").status_code == 200
    for query in ("subject=Patient/2", "subject=Patient/1&subject=2", "subject=%50atient/2"):
        assert caller.post(token, data, f"{OPERATION}?{query}").status_code == 403


def test_large_data_of_another_patient_are_refused_as_small_ones_are(caller: Service) -> None:
    many = [json.loads(COUNTS["777-3"]) | {"id": f"o{n}"} for n in range(600)]
    token = caller.token(scope="patient/*.rs", patient="1")
    assert caller.post(token, added(*many)).status_code == 200
    assert caller.post(token, added(*many, SECOND)).status_code == 403


@pytest.mark.parametrize(
    "path",
    sorted(
        route.path
        for route in create_app(Settings()).routes
        if isinstance(route, Route)
        and "POST" in (route.methods or ())
        and route.path.startswith("/fhir/")
        and not is_open("POST", route.path)
    ),
)
def test_no_operation_takes_anothers_data_with_a_token_of_a_patient(
    caller: Service, path: str
) -> None:
    token = caller.token(scope="patient/*.rs", patient="1")
    answer = caller.post(token, added(SECOND), path.replace("{id}", "1"))
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 200_000, b"\xff", b'"x"', b"[1]"])
def test_what_is_no_fhir_is_left_to_whoever_reads_it(body: bytes) -> None:
    require_only("1", body)


# Where tokens come from


def test_a_new_key_is_found_and_a_key_taken_back_is_good_no_longer() -> None:
    now = [0.0]
    with asking() as one:
        issuer = Issuer(one.hospital.issuer, clock=lambda: now[0])
        checks = Tokens(issuer, (AUDIENCE,))

        def good(token: str) -> bool:
            try:
                one.client.runner.run(checks.caller(token))
            except RequestError as error:
                return error.status != 401
            return True

        old, new = one.token(), one.token(STRANGER, headers={"kid": "new"})
        assert good(old)
        one.hospital.keys = [json.loads(ECAlgorithm.to_jwk(STRANGER.public_key())) | {"kid": "new"}]
        # Whoever makes up key ids does not make us ask each time.
        assert not good(new)
        now[0] += 61
        assert good(new)
        assert not good(old)


def test_an_issuer_that_is_down_is_503_and_his_keys_are_kept_where_they_are_known() -> None:
    with asking() as one:
        one.hospital.down = True
        answer = one.post(one.token())
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "keys of the issuer" in answer.text
        # Who forges is told the same, and is not let in.
        assert one.post(one.token(STRANGER)).status_code == 503
        assert one.client.get("/fhir/metadata").status_code == 200
    with asking() as one:
        assert one.post(one.token()).status_code == 200
        one.hospital.down = True
        assert one.post(one.token()).status_code == 200


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"issuer": "https://other.example.org", "jwks_uri": "https://a.example/jwks"}, "another"),
        ({"jwks_uri": "http://169.254.169.254/latest"}, "no safe address"),
        ({"jwks_uri": "file:///etc/passwd"}, "no safe address"),
        ({"jwks_uri": 7}, "no safe address"),
        ({}, "no safe address"),
    ],
)
def test_an_issuers_metadata_are_believed_only_of_himself_and_of_safe_addresses(
    told: dict[str, Any], why: str
) -> None:
    def reply(asked: Asked) -> Reply:
        return 200, {}, json.dumps({"issuer": f"{stub.host}/auth"} | told).encode()

    with serving(reply) as stub, pytest.raises(UnreadableError, match=why):
        asyncio.run(Issuer(f"{stub.host}/auth").jwks_url())


def test_nothing_is_asked_of_a_link_local_address(monkeypatch: pytest.MonkeyPatch) -> None:
    # As though the name led there: this machine has no such address.
    monkeypatch.setattr(outbound, "is_link_local", lambda _: True)
    monkeypatch.setattr(key_sets, "_is_safe", lambda _: True)
    with serving(ordinary) as stub:
        with pytest.raises(UnreadableError, match="link-local"):
            asyncio.run(fetch(f"{stub.host}/auth/jwks"))
        with service(stub, fhir_token="secret") as client:
            assert client.get(ELIGIBILITY).status_code == 502
            assert client.get("/health/ready").status_code == 503
        assert stub.asked == []


@pytest.mark.parametrize(
    ("address", "link_local"),
    [
        ("169.254.169.254", True),
        ("::ffff:169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("2001:db8::1", False),
    ],
)
def test_which_addresses_are_link_local(address: str, link_local: bool) -> None:
    assert outbound.is_link_local(address) is link_local


INTROSPECTION = {
    "auth_client_id": "maa",
    "auth_client_secret": "s3cr3t",
}


def test_an_opaque_token_is_looked_up() -> None:
    with serving(Hospital()) as other:
        other.reply.issuer = f"{other.host}/auth"  # type: ignore[attr-defined]
        url = f"{other.host}/auth/introspect"
        with asking(auth_introspection_url=url, **INTROSPECTION) as one:
            told: dict[str, Any] = other.reply.introspected  # type: ignore[attr-defined]
            active = {
                "active": True,
                "client_id": "app",
                "scope": "system/*.rs",
                "aud": AUDIENCE,
                "iss": one.hospital.issuer,
                "exp": LATER,
            }
            told |= {
                "good": active,
                "ended": active | {"active": False},
                "truthy": active | {"active": "true"},
                "expired": active | {"exp": NOW - 600},
                "early": active | {"nbf": LATER},
                "elsewhere": active | {"aud": "https://other.example.org"},
                "nowhere": {k: v for k, v in active.items() if k != "aud"},
                "stranger": active | {"iss": "https://stranger.example.org"},
                "narrow": active | {"scope": "openid"},
                "odd": active | {"exp": "never"},
                "endless": active | {"exp": 10**400},
                "far": active | {"exp": 1e308},
                "late": active | {"nbf": 10**400},
            }
            assert one.post("good").status_code == 200
            assert one.post("narrow").status_code == 403
            for name in ("unknown", *told.keys() - {"good", "narrow"}):
                assert one.post(name).status_code == 401, name
            # JWTs are still taken by their issuer's keys.
            assert one.post(one.token()).status_code == 200
            asked = len(other.asked)
            assert one.post("good").status_code == 200
            assert len(other.asked) == asked, "within seconds it is not asked again"
            other.reply.down = True  # type: ignore[attr-defined]
            down = one.post("another")
            assert (down.status_code, bool(down.headers["retry-after"])) == (503, True)


def test_a_token_taken_back_is_good_for_seconds_only() -> None:
    now = [1_000.0]
    hospital = Hospital()
    hospital.introspected["t"] = {"active": True, "client_id": "app", "exp": 1_005}
    with serving(hospital) as stub:
        url = f"{stub.host}/auth/introspect"
        looks = tokens.Introspection(url, ("a", "b"), None, (), clock=lambda: now[0])
        asyncio.run(looks.caller("t"))
        hospital.introspected.clear()
        now[0] += 4
        asyncio.run(looks.caller("t"))
        now[0] += 2
        with pytest.raises(RequestError):
            asyncio.run(looks.caller("t"))
        assert not looks._known or now[0] < 1_010


# Certificates, and where nobody is asked


def certified(header: str, proxies: str, client: tuple[str, int], **headers: str) -> int:
    app = create_app(Settings(auth_certificate_header=header, trusted_proxies=proxies))

    async def call() -> int:
        transport = httpx.ASGITransport(app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.9") as http:
            answer = await http.post(
                OPERATION, json=DATA, headers={"content-type": FHIR_JSON, **headers}
            )
            return answer.status_code

    return asyncio.run(call())


def test_a_certificate_is_believed_of_a_trusted_proxy_alone() -> None:
    named = {"x-client-subject": "CN=lab,O=Hospital"}
    header, proxy = "X-Client-Subject", ("10.0.0.1", 5000)
    assert certified(header, "10.0.0.0/30", proxy, **named) == 200
    assert certified(header, "10.0.0.0/30", proxy) == 401
    assert certified(header, "10.0.0.0/30", proxy, **{"x-client-subject": ""}) == 401
    assert certified(header, "10.0.0.0/30", ("10.0.0.4", 5000), **named) == 401
    # Whoever says that he is the proxy is not.
    spoofed = named | {"x-forwarded-for": "10.0.0.1"}
    assert certified(header, "10.0.0.0/30", ("10.9.9.9", 5000), **spoofed) == 401
    assert certified(header, "10.0.0.0/30", proxy, **{"x-client-subject": "x" * 600}) == 401


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("test", True),
        ("10.0.0.9", False),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("[2001:db8::1]", False),
        ("[::ffff:10.0.0.9]", False),
    ],
)
def test_where_nobody_is_asked_only_this_machine_is_answered(
    address: str, near: bool, outcome_of: Any
) -> None:
    async def call(insecure: bool) -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(create_app(Settings(insecure=insecure)))
        headers = {"content-type": FHIR_JSON}
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{address}") as http:
            return (
                await http.post(OPERATION, json=DATA, headers=headers),
                await http.get("/fhir/metadata"),
                await http.post("/cds-services/maa-eligibility", json={}),
            )

    operation, metadata, hook = asyncio.run(call(insecure=False))
    assert operation.status_code == (200 if near else 403)
    assert hook.status_code == (400 if near else 403)
    assert metadata.status_code == 200
    if not near:
        assert "MAA_INSECURE=true" in outcome_of(operation)["issue"][0]["diagnostics"]
    assert asyncio.run(call(insecure=True))[0].status_code == 200


# What is told


def test_whose_tokens_are_taken_is_published_where_they_are_asked_for(caller: Service) -> None:
    for path in ("/.well-known/smart-configuration", "/fhir/.well-known/smart-configuration"):
        told = caller.client.get(path).json()
        assert told["issuer"] == caller.hospital.issuer
        assert told["token_endpoint"] == f"{caller.hospital.issuer}/token"
        assert "permission-v2" in told["capabilities"]
        assert "system/Observation.rs" in told["scopes_supported"]
    (rest,) = caller.client.get("/fhir/metadata").json()["rest"]
    assert rest["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    with calling(Settings()) as client:
        assert client.get("/.well-known/smart-configuration").status_code == 404
        assert "service" not in client.get("/fhir/metadata").json()["rest"][0]["security"]


def test_the_log_names_the_program_and_never_the_person(
    caller: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    from app.logs import configure_logs

    configure_logs("debug", "json")
    person = "maria.muster@example.org"
    caller.post(caller.token(sub=person, patient="marked-1", scope="user/*.rs"))
    caller.post(caller.token(client_id=None, sub=person))
    caller.post(caller.token(client_id="app\nlevel=error", sub=person))
    refused = caller.post(caller.token(sub=person, patient="marked-1", scope="openid"))
    assert refused.status_code == 403
    told = capfd.readouterr().err
    lines = [json.loads(line) for line in told.splitlines()]
    clients = [line["client"] for line in lines if line["message"] == "request"]
    assert clients[0] == clients[3] == "analytics"
    assert clients[1].startswith("user:")
    assert clients[2].startswith("client:")
    assert person not in told
    assert "marked-1" not in told
    assert "eyJ" not in told


def test_other_callers_are_answered_while_an_issuer_is_slow() -> None:
    release = threading.Event()

    class Slow(Hospital):
        def __call__(self, asked: Asked) -> Reply:
            if asked.path.startswith("/auth"):
                release.wait(2)
            return super().__call__(asked)

    hospital = Slow()
    with serving(hospital) as stub:
        hospital.issuer = f"{stub.host}/auth"
        settings = Settings(auth_issuer=hospital.issuer, auth_audience=[AUDIENCE])
        with calling(settings) as client:
            one = Service(client, stub, hospital)

            async def both() -> tuple[bool, int]:
                headers = {"content-type": FHIR_JSON, "authorization": f"Bearer {one.token()}"}
                slow = asyncio.ensure_future(
                    client.client.post(OPERATION, json=DATA, headers=headers)
                )
                await asyncio.sleep(0.05)
                health = await client.client.get("/health/live")
                waited = not slow.done() and health.status_code == 200
                release.set()
                return waited, (await slow).status_code

            assert client.runner.run(both()) == (True, 200)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"auth_issuer": "http://auth.example.org"}, "an https URL"),
        ({"auth_issuer": "https://auth.example.org"}, "MAA_AUTH_AUDIENCE"),
        ({"auth_jwks_url": "https://auth.example.org/jwks"}, "needs MAA_AUTH_ISSUER"),
        ({"auth_client_id": "a"}, "go together"),
        ({"auth_certificate_header": "X-Client"}, "MAA_TRUSTED_PROXIES"),
        ({"auth_certificate_header": "Authorization", "trusted_proxies": "::1"}, "another meaning"),
    ],
)
def test_settings_that_let_in_the_wrong_ones_are_refused(given: Any, said: str) -> None:
    with pytest.raises((ValueError, SettingsError), match=said):
        Settings(**given)


def test_scripts_may_ask_first_and_that_is_logged_too(capfd: pytest.CaptureFixture[str]) -> None:
    from app.logs import configure_logs

    configure_logs("info", "json")
    with asking(cors_origins=["https://ehr.example.org"]) as one:
        asks = {
            "origin": "https://ehr.example.org",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        answer = one.client.runner.run(one.client.client.options(OPERATION, headers=asks))
        assert answer.status_code == 200
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert "x-request-id" in answer.headers
        refused = one.client.runner.run(
            one.client.client.post(OPERATION, headers={"origin": asks["origin"]})
        )
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == asks["origin"]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [one["method"] for one in lines if one["message"] == "request"] == ["OPTIONS", "POST"]
