"""What a picture shows of one patient: counts, limits, what was given, and the verdict in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from app.domain.assessment import Assessment
from app.domain.confounding import CONFOUNDED_DAYS, supports_of
from app.domain.counts import (
    UNDATED,
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Kind,
    NoTransfusion,
    Patient,
    Product,
    Remark,
    Source,
    Transfusion,
    When,
)
from app.domain.paper import Paper, ResponsePaper, interpretation
from app.domain.response import ResponseAssessment
from app.domain.rules import Known, Rule, under_policy
from app.domain.timeline import Timeline
from app.fhir.outcome import ISSUES
from app.writing.limit_lines import LimitLine, limit_lines, normal_range
from app.writing.narrative import AID, headline, missing, named
from app.writing.response import missing_for_response, response_headline

SHOWN = (
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
    Analyte.PLATELETS,
    Analyte.HEMOGLOBIN,
    Analyte.RETICULOCYTES,
)
# More results of one analyte than these are thinned, so that marks stay apart.
_MOST_MARKS = 150
_COLUMNS = 90
_LONGEST_REACH = timedelta(days=max(CONFOUNDED_DAYS.values()))


@dataclass(frozen=True, slots=True)
class Mark:
    """A count that is drawn."""

    count: Count
    role: str
    """Why it is ringed: judged, baseline; empty where it is not."""
    supports: tuple[Transfusion | DrugGiven, ...]
    """What was given shortly before, and sets it."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One analyte in time."""

    analyte: Analyte
    marks: tuple[Mark, ...]
    limits: tuple[LimitLine, ...]
    normal: Interval | None
    normal_text: str
    results: int
    """How many there are: more than are drawn where they were thinned."""

    @property
    def thinned(self) -> bool:
        """Whether some are not drawn."""
        return len(self.marks) < self.results


class Given(NamedTuple):
    """Something given, or said not to have been."""

    row: str
    shape: str
    first: date
    last: date
    lasting: bool
    text: str
    place: str


