"""A patient's counts against a definition over time, as SVG; the same plot gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal

from app.domain.counts import Analyte, Count, Kind
from app.writing import svg
from app.writing.axes import TICK_SIZE, TimeAxis, ValueAxis
from app.writing.glyphs import GLYPHS, RINGS, STATES, Glyph, State, count_glyph, ring, state_bar
from app.writing.limit_lines import in_words, known_ends
from app.writing.plotted import Given, Mark, Panel, Plot
from app.writing.sheet import DEFAULT_WIDTH, LINE, MARGIN, SMALL, TEXT, TITLE, Sheet
from app.writing.svg import Box
from app.writing.words import readable

_LANE, _PANEL, _STRIP = 20, 104, 20
_LEAST_BAR = 6
"""How wide a time of a single day is shown."""
_BESIDE = (
    (11, 4, "start"),
    (-11, 4, "end"),
    (9, -7, "start"),
    (9, 15, "start"),
    (-9, -7, "end"),
    (-9, 15, "end"),
    (0, -11, "middle"),
    (0, 20, "middle"),
)
"""Where a value may stand beside its ring, the best place first."""
_RATIOS = {Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Analyte.PLATELETS}
_ALWAYS = {
    Analyte.HEMOGLOBIN: (Decimal(6), Decimal(12)),
    Analyte.RETICULOCYTES: (Decimal(0),),
}
"""Values that have a place on an axis whatever was counted: else a small change looks large."""
_ROWS = {
    "Daclizumab": "Daclizumab",
    "G-CSF": "G-CSF",
    "Red cells": "Red cells given",
    "Platelets": "Platelets given",
    "Transfusion": "Transfusion",
}
_NARROW = 520
"""In a picture less wide than this, words are kept short."""


def draw(plot: Plot, width: int = DEFAULT_WIDTH) -> str:
    """The plot as an SVG document, so many pixels wide and as high as it needs."""
    return _Picture(plot, width).whole()


class _Picture(Sheet):
    """One patient's panels over one time axis."""

    def __init__(self, plot: Plot, width: int) -> None:
        super().__init__(width)
        self._plot = plot
        self._narrow = width < _NARROW
        names = [row for row in _ROWS if any(given.row == row for given in plot.given)]
        self._names = {row: row if self._narrow else _ROWS[row] for row in names}
        words = [*self._names.values(), "10000", "Verdict" if plot.periods else ""]
        left = MARGIN + max(svg.width_of(word, TICK_SIZE) for word in words) + 8
        texts = [line.text for panel in plot.panels for line in panel.limits]
        texts += [self._normal_text(panel) for panel in plot.panels]
        widest = max((svg.width_of(text, SMALL) for text in texts), default=0)
        # Half of the last day's name stands to the right of the axis.
        beside = max(widest + 12, svg.width_of("2024-03-05", TICK_SIZE) / 2)
        right = width - MARGIN - min(beside, width * 0.4)
        self._rows = names
        self._axis = TimeAxis(_days(plot), left, right) if any(_days(plot)) else None
        self._left, self._right = left, right
        self._used: dict[str, None] = {}

    def whole(self) -> str:
        plot = self._plot
        self.words(plot.title, TITLE, bold=True)
        self.words(f"{plot.patient}: {plot.verdict}", TEXT)
        self.y += 6
        if self._axis and (plot.panels or plot.given):
            self._in_time(self._axis)
        for analyte in plot.without:
            self.words(f"{analyte.title[0].upper()}{analyte.title[1:]}: no count", TEXT)
        marks: dict[str, Glyph | State] = {**GLYPHS, **RINGS, **STATES}
        self.legend(mark for name, mark in marks.items() if name in self._used)
        for note in plot.notes:
            self.words(note, SMALL, fill=svg.SOFT_INK)
        return self.document(f"{plot.title}: {plot.patient}", description(plot))

    def _in_time(self, axis: TimeAxis) -> None:
        """All that stands over the time axis; what runs through it lies behind."""
        behind = len(self.parts)
        event_rows = self._event_labels(axis)
        top = self.y
        for row in self._rows:
            self._lane(axis, row, [given for given in self._plot.given if given.row == row])
        for panel in self._plot.panels:
            self._panel(axis, panel)
        if self._plot.periods:
            self._strip(axis)
        bottom = self.y
        ticks = axis.ticks()
        lines = [svg.line(x, top, x, bottom, svg.FAINT) for x, _ in ticks]
        lines += [
            svg.line(axis.x(day), y, axis.x(day), bottom, svg.INK, 1, stroke_dasharray="2 3")
            for (day, _), y in zip(self._plot.events, event_rows, strict=True)
        ]
        self.parts[behind:behind] = lines
        self.y += TICK_SIZE + 5
        self.parts += [
            svg.label(x, self.y, text, TICK_SIZE, "middle", svg.SOFT_INK) for x, text in ticks
        ]
        self.y += 8

    def _event_labels(self, axis: TimeAxis) -> list[float]:
        """The words over the lines through the picture, and where each line begins."""
        taken: list[Box] = []
        begins = []
        first = self.y
        for day, what in self._plot.events:
            text = f"{what} {day}"
            half = svg.width_of(text, SMALL) / 2
            least, most = MARGIN + half, self.width - MARGIN - half
            x = min(max(axis.x(day), least), max(least, most))
            y = first + SMALL
            while any(svg.text_box(x, y, text, SMALL, "middle").meets(one) for one in taken):
                y += LINE
            taken.append(svg.text_box(x, y, text, SMALL, "middle"))
            self.parts.append(svg.label(x, y, text, SMALL, "middle", halo=True))
            begins.append(y + 4)
            self.y = max(self.y, y + 8)
        return begins

    def _lane(self, axis: TimeAxis, row: str, given: Sequence[Given]) -> None:
        y = self.y + _LANE / 2
        self.parts.append(svg.label(self._left - 8, y + 4, self._names[row], TICK_SIZE, "end"))
        drawn = set()
        for one in given:
            x, end = axis.x(one.first), axis.x(one.last)
            if one.lasting:
                end = self._right
            place = (one.shape, round(x), round(end))
            # Of several that would cover each other one is drawn.
            if place in drawn:
                continue
            drawn.add(place)
            self._used[one.shape] = None
            shape = GLYPHS[one.shape].draw(x, end, y)
            self.parts.append(
                svg.element(
                    "g",
                    {"class": "given", "data-place": one.place},
                    svg.titled(one.text),
                    shape,
                )
            )
        self.y += _LANE

    def _panel(self, axis: TimeAxis, panel: Panel) -> None:
        analyte = panel.analyte
        ratios = analyte in _RATIOS
        unit = readable(analyte.unit)
        name = f"{analyte.short[0].upper()}{analyte.short[1:]}, {unit}"
        self.y += LINE + 4
        text = name + (" (log scale)" if ratios else "")
        self.parts.append(svg.label(self._left, self.y, text, TEXT, bold=True, halo=True))
        top, bottom = self.y + 5, self.y + 5 + _PANEL
        values = ValueAxis(_values(panel), top, bottom, ratios)
        self._frame(values, panel)
        marks = self._marks(axis, values, panel)
        self.parts.append(
            svg.element("g", {"class": f"panel {analyte.name.lower().replace('_', '-')}"}, *marks)
        )
        self.y = bottom

    def _frame(self, values: ValueAxis, panel: Panel) -> None:
        """The range of normal, the axis, and the limits with their words beside them."""
        left, right, top, bottom = self._left, self._right, values.top, values.bottom
        beside: list[tuple[float, str, str]] = []
        if normal := panel.normal:
            low = bottom if normal.low is None else values.y(normal.low)
            high = top if normal.high is None else values.y(normal.high)
            self.parts.append(
                svg.rectangle(left, high, right - left, low - high, svg.NORMAL, class_="normal")
            )
            self._used["normal"] = None
            beside.append(((low + high) / 2, self._normal_text(panel), svg.NORMAL_INK))
        for y, text in values.ticks():
            self.parts.append(svg.line(left - 4, y, left, y, svg.SOFT_INK))
            self.parts.append(svg.label(left - 7, y + 4, text, TICK_SIZE, "end", svg.SOFT_INK))
        self.parts.append(
            svg.path([(left, top), (left, bottom), (right, bottom)], fill="none", stroke=svg.INK)
        )
        for limit in panel.limits:
            y = values.y(limit.number)
            dashes = {} if limit.own else {"stroke_dasharray": "6 4"}
            self.parts.append(svg.line(left, y, right, y, svg.LIMIT, 1.5, class_="limit", **dashes))
            beside.append((y, limit.text, svg.LIMIT))
        beside.sort()
        places = svg.spread([y for y, _, _ in beside], SMALL + 3, top + 4, bottom - 2)
        for (y, text, fill), place in zip(beside, places, strict=True):
            self.parts.append(svg.line(right, y, right + 6, place, fill))
            self.parts.append(svg.label(right + 9, place + 4, text, SMALL, fill=fill))

    def _marks(self, axis: TimeAxis, values: ValueAxis, panel: Panel) -> Iterator[str]:
        many = len(panel.marks) > 60
        size = 2.2 if many else 3.6
        placed = [
            (mark, _middle(axis, mark.count), _height(values, mark.count)) for mark in panel.marks
        ]
        way = [(x, y) for mark, x, y in placed if mark.count.value.exact is not None]
        if len(way) > 1 and not panel.thinned:
            yield svg.path(way, fill="none", stroke=svg.COUNTED, stroke_opacity="0.35")
        boxes = [Box(x - size, y - size, x + size, y + size) for _, x, y in placed]
        for mark, x, y in placed:
            count = mark.count
            shape, glyph = count_glyph(count, bool(mark.supports), x, y, size, values)
            self._used[shape] = None
            if not count.when.precise:
                glyph += svg.line(
                    axis.x(count.when.first), y, axis.x(count.when.last), y, svg.COUNTED
                )
            if mark.role:
                self._used[mark.role] = None
                glyph += ring(mark.role, x, y)
                boxes.append(Box(x - 8, y - 8, x + 8, y + 8))
            places = " ".join(source.place for source in count.sources)
            yield svg.element(
                "g",
                {"class": f"mark {mark.role}".strip(), "data-place": places},
                svg.titled(told(mark)),
                glyph,
            )
        ringed = [(in_words(mark.count.value), x, y) for mark, x, y in placed if mark.role]
        lines = [values.y(limit.number) for limit in panel.limits]
        crossed = [Box(self._left, y - 1, self._right, y + 1) for y in lines]
        inside = Box(self._left + 4, values.top - 2, self._right, values.bottom)
        yield from _figures(ringed, boxes, crossed, inside)

    def _normal_text(self, panel: Panel) -> str:
        return panel.normal_text.removeprefix("normal ") if self._narrow else panel.normal_text

    def _strip(self, axis: TimeAxis) -> None:
        """The verdict in time."""
        self.y += 10
        y = self.y + _STRIP / 2
        self.parts.append(svg.label(self._left - 8, y + 4, "Verdict", TICK_SIZE, "end"))
        for period in self._plot.periods:
            self._used[period.state] = None
            x, end = axis.x(period.first), axis.x(period.last)
            text = f"{STATES[period.state].text}, {period.first} to {period.last}"
            self.parts.append(
                svg.element(
                    "g",
                    {"class": f"period {period.state}"},
                    svg.titled(text),
                    state_bar(period.state, x, max(end, x + _LEAST_BAR), y),
                )
            )
        self.y += _STRIP + 4


