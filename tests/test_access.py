"""Who may read patients through the service's own credentials: no page of another's."""

from __future__ import annotations

import httpx
import pytest

from app.settings import Settings
from tests.conftest import FHIR_JSON, OPERATION, ROOT
from tests.test_ehr import ELIGIBILITY, calling, ordinary, service, serving

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
