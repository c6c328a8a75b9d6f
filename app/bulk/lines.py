"""One line of an export: whose it is, what of it is read, and what it may lend to others.

Patients are told apart by the reader. Here lines are only brought together that the reader must
see together: a patient's own, and those that lend a subject or a date to one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, get_args

import msgspec
from msgspec import Raw

from app.fhir import codes
from app.fhir.outcome import RequestError
from app.fhir.reading import read_courses
from app.fhir.resources import (
    ABSENT,
    DECODE_RESOURCE,
    DECODE_TYPED,
    Concept,
    Entry,
    Identifier,
    Readable,
    Reference,
)
from app.fhir.subjects import Subjects

_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Readable))
_DATED = frozenset({"Observation", "DiagnosticReport"})
_ELEMENTS = sorted({name for kind in get_args(Readable) for name in kind.__struct_fields__})
# Every element that the reader reads, as it stands: what it makes of one is its own affair.
_Line: Any = msgspec.defstruct(
    "_Line",
    [
        ("resourceType", str | None, None),
        ("id", str | None, None),
        *((name, Raw, ABSENT) for name in _ELEMENTS if name != "id"),
    ],
    omit_defaults=True,
    gc=False,
)
_DECODE = msgspec.json.Decoder(_Line).decode
_ENCODE = msgspec.json.Encoder().encode
_DECODE_CONCEPT = msgspec.json.Decoder(Concept | None).decode
_DECODE_REFERENCE = msgspec.json.Decoder(Reference | None).decode
_DECODE_REFERENCES = msgspec.json.Decoder(tuple[Reference, ...]).decode
_DECODE_IDENTIFIERS = msgspec.json.Decoder(tuple[Identifier, ...]).decode
_DECODE_RAWS = msgspec.json.Decoder(tuple[Raw, ...]).decode
_DECODE_LINES = msgspec.json.Decoder(tuple[_Line, ...]).decode
_EFFECTIVE = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "effectiveTiming")
_KNOWN_CODES = frozenset(
    {*codes.BY_LOINC, *codes.REJECTED_LOINC, *codes.PANEL_LOINC}
    | {code for _, code in codes.TRANSFUSIONS}
    | {code for _, code in codes.DRUGS}
)


class BrokenLineError(Exception):
    """A line that is no resource, and why; without any value of the patient's."""


class Routed(msgspec.Struct, gc=False):
    """A resource on its way to its patient."""

    key: str
    """The patient; where the resource names none, the resource itself."""
    name: str
    """How others refer to it, such as Observation/1; empty without an id."""
    resource: bytes
    wants: tuple[str, ...] = ()
    """Names under which another line may lend it a subject or a date."""
    lends: tuple[str, ...] = ()
    """Names of lines it may lend to."""
    joins: tuple[str, ...] = ()
    """Other keys that must be read together with this one."""
    medication: str = ""
    """The Medication it refers to."""
    bare: bool = False
    """Whether it says only that there is such a patient."""


