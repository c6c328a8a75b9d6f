"""FHIR resources to patients' Courses, and everything that was set aside, with its reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple, TypeVar, get_args

import msgspec
from msgspec import UNSET, Raw, UnsetType

from app.domain.counts import (
    UNDATED,
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Kind,
    Label,
    NoTransfusion,
    Product,
    Remark,
    Severity,
    Sex,
    Source,
    Transfusion,
    When,
)
from app.domain.derivation import derived_counts, impossible_pairs
from app.domain.effort import spend
from app.domain.window import places
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError
from app.fhir.resources import (
    DECODE_BODY,
    DECODE_IDENTIFIERS,
    DECODE_LABELLED,
    DECODE_META,
    DECODE_OUTCOME,
    DECODE_READ_BODY,
    DECODE_RESOURCE,
    DECODE_TYPED,
    Body,
    Concept,
    Dated,
    DiagnosticReport,
    Entries,
    Identifier,
    Medicated,
    Medication,
    MedicationAdministration,
    Observation,
    PatientResource,
    Period,
    Procedure,
    Readable,
    ReadBody,
    Reference,
    Specimen,
    Valued,
    told_by,
)
from app.fhir.times import effective, of_period, when
from app.fhir.treatments import Transfused, drug_of, transfused
from app.reading.doubts import Doubt, worst
from app.reading.results import (
    BY_MAPS,
    Meaning,
    Ranges,
    Repairs,
    SetAside,
    applies,
    dose_of,
    doubt_of_specimen,
    doubt_told,
    meaning_of,
    normal_ranges_of,
    short,
    under_doubt,
    value_of,
)
from app.reading.subjects import AMBIGUOUS, Subjects, replaces, server_of

R = TypeVar("R", bound=Readable)
# Results that stand; a result of any other status is set aside.
_COUNTING = {"final", "amended", "corrected"}
_WITHDRAWN = {"entered-in-error", "cancelled"}
_KINDS = {kind: str(kind.__struct_config__.tag) for kind in get_args(Readable)}
_READ_TYPES = set(_KINDS.values())
_BUNDLES_DEEP = 3
_SAID_LENGTH = 200
# A report of panels of panels: what a result lacks is looked for no further up.
_LENDERS_DEEP = 8
_DAYS_OF_A_YEAR = Decimal("365.25")


class Item(msgspec.Struct, frozen=True, gc=False):
    """A resource, and where in the request it stands."""

    resource: Readable
    place: str
    reference: str
    full_url: str | None
    server: str
    """The server its fullUrl names, where relative references lead."""
    container: Item | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Every patient's course, and what belongs to no patient."""

    courses: tuple[Course, ...]
    remarks: tuple[Remark, ...]


def read_courses(
    entries: Entries,
    place: str,
    subject: Reference | None = None,
    transfusion_history_complete: bool = False,
    normal_ranges: bool = True,
    code_map: CodeMap | None = None,
) -> Reading:
    """Every patient's course in time from a Bundle's entries.

    `place` is the Bundle's FHIRPath. `subject` narrows the answer to one patient, and is the
    patient of results that name none. Without `normal_ranges` the laboratories' own are only
    witnesses of the unit: no definition of eligibility asks for them. `code_map` has the
    hospital's own codes. Raises RequestError where there is nothing to assess.
    """
    orphans: list[Remark] = []
    found: list[Item] = []
    _collect(entries, place, found, orphans, 0)
    items, contradicted = _each_once(found, orphans)
    if not any(isinstance(item.resource, Observation) for item in items):
        raise RequestError(
            422,
            Fault("not-found", "There is no Observation to assess in the data.", place),
            remarks=orphans,
        )
    reader = _Reader(items, contradicted, subject, normal_ranges, code_map)
    reader.read()
    courses = reader.courses(transfusion_history_complete)
    orphans += reader.orphans
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


