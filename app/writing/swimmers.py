"""A cohort's course after treatment as SVG: a bar for each patient, and the end point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from app.domain.cohort import Cohort, clopper_pearson
from app.domain.counts import UNDATED, Course, When
from app.domain.moments import ResponseVerdict
from app.domain.response import ResponseAssessment
from app.writing import svg
from app.writing.axes import TICK_SIZE
from app.writing.glyphs import OUTCOMES, STATES, Glyph, State, state_bar
from app.writing.narrative import AID, named
from app.writing.plotted import periods_of
from app.writing.sheet import DEFAULT_WIDTH, LINE, MARGIN, SMALL, TEXT, TITLE, Sheet

MOST_PATIENTS = 500
"""More than these have no room for a bar each."""
_BEFORE_DAYS = 56
_MONTH_DAYS = 30.4375
_TICKS_MONTHS = (1, 3, 6, 12, 24, 60, 120, 240)
# So much room for the bars, and so much for one.
_ALL_BARS, _HIGHEST, _LOWEST = 2400, 26, 5
_NAMED_FROM = 12
"""A bar as high as this has its patient's name beside it."""
_ORDER = list(ResponseVerdict)

Swimmer = tuple[ResponseAssessment, Course]
"""A patient's assessment, with the course it was made of."""


def draw_cohort(
    swimmers: Sequence[Swimmer], as_of: When | None = None, width: int = DEFAULT_WIDTH
) -> str:
    """The patients by one definition, the best verdict first; those not treated are only said."""
    return _Swimmers(swimmers, as_of, width).whole()


def end_point(cohort: Cohort) -> str:
    """How many responded, with the exact interval."""
    evaluable, responders = len(cohort.evaluable), len(cohort.responders)
    if not evaluable:
        return f"None of {len(cohort.treated)} treated patients could be judged."
    low, high = (f"{100 * end:.0f}" for end in clopper_pearson(responders, evaluable))
    return (
        f"{responders} of {evaluable} evaluable patients responded: "
        f"{100 * responders / evaluable:.0f}% (exact 95% interval {low}% to {high}%). "
        f"Treated: {len(cohort.treated)}; not evaluable: {len(cohort.not_evaluable)}; "
        f"not known: {len(cohort.undecided)}."
    )


