"""What has been read of each patient, and what belongs to no patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from app.domain.counts import (
    Count,
    DrugGiven,
    NoTransfusion,
    Remark,
    Severity,
    Sex,
    Transfusion,
    When,
)
from app.fhir.outcome import Fault, RequestError
from app.fhir.resources import (
    DiagnosticReport,
    Medication,
    Observation,
    PatientResource,
    Reference,
    Specimen,
)
from app.fhir.times import when
from app.reading.aside import BY_MAPS, Repairs, SetAside
from app.reading.bundles import WITHDRAWN, Item
from app.reading.causes import Read
from app.reading.lending import Lending, Links
from app.reading.subjects import AMBIGUOUS, Subjects

_DAYS_OF_A_YEAR = Decimal("365.25")


@dataclass(frozen=True, slots=True)
class Person:
    """What a Patient resource tells beside who it is."""

    sex: Sex | None = None
    born: When | None = None
    died: When | None = None

    def age_years(self, moment: When) -> Decimal | None:
        """The age at the moment, where the day of birth is known."""
        if self.born is None or not self.born.precise:
            return None
        return Decimal((moment.last - self.born.last).days) / _DAYS_OF_A_YEAR


NOBODY = Person()


@dataclass(slots=True)
class Record:
    """What has been read of one patient."""

    treatments: set[object] = field(default_factory=set)
    """What each record of a transfusion or drug is known by, so that each counts once."""

    counts: list[Count] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    """What each count was read from."""
    corrected: bool = False
    """Whether a result says that it corrects another."""
    transfusions: list[Transfusion] = field(default_factory=list)
    no_transfusions: list[NoTransfusion] = field(default_factory=list)
    drugs: list[DrugGiven] = field(default_factory=list)
    charted: list[Read] = field(default_factory=list)
    """What may explain the counts otherwise."""
    looked_at: set[str] = field(default_factory=set)
    """Of conditions and medications those that the data hold any of."""
    remarks: list[Remark] = field(default_factory=list)
    by_maps: dict[tuple[str, str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """What was read by a map: a remark's code, its text and the map's name, with every place."""

    def without_maps(self, repairs: Repairs, place: str, name: str) -> Repairs:
        """The repairs that the map of this name did not make; those that it did are kept here."""
        for code, text in repairs:
            if code in BY_MAPS:
                self.by_maps[code, text, name].append(place)
        return tuple(repair for repair in repairs if repair[0] not in BY_MAPS)

    def all_remarks(self) -> Iterator[Remark]:
        """Every remark; of what a map made of many results, one."""
        yield from self.remarks
        for (code, text, name), where in self.by_maps.items():
            yield Remark(code, Severity.INFORMATION, f"{text} '{name}'.", tuple(where))


class Records:
    """Every patient's record, whose each result is, and what belongs to no patient."""

    def __init__(
        self,
        items: Sequence[Item],
        contradicted: set[str],
        named: Reference | None,
        orphans: list[Remark],
    ) -> None:
        """`contradicted` has the places of resources that contradict themselves.

        `named` is the one patient asked for. Raises RequestError where that is several.
        """
        self.orphans = orphans
        """Remarks on what belongs to no patient."""
        self.contradicted = contradicted
        self._ambiguous: dict[str, bool] = {}
        people: list[tuple[PatientResource, str | None]] = []
        subjects: set[tuple[str, str]] = set()
        lending: list[Lending] = []
        for item in items:
            resource = item.resource
            if isinstance(resource, Observation):
                if resource.hasMember:
                    lending.append((1, item, resource.hasMember))
            elif isinstance(resource, PatientResource):
                if item.container is None:
                    people.append((resource, item.full_url))
                continue
            elif isinstance(resource, (Medication, Specimen)):
                continue
            elif isinstance(resource, DiagnosticReport) and resource.status not in WITHDRAWN:
                lending.append((0, item, resource.result))
            subject = resource.subject
            if subject is not None and subject.reference:
                subjects.add((subject.reference, item.server))
        self.subjects = Subjects(people, subjects, named)
        self.named = self.subjects.key(named, "", None) if named else None
        if self.named == AMBIGUOUS:
            text = "More than one Patient has the identifier in 'subject': name one by a reference."
            raise RequestError(422, Fault("multiple-matches", text))
        self.of: dict[str, Record] = defaultdict(Record)
        """By the patient's key."""
        # Of two who are one, the one who stands tells last.
        people.sort(key=lambda one: all(link.type != "replaced-by" for link in one[0].link))
        self.people = {
            self.subjects.key_of_patient(person, url): _person(person) for person, url in people
        }
        self.links = Links(items, lending)

    def has_others(self, items: Iterable[Item]) -> bool:
        """Whether any of these is of another patient than the one named."""
        keys: set[str | None] = set()
        for item in items:
            resource = item.resource
            if item.container is not None or isinstance(resource, Medication):
                continue
            if not isinstance(resource, PatientResource):
                if resource.subject:
                    keys.add(self.subjects.key(resource.subject, item.server, resource))
            elif resource.id or item.full_url:
                keys.add(self.subjects.key_of_patient(resource, item.full_url))
        return bool(keys - {self.named, None, AMBIGUOUS})

    def set_aside(self, item: Item, path: str, aside: SetAside) -> None:
        """Say of what stands at the path in a resource why it is not used."""
        place = item.place + path + aside.element
        self.remark(item, Remark(aside.code, Severity.WARNING, aside.text, (place,)))

    def remark(self, item: Item, remark: Remark) -> None:
        """Say it of the resource's patient, or of nobody's."""
        key, _ = self.patient(self.links.lending(item))
        (self.of[key].remarks if key else self.orphans).append(remark)

    def refuse_contradicted(self, item: Item) -> None:
        """SetAside where the resource contradicts itself."""
        if item.place in self.contradicted:
            text = (
                "Sent twice under one id with two statuses, and nothing tells which is the later."
            )
            raise SetAside("contradiction", text, ".status")

    def patient(self, lending: Sequence[Item]) -> tuple[str | None, Item]:
        """The patient's key, and the resource that names the patient.

        The key is empty where reports of several patients name the result (ruling 8).
        """
        for lender in lending:
            subject: Reference | None = getattr(lender.resource, "subject", None)
            if subject is None:
                if lender.place in self.links.rivals and self._is_ambiguous(lender.place):
                    return "", lender
                continue
            key = self.subjects.key(subject, lender.server, lender.resource)
            if key is not None:
                return key, lender
            if subject.reference or subject.identifier:
                return None, lender
        return self.named, lending[0]

    def _is_ambiguous(self, place: str) -> bool:
        """Whether the reports that name what stands here are of several patients."""
        found = self._ambiguous.get(place)
        if found is None:
            self._ambiguous[place] = False  # for reports that name each other
            patients = {
                self.patient(self.links.lending(one))[0] for one in self.links.rivals[place]
            }
            found = self._ambiguous[place] = len(patients) > 1
        return found

    def owner(self, item: Item) -> str:
        """The patient's key; SetAside where it is nobody's, or it cannot be told whose."""
        key, _ = self.patient(self.links.lending(item))
        if not key:
            raise whose_is_unknown(key)
        return key


def _person(patient: PatientResource) -> Person:
    return Person(
        {"male": Sex.MALE, "female": Sex.FEMALE}.get(patient.gender or ""),
        when(patient.birthDate) if patient.birthDate else None,
        when(patient.deceasedDateTime) if patient.deceasedDateTime else None,
    )


def whose_is_unknown(key: str | None) -> SetAside:
    """Why what has this key is no patient's: none is named, or (empty) one of several."""
    if key is None:
        text = "It names no patient: fill its subject, or name the patient with 'subject'."
        return SetAside("no-subject", text)
    text = (
        "Whose it is cannot be told: several patients have the identifier that it names, or it "
        "names nobody and reports of several patients name it. Fill its subject with a reference."
    )
    return SetAside("ambiguous-subject", text)
