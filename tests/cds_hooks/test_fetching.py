"""What a client did not send is read from its FHIR server, if that is on the list."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from cds_calls import (
    ANC,
    ELIGIBILITY,
    KEYS,
    PLATELETS,
    RESPONSE,
    Json,
    call,
    cards_of,
    daclizumab,
    key_of,
    result,
    searchset,
    without,
)

from app.cds_hooks.calls import read_call
from app.cds_hooks.discovery import HOOK, SERVICES
from app.cds_hooks.prefetch import gather, sent_along
from app.fhir.bodies import Entry
from app.fhir.outcome import Fault, RequestError, WithheldError
from tests.conftest import serving

Outcome = Callable[[httpx.Response], Json]
TOKEN = "opaque-token"
CHART = [
    {"resourceType": "Patient", "id": "p1", "gender": "female"},
    result(ANC, 0.8, "2024-03-01"),
    result(PLATELETS, 40, "2024-03-01"),
    daclizumab("2024-03-06"),
    result(ANC, 2.6, "2024-06-04"),
    result(PLATELETS, 65, "2024-06-04"),
]
PAGE = 1
DRUG = "MedicationAdministration"


@dataclass
class Ehr:
    """A FHIR server that pages its searches, one result a page, and keeps what it was asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    status: int = 200
    next_host: str = ""

    def answer(self, target: str) -> tuple[int, Json]:
        """Status and resource for a path with its query."""
        parts = urlsplit(target)
        kind, _, name = parts.path.removeprefix("/fhir/").partition("/")
        if name:
            found = [r for r in CHART if r["resourceType"] == kind and r["id"] == name]
            return (200, found[0]) if found else (404, {"resourceType": "OperationOutcome"})
        query = parse_qs(parts.query)
        codes = query["code"][0].split(",") if "code" in query else None
        matches = [
            r for r in CHART if r["resourceType"] == kind and (codes is None or code_of(r) in codes)
        ]
        matches.sort(key=lambda r: r["effectiveDateTime"], reverse=True)
        at = int(query.get("_page", ["0"])[0])
        page = searchset(*matches[at : at + PAGE])
        if len(matches) > at + PAGE:
            base = f"{self.next_host or self.url}/{kind}?{parts.query.split('&_page')[0]}"
            page["link"] = [{"relation": "next", "url": f"{base}&_page={at + PAGE}"}]
        return 200, page


def code_of(resource: Json) -> str:
    concept = resource.get("code") or resource.get("medicationCodeableConcept") or {}
    return str(concept["coding"][0]["code"])


@contextmanager
def running() -> Iterator[Ehr]:
    ehr = Ehr()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ehr.asked.append(self.path)
            status, body = ehr.status, {"resourceType": "OperationOutcome"}
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                status = 401
            elif status == 200:
                status, body = ehr.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/fhir+json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        ehr.url = f"http://127.0.0.1:{http.server_port}/fhir"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield ehr
        http.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Ehr, Ehr]]:
    """One that the service is set up to read, and one that it is not."""
    with running() as known, running() as stranger:
        yield known, stranger


