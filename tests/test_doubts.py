"""What a laboratory says of a specimen is heard, and so is what it denies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reading.doubts import Doubt, doubt_of, worst


@pytest.mark.parametrize(
    "text",
    [
        "Platelet clumps seen",
        "Platelet clumping noted, count may not be accurate",
        "PLATELETS CLUMPED",
        "Giant platelets and clumps present.",
        "Count is not reliable due to platelet clumps",
        "Platelet aggregates on smear",
        "EDTA-dependent pseudothrombocytopenia",
        "EDTA effect suspected",
        "Platelet satellitism",
        "Thrombozytenaggregate, Wert nicht verwertbar",
        "EDTA-bedingte Aggregation",
        "Verklumpung der Thrombozyten",
        "Agrégats plaquettaires",
        "Amas plaquettaires présents",
        "Agregados plaquetarios",
        "Presencia de grumos plaquetarios",
        "Aggregati piastrinici presenti",
        "Trombocytaggregat",
        "Агрегаты тромбоцитов",
        "血小板凝集あり",
        "血小板聚集",
        "혈소판 응집",
        "No clots, but platelet clumps seen",
        "Cannot exclude platelet clumps",
        "Clumps not excluded",
        "Platelet clumps cannot be ruled out",
        "Agregaty płytek krwi",
        "Clumps?",
        "Not counted. Clumps.",
    ],
)
def test_clumped_platelets_are_heard_of(text: str) -> None:
    assert doubt_of(text) is Doubt.CLUMPED


@pytest.mark.parametrize(
    "text",
    [
        "Specimen clotted",
        "Clotted sample, please repeat",
        "Micro-clots found",
        "Hemolyzed specimen",
        "Haemolysed",
        "Sample diluted with IV fluid",
        "Contaminated specimen",
        "Probe geronnen",
        "Hämolytisch",
        "hämolysierte Probe",
        "Gerinnsel in der Probe",
        "Probe verdünnt",
        "Prélèvement coagulé",
        "Échantillon hémolysé",
        "Muestra coagulada",
        "Muestra hemolizada",
        "Amostra com coágulos",
        "Campione coagulato",
        "Campione emolizzato",
        "Prøven er koaguleret",
        "Hemolys",
        "Образец со сгустком",
        "Гемолиз",
        "検体凝固",
        "溶血あり",
        "溶血",
        "No platelet clumps. Sample clotted.",
    ],
)
def test_a_spoilt_specimen_is_heard_of(text: str) -> None:
    assert doubt_of(text) is Doubt.SPOILT


@pytest.mark.parametrize(
    "text",
    [
        "No platelet clumps seen",
        "No clumps seen",
        "No clumping.",
        "no evidence of platelet clumping or satellitism",
        "No visible clots or clumps",
        "Without platelet aggregates",
        "Platelet clumps: none",
        "Platelet clumps: absent",
        "Clumps not seen",
        "Clumping was not detected",
        "Platelet clumps were not observed",
        "Negative for platelet clumps",
        "Absence of platelet clumps",
        "EDTA whole blood",
        "K2EDTA tube",
        "Specimen not clotted",
        "Not hemolyzed",
        "No hemolysis",
        "Hemolysis: none",
        "Hemolysis: negative",
        "Keine Aggregate",
        "Keine Thrombozytenaggregate nachweisbar",
        "ohne Aggregate",
        "Pas d'agrégats plaquettaires",
        "Absence d'agrégats",
        "Sans agrégats",
        "No se observan agregados plaquetarios",
        "Sin agregados",
        "Sem agregados plaquetários",
        "Ausência de grumos",
        "Senza aggregati",
        "Nessun aggregato piastrinico",
        "Ingen aggregat",
        "Без агрегатов",
        "Агрегатов тромбоцитов нет",
        "血小板凝集なし",
        "凝集(-)",
        "凝集は認めません",
        "未见血小板聚集",
        "无聚集",
        "Smear reviewed",
        "Low",
        "H",
        "antiaggregant therapy",
        "Patient with hemolytic anemia",
        "Clumps excluded",
        "Aggregate ausgeschlossen",
        "clots absent",
        "Checked for clots: none found",
        "No clots",
        "brak agregatów",
        "clot check: no",
        "Result after dilution",
        "",
        "Patient on anticoagulants",
        "sangre anticoagulada con EDTA",
        "Coagulation profile",
        "Hemolysis index 12",
        "hemolytic uremic syndrome",
        "Hämolytische Anämie",
    ],
)
def test_what_is_denied_or_of_something_else_is_no_doubt(text: str) -> None:
    assert doubt_of(text) is None


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from(["no", "clumps", "not", "of", "clotted", "."])).map(" ".join)
)
def test_no_remark_makes_the_search_fail(text: str) -> None:
    assert doubt_of(text) in {None, *Doubt}


def test_the_worse_of_two_doubts_is_told() -> None:
    assert doubt_of("Platelet clumps. Hemolyzed.") is Doubt.SPOILT
    assert worst({None, Doubt.CLUMPED, Doubt.SPOILT}) is Doubt.SPOILT
    assert worst({None, Doubt.CLUMPED}) is Doubt.CLUMPED
    assert worst({None}) is None


def test_the_first_4000_characters_of_a_remark_are_enough() -> None:
    assert doubt_of(" " * 3994 + "clumps") is Doubt.CLUMPED
    assert doubt_of(" " * 4000 + "clumps") is None
