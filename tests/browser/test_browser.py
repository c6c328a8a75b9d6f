"""A CDS client in a real browser, on an origin of its own: discovery, call, card, feedback."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from playwright.sync_api import Browser, Page, expect

from tests.conftest import ROOT, free_port, serving

HERE = Path(__file__).parent
BUILD = ROOT / "build"
KEY = ec.generate_private_key(ec.SECP384R1())
WAIT_MS = 20_000

Json = dict[str, Any]


def result(code: str, value: float, unit: str = "10*9/L") -> Json:
    return {
        "resourceType": "Observation",
        "id": code,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2024-03-05T08:30:00Z",
        "valueQuantity": {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


PATIENT = {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1980-01-01"}
CHART = [PATIENT, result("751-8", 0.9), result("777-3", 150), result("718-7", 8.2, "g/dL")]
SEVERE = [PATIENT, result("751-8", 0.3), result("777-3", 12), result("718-7", 8.2, "g/dL")]
NORMAL = [PATIENT, result("751-8", 4.0), result("777-3", 250), result("718-7", 14.0, "g/dL")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the client: its page, and its public key where it says it is."""
    site = tmp_path_factory.mktemp("client")
    shutil.copy(HERE / "client.html", site)
    public = json.loads(ECAlgorithm.to_jwk(KEY.public_key())) | {"kid": "sandbox", "use": "sig"}
    (site / "jwks.json").write_text(json.dumps({"keys": [public]}), "utf-8")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def opened(browser: Browser, client: str, service: str, chart: list[Json], **more: Any) -> Page:
    """The client's page with a chart, after the service has answered."""
    page = browser.new_page(viewport={"width": 1100, "height": 1000})
    page.set_default_timeout(WAIT_MS)
    setup = {
        "service": service,
        "serviceId": "maa-eligibility",
        "patientId": "p1",
        "chart": chart,
        "jku": f"{client}/jwks.json",
        "privateKey": None,
    } | more
    page.add_init_script(f"window.setup = {json.dumps(setup)}")
    page.goto(f"{client}/client.html")
    expect(page.locator("#status")).not_to_have_text("waiting", timeout=WAIT_MS)
    return page


def test_a_chart_is_opened_its_card_read_and_answered(
    browser: Browser, client: str, server: str
) -> None:
    page = opened(browser, client, server, CHART)
    expect(page.locator("#status")).to_have_text("cards 1")
    card = page.locator(".card.info")
    expect(card.locator("h2")).to_have_text(
        "2003 NIH mAA criteria: open, missing absolute reticulocyte count: "
        "ANC 0.9, platelets 150, Hb 8.2 (2024-03-05)"
    )
    row = card.locator("tr", has_text="Neutrophils depressed")
    expect(row.locator("td")).to_have_text(
        ["Neutrophils depressed", "met", "ANC 0.9 x10⁹/L", "2024-03-05", "ANC \u2264 1.2 x10⁹/L"]
    )
    BUILD.mkdir(exist_ok=True)
    page.screenshot(path=BUILD / "cds-client.png", full_page=True)
    card.get_by_role("button", name="Order: absolute reticulocyte count").click()
    expect(page.locator("#status")).to_have_text("accepted, received 1")
    card.get_by_role("button", name="Another cause explains the counts").click()
    expect(page.locator("#status")).to_have_text("overridden, received 1")
    page.close()


def test_severe_counts_look_like_a_warning_and_normal_ones_show_nothing(
    browser: Browser, client: str, server: str
) -> None:
    page = opened(browser, client, server, SEVERE)
    expect(page.locator(".card.warning h2")).to_contain_text("Severe by counts")
    page.close()
    page = opened(browser, client, server, NORMAL)
    expect(page.locator("#status")).to_have_text("cards 0")
    expect(page.locator(".card")).to_have_count(0)
    page.close()


def test_the_page_can_read_why_it_is_refused(browser: Browser, client: str, server: str) -> None:
    page = opened(
        browser, client, server, [result("751-8", 0.9) | {"subject": {"reference": "Patient/p2"}}]
    )
    expect(page.locator("#status")).to_contain_text("failed: 422: Data of another patient")
    page.close()


def test_a_client_that_signs_with_its_own_key_is_trusted(
    browser: Browser, client: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "MAA_CDS_REQUIRE_JWT": "true",
        "MAA_CDS_CLIENTS": json.dumps([{"iss": client, "jku": f"{client}/jwks.json"}]),
        "MAA_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    private = json.loads(ECAlgorithm.to_jwk(KEY)) | {"kid": "sandbox"}
    with serving(tmp_path / "log", port, **settings) as service:
        page = opened(browser, client, service, CHART, privateKey=private)
        expect(page.locator("#status")).to_have_text("cards 1")
        page.get_by_role("button", name="Order: absolute reticulocyte count").click()
        expect(page.locator("#status")).to_have_text("accepted, received 1")
        page.close()
        page = opened(browser, client, service, CHART)
        expect(page.locator("#status")).to_contain_text("failed: 401: Send 'Authorization")
        page.close()
