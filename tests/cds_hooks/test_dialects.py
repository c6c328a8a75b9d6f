"""Calls as clients of the 3.0 ballot, Epic and Medplum make them: all get what 2.0.1 says."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import httpx
from cds_calls import (
    ELIGIBILITY,
    ELIGIBLE,
    OPEN,
    RESPONSE,
    Json,
    cards_of,
    key_of,
    require_valid,
    searchset,
)

OF_3 = {"actionSelectionBehavior"}
"""Elements of answers that 2.0.1 does not know."""


def names_in(value: Any) -> set[str]:
    """The names of all elements, FHIR resources apart."""
    if isinstance(value, list):
        return set().union(*map(names_in, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    inner = (names_in(one) for name, one in value.items() if name != "resource")
    return set(value).union(*inner)


def test_what_a_client_of_the_3_0_ballot_sends_changes_nothing(http: httpx.Client) -> None:
    """Nothing in a request tells which version it is of: both get the same bytes."""
    for sent in (ELIGIBLE, OPEN):
        newer = copy.deepcopy(sent)
        newer["context"] |= {"userId": "PractitionerRole/e-QokEGUJIzyynNdkCFrs9w3"}
        newer |= {
            "fhirServer": "https://ehr.example.org/r4",
            "fhirAuthorization": {
                "access_token": "opaque",
                "token_type": "Bearer",
                "expires_in": 300,
                # SMART App Launch 2 in place of 1.
                "scope": "patient/Observation.rs?category=laboratory patient/Patient.r",
                "subject": "maa-assess",
                "patient": sent["context"]["patientId"],
                "extension": {"com.example.level": 1},
            },
            "extension": {"com.example.timestamp": "2026-11-27T22:13:25Z"},
        }
        newer["context"]["extension"] = {"com.example.specialty": "hematology"}
        # Keys of 3.0's templates that build on others come as any other's.
        newer["prefetch"]["practitionerRoles"] = searchset()
        require_valid("request", newer)
        answer = http.post(ELIGIBILITY, json=newer)
        assert answer.content == http.post(ELIGIBILITY, json=sent).content
        assert len(answer.json()["cards"]) == 1
        assert not names_in(answer.json()) & OF_3


def test_discovery_asks_nothing_that_a_2_0_client_could_not_fill_in(http: httpx.Client) -> None:
    body = http.get("/cds-services").json()
    assert {one["version"] for one in body["services"]} == {"STU2"}
    for service in body["services"]:
        tokens = set(re.findall(r"{{.*?}}", " ".join(service["prefetch"].values())))
        # Neither today() nor FHIRPath, nor the name of another query.
        assert tokens == {"{{context.patientId}}"}
        assert len({one["id"] for one in body["services"]}) == len(body["services"])


def of_medplum(service: Json, chart: list[Json], patient: str) -> Json:
    """A call as Medplum's `buildCdsRequest` makes it of what discovery says.

    Every key is there, null where nothing is found or a token is not known; no FHIR server.
    """
    prefetch: Json = {}
    context = {"userId": "Practitioner/7f2b8a0e", "patientId": patient}
    for key, template in service["prefetch"].items():
        query = template.replace("{{context.patientId}}", patient)
        found = [one for one in chart if key_of(one) == key]
        if "{{" in query:
            prefetch[key] = None
        elif re.fullmatch(r"(\w+)/([0-9a-zA-Z-_]+)", query):
            prefetch[key] = found[0] if found else None
        else:
            self_link = {"relation": "self", "url": f"https://api.medplum.com/fhir/R4/{query}"}
            prefetch[key] = searchset(*found) | {"total": len(found), "link": [self_link]}
            if not found:
                del prefetch[key]["entry"]
    return {
        "hook": service["hook"],
        "hookInstance": "0c9c2f0e-7f3a-4a55-9b0f-2f4f5d2f8a11",
        "context": context,
        "prefetch": prefetch,
    }


def chart_of(sent: Json) -> list[Json]:
    found = [one for one in sent["prefetch"].values() if one]
    return [entry["resource"] for bundle in found for entry in bundle["entry"]]


def test_medplums_calls_are_answered_with_every_key_there(http: httpx.Client) -> None:
    services = {one["id"]: one for one in http.get("/cds-services").json()["services"]}
    (card,) = cards_of(http, of_medplum(services["maa-eligibility"], chart_of(ELIGIBLE), "p1"))
    assert card["summary"].startswith("Counts meet")
    (card,) = cards_of(http, of_medplum(services["maa-eligibility"], chart_of(OPEN), "p1"))
    # Medplum's type of a suggestion has no suggestion without actions.
    assert all(one["actions"] for one in card["suggestions"])


def test_medplums_keys_left_empty_are_no_data_and_no_fault(http: httpx.Client) -> None:
    services = {one["id"]: one for one in http.get("/cds-services").json()["services"]}
    for service, address in (("maa-eligibility", ELIGIBILITY), ("maa-response", RESPONSE)):
        sent = of_medplum(services[service], [], "p1")
        assert sent["prefetch"]["patient"] is None
        assert cards_of(http, sent, address) == []
        sent["prefetch"] = dict.fromkeys(sent["prefetch"])
        assert cards_of(http, sent, address) == []


def test_epics_extension_and_its_user_are_passed_over(http: httpx.Client) -> None:
    extension = {
        "com.epic.cdshooks.request.bpa-trigger-action": "18",
        "com.epic.cdshooks.request.cds-hooks-specification-version": "1.0",
        "com.epic.cdshooks.request.fhir-version": "R4",
        "com.epic.cdshooks.request.criteria-id": "2852",
        "internal.epic.cdshooks.request.epic-emp-id": "17805",
    }
    sent = OPEN | {"extension": extension}
    sent["context"] = sent["context"] | {"userId": "PractitionerRole/e-QokEGUJIzyynNdkCFrs9w3"}
    (card,) = cards_of(http, sent)
    # All that Epic shows of a card: one choice of suggestions, one action of each, a plain code.
    assert card["selectionBehavior"] == "any"
    assert {len(one["actions"]) for one in card["suggestions"]} == {1}
    assert card["source"]["topic"]["code"].isalnum()
    assert all(one["display"] and one["system"] for one in card["overrideReasons"])


def test_epics_feedback_is_read_by_its_own_names(http: httpx.Client, server_log: Path) -> None:
    (card,) = cards_of(http, OPEN)
    reason = card["overrideReasons"][0]
    of_epic = "com.epic.cdshooks.feedback.overrideReason"
    own = {f"{of_epic}.reasonCategory": "45", f"{of_epic}.reasonTitle": "Does not meet criteria"}
    said = []
    for minute, why in enumerate(
        (
            {"reason": reason, "userComment": "User Entered Free Text"},
            {"extension": own, "userComment": "User Entered Free Text"},
            {"extension": own},
        )
    ):
        feedback = {
            "card": card["uuid"],
            "outcome": "overridden",
            "outcomeTimestamp": f"2022-05-19T19:{minute:02}:04Z",
            "overrideReasons": why,
        }
        answer = http.post(f"{ELIGIBILITY}/feedback", json={"feedback": [feedback]})
        assert answer.status_code == 200, answer.text
        line = [one for one in server_log.read_text().splitlines() if "feedback" in one][-2:]
        said += [name for name in (reason["code"], "other") if any(name in one for one in line)]
        assert "User Entered" not in server_log.read_text()
    assert said == [reason["code"], "other", "other"]


def test_feedback_of_the_3_0_ballot_is_read(http: httpx.Client) -> None:
    """Its reasons may be HL7's own; an instant may have an offset."""
    feedback = {
        "card": "4e0a3a1e-3283-4575-ab82-028d55fe27ff",
        "outcome": "overridden",
        "outcomeTimestamp": "2026-11-26T19:44:04.123+01:00",
        "overrideReason": {
            "reason": {
                "system": "http://cds-hooks.hl7.org/CodeSystem/non-adherence-reason-codes",
                "code": "patient-declined",
            },
            "extension": {"com.example": 1},
        },
        "extension": {"com.example": 1},
    }
    answer = http.post(f"{ELIGIBILITY}/feedback", json={"feedback": [feedback]})
    assert answer.json() == {"received": 1}
