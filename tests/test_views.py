"""Our ViewDefinitions, run by a runner that others wrote, come to the rows of our tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import fhir4ds
import pytest
from pyarrow import parquet

from app.cli import main
from app.domain.counts import Analyte
from app.fhir.codes import ANALYTE_LOINC, BY_LOINC, LoincRow
from app.fhir.ucum import UNITS, UnitRow
from app.papers import EVERY
from app.publishing.views import VIEWS
from app.writing.observation import canonical
from benchmarks.exports import export
from tests.test_bulk import result, screened, written

ROOT = Path(__file__).resolve().parent.parent
# It warns of what might be several; where it is, it fails.
pytestmark = pytest.mark.filterwarnings("ignore")
Row = dict[str, Any]
Run = Callable[[str, Path], list[Row]]
BY_CANONICAL = {canonical(paper): paper.id for paper in EVERY}
CRITERIA = ("nih-daclizumab-2003", "howard-2004-pediatric", "nih-prca-2003")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a view by its name over the lines of files."""
    engine = fhir4ds.create_connection()

    def rows(name: str, files: Path) -> list[Row]:
        engine.execute(
            "CREATE OR REPLACE TABLE resources AS SELECT line::JSON AS resource, "
            "json_extract_string(line, '$.resourceType') AS \"resourceType\" "
            "FROM read_csv(?, columns={'line': 'VARCHAR'}, delim=chr(1), quote='', escape='', "
            "header=false)",
            [str(files)],
        )
        found = engine.execute(fhir4ds.generate_view_sql(VIEWS[name]()))
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    yield rows
    engine.close()


def number(value: Decimal | float | None) -> float | None:
    """The runner's numbers are doubles: with as many digits as those have for sure."""
    return None if value is None else float(f"{value:.12g}")


def same_rows(one: list[Row], other: list[Row]) -> None:
    def in_order(rows: list[Row]) -> list[str]:
        return sorted(json.dumps(row, sort_keys=True) for row in rows)

    assert in_order(one) == in_order(other)


# Counts


def plain(folder: Path) -> Path:
    """A result under each LOINC code and in each unit of UCUM, and an export with nothing amiss."""
    export(folder, 200)

    def plausible(row: LoincRow, unit: UnitRow) -> str:
        most = 4000 if row.analyte is Analyte.ERYTHROCYTES else 5
        return f"{most / unit.factor:.4g}"

    every = [
        result(f"{row.code}-{number}", row.code, plausible(row, unit), unit.text)
        for row in ANALYTE_LOINC
        for number, unit in enumerate(UNITS)
        if row.analyte is not Analyte.BODY_WEIGHT and unit.dimension is row.dimension
    ]
    below = [result(f"below-{number}", "751-8", "2", "10*9/L") for number in range(4)]
    for one, sign in zip(below, ("<", "<=", ">", ">="), strict=True):
        one["valueQuantity"]["comparator"] = sign
    statuses = [
        result(status, "777-3", "20", "10*9/L", status=status)
        for status in ("final", "amended", "corrected")
    ]
    others = [
        result("glucose", "2345-7", "90", "mg/dL"),
        result("weight", "29463-7", "70", "kg"),
        result("gone", "777-3", "20", "10*9/L", status="entered-in-error"),
    ]
    (folder / "manifest.json").unlink()
    return written(folder, [*every, *below, *statuses, *others], "more.Observation.ndjson")


def test_the_view_of_plain_counts_comes_to_the_rows_of_the_table(run: Run, tmp_path: Path) -> None:
    folder = plain(tmp_path / "in")
    out = screened(folder, tmp_path / "out", "--counts")
    names = ["patient", "status", "effective", "analyte", "loinc", "comparator", "unit"]
    expected = [
        {name: row[name] for name in names}
        | {
            "resource_id": row["resource"].removeprefix("Observation/"),
            "value": number(row["value"]),
            "sent_value": number(Decimal(re.sub("^[<>]=?", "", row["sent_value"]))),
            "sent_unit": row["sent_unit"],
            "patient_identifier": None,
        }
        for row in parquet.read_table(out / "counts.parquet").to_pylist()
        if row["used"]
    ]
    assert {row["analyte"] for row in expected} == {
        row.analyte.name.lower() for row in ANALYTE_LOINC if row.analyte is not Analyte.BODY_WEIGHT
    }
    assert len(expected) > 700
    found = [
        row | {"value": number(row["value"]), "sent_value": number(row["sent_value"])}
        for row in run("blood_counts", folder / "*Observation*.ndjson")
    ]
    same_rows(found, expected)


# Verdicts


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views") / "messy"
    export(folder, 1_000, each=24, messy=True)
    return folder


def criteria(*names: str) -> list[str]:
    return [part for name in names for part in ("--criteria", name)]


