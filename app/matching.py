"""`$match` as a function: a patient's data in, the studies whose criteria they meet out.

After CodeX Integrated Trial Matching (github.com/standardhealth/fsh-pct), with what its draft does
not have: why a study is matched or not, criterion by criterion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from app.asking import MATCH, WINDOW_DAYS, Question
from app.domain.assessment import Assessment
from app.domain.counts import Remark, Severity
from app.domain.judgement import Verdict
from app.domain.paper import Study
from app.fhir.json import Json
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError, operation_outcome
from app.operations import Judged, judged, written
from app.papers import STUDIES
from app.publishing.studies import study
from app.requests import read_request
from app.writing.answers import entry_of
from app.writing.chart import exclusion_words

_MET, _OPEN = Decimal(1), Decimal("0.5")
_NARROWING = {"phase": "phase", "zipCode": "zip_code", "travelRadius": "travel_radius"}


def match(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    window_days: int = WINDOW_DAYS,
    code_map: CodeMap | None = None,
    server: str = "",
) -> Json:
    """`$match`: a searchset of the studies that one patient's counts match, and the reasons.

    `server` is our own address, by which the studies are named. RequestError with the HTTP status
    and its faults; 422 for more than one patient.
    """
    question, data = read_request(body, query, MATCH, window_days, code_map)
    found = judged(question, data)
    if len(found.reading.courses) != 1:
        text = "One patient is matched: name the patient with 'subject'."
        raise RequestError(422, Fault("required", text))
    asked = [one for one in STUDIES if set(one.papers) & set(question.papers)]
    matched = [
        (one, score)
        for one in asked
        if _is_wanted(one, question) and (score := _score(one, found)) is not None
    ]
    address = f"{server}/fhir/ResearchStudy"
    remarks = [remark for one in asked for remark in _of_study(one, found)]
    outcome = entry_of(operation_outcome([*remarks, *_of_parameters(question)]))
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(matched),
        "link": [{"relation": "self", "url": f"{address}/$match"}],
        "entry": [
            *(_match(one, score, address) for one, score in matched),
            *_reasons([*written(found)["entry"], outcome]),
        ],
    }


def _is_wanted(one: Study, question: Question) -> bool:
    return question.recruitment_status in {None, one.status}


def _score(one: Study, found: Judged) -> Decimal | None:
    """By the arm that fits best; None where the criteria of none are, or may be, met."""
    possible = [a for a in _arms(one, found) if a.verdict is not Verdict.NOT_ELIGIBLE]
    if not possible:
        return None
    met = any(a.verdict is Verdict.ELIGIBLE and not exclusion_words(a) for a in possible)
    return _MET if met else _OPEN


def _arms(one: Study, found: Judged) -> list[Assessment]:
    return [a for a in found.assessments if a.paper in one.papers]


def _match(one: Study, score: Decimal, address: str) -> Json:
    return {
        "fullUrl": f"{address}/{one.id}",
        "resource": study(one),
        "search": {"mode": "match", "score": score},
    }


class _Kind(msgspec.Struct):
    resourceType: str  # noqa: N815 FHIR's name


_kind = msgspec.json.Decoder(_Kind).decode


def _reasons(entries: Sequence[dict[str, Any]]) -> Iterator[Json]:
    """What was judged, as $assess-eligibility tells it, and what else is to be known."""
    for entry in entries:
        kind = _kind(entry["resource"]).resourceType
        mode = "outcome" if kind == "OperationOutcome" else "include"
        # What a search finds has an id; as JSON already, its type stands first.
        start = f'{{"resourceType":"{kind}"'.encode()
        identity = f',"id":"{entry["fullUrl"].rpartition(":")[2]}"'.encode()
        named = start + identity + bytes(entry["resource"])[len(start) :]
        yield {**entry, "resource": msgspec.Raw(named), "search": {"mode": mode}}


def _of_study(one: Study, found: Judged) -> Iterator[Remark]:
    """What whoever is told of the study must know."""
    arms = _arms(one, found)
    told = ", ".join(f"{a.paper.id}: {a.verdict.value}" for a in arms)
    if not _is_wanted(one, found.question):
        text = f"{one.id} is {one.status}, which was not asked for; its criteria by counts: {told}."
        yield Remark("study-left-out", Severity.INFORMATION, text, ())
    elif _score(one, found) is None:
        text = f"{one.id} is no match: its criteria are not met by counts ({told})."
        yield Remark("study-not-matched", Severity.INFORMATION, text, ())
    for a in arms:
        if a.verdict is not Verdict.NOT_ELIGIBLE and (words := exclusion_words(a)):
            text = (
                f"{one.id} excludes what the data record: {words}. The verdict is by counts; "
                "exclusions=apply makes it no match."
            )
            yield Remark("study-excludes", Severity.WARNING, text, ())
    if not one.takes_patients:
        text = f"{one.id} takes no patients: its status is {one.status}. {one.warning}".strip()
        yield Remark("study-closed", Severity.WARNING, text, ())


def _of_parameters(question: Question) -> Iterator[Remark]:
    """The parameters of the draft that no study here is narrowed by."""
    for name, field in _NARROWING.items():
        if getattr(question, field) is not None:
            text = f"'{name}' narrows nothing: no study here tells it."
            place = f"Parameters.parameter.where(name='{name}')"
            yield Remark("not-narrowed", Severity.INFORMATION, text, (place,))