def _collect(
    entries: Entries,
    place: str,
    found: list[Item],
    orphans: list[Remark],
    depth: int,
) -> None:
    """Every resource of a Bundle, those in its Bundles and those contained as well."""
    spend(3 * len(entries))
    before, server = "", ""
    for index, entry in enumerate(entries):
        here = f"{place}.entry[{index}].resource"
        resource, url = entry.resource, entry.fullUrl
        if isinstance(resource, Raw):
            resource = _decoded(resource, here, found, orphans, depth)
        if resource is UNSET:
            continue
        reference = f"{_KINDS[type(resource)]}/{resource.id}" if resource.id else url or ""
        if url:
            # Nearly always the same type on the same server as the entry before.
            address = url.rpartition("/")[0]
            if address != before:
                before, server = address, server_of(url)
        item = Item(resource, here, reference, url, server if url else "")
        found.append(item)
        if resource.contained:
            _collect_contained(item, found, orphans, depth)


def _collect_contained(item: Item, found: list[Item], orphans: list[Remark], depth: int) -> None:
    """Nothing outside may refer to a contained resource; its container stands for it."""
    spend(3 * len(item.resource.contained))
    for number, raw in enumerate(item.resource.contained):
        within = f"{item.place}.contained[{number}]"
        inner = _decoded(raw, within, found, orphans, depth)
        if inner is not UNSET:
            found.append(Item(inner, within, item.reference, None, "", item))


