"""Where a resource belongs: whose it is, and what it may have to be read together with.

Patients are told apart by the reader. Here lines are only brought together that the reader must
see together: a patient's own, and those that lend a subject or a date to one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from app.fhir.cause_words import named_by_condition, named_by_drug, named_by_procedure
from app.fhir.maps import CodeMap
from app.fhir.resources import (
    DECODE_RESOURCE,
    Concept,
    Condition,
    Dated,
    DiagnosticReport,
    Medicated,
    Medication,
    Observation,
    PatientResource,
    Procedure,
    Readable,
    Reference,
    Specimen,
    Valued,
)
from app.fhir.times import effective
from app.fhir.treatments import drug_of, transfused
from app.reading.aside import SetAside
from app.reading.meanings import meaning_of
from app.reading.specimens import doubt_of_specimen
from app.reading.subjects import Subjects, literal_of, replaces

OBSERVATION = "Observation/"


class Routed(NamedTuple):
    """A resource on its way to its patient."""

    key: str
    """The patient; where the resource names none, the resource itself."""
    name: str
    """How others refer to it, such as Observation/1; empty without an id."""
    wants: tuple[str, ...] = ()
    """Names under which another line may lend it a subject or a date."""
    lends: tuple[str, ...] = ()
    """Names of lines it may lend to."""
    joins: tuple[str, ...] = ()
    """Other keys that must be read together with this one."""
    medication: str = ""
    """The Medication it refers to."""
    bare: bytes = b""
    """All that matters of it, where that is little: that there is such a patient or medication."""


def route(found: Readable, code_map: CodeMap | None) -> Routed | None:
    """Where a resource belongs; None where it can bear on no assessment."""
    kind = str(found.__struct_config__.tag)
    name = f"{kind}/{found.id}" if found.id else ""
    if isinstance(found, PatientResource):
        same = (_key_in(one.other, found) for one in found.link if replaces(one))
        joins = tuple(key for key in same if key)
        return Routed(name or kind, name, lends=tuple(_keys_of(found)), joins=joins)
    if isinstance(found, Medication):
        return _medication(found, name) if name else None
    inside = list(_contained(found)) if found.contained else []
    key = _key_in(found.subject, found)
    if isinstance(found, Specimen):
        # Without a patient it would have to be looked for from every result.
        return Routed(key, name, _logical(key)) if key and name and _is_doubted(found) else None
    if inside or not _useless(found, code_map):
        return _kept(found, name, key, inside)
    return _presence(found, name, key)


def _is_doubted(specimen: Specimen) -> bool:
    try:
        return doubt_of_specimen(specimen) is not None
    except SetAside:
        return False


def _medication(found: Medication, name: str) -> Routed:
    if _is_a_drug(found.code):
        return Routed(name, name)
    # It may stand before another of its name, as in a Bundle.
    meta = bytes(found.meta) or b"null"
    stub = b'{"resourceType":"Medication","id":%b,"meta":%b}' % (_ENCODE(found.id), meta)
    return Routed(name, name, bare=stub)


def _presence(found: _Kept, name: str, key: str | None) -> Routed | None:
    """What a result without a count says, and a condition or a drug that is no other cause.

    That there is such a patient, and that these were looked at.
    """
    kind = str(found.__struct_config__.tag)
    if key and kind in _BARE:
        told = (kind.encode(), _ENCODE(found.subject), _BARE[kind])
        bare = b'{"resourceType":"%b","subject":%b%b}' % told
        return Routed(key, f"{kind}/bare", _logical(key), bare=bare)
    return Routed(name, name, (name,)) if name and kind in _BARE else None


_ENCODE = msgspec.json.Encoder().encode
_Kept = Observation | DiagnosticReport | Procedure | Medicated | Condition
_A_DRUG = b',"medicationCodeableConcept":{"text":"another"}'
_BARE = {
    "Observation": b"",
    "Condition": b',"code":{"text":"another"}',
    **dict.fromkeys(
        ("MedicationAdministration", "MedicationStatement", "MedicationRequest"), _A_DRUG
    ),
}
"""What stands for a resource of which only its patient and its type matter."""


def _kept(
    found: _Kept,
    name: str,
    key: str | None,
    inside: Iterable[Readable],
) -> Routed:
    keys = (_key_in(getattr(one, "subject", None), one) for one in inside)
    joins = {one for one in keys if one}
    wants = tuple(k for k in sorted(joins) if _logical(k))
    members = found.hasMember if isinstance(found, Observation) else ()
    results = found.result if isinstance(found, DiagnosticReport) else members
    dateless = isinstance(found, Dated) and not effective(found)[1]
    if name and (key is None or dateless):
        wants += (name,)
    if key is None:
        key = min(joins, default=name)
    else:
        wants += _logical(key)
    medication = found.medicationReference if isinstance(found, Medicated) else None
    return Routed(
        key,
        name,
        wants,
        tuple(last_parts(one.reference) for one in results if one.reference),
        tuple(sorted(joins - {key})),
        last_parts(medication.reference) if medication and medication.reference else "",
    )


def _useless(found: _Kept, code_map: CodeMap | None) -> bool:
    """Whether nothing of it can bear on an assessment, except that it names its patient."""
    if isinstance(found, Observation):
        panel = bool(found.component)
        parts: tuple[Valued, ...] = (found, *found.component)
        return not (found.hasMember or any(_may_count(part, panel, code_map) for part in parts))
    if isinstance(found, DiagnosticReport):
        return not found.result
    if isinstance(found, Procedure):
        return transfused(found.code) is None and not named_by_procedure(found.code)
    if isinstance(found, Condition):
        # One without a code is remarked upon.
        told = found.code and (found.code.coding or found.code.text)
        return bool(told) and not named_by_condition(found.code)
    return not (found.medicationReference or _is_a_drug(found.medicationCodeableConcept))


def _is_a_drug(concept: Concept | None) -> bool:
    """Whether it is a drug or a blood product that the reader must say a word about."""
    return bool(
        drug_of(concept)
        or transfused(concept, is_medication=True) is not None
        or named_by_drug(concept)
    )


def _may_count(valued: Valued, panel: bool, code_map: CodeMap | None) -> bool:
    """Whether it is a blood count, or something that the reader must say a word about."""
    try:
        return meaning_of(valued, panel, code_map) is not None
    except SetAside:
        return True


def _contained(found: Readable) -> Iterator[Readable]:
    for one in found.contained:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield DECODE_RESOURCE(one)


def _key_in(subject: Reference | None, holder: Readable | None = None) -> str | None:
    """The patient of a subject, whatever server it is on; None where it names none."""
    if subject and subject.reference and (literal := literal_of(subject.reference)):
        return literal
    return Subjects((), (), None).key(subject, "", holder) if subject else None


def _logical(key: str) -> tuple[str, ...]:
    """The key, where it is an identifier's: a Patient on another line may have it."""
    return (key,) if key.startswith("identifier:") else ()


def _keys_of(patient: PatientResource) -> Iterator[str]:
    """The keys under which results may name the patient by an identifier."""
    for identifier in patient.identifier:
        if key := _key_in(Reference(identifier=identifier)):
            yield key


def last_parts(reference: str) -> str:
    """A literal reference without its server and version: Observation/1."""
    return "/".join(reference.split("/_history/", maxsplit=1)[0].split("/")[-2:])
