"""What laboratories send is read as what they mean, and nothing else is."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.counts import Analyte, Drug, Product
from app.fhir.codes import (
    ANALYTE_LOINC,
    BY_LOINC,
    LOINC_SYSTEMS,
    PANEL_LOINC,
    PREFERRED_LOINC,
    REJECTED_LOINC,
    Dimension,
)
from app.fhir.labels import looks_like_a_count
from app.fhir.plausible import MOLAR_HEMOGLOBIN_FLOOR, PLAUSIBLE
from app.fhir.treatments import DRUG_NAMES, DRUGS, TRANSFUSIONS
from app.fhir.ucum import UCUM_SYSTEMS
from app.fhir.units import fitting

NUMBER = Dimension.NUMBER_CONCENTRATION
MASS = Dimension.MASS_CONCENTRATION
MOLAR = Dimension.MOLAR_CONCENTRATION
FRACTION = Dimension.FRACTION

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
        unit = fitting(analyte.unit, row)
        assert unit is not None
        assert (unit.factor, unit.ucum) == (Decimal("1"), True)


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
        "White blood cell count in blood",
        "White cell count",
        "Plaquetas",
        "Recuento de plaquetas",
        "Plaquettes",
        "Piastrine",
        "Trombociti",
        "Trombocite",
        "Trombocyter",
        "Trombocytter",
        "Trombosit",
        "Blodplader",
        "Blodplättar",
        "Płytki krwi",
        "Тромбоциты",
        "血小板数",
        "血小板计数",
        "혈소판",
        "Neutrófilos",
        "Neutrofili",
        "Neutrofiler",
        "Нейтрофилы",
        "好中球数",
        "中性粒细胞绝对值",
        "Leucocitos",
        "Leucociti",
        "Leukocyter",
        "Lökosit",
        "Лейкоциты",
        "白血球数",
        "白细胞",
        "Weiße Blutkörperchen",
        "Globules blancs",
        "Hemoglobina",
        "Emoglobina",
        "Hémoglobine",
        "Гемоглобин",
        "ヘモグロビン",
        "血红蛋白",
        "Reticulocitos",
        "Réticulocytes",
        "Retikulocyter",
        "Ретикулоциты",
        "網赤血球数",
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
        "INR in Platelet poor plasma by Coagulation assay",
        "aPTT in Platelet poor plasma",
        "Prothrombin time (platelet-poor plasma)",
        "Leukocytes [#/volume] in Urine",
        "Leukocytes [#/area] in Urine sediment by Microscopy high power field",
        "Leukozyten im Urin",
        "Leucocitos en orina",
        "Leucociti nelle urine",
        "Лейкоциты в моче",
        "尿白血球",
        "Hemoglobina glicosilada",
        "Hemoglobina corpuscular media",
        "Volume plaquettaire moyen",
        "Volumen plaquetario medio",
        "Piastrinocrit",
        "Linfocitos/100 leucocitos",
        "Anticuerpos antiplaquetarios",
        "Leukocytes in Pleural fluid",
        "糖化ヘモグロビン",
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
