"""Counts what the test suite holds, and writes the transparency sheet.

python -m tests.transparency

Writes app/web/validation.json and docs/transparency.md.
"""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import Any

from app.operations import evaluate_measure
from app.web.blocks import markdown
from app.web.transparency import FIGURES, TITLE, sheet

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "transparency.md"


def _cases(name: str) -> int:
    path = ROOT / "tests" / "cases" / f"{name}.toml"
    return len(tomllib.loads(path.read_text())["case"]) if path.exists() else 0


def _trial() -> dict[str, int]:
    report = evaluate_measure((ROOT / "fixtures" / "daclizumab-2003" / "bundle.json").read_bytes())
    told = {
        one["code"]["coding"][0]["code"]: one["count"] for one in report["group"][0]["population"]
    }
    treated = told["denominator"]
    return {
        "treated": treated,
        "evaluable": treated - told["denominator-exclusion"],
        "responded": told["numerator"],
    }


def counted() -> dict[str, Any]:
    """What the suite holds now."""
    files = [path.stem for path in (ROOT / "tests" / "cases").rglob("*.toml")]
    cases: dict[str, dict[str, int]] = {}
    for name in sorted(set(files) - {"chart", "units"}):
        found = {"eligibility": _cases(name), "response": _cases(f"response/{name}")}
        cases[name] = {kind: number for kind, number in found.items() if number}
    spellings = tomllib.loads((ROOT / "tests" / "cases" / "units.toml").read_text())["spellings"]
    tests = sum(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    return {
        "tests": tests // 100 * 100,
        "stories": len(list((ROOT / "fixtures").glob("*/response.json"))),
        "spellings": sum(len(one["texts"]) for one in spellings),
        "trial": _trial(),
        "cases": cases,
    }


def document() -> str:
    """The sheet as Markdown."""
    return markdown(TITLE, sheet())


if __name__ == "__main__":
    FIGURES.write_text(json.dumps(counted(), indent=1) + "\n")
    DOCUMENT.write_text(document())
