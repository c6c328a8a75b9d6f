"""A real FHIR server, HAPI FHIR: our operations on its patients, and its own on our package.

It has our FHIR package from its start, and is loaded with the fixtures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from app.ehr.searches import SEARCHES
from app.settings import Settings
from tests.test_ehr import Client, calling
from tests.test_fixtures import COHORT, STORIES, told

FIXTURES = Path(__file__).parent.parent / "fixtures"
FHIR_JSON = {"content-type": "application/fhir+json"}

Json = dict[str, Any]
Patients = dict[str, dict[str, str]]

# What no search by patient and code can find, by FHIR's own rules.
OUT_OF_REACH = {
    "contained-results": "the results are contained in a DiagnosticReport",
    "report-lends": "the results name no patient, a DiagnosticReport does",
    "identifier-subject": "the results name their patient by identifier alone",
    "merged-patient": "a result stands under the record that another one replaced",
}
WITHIN_REACH = sorted(set(STORIES) - set(OUT_OF_REACH))

# The ways to ask a server that the settings offer; HAPI gives 50 a page at the most.
SETTINGS: dict[str, Json] = {
    "by GET": {},
    "by GET, 3 a page": {"fhir_page_count": 3},
    "by POST, 3 a page": {"fhir_search_by_post": True, "fhir_page_count": 3},
}


def decoded(content: bytes) -> Json:
    found: Json = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(content)
    return found


def encoded(value: Json) -> bytes:
    return msgspec.json.Encoder(decimal_format="number").encode(value)


@dataclass
class Story:
    """A fixture whose ids begin with its own name, since all of them share one server."""

    resources: list[Json]
    full_urls: list[str | None]
    parameters: list[Json]

    @property
    def data(self) -> Json:
        """What the type-level operations are sent."""
        pairs = zip(self.full_urls, self.resources, strict=True)
        entries = [
            {"resource": resource} | ({"fullUrl": url} if url else {}) for url, resource in pairs
        ]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    @property
    def transaction(self) -> Json:
        """The same, to be stored: under its own id, or where a urn names it, under the server's."""
        entries = []
        for entry in self.data["entry"]:
            kind, name = entry["resource"]["resourceType"], entry["resource"].get("id")
            request = {"method": "PUT", "url": f"{kind}/{name}"} if name else {}
            entries.append({**entry, "request": request or {"method": "POST", "url": kind}})
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def story_of(name: str) -> Story:
    file = "bundle.json" if name == COHORT else "request.json"
    request = decoded((FIXTURES / name / file).read_bytes())
    given: list[Json] = request.get("parameter", [])
    bundle = next((one["resource"] for one in given if one["name"] == "data"), request)
    resources = [renamed(entry["resource"], name) for entry in bundle["entry"]]
    for resource in resources:
        if "id" in resource:
            resource["id"] = f"{name}.{resource['id']}"
    # An https fullUrl would place a resource on another server than the one it is stored on.
    given_urls = [entry.get("fullUrl") or "" for entry in bundle["entry"]]
    urls = [url if url.startswith("urn:") else None for url in given_urls]
    known = {f"{one['resourceType']}/{one.get('id')}" for one in resources} | set(urls)
    named = {
        one["subject"]["reference"] for one in resources if "reference" in one.get("subject", {})
    }
    missing = [
        {"resourceType": "Patient", "id": reference.removeprefix("Patient/")}
        for reference in sorted(named - known)
    ]
    parameters = [one for one in given if one["name"] != "data"]
    return Story([*missing, *resources], [*[None] * len(missing), *urls], parameters)


def renamed(value: Any, story: str) -> Any:
    """The same with the story's name in every reference to another resource."""
    if isinstance(value, list):
        return [renamed(part, story) for part in value]
    if not isinstance(value, dict):
        return value
    kind, slash, name = str(value.get("reference", "")).partition("/")
    found = {key: renamed(part, story) for key, part in value.items()}
    return {**found, "reference": f"{kind}/{story}.{name}"} if slash else found


@pytest.fixture(scope="module")
def stored(hapi: str) -> Patients:
    """The stories, loaded: for each the patients, as the story names them and as HAPI does."""
    found: Patients = {}
    with httpx.Client(base_url=hapi, timeout=60, headers=FHIR_JSON) as client:
        for name in [*STORIES, COHORT]:
            story = story_of(name)
            answer = client.post("", content=encoded(story.transaction))
            assert answer.status_code == httpx.codes.OK, answer.text
            found[name] = {}
            rows = zip(story.data["entry"], answer.json()["entry"], strict=True)
            for sent, kept in rows:
                location = kept["response"]["location"].split("/_history")[0]
                if location.startswith("Patient/"):
                    found[name][sent.get("fullUrl") or location] = location
    return found


