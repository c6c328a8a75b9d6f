"""The published CQL, compiled and run by others' engines, comes to what we come to.

`python -m tests.test_cql --rewrite` (`make cql`) writes the CQL and its ELM anew.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.asking import ASSESS_ELIGIBILITY
from app.domain.assessment import Assessment
from app.domain.counts import Patient
from app.domain.rules import criteria_of
from app.operations import assessed
from app.papers import PUBLISHED
from app.publishing.cql import (
    COUNTS,
    RESPONSE,
    TABLES,
    criterion_define,
    generated,
    libraries,
    library_name,
)
from app.publishing.cql_response import generated_responses
from tests.tools import require

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
HERE = ROOT / "tests" / "cql"
BUILD = ROOT / "build" / "cql"
KEPT = ROOT / "app" / "publishing" / "libraries"
FIXTURES = ROOT / "fixtures"
STORIES = sorted([*FIXTURES.glob("*/request.json"), *FIXTURES.glob("*/bundle.json")])
TRUTHS = {True: "met", False: "not-met", None: "unknown"}


def engine(command: str, given: Json) -> str:
    """What the script says, with the packages of its lock file had once from npm."""
    require("node", "npm")
    BUILD.mkdir(parents=True, exist_ok=True)
    lock = "package-lock.json"
    had = BUILD / "node_modules" / ".had-by"
    if not had.exists() or had.read_bytes() != (HERE / lock).read_bytes():
        shutil.copy(HERE / "package.json", BUILD)
        shutil.copy(HERE / lock, BUILD)
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(npm, cwd=BUILD, check=True, timeout=300)
        shutil.copy(HERE / lock, had)
    shutil.copy(HERE / "cql.mjs", BUILD)
    text = json.dumps(given)
    ran = subprocess.run(
        ["node", "cql.mjs", command],
        cwd=BUILD,
        input=text,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


def sources() -> dict[str, str]:
    """Every library's CQL, those that others include first."""
    by_hand = [library_name(COUNTS), library_name(RESPONSE)]
    texts = {name: (KEPT / f"{name}.cql").read_text("utf-8") for name in by_hand}
    texts |= generated() | generated_responses()
    first = (library_name(TABLES), library_name(COUNTS))
    return {**{name: texts[name] for name in first}, **texts}


def compiled() -> dict[str, str]:
    """Every library's ELM, as it is kept."""
    elm = json.loads(engine("compile", sources()))
    return {
        name: json.dumps(library, separators=(",", ":")) + "\n" for name, library in elm.items()
    }


# Patients as an outside engine wants them: a Bundle for each, results as resources of their own.


@dataclass
class Chart:
    """One patient of a story, and how to judge."""

    story: str
    patient: str
    bundle: Json
    parameters: Json = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.story} {self.patient}"


def named(subject: Json | None) -> str:
    if not subject:
        return ""
    if "reference" in subject:
        return str(subject["reference"])
    return "{system}|{value}".format(**subject["identifier"])


def own_resources(data: Json) -> Iterator[Json]:
    """Every resource by itself: contained ones too, with the subject and date a report lends."""
    by_name: dict[str, Json] = {}
    for entry in data["entry"]:
        resource = entry["resource"]
        by_name[entry.get("fullUrl", "")] = resource
        by_name[f"{resource['resourceType']}/{resource.get('id')}"] = resource
    for entry in data["entry"]:
        resource = entry["resource"]
        inner = {f"#{one['id']}": one for one in resource.pop("contained", [])}
        if resource["resourceType"] == "DiagnosticReport":
            for reference in resource.get("result", []):
                name = reference["reference"]
                result = inner.get(name) or by_name[name]
                for lent in ("subject", "effectiveDateTime"):
                    if lent in resource:
                        result.setdefault(lent, resource[lent])
        yield resource
        yield from inner.values()


def charts(path: Path) -> list[Chart]:
    request = json.loads(path.read_bytes())
    parameters: Json = {}
    data = request
    for parameter in request.get("parameter", []):
        if parameter["name"] == "data":
            data = parameter["resource"]
        elif parameter["name"] == "asOf":
            parameters["As of"] = parameter["valueDate"]
        elif parameter["name"] == "codeMap":
            return []  # the CQL reads LOINC: a map is applied before it
        elif parameter["name"] == "transfusionHistory":
            parameters["Transfusion history complete"] = parameter["valueCode"] == "complete"
        else:
            assert parameter["name"] in {"criteria", "study", "sustained", "when"}
    of_patient: dict[str, list[Json]] = defaultdict(list)
    people: dict[str, Json] = {}
    urls = {id(entry["resource"]): entry.get("fullUrl", "") for entry in data["entry"]}
    for resource in own_resources(data):
        if resource["resourceType"] == "Patient":
            for name in (urls[id(resource)], f"Patient/{resource.get('id')}"):
                people[name] = resource
        elif subject := named(resource.get("subject")):
            of_patient[subject].append(resource)
    bare = {"resourceType": "Patient", "id": "patient"}
    return [
        Chart(
            path.parent.name,
            patient,
            {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [{"resource": one} for one in (people.get(patient, bare), *resources)],
            },
            parameters,
        )
        for patient, resources in of_patient.items()
    ]


# Stories of which the CQL knows less, and says so by null, each with what it cannot read.
KNOWS_LESS = {
    "anc-as-text": "a value in text",
    "platelets-in-german-text": "a value in text",
    "platelet-clumps": "words of a doubt",
}
# A time that is asked for, and linked patients: the caller gives what earlier days told, and makes
# one patient of two.
NOT_ASKED = {"sustained-asked", "merged-patient"}


