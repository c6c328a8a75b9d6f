"""The stories that the page offers: whose data they are, and what a visitor is told of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Story:
    """A folder of `fixtures`, whole or one patient of it."""

    label: str
    fixture: str
    patient: str | None = None
    """The id of the one patient told of."""
    question: str = "eligibility"


STORIES = {
    "moderate": Story("Two low counts decide", "two-low-one-unknown"),
    "open": Story("One count is missing", "hemoglobin-low-reticulocytes-missing"),
    "severe": Story("Severe by counts", "severe-by-counts"),
    "transfused": Story("Platelets after a transfusion", "platelets-after-transfusion"),
    "unit": Story("A result without a unit", "unit-missing"),
    "clumps": Story("Clumped platelets", "platelet-clumps"),
    "derived": Story("Neutrophils worked out from leukocytes", "anc-derived"),
    "text": Story("A count sent as text", "anc-as-text"),
    "three": Story("Three patients at once", "three-patients"),
    "response": Story("A year of treatment", "daclizumab-2003", "mAA-03", "response"),
    "cohort": Story("The trial's 17 patients", "daclizumab-2003", None, "response"),
}
"""By the name of the file in `stories/` that `python -m tests.test_web --rewrite` writes."""