def _figures(
    wanted: Sequence[tuple[str, float, float]], taken: list[Box], lines: Sequence[Box], inside: Box
) -> Iterator[str]:
    """The values of ringed counts where there is room for them, off the lines if there is any."""
    for text, x, y in wanted:
        places = [
            (svg.text_box(x + dx, y + dy, text, SMALL, anchor), x + dx, y + dy, anchor)
            for dx, dy, anchor in _BESIDE
        ]
        free = [
            place
            for place in places
            if place[0].inside(inside) and not any(place[0].meets(one) for one in taken)
        ]
        clear = [place for place in free if not any(place[0].meets(one) for one in lines)]
        for box, left, base, anchor in (clear or free)[:1]:
            taken.append(box)
            yield svg.label(left, base, text, SMALL, anchor, halo=True)


def told(mark: Mark) -> str:
    """A mark in words: what a pointer or a reader of screens is told of it."""
    count = mark.count
    analyte = count.analyte
    said = [f"{analyte.short} {in_words(count.value)} {readable(analyte.unit)}, {count.when.text}"]
    said += [mark.role] if mark.role else []
    if count.kind is Kind.DERIVED:
        said.append("worked out from other results")
    if count.kind is Kind.BOUND:
        said.append("a bound from other results")
    if count.manual:
        said.append("counted by hand")
    if count.doubtful:
        said.append("doubtful")
    if mark.supports:
        said.append(f"after support given {mark.supports[0].when.text}")
    return "; ".join(said)


