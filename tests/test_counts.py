"""The counts of an export as they were read, as a table, and what others' tools make of it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from app import operations
from app.asking import ASSESS_ELIGIBILITY
from app.bulk import counts as counts_of
from app.bulk import files, machine
from app.cli import main
from app.domain.counts import Count
from app.fhir.codes import BY_LOINC
from benchmarks.exports import export
from tests.test_bulk import bundle_of, counts, result, same_results, screened, written

LOINC = "http://loinc.org"


def table_of(out: Path) -> list[dict[str, Any]]:
    """Every row of the table of counts."""
    rows: list[dict[str, Any]] = parquet.read_table(out / "counts.parquet").to_pylist()
    return rows


def coded(loinc: str) -> dict[str, Any]:
    return {"coding": [{"system": LOINC, "code": loinc}]}


def without_value(one: dict[str, Any], **more: Any) -> dict[str, Any]:
    del one["valueQuantity"]
    return one | more


def quantity(value: str, unit: str, **more: str) -> bytes:
    """A value whose digits stand as they are."""
    told = {"unit": unit, "code": unit, "system": "http://unitsofmeasure.org"} | more
    return b'{"value":%b,%b' % (value.encode(), json.dumps(told).encode()[1:])


def with_value(one: dict[str, Any], value: bytes) -> bytes:
    """A line with that value."""
    return json.dumps(without_value(one, valueQuantity="HERE")).encode().replace(b'"HERE"', value)


def told(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def one_row(tmp_path: Path, line: dict[str, Any] | bytes, *options: str) -> dict[str, Any]:
    """The row that an export of one result comes to."""
    (row,) = table_of(
        screened(written(tmp_path / "in", [line]), tmp_path / "out", *options, "--counts")
    )
    return row


def test_a_plain_count_is_a_row_that_says_where_it_stands(tmp_path: Path) -> None:
    lines = [b"", json.dumps(result("p", "777-3", "50", "10*3/uL")).encode()]
    out = screened(written(tmp_path / "in", lines), tmp_path / "out", "--counts")
    (row,) = table_of(out)
    day = row.pop("day")
    assert day.isoformat() == "2024-03-05"
    assert row == {
        "patient": "Patient/p",
        "analyte": "platelets",
        "loinc": "777-3",
        "value": Decimal(50),
        "comparator": None,
        "unit": "10*9/L",
        "low": Decimal(50),
        "high": Decimal(50),
        "used": True,
        "repaired": False,
        "doubtful": False,
        "remarks": None,
        "status": "final",
        "effective": "2024-03-05",
        "sent_code": "777-3",
        "sent_value": "50.0",
        "sent_unit": "10*3/uL",
        "file": "Observation.ndjson",
        "line": 2,
        "resource": "Observation/p-777-3-2024-03-05",
        "element": None,
    }


NUMBERS = ("value", "comparator", "unit", "low", "high", "sent_value", "sent_unit", "repaired")


@pytest.mark.parametrize(
    ("sent", "unit", "expected"),
    [
        ("1250", "/uL", ("1.25", None, "1.25", "1.25", False)),
        ("1.250", "10*9/L", ("1.25", None, "1.25", "1.25", False)),
        ("0.1", "10*9/L", ("0.1", None, "0.1", "0.1", False)),
        ("12e-1", "10*9/L", ("1.2", None, "1.2", "1.2", False)),
        ("1.2", "K/uL", ("1.2", None, "1.2", "1.2", True)),
        # Nineteen places: the column has eighteen, and its ends hold the value.
        (
            "1.2000000000000000001",
            "10*9/L",
            (None, None, "1.2", "1.200000000000000001", False),
        ),
    ],
)
def test_a_value_is_exact_in_the_unit_of_its_analyte_and_stands_as_sent_beside(
    sent: str, unit: str, expected: tuple[Any, ...], tmp_path: Path
) -> None:
    line = with_value(result("p", "751-8", "0", "x"), quantity(sent, unit))
    row = one_row(tmp_path, line)
    value, comparator, low, high, repaired = expected
    numbers = [Decimal(one) if one else None for one in (value, low, high)]
    assert told(row, *NUMBERS) == (
        numbers[0],
        comparator,
        "10*9/L",
        *numbers[1:],
        sent,
        unit,
        repaired,
    )


@pytest.mark.parametrize(
    ("comparator", "low", "high"),
    [("<", None, 2), ("<=", None, 2), (">", 2, None), (">=", 2, None)],
)
def test_a_bound_has_its_comparator_and_one_end(
    comparator: str, low: int | None, high: int | None, tmp_path: Path
) -> None:
    value = quantity("2", "10*9/L", comparator=comparator)
    row = one_row(tmp_path, with_value(result("p", "751-8", "0", "x"), value))
    expected = (Decimal(2), comparator, "10*9/L", low, high, f"{comparator}2", "10*9/L", False)
    assert told(row, *NUMBERS) == expected
    assert row["remarks"] == "comparator"


def test_a_range_has_two_ends_and_no_value(tmp_path: Path) -> None:
    ends = {n: {"value": v, "unit": "K/uL"} for n, v in (("low", 1), ("high", 3))}
    row = one_row(tmp_path, without_value(result("p", "751-8", "0", "x"), valueRange=ends))
    assert told(row, *NUMBERS) == (None, None, "10*9/L", 1, 3, "1 - 3", "K/uL", True)


def test_a_text_is_read_and_stands_as_sent(tmp_path: Path) -> None:
    one = without_value(result("p", "777-3", "0", "x"), valueString="< 20 K/uL")
    row = one_row(tmp_path, one)
    assert told(row, *NUMBERS)[:6] == (20, "<", "10*9/L", None, 20, "< 20 K/uL")


def test_parts_of_a_panel_are_rows_of_one_line(tmp_path: Path) -> None:
    part = {"code": coded("777-3"), "valueQuantity": {"value": 5, "unit": "10*9/L"}}
    other = {"code": coded("718-7"), "valueQuantity": {"value": 80, "unit": "g/L"}}
    panel = without_value(result("p", "58410-2", "0", "x"), component=[part, other])
    rows = table_of(screened(written(tmp_path / "in", [panel]), tmp_path / "out", "--counts"))
    assert [told(r, "line", "element", "analyte", "value") for r in rows] == [
        (1, "component[0]", "platelets", 5),
        (1, "component[1]", "hemoglobin", 8),
    ]


@pytest.mark.parametrize(
    ("change", "remark", "analyte"),
    [
        ({"status": "entered-in-error"}, "status-excluded", "platelets"),
        ({"valueQuantity": {"value": 5, "unit": "furlong"}}, "unit-unknown", "platelets"),
        ({"effectiveDateTime": "yesterday"}, "no-date", "platelets"),
        ({"code": {"text": "Platelets"}}, "unmapped-code", None),
    ],
)
def test_what_is_set_aside_is_a_row_with_its_reason_and_no_value(
    change: dict[str, Any], remark: str, analyte: str | None, tmp_path: Path
) -> None:
    row = one_row(tmp_path, result("p", "777-3", "50", "10*3/uL") | change)
    assert told(row, "used", "remarks", "analyte") == (False, remark, analyte)
    assert told(row, "value", "unit", "low", "high") == (None, None, None, None)
    assert row["sent_value"] in {"5", "50.0"}


def test_a_result_and_its_correction_are_two_rows_and_one_is_used(tmp_path: Path) -> None:
    first = result("p", "777-3", "50", "10*3/uL")
    later = result("p", "777-3", "60", "10*3/uL", status="corrected", id="later")
    rows = table_of(
        screened(written(tmp_path / "in", [first, later]), tmp_path / "out", "--counts")
    )
    assert [told(r, "line", "used", "remarks", "value") for r in rows] == [
        (1, False, "superseded", None),
        (2, True, None, 60),
    ]


def test_a_hospital_s_own_code_stands_beside_the_loinc_it_was_read_as(tmp_path: Path) -> None:
    own = {"coding": [{"system": "https://lab.example", "code": "PLT"}]}
    (tmp_path / "map.csv").write_text("system,code,loinc\nhttps://lab.example,PLT,777-3\n")
    line = result("p", "777-3", "50", "10*3/uL") | {"code": own}
    row = one_row(tmp_path, line, "--code-map", str(tmp_path / "map.csv"))
    assert told(row, "loinc", "sent_code", "repaired", "remarks") == (
        "777-3",
        "https://lab.example|PLT",
        True,
        "code-mapped",
    )


def test_what_is_no_blood_count_is_no_row(tmp_path: Path) -> None:
    lines = [
        result("p", "2345-7", "90", "mg/dL"),  # glucose
        result("p", "29463-7", "70", "kg"),  # body weight
        *counts("p"),
    ]
    rows = table_of(screened(written(tmp_path / "in", lines), tmp_path / "out", "--counts"))
    assert [row["line"] for row in rows] == [3, 4, 5, 6]


# A whole export, with all that can be wrong with one


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counts") / "messy"
    export(folder, 3_000, each=24, messy=True)
    return folder


@pytest.fixture(scope="module")
def with_counts(messy: Path) -> Path:
    return screened(messy, messy.with_name("out"), "--counts")


def interval_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return told(row, "patient", "analyte", "low", "high")


def test_the_counts_used_are_those_that_the_service_judges(messy: Path, with_counts: Path) -> None:
    judged = operations.assessed(ASSESS_ELIGIBILITY, bundle_of([messy]))

    def named(patient: Any, count: Count) -> tuple[Any, ...]:
        who = patient.reference or f"{patient.system}|{patient.value}"
        return who, count.analyte.name.lower(), count.value.low, count.value.high

    read = [named(c.patient, count) for c in judged.reading.courses for count in c.counts]
    used = [interval_of(row) for row in table_of(with_counts) if row["used"]]
    assert sorted(map(str, used)) == sorted(str(one) for one in normal(read))
    assert len(used) > 2_000


def normal(read: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """With as many places as the column."""
    places = Decimal(1).scaleb(-18)
    return [
        (*who, *(None if end is None else end.quantize(places) for end in ends))
        for *who, low, high in read
        for ends in [(low, high)]
    ]


def test_a_row_leads_to_the_line_it_was_read_from(messy: Path, with_counts: Path) -> None:
    lines = {file.name: file.read_bytes().split(b"\n") for file in messy.glob("*.ndjson")}
    rows = table_of(with_counts)
    for row in rows:
        line = lines[row["file"]][row["line"] - 1]
        if row["resource"]:
            assert f'"{row["resource"].partition("/")[2]}"'.encode() in line
        if row["sent_value"] and " - " not in row["sent_value"]:
            assert row["sent_value"].lstrip("<>=ad").encode() in line.replace(b'\\"', b'"')
        if row["loinc"]:
            assert BY_LOINC[row["loinc"]].analyte.name.lower() == row["analyte"]
    places = [told(row, "file", "line", "element") for row in rows]
    assert len(set(places)) == len(places)


def test_counts_change_no_other_result_but_what_is_told_of_older_ones(
    messy: Path, with_counts: Path, tmp_path: Path
) -> None:
    without = screened(messy, tmp_path / "out")
    assert not (without / "counts.parquet").exists()
    for name in ("assessments.ndjson", "verdicts.csv", "verdicts.parquet", "measure-report.json"):
        assert (without / name).read_bytes() == (with_counts / name).read_bytes(), name


def test_how_the_work_is_split_changes_no_byte_of_the_counts(
    messy: Path, with_counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "chunks_of", lambda some: files.chunks_of(some, 100_007))
    monkeypatch.setattr(machine, "_LINES_A_BUCKET", 100)
    same_results(with_counts, screened(messy, tmp_path / "small", "--counts"))


def test_a_run_that_was_stopped_goes_on_and_comes_to_the_same_counts(
    messy: Path, with_counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    judge_part = machine.judge_part  # type: ignore[attr-defined]

    def stopped_after_two(*arguments: Any) -> None:
        if len(judged) == 2:
            raise KeyboardInterrupt
        judge_part(*arguments)
        judged.append(1)

    arguments = ["screen", str(messy), "--out", str(tmp_path / "out"), "--workers", "1", "--counts"]
    with monkeypatch.context() as patched:
        patched.setattr(machine, "judge_part", stopped_after_two)
        assert main(arguments) == 3
    assert not (tmp_path / "out" / "counts.parquet").exists()
    same_results(with_counts, screened(messy, tmp_path / "out", "--counts"))


def test_groups_of_rows_are_written_as_they_come(
    messy: Path, with_counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than a group is ever held."""
    monkeypatch.setattr(counts_of, "_BYTES_AT_ONCE", 2_000)
    monkeypatch.setattr(counts_of, "_ROWS_A_GROUP", 100)
    out = screened(messy, tmp_path / "out", "--counts")
    assert table_of(out) == table_of(with_counts)
    groups = parquet.ParquetFile(out / "counts.parquet").metadata
    assert groups.num_row_groups > 10
    sizes = [groups.row_group(n).num_rows for n in range(groups.num_row_groups)]
    assert max(sizes) < 300


def test_an_export_of_nobody_has_a_table_without_rows(tmp_path: Path) -> None:
    out = screened(written(tmp_path / "in", []), tmp_path / "out", "--counts")
    assert parquet.read_table(out / "counts.parquet").schema == counts_of.SCHEMA
    assert table_of(out) == []
