"""What a document is made of, written as Markdown and as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; `level` 2 or 3, and what links to it."""

    level: int
    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words; of Markdown only `[links](address)` are known."""

    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list."""

    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows; the first cell of each names it."""

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Paragraph | Points | Table


def markdown(title: str, blocks: Iterable[Block]) -> str:
    """The document as Markdown."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def html(blocks: Iterable[Block]) -> str:
    """The document as HTML, without head and title."""
    return "\n".join(line for block in blocks for line in _html(block))


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Points(texts):
            return "\n".join(f"- {text}" for text in texts)
        case Table(_, head, rows):
            lines = [head, ["---"] * len(head), *rows]
            return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _html(block: Block) -> Iterator[str]:
    match block:
        case Heading(level, text, anchor):
            named = f' id="{escape(anchor)}"' if anchor else ""
            yield f"<h{level}{named}>{escape(text)}</h{level}>"
        case Paragraph(text):
            yield f"<p>{_linked(text)}</p>"
        case Points(texts):
            yield "<ul>"
            yield from (f"<li>{_linked(text)}</li>" for text in texts)
            yield "</ul>"
        case Table(name, head, rows):
            label = escape(name)
            yield f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table>'
            yield f"<thead><tr>{''.join(f'<th>{escape(one)}</th>' for one in head)}</tr></thead>"
            yield "<tbody>"
            for first, *others in rows:
                cells = "".join(f"<td>{_linked(one)}</td>" for one in others)
                yield f'<tr><th scope="row">{_linked(first)}</th>{cells}</tr>'
            yield "</tbody></table></div>"


def _linked(text: str) -> str:
    return _LINK.sub(r'<a rel="noreferrer" href="\2">\1</a>', escape(text))
