"""What else stands in a chart, put into its patient's record."""

from __future__ import annotations

from app.domain.counts import Source
from app.fhir.resources import Condition, Medicated, Procedure
from app.reading.aside import SetAside
from app.reading.bundles import Item, labels_of
from app.reading.causes import Read, of_condition, of_drug, of_procedure
from app.reading.records import Records


class Charts:
    """Reads other causes of low counts into their patients' records, or raises SetAside."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def condition(self, item: Item, condition: Condition) -> None:
        """A condition; whatever it is, conditions were looked at."""
        self._look(item, "conditions")
        if condition.code is None or not (condition.code.coding or condition.code.text):
            text = "A condition without a code and without words: what it is, is not known."
            raise SetAside("no-value", text, ".code")
        self._keep(item, of_condition(condition, self._source(item)))

    def procedure(self, item: Item, procedure: Procedure) -> None:
        """A procedure that is a treatment which bears on counts."""
        self._keep(item, of_procedure(procedure, self._source(item)))

    def drug(self, item: Item, record: Medicated) -> None:
        """A drug that supports no count: whatever it is, medications were looked at."""
        self._look(item, "medications")
        names = self._records.links.medicines(item, record)
        self._keep(item, of_drug(record, names, self._source(item)))

    def _look(self, item: Item, kind: str) -> None:
        key, _ = self._records.patient(self._records.links.lending(item))
        if key:
            self._records.of[key].looked_at.add(kind)

    def _source(self, item: Item) -> Source:
        labels = labels_of(self._records.links.lending(item))
        return Source(item.reference, item.place, labels=labels)

    def _keep(self, item: Item, reads: list[Read]) -> None:
        if reads:
            self._records.of[self._records.owner(item)].charted += reads
