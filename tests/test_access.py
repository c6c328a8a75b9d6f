"""Who reaches the service and whom it reaches: hosts, origins, prefixes, its FHIR server."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

import httpx
import pytest

from app.ehr.probe import Probe
from app.settings import Settings
from tests.conftest import FHIR_JSON, OPERATION, ROOT
from tests.test_ehr import ELIGIBILITY, Asked, Reply, calling, ordinary, service, serving

ELIGIBLE = (ROOT / "fixtures/anc-below-0-5/request.json").read_bytes()
ELSEWHERE = {"origin": "https://attacker.example.org"}


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example.org",
        "attacker.example.org:8000",
        "localhost.attacker.example.org",
        "127.0.0.1.attacker.example.org",
        "maa.example.org.attacker.net",
    ],
)
def test_a_page_that_brings_its_own_name_to_our_address_reads_no_patient(host: str) -> None:
    with serving(ordinary) as stub:
        with service(stub, public_url="https://maa.example.org") as client:
            response = client.runner.run(client.client.get(ELIGIBILITY, headers={"host": host}))
        assert stub.asked == []
    assert response.status_code == 421
    issue = response.json()["issue"][0]
    assert response.headers["content-type"] == FHIR_JSON
    assert "MAA_TRUSTED_HOSTS" in issue["diagnostics"]
    assert "x-request-id" in response.headers


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3", "maa.example.org"],
)
def test_this_machine_an_address_and_the_public_name_are_answered(host: str) -> None:
    with serving(ordinary) as stub, service(stub, public_url="https://maa.example.org") as client:
        response = client.runner.run(client.client.get(ELIGIBILITY, headers={"host": host}))
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("trusted", "host", "status"),
    [
        ("maa.example.org", "maa.example.org", 200),
        ("maa.example.org", "other.example.org", 421),
        ("*.example.org", "other.example.org", 200),
        ("*.example.org", "other-example.org", 421),
        ("*", "attacker.net", 200),
    ],
)
def test_trusted_hosts_are_those_that_the_setting_names(
    trusted: str, host: str, status: int
) -> None:
    with serving(ordinary) as stub, service(stub, trusted_hosts=[trusted]) as client:
        response = client.runner.run(client.client.get(ELIGIBILITY, headers={"host": host}))
    assert response.status_code == status


def test_without_a_fhir_server_any_name_will_do() -> None:
    with calling(Settings()) as client:
        response = client.runner.run(client.client.get("/fhir/metadata", headers={"host": "maa"}))
    assert response.status_code == 200


def test_scripts_of_other_origins_read_no_patient_unless_they_are_named() -> None:
    named = {"origin": "https://ehr.example.org"}
    with serving(ordinary) as stub:
        with service(stub) as client:
            response = client.runner.run(client.client.get(ELIGIBILITY, headers=ELSEWHERE))
        with service(stub, cors_origins=[named["origin"]]) as client:
            other = client.runner.run(client.client.get(ELIGIBILITY, headers=ELSEWHERE))
            ours = client.runner.run(client.client.get(ELIGIBILITY, headers=named))
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-origin" not in other.headers
    assert ours.headers["access-control-allow-origin"] == named["origin"]


def test_what_tells_of_a_patient_is_kept_by_no_cache_and_taken_for_nothing_else(
    http: httpx.Client,
) -> None:
    headers = {"content-type": FHIR_JSON}
    for response in (
        http.post(OPERATION, content=ELIGIBLE, headers=headers),
        http.post(OPERATION, content=b"{", headers=headers),
        http.post("/cds-services/maa-eligibility", json={}),
        http.get("/fhir/Patient/1/$assess-eligibility"),
    ):
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
    definition = http.get("/fhir/ValueSet/platelets")
    assert definition.headers["cache-control"] == "no-cache"


def test_behind_a_prefix_every_address_of_ours_is_the_public_one() -> None:
    settings = Settings(public_url="https://maa.example.org/blood/")
    with calling(settings) as client:
        # A proxy may take the prefix off, or not.
        for prefix in ("", "/blood"):
            metadata = client.get(f"{prefix}/fhir/metadata").json()
            found = client.get(f"{prefix}/fhir/ValueSet?_id=platelets").json()
            docs = client.get(f"{prefix}/docs").text
            home = client.get(f"{prefix}/").text
            document = client.get(f"{prefix}/openapi.json").json()
            base = "https://maa.example.org/blood"
            assert metadata["implementation"]["url"] == f"{base}/fhir"
            assert found["link"][0]["url"] == f"{base}/fhir/ValueSet?_id=platelets"
            assert found["entry"][0]["fullUrl"] == f"{base}/fhir/ValueSet/platelets"
            assert document["servers"] == [{"url": f"{base}/"}]
            loaded = re.findall(r"(?:href|src)=\"([^\"]+)\"|url: '([^']+)'", docs + home)
            addresses = {one or other for one, other in loaded if one[:1] != "#"}
            assert {"/blood/docs", "/blood/openapi.json", "/blood/fhir/metadata"} <= addresses
            for address in addresses:
                assert address.startswith("/blood/")
                assert client.get(address.removeprefix("/blood")).status_code == 200


def answering(status: int) -> Callable[[Asked], Reply]:
    return lambda asked: (status, {}, b"{}")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, None),
        (401, None),
        (403, None),
        (404, "it answered 404 to metadata"),
        (503, "it answered 503 to metadata"),
    ],
)
def test_readiness_says_what_is_not_ready(status: int, said: str | None) -> None:
    with serving(answering(status)) as stub, service(stub) as client:
        ready = [client.get("/health/ready") for _ in range(3)]
        assert client.get("/health/live").status_code == 200
    assert [one.path.rsplit("/", 1)[1] for one in stub.asked] == ["metadata"], "asked once"
    assert {one.status_code for one in ready} == {503 if said else 200}
    assert ready[0].json().get("reasons") == ({"fhir-server": said} if said else None)


def test_a_server_that_does_not_answer_or_is_gone_is_not_ready() -> None:
    def asleep(asked: Asked) -> Reply:
        time.sleep(3)
        return 200, {}, b"{}"

    with serving(asleep) as stub, service(stub) as client:
        slow = client.get("/health/ready").json()["reasons"]
    with calling(Settings(fhir_server=stub.base)) as client:
        gone = client.get("/health/ready").json()["reasons"]
    assert slow == {"fhir-server": "it did not answer within 2 seconds"}
    assert gone == {"fhir-server": "it cannot be reached"}


def test_a_server_that_is_back_is_ready_again() -> None:
    now, status = [0.0], [503]

    async def ask(probe: Probe) -> list[str]:
        said = [await probe.fault()]
        status[0], now[0] = 200, now[0] + 9
        said.append(await probe.fault())
        now[0] += 2
        said.append(await probe.fault())
        await probe.aclose()
        return said

    with serving(lambda asked: (status[0], {}, b"{}")) as stub:
        said = asyncio.run(ask(Probe(stub.base, lambda: now[0])))
    assert said == ["it answered 503 to metadata", "it answered 503 to metadata", ""]


def test_requests_to_the_fhir_server_are_counted_by_how_they_ended() -> None:
    with serving(ordinary) as stub, service(stub) as client:
        client.get(ELIGIBILITY)
        asked = len(stub.asked)
        text = client.get("/metrics").text
    assert f'maa_fhir_request_seconds_count{{outcome="ok"}} {asked:.1f}' in text
    with serving(answering(500)) as stub, service(stub) as client:
        client.get(ELIGIBILITY)
        text = client.get("/metrics").text
    assert f'maa_fhir_request_seconds_count{{outcome="outage"}} {len(stub.asked):.1f}' in text
