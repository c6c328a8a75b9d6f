"""FHIR resources to patients' Courses, and everything that was set aside, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.counts import Analyte, Course, Remark, Severity
from app.domain.derivation import derived_counts
from app.fhir.bodies import Entries
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError
from app.fhir.resources import (
    Condition,
    Medicated,
    MedicationRequest,
    Observation,
    PatientResource,
    Procedure,
    Reference,
)
from app.reading.aside import SetAside
from app.reading.bundles import Item, collect, each_once
from app.reading.causes import settled
from app.reading.charts import Charts
from app.reading.observations import Observations
from app.reading.records import NOBODY, Record, Records
from app.reading.standing import standing_of
from app.reading.subjects import replaces
from app.reading.treatments import Treatments


@dataclass(frozen=True, slots=True)
class Reading:
    """Every patient's course, and what belongs to no patient."""

    courses: tuple[Course, ...]
    remarks: tuple[Remark, ...]


class OthersDataError(RequestError):
    """Data that should be of one patient hold another's."""

    def __init__(self, place: str) -> None:
        text = "The data hold another patient's than the subject's: nothing was assessed."
        super().__init__(422, Fault("business-rule", text, place))


def read_courses(
    entries: Entries,
    place: str,
    subject: Reference | None = None,
    transfusion_history_complete: bool = False,
    normal_ranges: bool = True,
    code_map: CodeMap | None = None,
    of_one_patient: bool = False,
) -> Reading:
    """Every patient's course in time from a Bundle's entries.

    `place` is the Bundle's FHIRPath. `subject` narrows the answer to one patient, and is the
    patient of results that name none. Without `normal_ranges` the laboratories' own are only
    witnesses of the unit: no definition of eligibility asks for them. `code_map` has the
    hospital's own codes. Raises RequestError where there is nothing to assess, and OthersDataError
    where the data should be `of_one_patient`, the subject, and something is of another.
    """
    orphans: list[Remark] = []
    found: list[Item] = []
    collect(entries, place, found, orphans)
    items, contradicted = each_once(found, orphans)
    records = Records(items, contradicted, subject, orphans)
    if of_one_patient and records.has_others(found):
        raise OthersDataError(place)
    if not any(isinstance(item.resource, Observation) for item in items):
        raise RequestError(
            422,
            Fault("not-found", "There is no Observation to assess in the data.", place),
            remarks=orphans,
        )
    _read(items, records, Observations(items, records, normal_ranges, code_map))
    courses = _courses(records, transfusion_history_complete)
    if not courses:
        raise RequestError(
            422,
            Fault(
                "not-found",
                "No patient to assess: name the patient of the results, in Observation.subject or "
                "with the parameter 'subject'."
                if subject is None
                else "The data hold nothing of the patient named by 'subject'.",
                place,
            ),
            remarks=orphans,
        )
    return Reading(courses, tuple(orphans))


def _read(items: Sequence[Item], records: Records, observations: Observations) -> None:
    """Put every resource into its patient's record, or say why it is set aside."""
    treatments, charts = Treatments(records), Charts(records)
    for item in items:
        resource = item.resource
        if isinstance(resource, Observation):
            observations.read(item, resource)
        elif isinstance(resource, PatientResource) and item.container is None:
            _patient(item, resource, records)
        elif isinstance(resource, (Procedure, Medicated, Condition)):
            try:
                _read_chart(item, resource, treatments, charts)
            except SetAside as aside:
                records.set_aside(item, "", aside)


def _read_chart(
    item: Item,
    resource: Procedure | Medicated | Condition,
    treatments: Treatments,
    charts: Charts,
) -> None:
    """What was given or done, and what else stands in the chart."""
    if isinstance(resource, Condition):
        charts.condition(item, resource)
    elif isinstance(resource, Procedure):
        charts.procedure(item, resource)
        treatments.procedure(item, resource)
    elif isinstance(resource, MedicationRequest) or not treatments.medication(item, resource):
        charts.drug(item, resource)


def _patient(item: Item, patient: PatientResource, records: Records) -> None:
    """A patient without any result is still answered."""
    record = records.of[records.subjects.key_of_patient(patient, item.full_url)]
    if any(map(replaces, patient.link)):
        text = "Linked as one person with another Patient: their data are one's."
        place = f"{item.place}.link"
        record.remarks.append(Remark("merged-patient", Severity.INFORMATION, text, (place,)))


def _courses(records: Records, history_complete: bool) -> tuple[Course, ...]:
    """Every patient's course, in the order of their references."""
    keys = [records.named] if records.named else sorted(records.of)
    return tuple(
        _course(records, key, records.of[key], history_complete)
        for key in keys
        if key in records.of
    )


def _course(records: Records, key: str, record: Record, history_complete: bool) -> Course:
    standing, replaced = standing_of(record)
    weights = tuple([c for c in standing if c.analyte is Analyte.BODY_WEIGHT])
    counts = standing
    if weights:
        counts = tuple([c for c in standing if c.analyte is not Analyte.BODY_WEIGHT])
    charted, doubted = settled(record.charted)
    administered = {d.drug for d in record.drugs if not d.stated}
    person = records.people.get(key, NOBODY)
    return Course(
        patient=records.subjects.patient(key),
        counts=counts,
        derived=derived_counts(counts),
        transfusions=tuple(record.transfusions),
        no_transfusions=tuple(record.no_transfusions),
        transfusion_history_complete=history_complete,
        drugs=tuple(d for d in record.drugs if not d.stated or d.drug not in administered),
        weights=weights,
        sex=person.sex,
        born=person.born,
        died=person.died,
        chart=charted,
        looked_at=tuple(sorted(record.looked_at)),
        remarks=(*record.all_remarks(), *replaced, *doubted),
    )
