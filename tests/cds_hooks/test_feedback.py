"""Feedback: checked, counted by kind of card and outcome, and harmless when it is repeated."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cds_calls import ANC, ELIGIBILITY, OPEN, PLATELETS, Json, call, cards_of, require_valid, result

FEEDBACK = f"{ELIGIBILITY}/feedback"
CARD = "4e0a3a1e-3283-4575-ab82-028d55fe27ff"
OVERRIDDEN = {"card": CARD, "outcome": "overridden", "outcomeTimestamp": "2024-03-05T09:30:00Z"}
Outcome = Callable[[httpx.Response], Json]


def counted(http: httpx.Client, card: str, outcome: str) -> float:
    """The metric's value."""
    labels = f'{{card="{card}",outcome="{outcome}",service="maa-eligibility"}}'
    found = re.search(
        rf"^maa_cds_feedback_total{re.escape(labels)} (\S+)$", http.get("/metrics").text, re.M
    )
    return float(found[1]) if found else 0


def send(http: httpx.Client, *feedback: Any) -> httpx.Response:
    return http.post(FEEDBACK, json={"feedback": list(feedback)})


def test_an_accepted_suggestion_is_counted_once_however_often_it_is_sent(
    http: httpx.Client,
) -> None:
    (card,) = cards_of(http, OPEN)
    accepted = {
        "card": card["uuid"],
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": card["suggestions"][0]["uuid"]}],
        "outcomeTimestamp": "2024-03-05T09:30:00.123Z",
    }
    require_valid("feedback", {"feedback": [accepted]})
    before = counted(http, "indeterminate", "accepted")
    for _ in range(2):
        assert send(http, accepted, accepted).json() == {"received": 2}
    assert counted(http, "indeterminate", "accepted") == before + 1
    send(http, accepted | {"outcomeTimestamp": "2024-03-05T09:31:00Z"})
    assert counted(http, "indeterminate", "accepted") == before + 2


def test_a_dismissed_card_is_counted_by_its_kind_and_its_reason_logged(
    http: httpx.Client, server_log: Path
) -> None:
    (card,) = cards_of(http, call(result(ANC, 0.3), result(PLATELETS, 12)))
    reason = {key: card["overrideReasons"][1][key] for key in ("system", "code")}
    overridden = OVERRIDDEN | {
        "card": card["uuid"],
        "overrideReason": {"reason": reason, "userComment": "Mrs. Secret has copper deficiency"},
    }
    require_valid("feedback", {"feedback": [overridden]})
    before = counted(http, "severe", "overridden")
    send(http, overridden)
    assert counted(http, "severe", "overridden") == before + 1
    log = server_log.read_text()
    told = '"service":"maa-eligibility","card":"severe","outcome":"overridden"'
    assert f'"message":"feedback",{told},"reason":"other-cause"' in log
    assert "Secret" not in log


def test_cards_and_reasons_of_others_make_no_labels_of_their_own(
    http: httpx.Client, server_log: Path
) -> None:
    before = counted(http, "unknown", "overridden")
    named = {"reason": {"code": "Mr-Hidden", "system": "https://example.org"}}
    assert send(http, OVERRIDDEN | {"overrideReason": named}).status_code == 200
    assert counted(http, "unknown", "overridden") == before + 1
    assert "Hidden" not in server_log.read_text() + http.get("/metrics").text


@pytest.mark.parametrize(
    ("feedback", "place"),
    [
        (OVERRIDDEN | {"card": "1"}, "feedback[0].card"),
        (OVERRIDDEN | {"outcome": "ignored"}, "feedback[0].outcome"),
        (OVERRIDDEN | {"outcome": "accepted"}, "feedback[0].acceptedSuggestions"),
        (
            OVERRIDDEN | {"outcome": "accepted", "acceptedSuggestions": [{"id": "1"}]},
            "feedback[0].acceptedSuggestions",
        ),
        (OVERRIDDEN | {"outcomeTimestamp": "yesterday"}, "feedback[0].outcomeTimestamp"),
        (OVERRIDDEN | {"outcomeTimestamp": "2024-03-05"}, "feedback[0].outcomeTimestamp"),
        (OVERRIDDEN | {"overrideReason": {}}, "feedback[0].overrideReason"),
        ({"card": CARD, "outcome": "overridden"}, "feedback[0]"),
        ("text", "feedback[0]"),
    ],
)
def test_malformed_feedback_is_refused_with_its_place(
    http: httpx.Client, outcome_of: Outcome, feedback: Any, place: str
) -> None:
    answer = send(http, feedback)
    assert answer.status_code == 400
    assert outcome_of(answer)["issue"][0]["expression"] == [place]


def test_a_body_without_feedback_or_with_too_much_is_refused(http: httpx.Client) -> None:
    assert http.post(FEEDBACK, json={}).status_code == 400
    assert http.post(FEEDBACK, json={"feedback": {}}).status_code == 400
    assert send(http, *[OVERRIDDEN] * 101).status_code == 413
    assert send(http).json() == {"received": 0}
