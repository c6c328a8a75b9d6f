"""What users did with cards: checked, counted by the type of card and outcome, not kept."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter

from app.cds_hooks.calls import UUID, decode
from app.cds_hooks.cards import OVERRIDE_SYSTEM, card_type
from app.cds_hooks.discovery import Service
from app.cds_hooks.remembered import InMemory, Remembered
from app.fhir.outcome import Fault, RequestError
from app.fhir.times import when
from app.logs import tell
from app.publishing.terminology import OVERRIDE_REASONS

_OUTCOMES = ("accepted", "overridden")
_AT_ONCE = 100
_REMEMBERED = 10_000
_REMEMBERED_SECONDS = 7 * 86_400


class Coding(msgspec.Struct):
    """A coded reason."""

    code: str
    system: str | None = None


class AcceptedSuggestion(msgspec.Struct):
    """The uuid of a suggestion that was taken."""

    id: str


class OverrideReason(msgspec.Struct):
    """Why a card was dismissed; the comment is neither kept nor logged."""

    reason: Coding | None = None
    userComment: str | None = None
    extension: dict[str, Any] | None = None
    """Where Epic names a reason that is its own; not read."""


class Feedback(msgspec.Struct):
    """What a user did with one card."""

    card: str
    outcome: str
    outcomeTimestamp: str
    acceptedSuggestions: tuple[AcceptedSuggestion, ...] = ()
    overrideReason: OverrideReason | None = None
    overrideReasons: OverrideReason | None = None
    """What Epic calls it."""

    @property
    def why(self) -> OverrideReason | None:
        """Why the card was dismissed, by whichever name."""
        return self.overrideReason or self.overrideReasons


class _Body(msgspec.Struct):
    feedback: tuple[Feedback, ...]


def read_feedback(body: bytes) -> tuple[Feedback, ...]:
    """The feedback sent; RequestError 400 names everything that is wrong, 413 too much of it."""
    given = decode(body, _Body).feedback
    if len(given) > _AT_ONCE:
        text = f"At most {_AT_ONCE} feedbacks at a time."
        raise RequestError(413, Fault("too-long", text, "feedback"))
    faults = [fault for index, one in enumerate(given) for fault in _faults(one, index)]
    if faults:
        raise RequestError(400, *faults)
    return given


def _faults(one: Feedback, index: int) -> Iterator[Fault]:
    place = f"feedback[{index}]"
    if not UUID.fullmatch(one.card):
        yield Fault("value", "'card' is the uuid of a card.", f"{place}.card")
    if one.outcome not in _OUTCOMES:
        yield Fault("value", f"'outcome' is one of {', '.join(_OUTCOMES)}.", f"{place}.outcome")
    moment = when(one.outcomeTimestamp)
    if moment is None or moment.instant is None:
        text = "'outcomeTimestamp' is an instant such as 2024-03-05T09:30:00Z."
        yield Fault("value", text, f"{place}.outcomeTimestamp")
    if one.outcome == "accepted" and not one.acceptedSuggestions:
        text = "'acceptedSuggestions' names what was accepted."
        yield Fault("required", text, f"{place}.acceptedSuggestions")
    if not all(UUID.fullmatch(suggestion.id) for suggestion in one.acceptedSuggestions):
        text = "'id' is the uuid of a suggestion."
        yield Fault("value", text, f"{place}.acceptedSuggestions")
    why = one.why
    if why is not None and not (why.reason or why.userComment or why.extension):
        text = "'overrideReason' has a 'reason', a 'userComment', or both."
        yield Fault("required", text, f"{place}.overrideReason")


class FeedbackCounter:
    """Counts feedback, each only once as long as it is remembered."""

    def __init__(self, registry: CollectorRegistry, seen: Remembered | None = None) -> None:
        self._counter = Counter(
            "maa_cds_feedback",
            "What users did with cards.",
            ("service", "card", "outcome"),
            registry=registry,
        )
        self._seen = seen or InMemory(_REMEMBERED)

    async def count(self, service: Service, given: tuple[Feedback, ...]) -> None:
        """Count and log what is new; neither a comment nor a patient is in it."""
        for one in given:
            key = (service.id, one.card.lower(), one.outcome, one.outcomeTimestamp[:40])
            name = hashlib.sha256(msgspec.json.encode(key)).digest()
            if not await self._seen.is_new(name, time.time() + _REMEMBERED_SECONDS):
                continue
            kind = card_type(one.card)
            self._counter.labels(service.id, kind, one.outcome).inc()
            fields = {
                "service": service.id,
                "card": kind,
                "outcome": one.outcome,
                "reason": _reason(one),
            }
            tell(logging.INFO, "feedback", fields)


def _reason(one: Feedback) -> str:
    """The code of a reason that is ours; what others send may say anything."""
    if one.why is None:
        return "none"
    reason = one.why.reason
    if reason is None:
        return "other" if one.why.extension else "none"
    ours = reason.system == OVERRIDE_SYSTEM and reason.code in OVERRIDE_REASONS
    return reason.code if ours else "other"
