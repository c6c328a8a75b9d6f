"""Which clients are trusted: the token of a call, claim by claim, and where its key comes from."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cds_calls import ELIGIBILITY, ELIGIBLE, require_valid
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import ValidationError

from app.access import keys as key_sets
from app.access.keys import UnreadableError, fetch
from app.cds_hooks import trust
from app.cds_hooks.trust import ClientTrust
from app.fhir.outcome import RequestError
from app.main import create_app
from app.settings import CdsClient, Settings
from tests.conftest import free_port, serving

Outcome = Callable[[httpx.Response], dict[str, Any]]
ISS = "https://ehr.example.org"
EC_KEY = ec.generate_private_key(ec.SECP384R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
SMALL_CURVE = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP384R1())
PUBLIC = {
    "keys": [
        json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())) | {"kid": "ec", "use": "sig"},
        json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": "rsa", "use": "sig"},
        json.loads(ECAlgorithm.to_jwk(SMALL_CURVE.public_key())) | {"kid": "small"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())) | {"kid": "to-encrypt", "use": "enc"},
        # One that has no id does not make the others worthless.
        json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())),
        "no key",
    ]
}


# As Epic on FHIR documents its tokens (CDS Hooks, "Trusting CDS Clients").
EPIC = "/interconnect"
EPIC_KEYS = f"{EPIC}/api/epic/2019/Security/Open/PublicKeys/530013/530013"
EPIC_KID = "d3bmo5HzW61TUgikHZH+A8Tx4UOXz2iOs4KvVU4eLY0="
EPIC_AGREED = {
    "sub": "12345678-ce08-4ac7-ac0c-12345678",
    "aud": "https://example.com/savecdshooksrequest",
}
EPIC_PUBLIC = {
    "keys": [json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": EPIC_KID}],
}


@dataclass
class KeyServer:
    """Serves key sets, and counts how often it is asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)


@contextmanager
def key_server() -> Iterator[KeyServer]:
    server = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            status, body = server.answers.get(self.path, (404, b""))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/jwks.json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        server.answers["/jwks.json"] = (200, json.dumps(PUBLIC).encode())
        server.answers[EPIC_KEYS] = (200, json.dumps(EPIC_PUBLIC).encode())
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield server
        http.shutdown()
        thread.join()


