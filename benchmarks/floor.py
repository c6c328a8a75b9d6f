"""The floor, L: decode only what the rule needs, with exact decimals, and judge it minimally.

No narrative, no evidence, no units but the expected ones, nothing set aside: what a program
must at least do to know the verdict of the 2003 NIH definition.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec


class _Coding(msgspec.Struct, gc=False):
    system: str | None = None
    code: str | None = None


class _Concept(msgspec.Struct, gc=False):
    coding: tuple[_Coding, ...] = ()


class _Reference(msgspec.Struct, gc=False):
    reference: str | None = None


class _Quantity(msgspec.Struct, gc=False):
    value: Decimal | None = None
    comparator: str | None = None
    system: str | None = None
    code: str | None = None
    unit: str | None = None


class _Observation(msgspec.Struct, gc=False):
    id: str | None = None
    status: str | None = None
    code: _Concept | None = None
    subject: _Reference | None = None
    effectiveDateTime: str | None = None  # noqa: N815 FHIR's own name
    valueQuantity: _Quantity | None = None  # noqa: N815 FHIR's own name


class _Entry(msgspec.Struct, gc=False):
    resource: _Observation | None = None


class _Bundle(msgspec.Struct, gc=False):
    entry: tuple[_Entry, ...] = ()


_DECODE = msgspec.json.Decoder(_Bundle).decode
_CODES = {"751-8": "anc", "777-3": "platelets", "718-7": "hemoglobin", "60474-4": "arc"}
_UNITS = {"10*3/uL", "10*9/L", "g/dL"}
_LIMITS = {
    "anc": Decimal("1.2"),
    "platelets": Decimal(70),
    "hemoglobin": Decimal("8.5"),
    "arc": Decimal(60),
}


def decode(body: bytes) -> _Bundle:
    """The elements the rule needs, and nothing else."""
    return _DECODE(body)


def verdicts(body: bytes) -> dict[str, bool]:
    """L: for each patient whether the newest counts are low in two of three lineages."""
    newest: dict[str, dict[str, tuple[str, Decimal]]] = {}
    for entry in _DECODE(body).entry:
        found = entry.resource
        if (
            found is None
            or found.status != "final"
            or found.subject is None
            or found.code is None
            or found.effectiveDateTime is None
            or found.valueQuantity is None
            or found.valueQuantity.value is None
            or found.valueQuantity.code not in _UNITS
        ):
            continue
        for coding in found.code.coding:
            if coding.code in _CODES:
                counts = newest.setdefault(found.subject.reference or "", {})
                analyte = _CODES[coding.code]
                if analyte not in counts or counts[analyte][0] < found.effectiveDateTime:
                    counts[analyte] = (found.effectiveDateTime, found.valueQuantity.value)
    answer = {}
    for patient, counts in newest.items():
        low = {name for name, (_, value) in counts.items() if value <= _LIMITS[name]}
        lineages = ("anc" in low) + ("platelets" in low) + ({"hemoglobin", "arc"} <= low)
        answer[patient] = lineages >= 2
    return answer
