"""One line of an export: its head, its resource, or why there is none."""

from __future__ import annotations

from functools import lru_cache
from typing import get_args

import msgspec
from msgspec import Raw

from app.domain.needless import INFORMS
from app.fhir.bodies import DECODE_TYPED, Entry
from app.fhir.maps import CodeMap
from app.fhir.outcome import RequestError
from app.fhir.resources import (
    ABSENT,
    DECODE_RESOURCE,
    Observation,
    Readable,
    Reference,
)
from app.fhir.times import when
from app.reading.aside import SetAside
from app.reading.courses import read_courses
from app.reading.meanings import meaning_of
from app.reading.subjects import literal_of

_READ_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Readable))
NO_COUNT, TO_BE_READ = "", "?"
"""Of a result whose code alone does not tell which count it is."""
_A_DAY = len("2024-03-05")


class BrokenLineError(Exception):
    """A line that is no resource, and why; without any value of the patient's."""


class Head(msgspec.Struct, gc=False):
    """What tells a plain result: dated, and standing by itself."""

    resourceType: str | None = None
    id: str | None = None
    status: str | None = None
    code: Raw = ABSENT
    subject: Raw = ABSENT
    effectiveDateTime: str | None = None
    contained: Raw = ABSENT
    hasMember: Raw = ABSENT
    component: Raw = ABSENT
    focus: Raw = ABSENT
    modifierExtension: Raw = ABSENT
    implicitRules: Raw = ABSENT
    identifier: Raw = ABSENT

    def stands_by_itself(self) -> bool:
        """Whether it may be a plain result: final, and nothing else bears on it."""
        return (
            self.resourceType == "Observation"
            and self.status == "final"
            and bool(self.id)
            and not (
                self.contained
                or self.hasMember
                or self.component
                or self.focus
                or self.modifierExtension
                or self.implicitRules
            )
        )


_DECODE_HEAD = msgspec.json.Decoder(Head).decode
_DECODE_HEADS = msgspec.json.Decoder(Head).decode_lines
_DECODE_REFERENCE = msgspec.json.Decoder(Reference).decode


def heads_of(lines: bytes) -> list[Head] | None:
    """The heads of lines in their order; None where they must be looked at one by one."""
    try:
        if not lines.isascii():
            lines.decode()
        return _DECODE_HEADS(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def head_of(line: bytes) -> Head | None:
    """The head of a line; None for what has none.

    Raises BrokenLineError for what is not UTF-8.
    """
    if not line.isascii():
        # What is passed over in decoding may hide it, and such a line is no JSON.
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise BrokenLineError(f"Not JSON: not UTF-8 at byte {error.start}.") from None
    try:
        return _DECODE_HEAD(line)
    except (msgspec.DecodeError, RecursionError):
        return None


def resource_of(line: bytes) -> Readable | None:
    """The resource of a line; None for one that no assessment reads.

    Raises BrokenLineError for what is no JSON object, no resource, or malformed.
    """
    try:
        return DECODE_RESOURCE(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _refuse_unless_another(line)
        return None


def _refuse_unless_another(line: bytes) -> None:
    """BrokenLineError, in the reader's words, unless it is a resource that is not read."""
    try:
        kind = DECODE_TYPED(line).resourceType
    except msgspec.ValidationError:
        raise BrokenLineError("Not a FHIR resource.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenLineError(f"Not JSON: {error}.") from None
    except RecursionError:
        raise BrokenLineError("The JSON is nested too deep.") from None
    if kind is None:
        raise BrokenLineError("No resource: it has no resourceType.")
    if kind == "Bundle":
        raise BrokenLineError("A Bundle is no line of an export: put each resource on a line.")
    if kind not in _READ_TYPES:
        return
    try:
        read_courses((Entry(None, Raw(line)),), "Bundle")
    except RequestError as unread:
        text = next((remark.text for remark in unread.remarks), "Not a FHIR resource.")
        raise BrokenLineError(text) from None


@lru_cache(maxsize=65536)
def subject_of(raw: bytes) -> tuple[str, str]:
    """The patient's key and name, as the result has it; empty where it names none by an id."""
    try:
        name = _DECODE_REFERENCE(raw).reference or ""
    except msgspec.DecodeError:
        return "", ""
    return literal_of(name), name


def analyte_of(head: Head, code_map: CodeMap | None) -> str:
    """What the result counts; NO_COUNT, or TO_BE_READ where more than its code must be read."""
    try:
        probe = Observation(code=head.code, valueString="as if it had one")
        meaning = meaning_of(probe, panel=False, code_map=code_map)
    except SetAside:
        return TO_BE_READ
    if meaning is None:
        return NO_COUNT
    return meaning.row.analyte.name if meaning.row.analyte in INFORMS else TO_BE_READ


def day_of(text: str) -> int:
    """The day's number; 0 where the text names none."""
    moment = when(text) if len(text) == _A_DAY else None
    return moment.last.toordinal() if moment else 0
