"""What is wrong with a request, and how OperationOutcome says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain.counts import Remark
from app.domain.effort import spend
from app.fhir.canonicals import BASE

ISSUE_SYSTEM = f"{BASE}/CodeSystem/issue"

_STEPS_OF_A_REMARK = 10
# Of a request that cannot be answered; an answer tells every one.
_MOST_REMARKS = 200
# Each of our codes: FHIR's own issue type, and what it means.
ISSUES: Final[dict[str, tuple[str, str]]] = {
    "above-normal": ("informational", "Above the upper limit of normal: recovered, since not low."),
    "after-as-of": ("informational", "Later than the day judged: ignored."),
    "after-death": ("conflict", "The patient had died before the day judged."),
    "ambiguous-code": ("code-invalid", "Codes that name different analytes: set aside."),
    "ambiguous-number": ("invalid", "A number in text that has two plausible readings."),
    "ambiguous-subject": ("incomplete", "Named by reports of two patients: it belongs to neither."),
    "code-mapped": ("informational", "Read by a map of the hospital's own codes."),
    "code-repaired": ("informational", "LOINC under another name than FHIR's."),
    "comparator": ("informational", "The laboratory gave a bound, not a value."),
    "contradiction": ("conflict", "Results of one moment on either side of a limit."),
    "course-ended": (
        "business-rule",
        "A transplant ended the course: later counts are not judged.",
    ),
    "date-repaired": ("informational", "A date that is not FHIR's form, read all the same."),
    "direct-before-derived": (
        "conflict",
        "A reported count and one worked out stand on either side of a limit.",
    ),
    "doubtful-method": ("informational", "A method or specimen of lesser standing."),
    "earlier-day-open": ("incomplete", "Before the first day met, a day is open that may be it."),
    "growth-factor-window": ("business-rule", "Too soon after a growth factor to show recovery."),
    "implausible-value": ("value", "Outside what is possible: a wrong unit is likelier."),
    "imprecise-date": ("incomplete", "A date too coarse to place the result."),
    "independence-window": ("informational", "Another transfusion-free time changes the answer."),
    "invalid-value": ("invalid", "The value cannot be read as a number."),
    "merged-patient": ("informational", "Two Patient resources linked as one person."),
    "modifier-extension": ("extension", "A modifier we do not know may change the meaning."),
    "no-date": ("incomplete", "No date: the result cannot be placed in time."),
    "no-subject": ("incomplete", "No patient: the result belongs to no one."),
    "no-value": ("incomplete", "No value, or the reason why it is absent."),
    "not-fhir": ("structure", "A resource that cannot be read as FHIR."),
    "not-narrowed": ("not-supported", "A parameter that leaves no study out, since none tells it."),
    "not-judged": ("processing", "Data the definition does not judge."),
    "old-baseline": ("business-rule", "A baseline long before the start of treatment."),
    "other-cause-past": ("informational", "Another cause in the chart, past on the day judged."),
    "other-focus": ("business-rule", "About someone else than the patient, such as a donor."),
    "other-immunosuppression": (
        "business-rule",
        "Given between baseline and assessment: the response may not be the drug's.",
    ),
    "other-product": (
        "informational",
        "A transfusion that bears on no count judged, such as plasma.",
    ),
    "outside-window": ("business-rule", "Too old to be combined with the newest count judged."),
    "policy-disagreement": ("informational", "Another red-cell policy gives another verdict."),
    "several-courses": ("processing", "More than one course of treatment: the first is judged."),
    "severe-limit-disputed": ("informational", "Another published limit changes the answer."),
    "source-warning": ("incomplete", "The source says that data may be missing from the answer."),
    "specimen-doubt": ("business-rule", "The laboratory doubts the specimen or its count."),
    "stale": ("business-rule", "The newest counts are long before the day judged."),
    "status-excluded": ("business-rule", "A status that is not a result to rely on."),
    "study-closed": ("business-rule", "The study takes no patients."),
    "study-excludes": ("business-rule", "Recorded in the chart, and excluded by the study."),
    "study-left-out": ("informational", "A study of another status than was asked for."),
    "study-not-matched": ("informational", "A study whose criteria are not met."),
    "superseded": ("informational", "Replaced by a newer version or result."),
    "transfusion-history-unknown": ("incomplete", "Independence gained could not have been seen."),
    "transfusion-window": ("business-rule", "Too soon after a transfusion to show recovery."),
    "under-age": ("business-rule", "Younger than the definition is meant for."),
    "unit-conflict": ("conflict", "Unit and code, or unit and text, disagree."),
    "unit-contradicted": ("conflict", "The laboratory's own range of normal belies the unit."),
    "unit-declared": ("informational", "The unit that a map of the hospital's codes declares."),
    "unit-missing": ("incomplete", "A number without its unit is no count."),
    "unit-repaired": ("informational", "A unit that is not UCUM, understood all the same."),
    "unit-unknown": ("code-invalid", "A unit that is not understood."),
    "unmapped-code": ("code-invalid", "It looks like a blood count, under a code we do not know."),
    "unpaired": ("incomplete", "A percentage without the count it is a share of."),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why a request cannot be answered: FHIR issue type, remedy, and place."""

    type: str
    text: str
    place: str | None = None


class RequestError(Exception):
    """A request that cannot be answered, with its HTTP status and every fault.

    `retry_after`: the seconds after which it may be answered, where that is known. `closes`: the
    connection is closed after it, for the request was not read to its end. `challenge`: the scheme
    by which the caller is to say who he is, and what was wrong (RFC 6750).
    """

    def __init__(
        self,
        status: int,
        *faults: Fault,
        remarks: Sequence[Remark] = (),
        retry_after: int | None = None,
        closes: bool = False,
        challenge: str = "",
    ) -> None:
        super().__init__(status)
        self.status = status
        self.faults = faults
        self.remarks = remarks
        self.retry_after = retry_after
        self.closes = closes
        self.challenge = challenge

    def outcome(self) -> dict[str, Any]:
        """The OperationOutcome that says so."""
        issues = [_fault(fault) for fault in self.faults]
        issues += (_issue(remark) for remark in self.remarks[:_MOST_REMARKS])
        if len(self.remarks) > _MOST_REMARKS:
            more = len(self.remarks) - _MOST_REMARKS
            issues.append(_fault(Fault("processing", f"{more} more remarks are not listed.")))
        return {"resourceType": "OperationOutcome", "issue": issues}


class WithheldError(RequestError):
    """A source says itself that something may be missing, and is not to be taken for whole."""


def _fault(fault: Fault) -> dict[str, Any]:
    issue: dict[str, Any] = {
        "severity": "error",
        "code": fault.type,
        "diagnostics": fault.text,
    }
    if fault.place:
        issue["expression"] = [fault.place]
    return issue


def _issue(remark: Remark) -> dict[str, Any]:
    issue: dict[str, Any] = {
        "severity": remark.severity.value,
        "code": ISSUES[remark.code][0],
        "details": {"coding": [{"system": ISSUE_SYSTEM, "code": remark.code}]},
        "diagnostics": remark.text,
    }
    if remark.places:
        issue["expression"] = list(remark.places)
    return issue


def operation_outcome(remarks: Sequence[Remark]) -> dict[str, Any]:
    """An OperationOutcome with an issue for each remark."""
    spend(_STEPS_OF_A_REMARK * len(remarks))
    return {"resourceType": "OperationOutcome", "issue": [_issue(remark) for remark in remarks]}
