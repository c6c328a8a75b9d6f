"""The command line says what the service says, in plain text, and fails with a reason."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import __version__
from app.api.documents import EXAMPLE_REQUEST
from app.cli import _parser, main
from app.papers import PUBLISHED, RESPONSES
from tests.tools import require

ROOT = Path(__file__).resolve().parent.parent
FHIR_JSON = "application/fhir+json"
COHORT = Path(__file__).parent.parent / "fixtures" / "daclizumab-2003"
ESCAPE = "\x1b"
# What a service says, and nobody who types a command.
# A number behind a hyphen is that of a run of pytest, in its folder's name.
WORDS_OF_THE_WIRE = re.compile(
    r"HTTP|OperationOutcome|\bSend\b|request|body|parameter '|(?<!-)\b4\d\d\b"
)


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
    assert ["Neutrophils depressed", "met", "ANC 0.9 x10⁹/L (2024-03-05)"] in rows
    assert ["Platelets depressed", "met", "platelets 41 x10⁹/L (2024-03-05)"] in rows
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
        (b"nonsense", [], "error: Not JSON"),
        ({"resourceType": "Patient"}, [], "is one Patient, not a Bundle"),
        ({"entry": []}, [], "is JSON without resourceType, not a Bundle"),
        ([EXAMPLE_REQUEST], [], "error: Not FHIR"),
        ({"resourceType": "Bundle"}, [], "no Observation"),
        ({"resourceType": "Parameters"}, [], "Parameters need 'data'"),
        (EXAMPLE_REQUEST, ["--subject", "Patient/other"], "the patient named by --subject"),
        (gzip.compress(b"{}"), [], "is gzip: unpack it first"),
        (b"\xff\xfe{\x00\x00\xd8", [], "seems to be utf-16, and is not: save it as UTF-8"),
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
    assert reason in err
    assert not WORDS_OF_THE_WIRE.search(err)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--criteria", "none"], "--criteria: No definition 'none'"),
        (["--as-of", "yesterday"], "--as-of is a date"),
        (["--as-of", ""], "--as-of is a date"),
        (["--window", "0"], "--window is a number of days from 1 to 36500"),
        (["--red-cell-policy", "x"], "argument --red-cell-policy: invalid choice: 'x'"),
        (["--transfusion-history", "x"], "argument --transfusion-history: invalid choice: 'x'"),
        (["--subject", "Observation/1"], "--subject is a patient's reference"),
    ],
)
@pytest.mark.parametrize("command", ["eligibility", "response", "cohort"])
def test_an_option_that_cannot_be_used_exits_2_and_is_named(
    example: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: list[str],
    reason: str,
) -> None:
    assert code_of([command, str(example), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count(reason) == 1
    assert not WORDS_OF_THE_WIRE.search(err)


def code_of(arguments: list[str]) -> int:
    """The exit code, however the command ended."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(str(ended.code))


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
    assert main(["eligibility", file, "--criteria", f"a{steering}b"]) == 2
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


COMMANDS = (
    *("eligibility", "response", "cohort", "screen"),
    *("serve", "check", "openapi", "views", "package", "completion"),
)


def help_of(*command: str, columns: int = 100) -> str:
    """What `--help` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *command, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_each_argument_of_each_command_says_what_it_is() -> None:
    (commands,) = (one for one in _parser()._actions if isinstance(one.choices, dict))
    assert isinstance(commands.choices, dict)
    assert tuple(commands.choices) == COMMANDS
    for name, parser in commands.choices.items():
        assert parser.description
        assert "0 " in parser.epilog
        for argument in parser._actions:
            assert argument.help, f"{name} {argument.dest}"
            # What may be given stands in the words, not in the error alone.
            assert all(str(choice) in argument.help for choice in argument.choices or ())


def test_the_help_names_each_definition_whole_and_each_exit_code() -> None:
    for command, published in (("eligibility", PUBLISHED), ("cohort", RESPONSES)):
        told = help_of(command, columns=60)
        assert [paper.id for paper in published if paper.id not in told] == []
    for command, codes in (("eligibility", "012"), ("screen", "0123"), ("check", "012")):
        told = help_of(command).split("exit codes: ")[1]
        assert re.findall(r"(?:^|; )(\d) ", told.replace("\n", " ")) == list(codes)


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout.decode().strip() == f"maa-assess {__version__}"


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "x", "1e3", "080000"])
def test_a_port_that_is_none_is_refused_in_a_sentence(
    port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(["serve", f"--port={port}"]) == 2
    assert "argument --port: not a port: they go from 1 to 65535" in capsys.readouterr().err


def lines_of(data: Any) -> bytes:
    """A Bundle's resources as an export has them."""
    return b"\n".join(json.dumps(entry["resource"]).encode() for entry in data["entry"])


