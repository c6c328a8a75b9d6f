"""The house stands as docs/architecture.md draws it, and the judgement on nothing but Python."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
APP = ROOT / "app"
MODULES = sorted(APP.rglob("*.py"))
PURE = [path for path in MODULES if path.parent.name in {"domain", "papers"}]
LINES = 400
PAPERS = [path for path in PURE if path.parent.name == "papers" and path.stem != "plugged"]
BRANCHES = (ast.If, ast.IfExp, ast.Match, ast.While, ast.Try)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written out"
            yield node.module or ""


def is_pure(module: str) -> bool:
    room = module.split(".")
    return room[0] in sys.stdlib_module_names or room[:2] in (["app", "domain"], ["app", "papers"])


@pytest.mark.parametrize("path", PURE, ids=named)
def test_the_judgement_imports_nothing_but_the_standard_library(path: Path) -> None:
    assert [module for module in imported(path) if not is_pure(module)] == []


@pytest.mark.parametrize("module", ["numpy", "pyarrow.parquet", "app.fhir.codes", "app"])
def test_what_is_no_standard_library_would_be_seen(module: str) -> None:
    assert not is_pure(module)


@pytest.mark.parametrize("path", PAPERS, ids=named)
def test_a_paper_decides_nothing(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    assert [node.lineno for node in nodes if isinstance(node, BRANCHES)] == []


def drawn() -> set[str]:
    """The modules in the drawing, as paths."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    found, room = set(), ""
    for line in text.split("```")[1].splitlines():
        indented = re.match(r"( +)(\w+/|\w+\.py) ", line)
        if indented and indented[2].endswith("/"):
            room = indented[2]
        elif indented:
            found.add(f"app/{room if len(indented[1]) > 2 else ''}{indented[2]}")
    return found


def test_the_drawing_of_the_house_has_every_module_and_no_other() -> None:
    kept = [path for path in MODULES if path.stem[:2] != "__" and path not in PAPERS]
    assert drawn() == {named(path) for path in kept}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_module_is_too_long_to_be_read_at_once(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LINES
