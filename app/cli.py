"""The command line: assess files, serve, print the OpenAPI document."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import NoReturn

import shtab
from rich.console import Console
from rich.progress import track

from app import __version__, operations
from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.domain.counts import Remark
from app.domain.response import ResponseAssessment
from app.fhir.json import encode
from app.fhir.map_files import read_code_maps
from app.fhir.maps import CodeMap, CodeMapError
from app.fhir.outcome import RequestError
from app.files import (
    BAD_USAGE,
    LINES,
    UNUSABLE,
    OursError,
    UnusableError,
    data_of,
    refuse_no_export,
)
from app.options import (
    add_bulk_options,
    add_parameters,
    complete,
    in_options,
    option_of,
    port,
    positive,
    query_of,
)
from app.package import FILE_NAME, package
from app.papers import FAULTS
from app.publishing.views import VIEWS
from app.terminal import harmless, print_cohort, print_eligibility, print_responses

ANSWERED, ENDED = 0, 130
_CODES = "exit codes: 0 answered; 1 the data cannot be assessed; 2 bad usage, or no such file"
_STOPPED = "; 3 stopped, and the same command goes on"


class _Help(argparse.HelpFormatter):
    # A definition's name is not broken at its hyphens.
    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(harmless(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it answered, 1 when the data cannot be assessed, 2 for bad usage.

    `screen` and `response --out` return 3 when they were stopped and can be run again to go on.
    """
    options = _parser().parse_args(arguments)
    if FAULTS:
        return _bad_usage(*FAULTS)
    try:
        command: int = options.run(options)
        sys.stdout.flush()
    except CodeMapError as error:
        return _bad_usage(str(error))
    except UnusableError as error:
        return _say(error.code, *error.lines)
    except BrokenPipeError:
        # Whoever read the output has seen enough; flushing at the end would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    except KeyboardInterrupt:
        return ENDED
    return command


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="maa-assess",
        description="Assess blood counts against published definitions.",
        epilog=f"{_CODES}. `maa-assess COMMAND --help` tells the rest.",
    )
    parser.add_argument("--version", action="version", version=f"maa-assess {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, codes: str = _CODES) -> argparse.ArgumentParser:
        said = f"{text[0].upper()}{text[1:]}."
        return commands.add_parser(
            name, help=text, description=said, epilog=f"{codes}.", formatter_class=_Help
        )

    eligibility = add("eligibility", "assess the patients of the Bundle in a file")
    eligibility.set_defaults(run=_assess, show=print_eligibility)
    response = add(
        "response",
        "tell whether the treated patients in a file responded, with --out those of an export",
    )
    response.set_defaults(run=_response, show=print_responses)
    cohort = add("cohort", "count who responded in a file, or in all files (*.json) of a directory")
    cohort.set_defaults(run=_cohort)
    screen = add("screen", "assess every patient of a FHIR Bulk Data export", f"{_CODES}{_STOPPED}")
    screen.set_defaults(run=_bulk)
    response.epilog = f"{_CODES}{_STOPPED} (with --out)."
    for command, metavar, text in (
        (eligibility, "FILE", "a Bundle, or Parameters with one; '-' is standard input"),
        (response, "FILE|EXPORT", "as eligibility; with --out as screen"),
        (cohort, "DIRECTORY|FILE", "Bundles; answers of ours among them are passed over"),
        (screen, "EXPORT", "a directory, its manifest, or one file of lines (NDJSON)"),
    ):
        complete(command.add_argument("file", metavar=metavar, help=text))
        if command in {screen, response}:
            others = "exports of other servers" + ("" if command is screen else ", with --out")
            complete(command.add_argument("more", metavar="EXPORT", nargs="*", help=others))
        of_response = command in {response, cohort}
        operation = ASSESS_RESPONSE if of_response else ASSESS_ELIGIBILITY
        command.set_defaults(operation=operation)
        add_parameters(command, operation, exports_only=command is screen)
        if command in {screen, response}:
            add_bulk_options(command, required=command is screen)
        if command is not screen:
            command.add_argument("--json", action="store_true", help="print the FHIR answer")
    _add_service_commands(add)
    return parser


def _add_service_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    serve = add(
        "serve",
        "serve over HTTP, with the settings of the environment",
        "exit codes: 0 told to stop; 2 bad usage, or a setting that cannot be used",
    )
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (127.0.0.1)"
    )
    serve.add_argument(
        "--port",
        type=port,
        default=8000,
        metavar="PORT",
        help="1 to 65535, or 0 for any that is free (8000)",
    )
    serve.add_argument(
        "--workers",
        type=positive,
        default=os.environ.get("WEB_CONCURRENCY") or "1",
        metavar="N",
        help="processes that answer: 1 or more (1, or WEB_CONCURRENCY)",
    )
    serve.set_defaults(run=_serve)
    add(
        "check",
        "tell whether what the settings name works",
        "exit codes: 0 all of it works; 1 not all; 2 a setting that cannot be used",
    ).set_defaults(run=_check)
    printed = "exit codes: 0 printed; 2 bad usage"
    add("openapi", "print the OpenAPI document", printed).set_defaults(run=_openapi)
    views = add(
        "views", "print a table's ViewDefinition (SQL-on-FHIR), or the names of all", printed
    )
    tables = f"which table's: {', '.join(VIEWS)}"
    views.add_argument("name", nargs="?", choices=tuple(VIEWS), help=tables)
    views.set_defaults(run=_views)
    packed = add(
        "package",
        "write the FHIR package: the definitions, their CQL, Measures and profiles, and examples",
        "exit codes: 0 written; 2 bad usage, or a file that cannot be written",
    )
    packed.add_argument(
        "--out", default=FILE_NAME, metavar="FILE", help=f"where to write it ({FILE_NAME})"
    )
    packed.set_defaults(run=_package)
    completion = add(
        "completion", "print what makes a shell complete our commands and options", printed
    )
    completion.add_argument("shell", choices=("bash", "zsh"), help="bash or zsh")
    completion.set_defaults(run=_completion)


