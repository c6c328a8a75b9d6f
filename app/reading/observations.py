"""Laboratory results to counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from app.domain.counts import Analyte, Count, Interval, Kind, Remark, Severity, Source, When
from app.domain.effort import spend
from app.fhir.maps import CodeMap
from app.fhir.resources import Observation, Specimen, Valued
from app.fhir.times import when
from app.reading.aside import Repairs, SetAside, short
from app.reading.bundles import WITHDRAWN, Item, labels_of
from app.reading.doubts import Doubt, worst
from app.reading.lending import date_of, references_of
from app.reading.meanings import Meaning, meaning_of
from app.reading.ranges import Ranges, applies, normal_ranges_of
from app.reading.records import NOBODY, Record, Records, whose_is_unknown
from app.reading.specimens import doubt_of_specimen, doubt_told, under_doubt
from app.reading.values import value_of

# Results that stand; a result of any other status is set aside.
COUNTING = {"final", "amended", "corrected"}
Owner = tuple[str | None, Item]
"""A patient's key, and the resource that names the patient."""


class Observations:
    """Reads results into their patients' records, or says why they are set aside."""

    def __init__(
        self,
        items: Iterable[Item],
        records: Records,
        normal_ranges: bool,
        code_map: CodeMap | None,
    ) -> None:
        """Without `normal_ranges` the laboratories' own are only witnesses of the unit."""
        self._records = records
        self._resolve = records.links.resolve
        self._lending = records.links.lending
        self._keys = records.subjects.keys
        self._of = records.of
        self._normal_ranges = normal_ranges
        self._code_map = code_map
        self._doubted = {
            item.place: doubt
            for item in items
            if isinstance(item.resource, Specimen)
            and (doubt := self._doubt_of_specimen(item, item.resource))
        }
        """What a laboratory says of specimens, by their places."""

    def _doubt_of_specimen(self, item: Item, specimen: Specimen) -> Doubt | None:
        try:
            return doubt_of_specimen(specimen)
        except SetAside as aside:
            self._records.set_aside(item, "", aside)
            return None

    def read(self, item: Item, observation: Observation) -> None:
        """Put a result, and those it is made of, into the patient's record."""
        lending = self._lending(item)
        subject = observation.subject
        key = self._keys.get((subject.reference or "", item.server)) if subject else None
        owner = (key, item) if key else self._records.patient(lending)
        if owner[0]:
            self._of[owner[0]]  # a patient with nothing usable is still answered
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
                self._records.set_aside(lending[0], path, aside)

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
            observation.status not in COUNTING
            or item.container is not None
            or observation.modifierExtension
            or valued.modifierExtension
            or observation.implicitRules
            or observation.focus
            or item.place in self._records.contradicted
        ):
            self._refuse_what_does_not_stand(item, observation, valued, owner[0])
        declared = by.unit if by else ""
        ranges = normal_ranges_of(valued, row, declared) if valued.referenceRange else ()
        interval, repairs = value_of(valued, row, declared)
        doubt = doubt_told(valued.interpretation)
        beside = valued is not observation or observation.note or len(lending) > 1
        if doubt or beside or self._doubted:
            interval, doubts = under_doubt(interval, row, self._doubt(doubt, lending, valued))
            repairs += doubts
        text = observation.effectiveDateTime
        moment = when(text) if text else None
        dating = item
        if moment is None:
            moment, dating = date_of(lending)
        key, lender = owner
        if not key:
            raise whose_is_unknown(key)
        place = item.place + path
        lenders = () if lender is dating is item else references_of(item, lender, dating)
        # NamedTuple's own way is a call in Python: two thirds of the time, for every result.
        labels = labels_of(lending) if item.resource.meta or len(lending) > 1 else ()
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
        record = self._of[key]
        record.counts.append(count)
        record.observations.append(observation)
        if observation.status != "final":
            record.corrected = True
        if moment.instant is None and moment.text[10:11] == "T" and "/" not in moment.text:
            repairs += (
                (
                    "date-repaired",
                    "A time without seconds or zone is no instant: the day was taken.",
                ),
            )
        if repairs or said or by is not None or row.doubtful:
            _say(record, meaning, repairs, place)

    def _doubt(self, told: Doubt | None, lending: Sequence[Item], valued: Valued) -> Doubt | None:
        """What is told of the specimen, by the value, its result, its panels or the Specimen."""
        for lender in lending:
            one = lender.resource
            if not isinstance(one, Observation):
                continue
            if one.note or one is not valued:
                told = worst((told, doubt_told(one.note), doubt_told(one.interpretation)))
            if self._doubted and one.specimen:
                specimen = self._resolve(one.specimen, lender)
                told = worst((told, self._doubted.get(specimen.place) if specimen else None))
        return told

    def _normal(self, key: str, ranges: Ranges, moment: When) -> Interval | None:
        """The laboratory's own range of normal for this patient; None where none is for sure."""
        normal = None
        for given, interval in ranges:
            if given.appliesTo or given.age:
                person = self._records.people.get(key, NOBODY)
                if not applies(given, person.sex, person.age_years(moment)):
                    continue
            if normal is not None and normal != interval:
                return None
            normal = interval
        return normal

    def _refuse_what_does_not_stand(
        self, item: Item, observation: Observation, valued: Valued, owner: str | None
    ) -> None:
        self._records.refuse_contradicted(item)
        _refuse_status(item, observation, valued)
        if observation.modifierExtension or valued.modifierExtension or observation.implicitRules:
            raise SetAside(
                "modifier-extension",
                "A modifier extension or implicit rules may change the meaning: not understood.",
            )
        for focus in observation.focus:
            # A result about a donor or a fetus is none of the patient's (ruling 8).
            if (
                owner is None
                or self._records.subjects.key(focus, item.server, observation) != owner
            ):
                text = "The result is about someone or something else than the patient: not used."
                raise SetAside("other-focus", text, ".focus")


def _parts(observation: Observation) -> Iterator[tuple[str, Valued]]:
    """The Observation and its components, each with its path in it."""
    yield "", observation
    for index, component in enumerate(observation.component):
        yield f".component[{index}]", component


def _say(record: Record, meaning: Meaning, repairs: Repairs, place: str) -> None:
    """What was repaired or doubted of one result, as remarks."""
    row, by, said = meaning
    repairs = said + repairs
    if by is not None:
        repairs = record.without_maps(repairs, place, by.map)
    for code, text in repairs:
        severity = Severity.WARNING if code == "specimen-doubt" else Severity.INFORMATION
        record.remarks.append(Remark(code, severity, text, (place,)))
    if row.doubtful:
        text = f"{row.display}: {row.doubtful}."
        record.remarks.append(Remark("doubtful-method", Severity.WARNING, text, (place,)))


def _refuse_status(item: Item, observation: Observation, valued: Valued) -> None:
    if observation.status not in COUNTING:
        given = short(observation.status)
        status = f"of status '{given}'" if given else "without a status"
        raise SetAside(
            "status-excluded",
            f"A result {status} does not count; final, amended and corrected ones do.",
            ".status" if valued is observation else "",
        )
    container = item.container.resource if item.container else None
    if container is not None and container.status in WITHDRAWN:
        raise SetAside("status-excluded", "Stands in a resource that was entered in error.")