def _decoded(
    raw: Raw, place: str, found: list[Item], orphans: list[Remark], depth: int
) -> Readable | UnsetType:
    """One resource; unset where we do not read it, collect what is in it, or set it aside."""
    if not raw:
        return UNSET
    try:
        return DECODE_RESOURCE(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words, path = told_by(error)
    kind = _type_name(raw)
    if kind == "Bundle":
        if depth >= _BUNDLES_DEEP:
            raise RequestError(
                400, Fault("structure", f"Bundles deeper than {_BUNDLES_DEEP} in Bundles.", place)
            )
        _collect(decode_body(raw, place).entry, place, found, orphans, depth + 1)
    elif kind == "OperationOutcome":
        orphans.extend(_warnings(raw, place))
    elif kind is None or kind in _READ_TYPES:
        text = f"Not a FHIR {kind or 'resource'} ({words}): set aside."
        orphans.append(Remark("not-fhir", Severity.WARNING, text, (place + path,)))
    return UNSET


def _warnings(raw: Raw, place: str) -> Iterator[Remark]:
    """What a server says of data that it did not or could not give."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        for index, issue in enumerate(DECODE_OUTCOME(raw).issue):
            if issue.severity in {"warning", "error", "fatal"}:
                said = issue.diagnostics or (issue.details.text if issue.details else "") or ""
                why = said[:_SAID_LENGTH] or short(issue.code) or "without a reason"
                text = f"The source of the data warns that some may be missing: {why}"
                yield Remark("source-warning", Severity.WARNING, text, (f"{place}.issue[{index}]",))


def decode_body(raw: bytes | Raw, place: str = "") -> Body | ReadBody:
    """A Bundle or Parameters, decoded; RequestError 400 where it is not one.

    `place` is its FHIRPath in the request; by default it is the request.
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return DECODE_READ_BODY(raw)
    # Some resource is malformed or is one that we do not read: one by one, then.
    try:
        return DECODE_BODY(raw)
    except msgspec.ValidationError as error:
        words, path = told_by(error)
        where = (place or _type_name(raw) or "") + path
        fault = Fault("structure", f"Not FHIR: {words}.", where)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = Fault("structure", f"Not JSON: {error}. Send a Bundle or Parameters as JSON.")
    except RecursionError:
        fault = Fault("structure", "Not FHIR: the JSON is nested too deep.")
    raise RequestError(400, fault)


def _type_name(raw: bytes | Raw) -> str | None:
    try:
        return DECODE_TYPED(raw).resourceType
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _each_once(items: list[Item], orphans: list[Remark]) -> tuple[list[Item], set[str]]:
    """Each resource once (rulings 2 and 7), and the places of those that contradict themselves.

    Of several versions (a history Bundle) the newest stands. One that was sent twice is one. One
    id with two statuses, and nothing that tells which is the later, is used in neither.
    """
    names = [(i.reference, i.full_url) for i in items if i.reference and i.container is None]
    if len(set(names)) == len(names):
        return items, set()
    named: dict[tuple[str, str | None], list[Item]] = defaultdict(list)
    for item in items:
        if item.reference and item.container is None:
            named[item.reference, item.full_url].append(item)
    passed_over: set[int] = set()
    contradicted: set[str] = set()
    for same in named.values():
        if len(same) > 1:
            passed_over |= {id(item) for item in _older(same, orphans)}
            standing = [item for item in same if id(item) not in passed_over]
            if _contradict(standing):
                contradicted |= {item.place for item in standing}
    return [item for item in items if id(item) not in passed_over], contradicted


def _older(items: Iterable[Item], orphans: list[Remark]) -> Iterator[Item]:
    """All but the newest version of one resource, and whatever of it was sent a second time."""
    versions = [(_version(item), item) for item in items]
    newest = max((version for version, _ in versions if version), default=None)
    kept: set[bytes] = set()
    for version, item in versions:
        written = msgspec.json.encode(item.resource)
        if version and version != newest:
            orphans.append(_older_version(item))
            yield item
        elif written in kept:
            yield item
        else:
            kept.add(written)


# A result is corrected after it was final, and final after it was preliminary.
_ORDERED = {"registered", "preliminary", "final", "amended", "corrected"}


def _contradict(versions: list[Item]) -> bool:
    """Whether one resource has statuses of which none is known to be the later."""
    statuses = {item.resource.status for item in versions}
    return len(statuses) > 1 and not statuses <= _ORDERED


def _version(item: Item) -> tuple[str, int, str] | None:
    """Orders versions: by their time, then by their number; None where neither is told."""
    try:
        meta = DECODE_META(item.resource.meta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if meta is None or not (meta.versionId or meta.lastUpdated):
        return None
    updated = when(meta.lastUpdated) if meta.lastUpdated else None
    version = meta.versionId or ""
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 19 else -1
    return str(updated.instant) if updated else "", number, version


def _older_version(item: Item) -> Remark:
    return Remark(
        "superseded", Severity.INFORMATION, "An older version of the same resource.", (item.place,)
    )


@dataclass(frozen=True, slots=True)
class _Person:
    """What a Patient resource tells beside who it is."""

    sex: Sex | None = None
    born: When | None = None
    died: When | None = None

    def age_years(self, moment: When) -> Decimal | None:
        """The age at the moment, where the day of birth is known."""
        if self.born is None or not self.born.precise:
            return None
        return Decimal((moment.last - self.born.last).days) / _DAYS_OF_A_YEAR


_NOBODY = _Person()


@dataclass(slots=True)
class _Chart:
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


class _Result(msgspec.Struct, frozen=True, gc=False):
    count: Count
    observation: Observation

    @property
    def issued(self) -> str:
        return self.observation.issued or ""

    @property
    def alike(self) -> tuple[int, Analyte]:
        """The same for results that the same correction replaces."""
        return id(self.observation), self.count.analyte


Owner = tuple[str | None, Item]
"""A patient's key, and the resource that names the patient."""


class _Reader:
    def __init__(
        self,
        items: list[Item],
        contradicted: set[str],
        named: Reference | None,
        normal_ranges: bool,
        code_map: CodeMap | None,
    ) -> None:
        self.orphans: list[Remark] = []
        self._contradicted = contradicted
        self._ambiguous: dict[str, bool] = {}
        self._normal_ranges = normal_ranges
        self._code_map = code_map
        self._items = items
        people: list[tuple[PatientResource, str | None]] = []
        subjects: set[tuple[str, str]] = set()
        lending: list[tuple[int, Item, tuple[Reference, ...]]] = []
        without_time: list[Item] = []
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
                without_time.append(item)
                continue
            elif isinstance(resource, DiagnosticReport) and resource.status not in _WITHDRAWN:
                lending.append((0, item, resource.result))
            subject = resource.subject
            if subject is not None and subject.reference:
                subjects.add((subject.reference, item.server))
        self._subjects = Subjects(people, subjects, named)
        self._named = self._subjects.key(named, "", None) if named else None
        if self._named == AMBIGUOUS:
            text = "More than one Patient has the identifier in 'subject': name one by a reference."
            raise RequestError(422, Fault("multiple-matches", text))
        self._charts: dict[str, _Chart] = defaultdict(_Chart)
        # Of two who are one, the one who stands tells last.
        people.sort(key=lambda one: all(link.type != "replaced-by" for link in one[0].link))
        self._people = {
            self._subjects.key_of_patient(person, url): _person(person) for person, url in people
        }
        self._lenders = self._find_lenders(lending)
        self._doubted = {
            item.place: doubt for item in without_time if (doubt := self._doubt_of_specimen(item))
        }

    def _doubt_of_specimen(self, item: Item) -> Doubt | None:
        if not isinstance(item.resource, Specimen):
            return None
        try:
            return doubt_of_specimen(item.resource)
        except SetAside as aside:
            self._set_aside(item, "", aside)
            return None

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

    def _resolve(self, reference: Reference, source: Item) -> Item | None:
        text = reference.reference
        if not text:
            return None
        if text.startswith("#"):
            place = source.container.place if source.container else source.place
            return self._by_reference.get(place + text)
        text = text.split("/_history/")[0]
        found = self._by_reference.get(text)
        return found or self._by_reference.get("/".join(text.split("/")[-2:]))

    def _find_lenders(
        self, named: list[tuple[int, Item, tuple[Reference, ...]]]
    ) -> dict[str, Item]:
        """For each result the report or panel that names or contains it, the report first."""
        lenders: dict[str, Item] = {}
        self._rivals: dict[str, list[Item]] = {}
        for _, lender, references in sorted(named, key=lambda n: (n[0], n[1].reference)):
            for reference in references:
                member = self._resolve(reference, lender)
                if member is not None and member is not lender:
                    first = lenders.setdefault(member.place, lender)
                    if first is not lender:
                        self._rivals.setdefault(member.place, [first]).append(lender)
        for item in self._items:
            if item.container is not None:
                lenders.setdefault(item.place, item.container)
        return lenders

    def _lending(self, item: Item) -> Sequence[Item]:
        """The result, then what lends to it: its report or panel, and what lends to that."""
        lender = self._lenders.get(item.place)
        if lender is None:
            return (item,)
        chain = {item.place: item}
        while lender is not None and lender.place not in chain and len(chain) <= _LENDERS_DEEP:
            chain[lender.place] = lender
            lender = self._lenders.get(lender.place)
        spend(len(chain))
        return tuple(chain.values())

    def read(self) -> None:
        """Put every resource into its patient's chart, or say why it is set aside."""
        for item in self._items:
            resource = item.resource
            if isinstance(resource, Observation):
                self._observation(item, resource)
            elif isinstance(resource, PatientResource) and item.container is None:
                key = self._subjects.key_of_patient(resource, item.full_url)
                chart = self._charts[key]  # a patient without any result is still answered
                if any(map(replaces, resource.link)):
                    text = "Linked as one person with another Patient: their data are one's."
                    place = f"{item.place}.link"
                    chart.remarks.append(
                        Remark("merged-patient", Severity.INFORMATION, text, (place,))
                    )
            elif isinstance(resource, Procedure):
                self._aside_or(item, self._procedure, resource)
            elif isinstance(resource, Medicated):
                self._aside_or(item, self._medication, resource)

    def _aside_or(self, item: Item, read: Callable[[Item, R], None], resource: R) -> None:
        try:
            read(item, resource)
        except SetAside as aside:
            self._set_aside(item, "", aside)

    def _set_aside(self, item: Item, path: str, aside: SetAside) -> None:
        place = item.place + path + aside.element
        self._remark(item, Remark(aside.code, Severity.WARNING, aside.text, (place,)))

    def _remark(self, item: Item, remark: Remark) -> None:
        key, _ = self._patient(self._lending(item))
        (self._charts[key].remarks if key else self.orphans).append(remark)

    def _patient(self, lending: Sequence[Item]) -> tuple[str | None, Item]:
        """The patient's key, and the resource that names the patient.

        The key is empty where reports of several patients name the result (ruling 8).
        """
        for lender in lending:
            subject: Reference | None = getattr(lender.resource, "subject", None)
            if subject is None:
                if lender.place in self._rivals and self._is_ambiguous(lender.place):
                    return "", lender
                continue
            key = self._subjects.key(subject, lender.server, lender.resource)
            if key is not None:
                return key, lender
            if subject.reference or subject.identifier:
                return None, lender
        return self._named, lending[0]

    def _is_ambiguous(self, place: str) -> bool:
        """Whether the reports that name what stands here are of several patients."""
        found = self._ambiguous.get(place)
        if found is None:
            self._ambiguous[place] = False  # for reports that name each other
            patients = {self._patient(self._lending(one))[0] for one in self._rivals[place]}
            found = self._ambiguous[place] = len(patients) > 1
        return found

    # Observations

    def _observation(self, item: Item, observation: Observation) -> None:
        lending = self._lending(item) if self._lenders else (item,)
        subject = observation.subject
        key = self._subjects.keys.get((subject.reference or "", item.server)) if subject else None
        owner = (key, item) if key else self._patient(lending)
        if owner[0]:
            self._charts[owner[0]]  # a patient with nothing usable is still answered
        if observation.component or observation.hasMember:
            spend(4 * len(observation.component))
            for path, valued in _parts(observation):
                self._valued(lending, observation, valued, path, owner, panel=not path)
        else:
            self._valued(lending, observation, observation, "", owner, panel=False)

    def _valued(
        self,
        lending: Sequence[Item],
        observation: Observation,
        valued: Valued,
        path: str,
        owner: Owner,
        panel: bool,
    ) -> None:
        """An Observation's own value, or one of its components'."""
        meaning = None
        try:
            meaning = meaning_of(valued, panel, self._code_map)
            if meaning is not None:
                self._result(lending, observation, valued, meaning, path, owner)
        except SetAside as aside:
            if meaning is None or meaning.row.analyte is not Analyte.BODY_WEIGHT:
                self._set_aside(lending[0], path, aside)

    def _result(
        self,
        lending: Sequence[Item],
        observation: Observation,
        valued: Valued,
        meaning: Meaning,
        path: str,
        owner: Owner,
    ) -> None:
        item, (row, by, said) = lending[0], meaning
        if (
            observation.status not in _COUNTING
            or item.container is not None
            or observation.modifierExtension
            or valued.modifierExtension
            or observation.implicitRules
            or observation.focus
            or item.place in self._contradicted
        ):
            self._refuse_what_does_not_stand(item, observation, valued, owner[0])
        declared = by.unit if by else ""
        ranges = normal_ranges_of(valued, row, declared) if valued.referenceRange else ()
        interval, repairs = value_of(valued, row, declared)
        if valued.interpretation or observation.note or self._doubted or len(lending) > 1:
            interval, doubts = under_doubt(interval, row, self._doubt(lending, valued))
            repairs += doubts
        text = observation.effectiveDateTime
        moment = when(text) if text else None
        dating = item
        if moment is None:
            moment, dating = _date(lending)
        key, lender = owner
        if not key:
            raise _nobodys(key)
        place = item.place + path
        lenders = () if lender is dating is item else _lenders_of(item, lender, dating)
        # NamedTuple's own way is a call in Python: two thirds of the time, for every result.
        labels = _labels(lending) if item.resource.meta or len(lending) > 1 else ()
        source = tuple.__new__(Source, (item.reference, place, lenders, labels))
        count = tuple.__new__(
            Count,
            (
                row.analyte,
                interval,
                moment,
                (source,),
                row.manual,
                row.doubtful is not None,
                Kind.MEASURED,
                (),
                observation.specimen.reference if observation.specimen else None,
                self._normal(key, ranges, moment) if ranges and self._normal_ranges else None,
                row.corrected,
            ),
        )
        chart = self._charts[key]
        chart.counts.append(count)
        chart.observations.append(observation)
        if observation.status != "final":
            chart.corrected = True
        if moment.instant is None and moment.text[10:11] == "T" and "/" not in moment.text:
            repairs += (
                (
                    "date-repaired",
                    "A time without seconds or zone is no instant: the day was taken.",
                ),
            )
        if repairs or said or by is not None or row.doubtful:
            _say(chart, meaning, repairs, place)

    def _doubt(self, lending: Sequence[Item], valued: Valued) -> Doubt | None:
        """What the laboratory says of the specimen, by the result, its panels or the Specimen."""
        told = doubt_told((valued.interpretation,))
        for lender in lending:
            one = lender.resource
            if not isinstance(one, Observation):
                continue
            if one.note or one is not valued:
                told = worst((told, doubt_told((one.note, one.interpretation))))
            if self._doubted and one.specimen:
                specimen = self._resolve(one.specimen, lender)
                told = worst((told, self._doubted.get(specimen.place) if specimen else None))
        return told

    def _normal(self, key: str, ranges: Ranges, moment: When) -> Interval | None:
        """The laboratory's own range of normal for this patient; None where none is for sure."""
        normal = None
        for given, interval in ranges:
            if given.appliesTo or given.age:
                person = self._people.get(key, _NOBODY)
                if not applies(given, person.sex, person.age_years(moment)):
                    continue
            if normal is not None and normal != interval:
                return None
            normal = interval
        return normal

    def _refuse_what_does_not_stand(
        self, item: Item, observation: Observation, valued: Valued, owner: str | None
    ) -> None:
        if item.place in self._contradicted:
            raise _two_statuses()
        _refuse_status(item, observation, valued)
        if observation.modifierExtension or valued.modifierExtension or observation.implicitRules:
            raise SetAside(
                "modifier-extension",
                "A modifier extension or implicit rules may change the meaning: not understood.",
            )
        for focus in observation.focus:
            # A result about a donor or a fetus is none of the patient's (ruling 8).
            if owner is None or self._subjects.key(focus, item.server, observation) != owner:
                text = "The result is about someone or something else than the patient: not used."
                raise SetAside("other-focus", text, ".focus")

    # Transfusions and drugs

    def _owner(self, item: Item) -> str:
        key, _ = self._patient(self._lending(item))
        if not key:
            raise _nobodys(key)
        return key

    def _procedure(self, item: Item, procedure: Procedure) -> None:
        given = transfused(procedure.code)
        if given is not None:
            times = _Times(procedure.performedDateTime, procedure.performedPeriod)
            self._transfusion(item, procedure, given, times)

    def _medication(self, item: Item, given: Medicated) -> None:
        times = _Times(given.effectiveDateTime, given.effectivePeriod)
        for concept in self._medicines(item, given):
            if drug := drug_of(concept):
                self._drug(item, given, drug, times)
                break
            if product := transfused(concept, is_medication=True):
                self._transfusion(item, given, product, times)
                break

    def _medicines(self, item: Item, given: Medicated) -> Iterator[Concept | None]:
        """The medication's names: those on the record, then those of what it refers to."""
        yield given.medicationCodeableConcept
        if given.medicationReference is not None:
            medication = self._resolve(given.medicationReference, item)
            if medication and isinstance(medication.resource, Medication):
                yield medication.resource.code

    def _transfusion(
        self, item: Item, record: Procedure | Medicated, given: Transfused, times: _Times
    ) -> None:
        """One transfusion; one that cannot be counted is kept, since it is no "none" (ruling 1)."""
        if given.product is None:
            text = "A transfusion of neither red cells nor platelets: it bears on no count judged."
            self._remark(item, Remark("other-product", Severity.INFORMATION, text, (item.place,)))
            return
        chart = self._charts[self._owner(item)]
        source = Source(item.reference, item.place, labels=_labels(self._lending(item)))
        try:
            if record.status in _NOT_GIVEN:
                chart.no_transfusions += self._none_given(record, given.product, times, source)
                return
            self._refuse_record(item, record)
            moment = times.when(running=record.status in _RUNNING)
        except SetAside:
            if record.status not in _WITHDRAWN:
                dated = times.when(running=False, say=False) or UNDATED
                chart.transfusions.append(Transfusion(given.product, dated, source, standing=False))
            raise
        if self._is_new(chart, item, record, moment, given.product):
            chart.transfusions.append(Transfusion(given.product, moment, source))

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
        if given.status in _NOT_GIVEN:
            return
        chart = self._charts[self._owner(item)]
        source = Source(item.reference, item.place, labels=_labels(self._lending(item)))
        growth_factor = drug is not Drug.DACLIZUMAB
        try:
            self._refuse_record(item, given)
        except SetAside:
            # It may have been given: what it may have lifted is no evidence.
            moment = times.when(running=False, say=False)
            if growth_factor and moment and given.status not in _WITHDRAWN:
                chart.drugs.append(DrugGiven(drug, moment, source))
            raise
        moment = times.when(growth_factor and (times.open or given.status in _RUNNING))
        if not self._is_new(chart, item, given, moment, drug):
            return
        administration = given if isinstance(given, MedicationAdministration) else None
        dosage = administration.dosage if administration else None
        milligrams, per_kg = dose_of(dosage.dose) if dosage and dosage.dose else (None, None)
        stated = administration is None
        chart.drugs.append(DrugGiven(drug, moment, source, milligrams, per_kg, stated, times.began))

    def _refuse_record(self, item: Item, record: Procedure | Medicated) -> None:
        _refuse_modified(record)
        if item.place in self._contradicted:
            raise _two_statuses()
        if record.status not in _GIVEN:
            status = f"of status '{short(record.status)}'" if record.status else "without a status"
            raise SetAside("status-excluded", f"A record {status} is not counted.", ".status")

    def _is_new(
        self, chart: _Chart, item: Item, record: Procedure | Medicated, moment: When, what: object
    ) -> bool:
        """Whether the record was not sent before under an identifier, or without any name."""
        names: list[object] = [
            (item.server, one.system, one.value, what, moment) for one in _identifiers(record)
        ]
        if not item.reference and not names and moment.instant:
            names = [(item.server, msgspec.json.encode(record))]
        known = not chart.treatments.isdisjoint(names)
        chart.treatments.update(names)
        return not known

    # The end

    def courses(self, transfusion_history_complete: bool) -> tuple[Course, ...]:
        """Every patient's course, in the order of their references."""
        charts = self._charts
        keys = [self._named] if self._named else sorted(charts)
        return tuple(
            self._course(key, charts[key], transfusion_history_complete)
            for key in keys
            if key in charts
        )

    def _course(self, key: str, chart: _Chart, history_complete: bool) -> Course:
        standing, replaced = tuple(chart.counts), list[Remark]()
        if chart.corrected:
            results = list(map(_Result, chart.counts, chart.observations))
            standing, replaced = _standing(results)
        if impossible := impossible_pairs(standing):
            standing = _without(standing, impossible)
            replaced += map(_contradiction, impossible)
        weights = tuple([c for c in standing if c.analyte is Analyte.BODY_WEIGHT])
        counts = standing
        if weights:
            counts = tuple([c for c in standing if c.analyte is not Analyte.BODY_WEIGHT])
        administered = {d.drug for d in chart.drugs if not d.stated}
        person = self._people.get(key, _NOBODY)
        return Course(
            patient=self._subjects.patient(key),
            counts=counts,
            derived=derived_counts(counts),
            transfusions=tuple(chart.transfusions),
            no_transfusions=tuple(chart.no_transfusions),
            transfusion_history_complete=history_complete,
            drugs=tuple(d for d in chart.drugs if not d.stated or d.drug not in administered),
            weights=weights,
            sex=person.sex,
            born=person.born,
            died=person.died,
            remarks=(*chart.all_remarks(), *replaced),
        )


def _without(counts: Iterable[Count], pairs: Iterable[Iterable[Count]]) -> tuple[Count, ...]:
    refused = {id(count) for pair in pairs for count in pair}
    return tuple(count for count in counts if id(count) not in refused)


def _contradiction(pair: Iterable[Count]) -> Remark:
    text = (
        "More neutrophils than leukocytes of the same moment: one of the counts is wrong, and "
        "neither is used. Correct or repeat them."
    )
    return Remark("contradiction", Severity.WARNING, text, places(pair))


def _labels(items: Iterable[Item]) -> tuple[Label, ...]:
    """The security labels of resources, each once."""
    found: dict[Label, None] = {}
    for item in items:
        meta = item.resource.meta
        if meta and b'"security"' in bytes(meta):
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                for one in DECODE_LABELLED(meta).security:
                    found[Label(one.system or "", one.code or "", one.display or "")] = None
    return tuple(found)


def _lenders_of(item: Item, *lenders: Item) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.reference for one in lenders if one is not item))


