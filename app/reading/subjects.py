"""Who a result is about: one patient under the several names a Bundle gives them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from app.domain.counts import Patient
from app.domain.effort import spend
from app.fhir.kept import for_a_request
from app.fhir.resources import (
    DECODE_RESOURCE,
    Identifier,
    PatientLink,
    PatientResource,
    Reference,
    Resource,
)

_LITERAL = re.compile(r"(?:(.*)/)?(Patient/[A-Za-z0-9\-.]{1,64})", re.ASCII | re.DOTALL)
_TYPE_ON_SERVER = re.compile(r"(https?://.*)/[A-Z][A-Za-z]+", re.ASCII | re.DOTALL)

AMBIGUOUS = ""
"""In place of a patient's key: there are several whom it may mean."""


def server_of(full_url: str | None) -> str:
    """The base of the server an entry's fullUrl names; empty where it names none."""
    return _server(full_url.rpartition("/")[0]) if full_url else ""


@for_a_request(256)
def _server(type_on_server: str) -> str:
    match = _TYPE_ON_SERVER.fullmatch(type_on_server)
    return match.group(1) if match else ""


class Subjects:
    """The patients of a Bundle, by any reference to them.

    A relative reference stands for the absolute one on its entry's own server; the same id on
    two servers is two patients; a Patient entry joins its fullUrl, its id and its identifiers.
    Patients of whom one replaces the other are one (ruling 8).
    """

    def __init__(
        self,
        people: Sequence[tuple[PatientResource, str | None]],
        subjects: Iterable[tuple[str, str]],
        named: Reference | None,
    ) -> None:
        """Made of Patients with their fullUrl, and of subjects with their entry's server."""
        self._servers: dict[str, set[str]] = defaultdict(set)
        self._aliases: dict[str, str] = {}
        self._spellings: dict[str, set[str]] = defaultdict(set)
        self._identifiers: dict[str, Identifier] = {}
        self._held: dict[int, tuple[Resource, dict[str, PatientResource]]] = {}
        self._replaced: dict[str, str] = {}
        self._shared: set[str] = set()
        """Identifiers of more than one patient."""
        self.keys: dict[tuple[str, str], str] = {}
        """The key of every plain reference, by its text and its entry's server."""
        texts = set(subjects)
        texts |= {(f"Patient/{person.id}", server_of(url)) for person, url in people if person.id}
        if named and named.reference:
            texts.add((named.reference, ""))
        for text, own in texts:
            server, literal = _split(text, own)
            if literal and server:
                self._servers[literal].add(server)
        for person, url in people:
            self._join(person, url)
        for person, url in people:
            self._merge(person, url)
        self._shared = set(self._identifiers_of_several(people))
        for text, own in texts:
            self._spellings[self._literal_key(text, own)].add(text)
        self.keys = {
            (text, own): key
            for text, own in texts
            if text[0] != "#" and (key := self._key_of_text(text, own))
        }

    def _join(self, person: PatientResource, url: str | None) -> None:
        key = self.key_of_patient(person, url)
        if url:
            self._aliases[url] = key
        for identifier in person.identifier:
            if identifier.value:
                self._aliases.setdefault(_logical(identifier), key)

    def _identifiers_of_several(
        self, people: Sequence[tuple[PatientResource, str | None]]
    ) -> Iterator[str]:
        for person, url in people:
            key = self.key_of_patient(person, url)
            for identifier in person.identifier:
                logical = _logical(identifier)
                if identifier.value and self._standing(self._aliases[logical]) != key:
                    yield logical

    def _merge(self, person: PatientResource, url: str | None) -> None:
        for link in person.link:
            other = self.key(link.other, server_of(url), person) if link.other else None
            own = self.key_of_patient(person, url)
            if other and replaces(link) and own != other:
                old, new = (own, other) if link.type == "replaced-by" else (other, own)
                self._replaced[old] = new

    def _standing(self, key: str) -> str:
        """The key of the patient who stands for this one, at the end of whatever chain."""
        passed = []
        while key in self._replaced:
            passed.append(key)
            key = self._replaced[key]
        for one in passed:
            self._replaced[one] = key
        return key

    def key_of_patient(self, person: PatientResource, url: str | None) -> str:
        """The key of a Patient resource."""
        if person.id:
            return self._literal_key(f"Patient/{person.id}", server_of(url))
        return self._standing(url or "Patient")

    def _literal_key(self, text: str, own_server: str) -> str:
        text = text.split("/_history/", maxsplit=1)[0]
        if text in self._aliases:
            return self._standing(self._aliases[text])
        server, literal = _split(text, own_server)
        if literal is None:
            return self._standing(text)
        if server and len(self._servers[literal]) > 1:
            return self._standing(f"{server}/{literal}")
        return self._standing(literal)

    def key(self, reference: Reference, own_server: str, holder: Resource | None) -> str | None:
        """The patient whom a reference in a resource of that server names; None: it names none.

        AMBIGUOUS where it names an identifier of several.
        The holder is the resource, where the patient may be contained in it.
        """
        text = reference.reference
        if not text:
            return self._logical_key(reference.identifier)
        if text.startswith("#"):
            contained = self._patients_in(holder).get(text) if holder else None
            identifiers = contained.identifier if contained else ()
            return self._logical_key(next((i for i in identifiers if i.value), None))
        return self.keys.get((text, own_server)) or self._key_of_text(text, own_server)

    def _patients_in(self, holder: Resource) -> dict[str, PatientResource]:
        """The Patients contained in a resource by the '#...' that points to each.

        Read once: a resource may hold thousands, and each of its results point to one.
        """
        if not holder.contained:
            return {}
        found = self._held.get(id(holder))
        if found is None:
            # The holder is kept with what it holds: another must not come to have its id.
            found = self._held[id(holder)] = holder, _contained_patients(holder)
        return found[1]

    def _key_of_text(self, text: str, own_server: str) -> str | None:
        if "Patient?identifier=" in text:
            system, _, value = text.partition("Patient?identifier=")[2].rpartition("|")
            return self._logical_key(Identifier(system or None, value))
        if _split(text, own_server)[1] or text.startswith("urn:"):
            key = self._literal_key(text, own_server)
            self._spellings[key].add(text)
            return key
        return None

    def _logical_key(self, identifier: Identifier | None) -> str | None:
        if identifier is None or not identifier.value:
            return None
        logical = _logical(identifier)
        if logical in self._shared:
            return AMBIGUOUS
        self._identifiers[logical] = identifier
        return self._standing(self._aliases.get(logical, logical))

    def patient(self, key: str) -> Patient:
        """How the answer names the patient: as the data do, a relative reference first."""
        if key in self._identifiers:
            identifier = self._identifiers[key]
            return Patient(system=identifier.system or "", value=identifier.value or "")
        # Of patients who are one, the one who stands.
        spellings = sorted(self._spellings[key] or {key}, key=lambda text: (text != key, text))
        relative = [text for text in spellings if text.startswith("Patient/")]
        if key.startswith("http"):
            return Patient(reference=key)
        return Patient(reference=(relative or spellings)[0])


def replaces(link: PatientLink) -> bool:
    """Whether a link makes one patient of two."""
    return link.type in {"replaced-by", "replaces"}


def literal_of(text: str) -> str:
    """The literal reference `Patient/...` without its server and version; empty for any other."""
    return _split(text, "")[1] or ""


@for_a_request(1024)
def _split(text: str, own_server: str) -> tuple[str, str | None]:
    """The server and the literal reference `Patient/...`, None where it is not one."""
    match = _LITERAL.fullmatch(text.split("/_history/", maxsplit=1)[0])
    if not match:
        return "", None
    server, literal = match.groups()
    return server or own_server, literal


def _logical(identifier: Identifier) -> str:
    return f"identifier:{identifier.system or ''}|{identifier.value}"


def _contained_patients(holder: Resource) -> dict[str, PatientResource]:
    """The contained Patients by '#' and their id; of several of one id the first."""
    spend(len(holder.contained))
    found: dict[str, PatientResource] = {}
    for raw in holder.contained:
        try:
            inner = DECODE_RESOURCE(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(inner, PatientResource):
            found.setdefault(f"#{inner.id}", inner)
    return found
