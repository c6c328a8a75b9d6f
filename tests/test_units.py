"""Units are read as what their writers mean, exactly, and what has two meanings is not read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
import ucumvert  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from ucumvert import PintUcumRegistry

from app.domain.counts import Analyte
from app.fhir import units
from app.fhir.codes import BY_LOINC, Dimension
from app.fhir.ucum import UNITS, UnitRow
from app.fhir.units import Unit, fitting, readings

NUMBER = Dimension.NUMBER_CONCENTRATION
MASS = Dimension.MASS_CONCENTRATION
MOLAR = Dimension.MOLAR_CONCENTRATION
FRACTION = Dimension.FRACTION
RED_CELLS = frozenset({Analyte.ERYTHROCYTES, Analyte.RETICULOCYTES})
CASES = tomllib.loads((Path(__file__).parent / "cases" / "units.toml").read_text("utf-8"))
SPELLINGS = [
    pytest.param(text, group, id=f"{text!a}: {group['says']}")
    for group in CASES["spellings"]
    for text in group["texts"]
]
REFUSED = [
    pytest.param(text, id=f"{text!a}: {group['says']}")
    for group in CASES["refused"]
    for text in group["texts"]
]

# Any, because the library's registry is built at run time and has no types.
UCUM: Any = PintUcumRegistry()

LARGEST_FLOAT_ERROR = 1e-9

BASE_UNIT = {
    Dimension.NUMBER_CONCENTRATION: ("1/liter", 1e9),
    Dimension.MASS_CONCENTRATION: ("gram/deciliter", 1.0),
    Dimension.MOLAR_CONCENTRATION: ("millimole/liter", 1.0),
    Dimension.FRACTION: ("dimensionless", 0.01),
    Dimension.MASS: ("kilogram", 1.0),
}
"""Each dimension's unit in pint's words, and how many of it make one of ours."""


def ids(rows: Iterable[UnitRow]) -> list[str]:
    """The rows' texts, as names of tests in any terminal."""
    return [ascii(row.text) for row in rows]


def in_ucum(text: str) -> Any | None:
    """The quantity a UCUM text stands for, None where it is not UCUM."""
    try:
        quantity = UCUM.from_ucum(text)
    except ucumvert.InvalidUcumError:
        return None
    return quantity if hasattr(quantity, "to_base_units") else None


def same(text: str, unit: Unit) -> bool:
    """Whether the UCUM library finds the unit's factor in the text."""
    name, per_ours = BASE_UNIT[unit.dimension]
    # The molar mass of hemoglobin is no business of UCUM.
    ours = 1.0 if unit.dimension is MOLAR else float(unit.factor)
    found = UCUM.from_ucum(text).to(name).magnitude / per_ours
    return bool(found == pytest.approx(ours, rel=LARGEST_FLOAT_ERROR))


# The spellings judged by hand


@pytest.mark.parametrize(("text", "group"), SPELLINGS)
def test_a_spelling_is_read_as_what_its_writers_mean(text: str, group: dict[str, str]) -> None:
    [unit] = [u for u in readings(text) if u.dimension is Dimension(group["dimension"])]
    only = RED_CELLS if group.get("only") == "red cells" else None
    assert (unit.factor, unit.only) == (Decimal(group["factor"]), only)


@pytest.mark.parametrize("text", REFUSED)
def test_a_spelling_that_would_have_to_be_guessed_is_not_read(text: str) -> None:
    assert readings(text) == ()


def test_no_spelling_is_judged_twice() -> None:
    texts = [text for group in CASES["spellings"] for text in group["texts"]]
    refused = [text for group in CASES["refused"] for text in group["texts"]]
    assert not set(texts) & set(refused)


@pytest.mark.parametrize(("text", "group"), SPELLINGS)
def test_only_what_is_ucum_and_means_the_same_there_is_read_without_a_repair(
    text: str, group: dict[str, str]
) -> None:
    for unit in readings(text):
        if unit.ucum and text not in LIBRARY_CANNOT_CONVERT:
            assert same(text, unit)


