"""What docs/security.md and docs/safety.md say of tests is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.removed import REMOVALS, text_without

PAPERS = (ROOT / "docs" / "security.md", ROOT / "docs" / "safety.md")
_ROW = re.compile(r"^\| ([SH][0-9]+)(†?) \|.*$", re.MULTILINE)
_TEST = re.compile(r"`(test_[a-z0-9_]+)`")


def rows() -> dict[str, tuple[bool, str]]:
    """Every threat and hazard: whether it is marked as tried, and its line."""
    found = {}
    for paper in PAPERS:
        for row in _ROW.finditer(paper.read_text()):
            assert row[1] not in found
            found[row[1]] = (row[2] == "†", row[0])
    return found


def there_are() -> set[str]:
    names: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(file.read_text())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        names |= {node.name for node in tree.body if isinstance(node, kinds)}
    return names


def test_every_threat_and_hazard_names_tests_that_there_are() -> None:
    there = there_are()
    assert len(rows()) > 50
    for name, (_, line) in rows().items():
        named = _TEST.findall(line)
        assert named, name
        assert set(named) <= there, (name, set(named) - there)


def test_every_row_that_is_marked_is_tried_with_a_test_that_it_names() -> None:
    marked = {name for name, (tried, _) in rows().items() if tried}
    assert marked == set(REMOVALS)
    for name, removal in REMOVALS.items():
        assert removal.tests.partition("::")[2] in _TEST.findall(rows()[name][1])


@pytest.mark.parametrize("name", REMOVALS)
def test_every_control_stands_where_it_is_said_to(name: str) -> None:
    assert text_without(REMOVALS[name]) != Path(ROOT / REMOVALS[name].file).read_text()


def test_every_item_of_the_safety_check_list_is_answered() -> None:
    text = (ROOT / "docs" / "safety.md").read_text()
    answers = re.findall(r"^\| `([a-z0-9=-]+)` \| (\w+) \|", text, re.MULTILINE)
    assert len(dict(answers)) == len(answers) == 41
    assert {answer for _, answer in answers} <= {"yes", "no", "none", "hospital"}
