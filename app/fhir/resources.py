"""The elements we read of FHIR resources, as lean structs; every other element is passed over.

They have the names of FHIR R4 (R4B has the same); what R5 names otherwise is put under those.

A quantity's value stays raw bytes until it is needed: a decimal is then exact, and a string that
stands in a number's place is seen as such.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

ABSENT = Raw(b"")


class Element(msgspec.Struct, gc=False):
    """A FHIR element."""


class Coding(Element):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class Concept(Element):
    coding: tuple[Coding, ...] = ()
    text: str | None = None


class Said(Element):
    """What both an Annotation and a CodeableConcept may say in words."""

    text: str | None = None
    coding: tuple[Coding, ...] = ()


class Identifier(Element):
    system: str | None = None
    value: str | None = None


class Reference(Element):
    reference: str | None = None
    identifier: Identifier | None = None


class Quantity(Element):
    value: Raw = ABSENT
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class Range(Element):
    low: Quantity | None = None
    high: Quantity | None = None


class ReferenceRange(Element):
    low: Quantity | None = None
    high: Quantity | None = None
    type: Concept | None = None
    appliesTo: tuple[Concept, ...] = ()
    age: Range | None = None


class Period(Element):
    start: str | None = None
    end: str | None = None


class Timing(Element):
    event: tuple[str, ...] = ()


class CodeableReference(Element):
    """R5's CodeableConcept, Reference or both."""

    concept: Concept | None = None
    reference: Reference | None = None


class Adherence(Element):
    """Whether a drug is taken, which R5 no longer tells by a status."""

    code: Concept | None = None


class Meta(Element):
    versionId: str | None = None
    lastUpdated: str | None = None


class Labelled(Element):
    """A resource's meta, for its security labels."""

    security: tuple[Coding, ...] = ()


class Resource(Element, kw_only=True):
    """What every resource may have."""

    id: str | None = None
    meta: Raw = ABSENT
    implicitRules: str | None = None
    status: str | None = None
    contained: tuple[Raw, ...] = ()
    modifierExtension: Raw = ABSENT


class Dated(Resource, kw_only=True):
    """A resource about a subject at a time."""

    subject: Reference | None = None
    effectiveDateTime: str | None = None
    effectiveInstant: str | None = None
    effectivePeriod: Period | None = None
    effectiveTiming: Timing | None = None
    issued: str | None = None


class Valued(Dated, kw_only=True):
    """What an Observation and its components share (msgspec has single inheritance only).

    What laboratories send the same again and again stays raw: each text is read once.
    """

    code: Raw = ABSENT
    valueQuantity: Raw = ABSENT
    valueString: str | None = None
    valueRange: Range | None = None
    valueCodeableConcept: Raw = ABSENT
    valueBoolean: Raw = ABSENT
    valueInteger: Raw = ABSENT
    valueRatio: Raw = ABSENT
    valueSampledData: Raw = ABSENT
    valueTime: Raw = ABSENT
    valueDateTime: Raw = ABSENT
    valuePeriod: Raw = ABSENT
    dataAbsentReason: Concept | None = None
    interpretation: Raw = ABSENT
    referenceRange: Raw = ABSENT


class Component(Valued):
    pass


class Observation(Valued, kw_only=True, tag="Observation", tag_field="resourceType"):
    identifier: Raw = ABSENT
    focus: tuple[Reference, ...] = ()
    note: Raw = ABSENT
    specimen: Reference | None = None
    hasMember: tuple[Reference, ...] = ()
    component: tuple[Component, ...] = ()


class DiagnosticReport(Dated, kw_only=True, tag="DiagnosticReport", tag_field="resourceType"):
    result: tuple[Reference, ...] = ()


class PatientLink(Element):
    other: Reference | None = None
    type: str | None = None


class PatientResource(Resource, kw_only=True, tag="Patient", tag_field="resourceType"):
    identifier: tuple[Identifier, ...] = ()
    link: tuple[PatientLink, ...] = ()
    gender: str | None = None
    birthDate: str | None = None
    deceasedDateTime: str | None = None


class Treatment(Resource, kw_only=True):
    """What was done to a subject: a procedure, or a drug given."""

    identifier: Raw = ABSENT
    subject: Reference | None = None


R5_NAMES: dict[str, dict[str, str]] = {
    "Procedure": {
        "occurrenceDateTime": "performedDateTime",
        "occurrencePeriod": "performedPeriod",
        "occurrenceTiming": "performedDateTime",
    },
    "MedicationAdministration": {
        # So it is spelled.
        "occurenceDateTime": "effectiveDateTime",
        "occurencePeriod": "effectivePeriod",
        "occurenceTiming": "effectiveDateTime",
    },
    "MedicationStatement": {"effectiveTiming": "effectiveDateTime"},
    "MedicationRequest": {},
}
"""By type: each time that R5 names otherwise than R4, or has anew, and as which it is read."""
_ADHERENCE = {
    "taking": "active",
    "taking-as-directed": "active",
    "taking-not-as-directed": "active",
    "on-hold": "on-hold",
    "on-hold-as-directed": "on-hold",
    "on-hold-not-as-directed": "on-hold",
    "stopped": "stopped",
    "stopped-as-directed": "stopped",
    "stopped-not-as-directed": "stopped",
}
"""R5 tells apart that a drug was recorded and whether it is taken: R4's statuses for both."""


