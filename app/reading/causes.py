"""Conditions, procedures and drugs to what a chart records of other causes, each as it stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from app.domain.chart import Cause, CauseKind, Charted, Standing
from app.domain.counts import UNDATED, Remark, Severity, Source, When
from app.domain.effort import spend
from app.fhir.cause_words import Named, named_by_condition, named_by_drug, named_by_procedure
from app.fhir.resources import Concept, Condition, Medicated, MedicationRequest, Period, Procedure
from app.fhir.times import of_period, when
from app.reading.aside import SetAside, short

_ACTIVE = {"active", "recurrence", "relapse"}
_ENDED = {"inactive", "remission", "resolved"}
_NO_CAUSE = {"refuted", "entered-in-error"}
_UNSURE = {"unconfirmed", "provisional", "differential"}
_GIVEN = {"completed", "in-progress", "on-hold", "stopped", "active"}
_RUNNING = {"in-progress", "active"}
_NOT_GIVEN = {"not-done", "not-taken", "intended", "preparation", "cancelled", "draft"}
# What is only proposed or planned has not been ordered.
_NO_ORDER = {"proposal", "plan", "option"}
_LONGEST_SAID = 80
_STEPS_OF_A_RECORD = 20


class Read(NamedTuple):
    """A record that names a cause, and by what it is the same as another."""

    charted: Charted
    names: frozenset[tuple[str, str]]
    refuted: bool = False


def of_condition(condition: Condition, source: Source) -> list[Read]:
    """What a condition records of other causes; SetAside where it was entered in error."""
    named = named_by_condition(condition.code)
    spend(_STEPS_OF_A_RECORD)
    if not named:
        return []
    _refuse_modified(condition)
    status = _code(condition.verificationStatus)
    if status == "entered-in-error":
        text = "A condition that was entered in error is none."
        raise SetAside("status-excluded", text, ".verificationStatus")
    held = _held(condition)
    return [
        Read(
            _charted_condition(condition, one, held, source),
            _names(condition.code),
            status in _NO_CAUSE,
        )
        for one in named
    ]


def _charted_condition(condition: Condition, one: Named, held: _Held, source: Source) -> Charted:
    standing, doubt = _standing(condition, one, held)
    last, surely = held.last, held.surely_until
    if _is_passing(one.cause) and not held.abated:
        # The session, or the counts' fall, that a condition tells of is of its day.
        last = held.begun.last if held.begun else date.max
        surely = held.begun.first if held.begun else date.min
    elif standing is Standing.DOUBTFUL and held.abated:
        last = surely = date.max
    moment = When(held.first, last, None, held.text)
    return Charted(
        one.cause, _said(condition.code, one.cause), moment, source, standing, doubt, surely
    )


class _Held(NamedTuple):
    """Since when and until when a condition held, as far as it tells."""

    begun: When | None
    ended: When | None
    abated: bool
    """Whether it says that it has ended, be it without a day."""

    @property
    def first(self) -> date:
        return self.begun.first if self.begun else date.min

    @property
    def last(self) -> date:
        return max(self.ended.last, self.first) if self.ended else date.max

    @property
    def surely_until(self) -> date:
        return self.ended.first if self.ended else date.max

    @property
    def text(self) -> str:
        begun = self.begun.text[:10] if self.begun else ""
        return f"{begun} to {self.ended.text[:10]}" if self.ended else begun


def _held(condition: Condition) -> _Held:
    begun = _moment(condition.onsetDateTime, condition.onsetPeriod, start=True)
    if begun is None and condition.recordedDate:
        begun = when(condition.recordedDate)
    ended = _moment(condition.abatementDateTime, condition.abatementPeriod, start=False)
    otherwise = condition.abatementString or condition.abatementAge or condition.abatementRange
    return _Held(begun, ended, ended is not None or bool(otherwise))


def _moment(at: str | None, period: Period | None, start: bool) -> When | None:
    if at:
        return when(at)
    text = (period.start if start else period.end) if period else None
    return when(text) if text else None


def _standing(condition: Condition, one: Named, held: _Held) -> tuple[Standing, str]:
    """Whether it stands, and why that is doubtful."""
    verified = _code(condition.verificationStatus)
    clinical = _code(condition.clinicalStatus)
    is_over = clinical in _ENDED or (held.abated and clinical not in _ACTIVE)
    if one.past or (is_over and held.ended is None):
        return Standing.ENDED, ""
    doubt = verified if verified in _UNSURE else one.doubt
    if clinical in _ACTIVE and held.abated:
        doubt = doubt or "said to be active, and to have ended"
    elif not (clinical in _ACTIVE or is_over or _is_passing(one.cause) or _is_for_life(one.cause)):
        doubt = doubt or "without a clinical status"
    return (Standing.DOUBTFUL if doubt else Standing.CERTAIN), doubt


def _is_passing(cause: Cause) -> bool:
    """Whether what is recorded is a session or a dose, or its effect: of a day, not lasting."""
    return cause.kind in {CauseKind.TREATMENT, CauseKind.DRUG} and cause is not Cause.TRANSPLANT


def _is_for_life(cause: Cause) -> bool:
    return cause is Cause.TRANSPLANT or cause.kind is CauseKind.MARROW_FAILURE


def of_procedure(procedure: Procedure, source: Source) -> list[Read]:
    """What a procedure records: a transplant, chemotherapy or radiotherapy."""
    named = named_by_procedure(procedure.code)
    spend(_STEPS_OF_A_RECORD)
    if not named or procedure.status in _NOT_GIVEN:
        return []
    _refuse_modified(procedure)
    at, period = procedure.performedDateTime, procedure.performedPeriod
    return [
        Read(_given(one, procedure.code, procedure.status, at, period, source), frozenset())
        for one in named
    ]


def of_drug(record: Medicated, concepts: Iterable[Concept | None], source: Source) -> list[Read]:
    """What the record of a drug tells, by the first of its names that is in the table."""
    spend(_STEPS_OF_A_RECORD)
    named, concept = next(
        ((found, one) for one in concepts if (found := named_by_drug(one))), ((), None)
    )
    if not named or record.status in _NOT_GIVEN:
        return []
    _refuse_modified(record)
    at, period = record.effectiveDateTime, record.effectivePeriod
    if isinstance(record, MedicationRequest):
        if record.doNotPerform or record.intent in _NO_ORDER:
            return []
        at = record.authoredOn
    return [
        Read(_given(one, concept, record.status, at, period, source), frozenset()) for one in named
    ]


def _given(
    one: Named,
    concept: Concept | None,
    status: str | None,
    at: str | None,
    period: Period | None,
    source: Source,
) -> Charted:
    """A treatment given; without a day, or of unknown status, it is doubtful."""
    if status == "entered-in-error":
        text = "A treatment that was entered in error was not given."
        raise SetAside("status-excluded", text, ".status")
    found = of_period(period) if period else when(at or "")
    is_open = bool(period and period.start and not period.end)
    runs = status in _RUNNING or (is_open and status not in {"completed", "stopped"})
    doubt = "" if status in _GIVEN else f"of status '{short(status)}'" if status else "no status"
    surely = date.max
    if found is None:
        doubt = doubt or ("" if runs else "without a date that can be used")
        found = UNDATED
    elif runs and (is_open or not period):
        found = When(found.first, date.max, None, f"since {found.text[:10]}")
    else:
        ended = when(period.end) if period and period.end else None
        surely = ended.first if ended else found.first
        text = "/".join(part[:10] for part in found.text.split("/"))
        found = When(found.first, found.last, None, text)
    if one.cause is Cause.TRANSPLANT:
        # It is had for good.
        found, surely = When(found.first, date.max, None, found.text), date.max
    standing = Standing.DOUBTFUL if doubt else Standing.CERTAIN
    return Charted(one.cause, _said(concept, one.cause), found, source, standing, doubt, surely)


def settled(reads: Sequence[Read]) -> tuple[tuple[Charted, ...], tuple[Remark, ...]]:
    """A patient's records without those that are refuted; what is contradicted is doubtful."""
    if not reads:
        return (), ()
    refuted = [read for read in reads if read.refuted]
    denied = {name for read in refuted for name in read.names}
    standing: dict[str, set[Standing]] = defaultdict(set)
    for read in reads:
        if read.charted.source.reference and not read.refuted:
            standing[read.charted.source.reference].add(read.charted.standing)
    charted: list[Charted] = []
    contradicted: list[str] = []
    for read in reads:
        one = read.charted
        twice = len(standing[one.source.reference]) > 1
        if read.refuted:
            continue
        if twice or (one.standing is not Standing.ENDED and not denied.isdisjoint(read.names)):
            contradicted.append(one.source.place)
            one = one._replace(standing=Standing.DOUBTFUL, doubt="contradicted by another record")
        charted.append(one)
    return tuple(charted), tuple(_remarks(refuted, contradicted))


