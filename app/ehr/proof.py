"""What a search's answer must prove before it is believed: servers ignore what they do not know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from app.ehr.searches import tokens_of

_PATIENT = ("patient", "subject")
_SYSTEM = re.compile(r"(?<!\\)\|")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class _Reference(msgspec.Struct):
    reference: str | None = None


class _Coding(msgspec.Struct):
    code: str | None = None


class _Concept(msgspec.Struct):
    coding: tuple[_Coding, ...] = ()


class Issue(msgspec.Struct):
    """What a server tells of a search, by how bad it is."""

    severity: str = "error"


class Found(msgspec.Struct):
    """As much of a resource as tells what it is an answer to."""

    resourceType: str  # noqa: N815 FHIR's own name
    id: str = ""
    issue: list[Issue] = []
    subject: _Reference | None = None
    code: _Concept | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a search asked: resources of a type, of one patient, with one of the codes.

    An empty patient or no codes: it did not ask for one.
    """

    kind: str
    patient: str
    codes: frozenset[str]

    @staticmethod
    def of(kind: str, fields: Iterable[tuple[str, str]]) -> Question:
        """The question of a search's parameters."""
        fields = list(fields)
        return Question(
            kind,
            next((_last(value) for name, value in fields if name in _PATIENT), ""),
            frozenset(_codes(value for name, value in fields if name == "code")),
        )

    def ignored(self, self_link: str) -> str:
        """The parameter that a server's `self` link says it did not search by; empty for none."""
        told = _told(self_link)
        if self.patient and self.patient not in {_last(v) for n, v in told if n in _PATIENT}:
            return "patient"
        if not self.codes <= _codes(value for name, value in told if name == "code"):
            return "code"
        return ""

    def contradicted(self, found: Found, proven: bool) -> str:
        """The parameter that a resource found does not answer; empty for none.

        Where no `self` link has `proven` that the server searched by them, each resource must.
        """
        named = found.subject.reference if found.subject else None
        if self.patient and (named or not proven) and not self._is_about(named or ""):
            return "patient"
        codes = {coding.code for coding in found.code.coding} if found.code else set()
        return "code" if self.codes and not proven and codes.isdisjoint(self.codes) else ""

    def _is_about(self, reference: str) -> bool:
        """Whether a reference, on whatever server, is the patient's."""
        path = reference.partition("/_history/")[0].split("/")
        return path[-2:] == ["Patient", self.patient]


def tells(self_link: str) -> bool:
    """Whether a `self` link says by which parameters the server searched."""
    return bool(_told(self_link))


def _told(self_link: str) -> list[tuple[str, str]]:
    """The parameters of a link without their modifiers; values once more unescaped as well."""
    try:
        query = parse_qsl(urlsplit(self_link).query, keep_blank_values=True)
    except ValueError:
        return []
    told = [(name.partition(":")[0], value) for name, value in query]
    return told + [(name, unquote(value)) for name, value in told if "%" in value]


def _last(reference: str) -> str:
    return reference.rpartition("/")[2]


def _codes(values: Iterable[str]) -> set[str]:
    """The codes of search tokens, without their systems."""
    tokens = (token for value in values for token in tokens_of(value))
    return {_ESCAPE.sub(r"\1", _SYSTEM.split(token)[-1]) for token in tokens}
