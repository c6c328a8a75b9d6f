"""The cards: what a clinician reads, and when there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cds_calls import (
    ANC,
    ELIGIBILITY,
    ELIGIBLE,
    HEMOGLOBIN,
    HOOK_INSTANCE,
    OPEN,
    PLATELETS,
    RESPONSE,
    RETICULOCYTES,
    call,
    cards_of,
    daclizumab,
    result,
    searchset,
)
from fhir.resources.R4B.servicerequest import ServiceRequest
from pydantic import ValidationError

from app.settings import Settings
from tests.conftest import serving
from tests.test_ehr import Client, calling

WOMAN = {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1980-01-01"}


def test_two_low_lineages_are_said_in_one_short_sentence(http: httpx.Client) -> None:
    (card,) = cards_of(http, ELIGIBLE)
    assert card["summary"] == (
        "Counts meet the 2003 NIH mAA criteria (2 of 3): ANC 0.9, platelets 41 (2024-03-05)"
    )
    assert card["indicator"] == "info"
    assert "suggestions" not in card
    assert "| Neutrophils depressed | met | ANC 0.9 x10⁹/L | 2024-03-05 |" in card["detail"]
    assert "hypocellular bone marrow" in card["detail"]
    assert "a decision aid, not a diagnosis" in card["detail"]
    assert card["source"]["url"] == "https://doi.org/10.1182/blood-2003-04-1032"


def test_the_link_is_absolute_and_opens(http: httpx.Client) -> None:
    (card,) = cards_of(http, ELIGIBLE)
    words, fhir = (link["url"] for link in card["links"])
    assert words.startswith(str(http.base_url))
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = httpx.get(words, headers=browser).raise_for_status()
    assert page.headers["content-type"].startswith("text/html")
    assert "a hypocellular bone marrow" in page.text
    plan = httpx.get(fhir, headers=browser).raise_for_status().json()
    assert plan["resourceType"] == "PlanDefinition"


@pytest.mark.parametrize(
    ("server", "launched"),
    [
        (None, True),
        ("https://ehr.example.org/r4/", True),
        ("https://other.example.org/r4", False),
    ],
)
def test_a_card_leads_to_the_page_in_an_ehr_that_may_launch_it(
    tmp_path: Path, server: str | None, launched: bool
) -> None:
    settings: dict[str, Any] = {
        "MAA_SMART_ISSUERS": "https://ehr.example.org/r4",
        "MAA_SMART_CLIENT_ID": "maa",
        "MAA_PUBLIC_URL": "https://maa.example.org",
    }
    sent = ELIGIBLE | ({"fhirServer": server} if server else {})
    with serving(tmp_path / "log", **settings) as url, httpx.Client(base_url=url) as client:
        (card,) = cards_of(client, sent)
    smart = [link["url"] for link in card["links"] if link["type"] == "smart"]
    assert smart == (["https://maa.example.org/launch"] if launched else [])


@pytest.fixture(scope="module")
def outspoken() -> Iterator[Client]:
    """The service that says all there is to say, of counts of any age."""
    settings: dict[str, Any] = {
        "cds_silent_when_not_met": False,
        "cds_silent_when_explained": False,
    }
    with calling(Settings(cds_newest_within_days=0, **settings)) as client:
        yield client


def test_severe_counts_are_a_warning(http: httpx.Client) -> None:
    (card,) = cards_of(http, call(result(ANC, 0.3), result(PLATELETS, 12)))
    assert card["indicator"] == "warning"
    assert card["summary"] == (
        "Severe by counts, beyond the 2003 NIH mAA criteria: ANC 0.3, platelets 12 (2024-03-05)"
    )


def test_one_low_lineage_is_said_not_to_be_enough(outspoken: httpx.Client) -> None:
    sent = call(result(ANC, 0.9), result(PLATELETS, 150), result(HEMOGLOBIN, 13))
    (card,) = cards_of(outspoken, sent)
    assert card["summary"].startswith("Counts do not meet the 2003 NIH mAA criteria (1 of 3): ")
    assert card["indicator"] == "info"


def test_an_open_answer_suggests_the_missing_test_and_never_a_drug(http: httpx.Client) -> None:
    sent = OPEN | {"context": OPEN["context"] | {"encounterId": "e1"}}
    (card,) = cards_of(http, sent)
    assert card["summary"] == (
        "2003 NIH mAA criteria: open, missing absolute reticulocyte count: "
        "ANC 0.9, platelets 150, Hb 8.2 (2024-03-05)"
    )
    assert "**To settle it:** absolute reticulocyte count." in card["detail"]
    assert card["selectionBehavior"] == "any"
    (suggestion,) = card["suggestions"]
    order = suggestion["actions"][0]["resource"]
    ServiceRequest.model_validate(order)
    assert order["code"]["coding"][0]["code"] == RETICULOCYTES
    assert order["subject"] == {"reference": "Patient/p1"}
    assert order["encounter"] == {"reference": "Encounter/e1"}
    text = json.dumps(card)
    assert "MedicationRequest" not in text


def test_the_suggested_test_settles_the_answer(http: httpx.Client) -> None:
    settled = call(
        result(ANC, 0.9), result(PLATELETS, 150), result(HEMOGLOBIN, 8.2), result(RETICULOCYTES, 40)
    )
    (card,) = cards_of(http, settled)
    assert card["summary"] == (
        "Counts meet the 2003 NIH mAA criteria (2 of 3): ANC 0.9, Hb 8.2, ARC 40 (2024-03-05)"
    )


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [result("4548-4", 5.4, unit="%")],
        [result(ANC, 4.1), result(PLATELETS, 250), result(HEMOGLOBIN, 14.0), WOMAN],
        [result(HEMOGLOBIN, 13.9)],
        # A raised count is no sign of failing marrow, and leukocytes alone are only a bound.
        [result(ANC, 9.5), result(PLATELETS, 500), result(HEMOGLOBIN, 14.0), WOMAN],
        [result("6690-2", 6.1), result(PLATELETS, 250), result(HEMOGLOBIN, 14.0), WOMAN],
        # Reticulocytes of 55 are below the trial's limit, and normal beside a normal hemoglobin.
        [result(RETICULOCYTES, 55), result(HEMOGLOBIN, 14.0), WOMAN],
    ],
    ids=["nothing", "another test", "normal", "one normal", "raised", "no differential", "ARC 55"],
)
def test_there_is_no_card_where_there_is_nothing_to_say(http: httpx.Client, counts: Any) -> None:
    assert cards_of(http, call(*counts)) == []


@pytest.mark.parametrize(
    "counts",
    [
        [result(ANC, 1.9), result(PLATELETS, 250), result(HEMOGLOBIN, 14.0), WOMAN],
        [result("6690-2", 0.9), result(PLATELETS, 250), result(HEMOGLOBIN, 14.0), WOMAN],
        [result(RETICULOCYTES, 30)],
        # Of a hemoglobin between the women's and the men's limit nobody knows without the sex.
        [result(HEMOGLOBIN, 12.5)],
    ],
    ids=["ANC 1.9", "leukocytes 0.9", "ARC 30", "Hb 12.5"],
)
def test_what_is_low_or_may_be_is_not_passed_over(outspoken: httpx.Client, counts: Any) -> None:
    assert len(cards_of(outspoken, call(*counts))) == 1


def test_the_laboratorys_own_range_says_what_is_low(outspoken: httpx.Client) -> None:
    def ranged(low: float) -> Any:
        limits = {"low": {"value": low, "unit": "10*9/L"}, "high": {"value": 8, "unit": "10*9/L"}}
        return result(ANC, 1.7) | {"referenceRange": [limits]}

    rest = [result(PLATELETS, 250), result(HEMOGLOBIN, 14.0), WOMAN]
    assert cards_of(outspoken, call(ranged(1.5), *rest)) == []
    assert len(cards_of(outspoken, call(ranged(1.8), *rest))) == 1


def test_a_count_set_aside_is_told_with_its_reason(http: httpx.Client) -> None:
    sent = call(result(ANC, 0.9), result(PLATELETS, 41), result(HEMOGLOBIN, 83))
    (card,) = cards_of(http, sent)
    assert "**Set aside or doubted:**" in card["detail"]
    assert "- hemoglobin of 2024-03-05: Outside 2 to 25 g/dL" in card["detail"]


def test_text_of_the_chart_cannot_become_markup(http: httpx.Client) -> None:
    hostile = result(PLATELETS, 41, unit="![x](data:image/png;base64,AA)<script>|")
    (card,) = cards_of(http, call(result(ANC, 0.9), hostile))
    # Every sign that could begin markup is escaped; response.schema.json refuses the others.
    assert r"!\[x\](data:image/png;base64,AA)\<script\>\|" in card["detail"]


def test_digits_are_neither_rounded_nor_padded(outspoken: httpx.Client) -> None:
    sent = json.dumps(ELIGIBLE).replace("0.9,", "1.200000000000000001,").encode()
    answer = outspoken.post(
        "/cds-services/maa-eligibility", content=sent, headers={"content-type": "application/json"}
    )
    (card,) = answer.json()["cards"]
    assert "ANC 1.200000000000000001" in card["detail"]
    assert card["summary"].startswith("Counts do not meet the 2003 NIH mAA criteria (1 of 3)")
    per_microliter = call(result(ANC, 900, unit="/uL"), result(PLATELETS, 41))
    assert "ANC 0.9," in cards_of(outspoken, per_microliter)[0]["summary"]


def test_the_same_call_has_the_same_uuids_and_another_call_others(http: httpx.Client) -> None:
    (card,) = cards_of(http, OPEN)
    (again,) = cards_of(http, OPEN | {"hookInstance": HOOK_INSTANCE.replace("d", "e")})
    assert card["uuid"] != again["uuid"]
    assert card["suggestions"][0]["uuid"] != again["suggestions"][0]["uuid"]
    (other,) = cards_of(
        http,
        call(
            result(ANC, 0.9, patient="p2"),
            result(PLATELETS, 150, patient="p2"),
            result(HEMOGLOBIN, 8.2, patient="p2"),
            patient="p2",
        ),
    )
    assert other["uuid"] != card["uuid"]


# What a prefetched value may be


def test_a_page_in_a_bundle_and_a_single_resource_are_read(http: httpx.Client) -> None:
    sent = call()
    sent["prefetch"]["neutrophils"] = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": searchset(result(ANC, 2.5, "2024-03-01"))},
            {"resource": searchset(result(ANC, 0.9))},
        ],
    }
    sent["prefetch"]["platelets"] = result(PLATELETS, 41)
    (card,) = cards_of(http, sent)
    assert "ANC 0.9, platelets 41" in card["summary"]


def test_what_the_search_says_of_itself_is_no_result(http: httpx.Client) -> None:
    sent = call(result(ANC, 0.9), result(PLATELETS, 41))
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "warning", "code": "processing"}],
    }
    sent["prefetch"]["platelets"]["entry"].append(
        {"resource": outcome, "search": {"mode": "outcome"}}
    )
    assert cards_of(http, sent)[0]["summary"].startswith("Counts meet")


def test_the_newest_page_does_for_eligibility_and_is_said_to_be_one(http: httpx.Client) -> None:
    sent = call(result(ANC, 0.9))
    newest = [result(PLATELETS, 41), result(PLATELETS, 60, "2024-02-01")]
    sent["prefetch"]["platelets"] = searchset(*newest, next_page="https://ehr.example.org/?page=2")
    (card,) = cards_of(http, sent)
    assert "platelets 41" in card["summary"]
    assert "**Only the newest page was sent** of: platelets." in card["detail"]
    sent["prefetch"]["platelets"]["entry"].reverse()
    answer = http.post("/cds-services/maa-eligibility", json=sent)
    assert answer.status_code == httpx.codes.PRECONDITION_FAILED
    assert "'platelets' has further pages" in answer.text


# Response


def treated(*later: Any) -> Any:
    before = [result(ANC, 0.8, "2024-03-01"), result(PLATELETS, 40, "2024-03-01")]
    before.append(result(HEMOGLOBIN, 12.0, "2024-03-01"))
    return call(*before, *later, daclizumab("2024-03-06"), weight=True)


def test_a_response_tells_before_and_now_and_since_when(http: httpx.Client) -> None:
    later = [result(ANC, 2.6, "2024-06-04"), result(PLATELETS, 65, "2024-06-04")]
    later += [result(ANC, 2.9, "2024-09-10"), result(PLATELETS, 90, "2024-09-10")]
    (card,) = cards_of(http, treated(*later), RESPONSE)
    assert card["summary"] == (
        "Response by the 2003 NIH criteria: ANC 0.8 to 2.6, platelets 40 to 65 (day 90, 2024-06-04)"
    )
    assert (
        "| Neutrophil response | met: responded | ANC 0.8 x10⁹/L (2024-03-01) "
        "| ANC 2.6 x10⁹/L (2024-06-04) | ANC 2.9 x10⁹/L (2024-09-10) | +2.1 x10⁹/L |"
    ) in card["detail"]
    assert "Treatment started 2024-03-06. Responding since 2024-06-04 (day 90)." in card["detail"]
    assert card["source"]["topic"]["code"] == "response"
    assert card["indicator"] == "info"


def test_no_response_is_said(http: httpx.Client) -> None:
    later = [result(ANC, 0.7, "2024-06-04"), result(PLATELETS, 38, "2024-06-04")]
    (card,) = cards_of(http, treated(*later), RESPONSE)
    assert card["summary"].startswith("No response by the 2003 NIH criteria: ANC 0.8 to 0.7, ")


def test_without_counts_in_time_the_reason_is_said(http: httpx.Client) -> None:
    (card,) = cards_of(http, treated(), RESPONSE)
    assert card["summary"] == "Response by the 2003 NIH criteria cannot be judged"
    assert "No counts from day 60 to day 183 after the start." in card["detail"]


def test_an_open_response_suggests_the_count_that_is_missing(http: httpx.Client) -> None:
    (card,) = cards_of(http, treated(result(ANC, 0.7, "2024-06-04")), RESPONSE)
    assert "is open" in card["summary"]
    codes = {
        one["actions"][0]["resource"]["code"]["coding"][0]["code"] for one in card["suggestions"]
    }
    assert codes == {PLATELETS}


def test_a_patient_not_known_to_be_treated_has_no_response_card(http: httpx.Client) -> None:
    sent = call(result(ANC, 0.8), result(PLATELETS, 40), weight=True)
    assert cards_of(http, sent, RESPONSE) == []


def test_a_response_needs_the_whole_course(http: httpx.Client) -> None:
    sent = treated(result(ANC, 2.6, "2024-06-04"))
    sent["prefetch"]["neutrophils"]["link"] = [{"relation": "next", "url": "https://a.example/?2"}]
    answer = http.post(RESPONSE, json=sent)
    assert answer.status_code == httpx.codes.PRECONDITION_FAILED
    assert "'neutrophils' has further pages" in answer.text


# Old counts

DAY = date(2024, 3, 5)
ON_TREATMENT = call(
    *(result(code, value, "2023-11-20") for code, value in ((ANC, 0.8), (PLATELETS, 40))),
    *(result(code, value) for code, value in ((ANC, 2.6), (PLATELETS, 45))),
    daclizumab("2023-11-21"),
    weight=True,
)


@contextmanager
def at(today: date, **settings: Any) -> Iterator[Client]:
    """The service with a clock of our own."""
    with calling(Settings(**settings)) as client:
        client.app.state.cds_hooks.today = lambda: today
        yield client


@pytest.mark.parametrize(("sent", "address"), [(ELIGIBLE, ELIGIBILITY), (ON_TREATMENT, RESPONSE)])
@pytest.mark.parametrize(
    ("within", "days", "number"),
    [(90, 90, 1), (90, 91, 0), (1, 1, 1), (1, 2, 0), (0, 9000, 1), (90, -400, 1)],
)
def test_old_counts_have_no_card(
    sent: Any, address: str, within: int, days: int, number: int
) -> None:
    with at(DAY + timedelta(days=days), cds_newest_within_days=within) as client:
        assert len(cards_of(client, sent, address)) == number


def test_the_newest_count_judged_tells_and_no_other_result() -> None:
    old = call(result(ANC, 0.9), result(PLATELETS, 41), result("6690-2", 3, "2024-08-01"))
    with at(date(2024, 8, 2)) as client:
        assert cards_of(client, old) == []


def test_the_clock_is_the_servers_own() -> None:
    today = datetime.now(UTC).date().isoformat()
    new = call(result(ANC, 0.9, today), result(PLATELETS, 41, today))
    with calling(Settings()) as client:
        assert cards_of(client, ELIGIBLE) == []
        assert len(cards_of(client, new)) == 1


@pytest.mark.parametrize("days", ["-1", "36501", "ninety", "1.5"])
def test_an_age_that_is_no_number_of_days_is_no_setting(days: str) -> None:
    with pytest.raises(ValidationError, match="cds_newest_within_days"):
        Settings(cds_newest_within_days=days)


# What else stands in the chart

COUNTS = (result(ANC, 0.9), result(PLATELETS, 41))


def charted(kind: str, text: str, **elements: Any) -> Any:
    own = {"resourceType": kind, "id": text[:8].strip(), "subject": {"reference": "Patient/p1"}}
    return own | elements


def condition(text: str, clinical: str = "active") -> Any:
    status = {"coding": [{"code": clinical}]}
    return charted("Condition", text, code={"text": text}, clinicalStatus=status)


def order(text: str, day: str) -> Any:
    return charted(
        "MedicationRequest",
        text,
        status="active",
        intent="order",
        medicationCodeableConcept={"text": text},
        authoredOn=day,
    )


EXPLAINED = [condition("Acute myeloid leukemia"), order("Cyclophosphamide 50 mg", "2024-01-05")]


@pytest.mark.parametrize("record", EXPLAINED, ids=["leukemia", "chemotherapy"])
def test_what_explains_the_counts_silences_the_card_unless_a_setting_says_otherwise(
    http: httpx.Client, outspoken: httpx.Client, record: Any
) -> None:
    sent = call(*COUNTS, record)
    assert cards_of(http, sent) == []
    (card,) = cards_of(outspoken, sent)
    assert card["summary"].startswith("Counts meet the 2003 NIH mAA criteria (2 of 3); chart: ")


def test_a_leukemia_in_remission_silences_nothing(http: httpx.Client) -> None:
    assert len(cards_of(http, call(*COUNTS, condition("Acute leukemia", "remission")))) == 1


def test_the_card_leads_with_what_else_stands_in_the_chart(http: httpx.Client) -> None:
    (card,) = cards_of(http, call(*COUNTS, order("Clozapine 100 MG Oral Tablet", "2022-05-11")))
    told = "Clozapine 100 MG Oral Tablet since 2022-05-11"
    assert f"; chart: {told}" in card["summary"]
    assert card["detail"].startswith(f"**Chart:** {told}.")


def test_the_card_says_what_was_looked_for_and_not_found(http: httpx.Client) -> None:
    (card,) = cards_of(http, call(*COUNTS))
    assert card["detail"].startswith(
        "**Chart:** no other cause found in conditions and medications."
    )


def test_who_leaves_conditions_and_medications_out_is_answered(http: httpx.Client) -> None:
    sent = call(*COUNTS)
    for key in ("conditions", "medications"):
        del sent["prefetch"][key]
    (card,) = cards_of(http, sent)
    assert "other causes not looked for" in card["detail"]


def test_a_chart_that_plainly_does_not_meet_the_definition_has_no_card(http: httpx.Client) -> None:
    assert (
        cards_of(http, call(result(ANC, 0.9), result(PLATELETS, 150), result(HEMOGLOBIN, 13))) == []
    )


def test_what_is_old_is_counted_and_not_listed(http: httpx.Client) -> None:
    old = [result(HEMOGLOBIN, 13, f"20{year}-01-05") for year in range(10, 22)]
    (card,) = cards_of(http, call(*COUNTS, *old))
    assert "12 older results: " in card["detail"]
    assert "2015" not in card["detail"]
