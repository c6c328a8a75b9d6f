"""From a patient's data to the cards of a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any

from app import operations
from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.cds_hooks.calls import Call
from app.cds_hooks.cards import Setting, eligibility_card, response_card
from app.cds_hooks.discovery import Service
from app.cds_hooks.prefetch import Gathered
from app.domain.counts import Remark
from app.fhir.json import Json
from app.fhir.outcome import Fault, RequestError
from app.operations import AnyAssessment, Judged
from app.reading.courses import OthersDataError
from app.requests import read_question
from app.settings import Settings

_CARDS: Mapping[str, Callable[[Any, Sequence[Remark], Setting], Json | None]] = MappingProxyType(
    {ASSESS_ELIGIBILITY: eligibility_card, ASSESS_RESPONSE: response_card}
)


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
    query = [("subject", f"Patient/{patient_id}")]
    question = read_question(query, service.operation, settings.window_days, service.code_map)
    setting = Setting(
        call,
        address,
        gathered,
        settings.cds_silent_when_normal,
        settings.may_launch(call.fhirServer),
        settings.cds_silent_when_not_met,
        settings.cds_silent_when_explained,
    )
    try:
        judged = operations.judged(question, gathered.data, normal_ranges=True, of_one_patient=True)
    except OthersDataError:
        text = "Data of another patient than 'context.patientId' were sent: nothing was assessed."
        raise RequestError(422, Fault("business-rule", text, "prefetch")) from None
    except RequestError as error:
        if error.status != 422:
            raise
        # No result to assess is a fault of a request to assess, but not of a chart.
        return {"cards": []}
    cards = (
        _CARDS[service.operation](one, _remarks(judged, one), setting)
        for one in judged.assessments
        if _current(one, settings, today)
    )
    return {"cards": [card for card in cards if card]}


def _current(found: AnyAssessment, settings: Settings, today: date) -> bool:
    """Whether the newest count judged is of these days: an old chart needs no card on opening."""
    within = settings.cds_newest_within_days
    newest = max((count.when.last for count in found.counts), default=date.min)
    return not within or (today - newest).days <= within


def _remarks(judged: Judged, found: AnyAssessment) -> Sequence[Remark]:
    """What was remarked in reading this patient's data, and data of nobody."""
    return [*judged.reading.remarks, *judged.remarks(found.patient)]