class _Swimmers(Sheet):
    """The bars over one axis of months."""

    def __init__(self, swimmers: Sequence[Swimmer], as_of: When | None, width: int) -> None:
        super().__init__(width)
        self._cohort = Cohort(tuple(found for found, _ in swimmers))
        self._paper = swimmers[0][0].paper
        self._rows = [
            (found, course, found.start.first, _last_day(course, found.start.first, as_of))
            for found, course in sorted(swimmers, key=_rank)
            if found.start
        ]
        self._used: dict[str, None] = {}
        rows = max(1, len(self._rows))
        self._row = max(_LOWEST, min(_HIGHEST, _ALL_BARS / rows))
        self._named = self._row >= _NAMED_FROM
        names = [_name(found) for found, _, _, _ in self._rows] if self._named else []
        widest = max((svg.width_of(name, SMALL) for name in names), default=0)
        self._left = MARGIN + min(widest + 8, width * 0.3)
        self._right = width - MARGIN - 8
        longest = max([(last - start).days for _, _, start, last in self._rows], default=0)
        self._days = max(longest, self._paper.days[1]) * 1.02

    def whole(self) -> str:
        told = end_point(self._cohort)
        self.words(self._paper.title, TITLE, bold=True)
        self.words(told, TEXT)
        self.y += 6
        if self._rows:
            self._bars()
        marks: dict[str, Glyph | State] = {**OUTCOMES, **STATES}
        self.legend(mark for name, mark in marks.items() if name in self._used)
        untreated = len(self._cohort.patients) - len(self._cohort.treated)
        if untreated:
            text = f"Without a start of treatment, not drawn: {untreated}."
            self.words(text, SMALL, fill=svg.SOFT_INK)
        self.words(AID, SMALL, fill=svg.SOFT_INK)
        return self.document(self._paper.title, told)

    def _x(self, days: float) -> float:
        share = (days + _BEFORE_DAYS) / (self._days + _BEFORE_DAYS)
        return self._left + share * (self._right - self._left)

    def _bars(self) -> None:
        first, last = self._paper.days
        bottom = self.y + self._row * len(self._rows)
        ground = svg.rectangle(
            self._x(first), self.y, self._x(last) - self._x(first), bottom - self.y, "#f0f0f0"
        )
        said = svg.titled(f"The verdict is sought from day {first} to day {last}")
        self.parts.append(svg.element("g", {"class": "sought"}, said, ground))
        ticks = self._ticks()
        self.parts += [svg.line(x, self.y, x, bottom, svg.FAINT) for x, _ in ticks]
        start = self._x(0)
        self.parts.append(
            svg.line(start, self.y, start, bottom, svg.INK, 1, stroke_dasharray="2 3")
        )
        for found, course, begun, end in self._rows:
            self.parts.append(
                svg.element(
                    "g",
                    {"class": f"patient {found.verdict.value}"},
                    svg.titled(_told(found, begun, end)),
                    *self._bar(found, course, begun, end),
                )
            )
            self.y += self._row
        self.y += TICK_SIZE + 5
        self.parts += [
            svg.label(x, self.y, text, TICK_SIZE, "middle", svg.SOFT_INK) for x, text in ticks
        ]
        self.y += LINE
        text = "months after the start of treatment"
        middle = (self._left + self._right) / 2
        self.parts.append(svg.label(middle, self.y, text, TICK_SIZE, "middle", svg.SOFT_INK))
        self.y += 6

    def _ticks(self) -> list[tuple[float, str]]:
        for step in _TICKS_MONTHS:
            months = range(0, int(self._days / _MONTH_DAYS) + 1, step)
            ticks = [(self._x(month * _MONTH_DAYS), str(month)) for month in months]
            if len(ticks) < 2 or ticks[1][0] - ticks[0][0] > 34:
                return ticks
        return []

    def _bar(
        self, found: ResponseAssessment, course: Course, begun: date, end: date
    ) -> Iterator[str]:
        y = self.y + self._row / 2
        if self._named:
            yield svg.label(self._left - 8, y + 4, _name(found), SMALL, "end")
        last = self._x((end - begun).days)
        yield svg.line(self._x(0), y, last, y, svg.SOFT_INK, 1)
        for place in self._transfused(course, begun, end):
            self._used["transfused"] = None
            low = y + self._row * 0.44
            yield svg.line(place, low - min(4, self._row / 4), place, low, svg.GIVEN, 1.5)
        scale = min(1.0, self._row / 16)
        days = [(day, verdict.value) for day, verdict in found.timeline]
        if not days:
            self._used[found.verdict.value] = None
        for period in periods_of(days):
            self._used[period.state] = None
            x, until = (self._x((day - begun).days) for day in (period.first, period.last))
            yield state_bar(period.state, x, max(until, x + 3), y, scale)
        marks = [("first-response", found.first_response), ("loss", found.first_loss)]
        for name, moment in marks:
            if moment:
                self._used[name] = None
                yield OUTCOMES[name].draw(self._x(moment.days_after), 0, y)
        name = "died" if course.died and course.died.last <= end else "last-known"
        self._used[name] = None
        yield OUTCOMES[name].draw(last, last, y)

    def _transfused(self, course: Course, begun: date, end: date) -> dict[float, None]:
        """Where transfusions stand, each place once."""
        days = (t.when.last for t in course.transfusions if t.standing and not t.when.lasting)
        after = ((day - begun).days for day in days if day <= end)
        return dict.fromkeys(round(self._x(n), 1) for n in after if n >= -_BEFORE_DAYS)


def _rank(swimmer: Swimmer) -> tuple[int, int, str]:
    found, _ = swimmer
    first = found.first_response
    return _ORDER.index(found.verdict), first.days_after if first else 0, _name(found)


def _name(found: ResponseAssessment) -> str:
    return named(found.patient).removeprefix("Patient/")


def _last_day(course: Course, begun: date, as_of: When | None) -> date:
    """The last day of which something is known."""
    whens = [count.when for count in (*course.counts, *course.weights)]
    whens += [one.when for one in course.transfusions]
    whens += [one.when for one in course.drugs]
    days = [when.last for when in whens if when is not UNDATED and not when.lasting]
    if course.died and course.died is not UNDATED:
        days.append(course.died.last)
    known = [day for day in days if day >= begun and (as_of is None or day <= as_of.last)]
    return max(known, default=begun)


def _told(found: ResponseAssessment, begun: date, end: date) -> str:
    said = [f"{_name(found)}: {STATES[found.verdict.value].text}, treated from {begun}"]
    if found.reason:
        said.append(found.reason.rstrip("."))
    if found.first_response:
        said.append(f"first response {found.first_response.day}")
    if found.first_loss:
        said.append(f"lost {found.first_loss.day}")
    return "; ".join([*said, f"last known {end}"])