@pytest.mark.parametrize("text", ["K/uL", "G/L", "m/uL", "T/L", "Gm/dL"])
def test_a_false_friend_is_ucum_for_something_else(text: str) -> None:
    """To UCUM K is kelvin and G gauss: read as laboratories mean them, and said to be repaired."""
    quantity = in_ucum(text)
    assert quantity is not None
    for unit in readings(text):
        assert not quantity.is_compatible_with(BASE_UNIT[unit.dimension][0])
        assert not unit.ucum


# UCUM

# The library multiplies g by %, but UCUM has g% as a unit of its own; {ratio} is a bare annotation.
LIBRARY_CANNOT_CONVERT = {"g%", "{ratio}"}
UCUM_ROWS = [row for row in UNITS if row.text not in LIBRARY_CANNOT_CONVERT]


@pytest.mark.parametrize("row", UNITS, ids=ids(UNITS))
def test_a_unit_of_the_table_is_read_as_its_row_without_a_repair(row: UnitRow) -> None:
    assert readings(row.text) == (Unit(row.dimension, row.factor, ucum=True),)


@pytest.mark.parametrize("row", UCUM_ROWS, ids=ids(UCUM_ROWS))
def test_a_ucum_library_we_did_not_write_finds_the_same_factor(row: UnitRow) -> None:
    """Every unit we call UCUM parses as UCUM and converts as our exact factor says."""
    assert same(row.text, Unit(row.dimension, row.factor, ucum=True))


def test_gram_percent_is_a_ucum_unit_of_one_gram_per_deciliter() -> None:
    """UCUM's own table defines g% as g/dl."""
    [folder] = ucumvert.__path__
    table = Path(folder, "vendor", "ucum-essence.xml").read_text(encoding="utf-8")
    [value] = re.findall(r'<unit Code="g%".*?(<value .*?>)', table, re.DOTALL)
    assert value == '<value Unit="g/dl" UNIT="G/DL" value="1">'


def test_a_bare_annotation_is_valid_ucum() -> None:
    """The library's grammar accepts {ratio}, though it makes no quantity of it."""
    assert UCUM.from_ucum("{ratio}") is not None


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("10*9{cells}/L", "10*9/L"),
        ("10*9.{cells}/L", "10*9/L"),
        ("10*3{WBC}/uL", "10*3/uL"),
        ("10*4{plt}/uL", "10*4/uL"),
        ("%{WBC}", "%"),
        ("/100{WBC}", "/100"),
        ("10*9/L{automated}", "10*9/L"),
        ("{platelets}/uL", "/uL"),
    ],
)
def test_an_annotation_is_no_part_of_a_ucum_unit(text: str, bare: str) -> None:
    """Text in braces is dropped, and that is no repair: UCUM says it means nothing."""
    assert readings(text) == readings(bare)
    assert [unit.ucum for unit in readings(text)] == [True]


@given(
    st.sampled_from(["", "1", "10*", "10^", "{cells}", "10*9.{plt}", "k", "K", "G", "m"]),
    st.integers(0, 14),
    st.sampled_from("/.-"),
    st.sampled_from(["L", "l", "uL", "ul", "mL", "nL", "pL", "dL", "mm3", "Ml", "UL", "m3"]),
)
def test_what_we_call_ucum_the_library_converts_by_the_same_factor(
    start: str, power: int, mark: str, volume: str
) -> None:
    text = start + (str(power) if start[:2] == "10" and "." not in start else "") + mark + volume
    for unit in readings(text):
        if unit.ucum:
            assert same(text, unit)


# Properties of the grammar

LIKE_UNITS = st.text("10*^3()+-xX×eE/uLlKkMmGgTtdc%cels .{}µμ⁹³万個тыслкg", max_size=14)


@given(st.text(max_size=130) | LIKE_UNITS)
def test_no_text_makes_the_grammar_fail(text: str) -> None:
    found = readings(text)
    assert len({unit.dimension for unit in found}) == len(found)
    for unit in found:
        # An exact power of ten or a table's number, held without an exponent.
        assert unit.factor > 0
        assert "E" not in str(unit.factor)