@pytest.fixture(scope="module")
def clients(hapi: str, stored: Patients) -> Iterator[dict[str, Client]]:
    """Our service before the loaded HAPI, once for each of SETTINGS."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(calling(Settings(fhir_server=hapi, **settings)))
            for name, settings in SETTINGS.items()
        }


def parameters(story: Story, **more: Json) -> bytes:
    given = [*story.parameters, *({"name": name, **value} for name, value in more.items())]
    return encoded({"resourceType": "Parameters", "parameter": given})


def judged(response: httpx.Response) -> list[Json]:
    """What was judged, and from how many results; one row for each definition.

    Names are left out, since the server gives its own to what had none.
    """
    assert response.status_code == httpx.codes.OK, response.text
    kept = ("definition", "verdict", "criteria", "needs")
    return [
        {name: row[name] for name in kept} | {"sources": len(row["derived-from"])}
        for row in told(response.json())
    ]


@pytest.mark.parametrize("name", WITHIN_REACH)
def test_what_the_server_holds_is_judged_as_if_it_were_sent(
    name: str, clients: dict[str, Client], stored: Patients
) -> None:
    client, story = clients["by GET"], story_of(name)
    assert stored[name]
    for patient, location in stored[name].items():
        data, subject = {"resource": story.data}, {"valueString": patient}
        body = parameters(story, data=data, subject=subject)
        sent = client.post("/fhir/$assess-eligibility", content=body, headers=FHIR_JSON)
        address = f"/fhir/{location}/$assess-eligibility"
        fetched = client.post(address, content=parameters(story), headers=FHIR_JSON)
        assert judged(fetched) == judged(sent)
        if not story.parameters:
            assert judged(client.get(address)) == judged(sent)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("operation", ["$assess-eligibility", "$assess-response"])
def test_the_cohort_is_judged_alike_however_the_server_is_asked(
    operation: str, settings: str, clients: dict[str, Client], stored: Patients
) -> None:
    client, story = clients[settings], story_of(COHORT)
    body = parameters(story, data={"resource": story.data})
    sent = client.post(f"/fhir/{operation}", content=body, headers=FHIR_JSON)
    together = {row["patient"]: row for row in told(sent.json())}
    assert sorted(together) == sorted(stored[COHORT])
    for patient in stored[COHORT]:
        answer = client.get(f"/fhir/{patient}/{operation}")
        assert told(answer.json()) == [together[patient]]


def test_six_of_the_cohort_responded_by_what_the_server_holds(
    clients: dict[str, Client], stored: Patients
) -> None:
    """As the abstract reports it: 17 treated, 6 responded, 2 of them completely."""
    verdicts = Counter(
        row["verdict"]
        for patient in stored[COHORT]
        for row in told(clients["by GET"].get(f"/fhir/{patient}/$assess-response").json())
    )
    assert verdicts.total() == 17
    assert verdicts["complete-response"] == 2
    assert verdicts["response"] == 4


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_three_a_page_makes_more_than_three_pages(method: str, hapi: str, stored: Patients) -> None:
    """Or the tests above would turn none; HAPI numbers its pages at its base, not at the type."""
    neutrophils = next(search for search in SEARCHES if search.name == "neutrophils")
    query = {
        "patient": f"{COHORT}.mAA-01",
        "code": ",".join(neutrophils.tokens),
        "_sort": "-date",
        "_count": "3",
    }
    with httpx.Client(base_url=hapi, timeout=60) as client:
        by_get = client.get("/Observation", params=query) if method == "GET" else None
        page = (by_get or client.post("/Observation/_search", data=query)).json()
        dates = []
        pages = 1
        while True:
            dates += [entry["resource"]["effectiveDateTime"] for entry in page["entry"]]
            following = [link["url"] for link in page["link"] if link["relation"] == "next"]
            if not following:
                break
            page, pages = client.get(following[0]).json(), pages + 1
    assert pages > 3
    assert len(dates) > 9
    assert dates == sorted(dates, reverse=True)


def reported(hapi: str, story: str, definition: str, patients: list[str]) -> tuple[int, Json]:
    """What HAPI counts by our Measure: how many were screened, and how many by each verdict."""
    members = [{"entity": {"reference": patient}} for patient in patients]
    group = {"resourceType": "Group", "id": story, "type": "person", "actual": True}
    with httpx.Client(base_url=hapi, timeout=300, headers=FHIR_JSON) as client:
        client.put(f"/Group/{story}", json={**group, "member": members}).raise_for_status()
        url = f"https://w3id.org/maa-assess/Measure/eligibility-{definition}"
        (entry,) = client.get("/Measure", params={"url": url}).json()["entry"]
        asked = {"reportType": "population", "subject": f"Group/{story}"}
        # What FHIR requires; the Measure looks at the newest counts, whenever they are of.
        period = {"periodStart": "1990-01-01", "periodEnd": "2030-12-31"}
        address = f"/Measure/{entry['resource']['id']}/$evaluate-measure"
        report = client.get(address, params=asked | period).json()
    assert report["status"] == "complete", report
    (found,) = report["group"]
    return found["population"][0]["count"], {
        one["value"]["text"]: one["population"][0]["count"]
        for one in found["stratifier"][0]["stratum"]
    }


@pytest.mark.parametrize(
    ("story", "definition", "expected"),
    [
        (COHORT, "nih-daclizumab-2003", {"eligible": 13, "not-eligible": 4}),
        (
            "three-patients",
            "nih-daclizumab-2003",
            {"eligible": 1, "not-eligible": 1, "indeterminate": 1},
        ),
        ("three-patients", "nih-severe", {"not-eligible": 2, "indeterminate": 1}),
    ],
)
def test_a_server_with_our_package_alone_counts_as_we_do(
    story: str, definition: str, expected: Json, hapi: str, stored: Patients
) -> None:
    """From raw data, by the CQL in the package: our service is not asked."""
    data = {"resource": story_of(story).data}
    with calling(Settings()) as service:
        answer = service.post(
            f"/fhir/$assess-eligibility?criteria={definition}",
            content=encoded(data["resource"]),
            headers=FHIR_JSON,
        )
    ours = Counter(row["verdict"] for row in told(answer.json()))
    patients = list(stored[story].values())
    assert reported(hapi, story, definition, patients) == (len(patients), dict(ours))
    assert ours == expected


def test_a_real_server_keeps_every_digit(hapi: str, clients: dict[str, Client]) -> None:
    """70 is depressed; the smallest bit more is not, and no float tells them apart."""
    story = story_of("platelets-70000")
    counts = [one for one in story.resources if one["id"].endswith("per-liter-platelets")]
    assert [one["valueQuantity"]["value"] for one in counts] == [70]
    counts[0]["valueQuantity"]["value"] = Decimal("70.0000000000000000001")
    with httpx.Client(base_url=hapi, timeout=60, headers=FHIR_JSON) as client:
        kept = client.put(f"/Observation/{counts[0]['id']}", content=encoded(counts[0]))
        address = f"/fhir/{counts[0]['subject']['reference']}/$assess-eligibility"
        over = judged(clients["by GET"].get(address))
        counts[0]["valueQuantity"]["value"] = 70
        client.put(f"/Observation/{counts[0]['id']}", content=encoded(counts[0]))
    assert kept.status_code == httpx.codes.OK
    assert over[0]["criteria"]["platelets-depressed"] == "not-met"
    at_limit = judged(clients["by GET"].get(address))
    assert at_limit[0]["criteria"]["platelets-depressed"] == "met"


def test_a_patient_who_is_not_there_or_no_more(hapi: str, clients: dict[str, Client]) -> None:
    client = clients["by GET"]
    httpx.put(f"{hapi}/Patient/gone", json={"resourceType": "Patient", "id": "gone"}, timeout=60)
    assert client.get("/fhir/Patient/gone/$assess-eligibility").status_code == 422
    httpx.delete(f"{hapi}/Patient/gone", timeout=60)
    assert httpx.get(f"{hapi}/Patient/gone", timeout=60).status_code == httpx.codes.GONE
    assert client.get("/fhir/Patient/gone/$assess-eligibility").status_code == 404
    assert client.get("/fhir/Patient/never/$assess-eligibility").status_code == 404


@pytest.mark.parametrize("name", ["contained-results", "report-lends"])
def test_results_that_no_search_finds_are_not_judged(
    name: str, clients: dict[str, Client], stored: Patients
) -> None:
    (patient,) = stored[name]
    answer = clients["by GET"].get(f"/fhir/{patient}/$assess-eligibility")
    assert answer.status_code == 422