@dataclass
class Trusted:
    """A service that asks for a token, a client of it, and the client's keys."""

    http: httpx.Client
    keys: KeyServer
    hostile: KeyServer

    def token(
        self, path: str, key: Any = EC_KEY, headers: Any = None, alg: str = "ES384", **claims: Any
    ) -> str:
        """A good token for the address, but for what is given; a claim of None is left out."""
        now = int(time.time())
        said = {
            "iss": ISS,
            "aud": f"{str(self.http.base_url).rstrip('/')}{path}",
            "exp": now + 300,
            "iat": now,
            "jti": str(uuid.uuid4()),
        }
        said |= claims
        said = {name: value for name, value in said.items() if value is not None}
        head = {"kid": "ec", "jku": f"{self.keys.url}/jwks.json"} | (headers or {})
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(said, key, algorithm=alg, headers=head)

    def discover(self, token: str) -> httpx.Response:
        return self.http.get("/cds-services", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:
    """The service as its operator sets it up for one EHR with two tenants."""
    port = free_port()
    with key_server() as keys, key_server() as hostile:
        clients = [
            {"iss": ISS, "jku": f"{keys.url}/jwks.json"},
            {"iss": f"{ISS}/hosted", "jku": f"{keys.url}/jwks.json", "tenant": "north"},
            {"iss": f"{ISS}{EPIC}/api/FHIR/R4", "jku": keys.url + EPIC_KEYS} | EPIC_AGREED,
        ]
        log = tmp_path_factory.mktemp("trusted") / "log"
        settings = {
            "MAA_CDS_REQUIRE_JWT": "true",
            "MAA_CDS_CLIENTS": json.dumps(clients),
            "MAA_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }
        with serving(log, port, **settings) as url, httpx.Client(base_url=url) as http:
            yield Trusted(http, keys, hostile)


def test_a_signed_call_is_answered_at_every_address(trusted: Trusted) -> None:
    require_valid("discovery", trusted.discover(trusted.token("/cds-services")).json())
    rsa_token = trusted.token("/cds-services", RSA_KEY, {"kid": "rsa"}, "RS384")
    assert trusted.discover(rsa_token).status_code == 200
    several = [f"{str(trusted.http.base_url).rstrip('/')}/cds-services", "https://a.example"]
    assert trusted.discover(trusted.token("/cds-services", aud=several)).status_code == 200
    for path, body in ((ELIGIBILITY, ELIGIBLE), (f"{ELIGIBILITY}/feedback", {"feedback": []})):
        headers = {"Authorization": f"Bearer {trusted.token(path)}"}
        assert trusted.http.post(path, json=body, headers=headers).status_code == 200
    # Where the header names no key set, it is the one agreed on.
    assert (
        trusted.discover(trusted.token("/cds-services", headers={"jku": None})).status_code == 200
    )


def test_no_address_of_cds_hooks_answers_without_a_token(
    trusted: Trusted, outcome_of: Outcome
) -> None:
    for method, path in (
        ("GET", "/cds-services"),
        ("POST", ELIGIBILITY),
        ("POST", f"{ELIGIBILITY}/feedback"),
        ("POST", "/cds-services/none"),
    ):
        for header in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
            answer = trusted.http.request(method, path, json={}, headers=header)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert outcome_of(answer)["issue"][0]["code"] == "login"
    assert trusted.http.get("/health/live").status_code == 200
    assert trusted.http.get("/fhir/metadata").status_code == 200


NOW = int(time.time())
HMAC_KEY = "0123456789" * 5


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        # What real clients get wrong: the address of the server, or of another service.
        ({"aud": "https://cds.example.org"}, 401, "'aud'"),
        ({"aud": ["https://cds.example.org/cds-services/maa-response"]}, 401, "'aud'"),
        ({"aud": None}, 401, "'aud' is missing"),
        ({"aud": 7}, 401, "'aud'"),
        ({"exp": NOW - 3600}, 401, "'exp' of the token is past"),
        ({"exp": NOW + 86_400}, 401, "'exp' of the token is more than 3600 seconds away"),
        ({"exp": "soon"}, 401, "'exp' of the token is a number"),
        ({"exp": float("nan")}, 401, "'exp' of the token is a number"),
        ({"nbf": float("nan")}, 401, "'nbf' of the token is a number"),
        ({"exp": float("inf")}, 401, "'exp' of the token is a number"),
        ({"exp": None}, 401, "'exp' is missing"),
        ({"iat": NOW + 3600}, 401, "'iat' of the token is in the future"),
        ({"nbf": NOW + 3600}, 401, "'nbf' of the token is in the future"),
        ({"iat": None}, 401, "'iat' is missing"),
        ({"jti": None}, 401, "'jti' is missing"),
        ({"jti": ""}, 401, "'jti'"),
        ({"iss": None}, 403, "'iss'"),
        ({"iss": "https://stranger.example.org"}, 403, "'iss'"),
        ({"iss": f"{ISS}/hosted"}, 403, "'tenant'"),
        ({"iss": f"{ISS}/hosted", "tenant": "south"}, 403, "'tenant'"),
        ({"headers": {"kid": None}}, 401, "'kid'"),
        ({"headers": {"kid": "unknown"}}, 401, "'kid' of the token is in no key set"),
        ({"headers": {"kid": "rsa"}}, 401, "'alg' of the token does not fit"),
        ({"key": STRANGER}, 401, "signature"),
        ({"key": None, "alg": "none"}, 401, "'alg' of the token is one of ES384, RS384"),
        ({"key": HMAC_KEY, "alg": "HS384"}, 401, "'alg' of the token is one of ES384, RS384"),
        ({"key": RSA_KEY, "alg": "RS256"}, 401, "'alg' of the token is one of ES384, RS384"),
        (
            {"key": SMALL_CURVE, "alg": "ES256", "headers": {"kid": "small"}},
            401,
            "'alg' of the token is one of ES384, RS384",
        ),
        ({"headers": {"kid": "small"}}, 401, "'alg' of the token does not fit"),
        ({"headers": {"kid": "shared"}}, 401, "'kid' of the token is in no key set"),
        ({"headers": {"kid": "to-encrypt"}}, 401, "'kid' of the token is in no key set"),
        ({"iss": f"{ISS}/hosted", "tenant": []}, 403, "'tenant'"),
        ({"jti": "\ud800"}, 401, "'jti'"),
    ],
    ids=str,
)
def test_a_token_is_refused_by_the_claim_that_is_wrong(
    trusted: Trusted, outcome_of: Outcome, changes: dict[str, Any], status: int, said: str
) -> None:
    answer = trusted.discover(trusted.token("/cds-services", **changes))
    assert answer.status_code == status, answer.text
    assert said in outcome_of(answer)["issue"][0]["diagnostics"]