@pytest.mark.parametrize("command", ["eligibility", "response", "cohort"])
def test_lines_of_an_export_are_pointed_to_the_command_that_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    file = tmp_path / "all.ndjson"
    file.write_bytes(lines_of(EXAMPLE_REQUEST))
    assert main([command, str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "`maa-assess screen` reads it" in err
    pytest.importorskip("numpy")
    assert main(["screen", str(file), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("command", ["screen", "response"])
def test_one_bundle_is_pointed_to_the_command_that_reads_it(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    pytest.importorskip("numpy")
    out = tmp_path / "out"
    assert main([command, str(example), "--out", str(out)]) == 2
    named = "eligibility" if command == "screen" else command
    assert (
        f"is one Bundle, not an export: `maa-assess {named} {example}`" in capsys.readouterr().err
    )
    assert not out.exists()
    assert main([named, str(example)]) == 0


def test_a_directory_is_pointed_to_the_commands_that_read_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eligibility", str(tmp_path)]) == 2
    assert "maa-assess cohort" in capsys.readouterr().err
    (tmp_path / "1.Observation.ndjson").write_bytes(lines_of(EXAMPLE_REQUEST))
    assert main(["cohort", str(tmp_path)]) == 1
    assert "with --out `maa-assess response` reads it" in capsys.readouterr().err


def test_a_cohort_passes_over_our_own_answers_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = COHORT / "bundle.json"
    (tmp_path / "bundle.json").write_bytes(bundle.read_bytes())
    for name, command in (("a", "eligibility"), ("b", "response"), ("c", "cohort")):
        assert main([command, str(bundle), "--json"]) == 0
        (tmp_path / f"{name}.json").write_text(capsys.readouterr().out)
    assert main(["cohort", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert out == (tmp_path / "c.json").read_text()
    for name in "abc":
        assert f"{name}.json is an answer of maa-assess" in err
    assert main(["eligibility", str(tmp_path / "a.json")]) == 1
    assert capsys.readouterr().out == ""


def test_data_beside_an_answer_of_ours_are_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A server that keeps our answers gives them back with the patient's results.
    file = written(tmp_path, EXAMPLE_REQUEST)
    assert main(["eligibility", str(file), "--json"]) == 0
    both = copy.deepcopy(EXAMPLE_REQUEST)
    both["entry"] += json.loads(capsys.readouterr().out)["entry"]
    assert main(["eligibility", str(written(tmp_path, both))]) == 0
    assert "Patient/example, 2024-03-05: eligible" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [20, 40, 60, 72, 80, 200])
@pytest.mark.parametrize("command", ["cohort", "response"])
def test_no_verdict_is_cut_however_narrow_the_terminal_is(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    command: str,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([command, str(COHORT / "bundle.json")]) == 0
    out = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    assert max(map(len, out.splitlines())) <= columns
    # Of 17 patients two responded completely.
    words = out.split()
    assert words.count("complete-response") >= 2
    assert [name for n in range(1, 18) if (name := f"Patient/mAA-{n:02}") not in out] == []


def test_a_long_reference_leaves_the_verdict_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    server = f"https://{'h' * 60}.example/fhir"
    data = (COHORT / "bundle.json").read_text().replace('"Patient/mAA', f'"{server}/Patient/mAA')
    assert main(["cohort", str(written(tmp_path, data.encode()))]) == 0
    assert capsys.readouterr().out.count("  verdict: complete-response\n") == 2


@pytest.mark.parametrize("given", [{"FORCE_COLOR": "1"}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}])
def test_colours_are_not_used_where_nobody_wants_them(
    example: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {"FORCE_COLOR", "NO_COLOR"}}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "eligibility", str(example)],
        cwd=ROOT,
        env={**environment, **given, "TERM": "xterm"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    coloured = re.search(r"\x1b\[(?:\d+;)*3\dm", done.stdout) is not None
    assert coloured == ("NO_COLOR" not in given)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_json_of_another_unicode_encoding_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    file = written(tmp_path, EXAMPLE_REQUEST)
    assert main(["eligibility", str(file)]) == 0
    expected = capsys.readouterr().out
    file.write_bytes(json.dumps(EXAMPLE_REQUEST).encode(encoding))
    assert main(["eligibility", str(file)]) == 0
    assert capsys.readouterr().out == expected


def test_lines_in_utf_16_are_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("numpy")
    file = tmp_path / "all.ndjson"
    file.write_bytes(lines_of(EXAMPLE_REQUEST).decode().encode("utf-16"))
    assert main(["screen", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "is UTF-16: save it as UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("name", [f"{ESCAPE}[2J", "\u202e", "a\nb", "\x9b31m", "\udcff"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("eligibility", "NAME.json"),
        ("cohort", "NAME"),
        ("eligibility", "NAME.ndjson"),
        ("screen", "NAME.json", "--out", "out"),
        ("screen", "NAME.ndjson", "--out", "out"),
        ("NAME",),
        ("eligibility", "x", "--NAME"),
    ],
)
def test_no_name_steers_the_terminal(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{name}.ndjson").write_bytes(lines_of(EXAMPLE_REQUEST)[:-1])
    assert code_of([one.replace("NAME", name) for one in arguments]) in {0, 1, 2}
    out, err = capsys.readouterr()
    assert name not in out + err
    assert out + err == (out + err).encode(errors="replace").decode()


def test_zsh_is_told_each_command_and_option() -> None:
    script = run("completion", "zsh").stdout.decode()
    assert script.startswith("#compdef maa-assess")
    assert [name for name in (*COMMANDS, "--criteria", "--port") if name not in script] == []


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    require("bash")
    script = tmp_path / "completion"
    script.write_bytes(run("completion", "bash").stdout)
    typed = (
        f"source {script}; COMP_WORDS=(maa-assess {{0}}); COMP_CWORD={{1}}; "
        "_shtab_maa_assess; printf '%s\\n' ${{COMPREPLY[@]}}"
    )
    for words, number, expected in (
        ("s", 1, {"screen", "serve"}),
        ("cohort --crit", 2, {"--criteria"}),
    ):
        done = subprocess.run(
            ["bash", "-c", typed.format(words, number)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert set(done.stdout.split()) == expected, done.stderr


def test_a_reader_who_has_seen_enough_ends_the_output_in_silence(example: Path) -> None:
    command = [sys.executable, "-m", "app.cli", "eligibility", str(example), "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
