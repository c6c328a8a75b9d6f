"""What a request's body may be: a Bundle or Parameters, and what stands in them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from app.fhir.resources import ABSENT, Concept, Element, Readable, Reference

_SAID_LENGTH = 200


class Typed(Element):
    """Only the name of a resource's type."""

    resourceType: str | None = None


class Issue(Element):
    severity: str | None = None
    code: str | None = None
    details: Concept | None = None
    diagnostics: str | None = None

    @property
    def said(self) -> str:
        """Its words, and at most so many as belong into an answer; empty where it has none."""
        said = self.diagnostics or (self.details.text if self.details else "") or ""
        return said[:_SAID_LENGTH]


class Outcome(Element):
    """An OperationOutcome, by which a server tells how a search went."""

    issue: tuple[Issue, ...] = ()


class Entry(Element):
    fullUrl: str | None = None
    resource: Raw = ABSENT


class ReadEntry(Element):
    """An entry whose resource is one that we read."""

    fullUrl: str | None = None
    resource: Readable | UnsetType = UNSET


Entries = tuple[Entry | ReadEntry, ...]


class Parameter(Element):
    name: str | None = None
    resource: Raw = ABSENT
    valueUri: str | None = None
    valueUrl: str | None = None
    valueCanonical: str | None = None
    valueCode: str | None = None
    valueString: str | None = None
    valueId: str | None = None
    valueDate: str | None = None
    valueDateTime: str | None = None
    valueInstant: str | None = None
    valueReference: Reference | None = None
    valuePositiveInt: int | None = None
    valueUnsignedInt: int | None = None
    valueInteger: int | None = None
    valueBoolean: bool | None = None

    def value(self) -> str | Reference | None:
        """The value, whichever type it came in; numbers as their digits."""
        given: list[Any] = [
            found
            for name in self.__struct_fields__
            if name.startswith("value") and (found := getattr(self, name)) is not None
        ]
        if len(given) != 1:
            return None
        if isinstance(given[0], bool):
            return str(given[0]).lower()
        return given[0] if isinstance(given[0], Reference) else str(given[0])


class Body(Element):
    """A request's body, or a Bundle inside it."""

    resourceType: str | None = None
    entry: tuple[Entry, ...] = ()
    parameter: tuple[Parameter, ...] = ()


class ReadBody(Element):
    """The same, where every entry is one that we read."""

    resourceType: str | None = None
    entry: tuple[ReadEntry, ...] = ()
    parameter: tuple[Parameter, ...] = ()


DECODE_BODY = msgspec.json.Decoder(Body).decode
DECODE_READ_BODY = msgspec.json.Decoder(ReadBody).decode
DECODE_OUTCOME = msgspec.json.Decoder(Outcome).decode
DECODE_TYPED = msgspec.json.Decoder(Typed).decode