@pytest.mark.parametrize("token", ["x", "a.b.c", "." * 10_000, "ey" * 5_000])
def test_what_is_no_jwt_is_refused(trusted: Trusted, token: str) -> None:
    assert "not a JWT" in trusted.discover(token).text


def test_the_right_tenant_is_trusted(trusted: Trusted) -> None:
    token = trusted.token("/cds-services", iss=f"{ISS}/hosted", tenant="north")
    assert trusted.discover(token).status_code == 200


def epic_token(trusted: Trusted, **claims: Any) -> str:
    """Fifteen minutes from `iat`, `nbf` five minutes before it, `aud` and `sub` as agreed on."""
    now = int(time.time())
    said = EPIC_AGREED | {
        "iss": f"{ISS}{EPIC}/api/FHIR/R4",
        "exp": now + 900,
        "iat": now,
        "nbf": now - 300,
        "jti": str(uuid.uuid4()),
    }
    headers = {"kid": EPIC_KID, "jku": trusted.keys.url + EPIC_KEYS}
    return trusted.token("", RSA_KEY, headers, "RS384", **said | claims)


def test_epics_tokens_are_good_as_they_are_documented(trusted: Trusted) -> None:
    for method, path, body in (
        ("GET", "/cds-services", None),
        ("POST", ELIGIBILITY, ELIGIBLE),
        ("POST", f"{ELIGIBILITY}/feedback", {"feedback": []}),
    ):
        headers = {"Authorization": f"Bearer {epic_token(trusted)}"}
        answer = trusted.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
    # Set up with the address of the service, as others do, it is good without what was agreed on.
    address = f"{str(trusted.http.base_url).rstrip('/')}/cds-services"
    assert trusted.discover(epic_token(trusted, aud=address)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"sub": "another-client"}, 403, "'sub' of the token is not the one agreed on"),
        ({"sub": None}, 403, "'sub' of the token is not the one agreed on"),
        ({"sub": 7}, 403, "'sub' of the token is not the one agreed on"),
        ({"aud": "https://example.com/another"}, 401, "nor the one agreed on"),
        ({"nbf": NOW + 3600}, 401, "'nbf' of the token is in the future"),
    ],
    ids=str,
)
def test_epics_tokens_are_held_to_what_was_agreed_on(
    trusted: Trusted, outcome_of: Outcome, changes: dict[str, Any], status: int, said: str
) -> None:
    answer = trusted.discover(epic_token(trusted, **changes))
    assert answer.status_code == status, answer.text
    assert said in outcome_of(answer)["issue"][0]["diagnostics"]


