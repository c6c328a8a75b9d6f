"""The counts of an export as they were read: a row for each result, beside the verdicts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import partial
from typing import IO, NamedTuple

import msgspec
import pyarrow as pa
from msgspec import Raw
from pyarrow import parquet

from app.domain.counts import Analyte, Count, Course, Interval, Remark, Severity
from app.fhir.codes import LOINC
from app.fhir.json import as_sent
from app.fhir.maps import CodeMap
from app.fhir.resources import DECODE_CONCEPT, DECODE_QUANTITY, Observation, Quantity, Valued
from app.fhir.times import effective
from app.reading.aside import SetAside
from app.reading.meanings import meaning_of

_PLACES = 18
_EXACT_TO = Decimal(1).scaleb(-_PLACES)
_ROUNDING = Context(prec=200)
_NUMBER = pa.decimal128(38, _PLACES)  # as Spark has it by default; DuckDB can still multiply two
SCHEMA = pa.schema(
    {
        "patient": pa.string(),
        "analyte": pa.string(),
        "loinc": pa.string(),
        "day": pa.date32(),
        "value": _NUMBER,
        "comparator": pa.string(),
        "unit": pa.string(),
        "low": _NUMBER,
        "high": _NUMBER,
        "used": pa.bool_(),
        "repaired": pa.bool_(),
        "doubtful": pa.bool_(),
        "remarks": pa.string(),
        "status": pa.string(),
        "effective": pa.string(),
        "sent_code": pa.string(),
        "sent_value": pa.string(),
        "sent_unit": pa.string(),
        "file": pa.string(),
        "line": pa.int64(),
        "resource": pa.string(),
        "element": pa.string(),
    }
)
_ROWS_A_GROUP = 100_000
_BYTES_AT_ONCE = 1024 * 1024
_ANSWER = re.compile(
    r"(?P<line>Bundle\.entry\[(?P<entry>\d+)\]\.resource)"
    r"(?P<within>(?:\.entry\[\d+\]\.resource|\.contained\[\d+\])*)"
    r"(?P<component>\.component\[\d+\])?"
)
"""The result that a remark is about, in the resource of a line."""
_STEP = re.compile(r"\.(\w+)(?:\[(\d+)\])?")
_DECODE = msgspec.json.Decoder(Observation).decode
_DECODE_ELEMENTS = msgspec.json.Decoder(dict[str, Raw]).decode
_DECODE_RAWS = msgspec.json.Decoder(list[Raw]).decode


class Line(NamedTuple):
    """A line of the export: its place, and what is on it."""

    file: str
    line: int
    resource: str
    """Such as Observation/1; empty without an id."""
    text: Callable[[], bytes]


class _Found(NamedTuple):
    """A result as it was sent."""

    observation: Observation
    valued: Valued
    """The Observation, or the one of its components."""


def packed_counts(
    name: str, course: Course, lines: Sequence[Line], code_map: CodeMap | None
) -> bytes:
    """A patient's results that mean a count as rows of `SCHEMA`, used or not, packed.

    `name` is the patient's in every table. `lines` are those the course was read from: entry n of
    its Bundle is line n. What was worked out from other results is not among them, nor a second
    copy or an older version of one.
    """
    remarks: dict[str, list[Remark]] = {}
    for remark in course.remarks:
        for place in dict.fromkeys(map(_result_of, remark.places)):
            remarks.setdefault(place, []).append(remark)
    counts = {count.sources[0].place: count for count in course.counts}
    places = sorted({*counts, *remarks} - {""}, key=_in_order)
    row = partial(_row, name, lines, code_map)
    rows = [row(place, counts.get(place), remarks.get(place, ())) for place in places]
    return msgspec.msgpack.encode([row for row in rows if row])


def _result_of(place: str) -> str:
    match = _ANSWER.match(place)
    return match[0] if match else ""


def _in_order(place: str) -> tuple[list[int], str]:
    return [int(number) for _, number in _STEP.findall(place) if number], place


def _row(
    patient: str,
    lines: Sequence[Line],
    code_map: CodeMap | None,
    place: str,
    count: Count | None,
    remarks: Sequence[Remark],
) -> tuple[object, ...] | None:
    """A result as a row; None where it is none, or no count."""
    match = _ANSWER.match(place)
    found = None
    if match and int(match["entry"]) < len(lines):
        line = lines[int(match["entry"])]
        found = _found(line.text(), match["within"], match["component"])
    if match is None or found is None:
        return None
    loinc, analyte, is_count = _meant(found, match["component"], code_map)
    if count is None and not is_count:
        return None
    moment = count.when if count else effective(found.observation)[0]
    informed = {remark.code for remark in remarks if remark.severity is Severity.INFORMATION}
    warned = any(remark.severity is Severity.WARNING for remark in remarks)
    return (
        patient,
        analyte.name.lower() if analyte else None,
        loinc,
        None if moment is None or moment.last == date.max else moment.last.isoformat(),
        *_numbers(count.value if count else Interval(None, None)),
        analyte.unit if count and analyte else None,
        *(_ends(count.value) if count else (None, None)),
        count is not None,
        count is not None and bool(informed - {"comparator"}),
        count is not None and (count.doubtful or warned),
        " ".join(dict.fromkeys(remark.code for remark in remarks)) or None,
        found.observation.status,
        moment.text if moment else found.observation.effectiveDateTime,
        _code_sent(found.valued),
        *_value_sent(found.valued),
        line.file,
        line.line,
        line.resource or None,
        (match["within"] + (match["component"] or "")).removeprefix(".") or None,
    )


def _found(line: bytes, within: str, component: str | None) -> _Found | None:
    """The result at a place in the resource of a line; None where there is no Observation."""
    try:
        text = Raw(line)
        for name, index in _STEP.findall(within):
            text = _DECODE_ELEMENTS(text)[name]
            text = _DECODE_RAWS(text)[int(index)] if index else text
        observation = _DECODE(text)
        if component is None:
            return _Found(observation, observation)
        return _Found(observation, observation.component[int(component[11:-1])])
    except (msgspec.DecodeError, LookupError, UnicodeDecodeError, RecursionError):
        return None


def _meant(
    found: _Found, component: str | None, code_map: CodeMap | None
) -> tuple[str | None, Analyte | None, bool]:
    """As which LOINC code and analyte it was read, and whether it is, or looks like, a count."""
    panel = component is None and bool(found.observation.component or found.observation.hasMember)
    try:
        meaning = meaning_of(found.valued, panel, code_map)
    except SetAside:
        return None, None, True
    if meaning is None or meaning.row.analyte is Analyte.BODY_WEIGHT:
        return None, None, False
    return meaning.row.code, meaning.row.analyte, True


def _numbers(interval: Interval) -> tuple[str | None, str | None]:
    """The value and the comparator, as FHIR would write them; none of a range."""
    sent = as_sent(interval)
    value = _rounded(sent[0], ROUND_FLOOR) if sent else None
    if sent is None or value is None or Decimal(value) != sent[0]:
        return None, None
    return value, sent[1] or None


def _ends(interval: Interval) -> tuple[str | None, str | None]:
    """Its ends; where they have more places than the column, rounded apart: the value is within."""
    return _rounded(interval.low, ROUND_FLOOR), _rounded(interval.high, ROUND_CEILING)


def _rounded(end: Decimal | None, rounding: str) -> str | None:
    return None if end is None else f"{end.quantize(_EXACT_TO, rounding, _ROUNDING):f}"


def _code_sent(valued: Valued) -> str | None:
    """The first code as it was sent, with its system unless that is LOINC; else the text."""
    try:
        concept = DECODE_CONCEPT(valued.code) if valued.code else None
    except msgspec.DecodeError:
        return None
    for coding in concept.coding if concept else ():
        if coding.code:
            known = coding.system in {None, LOINC}
            return coding.code if known else f"{coding.system}|{coding.code}"
    return concept.text if concept else None


def _value_sent(valued: Valued) -> tuple[str | None, str | None]:
    """The value as it was sent, with its comparator, digit for digit, and its unit."""
    if valued.valueString is not None:
        return valued.valueString, None
    if valued.valueRange is not None:
        ends = [end or Quantity() for end in (valued.valueRange.low, valued.valueRange.high)]
        return " - ".join(map(_number_sent, ends)), ends[0].code or ends[0].unit
    try:
        quantity = DECODE_QUANTITY(valued.valueQuantity) if valued.valueQuantity else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, None
    if quantity is None:
        return None, None
    return _number_sent(quantity) or None, quantity.code or quantity.unit


def _number_sent(quantity: Quantity) -> str:
    return (quantity.comparator or "") + bytes(quantity.value).decode().strip('"')


# The file


@contextmanager
def counts_writer(file: IO[bytes]) -> Iterator[Callable[[bytes], None]]:
    """What takes packed rows, patient by patient, and writes them as Parquet.

    No more than a group of rows is held.
    """
    with parquet.ParquetWriter(file, SCHEMA) as writer:
        group = _Group(writer)
        yield group.add
        group.write()


class _Group:
    """Rows that will be a row group."""

    def __init__(self, writer: parquet.ParquetWriter) -> None:
        self._writer = writer
        self._packed: list[bytes] = []
        self._bytes = 0
        self._tables: list[pa.Table] = []

    def add(self, packed: bytes) -> None:
        self._packed.append(packed)
        self._bytes += len(packed)
        if self._bytes >= _BYTES_AT_ONCE:
            self._unpack()
            if sum(table.num_rows for table in self._tables) >= _ROWS_A_GROUP:
                self.write()

    def write(self) -> None:
        self._unpack()
        if self._tables:
            table = pa.concat_tables(self._tables)
            self._writer.write_table(table, max(table.num_rows, 1))
        self._tables = []

    def _unpack(self) -> None:
        rows = [row for packed in self._packed for row in msgspec.msgpack.decode(packed)]
        self._packed, self._bytes = [], 0
        if rows:
            columns = zip(*rows, strict=True)
            arrays = [_array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
            self._tables.append(pa.Table.from_arrays(arrays, schema=SCHEMA))


def _array(cells: Sequence[object], kind: pa.DataType) -> pa.Array:
    """Dates and decimals are packed as text."""
    as_text = kind == _NUMBER or kind == pa.date32()
    return pa.array(cells, pa.string()).cast(kind) if as_text else pa.array(cells, kind)
