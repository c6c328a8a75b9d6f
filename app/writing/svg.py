"""SVG by hand: elements, figures, and text whose width is known.

Presentation attributes only: a strict content security policy takes neither a style nor a script.
No element has an id, so that several pictures can stand in one page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from app.writing.narrative import xhtml_text

Attributes = Mapping[str, str | float | None]

# Contrast on white: text at least 4.5, marks at least 3. The hues stay apart for whoever sees no
# red, green or blue (Okabe and Ito's, darkened where they were too light).
INK = "#1a1a1a"
SOFT_INK = "#595959"
FAINT = "#d9d9d9"
GROUND = "#ffffff"
COUNTED = "#0067a1"
LIMIT = "#a84300"
NORMAL = "#dcefe6"
NORMAL_INK = "#00614a"
GIVEN = "#8a3d6c"

_NARROW = frozenset("iljtfrI.,:;'|!()[]/ -")
_BROAD = frozenset("mwMW@%\N{MULTIPLICATION SIGN}\N{EM DASH}")
_HALF, _DIGIT, _CAPITAL, _WHOLE = 0.42, 0.64, 0.76, 1.0


def figure(value: float) -> str:
    """A coordinate in hundredths."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(name: str, attributes: Attributes, *children: str) -> str:
    """An element with what stands in it, which is SVG already; attributes of None are left out."""
    said = "".join(
        f' {key}="{figure(value) if isinstance(value, float | int) else xhtml_text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(children)
    return f"<{name}{said}>{inside}</{name}>" if inside else f"<{name}{said}/>"


def titled(text: str) -> str:
    """What an element is called: a reader of screens says it, a pointer shows it."""
    return f"<title>{xhtml_text(text)}</title>"


def _named(attributes: Attributes) -> dict[str, str | float | None]:
    """Attributes as SVG spells them: `class_`, `stroke_width`."""
    return {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}


def line(
    x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1.0, **more: str
) -> str:
    """A straight line."""
    ends: Attributes = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", {**ends, "stroke": stroke, "stroke-width": width, **_named(more)})


def rectangle(x: float, y: float, width: float, height: float, fill: str, **more: str) -> str:
    """A rectangle."""
    edges: Attributes = {"x": x, "y": y, "width": width, "height": height}
    return element("rect", {**edges, "fill": fill, **_named(more)})


def path(points: Iterable[tuple[float, float]], closed: bool = False, **more: str | float) -> str:
    """Straight lines from point to point."""
    way = "L".join(f"{figure(x)} {figure(y)}" for x, y in points)
    return element("path", {"d": f"M{way}{'Z' if closed else ''}", **_named(more)})


def label(
    x: float,
    y: float,
    text: str,
    size: float = 12,
    anchor: str = "start",
    fill: str = INK,
    bold: bool = False,
    halo: bool = False,
) -> str:
    """A line of text; `halo` keeps what lies behind it from its letters."""
    return element(
        "text",
        {
            "x": x,
            "y": y,
            "font-size": size,
            "text-anchor": None if anchor == "start" else anchor,
            "fill": fill,
            "font-weight": "bold" if bold else None,
            "paint-order": "stroke" if halo else None,
            "stroke": GROUND if halo else None,
            "stroke-width": 3 if halo else None,
            "stroke-linejoin": "round" if halo else None,
        },
        xhtml_text(text),
    )


@cache
def _em(character: str) -> float:
    if character in _NARROW:
        return _HALF
    if character in _BROAD or (ord(character) > 0x2FF and not character.isalpha()):
        return _WHOLE
    if character.isupper():
        return _CAPITAL
    return _DIGIT if ord(character) < 0x500 else _WHOLE


def width_of(text: str, size: float = 12, bold: bool = False) -> float:
    """The most that a line of text takes in the usual sans-serif fonts, in pixels."""
    return sum(map(_em, text)) * size * (1.12 if bold else 1)


def wrapped(text: str, width: float, size: float = 12, bold: bool = False) -> list[str]:
    """The text in lines no wider than that; a word that is wider is broken."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer, size, bold) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and width_of(lines[-1] + character, size, bold) > width:
                lines.append("")
            lines[-1] += character
    return lines


class Box(NamedTuple):
    """A place on the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def inside(self, other: Box) -> bool:
        """Whether none of this lies outside the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def text_box(x: float, y: float, text: str, size: float, anchor: str = "start") -> Box:
    """The place that a line of text takes."""
    width = width_of(text, size)
    left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
    return Box(left, y - size, left + width, y + size * 0.3)


def spread(wanted: Iterable[float], gap: float, top: float, bottom: float) -> list[float]:
    """The heights in their order, `gap` or more apart and within the ends where there is room."""
    heights = list(wanted)
    for n, height in enumerate(heights):
        least = top if n == 0 else heights[n - 1] + gap
        heights[n] = max(height, least)
    for n in range(len(heights) - 1, -1, -1):
        most = bottom if n == len(heights) - 1 else heights[n + 1] - gap
        heights[n] = min(heights[n], most)
    return heights


def document(width: float, height: float, title: str, description: str, *parts: str) -> str:
    """The picture as a whole, on a ground of its own: it is read in light and in dark alike.

    A page that stands it among its own elements may give other colours by the classes.
    """
    return element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "role": "img",
            "viewBox": f"0 0 {figure(width)} {figure(height)}",
            "width": width,
            "height": height,
            "font-family": "system-ui, Helvetica, Arial, sans-serif",
        },
        titled(title),
        f"<desc>{xhtml_text(description)}</desc>",
        rectangle(0, 0, width, height, GROUND, class_="ground"),
        *parts,
    )