def _person(patient: PatientResource) -> _Person:
    return _Person(
        {"male": Sex.MALE, "female": Sex.FEMALE}.get(patient.gender or ""),
        when(patient.birthDate) if patient.birthDate else None,
        when(patient.deceasedDateTime) if patient.deceasedDateTime else None,
    )


def _parts(observation: Observation) -> Iterator[tuple[str, Valued]]:
    """The Observation and its components, each with its path in it."""
    yield "", observation
    for index, component in enumerate(observation.component):
        yield f".component[{index}]", component


def _date(lending: Sequence[Item]) -> tuple[When, Item]:
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


def _say(chart: _Chart, meaning: Meaning, repairs: Repairs, place: str) -> None:
    """What was repaired or doubted of one result, as remarks."""
    row, by, said = meaning
    repairs = said + repairs
    if by is not None:
        repairs = chart.without_maps(repairs, place, by.map)
    for code, text in repairs:
        severity = Severity.WARNING if code == "specimen-doubt" else Severity.INFORMATION
        chart.remarks.append(Remark(code, severity, text, (place,)))
    if row.doubtful:
        text = f"{row.display}: {row.doubtful}."
        chart.remarks.append(Remark("doubtful-method", Severity.WARNING, text, (place,)))


def _standing(results: list[_Result]) -> tuple[tuple[Count, ...], list[Remark]]:
    """The results that stand: a corrected or amended one replaces what it corrects."""
    corrections: dict[object, _Result] = {}
    # A panel may have many parts of one kind, all under the same many identifiers.
    seen: set[tuple[int, Analyte]] = set()
    for result in results:
        if result.observation.status != "final" and result.alike not in seen:
            seen.add(result.alike)
            for key in _keys(result):
                other = corrections.get(key)
                if other is None or result.issued > other.issued:
                    corrections[key] = result
    newest: dict[tuple[int, Analyte], _Result | None] = {}
    standing: list[Count] = []
    replaced: list[Remark] = []
    for result in results:
        if result.alike not in newest:
            found = (corrections[key] for key in _keys(result) if key in corrections)
            newest[result.alike] = next(found, None)
        newer = newest[result.alike]
        if (
            newer is None
            or newer is result
            or (result.observation.status != "final" and newer.issued == result.issued)
        ):
            standing.append(result.count)
        else:
            replaced.append(
                Remark(
                    "superseded",
                    Severity.INFORMATION,
                    "Replaced by a corrected result.",
                    (result.count.sources[0].place,),
                )
            )
    return tuple(standing), replaced