def test_what_was_agreed_on_with_one_client_is_not_good_for_another(trusted: Trusted) -> None:
    refused = trusted.discover(trusted.token("/cds-services", aud=EPIC_AGREED["aud"]))
    assert refused.status_code == 401
    assert "'aud' of the token is not the address called" in refused.text


def test_a_refused_audience_is_told_the_address_that_was_called(trusted: Trusted) -> None:
    token = trusted.token("/cds-services")
    headers = {"Authorization": f"Bearer {token}"}
    refused = trusted.http.post(ELIGIBILITY, json=ELIGIBLE, headers=headers)
    assert refused.status_code == 401
    assert f"{str(trusted.http.base_url).rstrip('/')}{ELIGIBILITY}" in refused.text
    # Another Host does not make it another address: the operator says what ours is.
    forged = headers | {"Host": "cds.example.org"}
    other = trusted.token("/cds-services", aud="https://cds.example.org/cds-services")
    forged = {"Host": "cds.example.org", "Authorization": f"Bearer {other}"}
    assert trusted.http.get("/cds-services", headers=forged).status_code == 401


def test_a_hostile_key_set_is_not_even_asked_for(trusted: Trusted) -> None:
    stranger = json.loads(ECAlgorithm.to_jwk(STRANGER.public_key())) | {"kid": "ec"}
    trusted.hostile.answers["/jwks.json"] = (200, json.dumps({"keys": [stranger]}).encode())
    for url in (f"{trusted.hostile.url}/jwks.json", f"{trusted.keys.url}/jwks.json#", "file:///x"):
        token = trusted.token("/cds-services", STRANGER, {"jku": url})
        refused = trusted.discover(token)
        assert refused.status_code == 403
        assert "'jku'" in refused.text
    assert trusted.hostile.asked == []


def test_a_token_is_good_for_one_call(trusted: Trusted) -> None:
    token = trusted.token("/cds-services")
    assert trusted.discover(token).status_code == 200
    again = trusted.discover(token)
    assert again.status_code == 401
    assert "'jti' of the token was used before" in again.text


def test_the_keys_are_asked_for_once_however_many_calls_there_are(trusted: Trusted) -> None:
    assert trusted.discover(trusted.token("/cds-services")).status_code == 200
    asked = len(trusted.keys.asked)
    for _ in range(10):
        assert trusted.discover(trusted.token("/cds-services")).status_code == 200
        trusted.discover(trusted.token("/cds-services", headers={"kid": str(uuid.uuid4())}))
    # Strange key ids may cost one more look, not one each.
    assert len(trusted.keys.asked) <= asked + 1


# Without a process of its own: the clock is ours


CLIENT = CdsClient(iss=ISS, jku="https://ehr.example.org/jwks.json")


