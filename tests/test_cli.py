"""The command line says what the service says, in plain text, and fails with a reason."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.documents import EXAMPLE_REQUEST
from app.cli import main

ROOT = Path(__file__).resolve().parent.parent
FHIR_JSON = "application/fhir+json"
COHORT = Path(__file__).parent.parent / "fixtures" / "daclizumab-2003"
ESCAPE = "\x1b"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The documented example in a file."""
    return written(tmp_path, EXAMPLE_REQUEST)


def written(folder: Path, data: Any) -> Path:
    """Data in a file."""
    file = folder / "data.json"
    file.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return file


def about(patient: dict[str, Any]) -> dict[str, Any]:
    """The example, about another patient."""
    data = copy.deepcopy(EXAMPLE_REQUEST)
    for entry in data["entry"]:
        entry["resource"]["subject"] = patient
    return data


def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own, its output no terminal."""
    environment = {k: v for k, v in os.environ.items() if k not in {"FORCE_COLOR", "COLUMNS"}}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=ROOT,
        env=environment,
        input=given,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_the_table_names_patient_verdict_criteria_and_counts(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["eligibility", str(example)]) == 0
    out, err = capsys.readouterr()
    title = "Patient/example, 2024-03-05: eligible (nih-daclizumab-2003)"
    assert title in out
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in out.splitlines()]
    assert ["Neutrophils depressed", "met", "ANC 0.9 10*9/L (2024-03-05)"] in rows
    assert ["Platelets depressed", "met", "platelets 41 10*9/L (2024-03-05)"] in rows
    assert ["Red cells depressed", "not-met", "Hb 9.4 g/dL (2024-03-05)"] in rows
    assert "a decision aid, not a diagnosis" in out
    assert err == ""


def test_no_colour_code_is_written_where_the_output_is_no_terminal(example: Path) -> None:
    done = run("eligibility", str(example))
    assert done.returncode == 0
    assert b"eligible" in done.stdout
    assert ESCAPE.encode() not in done.stdout
    assert done.stderr == b""


def test_json_equals_the_answer_over_http(example: Path, http: httpx.Client) -> None:
    answer = http.post(
        "/fhir/$assess-eligibility",
        content=example.read_bytes(),
        params={"criteria": ["nih-severe", "emaa"], "asOf": "2024-03-06"},
        headers={"content-type": FHIR_JSON},
    )
    options = ["--criteria", "nih-severe", "--criteria", "emaa", "--as-of", "2024-03-06"]
    done = run("eligibility", str(example), "--json", *options)
    assert done.stdout.rstrip(b"\r\n") == answer.content


def test_a_dash_reads_standard_input(example: Path) -> None:
    done = run("eligibility", "-", "--json", given=example.read_bytes())
    assert done.returncode == 0
    assert done.stdout == run("eligibility", str(example), "--json").stdout


def test_standard_input_that_is_empty_is_unusable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["eligibility", "-"]) == 1
    assert capsys.readouterr().err.startswith("error: Not JSON")


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_exits_2_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / name
    assert main(["eligibility", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(file) in err


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (b"nonsense", [], "Not JSON"),
        ({"resourceType": "Patient"}, [], "Send a Bundle"),
        ({"resourceType": "Bundle"}, [], "no Observation"),
        (EXAMPLE_REQUEST, ["--criteria", "none"], "No definition 'none'"),
        (EXAMPLE_REQUEST, ["--as-of", "yesterday"], "'asOf' is a date"),
        (EXAMPLE_REQUEST, ["--window", "0"], "'window' is a number of days"),
        (EXAMPLE_REQUEST, ["--red-cell-policy", "x"], "'redCellPolicy'"),
        (EXAMPLE_REQUEST, ["--transfusion-history", "x"], "'transfusionHistory'"),
        (EXAMPLE_REQUEST, ["--subject", "Patient/other"], "'subject'"),
    ],
)
def test_unusable_data_exit_1_with_the_reason_on_standard_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    data: Any,
    options: list[str],
    reason: str,
) -> None:
    assert main(["eligibility", str(written(tmp_path, data)), *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert reason in err


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["eligibility"], ["eligibility", "--x"]])
def test_bad_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage:" in capsys.readouterr().err


def test_each_definition_named_has_a_table_of_its_own(
    example: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["nih-daclizumab-2003", "nih-severe"]
    options = [word for name in names for word in ("--criteria", name)]
    assert main(["eligibility", str(example), *options]) == 0
    out = capsys.readouterr().out
    assert [f"({name})" in out for name in names] == [True, True]
    assert out.count("criterion") == len(names)


def test_as_of_leaves_later_results_out_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copy.deepcopy(EXAMPLE_REQUEST)
    late = copy.deepcopy(data["entry"][1])
    late["resource"] |= {"id": "late", "effectiveDateTime": "2024-03-09"}
    late["resource"]["valueQuantity"]["value"] = 300
    data["entry"].append(late)
    file = str(written(tmp_path, data))
    assert main(["eligibility", file]) == 0
    assert ": not-eligible (" in capsys.readouterr().out
    assert main(["eligibility", file, "--as-of", "2024-03-06"]) == 0
    out = capsys.readouterr().out
    assert ": eligible (" in out
    assert "after-as-of" in out


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]", "[link=http://a]b", ":red_circle:", "a\\"])
@pytest.mark.parametrize("kind", ["reference", "identifier"])
def test_markup_in_a_patients_name_is_shown_literally(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    patient = (
        {"reference": f"urn:{name}"} if kind == "reference" else {"identifier": {"value": name}}
    )
    assert main(["eligibility", str(written(tmp_path, about(patient)))]) == 0
    assert f"{name}, 2024-03-05: eligible" in capsys.readouterr().out


@pytest.mark.parametrize("steering", [ESCAPE + "[2J", "\x9b31m", "\r", "\n", "\x07", "\u202e"])
def test_no_sequence_in_the_data_steers_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steering: str
) -> None:
    data = about({"reference": f"urn:a{steering}b"})
    data["entry"][0]["resource"]["valueQuantity"]["code"] = f"x{steering}y"
    file = str(written(tmp_path, data))
    assert main(["eligibility", file]) == 0
    out = capsys.readouterr().out
    assert f"a{steering}b" not in out
    assert f"x{steering}y" not in out
    assert "urn:a\N{REPLACEMENT CHARACTER}" in out
    assert main(["eligibility", file, "--criteria", f"a{steering}b"]) == 1
    assert f"a{steering}b" not in capsys.readouterr().err


def test_a_response_is_told_by_lineage_with_its_times(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(COHORT / "bundle.json")
    assert main(["response", file, "--subject", "Patient/mAA-03"]) == 0
    out = capsys.readouterr().out
    assert "Patient/mAA-03: response (nih-daclizumab-2003)" in out
    assert "Neutrophil" in out
    assert "Response at 3 months: response (2000-01-19)" in out
    assert main(["response", file, "--subject", "Patient/mAA-03", "--as-of", "1999-10-25"]) == 0
    assert "No counts from day 60 to day 183" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["response", "cohort"])
def test_an_unverified_definition_says_so_on_the_terminal(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(COHORT / "bundle.json")
    assert main([command, file, "--criteria", "camitta-2000-non-severe"]) == 0
    assert "Unverified" in capsys.readouterr().out
    assert main([command, file]) == 0
    assert "Unverified" not in capsys.readouterr().out


def test_a_directory_is_one_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cohort", str(COHORT)]) == 0
    out = capsys.readouterr().out
    assert "17 treated, 1 not evaluable, 16 evaluable, 6 responded." in out
    assert "37.5% (38%)" in out
    assert "Not evaluable: Patient/mAA-17." in out
    assert main(["cohort", str(COHORT), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["group"][0]["measureScore"]["value"] == 0.375
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "cohort.json").write_bytes((COHORT / "bundle.json").read_bytes())
    assert main(["cohort", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "broken.json: error: Not JSON" in told.err
    assert "17 treated" in told.out


@pytest.mark.parametrize("kind", ["empty", "missing", "eligibility only", "two definitions"])
def test_a_cohort_of_nobody_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    arguments = {
        "empty": [str(tmp_path)],
        "missing": [str(tmp_path / "nothing.json")],
        "eligibility only": [str(COHORT), "--criteria", "emaa"],
        "two definitions": [
            *(str(COHORT), "--json", "--criteria", "nih-severe"),
            *("--criteria", "japan-childhood"),
        ],
    }[kind]
    assert main(["cohort", *arguments]) in {1, 2}
    assert capsys.readouterr().err


def test_an_export_without_the_extra_for_exports_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['numpy'] = None; from app.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "screen", "EXPORT", "--out", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "maa-assess: numpy is missing: it comes with the extra exports\n"
