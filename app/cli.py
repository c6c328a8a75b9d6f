"""The command line: assess files, serve, print the OpenAPI document."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from app import operations
from app.domain.assessment import Assessment
from app.domain.cohort import Cohort
from app.domain.counts import Remark
from app.domain.response import ResponseAssessment, ResponseVerdict
from app.domain.rules import Truth
from app.fhir.maps import CodeMap, CodeMapError, read_code_maps
from app.fhir.measure import cohort_lines, named
from app.fhir.narrative import AID, UNVERIFIED, counts_of, headline, missing, text_of
from app.fhir.outcome import RequestError
from app.fhir.response import (
    lineage_text,
    missing_for_response,
    moments_of,
    response_headline,
    transfusions_text,
    window_remarks,
)
from app.fhir.writing import encode, judgement_remarks

# Characters that steer a terminal: control characters and those that turn its writing direction.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_VERDICT_STYLES = {
    ResponseVerdict.COMPLETE: "green",
    ResponseVerdict.RESPONSE: "green",
    ResponseVerdict.NO_RESPONSE: "red",
}
_STYLES = {Truth.MET: "green", Truth.NOT_MET: "red", Truth.UNKNOWN: "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it answered, 1 when the data cannot be assessed, 2 for bad usage.

    `screen` and `response --out` return 3 when they were stopped and can be run again to go on.
    """
    options = _parser().parse_args(arguments)
    try:
        command: int = options.run(options)
    except CodeMapError as error:
        return _bad_usage(_harmless(str(error)))
    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="maa-assess", description="Assess blood counts against published definitions."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    eligibility = commands.add_parser(
        "eligibility", help="assess the Bundle in a file ('-' for standard input)"
    )
    eligibility.add_argument("file", metavar="FILE")
    eligibility.set_defaults(run=_assess, operation=operations.eligibility, show=_print_eligibility)
    response = commands.add_parser(
        "response", help="did the treated patients in a file (with --out: an export) respond"
    )
    response.add_argument("file", metavar="FILE|EXPORT")
    response.add_argument("more", metavar="EXPORT", nargs="*", help="further exports, with --out")
    response.set_defaults(run=_response, operation=operations.response, show=_print_responses)
    screen = commands.add_parser(
        "screen", help="assess every patient of a Bulk Data export: a directory or a manifest"
    )
    screen.add_argument("file", metavar="EXPORT")
    screen.add_argument("more", metavar="EXPORT", nargs="*", help="exports of other servers")
    screen.set_defaults(run=_screen)
    cohort = commands.add_parser("cohort", help="the end point over a file, or a directory of them")
    cohort.add_argument("file", metavar="DIRECTORY|FILE")
    cohort.set_defaults(run=_cohort)
    for command in (eligibility, response, cohort, screen):
        command.add_argument("--criteria", action="append", default=[], metavar="ID")
        command.add_argument("--as-of", dest="asOf", metavar="DATE")
        command.add_argument("--window", metavar="DAYS")
        command.add_argument("--red-cell-policy", dest="redCellPolicy", metavar="POLICY")
        command.add_argument(
            "--code-map",
            dest="code_maps",
            action="append",
            default=[],
            type=Path,
            metavar="FILE",
            help="the hospital's own codes to LOINC: a ConceptMap or a CSV; may be repeated",
        )
        command.add_argument("--transfusion-history", dest="transfusionHistory", metavar="KNOWN")
        if command in {screen, response}:
            _add_bulk_options(command, required=command is screen)
        if command is not screen:
            command.add_argument("--subject", metavar="REFERENCE")
            command.add_argument("--json", action="store_true", help="print the FHIR answer")
        if command in {response, cohort}:
            command.add_argument("--treatment-start", dest="treatmentStart", metavar="DATE")
            command.add_argument(
                "--independence-window", dest="independenceWindow", metavar="DURATION"
            )
    serve = commands.add_parser("serve", help="serve over HTTP")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument(
        "--workers",
        type=_positive,
        default=os.environ.get("WEB_CONCURRENCY") or "1",
        help="processes that answer (1, or WEB_CONCURRENCY)",
    )
    serve.set_defaults(run=_serve)
    checking = commands.add_parser(
        "check", help="tell whether what the settings name works: 0 all of it, 1 not all"
    )
    checking.set_defaults(run=_check)
    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.set_defaults(run=_openapi)
    return parser


def _add_bulk_options(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument(
        "--out", metavar="DIR", required=required, help="write the results of an export here"
    )
    command.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, help="processes (all cores)"
    )
    command.add_argument(
        "--memory",
        type=_positive,
        default=2048,
        metavar="MIB",
        help="for all processes together (2048); what does not fit goes to the disk",
    )


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("not a whole number above 0")
    return int(text)