def route(line: bytes) -> Routed | None:
    """Where a line belongs; None where no assessment can read it.

    Raises BrokenLineError for what is no JSON object, no resource, or malformed.
    """
    try:
        found = _DECODE(line)
        if found.resourceType in _KINDS:
            return _route(line, found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(line, error) from None
    if found.resourceType is None:
        raise BrokenLineError("No resource: it has no resourceType.")
    if found.resourceType == "Bundle":
        raise BrokenLineError("A Bundle is no line of an export: put each resource on a line.")
    return None


def _broken(line: bytes, error: Exception) -> BrokenLineError:
    """The error in the reader's words, without any value of the patient's."""
    try:
        DECODE_TYPED(line)
        read_courses((Entry(None, Raw(line)),), "Bundle")
    except RequestError as unread:
        return BrokenLineError(next((remark.text for remark in unread.remarks), str(unread)))
    except msgspec.ValidationError:
        return BrokenLineError("Not a FHIR resource.")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return BrokenLineError(f"Not JSON: {error}.")
    except RecursionError:
        return BrokenLineError("The JSON is nested too deep.")
    return BrokenLineError("Not a FHIR resource: an element is malformed.")


def _route(line: bytes, found: Any) -> Routed | None:
    kind = found.resourceType
    name = f"{kind}/{found.id}" if found.id else ""
    if kind == "Observation" and (key := _plain(found)):
        return Routed(key, name, _ENCODE(found))
    if kind == "Patient":
        return Routed(name or kind, name, _ENCODE(found), lends=_identifiers(found.identifier))
    if kind == "Medication":
        return Routed(name, name, _ENCODE(found)) if name and _matters(found.code) else None
    inside = list(_contained(found.contained)) if found.contained else []
    key = _key(bytes(found.subject), line)
    if inside or not _useless(found):
        return _kept(found, kind, name, key, inside)
    DECODE_RESOURCE(Raw(line))  # a malformed one is named, though it could not matter
    return _presence(found, name, key) if kind == "Observation" else None


def _presence(found: Any, name: str, key: str | None) -> Routed | None:
    """What a result without a count in it says: that there is such a patient."""
    if key:
        bare = _ENCODE(_Line(resourceType="Observation", subject=found.subject))
        return Routed(key, "Observation/bare", bare, _logical(key), bare=True)
    return Routed(name, name, _ENCODE(found), (name,)) if name else None


def _plain(found: Any) -> str | None:
    """The patient of a dated count that stands alone, as nearly all do; None for any other."""
    if not (found.subject and _given(found.effectiveDateTime)) or (
        found.contained or found.hasMember or found.component or not _matters(found.code)
    ):
        return None
    key, _ = _key_of(bytes(found.subject))
    return key if key and not _logical(key) else None


def _kept(found: Any, kind: str, name: str, key: str | None, inside: list[Readable]) -> Routed:
    joins = {k for one in inside if (k := _key_in(one))}
    lends: tuple[str, ...] = ()
    wants: tuple[str, ...] = tuple(k for k in sorted(joins) if _logical(k))
    if kind in _DATED:
        lends = _references(found.result if kind == "DiagnosticReport" else found.hasMember)
    dateless = kind in _DATED and not any(_given(getattr(found, element)) for element in _EFFECTIVE)
    if name and (key is None or dateless):
        wants += (name,)
    if key is None:
        key = min(joins, default=name)
    else:
        wants += _logical(key)
    return Routed(
        key,
        name,
        _ENCODE(found),
        wants,
        lends,
        tuple(sorted(joins - {key})),
        _medication(found.medicationReference),
    )


def _useless(found: Any) -> bool:
    """Whether nothing of it can bear on an assessment, except that it names its patient."""
    kind = found.resourceType
    if kind == "Observation":
        if found.hasMember:
            return False
        if found.component:
            parts = _DECODE_LINES(_array(found.component))
            return not any(_matters(part.code) for part in (found, *parts))
        return not _matters(found.code)
    if kind == "DiagnosticReport":
        return not found.result
    if kind == "Procedure":
        return not _matters(found.code)
    return not (found.medicationReference or _matters(found.medicationCodeableConcept))


def _given(raw: Raw) -> bool:
    return bool(raw) and bytes(raw) != b"null"


def _array(raw: Raw) -> Raw:
    return raw if _given(raw) else Raw(b"[]")


@lru_cache(maxsize=8192)
def _concept_matters(raw: bytes) -> bool:
    concept = _DECODE_CONCEPT(raw)
    if concept is None:
        return False
    names = [text for text in (concept.text, *(c.display for c in concept.coding)) if text]
    return (
        any(c.code in _KNOWN_CODES for c in concept.coding)
        or any(codes.looks_like_a_count(text) for text in names)
        or any(drug in text[:200].lower() for text in names for drug in codes.DRUG_NAMES)
    )


def _matters(code: Raw) -> bool:
    return bool(code) and _concept_matters(bytes(code))


def _contained(raw: Raw) -> Iterator[Readable]:
    for one in _DECODE_RAWS(_array(raw)):
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            yield DECODE_RESOURCE(one)


def _key(subject: bytes, line: bytes) -> str | None:
    """The patient of a subject, whatever server it is on; None where it names none."""
    key, within = _key_of(subject) if subject else (None, False)
    return _key_in(DECODE_RESOURCE(Raw(line))) if within else key


def _key_in(resource: Readable) -> str | None:
    subject = getattr(resource, "subject", None)
    return Subjects((), (), None).key(subject, "", resource) if subject else None


def _logical(key: str) -> tuple[str, ...]:
    """The key, where it is an identifier's: a Patient on another line may have it."""
    return (key,) if key.startswith("identifier:") else ()


@lru_cache(maxsize=65536)
def _key_of(subject: bytes) -> tuple[str | None, bool]:
    """A patient's key, and whether the subject points into its own resource instead."""
    reference = _DECODE_REFERENCE(subject)
    if reference is None:
        return None, False
    within = (reference.reference or "").startswith("#")
    return Subjects((), (), None).key(reference, "", None), within


def last_parts(reference: str) -> str:
    """A literal reference without its server and version: Observation/1."""
    return "/".join(reference.split("/_history/", maxsplit=1)[0].split("/")[-2:])


def _references(raw: Raw) -> tuple[str, ...]:
    named = _DECODE_REFERENCES(_array(raw)) if raw else ()
    return tuple(last_parts(one.reference) for one in named if one.reference)


def _medication(raw: Raw) -> str:
    reference = _DECODE_REFERENCE(raw) if raw else None
    return last_parts(reference.reference) if reference and reference.reference else ""


def _identifiers(raw: Raw) -> tuple[str, ...]:
    """The keys under which results may name the patient by an identifier."""
    return tuple(_logical_keys(raw)) if raw else ()


def _logical_keys(raw: Raw) -> Iterator[str]:
    for identifier in _DECODE_IDENTIFIERS(_array(raw)):
        key = Subjects((), (), None).key(Reference(identifier=identifier), "", None)
        if key:
            yield key
