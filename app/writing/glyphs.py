"""The marks of a picture, each told by its shape as well as by its colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from app.domain.counts import Count, Kind
from app.writing import svg
from app.writing.axes import ValueAxis
from app.writing.limit_lines import known_ends

Draw = Callable[[float, float, float], str]
"""From where, to where, and at which height."""


class Glyph(NamedTuple):
    """A mark, and what it means."""

    text: str
    draw: Draw


def _circle(x: float, y: float, size: float, hollow: bool) -> str:
    return svg.element("circle", {"cx": x, "cy": y, "r": size, **_inked(hollow, svg.COUNTED)})


def _square(x: float, y: float, size: float, hollow: bool) -> str:
    edge = {"x": x - size, "y": y - size, "width": 2 * size, "height": 2 * size}
    return svg.element("rect", {**edge, **_inked(hollow, svg.COUNTED)})


def _inked(hollow: bool, colour: str) -> dict[str, str | float]:
    return {"fill": svg.GROUND if hollow else colour, "stroke": colour, "stroke-width": 1.4}


def _arrow(x: float, y: float, tip: float, hollow: bool) -> str:
    """A bar at the bound, and an arrow from it to where the count may be."""
    wing = -4 if tip > y else 4
    head = [(x - 3.5, tip + wing), (x, tip), (x + 3.5, tip + wing)]
    return (
        svg.line(x - 5, y, x + 5, y, svg.COUNTED, 2)
        + svg.line(x, y, x, tip + wing / 2, svg.COUNTED, 1.4)
        + svg.path(head, closed=True, **_inked_(hollow))
    )


def _inked_(hollow: bool) -> dict[str, str | float]:
    return {name.replace("-", "_"): value for name, value in _inked(hollow, svg.COUNTED).items()}


def count_glyph(
    count: Count, supported: bool, x: float, y: float, size: float, values: ValueAxis
) -> tuple[str, str]:
    """Which mark a count gets, and the mark."""
    value = count.value
    under = "supported-" if supported else ""
    if value.exact is not None:
        if count.kind is Kind.MEASURED:
            return f"{under}measured", _circle(x, y, size, supported)
        return f"{under}derived", _square(x, y, size - 0.4, supported)
    low, high = known_ends(value)
    if low is not None and high is not None:
        ends = [values.y(low), values.y(high)]
        caps = "".join(svg.line(x - 4, end, x + 4, end, svg.COUNTED, 1.6) for end in ends)
        return "between", svg.line(x, ends[0], x, ends[1], svg.COUNTED, 1.6) + caps
    if low is not None:
        return "at-least", _arrow(x, y, max(y - 16, values.top - 4), supported)
    return "at-most", _arrow(x, y, min(y + 16, values.bottom + 4), supported)


def ring(role: str, x: float, y: float) -> str:
    """What tells a count that was judged, or was the baseline."""
    if role == "baseline":
        corners = [(x, y - 9), (x + 9, y), (x, y + 9), (x - 9, y)]
        return svg.path(corners, closed=True, fill="none", stroke=svg.INK, stroke_width=1.4)
    return svg.element(
        "circle",
        {"cx": x, "cy": y, "r": 7, "fill": "none", "stroke": svg.INK, "stroke-width": 1.4},
    )


def _lasting(shape: Callable[[float, float], str]) -> Draw:
    """What was given over a time is a bar that ends in the mark of it."""

    def drawn(x: float, end: float, y: float) -> str:
        if end - x < 2:
            return shape(x, y)
        return svg.line(x, y, end, y, svg.GIVEN, 3) + shape(x, y) + shape(end, y)

    return drawn


def _dose(x: float, y: float) -> str:
    corners = [(x - 5, y - 4.5), (x + 5, y - 4.5), (x, y + 5)]
    return svg.path(corners, closed=True, fill=svg.GIVEN)


def _factor(x: float, y: float) -> str:
    corners = [(x, y - 6), (x + 4.5, y), (x, y + 6), (x - 4.5, y)]
    return svg.path(corners, closed=True, fill=svg.GIVEN)


def _red_cells(x: float, y: float) -> str:
    return svg.line(x, y - 6.5, x, y + 6.5, svg.GIVEN, 2.6)


def _platelets(x: float, y: float) -> str:
    return svg.line(x - 5, y, x + 5, y, svg.GIVEN, 2.2) + svg.line(
        x, y - 5, x, y + 5, svg.GIVEN, 2.2
    )


def _unknown(x: float, y: float) -> str:
    return svg.line(x - 4, y - 4, x + 4, y + 4, svg.GIVEN, 2) + svg.line(
        x - 4, y + 4, x + 4, y - 4, svg.GIVEN, 2
    )


def _none(x: float, end: float, y: float) -> str:
    x, end = (x - 9, x + 9) if end - x < 2 else (x, end)
    return (
        svg.line(x, y, end, y, svg.SOFT_INK, 1, stroke_dasharray="3 3")
        + svg.line(x, y - 4, x, y + 4, svg.SOFT_INK)
        + svg.line(end, y - 4, end, y + 4, svg.SOFT_INK)
    )


def _normal(x: float, _end: float, y: float) -> str:
    return svg.rectangle(
        x - 8, y - 6, 16, 12, svg.NORMAL, stroke=svg.NORMAL_INK, stroke_width="0.6"
    )


def _at(shape: Callable[[float, float, float, bool], str], hollow: bool) -> Draw:
    return lambda x, _end, y: shape(x, y, 3.6, hollow)


GLYPHS: dict[str, Glyph] = {
    "dose": Glyph("daclizumab given", _lasting(_dose)),
    "factor": Glyph("growth factor given", _lasting(_factor)),
    "red-cells": Glyph("red cells transfused", _lasting(_red_cells)),
    "platelets": Glyph("platelets transfused", _lasting(_platelets)),
    "unknown": Glyph("transfused, product unknown", _lasting(_unknown)),
    "none": Glyph("said to be none", _none),
    "normal": Glyph("range of normal", _normal),
    "measured": Glyph("count", _at(_circle, hollow=False)),
    "supported-measured": Glyph("count after transfusion or growth factor", _at(_circle, True)),
    "derived": Glyph("worked out from other results", _at(_square, hollow=False)),
    "supported-derived": Glyph("worked out, after support", _at(_square, hollow=True)),
    "at-most": Glyph("at most", lambda x, _end, y: _arrow(x, y - 6, y + 8, hollow=False)),
    "at-least": Glyph("at least", lambda x, _end, y: _arrow(x, y + 6, y - 8, hollow=False)),
    "between": Glyph(
        "between two values",
        lambda x, _end, y: (
            svg.line(x, y - 6, x, y + 6, svg.COUNTED, 1.6)
            + svg.line(x - 4, y - 6, x + 4, y - 6, svg.COUNTED, 1.6)
            + svg.line(x - 4, y + 6, x + 4, y + 6, svg.COUNTED, 1.6)
        ),
    ),
}
"""The marks of what was given, and of counts."""
RINGS: dict[str, Glyph] = {
    "judged": Glyph("judged", lambda x, _end, y: ring("judged", x, y)),
    "baseline": Glyph("baseline, before treatment", lambda x, _end, y: ring("baseline", x, y)),
}


def _first_response(x: float, _end: float, y: float) -> str:
    corners = [(x - 5, y + 4), (x, y - 5.5), (x + 5, y + 4)]
    return svg.path(corners, closed=True, fill=svg.GROUND, stroke=svg.INK, stroke_width=1.3)


def _loss(x: float, _end: float, y: float) -> str:
    ends = ((y - 4, y + 4), (y + 4, y - 4))
    halo = [svg.line(x - 4, a, x + 4, b, svg.GROUND, 4.4) for a, b in ends]
    return "".join([*halo, *(svg.line(x - 4, a, x + 4, b, svg.LIMIT, 2.2) for a, b in ends)])


def _last_known(x: float, _end: float, y: float) -> str:
    return svg.line(x, y - 5, x, y + 5, svg.INK, 1.3)


def _died(x: float, _end: float, y: float) -> str:
    return svg.line(x, y - 6, x, y + 6, svg.INK, 1.6) + svg.line(
        x - 3.5, y - 2, x + 3.5, y - 2, svg.INK, 1.6
    )


OUTCOMES: dict[str, Glyph] = {
    "first-response": Glyph("first response", _first_response),
    "loss": Glyph("response lost", _loss),
    "transfused": Glyph("transfusion", lambda x, _end, y: svg.line(x, y, x, y + 4, svg.GIVEN, 1.5)),
    "last-known": Glyph("last day known", _last_known),
    "died": Glyph("died", _died),
}
"""The marks on a patient's bar in a cohort."""


