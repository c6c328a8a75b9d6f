"""What laboratories send is read as what they mean, and nothing else is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import ucumvert  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from ucumvert import PintUcumRegistry

from app.domain.counts import Analyte, Drug, Product
from app.fhir.codes import (
    ANALYTE_LOINC,
    BY_LOINC,
    DRUG_NAMES,
    DRUGS,
    LOINC_SYSTEMS,
    MOLAR_HEMOGLOBIN_FLOOR,
    PANEL_LOINC,
    PLAUSIBLE,
    PREFERRED_LOINC,
    REJECTED_LOINC,
    TRANSFUSIONS,
    UCUM_SYSTEMS,
    UNITS,
    Dimension,
    UnitRow,
    looks_like_a_count,
    unit_row,
)

NUMBER = Dimension.NUMBER_CONCENTRATION
MASS = Dimension.MASS_CONCENTRATION
MOLAR = Dimension.MOLAR_CONCENTRATION
FRACTION = Dimension.FRACTION

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


# The library multiplies g by %, but UCUM has g% as a unit of its own; {ratio} is a bare annotation.
LIBRARY_CANNOT_CONVERT = {"g%", "{ratio}"}
UCUM_ROWS = [row for row in UNITS if row.ucum and row.text not in LIBRARY_CANNOT_CONVERT]
FALSE_FRIENDS = [row for row in UNITS if row.false_friend]

# Read leniently by the library, or legal but bare numbers: nobody who sends them sends UCUM.
LIBRARY_TAKES_FOR_UCUM = {"10+3/ul", "1000/uL"}
NOT_UCUM = [
    row
    for row in UNITS
    if not row.ucum and not row.false_friend and row.text not in LIBRARY_TAKES_FOR_UCUM
]


@pytest.mark.parametrize("row", UCUM_ROWS, ids=ids(UCUM_ROWS))
def test_a_ucum_library_we_did_not_write_finds_the_same_factor(row: UnitRow) -> None:
    """Every unit we call UCUM parses as UCUM and converts as our exact factor says."""
    unit, per_ours = BASE_UNIT[row.dimension]
    factor = UCUM.from_ucum(row.text).to(unit).magnitude / per_ours
    # The molar mass of hemoglobin is no business of UCUM.
    ours = 1.0 if row.dimension is MOLAR else float(row.factor)
    assert factor == pytest.approx(ours, rel=LARGEST_FLOAT_ERROR)


def test_gram_percent_is_a_ucum_unit_of_one_gram_per_deciliter() -> None:
    """UCUM's own table defines g% as g/dl."""
    [folder] = ucumvert.__path__
    table = Path(folder, "vendor", "ucum-essence.xml").read_text(encoding="utf-8")
    [value] = re.findall(r'<unit Code="g%".*?(<value .*?>)', table, re.DOTALL)
    assert value == '<value Unit="g/dl" UNIT="G/DL" value="1">'


def test_a_bare_annotation_is_valid_ucum() -> None:
    """The library's grammar accepts {ratio}, though it makes no quantity of it."""
    assert UCUM.from_ucum("{ratio}") is not None


@pytest.mark.parametrize("row", FALSE_FRIENDS, ids=ids(FALSE_FRIENDS))
def test_a_false_friend_is_ucum_for_something_else(row: UnitRow) -> None:
    """K/uL and its like parse as UCUM, but not in the dimension laboratories mean."""
    quantity = in_ucum(row.text)
    assert quantity is not None
    unit, _ = BASE_UNIT[row.dimension]
    assert not quantity.is_compatible_with(unit)
    assert not row.ucum


@pytest.mark.parametrize("row", NOT_UCUM, ids=ids(NOT_UCUM))
def test_what_we_call_not_ucum_the_library_refuses(row: UnitRow) -> None:
    """A spelling flagged as repaired is not UCUM."""
    assert in_ucum(row.text) is None


