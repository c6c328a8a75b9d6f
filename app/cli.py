"""The command line: assess a file, serve, print the OpenAPI document."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app import operations
from app.domain.assessment import Assessment
from app.domain.rules import Truth
from app.fhir.narrative import AID, counts_of, headline, missing, text_of
from app.fhir.outcome import RequestError
from app.fhir.writing import encode

# Characters that steer a terminal: control characters and those that turn its writing direction.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_STYLES = {Truth.MET: "green", Truth.NOT_MET: "red", Truth.UNKNOWN: "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it answered, 1 when the data cannot be assessed, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    command: int = options.run(options)
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
    eligibility.add_argument("--criteria", action="append", default=[], metavar="ID")
    eligibility.add_argument("--as-of", dest="asOf", metavar="DATE")
    eligibility.add_argument("--subject", metavar="REFERENCE")
    eligibility.add_argument("--window", metavar="DAYS")
    eligibility.add_argument("--red-cell-policy", dest="redCellPolicy", metavar="POLICY")
    eligibility.add_argument("--transfusion-history", dest="transfusionHistory", metavar="KNOWN")
    eligibility.add_argument("--json", action="store_true", help="print the FHIR answer")
    eligibility.set_defaults(run=_eligibility)
    serve = commands.add_parser("serve", help="serve over HTTP")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.set_defaults(run=_serve)
    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.set_defaults(run=_openapi)
    return parser


def _eligibility(options: argparse.Namespace) -> int:
    names = ("asOf", "subject", "window", "redCellPolicy", "transfusionHistory")
    query = [("criteria", name) for name in options.criteria]
    query += [(name, getattr(options, name)) for name in names if getattr(options, name)]
    try:
        body = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        sys.stderr.write(f"maa-assess: {options.file}: {error.strerror}\n")
        return 2
    try:
        if options.json:
            sys.stdout.write(encode(operations.eligibility(body, query)).decode() + "\n")
        else:
            _print_assessments(body, query)
    except RequestError as error:
        for issue in error.outcome()["issue"]:
            place = " ".join(issue.get("expression", []))
            line = f"{issue['severity']}: {issue['diagnostics']} {place}".rstrip()
            sys.stderr.write(_harmless(line) + "\n")
        return 1
    return 0


def _print_assessments(body: bytes, query: list[tuple[str, str]]) -> None:
    _, reading, assessments = operations.assess(body, query)
    # Nothing in the data is markup, a name of an emoji or a sequence for the terminal.
    console = Console(markup=False, emoji=False, highlight=False)
    remarks = {course.patient: course.remarks for course in reading.courses}
    for assessment in assessments:
        console.print(_table(assessment))
        console.print(_harmless(f"{headline(assessment)} {missing(assessment)}".rstrip()))
        for remark in (*remarks[assessment.patient], *assessment.remarks):
            places = ", ".join(remark.places[:3]) + (" ..." if len(remark.places) > 3 else "")
            console.print(_harmless(f"{remark.code}: {remark.text} {places}"), style="dim")
        console.print()
    for remark in reading.remarks:
        console.print(_harmless(f"{remark.code}: {remark.text} {', '.join(remark.places)}"))
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
    import uvicorn  # noqa: PLC0415 the server is slow to import, and other commands need none

    uvicorn.run("app.main:create_app", factory=True, host=options.host, port=options.port)
    return 0


def _openapi(_options: argparse.Namespace) -> int:
    from app.main import create_app  # noqa: PLC0415 as above

    sys.stdout.write(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
