"""Calls that cannot be answered, over HTTP: each is refused with what is wrong, never a 500."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cds_calls import (
    ANC,
    ELIGIBILITY,
    ELIGIBLE,
    HOOK_INSTANCE,
    NEEDED,
    PLATELETS,
    RESPONSE,
    Json,
    call,
    cards_of,
    result,
    searchset,
    without,
)

Outcome = Callable[[httpx.Response], Json]
SERVER = "https://ehr.example.org/fhir"
TOKEN = {
    "access_token": "opaque",
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "user/Observation.rs",
    "subject": "maa-assess",
}


def refused(http: httpx.Client, outcome_of: Outcome, sent: Any, status: int, path: str = "") -> str:
    """The text of the refusal, which is an OperationOutcome of that status."""
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    headers = {"content-type": "application/json"}
    answer = http.post(path or ELIGIBILITY, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    issues = outcome_of(answer)["issue"]
    return "; ".join(i["diagnostics"] + " " + " ".join(i.get("expression", [])) for i in issues)


def test_an_unknown_service_is_not_found(http: httpx.Client, outcome_of: Outcome) -> None:
    told = refused(http, outcome_of, ELIGIBLE, 404, "/cds-services/maa-nothing")
    assert "maa-eligibility, maa-response" in told
    assert http.post("/cds-services/none/feedback", json={"feedback": []}).status_code == 404


@pytest.mark.parametrize("hook", ["order-sign", "encounter-start", "fancy-structure", ""])
def test_another_hook_is_refused_whatever_its_context(
    http: httpx.Client, outcome_of: Outcome, hook: str
) -> None:
    sent = {"hook": hook, "hookInstance": "x", "context": {"list": [{"id": {"value": 1}}]}}
    assert "answers the hook 'patient-view'" in refused(http, outcome_of, sent, 400)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "Not JSON"),
        (b"{", "Not JSON"),
        (b"[]", "Expected `object`"),
        (b'{"hook": 1}', "hook"),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"hook": "\xff"}', "Not JSON"),
        (without(ELIGIBLE, "hook"), "missing required field `hook`"),
        (without(ELIGIBLE, "context"), "missing required field `context`"),
        (without(ELIGIBLE, "hookInstance"), "missing required field `hookInstance`"),
        (without(ELIGIBLE, "context", "patientId"), "missing required field `patientId`"),
        (without(ELIGIBLE, "context", "userId"), "missing required field `userId`"),
        (call(hookInstance="1"), "'hookInstance' is a UUID"),
        (call(hookInstance=HOOK_INSTANCE + "\n"), "'hookInstance' is a UUID"),
        (call(context=[]), "context"),
        (call(patient="Patient/1"), "'patientId' is the id of a Patient alone"),
        (call(patient="1&_include=*"), "'patientId'"),
        (call(context={"patientId": "1", "userId": "me"}), "'userId'"),
        (call(prefetch=[]), "prefetch"),
        (call(prefetch={"patient": "P1"}), "prefetch.patient"),
        (call(prefetch={"patient": [1]}), "prefetch.patient"),
        (call(prefetch={"patient": {}}), "prefetch.patient"),
        (call(fhirServer="ehr"), "'fhirServer' is an absolute"),
        (call(fhirServer="file:///etc/passwd"), "'fhirServer' is an absolute"),
        (call(fhirServer="http://["), "'fhirServer' is an absolute"),
        (call(fhirAuthorization=TOKEN), "comes with the 'fhirServer'"),
        (call(fhirServer=SERVER, fhirAuthorization="Bearer x"), "fhirAuthorization"),
        (call(fhirServer=SERVER, fhirAuthorization=without(TOKEN, "scope")), "`scope`"),
        (
            call(fhirServer=SERVER, fhirAuthorization=TOKEN | {"token_type": "mac"}),
            "'token_type' is Bearer",
        ),
        (
            call(fhirServer=SERVER, fhirAuthorization=TOKEN | {"access_token": "a\r\nX: b"}),
            "'access_token' is",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_call_is_refused_with_its_fault(
    http: httpx.Client, outcome_of: Outcome, sent: Any, said: str
) -> None:
    assert said in refused(http, outcome_of, sent, 400)


def test_a_refusal_repeats_no_value(http: httpx.Client, outcome_of: Outcome) -> None:
    secret = "Jane-Doe-1970"
    for sent in (
        call(hookInstance=secret),
        call(context={"patientId": secret + "/", "userId": secret}),
        call(prefetch={"patient": secret}),
        call(prefetch={"patient": {"resourceType": [secret]}}),
    ):
        assert secret not in refused(http, outcome_of, sent, 400)


def test_a_body_that_is_not_json_or_too_long_is_refused(
    http: httpx.Client, outcome_of: Outcome
) -> None:
    answer = http.post(ELIGIBILITY, content=b"a=b", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    sent = call(*[result(ANC, 0.9) | {"note": [{"text": "x" * 20_000_000}]}])
    assert "larger than" in refused(http, outcome_of, sent, 413)


@pytest.mark.parametrize("path", [ELIGIBILITY, RESPONSE])
@pytest.mark.parametrize(
    "others",
    [
        [result(ANC, 0.9, patient="p2")],
        [{"resourceType": "Patient", "id": "p2"}],
        [result(ANC, 0.9), result(PLATELETS, 41, patient="p2")],
        [result("4548-4", 5.4, unit="%", patient="p2")],
        [
            result(ANC, 0.9),
            {
                "resourceType": "Procedure",
                "status": "completed",
                "subject": {"reference": f"{SERVER}/Patient/p2"},
            },
        ],
    ],
    ids=["all", "patient", "one", "another test", "procedure"],
)
def test_data_of_another_patient_are_refused_and_nothing_is_assessed(
    http: httpx.Client, outcome_of: Outcome, others: Any, path: str
) -> None:
    sent = call(*others, weight=True)
    for one in others:
        if one["resourceType"] == "Procedure":
            sent["prefetch"]["transfusions"] = searchset(one)
        if one["code"]["coding"][0]["code"] == "4548-4" if "code" in one else False:
            sent["prefetch"]["panels"] = searchset(one)
    assert "another patient" in refused(http, outcome_of, sent, 422, path)


def test_the_patients_own_data_are_known_under_every_name(http: httpx.Client) -> None:
    person = {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": "urn:mrn", "value": "77"}],
    }
    absolute = result(ANC, 0.9) | {"subject": {"reference": f"{SERVER}/Patient/p1"}}
    logical = result(PLATELETS, 41) | {
        "subject": {"identifier": {"system": "urn:mrn", "value": "77"}}
    }
    (card,) = cards_of(http, call(person, absolute, logical))
    assert card["summary"].startswith("Counts meet")
    # A search by patient needs no subject to tell whose results it found.
    nameless = [without(result(ANC, 0.9), "subject"), without(result(PLATELETS, 41), "subject")]
    assert len(cards_of(http, call({"resourceType": "Patient"}, *nameless))) == 1


# What was not sent


def test_every_key_that_is_missing_is_named(http: httpx.Client, outcome_of: Outcome) -> None:
    for sent in (without(ELIGIBLE, "prefetch"), call(prefetch={}), call(prefetch={"other": None})):
        told = refused(http, outcome_of, sent, 412)
        assert all(f"'{key}' was not sent" in told for key in NEEDED)
        assert "no 'fhirServer' in the request" in told
    told = refused(http, outcome_of, without(ELIGIBLE, "prefetch", "drugs"), 412)
    assert "'drugs' was not sent" in told
    assert "'patient'" not in told


def test_an_operation_outcome_in_a_slot_is_no_data(http: httpx.Client, outcome_of: Outcome) -> None:
    sent = call(result(ANC, 0.9))
    sent["prefetch"]["platelets"] = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "timeout"}],
    }
    told = refused(http, outcome_of, sent, 412)
    assert "'platelets' could not be had by the client" in told
    assert "'neutrophils'" not in told


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"fhirServer": SERVER}, "no 'fhirAuthorization' for the 'fhirServer'"),
        ({"fhirServer": SERVER, "fhirAuthorization": None}, "no 'fhirAuthorization'"),
        ({"fhirServer": SERVER, "fhirAuthorization": TOKEN}, "not one that this service is set up"),
    ],
)
def test_a_server_without_token_or_not_on_the_list_is_not_read(
    http: httpx.Client, outcome_of: Outcome, more: Json, why: str
) -> None:
    sent = without(ELIGIBLE, "prefetch", "platelets") | more
    assert why in refused(http, outcome_of, sent, 412)
    # With everything sent along nothing needs to be read.
    assert http.post(ELIGIBILITY, json=ELIGIBLE | more).status_code == 200


# Calls in the manner of other services' clients


OTHERS: dict[str, tuple[Json, int]] = {
    "another service's keys": (
        call(
            prefetch={
                "Patient": {"resourceType": "Patient", "id": "1"},
                "Condition": searchset(),
                "Observation": searchset(
                    result("TEST", 4.0, unit="%", patient="1")
                    | {"code": {"coding": [{"system": "http://example.org", "code": "TEST"}]}}
                ),
            },
            fhirServer="http://test:9080",
            fhirAuthorization=TOKEN,
        ),
        412,
    ),
    "null for keys that are not ours": (call(prefetch={"Condition": None}), 412),
    "another hook with a draft order": (
        {
            "hook": "order-sign",
            "hookInstance": "fa1c9c0a-a56d-11ec-a3bb-460231621f93",
            "fhirServer": "http://example.org/fhir",
            "fhirAuthorization": TOKEN | {"patient": "123"},
            "context": {
                "userId": "Practitioner/ABC",
                "patientId": "123",
                "draftOrders": {"resourceType": "Bundle", "entry": []},
            },
        },
        400,
    ),
    "an extension and unknown elements": (
        call(extension={"com.example": {"a": 1}}, somethingNew=[1, {"b": None}]),
        200,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_calls_made_for_other_services_get_a_clear_answer(http: httpx.Client, name: str) -> None:
    sent, status = OTHERS[name]
    answer = http.post(ELIGIBILITY, json=sent)
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == {"cards": []}


def test_a_malformed_resource_does_not_stop_the_others(http: httpx.Client) -> None:
    broken = result(PLATELETS, 41) | {"status": 7, "id": "broken"}
    (card,) = cards_of(http, call(result(ANC, 0.9), result(PLATELETS, 41), broken))
    assert card["summary"].startswith("Counts meet")


def test_the_log_has_the_hook_instance_and_nothing_of_the_patient(
    http: httpx.Client, server_log: Path
) -> None:
    instance = "0b7c0ffe-0000-4000-8000-00000badcafe"
    sent = call(result(ANC, 0.9, patient="very-secret"), patient="very-secret")
    http.post(ELIGIBILITY, json=sent | {"hookInstance": instance})
    http.post(ELIGIBILITY, json=without(sent, "prefetch") | {"hookInstance": instance})
    log = server_log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if instance in line]
    assert {line["service"] for line in lines} == {"maa-eligibility"}
    assert [line["said"] for line in lines] == ["cards 1", "refused 412"]
    assert "very-secret" not in log