def meanings(text: str) -> set[tuple[Dimension, Decimal]]:
    return {(unit.dimension, unit.factor) for unit in readings(text)}


@given(LIKE_UNITS | st.sampled_from([text.values[0] for text in SPELLINGS]))
def test_a_text_never_changes_its_meaning_with_the_form_of_its_characters(text: str) -> None:
    """Its compatible form may say less (10\u00b2 becomes 102), never something else."""
    assert meanings(normalize("NFC", text)) == meanings(text)
    for form in ("NFD", "NFKC", "NFKD"):
        assert meanings(normalize(form, text)) in (meanings(text), set())


@given(st.sampled_from([text.values[0] for text in SPELLINGS]), st.sampled_from(["upper", "lower"]))
def test_another_case_never_gives_another_factor_in_one_dimension(text: str, case: str) -> None:
    """Giga per liter may become gram per liter, but to a count neither is the other."""
    factor_of = dict(meanings(text))
    for dimension, factor in meanings(getattr(text, case)()):
        assert factor_of.get(dimension, factor) == factor


@pytest.mark.parametrize("row", UNITS, ids=ids(UNITS))
def test_a_change_of_case_never_changes_what_ucum_means(row: UnitRow) -> None:
    """Where a unit in another case is UCUM of the same dimension, it is read as that."""
    for text in {row.text.upper(), row.text.lower(), row.text.title(), row.text.swapcase()}:
        quantity = in_ucum(text)
        for unit in readings(text):
            if quantity is not None and quantity.is_compatible_with(BASE_UNIT[unit.dimension][0]):
                assert same(text, unit)


@given(st.sampled_from(UNITS), st.sampled_from(["", " ", "\t", "\u00a0 "]))
def test_white_space_around_a_unit_changes_nothing_but_that_it_is_repaired(
    row: UnitRow, space: str
) -> None:
    assert readings(space + row.text + space) == (Unit(row.dimension, row.factor, ucum=not space),)


def test_a_unit_of_more_than_100_characters_is_refused() -> None:
    """100 characters are looked at, 101 are not."""
    assert readings("%".ljust(100))
    assert readings("%".ljust(101)) == ()


@pytest.mark.parametrize("size", [100, 10_000])
@pytest.mark.parametrize(
    "part", ["{", "{}", "(", "10^", "x", "K/", "\u202e", "1", "\ufdfa", "cells ", "."]
)
def test_a_hostile_text_is_refused_in_a_bounded_number_of_steps(
    monkeypatch: pytest.MonkeyPatch, part: str, size: int
) -> None:
    """No step looks at more than a few times the text, and none at more than 100 characters."""
    looked: list[Any] = []
    tokens = units._TOKEN
    monkeypatch.setattr(units, "_TOKEN", Counting(tokens, looked))
    assert readings((part * size)[:size]) == ()
    assert sum(looked) <= 2 * 100 * 18  # one character becomes 18 at the most in its NFKC form


class Counting:
    """A pattern that notes how long a text it is asked to cut."""

    def __init__(self, pattern: re.Pattern[str], looked: list[int]) -> None:
        self._pattern = pattern
        self._looked = looked

    def findall(self, text: str) -> list[str]:
        self._looked.append(len(text))
        return self._pattern.findall(text)


# What a result's code makes of a unit


@pytest.mark.parametrize(
    ("text", "code", "factor"),
    [
        ("G/L", "777-3", "1"),
        ("G/L", "718-7", "0.1"),
        ("M/uL", "60474-4", "1000"),
        ("M/uL", "789-8", "1000"),
        ("M/uL", "777-3", None),
        ("10*6/uL", "777-3", "1000"),
        ("g/L", "777-3", None),
        ("mmol/L", "59260-0", "1.611"),
        ("mmol/L", "718-7", None),
        ("%", "770-8", "1"),
        ("%", "751-8", None),
    ],
)
def test_a_unit_is_read_in_the_dimension_of_the_results_code(
    text: str, code: str, factor: str | None
) -> None:
    unit = fitting(text, BY_LOINC[code])
    assert (unit.factor if unit else None) == (factor if factor is None else Decimal(factor))
