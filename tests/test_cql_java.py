"""The published CQL, compiled and run by the Java engine, comes to what we come to.

It is the engine that HAPI brings, and compiles with a translator of its own version; the engine of
Node.js, of which the other tests of the CQL ask more, is another program.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter

import pytest

from app.domain.rules import criteria_of
from app.papers import PUBLISHED
from app.publishing.cql import criterion_define, libraries, library_name
from tests import test_cql_response as response
from tests.conftest import SECONDS_TO_DOWNLOAD_AND_START, environment
from tests.test_cql import CHARTS, KNOWS_LESS, ROOT, Json, Results, guesses, held_before, told
from tests.tools import require

ELIGIBILITY = {
    library_name(paper.id): [
        "Verdict",
        *(criterion_define(one) for one in criteria_of(paper.eligibility)),
    ]
    for paper in PUBLISHED
}
JAVA = ["java", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def engine(charts: list[Json]) -> Results:
    """What the Java engine says of every chart by every library asked, from one process."""
    require("java", "javac", "make", "mvn")
    classpath = "build/hapi.classpath"
    subprocess.run(
        ["make", classpath],
        cwd=ROOT,
        env=environment(),
        check=True,
        timeout=SECONDS_TO_DOWNLOAD_AND_START,
    )
    ran = subprocess.run(
        [*JAVA, "-cp", (ROOT / classpath).read_text().strip(), "tests/cql/Evaluate.java"],
        cwd=ROOT,
        input=json.dumps(
            {"libraries": {one.name: one.cql for one in libraries()}, "charts": charts}
        ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {(line["id"], line["library"]): line["results"] for line in lines}


def of_eligibility() -> list[Json]:
    return [
        {
            "id": one.id,
            "bundle": one.bundle,
            "parameters": one.parameters | held_before(one),
            "asked": ELIGIBILITY,
        }
        for one in CHARTS
    ]


def of_response(treated: list[response.Asked]) -> list[Json]:
    return [
        {
            "id": one.id,
            "bundle": one.bundle,
            "parameters": one.parameters,
            "asked": {name: [*mine, "Not read"] for name, mine in response.ours(one).items()},
        }
        for one in treated
    ]


@pytest.fixture(scope="module")
def treated() -> list[response.Asked]:
    return response.fixtures()


@pytest.fixture(scope="module")
def theirs(treated: list[response.Asked]) -> Results:
    return engine([*of_eligibility(), *of_response(treated)])


def test_the_java_engine_comes_to_our_verdicts_and_criteria_on_every_fixture(
    theirs: Results,
) -> None:
    less = set()
    for chart in CHARTS:
        said, mine = told(chart, theirs)
        assert guesses(said, mine) == [], chart.id
        if said != mine:
            less.add(chart.story)
    assert less == KNOWS_LESS.keys()


def test_the_java_engine_comes_to_our_response_verdicts_on_every_patient_of_the_trial(
    treated: list[response.Asked], theirs: Results
) -> None:
    silent, other = response.compared(treated, theirs)
    assert other == {}
    assert not silent
    # The trial's own figures: 17 treated, 16 evaluable, 6 responded.
    verdicts = Counter(theirs[one.id, "NihDaclizumab2003Response"]["Verdict"] for one in treated)
    assert verdicts["response"] + verdicts["complete-response"] == 6
    assert (verdicts["no-response"], verdicts["not-evaluable"]) == (10, 1)