CHARTS = [c for path in STORIES for c in charts(path) if c.story not in NOT_ASKED]
Results = dict[tuple[str, str], Json]


def run(asked: list[Chart]) -> Results:
    elm = {library.name: json.loads(library.elm) for library in libraries()}
    main = [elm[library_name(paper.id)] for paper in PUBLISHED]
    given = [
        {
            "id": chart.id,
            "bundle": chart.bundle,
            "parameters": chart.parameters | held_before(chart),
        }
        for chart in asked
    ]
    said = engine("run", {"libraries": list(elm.values()), "main": main, "charts": given})
    lines = [json.loads(line) for line in said.splitlines()]
    return {(line["id"], line["library"]): line["results"] for line in lines}


@pytest.fixture(scope="session")
def theirs() -> Results:
    """What the outside engine says of every chart by every paper."""
    return run(CHARTS)


def name_of(patient: Patient) -> str:
    return patient.reference or f"{patient.system}|{patient.value}"


@cache
def assessments(story: str, policy: str = "both") -> list[Assessment]:
    """What we come to of a story as it was sent, by every paper, for the newest counts."""
    path = next(path for path in STORIES if path.parent.name == story)
    request = json.loads(path.read_bytes())
    if "parameter" in request:
        left = {"criteria", "when"}
        request["parameter"] = [p for p in request["parameter"] if p["name"] not in left]
    query = [("criteria", paper.id) for paper in PUBLISHED] + [("redCellPolicy", policy)]
    body = json.dumps(request).encode()
    return list(assessed(ASSESS_ELIGIBILITY, body, query).assessments)


def ours(story: str, policy: str = "both") -> Results:
    """What we say of a story, in the same words."""
    return {
        (f"{story} {name_of(found.patient)}", library_name(found.paper.id)): {
            "Verdict": found.verdict.value,
            **{criterion_define(one.criterion): one.truth.value for one in found.findings},
        }
        for found in assessments(story, policy)
    }


def held_before(chart: Chart) -> Json:
    """What earlier days told: the libraries judge one day, and are given it."""
    truths = [
        truth
        for found in assessments(chart.story)
        if f"{chart.story} {name_of(found.patient)}" == chart.id
        for truth in found.known.held_before.values()
    ]
    by_word = {word: value for value, word in TRUTHS.items()}
    return {"Held before": by_word[truths[0].value]} if truths else {}


def in_our_words(said: Json, ours: Json) -> Json:
    """The verdict and the criteria of their results."""
    return {name: said[name] if name == "Verdict" else TRUTHS[said[name]] for name in ours}


def told(chart: Chart, results: Results, policy: str = "both") -> tuple[Json, Json]:
    """Their and our words on one chart, by every paper."""
    mine = {key: said for key, said in ours(chart.story, policy).items() if key[0] == chart.id}
    assert len(mine) == len(PUBLISHED)
    return {key[1]: in_our_words(results[key], said) for key, said in mine.items()}, {
        key[1]: said for key, said in mine.items()
    }


def guesses(said: Json, mine: Json) -> list[tuple[str, str, str, str]]:
    """Where they decide what we decide otherwise or leave open; to know less is no guess."""
    return [
        (paper, name, answer, mine[paper][name])
        for paper, answers in said.items()
        for name, answer in answers.items()
        if answer not in {"unknown", "indeterminate", mine[paper][name]}
    ]


def test_the_cql_on_file_is_what_the_tables_say() -> None:
    on_file = {library.name: library.cql for library in libraries()}
    assert on_file == sources()


def test_the_elm_on_file_is_the_cql_compiled() -> None:
    assert {library.name: library.elm for library in libraries()} == compiled()


def test_every_criterion_has_a_definition_of_its_own() -> None:
    for library in libraries()[: len(PUBLISHED)]:
        defined = re.findall(r'^define "([^"]+)":', library.cql, re.MULTILINE)
        paper = next(paper for paper in PUBLISHED if paper.id == library.id)
        assert library.version == paper.version
        assert len(defined) == len(set(defined))
        assert {criterion_define(one) for one in criteria_of(paper.eligibility)} <= set(defined)


def test_the_engine_runs_over_all_fixtures_but_what_it_is_not_asked() -> None:
    stories = {chart.story for chart in CHARTS}
    left = {path.parent.name for path in STORIES} - stories
    assert left == {"hospital-codes", *NOT_ASKED}
    assert len(CHARTS) >= 125
    assert KNOWS_LESS.keys() <= stories


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.id)
def test_an_outside_engine_comes_to_our_verdict_and_criteria(chart: Chart, theirs: Results) -> None:
    said, mine = told(chart, theirs)
    assert guesses(said, mine) == []
    if chart.story not in KNOWS_LESS:
        assert said == mine


def test_it_does_know_less_of_the_stories_listed(theirs: Results) -> None:
    less = {chart.story for chart in CHARTS if (pair := told(chart, theirs))[0] != pair[1]}
    assert less == KNOWS_LESS.keys()


def rewrite() -> None:
    for name, text in sources().items():
        (KEPT / f"{name}.cql").write_text(text, "utf-8")
    for name, text in compiled().items():
        (KEPT / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit("python -m tests.test_cql --rewrite writes the CQL and its ELM anew")
    rewrite()
