"""Discovery: valid, and each query finds what an assessment reads."""

from __future__ import annotations

import re

import httpx
from cds_calls import KEYS, require_valid

from app.fhir.codes import ANALYTE_LOINC, PANEL_LOINC


def test_discovery_is_valid_and_names_both_services(http: httpx.Client) -> None:
    answer = http.get("/cds-services")
    assert answer.headers["content-type"] == "application/json"
    require_valid("discovery", answer.json())
    services = {one["id"]: one for one in answer.json()["services"]}
    assert set(services) == {"maa-eligibility", "maa-response"}
    assert {one["hook"] for one in services.values()} == {"patient-view"}
    assert all(one["usageRequirements"] for one in services.values())
    assert tuple(services["maa-eligibility"]["prefetch"]) == KEYS
    assert set(services["maa-response"]["prefetch"]) == {*KEYS, "weight"}


def test_transfusions_and_drugs_are_asked_for_whatever_their_code(http: httpx.Client) -> None:
    """What is written in words alone has none to be searched by."""
    prefetch = http.get("/cds-services").json()["services"][0]["prefetch"]
    assert "code=" not in prefetch["transfusions"] + prefetch["drugs"]


def test_the_queries_ask_for_every_code_of_a_count_and_no_other(http: httpx.Client) -> None:
    prefetch = http.get("/cds-services").json()["services"][1]["prefetch"]
    asked = [
        code
        for query in prefetch.values()
        for code in re.findall(r"code=([^&]*)", query)[0:1]
        for code in code.split(",")
    ]
    read = {row.code for row in ANALYTE_LOINC} | PANEL_LOINC
    assert set(asked) == read
    assert len(asked) == len(read)


def test_the_home_page_leads_to_discovery(http: httpx.Client) -> None:
    assert 'href="/cds-services"' in http.get("/").text


def test_scripts_of_other_origins_may_ask(http: httpx.Client) -> None:
    origin = "https://ehr.example.org"
    for path, method in (
        ("/cds-services", "GET"),
        ("/cds-services/maa-eligibility", "POST"),
        ("/cds-services/maa-eligibility/feedback", "POST"),
    ):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        allowed = http.options(path, headers=asked)
        assert allowed.status_code == httpx.codes.OK
        assert allowed.headers["access-control-allow-origin"] in {"*", origin}
        assert method in allowed.headers["access-control-allow-methods"]
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    # A refusal can be read too.
    refused = http.post("/cds-services/none", json={}, headers={"Origin": origin})
    assert refused.headers["access-control-allow-origin"] in {"*", origin}