class Procedure(Treatment, kw_only=True, tag="Procedure", tag_field="resourceType"):
    code: Concept | None = None
    performedDateTime: str | None = None
    performedPeriod: Period | None = None
    occurrenceDateTime: str | None = None
    occurrencePeriod: Period | None = None
    occurrenceTiming: Timing | None = None

    def __post_init__(self) -> None:
        _name_as_r4(self, R5_NAMES["Procedure"])


class Dosage(Element):
    dose: Quantity | None = None


class Medicated(Treatment, kw_only=True):
    """What the records of a drug share."""

    medicationCodeableConcept: Concept | None = None
    medicationReference: Reference | None = None
    medication: CodeableReference | None = None
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None

    def __post_init__(self) -> None:
        own = CodeableReference(self.medicationCodeableConcept, self.medicationReference)
        if self.medication is not None and self.medication != own:
            if own != CodeableReference():
                raise ValueError("it names one medication as FHIR R4 does, and another as R5 does")
            self.medicationCodeableConcept = self.medication.concept
            self.medicationReference = self.medication.reference
        self.medication = None
        _name_as_r4(self, R5_NAMES[str(self.__struct_config__.tag)])


class MedicationAdministration(
    Medicated, kw_only=True, tag="MedicationAdministration", tag_field="resourceType"
):
    dosage: Dosage | None = None
    occurenceDateTime: str | None = None
    occurencePeriod: Period | None = None
    occurenceTiming: Timing | None = None


class MedicationStatement(
    Medicated, kw_only=True, tag="MedicationStatement", tag_field="resourceType"
):
    effectiveTiming: Timing | None = None
    adherence: Adherence | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status == "recorded":
            self.status = _status_of(self.adherence)


class MedicationRequest(Medicated, kw_only=True, tag="MedicationRequest", tag_field="resourceType"):
    intent: str | None = None
    authoredOn: str | None = None
    doNotPerform: bool | None = None


class Condition(Resource, kw_only=True, tag="Condition", tag_field="resourceType"):
    """A problem or a diagnosis, with all that tells since when and whether it still holds."""

    identifier: Raw = ABSENT
    subject: Reference | None = None
    code: Concept | None = None
    clinicalStatus: Concept | None = None
    verificationStatus: Concept | None = None
    onsetDateTime: str | None = None
    onsetPeriod: Period | None = None
    recordedDate: str | None = None
    abatementDateTime: str | None = None
    abatementPeriod: Period | None = None
    abatementAge: Raw = ABSENT
    abatementRange: Raw = ABSENT
    abatementString: str | None = None


class Specimen(Resource, kw_only=True, tag="Specimen", tag_field="resourceType"):
    subject: Reference | None = None
    condition: Raw = ABSENT
    note: Raw = ABSENT


class Medication(Resource, kw_only=True, tag="Medication", tag_field="resourceType"):
    code: Concept | None = None


def _name_as_r4(record: Procedure | Medicated, names: dict[str, str]) -> None:
    """Puts the times that are named as in R5 under R4's names.

    One that is told twice, and not the same, is emptied: no date that can be used.
    """
    for name, own in names.items():
        found = getattr(record, name)
        if found is None:
            continue
        if isinstance(found, Timing):
            found = found.event[0] if len(found.event) == 1 else ""
        if getattr(record, own) not in (None, found):
            found = type(found)()
        setattr(record, own, found)
        setattr(record, name, None)


def _status_of(adherence: Adherence | None) -> str:
    """R4's status of what is recorded; where it has none for it, the code that was given.

    What nobody says has ended may still be taken. What is not being taken may have been before.
    """
    if adherence is None:
        return "active"
    coding = adherence.code.coding if adherence.code else ()
    code = next((one.code for one in coding if one.code), "recorded")
    return _ADHERENCE.get(code, code)


Readable = (
    Observation
    | DiagnosticReport
    | PatientResource
    | Procedure
    | MedicationAdministration
    | MedicationStatement
    | MedicationRequest
    | Condition
    | Medication
    | Specimen
)
DECODE_RESOURCE: Callable[[bytes | Raw], Readable] = msgspec.json.Decoder(Readable).decode
DECODE_CONCEPT = msgspec.json.Decoder(Concept | None).decode
DECODE_IDENTIFIERS = msgspec.json.Decoder(tuple[Identifier, ...] | None).decode
DECODE_LABELLED = msgspec.json.Decoder(Labelled).decode
DECODE_META = msgspec.json.Decoder(Meta | None).decode
DECODE_QUANTITY = msgspec.json.Decoder(Quantity | None).decode
DECODE_SAID = msgspec.json.Decoder(tuple[Said, ...] | None).decode
DECODE_RANGES = msgspec.json.Decoder(tuple[ReferenceRange, ...] | None).decode


def told_by(error: Exception) -> tuple[str, str]:
    """A decode error's words without the patient's values, and its FHIRPath in what was decoded."""
    words = str(error).split(" - at ", maxsplit=1)[0]
    words = re.sub(r"Invalid value '.*'", "Invalid value", words, flags=re.DOTALL)
    path = re.search(r"`\$((?:\.\w+|\[\d+\]|\[\.\.\.\])*)`", str(error))
    return words, path.group(1).replace("[...]", "") if path else ""