def _code_map(options: argparse.Namespace) -> CodeMap | None:
    """The hospital's own codes: from the files named, or else from those of the settings."""
    if options.codeMap or "MAA_CODE_MAPS" not in os.environ:
        return read_code_maps(options.codeMap)
    from app.settings import SettingsError, read_settings  # noqa: PLC0415 slow to import

    try:
        return read_code_maps(read_settings().code_maps)
    except SettingsError as error:
        raise UnusableError(*error.lines) from None


def _assess(options: argparse.Namespace) -> int:
    query, code_map = query_of(options), _code_map(options)
    body = data_of(options.file)
    try:
        judged = operations.assessed(options.operation, body, query, code_map=code_map)
        if options.json:
            sys.stdout.write(encode(operations.written(judged)).decode() + "\n")
        else:
            options.show(judged.reading, judged.assessments)
    except RequestError as error:
        return _print_faults(error)
    return ANSWERED


def _response(options: argparse.Namespace) -> int:
    if options.out:
        if options.subject or options.json:
            return _bad_usage("--subject and --json are for a file, not an export")
        return _bulk(options)
    if options.more:
        return _bad_usage("several exports need --out")
    return _assess(options)


def _bulk(options: argparse.Namespace) -> int:
    # Workers load this module too.
    from app.settings import SettingsError  # noqa: PLC0415

    try:
        from app.bulk.command import assess_exports  # noqa: PLC0415
    except ModuleNotFoundError as error:
        return _bad_usage(f"{error.name} is missing: it comes with the extra exports")
    query, code_map = tuple(query_of(options)), _code_map(options)
    exports = [Path(name) for name in (options.file, *options.more)]
    for export in exports:
        refuse_no_export(export, operations.OPERATIONS[options.operation].name)
    try:
        return assess_exports(
            exports,
            options.operation,
            query,
            Path(options.out),
            options.workers,
            options.memory,
            code_map,
            options.assessments,
            options.counts,
        )
    except RequestError as error:
        _print_faults(error)
        return BAD_USAGE
    except SettingsError as error:
        return _bad_usage(*error.lines)


