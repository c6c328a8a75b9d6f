"""Who a result is about: one patient under the several names a Bundle gives them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from app.domain.counts import Patient
from app.fhir.resources import Identifier, PatientResource, Reference

_LITERAL = re.compile(r"(?:(.*)/)?(Patient/[A-Za-z0-9\-.]{1,64})", re.ASCII | re.DOTALL)
_BASE = re.compile(r"(https?://.*)/[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}", re.ASCII | re.DOTALL)


class Subjects:
    """The patients of a Bundle, by any reference to them.

    A relative reference stands for the absolute one on its entry's own server; the same id on
    two servers is two patients; a Patient entry joins its fullUrl, its id and its identifiers.
    """

    def __init__(
        self,
        people: Iterable[tuple[PatientResource, str | None]],
        references: Iterable[tuple[Reference | None, str | None]],
        named: Reference | None,
    ) -> None:
        people = list(people)
        self._servers: dict[str, set[str]] = defaultdict(set)
        self._aliases: dict[str, str] = {}
        self._spellings: dict[str, set[str]] = defaultdict(set)
        self._identifiers: dict[str, Identifier] = {}
        texts = [
            (reference.reference, url)
            for reference, url in references
            if reference is not None and reference.reference
        ]
        texts += [(f"Patient/{person.id}", url) for person, url in people if person.id]
        if named and named.reference:
            texts.append((named.reference, None))
        for text, url in texts:
            server, literal = _split(text, url)
            if literal and server:
                self._servers[literal].add(server)
        for person, url in people:
            self._join(person, url)
        for text, url in texts:
            if text:
                self._spellings[self._literal_key(text, url)].add(text)

    def _join(self, person: PatientResource, url: str | None) -> None:
        key = self.key_of_patient(person, url)
        if url:
            self._aliases[url] = key
        for identifier in person.identifier:
            if identifier.value:
                self._aliases.setdefault(_logical(identifier), key)

    def key_of_patient(self, person: PatientResource, url: str | None) -> str:
        """The key of a Patient resource."""
        if person.id:
            return self._literal_key(f"Patient/{person.id}", url)
        return url or "Patient"

    def _literal_key(self, text: str, url: str | None) -> str:
        text = text.split("/_history/", maxsplit=1)[0]
        if text in self._aliases:
            return self._aliases[text]
        server, literal = _split(text, url)
        if literal is None:
            return text
        if server and len(self._servers[literal]) > 1:
            return f"{server}/{literal}"
        return literal

    def key(
        self, reference: Reference, url: str | None, contained: PatientResource | None = None
    ) -> str | None:
        """The patient a reference names; None where it names none."""
        text = reference.reference
        if text and text.startswith("#"):
            identifier = (
                next((i for i in contained.identifier if i.value), None) if contained else None
            )
            return self._logical_key(identifier)
        if text and "Patient?identifier=" in text:
            system, _, value = text.partition("Patient?identifier=")[2].rpartition("|")
            return self._logical_key(Identifier(system or None, value))
        if text and (_split(text, url)[1] or text.startswith("urn:")):
            key = self._literal_key(text, url)
            self._spellings[key].add(text)
            return key
        return None if text else self._logical_key(reference.identifier)

    def _logical_key(self, identifier: Identifier | None) -> str | None:
        if identifier is None or not identifier.value:
            return None
        logical = _logical(identifier)
        self._identifiers[logical] = identifier
        return self._aliases.get(logical, logical)

    def patient(self, key: str) -> Patient:
        """How the answer names the patient: as the data do, a relative reference first."""
        if key in self._identifiers:
            identifier = self._identifiers[key]
            return Patient(system=identifier.system or "", value=identifier.value or "")
        spellings = sorted(self._spellings[key] or {key})
        relative = [text for text in spellings if text.startswith("Patient/")]
        if key.startswith("http"):
            return Patient(reference=key)
        return Patient(reference=(relative or spellings)[0])


def _split(text: str, url: str | None) -> tuple[str, str | None]:
    match = _LITERAL.fullmatch(text.split("/_history/", maxsplit=1)[0])
    if not match:
        return "", None
    server, literal = match.groups()
    if not server and url and (base := _BASE.fullmatch(url)):
        server = base.group(1)
    return server or "", literal


def _logical(identifier: Identifier) -> str:
    return f"identifier:{identifier.system or ''}|{identifier.value}"
