"""Definitions of other distributions: loaded where installed, refused by name where broken."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.domain.paper import Paper, ResponsePaper
from app.domain.rules import Known, Rule, Truth, criteria_of
from app.papers import FAULTS, PUBLISHED, RESPONSES, SHIPPED, SHIPPED_RESPONSES
from app.papers.plugged import Plugged, plugged
from tests.conftest import ROOT, environment

EMAA = next(paper for paper in SHIPPED if paper.id == "emaa")
OLNES = next(paper for paper in SHIPPED_RESPONSES if paper.id == "nih-eltrombopag-2012")


class Own(Rule):
    """A kind of rule that the service does not know."""

    def check(self, known: Known) -> Truth:
        return Truth.UNKNOWN if known.counts else Truth.NOT_MET

    def describe(self) -> str:
        return "something else"


class Entry:
    """An entry point as an installed distribution has it."""

    name, value, dist = "of-a-test", "of_a_test:PAPERS", None

    def __init__(self, papers: object) -> None:
        self.papers = papers

    def load(self) -> object:
        if isinstance(self.papers, Exception):
            raise self.papers
        return self.papers


def loaded(monkeypatch: pytest.MonkeyPatch, *brought: object) -> Plugged:
    module = sys.modules[plugged.__module__]
    monkeypatch.setattr(module, "entry_points", lambda group: [Entry(one) for one in brought])
    return plugged((*SHIPPED, *SHIPPED_RESPONSES))


def test_nothing_is_loaded_but_what_is_installed() -> None:
    assert (PUBLISHED, RESPONSES, FAULTS) == (SHIPPED, SHIPPED_RESPONSES, ())


def test_a_plug_in_may_bring_definitions_of_both_kinds_under_one_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = (replace(EMAA, id="mine"), replace(OLNES, id="mine"))
    found = loaded(monkeypatch, both, [replace(EMAA, id="another")])
    assert [paper.id for paper in found.papers] == ["mine", "another"]
    assert [paper.id for paper in found.responses] == ["mine"]
    assert found.faults == ()


def titled(paper: Paper, title: str) -> Paper:
    first = criteria_of(paper.eligibility)[0]
    return replace(
        paper,
        eligibility=paper.eligibility.rewritten(
            lambda one: replace(first, title=title) if one == first else one
        ),
    )


def coded(paper: ResponsePaper, code: str) -> ResponsePaper:
    line = paper.lineages[0]
    return replace(paper, lineages=(replace(line, responded=replace(line.responded, code=code)),))


@pytest.mark.parametrize(
    ("brought", "said"),
    [
        (ImportError("No module named 'numpyy'"), "cannot be loaded: ImportError: No module named"),
        (RuntimeError("broken"), "cannot be loaded: RuntimeError: broken"),
        (EMAA, "cannot be loaded: TypeError"),
        (None, "cannot be loaded: TypeError"),
        (("emaa",), "brings what is neither a Paper nor a ResponsePaper"),
        ((EMAA,), "brings 'emaa', which is a definition already"),
        ((replace(OLNES, id="emaa"),), "brings 'emaa', which is a definition already"),
        ((replace(EMAA, id="mine"),) * 2, "brings 'mine', which is a definition already"),
        ((replace(EMAA, id="../mine"),), "brings an id that is not of small letters"),
        ((replace(EMAA, id="x" * 53),), "brings an id that is not of small letters"),
        ((replace(EMAA, id="mine", eligibility=Own()),), "a kind of rule of its own (Own)"),
        (
            (replace(OLNES, id="mine", response=replace(OLNES.response, rule=Own())),),
            "a kind of rule of its own (Own)",
        ),
        (
            (replace(titled(EMAA, "Something else"), id="mine"),),
            "is published with another title",
        ),
        ((replace(coded(OLNES, "liver"), id="mine"),), "whose lineages answer to other codes"),
        (
            (replace(OLNES, id="mine", response=replace(OLNES.response, code="survival")),),
            "whose response has another code than 'primary-end-point'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_named_and_nothing_of_it_is_taken(
    monkeypatch: pytest.MonkeyPatch, brought: object, said: str
) -> None:
    found = loaded(monkeypatch, brought, (replace(EMAA, id="good"),))
    assert [paper.id for paper in found.papers] == ["good"]
    assert found.responses == ()
    (fault,) = found.faults
    assert fault.startswith("The plug-in of-a-test ")
    assert said in fault


def test_of_two_plug_ins_with_one_definition_the_second_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = (replace(EMAA, id="mine"),)
    found = loaded(monkeypatch, mine, mine)
    assert len(found.papers) == len(found.faults) == 1


def broken_in(folder: Path) -> dict[str, str]:
    """The environment in which a plug-in is installed whose module is missing."""
    info = folder / "broken_paper-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-paper\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[maa_assess.papers]\nmine = no_such_module:PAPERS\n")
    return environment() | {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["-m", "app.cli", "serve", "--port", "0"], 2),
        (["-m", "app.cli", "eligibility", "none.json"], 2),
        (["-c", "from app.main import create_app; create_app()"], 3),
    ],
)
def test_with_a_broken_plug_in_nothing_starts_and_a_line_names_it(
    tmp_path: Path, command: list[str], code: int
) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        env=broken_in(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "The plug-in mine of broken-paper 2.1 cannot be loaded" in done.stderr
    assert "no_such_module" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_checkout_gives_a_plug_in_its_own_modules() -> None:
    """By the wheel's name too: a second copy of a class would not be the class."""
    code = (
        "import maa_assess.domain.paper as theirs, app.domain.paper as ours\n"
        "from maa_assess.domain.rules import Truth\n"
        "import app.domain.rules\n"
        "print(theirs is ours, Truth is app.domain.rules.Truth, ours.__spec__.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True True app.domain.paper\n"