SENT = [
    (
        NUMBER,
        "1",
        "10*3/uL|10^3/uL|10*9/L|10^9/L|10*3/mm3|10*6/mL|/nL|1/nL|nL-1|10*3/ul|10^3/ul|10*9/l"
        "|10^9/l|10*6/ml|/nl|1/nl|nl-1",
    ),
    (NUMBER, "0.001", "/uL|1/uL|/mm3|{cells}/uL|{#}/uL|{cells}/mm3|10*6/L|/ul|1/ul|10*6/l"),
    (NUMBER, "1000", "10*6/uL|10*12/L|/pL|10*6/ul|10*12/l|/pl"),
    (
        NUMBER,
        "1",
        "K/uL|G/L|K/mcL|k/mm3|K/cumm|10^3/mcL|10*3/mcL|x10E3/uL|X10E3/uL|10E3/uL|10E9/L"
        "|Thousand/uL|Thou/uL|thou/mm3|Tsd/ul|Giga/L|giga.l-1|10+3/ul|1000/uL|10*3/\u00b5L"
        "|10*3/\u03bcL|thousand per microliter|per nanoliter|/nanoliter",
    ),
    (
        NUMBER,
        "0.001",
        "cells/uL|cells/mcL|cells/mm3|/cumm|/cu mm|cells per microliter",
    ),
    (NUMBER, "1000", "M/uL|m/uL|tera.l-1|T/L"),
    (MASS, "1", "g/dL|g/dl|g%|gm/dL|gram per deciliter"),
    (MASS, "0.1", "g/L"),
    (MASS, "0.001", "mg/dL"),
    (MASS, "100", "g/mL"),
    (MOLAR, "1.611", "mmol/L"),
    (FRACTION, "1", "%|/100"),
    (FRACTION, "0.1", "[ppth]|10*-3|\u2030|/1000"),
    (FRACTION, "100", "1|{ratio}"),
    (Dimension.MASS, "1", "kg"),
    (Dimension.MASS, "0.001", "g"),
    (Dimension.MASS, "0.45359237", "[lb_av]"),
]


@pytest.mark.parametrize(
    ("text", "dimension", "factor"),
    [(text, dimension, factor) for dimension, factor, texts in SENT for text in texts.split("|")],
)
def test_every_spelling_laboratories_send_has_its_exact_factor(
    text: str, dimension: Dimension, factor: str
) -> None:
    """A unit seen in real data is understood, with a factor exact to the last digit."""
    reading = unit_row(text)
    assert reading is not None
    assert (reading.row.dimension, reading.row.factor) == (dimension, Decimal(factor))


@pytest.mark.parametrize("row", UNITS, ids=ids(UNITS))
def test_a_unit_of_the_table_finds_its_own_row(row: UnitRow) -> None:
    """A text is written once, and read as its row; only plain UCUM needs no repair."""
    reading = unit_row(row.text)
    assert reading is not None
    assert reading.row is row
    assert reading.repaired is not row.ucum


def test_factors_are_plain_decimals() -> None:
    """No factor is held with an exponent, which would show in an answer."""
    assert not [row.text for row in UNITS if "E" in str(row.factor)]


@given(st.text(max_size=130) | st.text("10*^3/uLlKkMmGgTt{}%cels \u00b5\u03bc-", max_size=12))
def test_no_text_makes_the_unit_look_up_fail(text: str) -> None:
    """Any text is either a unit of the table or None."""
    reading = unit_row(text)
    assert reading is None or reading.row in UNITS


@given(st.sampled_from(UNITS), st.sampled_from(["", " ", "\t", "\u00a0 "]))
def test_white_space_around_a_unit_changes_nothing_but_that_it_is_repaired(
    row: UnitRow, space: str
) -> None:
    """A padded unit keeps its dimension and factor."""
    reading = unit_row(space + row.text + space)
    assert reading is not None
    assert (reading.row.dimension, reading.row.factor) == (row.dimension, row.factor)
    assert reading.repaired is bool(space or not row.ucum)


@pytest.mark.parametrize("mu", ["\u00b5", "\u03bc"])
@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("10*3/{}L", "10*3/uL"),
        ("K/{}L", "K/uL"),
        ("/{}L", "/uL"),
        ("cells/{}l", "cells/uL"),
        ("M/{}L", "M/uL"),
    ],
)
def test_both_mu_signs_are_read_as_u(text: str, plain: str, mu: str) -> None:
    """The micro sign and the Greek letter mean the same, and are reported as a repair."""
    reading, expected = unit_row(text.format(mu)), unit_row(plain)
    assert reading is not None
    assert expected is not None
    assert reading.repaired
    assert (reading.row.dimension, reading.row.factor, reading.row.only) == (
        expected.row.dimension,
        expected.row.factor,
        expected.row.only,
    )


