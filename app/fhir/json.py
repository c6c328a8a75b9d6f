"""FHIR as JSON, and the element that most of it is made of."""

from __future__ import annotations

from typing import Any

import msgspec

from app.fhir.canonicals import LINK_ID

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


def linked(place: str, link_id: str, by_id: bool = True) -> Json:
    """What tells a part of a Measure and of its MeasureReport: R5's linkId, as an extension.

    Also `by_id`, where it stands once in its resource.
    """
    extension = {"url": LINK_ID.format(place), "valueString": link_id}
    return ({"id": link_id} if by_id else {}) | {"extension": [extension]}
