"""From a patient's data to the cards of a service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from app import operations
from app.cds_hooks.calls import Call
from app.cds_hooks.cards import Setting, eligibility_card, response_card
from app.cds_hooks.discovery import Service
from app.cds_hooks.prefetch import Gathered
from app.domain.assessment import Assessment
from app.domain.counts import Remark
from app.domain.response import ResponseAssessment
from app.fhir.json import Json
from app.fhir.outcome import RequestError
from app.reading.courses import Reading
from app.settings import Settings


def answer(
    service: Service,
    call: Call,
    gathered: Gathered,
    settings: Settings,
    address: str,
    today: date,
) -> Json:
    """What a call is answered: the cards, or none where there is nothing to say.

    `address` is where this service is reached; of counts that are old `today` nothing is said.
    RequestError 422 for another patient's data.
    """
    patient_id = call.context.patientId
    body = gathered.bundle(patient_id)
    query = [("subject", f"Patient/{patient_id}")]
    setting = Setting(call, address, gathered)
    cards: list[Json | None] = []
    try:
        if service.whole_course:
            _, reading, responses = operations.assess_responses(
                body, query, settings.window_days, code_map=service.code_map
            )
            cards += (
                response_card(one, _remarks(reading, one), setting)
                for one in responses
                if _current(one, settings, today)
            )
        else:
            _, reading, found = operations.assess(
                body, query, settings.window_days, normal_ranges=True, code_map=service.code_map
            )
            silent = settings.cds_silent_when_normal
            cards += (
                eligibility_card(one, _remarks(reading, one), silent, setting)
                for one in found
                if _current(one, settings, today)
            )
    except RequestError as error:
        if error.status != 422:
            raise
        # No result to assess is a fault of a request to assess, but not of a chart.
    return {"cards": [card for card in cards if card]}


def _current(found: Assessment | ResponseAssessment, settings: Settings, today: date) -> bool:
    """Whether the newest count judged is of these days: an old chart needs no card on opening."""
    within = settings.cds_newest_within_days
    newest = max((count.when.last for count in found.counts), default=date.min)
    return not within or (today - newest).days <= within


def _remarks(reading: Reading, found: Assessment | ResponseAssessment) -> Sequence[Remark]:
    """What was remarked in reading this patient's data, and data of nobody."""
    own = (c.remarks for c in reading.courses if c.patient == found.patient)
    return [*reading.remarks, *(remark for remarks in own for remark in remarks)]
