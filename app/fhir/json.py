"""FHIR as JSON, and the element that most of it is made of."""

from __future__ import annotations

from typing import Any

import msgspec

Json = dict[str, Any]
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


def encode(resource: Json) -> bytes:
    """A resource as JSON, decimals with every digit."""
    return _ENCODE(resource)


def coded(system: str, code: str, display: str = "") -> Json:
    """A CodeableConcept of one coding."""
    coding = {"system": system, "code": code}
    if display:
        coding["display"] = display
    return {"coding": [coding]}
