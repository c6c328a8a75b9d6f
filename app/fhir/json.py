"""FHIR as JSON, and the elements that most of it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from app.domain.counts import Interval
from app.fhir.canonicals import LINK_ID
from app.fhir.ucum import UCUM

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


def quantity(value: Decimal | int, unit: str, comparator: str = "") -> Json:
    """A Quantity in a UCUM unit."""
    compared: Json = {"value": value} | ({"comparator": comparator} if comparator else {})
    return {**compared, "unit": unit, "system": UCUM, "code": unit}


def as_sent(interval: Interval) -> tuple[Decimal, str] | None:
    """The number and the comparator of a Quantity that means it; None of a range."""
    low, high, low_included, high_included = interval
    if low is None:
        return (high, "<=" if high_included else "<") if high is not None else None
    if high is None:
        return low, ">=" if low_included else ">"
    return (low, "") if low == high else None


def objects_in(part: object) -> Iterator[Json]:
    """Every object in JSON, each before those within it."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from objects_in(inner)


def linked(place: str, link_id: str, by_id: bool = True) -> Json:
    """What tells a part of a Measure and of its MeasureReport: R5's linkId, as an extension.

    Also `by_id`, where it stands once in its resource.
    """
    extension = {"url": LINK_ID.format(place), "valueString": link_id}
    return ({"id": link_id} if by_id else {}) | {"extension": [extension]}
