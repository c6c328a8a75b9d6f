"""Which resource a reference leads to, and what reports and panels lend to their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from app.domain.counts import When
from app.domain.effort import spend
from app.fhir.resources import Concept, Dated, Medicated, Medication, Reference
from app.fhir.times import effective, when
from app.reading.aside import SetAside
from app.reading.bundles import Item

# A report of panels of panels: what a result lacks is looked for no further up.
_LENDERS_DEEP = 8


Lending = tuple[int, Item, tuple[Reference, ...]]
"""What names results, and the results it names; first (0) the reports, then (1) the panels."""


class Links:
    """Where references lead, and what lends to what: a report or a panel to its results."""

    def __init__(self, items: Sequence[Item], lending: Sequence[Lending]) -> None:
        self._items = items
        self.rivals: dict[str, list[Item]] = {}
        """By the place of a result, the reports and panels that name it where several do."""
        self._lenders = self._find_lenders(lending)

    @cached_property
    def _by_reference(self) -> dict[str, Item]:
        index: dict[str, Item] = {}
        for item in self._items:
            if item.container is not None:
                index.setdefault(f"{item.container.place}#{item.resource.id}", item)
                continue
            for name in (item.full_url, item.reference):
                if name:
                    index.setdefault(name, item)
        return index

    def resolve(self, reference: Reference, source: Item) -> Item | None:
        """What a reference of the source leads to, where it is in the data."""
        text = reference.reference
        if not text:
            return None
        if text.startswith("#"):
            place = source.container.place if source.container else source.place
            return self._by_reference.get(place + text)
        text = text.split("/_history/")[0]
        found = self._by_reference.get(text)
        return found or self._by_reference.get("/".join(text.split("/")[-2:]))

    def _find_lenders(self, named: Sequence[Lending]) -> dict[str, Item]:
        """For each result the report or panel that names or contains it, the report first."""
        lenders: dict[str, Item] = {}
        for _, lender, references in sorted(named, key=lambda n: (n[0], n[1].reference)):
            for reference in references:
                member = self.resolve(reference, lender)
                if member is not None and member is not lender:
                    first = lenders.setdefault(member.place, lender)
                    if first is not lender:
                        self.rivals.setdefault(member.place, [first]).append(lender)
        for item in self._items:
            if item.container is not None:
                lenders.setdefault(item.place, item.container)
        return lenders

    def medicines(self, item: Item, given: Medicated) -> Iterator[Concept | None]:
        """The medication's names: those on the record, then those of what it refers to."""
        yield given.medicationCodeableConcept
        if given.medicationReference is not None:
            medication = self.resolve(given.medicationReference, item)
            if medication and isinstance(medication.resource, Medication):
                yield medication.resource.code

    def lending(self, item: Item) -> Sequence[Item]:
        """The result, then what lends to it: its report or panel, and what lends to that."""
        lender = self._lenders.get(item.place) if self._lenders else None
        if lender is None:
            return (item,)
        chain = {item.place: item}
        while lender is not None and lender.place not in chain and len(chain) <= _LENDERS_DEEP:
            chain[lender.place] = lender
            lender = self._lenders.get(lender.place)
        spend(len(chain))
        return tuple(chain.values())


def date_of(lending: Sequence[Item]) -> tuple[When, Item]:
    """When a result is true of its patient, and the resource that tells."""
    for lender in lending:
        if not isinstance(lender.resource, Dated):
            continue
        moment, says = effective(lender.resource)
        if moment:
            return moment, lender
        if says:
            raise SetAside(
                "no-date", "The effective time is no date that can be used.", ".effective"
            )
    for lender in lending:
        issued = getattr(lender.resource, "issued", None)
        moment = when(issued) if issued else None
        if moment:
            return moment, lender
    raise SetAside(
        "no-date",
        "The result has no date, and nothing lends it one: fill Observation.effectiveDateTime.",
    )


def references_of(item: Item, *lenders: Item) -> tuple[str, ...]:
    """What lent to a result, by its references, each once."""
    return tuple(dict.fromkeys(one.reference for one in lenders if one is not item))
