"""A picture that grows from the top down: words, what is drawn, and what its marks mean."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.effort import tell
from app.writing import svg
from app.writing.glyphs import Glyph, State

WIDTHS = (320, 1600)
"""The least and the most pixels that a picture is wide."""
DEFAULT_WIDTH = 760
MARGIN = 12
TITLE, TEXT, SMALL = 15, 12, 11
"""The sizes of letters."""
LINE = 16


class Sheet:
    """What has been drawn, and how far down."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.y = float(MARGIN)
        self.parts: list[str] = []

    def words(self, text: str, size: float, bold: bool = False, fill: str = svg.INK) -> None:
        """A paragraph."""
        for line in svg.wrapped(text, self.width - 2 * MARGIN, size, bold):
            self.y += size * 1.35
            self.parts.append(svg.label(MARGIN, self.y, line, size, bold=bold, fill=fill))
        self.y += 2

    def legend(self, marks: Iterable[Glyph | State]) -> None:
        """What each mark means."""
        x = float(MARGIN)
        self.y += 6
        for mark in marks:
            width = 26 + svg.width_of(mark.text, SMALL) + 12
            if x > MARGIN and x + width > self.width - MARGIN:
                x = float(MARGIN)
                self.y += LINE + 2
            y = self.y + 8
            self.parts.append(mark.draw(x + 10, x + 10, y))
            self.parts.append(svg.label(x + 24, y + 4, mark.text, SMALL))
            x += width
        if x > MARGIN:
            self.y += LINE + 4

    def document(self, title: str, description: str) -> str:
        """The whole of it."""
        height = round(self.y + MARGIN)
        picture = svg.document(self.width, height, title, description, *self.parts)
        tell(len(picture))
        return picture