def _print_faults(error: RequestError, file: str = "") -> int:
    """Says what is wrong in a shell's words; the exit code."""
    for issue in error.outcome()["issue"]:
        place = " ".join(issue.get("expression", []))
        text = in_options(issue["diagnostics"])
        if option := option_of(place):
            place = ""
            text = text if option in text else f"{option}: {text}"
        sys.stderr.write(harmless(f"{file}{issue['severity']}: {text} {place}".rstrip()) + "\n")
    return BAD_USAGE if all(option_of(fault.place) for fault in error.faults) else UNUSABLE


def _cohort(options: argparse.Namespace) -> int:
    """Every file's patients as one cohort; a file that cannot be assessed is named, and counts."""
    code_map, query = _code_map(options), query_of(options)
    found: list[ResponseAssessment] = []
    remarks: list[Remark] = []
    code = ANSWERED
    for file in _tracked(_cohort_files(options.file)):
        try:
            judged = operations.assessed(ASSESS_RESPONSE, data_of(file), query, code_map=code_map)
        except OursError as error:
            _say(ANSWERED, f"{error} Passed over.")
            continue
        except UnusableError as error:
            if error.code == BAD_USAGE:
                raise
            code = _say(UNUSABLE, *error.lines)
            continue
        except RequestError as error:
            code = _print_faults(error, f"{file}: ")
            if code == BAD_USAGE:
                return code
            continue
        found += judged.assessments
        reading = judged.reading
        remarks += (*reading.remarks, *(r for c in reading.courses for r in c.remarks))
    if not found:
        return _say(UNUSABLE, "nobody to assess")
    if not options.json:
        print_cohort(found)
        return code
    try:
        asked = operations.Reported(operations.today())
        report = operations.cohort_report(found, remarks, asked)
    except RequestError as error:
        return _print_faults(error)
    sys.stdout.write(encode(report).decode() + "\n")
    return code


def _cohort_files(name: str) -> list[str]:
    path = Path(name)
    if name == "-" or not path.is_dir():
        return [name]
    files = sorted(map(str, path.glob("*.json")))
    if not files and any(one.name.endswith(LINES) for one in path.iterdir()):
        raise UnusableError(
            f"{name} is a Bulk Data export: with --out `maa-assess response` reads it.",
            code=UNUSABLE,
        )
    return files


def _tracked(files: Sequence[str]) -> Iterable[str]:
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(files, "Assessing", console=console, transient=True, disable=hidden)


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
        sys.stdout.write(harmless(str(finding)) + "\n")
    return 1 if any(finding.fault for finding in findings) else 0


def _bad_usage(*lines: str) -> int:
    return _say(BAD_USAGE, *lines)


def _say(code: int, *lines: str) -> int:
    sys.stderr.writelines(f"maa-assess: {harmless(line)}\n" for line in lines)
    return code


def _completion(options: argparse.Namespace) -> int:
    sys.stdout.write(shtab.complete(_parser(), options.shell) + "\n")
    return ANSWERED


def _views(options: argparse.Namespace) -> int:
    names = "\n".join(VIEWS)
    sys.stdout.write(
        (json.dumps(VIEWS[options.name](), indent=2) if options.name else names) + "\n"
    )
    return ANSWERED


def _package(options: argparse.Namespace) -> int:
    try:
        Path(options.out).write_bytes(package())
    except OSError as error:
        return _bad_usage(f"{options.out} cannot be written: {error.strerror}")
    return ANSWERED


def _openapi(_options: argparse.Namespace) -> int:
    from app.main import create_app  # noqa: PLC0415 as above

    sys.stdout.write(json.dumps(create_app().openapi(), indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
