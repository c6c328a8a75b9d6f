"""Procedures and medications to transfusions and drugs given."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import msgspec

from app.domain.counts import (
    UNDATED,
    Drug,
    DrugGiven,
    NoTransfusion,
    Product,
    Remark,
    Severity,
    Source,
    Transfusion,
    When,
)
from app.fhir.resources import (
    Medicated,
    MedicationAdministration,
    Period,
    Procedure,
)
from app.fhir.times import of_period, when
from app.fhir.treatments import Transfused, drug_of, transfused
from app.reading.aside import SetAside, short
from app.reading.bundles import WITHDRAWN, Item, identifiers_of, labels_of
from app.reading.quantities import dose_of
from app.reading.records import Record, Records

GIVEN = {"completed", "in-progress", "on-hold", "stopped", "active"}
NOT_GIVEN = {"not-done", "not-taken", "intended"}
RUNNING = {"in-progress", "active"}


class _Times(NamedTuple):
    """When something was given, as its record tells."""

    moment: str | None
    period: Period | None

    @property
    def open(self) -> bool:
        """Whether it has begun, and no end is told."""
        return bool(self.period and self.period.start and not self.period.end)

    @property
    def began(self) -> When | None:
        """The first moment of a period in which it was given."""
        return when(self.period.start) if self.period and self.period.start else None

    def when(self, running: bool, say: bool = True) -> When:
        """The moment, or the days; what is `running` lasts on (section 3).

        Raises SetAside where no date can be used; with `say` false nothing is, and UNDATED is.
        """
        found = of_period(self.period) if self.period else when(self.moment or "")
        if found is None:
            if say:
                raise SetAside("no-date", "The record has no date that can be used.")
            return UNDATED
        if running and (self.open or not self.period):
            return When(found.first, date.max, None, f"{found.text}/")
        return found


class Treatments:
    """Reads transfusions and drugs into their patients' records, or raises SetAside."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._links = records.links

    def procedure(self, item: Item, procedure: Procedure) -> None:
        """Put a transfusion into the patient's record."""
        given = transfused(procedure.code)
        if given is not None:
            times = _Times(procedure.performedDateTime, procedure.performedPeriod)
            self._transfusion(item, procedure, given, times)

    def medication(self, item: Item, given: Medicated) -> bool:
        """Put a drug that bears on counts, or a product, into the record; whether it is one."""
        times = _Times(given.effectiveDateTime, given.effectivePeriod)
        for concept in self._links.medicines(item, given):
            if drug := drug_of(concept):
                self._drug(item, given, drug, times)
                return True
            if product := transfused(concept, is_medication=True):
                self._transfusion(item, given, product, times)
                return True
        return False

    def _transfusion(
        self, item: Item, record: Procedure | Medicated, given: Transfused, times: _Times
    ) -> None:
        """One transfusion; one that cannot be counted is kept, since it is no "none" (ruling 1)."""
        if given.product is None:
            text = "A transfusion of neither red cells nor platelets: it bears on no count judged."
            self._records.remark(
                item, Remark("other-product", Severity.INFORMATION, text, (item.place,))
            )
            return
        patient = self._records.of[self._records.owner(item)]
        source = Source(item.reference, item.place, labels=labels_of(self._links.lending(item)))
        try:
            if record.status in NOT_GIVEN:
                patient.no_transfusions += self._none_given(record, given.product, times, source)
                return
            self._refuse_record(item, record)
            moment = times.when(running=record.status in RUNNING)
        except SetAside:
            if record.status not in WITHDRAWN:
                dated = times.when(running=False, say=False) or UNDATED
                patient.transfusions.append(
                    Transfusion(given.product, dated, source, standing=False)
                )
            raise
        if self._is_new(patient, item, record, moment, given.product):
            patient.transfusions.append(Transfusion(given.product, moment, source))

    def _none_given(
        self, record: Procedure | Medicated, product: Product, times: _Times, source: Source
    ) -> tuple[NoTransfusion, ...]:
        """The statement that nothing was given; a plan or a drug not taken is none."""
        if record.status != "not-done":
            return ()
        _refuse_modified(record)
        nothing = None if product is Product.UNKNOWN else product
        return (NoTransfusion(nothing, times.when(running=False), source),)

    def _drug(self, item: Item, given: Medicated, drug: Drug, times: _Times) -> None:
        if given.status in NOT_GIVEN:
            return
        patient = self._records.of[self._records.owner(item)]
        source = Source(item.reference, item.place, labels=labels_of(self._links.lending(item)))
        growth_factor = drug is not Drug.DACLIZUMAB
        try:
            self._refuse_record(item, given)
        except SetAside:
            # It may have been given: what it may have lifted is no evidence.
            moment = times.when(running=False, say=False)
            if growth_factor and moment and given.status not in WITHDRAWN:
                patient.drugs.append(DrugGiven(drug, moment, source))
            raise
        moment = times.when(growth_factor and (times.open or given.status in RUNNING))
        if not self._is_new(patient, item, given, moment, drug):
            return
        administration = given if isinstance(given, MedicationAdministration) else None
        dosage = administration.dosage if administration else None
        milligrams, per_kg = dose_of(dosage.dose) if dosage and dosage.dose else (None, None)
        stated = administration is None
        patient.drugs.append(
            DrugGiven(drug, moment, source, milligrams, per_kg, stated, times.began)
        )

    def _refuse_record(self, item: Item, record: Procedure | Medicated) -> None:
        _refuse_modified(record)
        self._records.refuse_contradicted(item)
        if record.status not in GIVEN:
            status = f"of status '{short(record.status)}'" if record.status else "without a status"
            raise SetAside("status-excluded", f"A record {status} is not counted.", ".status")

    def _is_new(
        self, patient: Record, item: Item, record: Procedure | Medicated, moment: When, what: object
    ) -> bool:
        """Whether the record was not sent before under an identifier, or without any name."""
        names: list[object] = [
            (item.server, one.system, one.value, what, moment) for one in identifiers_of(record)
        ]
        if not item.reference and not names and moment.instant:
            names = [(item.server, msgspec.json.encode(record))]
        known = not patient.treatments.isdisjoint(names)
        patient.treatments.update(names)
        return not known


def _refuse_modified(record: Procedure | Medicated) -> None:
    if record.modifierExtension or record.implicitRules:
        raise SetAside("modifier-extension", "A modifier extension is not understood.")
