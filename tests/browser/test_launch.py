"""The page launched from a chart, by an EHR that keeps to SMART App Launch, or fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.launcher import CLIENT, PATIENT, SCOPE, Ehr, launching
from tests.conftest import free_port, serving

WAIT_MS = 15_000


def result(id_: str, code: str, value: float, unit: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{PATIENT}"},
        "effectiveDateTime": "2024-03-05",
        "valueQuantity": {"value": value, "unit": unit},
    }


CHART = [
    {"resourceType": "Patient", "id": PATIENT, "name": [{"text": "Elin Example"}]},
    result("o1", "751-8", 0.9, "10*9/L"),
    result("o2", "777-3", 41, "10*9/L"),
    result("o3", "2160-0", 80, "umol/L"),
]


@pytest.fixture
def ehr(tmp_path: Path) -> Iterator[tuple[Ehr, str]]:
    """The EHR, and the address of the service that it may launch."""
    port = free_port()
    service = f"http://127.0.0.1:{port}"
    with launching(Ehr(CHART), f"{service}/smart") as ehr:
        settings = {"MAA_SMART_ISSUERS": ehr.base, "MAA_SMART_CLIENT_ID": CLIENT}
        with serving(tmp_path / "log", port, **settings):
            yield ehr, service
    log = (tmp_path / "log").read_text()
    assert PATIENT not in log
    assert not any(token in log for token in ehr.tokens)


@pytest.fixture
def launched(browser: Browser, ehr: tuple[Ehr, str]) -> Iterator[Callable[..., Page]]:
    """The page, launched as the chart does it."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)

    def launch(more: str = "") -> Page:
        at, service = ehr
        page.goto(f"{service}/launch?iss={at.base}&launch={at.launch()}{more}")
        return page

    yield launch
    context.close()


def problem(page: Page) -> Any:
    return page.locator("#problems .problem")


def test_a_chart_is_read_with_the_clinicians_rights_and_judged(
    ehr: tuple[Ehr, str], launched: Callable[..., Page]
) -> None:
    at, service = ehr
    page = launched()
    expect(page.locator(".verdict h4")).to_have_text("The counts meet this definition.")
    expect(page.locator(".patient h3")).to_contain_text("Elin Example")
    assert at.faults == []
    assert "2160-0" not in page.locator("#input").input_value(), "Only what is judged is asked for."
    assert page.url == f"{service}/smart"
    kept = "[localStorage.length, sessionStorage.length, document.cookie]"
    assert page.evaluate(kept) == [0, 0, ""]


def test_a_clinician_may_begin_without_an_open_chart(
    browser: Browser, ehr: tuple[Ehr, str]
) -> None:
    at, service = ehr
    at.scope = SCOPE.replace("launch", "launch/patient").replace(".rs", ".read")
    page = browser.new_page()
    page.goto(f"{service}/launch")
    page.get_by_role("button", name="Sign in at 127.0.0.1").click()
    expect(page.locator(".verdict h4")).to_have_text("The counts meet this definition.")
    assert at.faults == []
    page.close()


def test_an_ehr_that_is_not_named_is_not_asked(browser: Browser, ehr: tuple[Ehr, str]) -> None:
    _, service = ehr
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service}/launch?iss=http://127.0.0.1:9/fhir&launch=x")
    expect(problem(page)).to_contain_text("http://127.0.0.1:9/fhir is not one of the EHRs")
    assert all(url.startswith(service) for url in asked)
    page.close()


def test_an_address_says_no_more_than_who_launches(
    ehr: tuple[Ehr, str], launched: Callable[..., Page]
) -> None:
    page = launched("&clientId=evil&patientId=somebody&fhirServiceUrl=http://127.0.0.1:9/fhir")
    expect(page.locator(".patient h3")).to_contain_text("Elin Example")
    assert ehr[0].faults == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"refuses": "access_denied"}, "The EHR did not let the page in"),
        ({"ended": True}, "The EHR has ended the session. Open the page from the chart again."),
        ({"patient": None}, "The EHR named no patient."),
        ({"scope": "launch patient/Patient.rs"}, "gave no right to read results"),
        ({"scope": f"{SCOPE.replace('Observation.rs', 'Observation.rs?category=x')}"}, "no right"),
        ({"forbidden": ("Observation",)}, "refused to give the results (403)"),
    ],
)
def test_an_ehr_that_refuses_is_told_in_words(
    ehr: tuple[Ehr, str], launched: Callable[..., Page], how: dict[str, Any], words: str
) -> None:
    for name, value in how.items():
        setattr(ehr[0], name, value)
    page = launched()
    expect(problem(page)).to_contain_text(words)
    assert page.locator(".verdict").count() == 0


@pytest.mark.parametrize(
    "how", [{"scope": SCOPE.replace("patient/Procedure.rs ", "")}, {"forbidden": ("Procedure",)}]
)
def test_what_may_not_be_read_is_told_beside_the_verdict(
    ehr: tuple[Ehr, str], launched: Callable[..., Page], how: dict[str, Any]
) -> None:
    for name, value in how.items():
        setattr(ehr[0], name, value)
    page = launched()
    expect(page.locator(".verdict h4")).to_have_text("The counts meet this definition.")
    expect(problem(page)).to_contain_text("Not read")
    expect(problem(page)).to_contain_text("Procedure (transfusions)")


def test_a_page_that_is_loaded_again_holds_nothing_of_the_patient(
    launched: Callable[..., Page],
) -> None:
    page = launched()
    expect(page.locator(".verdict")).to_be_visible()
    page.reload()
    expect(problem(page)).to_contain_text("Open the page from the chart again.")
    assert page.locator("#input").input_value() == ""


def test_only_the_named_ehr_may_be_asked_or_embed_the_page(ehr: tuple[Ehr, str]) -> None:
    at, service = ehr
    origin = at.base.removesuffix("/fhir")
    for path in ("/launch", "/smart"):
        policy = httpx.get(f"{service}{path}").headers["content-security-policy"]
        assert f"connect-src 'self' {origin};" in policy
        assert policy.endswith(f"frame-ancestors 'self' {origin}")
        assert "script-src 'self';" in policy
    assert origin not in httpx.get(service).headers["content-security-policy"]


def test_without_a_named_ehr_there_is_no_launch(http: httpx.Client) -> None:
    for path in ("/launch", "/smart"):
        assert http.get(path).status_code == httpx.codes.NOT_FOUND
    assert not re.search("smart", http.get("/").text, re.IGNORECASE)