@pytest.mark.parametrize(
    ("text", "row_text"),
    [
        ("10*9{cells}/L", "10*9/L"),
        ("10*3{WBC}/uL", "10*3/uL"),
        ("%{WBC}", "%"),
        ("/100{WBC}", "/100"),
        ("10*9/L{automated}", "10*9/L"),
        ("{platelets}/uL", "/uL"),
    ],
)
def test_an_annotation_is_no_part_of_a_ucum_unit(text: str, row_text: str) -> None:
    """Text in braces is dropped, and that is no repair: UCUM says it means nothing."""
    reading = unit_row(text)
    assert reading is not None
    assert (reading.row.text, reading.repaired) == (row_text, False)


@pytest.mark.parametrize("text", ["{thousand}/uL", "{K}/uL", "{10*3}/uL", "{1000}/uL", "{Mio}/uL"])
def test_an_annotation_that_names_a_magnitude_is_not_dropped(text: str) -> None:
    """UCUM would read {thousand}/uL as one per microliter; its writer means a thousand."""
    assert unit_row(text) is None


@pytest.mark.parametrize(("one", "other"), [("G/L", "g/L"), ("K/mm3", "k/mm3"), ("Gm/dL", "gm/dL")])
def test_units_that_differ_by_case_alone_keep_their_own_rows(one: str, other: str) -> None:
    """Giga per liter is never read as gram per liter, nor the other way round."""
    first, second = unit_row(one), unit_row(other)
    assert first is not None
    assert second is not None
    assert first.row is not second.row


@pytest.mark.parametrize(
    "text",
    ["t/L", "t/l", "M/L", "m/L", "k/L", "G/dL", "G/DL", "G%", "MG/DL", "10*6/ML", "/PL", "Mmol/L"],
)
def test_case_is_not_guessed_where_it_tells_units_apart(text: str) -> None:
    """A prefix or symbol in the wrong case is set aside, not repaired."""
    assert unit_row(text) is None


@pytest.mark.parametrize(
    ("text", "row_text"),
    [
        ("THOUSAND/UL", "Thousand/uL"),
        ("Cells/uL", "cells/uL"),
        ("x10e3/ul", "x10E3/uL"),
        ("K/MCL", "K/mcL"),
        ("10*9 / L", "10*9/L"),
        ("Thousand  per\nMicroliter", "thousand per microliter"),
    ],
)
def test_a_unit_is_found_in_any_case_where_none_can_be_confused(text: str, row_text: str) -> None:
    """Words keep their meaning in capitals, and the repair is told."""
    reading, expected = unit_row(text), unit_row(row_text)
    assert reading is not None
    assert expected is not None
    assert reading.repaired
    assert (reading.row.dimension, reading.row.factor) == (
        expected.row.dimension,
        expected.row.factor,
    )


@pytest.mark.parametrize("row", UNITS, ids=ids(UNITS))
def test_a_change_of_case_never_changes_what_ucum_means(row: UnitRow) -> None:
    """Where a unit in another case is UCUM of another meaning, it is not read as the first."""
    for text in {row.text.upper(), row.text.lower(), row.text.title(), row.text.swapcase()}:
        reading, quantity = unit_row(text), in_ucum(text)
        if reading is None or quantity is None or reading.row.text == text:
            continue
        unit, per_ours = BASE_UNIT[reading.row.dimension]
        factor = 1.0 if reading.row.dimension is MOLAR else float(reading.row.factor)
        assert quantity.to(unit).magnitude / per_ours == pytest.approx(factor)


@pytest.mark.parametrize(
    "text", ["", " ", "{", "}", "{cells}", "/", "10*9", "L", "10*9/L/", "/10*9/L", "10*3/uL" * 15]
)
def test_what_is_no_unit_is_not_guessed(text: str) -> None:
    """A fragment, a mere annotation or an endless text is no unit."""
    assert unit_row(text) is None


def test_a_unit_of_more_than_100_characters_is_refused() -> None:
    """100 characters are looked at, 101 are not."""
    assert unit_row("%".ljust(100)) is not None
    assert unit_row("%".ljust(101)) is None