def description(plot: Plot) -> str:
    """The picture in words, for whoever does not see it."""
    said = [plot.verdict]
    for panel in plot.panels:
        ringed = [told(mark) for mark in panel.marks if mark.role]
        limits = ", ".join(limit.text for limit in panel.limits)
        results = f"{panel.results} {'result' if panel.results == 1 else 'results'}"
        said.append(
            f"{panel.analyte.title}: {results}"
            + (f"; limits {limits}" if limits else "")
            + (f"; {'; '.join(ringed)}" if ringed else "")
            + "."
        )
    said += [f"{analyte.title}: no count." for analyte in plot.without]
    if plot.given:
        said.append(f"{len(plot.given)} transfusions, drugs and statements on them.")
    return " ".join(said)


def _days(plot: Plot) -> list[date]:
    days = [day for panel in plot.panels for m in panel.marks for day in _ends(m.count)]
    days += [day for given in plot.given for day in (given.first, given.last)]
    days += [day for period in plot.periods for day in (period.first, period.last)]
    days += [day for day, _ in plot.events]
    return [day for day in days if day not in {date.min, date.max}]


def _ends(count: Count) -> tuple[date, date]:
    return count.when.first, count.when.last


def _middle(axis: TimeAxis, count: Count) -> float:
    return (axis.x(count.when.first) + axis.x(count.when.last)) / 2


def _height(values: ValueAxis, count: Count) -> float:
    ends = [end for end in known_ends(count.value) if end is not None]
    heights = [values.y(end) for end in ends] or [values.bottom]
    return sum(heights) / len(heights)


def _values(panel: Panel) -> list[Decimal]:
    values = [
        end for mark in panel.marks for end in known_ends(mark.count.value) if end is not None
    ]
    values += [limit.number for limit in panel.limits]
    values += _ALWAYS.get(panel.analyte, ())
    if panel.normal and panel.normal.low is not None:
        values.append(panel.normal.low)
    return values
