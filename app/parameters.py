"""One parameter of the operations: everything that is said of it, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.domain.paper import Paper, ResponsePaper
from app.fhir.outcome import Fault
from app.papers import PUBLISHED, RESPONSES, STUDIES
from app.reading.parameters import Value, text_in

ASSESS_ELIGIBILITY, ASSESS_RESPONSE, EVALUATE_MEASURE, PLOT, MATCH = OPERATIONS = (
    "assess-eligibility",
    "assess-response",
    "evaluate-measure",
    "plot",
    "match",
)
"""What may be asked, by the codes of the OperationDefinitions."""
AnyPaper = Paper | ResponsePaper
DEFINITIONS: Mapping[str, Sequence[AnyPaper]] = MappingProxyType(
    {
        ASSESS_ELIGIBILITY: PUBLISHED,
        ASSESS_RESPONSE: RESPONSES,
        EVALUATE_MEASURE: RESPONSES,
        MATCH: tuple(dict.fromkeys(paper for study in STUDIES for paper in study.papers)),
    }
)
"""The published definitions that each operation applies; the first is its default."""
_ABOUT = {
    ASSESS_ELIGIBILITY: "eligibility",
    ASSESS_RESPONSE: "a response",
    EVALUATE_MEASURE: "a cohort",
    PLOT: "a picture",
    MATCH: "a match",
}
_RESOURCES = ("Bundle", "ConceptMap")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the operations: everything that is said of it, and how it is read."""

    name: str
    type: str
    """FHIR's name of the type."""
    text: str
    """What it is for, in sentences: for OperationDefinition, OpenAPI and `--help`."""
    operations: tuple[str, ...]
    """Those that publish it."""
    about: str = ""
    """What it is, in a few words, where the sentences only say what its values mean."""
    field: str = ""
    """What it fills in a Question; empty for what is no value, such as the data."""
    read: Callable[[Value], Any] = text_in
    remedy: str = ""
    """Completes "'name' is ..." where `read` makes None of it; by default its choices."""
    choices: tuple[str, ...] = ()
    limits: tuple[int, int] | None = None
    """Of a number, ends included."""
    default: str = ""
    repeats: bool = False
    metavar: str = ""
    """The value's name on the command line, which has an option for it; empty: it has none."""
    of_exports: bool = True
    """Whether the option is for exports too."""
    of_the_newest: bool = False
    """Whether it asks of the newest counts only: else an export passes over no older ones."""
    profile: str = ""
    """What a Reference is to."""
    also: tuple[str, ...] = ()
    """Operations that take it unpublished: one Parameters may be sent to several."""

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + re.sub(r"[A-Z]", lambda letter: f"-{letter[0].lower()}", self.name)

    @property
    def is_resource(self) -> bool:
        """Whether its value is a resource, which no query holds."""
        return self.type in _RESOURCES

    def is_taken(self, operation: str) -> bool:
        """Whether it fills something in an operation's question."""
        return bool(self.field) and operation in self.operations + self.also

    def told(self, operation: str) -> str:
        """What it is for, and of the definitions which there are: for OpenAPI and `--help`."""
        if self.field != "papers" or operation not in DEFINITIONS:
            return f"{self.about}: {self.text}" if self.about else self.text
        return f"{self.text} Known: {', '.join(paper.id for paper in DEFINITIONS[operation])}."

    def refused(self, operation: str, place: str) -> Fault:
        """Why an operation does not take it."""
        if self.is_resource:
            text = f"'{self.name}' is a {self.type}, and comes as a resource in Parameters."
            return Fault("value", text, place)
        asked_of = _ABOUT[self.operations[0]]
        text = f"'{self.name}' is asked of {asked_of}, not of {_ABOUT[operation]}."
        return Fault("not-supported", text, place)


def one_of(name: str, field: str, choices: tuple[str, ...], text: str, **more: Any) -> Parameter:
    """A parameter of type code; by default of all operations, and its first choice."""

    def read(value: Value) -> str | None:
        return value if isinstance(value, str) and value in choices else None

    remedy = "one of " + ", ".join(choices) if len(choices) > 2 else " or ".join(choices)
    given: dict[str, Any] = {"operations": OPERATIONS, "default": choices[0]} | more
    return Parameter(
        name, "code", text, field=field, read=read, remedy=remedy, choices=choices, **given
    )