class Clock:
    """Seconds that pass when we say so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def signed(clock: Clock, kid: str = "ec", **claims: Any) -> str:
    said = {
        "iss": ISS,
        "aud": "a",
        "exp": clock.now + 60,
        "iat": clock.now,
        "jti": uuid.uuid4().hex,
    }
    return "Bearer " + jwt.encode(said | claims, EC_KEY, algorithm="ES384", headers={"kid": kid})


def test_a_new_key_is_found_but_key_sets_are_not_asked_for_in_haste(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, asked = Clock(), []
    keys: list[Any] = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        if not keys:
            raise UnreadableError("its address does not answer")
        return json.dumps({"keys": keys}).encode()

    monkeypatch.setattr(key_sets, "fetch", fetch)
    trusting = ClientTrust((CLIENT,), clock)

    def check(kid: str = "ec") -> str:
        try:
            asyncio.run(trusting.check(signed(clock, kid), "a"))
        except RequestError as error:
            return error.faults[0].text
        return "good"

    assert "its address does not answer" in check()
    keys[:] = PUBLIC["keys"]
    assert "its address does not answer" in check()
    clock.now += 61
    assert check() == "good"
    # The client changes its key: the new one is found after a minute, the old one stays good.
    keys[:] = [PUBLIC["keys"][0] | {"kid": "new"}]
    assert "in no key set" in check("new")
    clock.now += 61
    assert check("new") == "good"
    assert "in no key set" in check("ec")
    # A set that cannot be read leaves the keys that are known.
    clock.now += 3601
    keys[:] = [{"kty": "oct", "kid": "new"}]
    assert check("new") == "good"
    assert len(asked) == 4


def test_used_tokens_are_remembered_while_they_last_and_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(trust, "_REMEMBERED", 3)

    async def fetch(_url: str) -> bytes:
        return json.dumps(PUBLIC).encode()

    monkeypatch.setattr(key_sets, "fetch", fetch)
    trusting = ClientTrust((CLIENT,), clock)

    async def use(*tokens: str) -> None:
        for token in tokens:
            await trusting.check(token, "a")

    first = signed(clock)
    asyncio.run(use(first, signed(clock)))
    with pytest.raises(RequestError):
        asyncio.run(use(first))
    asyncio.run(use(*[signed(clock) for _ in range(5)]))
    assert len(trusting._used) == 3  # type: ignore[arg-type]
    clock.now += 91
    asyncio.run(use(signed(clock)))
    assert len(trusting._used) == 1  # type: ignore[arg-type]


def test_with_a_shared_store_a_token_is_used_once_whichever_worker_it_meets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def fetch(_url: str) -> bytes:
        return json.dumps(PUBLIC).encode()

    monkeypatch.setattr(key_sets, "fetch", fetch)

    async def accepted(**settings: Any) -> int:
        asks = Settings(
            cds_require_jwt=True, cds_clients=[CLIENT], public_url="https://a", **settings
        )
        workers = [create_app(asks).state.cds_hooks.trust for _ in range(3)]
        token, good = signed(Clock()), 0
        for worker in workers:
            with suppress(RequestError):
                await worker.check(token, "a")
                good += 1
        return good

    assert asyncio.run(accepted()) == 3, "each remembers for itself"
    assert asyncio.run(accepted(shared_store=f"sqlite://{tmp_path}/shared.db")) == 1


def test_a_key_set_is_read_within_limits_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "_TIMEOUT_SECONDS", 1)
    with key_server() as keys:
        keys.answers["/long"] = (200, b" " * 300_000)
        keys.answers["/elsewhere"] = (302, b"")
        assert json.loads(asyncio.run(fetch(f"{keys.url}/jwks.json"))) == PUBLIC
        for path, why in (
            ("/long", "too large"),
            ("/elsewhere", "answers 302"),
            ("/none", "answers 404"),
        ):
            with pytest.raises(UnreadableError, match=why):
                asyncio.run(fetch(keys.url + path))
        assert keys.asked.count("/jwks.json") == 1
    for url, why in (
        (f"http://127.0.0.1:{free_port()}/jwks.json", "does not answer"),
        ("http://ehr.example.org/jwks.json", "not https"),
        ("http://169.254.169.254/latest", "not https"),
        ("ftp://127.0.0.1/x", "not https"),
        ("https:///x", "not https"),
    ):
        with pytest.raises(UnreadableError, match=why):
            asyncio.run(fetch(url))


def test_a_service_that_could_trust_nobody_does_not_start() -> None:
    known = {"iss": ISS, "jku": "https://ehr.example.org/jwks.json"}
    for settings in (
        {"cds_require_jwt": True},
        {"cds_require_jwt": True, "cds_clients": [known]},
        {"cds_require_jwt": True, "public_url": "https://maa.example.org"},
    ):
        with pytest.raises(ValidationError, match="needs MAA_CDS_CLIENTS and MAA_PUBLIC_URL"):
            Settings.model_validate(settings)
    Settings.model_validate(
        {"cds_require_jwt": True, "cds_clients": [known], "public_url": "https://maa.example.org"}
    )