class Period(NamedTuple):
    """A time in which the verdict was one."""

    first: date
    last: date
    state: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything a picture shows, in words and numbers."""

    title: str
    patient: str
    verdict: str
    panels: tuple[Panel, ...]
    without: tuple[Analyte, ...]
    """The analytes that the definition asks for and nobody counted."""
    given: tuple[Given, ...]
    periods: tuple[Period, ...]
    events: tuple[tuple[date, str], ...]
    """Days that a line through the picture marks."""
    notes: tuple[str, ...]


def eligibility_plot(
    found: Assessment,
    course: Course,
    remarks: Iterable[Remark],
    as_of: When | None = None,
) -> Plot:
    """An eligibility assessment with the course it was made of, as known at `as_of`.

    Where the changes over a life were asked for, its periods are shown.
    """
    life = found.life.periods if found.life and found.life.changes is not None else ()
    periods = [Period(one.first, one.last, one.verdict.value) for one in life]
    rule = interpretation(found.paper, found.judgement.policy).rule
    roles = dict.fromkeys(found.counts, "judged")
    events = [(found.as_of.last, "judged")] if found.as_of and found.as_of is not UNDATED else []
    return _Plotter(course, as_of, found.known).plot(
        found.paper,
        found.patient,
        f"{headline(found.judgement)} {missing(found.judgement)}",
        [rule],
        roles,
        [*remarks, *found.remarks],
        periods,
        events,
    )


def response_plot(
    found: ResponseAssessment,
    course: Course,
    remarks: Iterable[Remark],
    as_of: When | None = None,
) -> Plot:
    """A response assessment with the course it was made of, as known at `as_of`."""
    paper = found.paper
    rules: list[Rule] = [lineage.affected for lineage in paper.lineages if lineage.affected]
    rules += [lineage.responded for lineage in paper.lineages]
    rules += [rule for rule in (paper.response, paper.complete, paper.relapse) if rule]
    if found.policy:
        rules = [under_policy(rule, found.policy) for rule in rules]
    roles = dict.fromkeys(found.judged.window.counts if found.judged else (), "judged")
    roles |= dict.fromkeys(found.baseline.counts if found.baseline else (), "baseline")
    window = found.judged.window if found.judged else found.baseline
    events = [(found.start.first, "start of treatment")] if found.start else []
    if found.judged:
        events.append((found.judged.day, "judged"))
    said = f"{response_headline(found)} {missing_for_response(found)}"
    before = found.baseline.known if found.baseline else None
    return _Plotter(course, as_of, window.known if window else None, before).plot(
        paper,
        found.patient,
        said,
        rules,
        roles,
        [*remarks, *found.remarks],
        periods_of([(day, verdict.value) for day, verdict in found.timeline]),
        events,
    )


def periods_of(days: Sequence[tuple[date, str]]) -> list[Period]:
    """Days that each begin a state, to times of one state; the last lasts for its day."""
    periods: list[Period] = []
    for day, state in days:
        if periods and periods[-1].state == state:
            periods[-1] = periods[-1]._replace(last=day)
            continue
        if periods:
            periods[-1] = periods[-1]._replace(last=day)
        periods.append(Period(day, day, state))
    return periods


class _Plotter:
    """One course, as known at a moment."""

    def __init__(
        self,
        course: Course,
        as_of: When | None,
        known: Known | None,
        before: Known | None = None,
    ) -> None:
        if as_of:
            course = course._replace(
                counts=tuple(c for c in course.counts if not c.when.after(as_of)),
                derived=tuple(c for c in course.derived if not c.when.after(as_of)),
                transfusions=tuple(
                    t for t in course.transfusions if not t.when.begins_after(as_of)
                ),
                drugs=tuple(d for d in course.drugs if not d.when.begins_after(as_of)),
            )
        self._course = course
        self._known = known
        self._before = before
        # Of decades of transfusions only those near a count are looked at for it.
        self._supports = Timeline(course, (), frozenset(), 0, _LONGEST_REACH.days, 0)

    def plot(
        self,
        paper: Paper | ResponsePaper,
        patient: Patient,
        verdict: str,
        rules: Sequence[Rule],
        roles: dict[Count, str],
        remarks: Sequence[Remark],
        periods: Sequence[Period],
        events: Sequence[tuple[date, str]],
    ) -> Plot:
        limits = [limit for rule in rules for limit in limit_lines(rule, self._before)]
        panels = [panel for a in SHOWN if (panel := self._panel(a, roles, limits))]
        shown = {panel.analyte for panel in panels}
        asked = {analyte for analyte, _ in limits}
        undated = [t.source for t in self._course.transfusions if t.when is UNDATED]
        died = self._course.died
        if died and died is not UNDATED:
            events = [*events, (died.last, "died")]
        return Plot(
            title=paper.title,
            patient=named(patient),
            verdict=verdict.strip(),
            panels=tuple(panels),
            without=tuple(a for a in SHOWN if a in asked - shown),
            given=tuple(self._given()),
            periods=tuple(periods),
            events=tuple(events),
            notes=(*self._notes(panels, remarks, undated), AID),
        )

    def _panel(
        self,
        analyte: Analyte,
        roles: dict[Count, str],
        limits: Sequence[tuple[Analyte, LimitLine]],
    ) -> Panel | None:
        judged = [count for count in roles if count.analyte is analyte]
        everything = (*self._course.counts, *self._course.derived)
        others = _telling([count for count in everything if count.analyte is analyte])
        counts = list(dict.fromkeys([*judged, *others]))
        if not counts:
            return None
        by_hand = any(count.manual for count in counts)
        lines = dict.fromkeys(line for a, line in limits if a is analyte)
        normal, text = normal_range(analyte, counts, self._known)
        kept = _thinned(counts, roles)
        marks = [Mark(c, roles.get(c, ""), self._supports_of(c)) for c in kept]
        return Panel(
            analyte,
            tuple(sorted(marks, key=lambda m: (m.count.when.last, m.count.when.text))),
            tuple(line for line in lines if by_hand or not line.text.endswith("by hand")),
            normal,
            text,
            len(counts),
        )

    def _supports_of(self, count: Count) -> tuple[Transfusion | DrugGiven, ...]:
        near = self._supports.between(count.when.first, count.when.last)
        return supports_of(near, count)

    def _given(self) -> Iterator[Given]:
        for drug in self._course.drugs:
            row = ("Daclizumab", "dose") if drug.drug is Drug.DACLIZUMAB else ("G-CSF", "factor")
            began = drug.began or drug.when
            yield _event(row, min(began, drug.when, key=_first), drug.when, drug.drug.value, drug)
        for one in self._course.transfusions:
            if one.when is not UNDATED:
                row = _TRANSFUSED[one.product]
                yield _event(row, one.when, one.when, f"{one.product.value} transfused", one)
        for none in self._course.no_transfusions:
            products = (none.product,) if none.product else (Product.RED_CELLS, Product.PLATELETS)
            for product in products:
                row = (_TRANSFUSED[product][0], "none")
                text = f"no transfusion of {product.value}"
                yield _event(row, none.when, none.when, text, none)

    def _notes(
        self, panels: Sequence[Panel], remarks: Sequence[Remark], undated: Sequence[Source]
    ) -> Iterator[str]:
        thinned = [
            f"{len(panel.marks)} of {panel.results} results of {panel.analyte.short}"
            for panel in panels
            if panel.thinned
        ]
        if thinned:
            yield (
                f"Drawn are {', '.join(thinned)}: the lowest and the highest of each short time, "
                "and all that were judged."
            )
        course = self._course
        if course.transfusion_history_complete:
            yield "By the sender's word, the data hold every transfusion."
        sources = [s for c in (*course.counts, *course.derived, *course.weights) for s in c.sources]
        sources += [one.source for one in course.transfusions]
        sources += [one.source for one in course.drugs]
        read = {source.place for source in sources} - {source.place for source in undated}
        reasons: dict[str, dict[str, None]] = {}
        for remark in remarks:
            left = [place for place in remark.places if place not in read]
            if left:
                reasons.setdefault(remark.code, {}).update(dict.fromkeys(left))
        if reasons:
            said = (f"{ISSUES[code][1].rstrip('.')} ({len(at)})" for code, at in reasons.items())
            yield f"Set aside, not drawn: {'; '.join(said)}."


_TRANSFUSED = {
    Product.RED_CELLS: ("Red cells", "red-cells"),
    Product.PLATELETS: ("Platelets", "platelets"),
    Product.UNKNOWN: ("Transfusion", "unknown"),
}


def _event(
    row: tuple[str, str],
    began: When,
    ended: When,
    text: str,
    given: DrugGiven | Transfusion | NoTransfusion,
) -> Given:
    lasting = ended.lasting
    last = began.first if lasting else ended.last
    when = began.text if began is ended else f"{began.text} to {ended.text}"
    return Given(*row, began.first, last, lasting, f"{text}, {when}", given.source.place)


def _first(when: When) -> date:
    return when.first


def _telling(counts: list[Count]) -> Iterator[Count]:
    """The counts but for the bounds that an exact count of the same day makes needless."""
    exact = {count.when[:2] for count in counts if count.value.exact is not None}
    for count in counts:
        if count.kind is not Kind.BOUND or count.when[:2] not in exact:
            yield count


def _thinned(counts: list[Count], roles: dict[Count, str]) -> list[Count]:
    """Of very many the lowest and highest of each short time; all that have a role."""
    if len(counts) <= _MOST_MARKS:
        return counts
    first = min(count.when.last for count in counts)
    last = max(count.when.last for count in counts)
    days = (last - first).days + 1
    columns: dict[int, list[Count]] = {}
    for count in counts:
        columns.setdefault((count.when.last - first).days * _COLUMNS // days, []).append(count)
    kept = {count: None for count in counts if count in roles}
    for some in columns.values():
        kept[min(some, key=_height)] = None
        kept[max(some, key=_height)] = None
    return list(kept)


def _height(count: Count) -> tuple[Decimal, str]:
    value = count.value
    known = value.high if value.high is not None else value.low
    return known or Decimal(0), count.sources[0].place if count.sources else ""
