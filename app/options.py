"""The options of commands, from the table of parameters, and parameters in a shell's words."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

import shtab

from app.asking import PARAMETERS, parameters_of

# The operations name a parameter where the shell has an option.
_OPTIONS = {one.name: one.option for one in PARAMETERS if one.metavar}
_PARAMETER = re.compile(r"Parameters\.parameter\.where\(name='(\w+)'\)")
_NAMED = re.compile(rf"(?:the parameter )?'({'|'.join(_OPTIONS)})'")


def complete(argument: argparse.Action) -> None:
    """Names of files are what the shell is to complete it with."""
    argument.complete = shtab.FILE  # type: ignore[attr-defined]


def add_parameters(command: argparse.ArgumentParser, operation: str, exports_only: bool) -> None:
    """An option for each parameter of an operation that has one."""
    for one in parameters_of(operation):
        if not one.metavar or (exports_only and not one.of_exports):
            continue
        text = one.told(operation) + (" May be repeated." if one.repeats else "")
        more: dict[str, Any] = {"choices": one.choices} if one.choices else {}
        if one.repeats:
            more |= {"action": "append", "default": []}
        if one.is_resource:
            more |= {"type": Path}
        argument = command.add_argument(
            one.option,
            dest=one.name,
            metavar=one.metavar,
            help=f"{text[0].lower()}{text[1:].rstrip('.')}",
            **more,
        )
        if one.is_resource:
            complete(argument)


def add_bulk_options(command: argparse.ArgumentParser, required: bool) -> None:
    """The options of an export's command."""
    command.add_argument(
        "--out", metavar="DIR", required=required, help="write the results of an export here"
    ).complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    command.add_argument(
        "--assessments",
        choices=["all", "open", "met", "none"],
        default="all",
        help="which are written as FHIR: all, open (met, or what may still be), met, or none; "
        "the table has everybody (all)",
    )
    command.add_argument(
        "--counts",
        action="store_true",
        help="write every count as it was read into counts.parquet too; all results are then read",
    )
    command.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes: 1 or more (all cores)",
    )
    command.add_argument(
        "--memory",
        type=positive,
        default=2048,
        metavar="MIB",
        help="for all processes together (2048); what does not fit goes to the disk",
    )


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("not a whole number above 0")
    return int(text)


def port(text: str) -> int:
    """A port, or 0 for any that is free."""
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError("not a port: they go from 1 to 65535")
    return int(text)


def query_of(options: argparse.Namespace) -> list[tuple[str, str]]:
    """What the options ask, as a query holds it."""
    query = []
    for one in PARAMETERS:
        given = getattr(options, one.name, None)
        if one.metavar and not one.is_resource and given is not None:
            query += [(one.name, text) for text in (given if one.repeats else [given])]
    return query


def option_of(place: str | None) -> str | None:
    """The option that has to be mended; none where it is the data."""
    match = _PARAMETER.fullmatch(place or "")
    return _OPTIONS.get(match[1]) if match else None


def in_options(text: str) -> str:
    """What an operation says of parameters, in a shell's words."""
    text = _NAMED.sub(lambda name: _OPTIONS[name[1]], text)
    return text.replace("Send a Bundle or Parameters as JSON.", "A Bundle as JSON is read.")
