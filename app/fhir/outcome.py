"""What is wrong with a request, and how OperationOutcome says it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.counts import Remark

BASE = "https://w3id.org/maa-assess"
ISSUE_SYSTEM = f"{BASE}/CodeSystem/issue"

# FHIR's own issue type for each of our codes; every other code is a matter of processing.
_ISSUE_TYPES = {
    "after-as-of": "informational",
    "ambiguous-code": "code-invalid",
    "comparator": "informational",
    "contradiction": "conflict",
    "date-repaired": "informational",
    "doubtful-method": "informational",
    "growth-factor-window": "business-rule",
    "implausible-value": "value",
    "imprecise-date": "incomplete",
    "invalid-value": "invalid",
    "modifier-extension": "extension",
    "no-date": "incomplete",
    "no-subject": "incomplete",
    "no-value": "incomplete",
    "not-fhir": "structure",
    "outside-window": "business-rule",
    "policy-disagreement": "informational",
    "status-excluded": "business-rule",
    "superseded": "informational",
    "transfusion-window": "business-rule",
    "unit-conflict": "conflict",
    "unit-missing": "incomplete",
    "unit-repaired": "informational",
    "unit-unknown": "code-invalid",
    "unmapped-code": "code-invalid",
    "unpaired": "incomplete",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why a request cannot be answered: FHIR issue type, remedy, and place."""

    type: str
    text: str
    place: str | None = None


class RequestError(Exception):
    """A request that cannot be answered, with its HTTP status and every fault."""

    def __init__(self, status: int, *faults: Fault, remarks: Sequence[Remark] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.faults = faults
        self.remarks = remarks

    def outcome(self) -> dict[str, Any]:
        """The OperationOutcome that says so."""
        faults = [_fault(fault) for fault in self.faults]
        return {
            "resourceType": "OperationOutcome",
            "issue": faults + [_issue(remark) for remark in self.remarks],
        }


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
        "code": _ISSUE_TYPES.get(remark.code, "processing"),
        "details": {"coding": [{"system": ISSUE_SYSTEM, "code": remark.code}]},
        "diagnostics": remark.text,
    }
    if remark.places:
        issue["expression"] = list(remark.places)
    return issue


def operation_outcome(remarks: Iterable[Remark]) -> dict[str, Any]:
    """An OperationOutcome with an issue for each remark."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(remark) for remark in remarks]}