def _query(options: argparse.Namespace) -> list[tuple[str, str]]:
    names = (
        "asOf",
        "subject",
        "window",
        "redCellPolicy",
        "transfusionHistory",
        "treatmentStart",
        "independenceWindow",
    )
    query = [("criteria", name) for name in options.criteria]
    return query + [(n, getattr(options, n)) for n in names if getattr(options, n, None)]


def _code_map(options: argparse.Namespace) -> CodeMap | None:
    """The hospital's own codes: from the files named, or else from those of the settings."""
    if options.code_maps or "MAA_CODE_MAPS" not in os.environ:
        return read_code_maps(options.code_maps)
    from app.settings import SettingsError, read_settings  # noqa: PLC0415 slow to import

    try:
        return read_code_maps(read_settings().code_maps)
    except SettingsError as error:
        raise SystemExit(_bad_usage(*error.lines)) from None


def _assess(options: argparse.Namespace) -> int:
    query, code_map = _query(options), _code_map(options)
    try:
        body = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        return _unreadable(options.file, error)
    try:
        if options.json:
            sys.stdout.write(
                encode(options.operation(body, query, code_map=code_map)).decode() + "\n"
            )
        else:
            options.show(body, query, code_map)
    except RequestError as error:
        _print_faults(error)
        return 1
    return 0


def _response(options: argparse.Namespace) -> int:
    if options.out:
        if options.subject or options.json:
            sys.stderr.write("maa-assess: --subject and --json are for a file, not an export\n")
            return 2
        return _bulk(options, "response")
    if options.more:
        sys.stderr.write("maa-assess: several exports need --out\n")
        return 2
    return _assess(options)


def _screen(options: argparse.Namespace) -> int:
    return _bulk(options, "eligibility")


def _bulk(options: argparse.Namespace, operation: str) -> int:
    # Workers load this module too.
    from app.settings import SettingsError  # noqa: PLC0415

    try:
        from app.bulk.command import assess_exports  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.stderr.write(f"maa-assess: {error.name} is missing: it comes with the extra exports\n")
        return 2
    exports = [Path(name) for name in (options.file, *options.more)]
    query = tuple(_query(options))
    try:
        return assess_exports(
            exports,
            operation,
            query,
            Path(options.out),
            options.workers,
            options.memory,
            _code_map(options),
        )
    except RequestError as error:
        _print_faults(error)
        return 2
    except SettingsError as error:
        return _bad_usage(*error.lines)


def _unreadable(path: str, error: OSError) -> int:
    sys.stderr.write(f"maa-assess: {path}: {error.strerror}\n")
    return 2


def _print_faults(error: RequestError, file: str = "") -> None:
    for issue in error.outcome()["issue"]:
        place = " ".join(issue.get("expression", []))
        line = f"{file}{issue['severity']}: {issue['diagnostics']} {place}".rstrip()
        sys.stderr.write(_harmless(line) + "\n")


def _cohort(options: argparse.Namespace) -> int:
    """Every file's patients as one cohort; a file that cannot be assessed is named, and counts."""
    path = Path(options.file)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    code_map = _code_map(options)
    found: list[ResponseAssessment] = []
    remarks: list[Remark] = []
    failed = 0
    for file in track(files, "Assessing", console=Console(stderr=True), transient=True):
        try:
            _, reading, assessments = operations.assess_responses(
                file.read_bytes(), _query(options), code_map=code_map
            )
        except OSError as error:
            return _unreadable(str(file), error)
        except RequestError as error:
            failed += 1
            _print_faults(error, f"{file}: ")
            continue
        found += assessments
        remarks += (*reading.remarks, *(r for c in reading.courses for r in c.remarks))
    if not found:
        sys.stderr.write("maa-assess: nobody to assess\n")
        return 1
    if options.json:
        try:
            report = operations.cohort_report(found, remarks)
        except RequestError as error:
            _print_faults(error)
            return 1
        sys.stdout.write(encode(report).decode() + "\n")
    else:
        _print_cohort(found)
    return 1 if failed else 0


def _console() -> Console:
    # Nothing in the data is markup, a name of an emoji or a sequence for the terminal.
    return Console(markup=False, emoji=False, highlight=False)


def _print_cohort(found: list[ResponseAssessment]) -> None:
    console = _console()
    for paper in dict.fromkeys(one.paper for one in found):
        cohort = Cohort(tuple(one for one in found if one.paper is paper))
        table = Table("patient", "start", "verdict", "lineages", "kept 2 years")
        table.title = paper.id
        for one in cohort.patients:
            lineages = (r.lineage.analyte.short for r in one.lineages if r.truth is Truth.MET)
            table.add_row(
                _harmless(named(one.patient)),
                str(one.start.first) if one.start else "",
                Text(one.verdict.value, _VERDICT_STYLES.get(one.verdict, "yellow")),
                ", ".join(lineages),
                one.kept_two_years.value if one.kept_two_years else "",
            )
        console.print(table)
        twice = [p for p, n in Counter(one.patient for one in cohort.patients).items() if n > 1]
        for patient in twice:
            console.print(
                _harmless(f"{named(patient)} stands in more than one file: counted once for each.")
            )
        for line in cohort_lines(cohort):
            console.print(_harmless(line))


