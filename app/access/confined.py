"""Whether data that are sent are of one patient alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from app.access.scopes import refused
from app.domain.effort import spend
from app.fhir.outcome import RequestError

# Where resources say whose they are.
_OWNERS = ("subject", "patient")


def require_only(patient: str, body: bytes) -> None:
    """RequestError 403 where a body names somebody else than the patient of that id.

    Who cannot be told to be the patient counts as somebody else: a reference by identifier, a
    Patient without id, and patients of two servers with one id. The body is read for this alone:
    what reads it for an operation passes over other types, contained resources and what is
    malformed, and another patient must not come in by these either.
    """
    try:
        sent = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What cannot be read is told by whoever reads it.
        return
    names = _Names(patient)
    places = list(_objects(sent))
    for place in places:
        names.learn(place.get("resource"), place.get("fullUrl"))
    for place in places:
        names.check(place)


def require_named(patient: str, query: list[tuple[str, str]]) -> None:
    """RequestError 403 where the query names somebody else."""
    names = _Names(patient)
    for name, value in query:
        if name == "subject":
            names.require(value)


class _Names:
    """The names of one patient."""

    def __init__(self, patient: str) -> None:
        self._id = patient
        self._known = {patient, f"Patient/{patient}"}
        self._server: str | None = None

    def learn(self, resource: Any, url: Any) -> None:
        """An entry of a Bundle: the patient may go by its address there."""
        if not isinstance(resource, dict) or resource.get("resourceType") != "Patient":
            return
        if resource.get("id") == self._id and isinstance(url, str) and url.startswith("urn:"):
            self._known.add(url)

    def check(self, place: dict[str, Any]) -> None:
        """An object anywhere: a resource, or what names its owner."""
        if place.get("resourceType") == "Patient" and place.get("id") != self._id:
            raise _another()
        if isinstance(url := place.get("fullUrl"), str) and "/Patient/" in url:
            self.require(url)
        for owner in _OWNERS:
            if owner in place:
                self._require_reference(place[owner])
        if place.get("name") == "subject":
            # A parameter.
            for name, value in place.items():
                if name.startswith("value"):
                    self._require_reference(
                        {"reference": value} if isinstance(value, str) else value
                    )

    def _require_reference(self, value: Any) -> None:
        # A list of references, as older and other resources have it, is looked at one by one.
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                self.require(one.get("reference"))
            elif one is not None:
                raise _another()

    def require(self, reference: Any) -> None:
        """RequestError 403 unless it is a reference to the patient."""
        if not isinstance(reference, str):
            raise _another()
        reference = reference.partition("/_history/")[0]
        if reference in self._known:
            return
        server, found, name = reference.rpartition("/Patient/")
        if not found or name != self._id or not urlsplit(server).netloc:
            raise _another()
        # One id on two servers would be two patients.
        if self._server not in {None, server}:
            raise _another()
        self._server = server


def _objects(sent: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON value, without recursion: it is nested as its sender likes."""
    left = [sent]
    while left:
        one = left.pop()
        spend(1)
        if isinstance(one, dict):
            yield one
            left.extend(value for value in one.values() if isinstance(value, dict | list))
        elif isinstance(one, list):
            left.extend(value for value in one if isinstance(value, dict | list))


def _another() -> RequestError:
    return refused("The token is for one patient, and the data are, or may be, of another one.")
