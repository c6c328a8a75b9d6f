"""The floor, L: decode the elements the engine reads, decimals exact, and judge them minimally.

No narrative, no evidence, nothing repaired, doubted or set aside: what a program must at least
do to know whether the newest counts meet the 2003 NIH definition. `decode` is its first half.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec


class _Element(msgspec.Struct, gc=False):
    pass


class _Coding(_Element):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class _Concept(_Element):
    coding: tuple[_Coding, ...] = ()
    text: str | None = None


class _Identifier(_Element):
    system: str | None = None
    value: str | None = None


class _Reference(_Element):
    reference: str | None = None
    identifier: _Identifier | None = None


class _Quantity(_Element):
    value: Decimal | None = None
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class _Range(_Element):
    low: _Quantity | None = None
    high: _Quantity | None = None
    type: _Concept | None = None


class _Meta(_Element):
    versionId: str | None = None
    lastUpdated: str | None = None


class _Observation(_Element):
    id: str | None = None
    meta: _Meta | None = None
    identifier: tuple[_Identifier, ...] = ()
    status: str | None = None
    code: _Concept | None = None
    subject: _Reference | None = None
    effectiveDateTime: str | None = None
    issued: str | None = None
    valueQuantity: _Quantity | None = None
    specimen: _Reference | None = None
    referenceRange: tuple[_Range, ...] = ()


class _Entry(_Element):
    fullUrl: str | None = None
    resource: _Observation | None = None


class _Bundle(_Element):
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


def decode(body: bytes) -> Any:
    """Every Observation of a Bundle, with the elements read and nothing else."""
    return _DECODE(body)


decode_line = msgspec.json.Decoder(_Observation).decode
"""One Observation of an export, likewise."""


def verdicts(body: bytes) -> dict[str, bool]:
    """L: for each patient whether the newest counts are low in two of three lineages."""
    newest: dict[str, dict[str, tuple[str, Decimal]]] = {}
    for entry in _DECODE(body).entry:
        found = entry.resource
        if found is None or found.status != "final" or found.subject is None:
            continue
        quantity, time = found.valueQuantity, found.effectiveDateTime
        if quantity is None or quantity.value is None or quantity.code not in _UNITS or not time:
            continue
        for coding in found.code.coding if found.code else ():
            if coding.code in _CODES:
                analyte = _CODES[coding.code]
                counts = newest.setdefault(found.subject.reference or "", {})
                if analyte not in counts or counts[analyte][0] < time:
                    counts[analyte] = (time, quantity.value)
    answer = {}
    for patient, counts in newest.items():
        low = {name for name, (_, value) in counts.items() if value <= _LIMITS[name]}
        lineages = ("anc" in low) + ("platelets" in low) + ({"hemoglobin", "arc"} <= low)
        answer[patient] = lineages >= 2
    return answer