def _keys(result: _Result) -> Iterator[object]:
    """What a correction and the result it corrects share: the draw (ruling 7).

    An order's identifier alone does not do: an older draw may be amended after a newer is final.
    """
    count = result.count
    if count.specimen:
        for one in _identifiers(result.observation):
            yield count.analyte, count.specimen, one.system, one.value
    moment = count.when.instant or (count.when.first, count.when.last)
    yield count.analyte, moment


_GIVEN = {"completed", "in-progress", "on-hold", "stopped", "active"}
_NOT_GIVEN = {"not-done", "not-taken", "intended"}
_RUNNING = {"in-progress", "active"}


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


def _nobodys(key: str | None) -> SetAside:
    if key is None:
        text = "It names no patient: fill its subject, or name the patient with 'subject'."
        return SetAside("no-subject", text)
    text = (
        "Whose it is cannot be told: several patients have the identifier that it names, or it "
        "names nobody and reports of several patients name it. Fill its subject with a reference."
    )
    return SetAside("ambiguous-subject", text)


def _two_statuses() -> SetAside:
    text = "Sent twice under one id with two statuses, and nothing tells which is the later."
    return SetAside("contradiction", text, ".status")


def _refuse_modified(record: Procedure | Medicated) -> None:
    if record.modifierExtension or record.implicitRules:
        raise SetAside("modifier-extension", "A modifier extension is not understood.")


def _identifiers(resource: Observation | Procedure | Medicated) -> Iterator[Identifier]:
    raw = resource.identifier
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        for identifier in (DECODE_IDENTIFIERS(raw) if raw else None) or ():
            if identifier.value:
                yield identifier


def _refuse_status(item: Item, observation: Observation, valued: Valued) -> None:
    if observation.status not in _COUNTING:
        given = short(observation.status)
        status = f"of status '{given}'" if given else "without a status"
        raise SetAside(
            "status-excluded",
            f"A result {status} does not count; final, amended and corrected ones do.",
            ".status" if valued is observation else "",
        )
    container = item.container.resource if item.container else None
    if container is not None and container.status in _WITHDRAWN:
        raise SetAside("status-excluded", "Stands in a resource that was entered in error.")