def _print_responses(body: bytes, query: list[tuple[str, str]], code_map: CodeMap | None) -> None:
    _, reading, assessments = operations.assess_responses(body, query, code_map=code_map)
    console = _console()
    courses = {course.patient: course for course in reading.courses}
    for one in assessments:
        title = f"{named(one.patient)}: {one.verdict.value} ({one.paper.id})"
        table = Table("criterion", "answer", "counts", "rule", title_justify="left")
        table.title = Text(_harmless(title))
        for report in one.lineages:
            truth = report.truth
            table.add_row(
                report.lineage.responded.title,
                Text(truth.value, _STYLES[truth]) if truth else "not applicable",
                lineage_text(report),
                report.lineage.responded.describe(),
            )
        if one.lineages:
            console.print(table)
        else:
            console.print(table.title)
        console.print(_harmless(f"{response_headline(one)} {missing_for_response(one)}".rstrip()))
        if transfusions := transfusions_text(one):
            console.print(transfusions)
        if not one.paper.verified:
            console.print(UNVERIFIED)
        for _, name, moment in moments_of(one):
            if moment:
                console.print(f"{name}: {moment.verdict.value} ({moment.day})")
        remarks = (*courses[one.patient].remarks, *one.remarks, *window_remarks(one))
        _print_remarks(console, remarks)
        console.print()
    _print_remarks(console, reading.remarks)
    console.print(AID, style="dim")


def _print_remarks(console: Console, remarks: Iterable[Remark]) -> None:
    for remark in remarks:
        places = ", ".join(remark.places[:3]) + (" ..." if len(remark.places) > 3 else "")
        console.print(_harmless(f"{remark.code}: {remark.text} {places}"), style="dim")


def _print_eligibility(body: bytes, query: list[tuple[str, str]], code_map: CodeMap | None) -> None:
    _, reading, assessments = operations.assess(body, query, code_map=code_map)
    console = _console()
    remarks = {course.patient: course.remarks for course in reading.courses}
    for assessment in assessments:
        console.print(_table(assessment))
        console.print(
            _harmless(f"{headline(assessment.judgement)} {missing(assessment.judgement)}".rstrip())
        )
        own = (*assessment.remarks, *judgement_remarks(assessment.judgement))
        _print_remarks(console, (*remarks[assessment.patient], *own))
        console.print()
    _print_remarks(console, reading.remarks)
    console.print(AID, style="dim")


def _table(assessment: Assessment) -> Table:
    patient = assessment.patient.reference or assessment.patient.value
    day = f", {assessment.as_of.last}" if assessment.as_of else ""
    title = _harmless(f"{patient}{day}: {assessment.verdict.value} ({assessment.paper.id})")
    table = Table("criterion", "answer", "counts", "limit", title=Text(title), title_justify="left")
    for finding in assessment.findings:
        counts = "\n".join(
            f"{c.analyte.short} {text_of(c.value)} {c.analyte.unit} ({c.when.last})"
            for c in counts_of(assessment, finding)
        )
        table.add_row(
            finding.criterion.title,
            Text(finding.truth.value, _STYLES[finding.truth]),
            counts or "no count",
            finding.criterion.describe(),
        )
    return table


def _harmless(text: str) -> str:
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def _serve(options: argparse.Namespace) -> int:
    # The server is slow to import, and other commands need none.
    from app.serving import serve  # noqa: PLC0415
    from app.settings import SettingsError  # noqa: PLC0415

    try:
        serve(options.host, options.port, options.workers)
    except SettingsError as error:
        return _bad_usage(*error.lines)
    return 0


def _check(_options: argparse.Namespace) -> int:
    from app.checking import check  # noqa: PLC0415 as above
    from app.settings import SettingsError  # noqa: PLC0415

    try:
        findings = check()
    except SettingsError as error:
        return _bad_usage(*error.lines)
    for finding in findings:
        sys.stdout.write(_harmless(str(finding)) + "\n")
    return 1 if any(finding.fault for finding in findings) else 0


def _bad_usage(*lines: str) -> int:
    sys.stderr.writelines(f"maa-assess: {line}\n" for line in lines)
    return 2


def _openapi(_options: argparse.Namespace) -> int:
    from app.main import create_app  # noqa: PLC0415 as above

    sys.stdout.write(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
