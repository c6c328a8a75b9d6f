"""The values of parameters, as they are sent; None is for what cannot be meant."""

from __future__ import annotations

from collections.abc import Callable

from app.domain.counts import When
from app.fhir.resources import Reference
from app.fhir.times import days_of, when
from app.reading.subjects import Subjects

Value = str | Reference
"""A parameter as it was sent, of whatever type."""


def text_in(value: Value) -> str | None:
    """Whatever was written."""
    return value if isinstance(value, str) else None


def when_in(value: Value) -> When | None:
    """A date or a dateTime."""
    # A plus sign that a query did not escape arrives as a space.
    moment = when(value.replace(" ", "+")) if isinstance(value, str) else None
    return moment if moment and (moment.instant or "T" not in moment.text) else None


def whole_number(limits: tuple[int, int]) -> Callable[[Value], int | None]:
    """A whole number within limits."""
    least, most = limits

    def read(value: Value) -> int | None:
        if not isinstance(value, str) or not value.isascii() or not value.isdigit():
            return None
        return int(value) if len(value) <= len(f"{most}") and least <= int(value) <= most else None

    return read


def days_up_to(longest_days: int) -> Callable[[Value], int | None]:
    """A duration in days, of one at the least."""

    def read(value: Value) -> int | None:
        # A plus sign, as a query may write a space.
        days = days_of(value.replace("+", " ")) if isinstance(value, str) else None
        return days if days and days <= longest_days else None

    return read


def boolean_in(value: Value) -> bool | None:
    """Whether it is true; None where it is neither true nor false."""
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


def reference_in(value: Value) -> str | None:
    """A reference to whatever."""
    text = value.reference if isinstance(value, Reference) else value
    return text if (text and "/" in text) or (text or "").startswith("urn:") else None


def reporter_in(value: Value) -> str | None:
    """A reference to what FHIR lets report a measure, but for a place."""
    text = reference_in(value) or ""
    kind = text.rpartition("/")[0].rpartition("/")[2]
    reports = kind in {"Organization", "Practitioner", "PractitionerRole"}
    return text if reports or text.startswith("urn:") else None


def patient_in(value: Value) -> Reference | None:
    """A patient's reference or identifier; a bare id is the id of a Patient.

    None for what names no patient: it would narrow the answer to nobody, or to everybody.
    """
    if isinstance(value, str):
        bare = "/" not in value and not value.startswith("urn:")
        value = Reference(reference=f"Patient/{value}" if bare else value)
    return value if Subjects((), (), value).key(value, "", None) else None