@pytest.fixture(scope="module")
def eligibility(messy: Path) -> Path:
    return screened(messy, messy.with_name("eligibility"), *criteria(*CRITERIA))


@pytest.fixture(scope="module")
def response(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the trial's patients, as we made them."""
    folder = tmp_path_factory.mktemp("views")
    bundle = json.loads((ROOT / "fixtures/daclizumab-2003/bundle.json").read_bytes())
    written(folder / "in", [entry["resource"] for entry in bundle["entry"]])
    out = folder / "response"
    assert main(["response", str(folder / "in"), "--out", str(out), "--workers", "1"]) == 0
    return out


def patient_of(row: Row) -> str:
    """As the tables name a patient, without the system of an identifier."""
    return str(row["patient"] or row["patient_identifier"])


@pytest.mark.parametrize("name", ["eligibility", "response"])
def test_the_view_of_assessments_comes_to_the_rows_of_the_verdicts(
    name: str, run: Run, request: pytest.FixtureRequest
) -> None:
    out = request.getfixturevalue(name)
    columns = {one["name"] for one in VIEWS[name]()["select"][0]["column"]}
    table = parquet.read_table(out / "verdicts.parquet").to_pylist()
    parts = {name.replace("-", "_"): name for name in table[0]}
    parts = {part: name for part, name in parts.items() if part in columns}
    expected = [
        {part: str(row[column]) if row[column] else None for part, column in parts.items()}
        | {"patient": row["patient"].rpartition("|")[2]}
        for row in table
    ]
    assert {"definition", "verdict", "day", "other_cause"} <= parts.keys()
    assert len({row["verdict"] for row in expected}) > 2
    found = [
        {part: row[part] for part in parts}
        | {"patient": patient_of(row), "definition": BY_CANONICAL[row["definition"]]}
        for row in run(name, out / "assessments.ndjson")
    ]
    same_rows(found, expected)


def test_every_criterion_of_the_table_is_a_column_of_the_view(
    eligibility: Path, response: Path
) -> None:
    """But for the counts and the sentences, which are no codes."""
    for out in (eligibility, response):
        columns = {one["name"] for one in VIEWS[out.name]()["select"][0]["column"]}
        names = parquet.read_schema(out / "verdicts.parquet").names
        judged = tuple(f"{analyte.name.lower()}_" for analyte in Analyte)
        told = {name.replace("-", "_") for name in names if not name.startswith(judged)}
        assert told - {"headline", "missing"} <= columns


def test_the_view_of_judged_counts_comes_to_the_counts_of_the_verdicts(
    run: Run, eligibility: Path
) -> None:
    table = parquet.read_table(eligibility / "verdicts.parquet").to_pylist()
    judged = [analyte.name.lower() for analyte in Analyte]
    expected = {
        (row["patient"].rpartition("|")[2], row["definition"], name, value)
        for row in table
        for name in judged
        for value in (row.get(f"{name}_value") or "").split(" | ")
        # For a bound an assessment has the results that it rests on.
        if value and not value.startswith("0 to ")
    }
    found = {
        (patient_of(row), BY_CANONICAL[row["definition"]], *counted(row))
        for row in run("judged_counts", eligibility / "assessments.ndjson")
    }
    assert len(expected) > 50
    assert any(" " in value for *_, value in expected)
    assert {(*who, in_digits(value)) for *who, value in expected} <= found


def counted(row: Row) -> tuple[str, str]:
    """The analyte, and the value as the table of verdicts has it."""
    analyte = BY_LOINC[row["loinc"]].analyte
    assert row["unit"] in {analyte.unit, None}
    if row["value"] is None:
        return analyte.name.lower(), in_digits(f"{row['low']} to {row['high']}")
    return analyte.name.lower(), in_digits(f"{row['comparator'] or ''} {row['value']}".strip())


def in_digits(value: str) -> str:
    return " ".join(
        str(number(Decimal(word))) if word[0].isdigit() else word for word in value.split()
    )


# As they are published


@pytest.mark.parametrize("name", VIEWS)
def test_the_command_prints_a_view_that_can_be_shared(name: str) -> None:
    """What the profiles Shareable- and TabularViewDefinition ask for."""
    command = [sys.executable, "-m", "app.cli", "views", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    view = json.loads(done.stdout)
    assert view == VIEWS[name]()
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", view["name"])
    assert view["url"] == f"https://w3id.org/maa-assess/ViewDefinition/{name.replace('_', '-')}"
    assert view["fhirVersion"]
    for group in all_selects(view["select"]):
        for column in group.get("column", ()):
            assert column.keys() == {"name", "path", "type"}
            assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", column["name"])


def all_selects(selects: list[Row]) -> Iterator[Row]:
    for one in selects:
        yield one
        yield from all_selects(one.get("unionAll", []))