@pytest.mark.parametrize("text", ["M/uL", "m/uL", "m/ul", "T/L", "tera.l-1"])
def test_millions_are_believed_for_red_cells_alone(text: str) -> None:
    """No other cell is counted in millions per microliter."""
    reading = unit_row(text)
    assert reading is not None
    assert reading.row.only == frozenset({Analyte.ERYTHROCYTES, Analyte.RETICULOCYTES})


ALL_LOINC = [*(row.code for row in ANALYTE_LOINC), *REJECTED_LOINC, *PANEL_LOINC]


def loinc_check_digit(number: str) -> int:
    """LOINC's Mod 10 check digit (LOINC Users' Guide, appendix on calculating it)."""
    doubled = [int(digit) * 2 for digit in number[::-2]]
    return -sum([*(n // 10 + n % 10 for n in doubled), *map(int, number[-2::-2])]) % 10


@pytest.mark.parametrize("code", ALL_LOINC)
def test_every_loinc_code_has_its_right_check_digit(code: str) -> None:
    """A mistyped code does not pass."""
    number, _, check = code.partition("-")
    assert check == str(loinc_check_digit(number))


def test_every_loinc_code_means_one_thing() -> None:
    """No code stands twice, in one table or in two."""
    assert not [code for code, times in Counter(ALL_LOINC).items() if times > 1]
    assert list(BY_LOINC.values()) == list(ANALYTE_LOINC)


@pytest.mark.parametrize("row", ANALYTE_LOINC, ids=lambda row: row.code)
def test_a_code_speaks_of_the_dimension_its_name_and_analyte_have(row: Any) -> None:
    """LOINC's [#/volume], [Mass/volume], [Moles/volume] and plain ratios agree with our rows."""
    named = {
        "[#/volume]": NUMBER,
        "[Mass/volume]": MASS,
        "[Moles/volume]": MOLAR,
        "ocytes in Blood": FRACTION,
        "Body weight": Dimension.MASS,
    }
    assert next(
        (dimension for words, dimension in named.items() if words in row.display), FRACTION
    ) is (row.dimension)
    held = {"10*9/L": {NUMBER}, "g/dL": {MASS, MOLAR}, "%": {FRACTION}, "kg": {Dimension.MASS}}
    assert row.dimension in held[row.analyte.unit]


def test_manual_matters_for_reticulocytes_alone() -> None:
    """The count by hand, and the share from which one is worked out."""
    assert [row.code for row in ANALYTE_LOINC if row.manual] == ["40665-2", "31112-6"]


def test_every_analyte_has_a_code_of_its_own_a_range_and_a_unit() -> None:
    """No analyte is missing from a table, and each goes by an undoubted code."""
    assert set(PREFERRED_LOINC) == set(PLAUSIBLE) == set(Analyte)
    for analyte, (code, display) in PREFERRED_LOINC.items():
        row = BY_LOINC[code]
        assert (row.analyte, row.display, row.doubtful) == (analyte, display, None)
        reading = unit_row(analyte.unit)
        assert reading is not None
        assert (reading.row.factor, reading.repaired) == (Decimal("1"), False)


def test_every_limit_a_paper_sets_is_plausible() -> None:
    """The ranges hold 8.5 g/dL and 1.2, 70 and 60 x10^9/L, and refuse 83 g/dL."""
    for analyte, value in [
        (Analyte.HEMOGLOBIN, "8.5"),
        (Analyte.ABSOLUTE_NEUTROPHIL_COUNT, "1.2"),
        (Analyte.PLATELETS, "70"),
        (Analyte.RETICULOCYTES, "60"),
    ]:
        low, high = PLAUSIBLE[analyte]
        assert low < Decimal(value) < high
    assert Decimal("83") > PLAUSIBLE[Analyte.HEMOGLOBIN][1]
    assert Decimal("3") == MOLAR_HEMOGLOBIN_FLOOR


def test_a_row_names_its_public_page() -> None:
    """Each code can be looked up by whoever doubts it."""
    assert BY_LOINC["751-8"].source == "https://loinc.org/751-8"


def test_the_systems_fhir_requires_are_accepted() -> None:
    """The official addresses, and the OIDs that stand for them, are known."""
    assert {"http://loinc.org", "urn:oid:2.16.840.1.113883.6.1"} <= LOINC_SYSTEMS
    assert {"http://unitsofmeasure.org", "urn:oid:2.16.840.1.113883.6.8"} <= UCUM_SYSTEMS


def test_a_transfusion_without_a_named_product_is_of_an_unknown_one() -> None:
    """CPT 36430 is a transfusion of anything; SNOMED CT 12719002 is one of platelets."""
    assert TRANSFUSIONS["http://www.ama-assn.org/go/cpt", "36430"] is Product.UNKNOWN
    assert TRANSFUSIONS["http://snomed.info/sct", "12719002"] is Product.PLATELETS
    assert TRANSFUSIONS["http://snomed.info/sct", "71493000"] is Product.RED_CELLS


def test_every_drug_has_a_code_and_its_name() -> None:
    """A drug can be told by code and by text."""
    assert set(DRUGS.values()) == set(DRUG_NAMES.values()) == set(Drug)
    assert all(DRUG_NAMES[drug.value] is drug for drug in Drug)
    assert all(name == name.lower() for name in DRUG_NAMES)


def test_pegfilgrastim_is_never_taken_for_filgrastim() -> None:
    """The first name found in a text is the drug meant."""
    text = "pegfilgrastim 6 mg subcutaneous"
    assert next(drug for name, drug in DRUG_NAMES.items() if name in text) is Drug.PEGFILGRASTIM


@pytest.mark.parametrize(
    "text",
    [
        "Neutrophils [#/volume] in Blood",
        "Neutrophils Abs",
        "Neutrophile absolut",
        "ANC",
        "Platelet count",
        "PLT",
        "Thrombozyten",
        "Thrombocytes",
        "Hemoglobin [Mass/volume] in Blood",
        "Haemoglobin",
        "H\u00e4moglobin",
        "Ha\u0308moglobin",
        "HGB",
        "Hb",
        "hb_venous",
        "Retikulozyten",
        "Reticulocytes/100 erythrocytes",
        "Leukozyten",
        "Leucocytes",
        "WBC during treatment",
    ],
)
def test_a_label_of_a_blood_count_looks_like_one(text: str) -> None:
    """A count under a code we do not know is noticed, so that its loss is told."""
    assert looks_like_a_count(text)


@pytest.mark.parametrize(
    "text",
    [
        "Hemoglobin A1c/Hemoglobin.total in Blood",
        "HbA1c",
        "Hb A1c",
        "Glycated hemoglobin",
        "Glycosylated hemoglobin",
        "Hemoglobin [Entitic mass] in Erythrocytes",
        "Mean corpuscular hemoglobin",
        "MCH Hb",
        "Hemoglobin concentration in erythrocytes",
        "Platelet mean volume",
        "MPV",
        "Platelet distribution width",
        "Fetal hemoglobin",
        "Hemoglobin F",
        "Hemoglobin A2",
        "Hemoglobin [Presence] in Urine",
        "Hemoglobin in stool",
        "Fecal hemoglobin",
        "Leukocytes in CSF",
        "Leukocytes in Cerebral spinal fluid",
        "Neutrophil cytoplasmic Ab",
        "Platelet antibodies",
        "Platelet Ag",
        "WBC casts",
        "Leukocyte esterase",
        "Hemoglobin electrophoresis",
        "Oxyhemoglobin",
        "Carboxyhemoglobin",
        "Methemoglobin",
        "Platelet aggregation",
        "Free hemoglobin",
        "Creatinine",
        "Thumb",
        "Balance",
        "",
    ],
)
def test_a_label_of_something_else_does_not_look_like_a_count(text: str) -> None:
    """A hemoglobin variant, an antibody or another fluid raises no alarm."""
    assert not looks_like_a_count(text)


def test_the_first_500_characters_of_a_label_are_enough() -> None:
    """What stands later is not looked at."""
    assert looks_like_a_count(" " * 496 + " ANC")
    assert not looks_like_a_count(" " * 500 + "ANC")


@given(st.text(max_size=600))
def test_no_label_makes_the_search_fail(text: str) -> None:
    """Any text either looks like a count or does not."""
    assert looks_like_a_count(text) in {True, False}