class State(NamedTuple):
    """A verdict as a bar: how high, and of which colour."""

    text: str
    height: float
    fill: str
    hollow: bool = False

    def draw(self, x: float, _end: float, y: float) -> str:
        """A short bar for the legend."""
        return _bar(self, x - 8, x + 8, y)


_LIGHT = "#5aa9d6"
_GREY = "#6e6e6e"
STATES: dict[str, State] = {
    "eligible": State("meets the definition", 14, svg.COUNTED),
    "not-eligible": State("does not meet it", 4, _GREY),
    "complete-response": State("complete response", 14, svg.COUNTED),
    "response": State("response", 9, _LIGHT),
    "no-response": State("no response", 4, _GREY),
    "indeterminate": State("not known", 9, svg.SOFT_INK, hollow=True),
    "not-evaluable": State("not evaluable", 1.5, _GREY),
}
"""The verdicts, each with a height of its own."""


def state_bar(state: str, x: float, end: float, y: float, scale: float = 1) -> str:
    """A time in which the verdict was one; `scale` makes it less high."""
    return _bar(STATES[state], x, end, y, scale)


def _bar(state: State, x: float, end: float, y: float, scale: float = 1) -> str:
    height = state.height * scale
    edge = {"x": x, "y": y - height / 2, "width": end - x, "height": height}
    inked = (
        {"fill": svg.GROUND, "stroke": state.fill, "stroke-dasharray": "2 2"}
        if state.hollow
        else {"fill": state.fill}
    )
    return svg.element("rect", {**edge, **inked})