@pytest.fixture(scope="module")
def reader(
    servers: tuple[Ehr, Ehr], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A service that may read one FHIR server."""
    settings = {"MAA_CDS_FHIR_SERVERS": json.dumps([servers[0].url])}
    log = tmp_path_factory.mktemp("reader") / "log"
    with serving(log, **settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
    assert TOKEN not in log.read_text()


@pytest.fixture
def ehr(servers: tuple[Ehr, Ehr]) -> Iterator[Ehr]:
    """The server that may be read, as it is when nothing is wrong with it."""
    known, stranger = servers
    for one in servers:
        one.asked.clear()
    known.status, known.next_host = 200, ""
    yield known
    assert stranger.asked == []


def asking(server: str, *path: str, **token: Any) -> Json:
    """A call that leaves reading to the service, in whole or for one prefetch key."""
    authorization = {
        "access_token": TOKEN,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/*.rs",
        "subject": "maa-assess",
    }
    sent = call(*CHART, weight=True, fhirServer=server, fhirAuthorization=authorization | token)
    return without(sent, "prefetch", *path)


def meant(query: str) -> tuple[str, list[tuple[str, str]]]:
    """What a query asks, however it is escaped and in whatever order."""
    parts = urlsplit(query)
    return parts.path, sorted(parse_qsl(parts.query))


def test_nothing_sent_along_all_is_read_by_the_queries_of_discovery(
    reader: httpx.Client, ehr: Ehr
) -> None:
    (card,) = cards_of(reader, asking(ehr.url), RESPONSE)
    assert "ANC 0.8 to 2.6, platelets 40 to 65" in card["summary"]
    services = reader.get("/cds-services").json()["services"]
    templates = next(one["prefetch"] for one in services if one["id"] == "maa-response")
    queries = {t.replace("{{context.patientId}}", "p1") for t in templates.values()}
    first_pages = {path.removeprefix("/fhir/") for path in ehr.asked if "_page" not in path}
    assert sorted(map(meant, first_pages)) == sorted(map(meant, queries))
    # Two counts of each analyte, one on a page: the second page was read too.
    assert sum("_page=1" in path for path in ehr.asked) == 2 * 2


@pytest.mark.parametrize("key", KEYS)
def test_only_the_key_that_is_missing_is_read(reader: httpx.Client, ehr: Ehr, key: str) -> None:
    assert len(cards_of(reader, asking(ehr.url, key), RESPONSE)) == 1
    kinds = {
        "patient": "Patient/p1",
        "transfusions": "Procedure",
        "drugs": DRUG,
        "conditions": "Condition",
        "medications": "MedicationRequest",
    }
    read = {path.split("?")[0] for path in ehr.asked}
    assert read == {f"/fhir/{kinds.get(key, 'Observation')}"}


def test_what_the_client_could_not_have_and_what_has_further_pages_is_read(
    reader: httpx.Client, ehr: Ehr
) -> None:
    sent = asking(ehr.url, "drugs")
    sent["prefetch"]["platelets"] = {"resourceType": "OperationOutcome", "issue": []}
    newest = [r for r in CHART if key_of(r) == "neutrophils"][-1]
    sent["prefetch"]["neutrophils"] = searchset(newest, next_page=f"{ehr.url}?page=2")
    sent = json.loads(json.dumps(sent).replace('"issue": []', '"issue": [{"code": "timeout"}]'))
    (card,) = cards_of(reader, sent, RESPONSE)
    assert "ANC 0.8 to 2.6, platelets 40 to 65" in card["summary"]


def test_a_slash_at_the_end_is_no_other_server(reader: httpx.Client, ehr: Ehr) -> None:
    assert len(cards_of(reader, asking(f"{ehr.url}/", "platelets"), RESPONSE)) == 1


def refused(reader: httpx.Client, outcome_of: Outcome, sent: Json) -> str:
    answer = reader.post(ELIGIBILITY, json=sent)
    assert answer.status_code == httpx.codes.PRECONDITION_FAILED, answer.text
    return " ".join(issue["diagnostics"] for issue in outcome_of(answer)["issue"])


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_server_that_fails_is_said_to_with_the_key(
    reader: httpx.Client, outcome_of: Outcome, ehr: Ehr, status: int
) -> None:
    ehr.status = status
    told = refused(reader, outcome_of, asking(ehr.url, "platelets"))
    assert "'platelets' was not sent, and nothing was fetched: The FHIR server failed." in told
    assert "'neutrophils'" not in told
    assert len(ehr.asked) == 1


def test_a_token_that_is_refused_or_past_is_said_to_be(
    reader: httpx.Client, outcome_of: Outcome, ehr: Ehr
) -> None:
    told = refused(reader, outcome_of, asking(ehr.url, "platelets", access_token="another"))
    assert "credentials (401)" in told
    ehr.asked.clear()
    told = refused(reader, outcome_of, asking(ehr.url, "platelets", expires_in=0))
    assert "'fhirAuthorization' has expired" in told
    assert ehr.asked == []


def test_a_token_for_another_patient_is_not_used(
    reader: httpx.Client, outcome_of: Outcome, ehr: Ehr
) -> None:
    told = refused(reader, outcome_of, asking(ehr.url, "platelets", patient="p2"))
    assert "'fhirAuthorization' is for another patient" in told
    assert ehr.asked == []
    assert len(cards_of(reader, asking(ehr.url, "platelets", patient="p1"), RESPONSE)) == 1


def test_a_patient_the_server_does_not_know_is_said_to_be(
    reader: httpx.Client, outcome_of: Outcome, ehr: Ehr
) -> None:
    sent = asking(ehr.url)
    sent["context"]["patientId"] = "p9"
    assert "no such patient" in refused(reader, outcome_of, sent)


def test_the_token_goes_to_no_other_server(
    reader: httpx.Client, outcome_of: Outcome, servers: tuple[Ehr, Ehr], ehr: Ehr
) -> None:
    # The fixture sees to it that the stranger was never asked.
    stranger = servers[1]
    for url in (
        stranger.url,
        f"{ehr.url}.example.org",
        f"{ehr.url}/../fhir",
        ehr.url.replace("127.0.0.1", "127.0.0.1@" + urlsplit(stranger.url).netloc),
    ):
        assert "set up to read" in refused(reader, outcome_of, asking(url, "platelets"))
    assert ehr.asked == []
    ehr.next_host = stranger.url
    told = refused(reader, outcome_of, asking(ehr.url, "platelets"))
    assert "leads to another address" in told


class Withholding:
    """A FHIR server that withholds, where that is refused."""

    async def fetch(self, query: str) -> tuple[Entry, ...]:
        raise WithheldError(502, Fault("incomplete", f"withheld: {query.partition('?')[0]}"))

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("key", ["platelets", "conditions"])
def test_what_the_server_withholds_is_not_left_out_in_silence(key: str) -> None:
    """Also of what a card could do without: it was looked at."""
    service, server = SERVICES["maa-response"], "https://ehr.example.org/fhir"
    asked = read_call(json.dumps(asking(server, key)).encode(), HOOK)
    sent = sent_along(asked, service)
    with pytest.raises(RequestError) as error:
        asyncio.run(gather(asked, service, sent, (server,), lambda *_: Withholding()))
    assert error.value.status == 412
    (fault,) = error.value.faults
    assert fault.place == f"prefetch.{key}"
    assert "withheld: " in fault.text