def _remarks(refuted: Sequence[Read], contradicted: Sequence[str]) -> Iterator[Remark]:
    if refuted:
        text = "A condition that was refuted is no other cause."
        places = tuple(read.charted.source.place for read in refuted)
        yield Remark("status-excluded", Severity.INFORMATION, text, places)
    if contradicted:
        text = (
            "Another record of the same condition says otherwise: it is told of, and does not "
            "exclude. Correct one of them."
        )
        yield Remark("contradiction", Severity.WARNING, text, tuple(contradicted))


def _code(concept: Concept | None) -> str:
    coding = concept.coding if concept else ()
    return next((short(one.code) for one in coding if one.code), "")


def _names(concept: Concept | None) -> frozenset[tuple[str, str]]:
    """By what two records are of the same condition: a code, or else the words."""
    if concept is None:
        return frozenset()
    codes = {(one.system or "", one.code) for one in concept.coding if one.code}
    return frozenset(codes or {("", (concept.text or "").strip().lower())})


def _said(concept: Concept | None, cause: Cause) -> str:
    """The chart's own words, on one line."""
    texts = (concept.text, *(one.display for one in concept.coding)) if concept else ()
    words = next((" ".join(text.split()) for text in texts if text and text.strip()), cause.title)
    return words if len(words) <= _LONGEST_SAID else f"{words[: _LONGEST_SAID - 1]}\u2026"


def _refuse_modified(record: Condition | Procedure | Medicated) -> None:
    if record.modifierExtension or record.implicitRules:
        raise SetAside("modifier-extension", "A modifier extension is not understood.")
