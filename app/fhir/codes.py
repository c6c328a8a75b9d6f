"""The codes and units laboratories send, and what each means to us. Tables, and look-ups in them.

Sources: LOINC 2.80 (each row's `source` is its page) and UCUM (https://ucum.org/ucum).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final
from unicodedata import normalize

from app.domain.counts import Analyte


class Dimension(Enum):
    """What kind of quantity a code or a unit speaks of; the two must agree."""

    NUMBER_CONCENTRATION = "number concentration"
    MASS_CONCENTRATION = "mass concentration"
    MOLAR_CONCENTRATION = "molar concentration"
    FRACTION = "fraction"
    MASS = "mass"


@dataclass(frozen=True, slots=True, eq=False)
class LoincRow:
    """One LOINC code whose value we use; there is one row for each."""

    code: str
    analyte: Analyte
    dimension: Dimension
    display: str
    """LOINC's long common name."""
    manual: bool = False
    """Reticulocytes counted by hand: papers give them another limit. No other analyte needs it."""
    doubtful: str | None = None
    """Why the result is of lesser standing, where it is."""
    corrected: bool = False
    """Leukocytes without the nucleated red cells that analysers count among them."""

    @property
    def source(self) -> str:
        """The public page that defines the code."""
        return f"https://loinc.org/{self.code}"


_ANC: Final = Analyte.ABSOLUTE_NEUTROPHIL_COUNT
_SEGMENTED: Final = Analyte.SEGMENTED_NEUTROPHILS
_BANDS: Final = Analyte.BAND_NEUTROPHILS
_NEUTROPHIL_PERCENT: Final = Analyte.NEUTROPHIL_PERCENT
_SEGMENTED_PERCENT: Final = Analyte.SEGMENTED_PERCENT
_BAND_PERCENT: Final = Analyte.BAND_PERCENT
_LEUKOCYTES: Final = Analyte.LEUKOCYTES
_PLATELETS: Final = Analyte.PLATELETS
_HEMOGLOBIN: Final = Analyte.HEMOGLOBIN
_RETICULOCYTES: Final = Analyte.RETICULOCYTES
_RETICULOCYTE_PERCENT: Final = Analyte.RETICULOCYTE_PERCENT
_ERYTHROCYTES: Final = Analyte.ERYTHROCYTES
_WEIGHT: Final = Analyte.BODY_WEIGHT

_NUMBER: Final = Dimension.NUMBER_CONCENTRATION
_MASS_PER_VOLUME: Final = Dimension.MASS_CONCENTRATION
_MOLES_PER_VOLUME: Final = Dimension.MOLAR_CONCENTRATION
_FRACTION: Final = Dimension.FRACTION
_MASS: Final = Dimension.MASS

_ESTIMATE: Final = "an estimate from a smear, not a count"
_IN_PLASMA: Final = "counted in plasma, not in whole blood"
_MIXED_VENOUS: Final = "mixed venous blood, from a catheter"

ANALYTE_LOINC: Final[tuple[LoincRow, ...]] = (
    LoincRow("751-8", _ANC, _NUMBER, "Neutrophils [#/volume] in Blood by Automated count"),
    LoincRow("26499-4", _ANC, _NUMBER, "Neutrophils [#/volume] in Blood"),
    LoincRow("753-4", _ANC, _NUMBER, "Neutrophils [#/volume] in Blood by Manual count"),
    LoincRow("30451-9", _SEGMENTED, _NUMBER, "Segmented neutrophils [#/volume] in Blood"),
    LoincRow(
        "768-2", _SEGMENTED, _NUMBER, "Segmented neutrophils [#/volume] in Blood by Manual count"
    ),
    LoincRow("26507-4", _BANDS, _NUMBER, "Band form neutrophils [#/volume] in Blood"),
    LoincRow("763-3", _BANDS, _NUMBER, "Band form neutrophils [#/volume] in Blood by Manual count"),
    LoincRow(
        "770-8",
        _NEUTROPHIL_PERCENT,
        _FRACTION,
        "Neutrophils/Leukocytes in Blood by Automated count",
    ),
    LoincRow("26511-6", _NEUTROPHIL_PERCENT, _FRACTION, "Neutrophils/Leukocytes in Blood"),
    LoincRow(
        "23761-0",
        _NEUTROPHIL_PERCENT,
        _FRACTION,
        "Neutrophils/Leukocytes in Blood by Manual count",
    ),
    LoincRow(
        "769-0",
        _SEGMENTED_PERCENT,
        _FRACTION,
        "Segmented neutrophils/Leukocytes in Blood by Manual count",
    ),
    LoincRow("26505-8", _SEGMENTED_PERCENT, _FRACTION, "Segmented neutrophils/Leukocytes in Blood"),
    LoincRow(
        "764-1",
        _BAND_PERCENT,
        _FRACTION,
        "Band form neutrophils/Leukocytes in Blood by Manual count",
    ),
    LoincRow("26508-2", _BAND_PERCENT, _FRACTION, "Band form neutrophils/Leukocytes in Blood"),
    LoincRow(
        "35332-6",
        _BAND_PERCENT,
        _FRACTION,
        "Band form neutrophils/Leukocytes in Blood by Automated count",
    ),
    LoincRow("6690-2", _LEUKOCYTES, _NUMBER, "Leukocytes [#/volume] in Blood by Automated count"),
    LoincRow("26464-8", _LEUKOCYTES, _NUMBER, "Leukocytes [#/volume] in Blood"),
    LoincRow("804-5", _LEUKOCYTES, _NUMBER, "Leukocytes [#/volume] in Blood by Manual count"),
    LoincRow(
        "49498-9",
        _LEUKOCYTES,
        _NUMBER,
        "Leukocytes [#/volume] in Blood by Estimate",
        doubtful=_ESTIMATE,
    ),
    LoincRow(
        "33256-9",
        _LEUKOCYTES,
        _NUMBER,
        "Leukocytes [#/volume] corrected for nucleated erythrocytes in Blood by Automated count",
        corrected=True,
    ),
    LoincRow(
        "12227-5",
        _LEUKOCYTES,
        _NUMBER,
        "Leukocytes [#/volume] corrected for nucleated erythrocytes in Blood",
        corrected=True,
    ),
    LoincRow("777-3", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood by Automated count"),
    LoincRow("26515-7", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood"),
    LoincRow("778-1", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood by Manual count"),
    LoincRow(
        "97995-5", _PLATELETS, _NUMBER, "Platelets [#/volume] in Blood by Automated count.optical"
    ),
    LoincRow(
        "49497-1",
        _PLATELETS,
        _NUMBER,
        "Platelets [#/volume] in Blood by Estimate",
        doubtful=_ESTIMATE,
    ),
    LoincRow(
        "13056-7",
        _PLATELETS,
        _NUMBER,
        "Platelets [#/volume] in Plasma by Automated count",
        doubtful=_IN_PLASMA,
    ),
    LoincRow("26516-5", _PLATELETS, _NUMBER, "Platelets [#/volume] in Plasma", doubtful=_IN_PLASMA),
    LoincRow(
        "74464-9",
        _PLATELETS,
        _NUMBER,
        "Platelets [#/volume] in Capillary blood by Manual count",
        doubtful="capillary blood, where platelet counts differ from venous blood (PMID 12542436)",
    ),
    LoincRow("718-7", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Blood"),
    LoincRow(
        "20509-6",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Blood by calculation",
    ),
    LoincRow("30350-3", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Venous blood"),
    LoincRow(
        "30313-1", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Arterial blood"
    ),
    LoincRow(
        "30352-9", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Capillary blood"
    ),
    LoincRow(
        "55782-7", _HEMOGLOBIN, _MASS_PER_VOLUME, "Hemoglobin [Mass/volume] in Blood by Oximetry"
    ),
    LoincRow(
        "76769-9",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Venous blood by Oximetry",
    ),
    LoincRow(
        "14775-1",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Arterial blood by Oximetry",
    ),
    LoincRow(
        "76768-1",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Mixed venous blood by Oximetry",
        doubtful=_MIXED_VENOUS,
    ),
    LoincRow(
        "30351-1",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Mixed venous blood",
        doubtful=_MIXED_VENOUS,
    ),
    LoincRow(
        "97550-8",
        _HEMOGLOBIN,
        _MASS_PER_VOLUME,
        "Hemoglobin [Mass/volume] in Central venous blood by calculation",
        doubtful="calculated, in central venous blood",
    ),
    LoincRow("59260-0", _HEMOGLOBIN, _MOLES_PER_VOLUME, "Hemoglobin [Moles/volume] in Blood"),
    LoincRow(
        "93846-4", _HEMOGLOBIN, _MOLES_PER_VOLUME, "Hemoglobin [Moles/volume] in Venous blood"
    ),
    LoincRow(
        "75928-2", _HEMOGLOBIN, _MOLES_PER_VOLUME, "Hemoglobin [Moles/volume] in Arterial blood"
    ),
    LoincRow(
        "60474-4", _RETICULOCYTES, _NUMBER, "Reticulocytes [#/volume] in Blood by Automated count"
    ),
    LoincRow("14196-0", _RETICULOCYTES, _NUMBER, "Reticulocytes [#/volume] in Blood"),
    LoincRow(
        "40665-2",
        _RETICULOCYTES,
        _NUMBER,
        "Reticulocytes [#/volume] in Blood by Manual count",
        manual=True,
    ),
    LoincRow(
        "17849-1",
        _RETICULOCYTE_PERCENT,
        _FRACTION,
        "Reticulocytes/Erythrocytes in Blood by Automated count",
    ),
    LoincRow("4679-7", _RETICULOCYTE_PERCENT, _FRACTION, "Reticulocytes/Erythrocytes in Blood"),
    LoincRow(
        "31112-6",
        _RETICULOCYTE_PERCENT,
        _FRACTION,
        "Reticulocytes/Erythrocytes in Blood by Manual count",
        manual=True,
    ),
    LoincRow(
        "17848-3", _RETICULOCYTE_PERCENT, _FRACTION, "Reticulocytes/1000 erythrocytes in Blood"
    ),
    LoincRow(
        "789-8", _ERYTHROCYTES, _NUMBER, "Erythrocytes [#/volume] in Blood by Automated count"
    ),
    LoincRow("26453-1", _ERYTHROCYTES, _NUMBER, "Erythrocytes [#/volume] in Blood"),
    LoincRow("29463-7", _WEIGHT, _MASS, "Body weight"),
    LoincRow("3141-9", _WEIGHT, _MASS, "Body weight Measured"),
)

BY_LOINC: Final[dict[str, LoincRow]] = {row.code: row for row in ANALYTE_LOINC}

REJECTED_LOINC: Final[dict[str, str]] = {
    "74775-8": "platelets in platelet-rich plasma, not in blood",
    "48386-7": "the share of large platelets, not the platelet count",
    "34167-7": "large platelets only, not the platelet count",
    "96354-6": "large platelets only, not the platelet count",
    "9317-9": "platelets judged on a smear in words, not counted",
    "4635-9": "free hemoglobin outside the red cells, not the hemoglobin of blood",
    "31111-8": "reticulocytes adjusted for the hematocrit, not their share of red cells",
    "42758-3": "not the plain share of reticulocytes among red cells",
    "30394-1": "not neutrophils: all granulocytes",
    "51584-1": "not neutrophils: immature granulocytes",
    "53115-2": "not neutrophils: immature granulocytes",
    "773-2": "not neutrophils",
    "761-7": "not blood: urine",
}
"""Codes easily taken for one of ours, and why they are not."""

PANEL_LOINC: Final[frozenset[str]] = frozenset(
    {
        "58410-2",
        "57021-8",
        "57022-6",
        "57782-5",
        "69742-5",
        "24317-0",
        "55429-5",
        "57023-4",
        "24318-8",
        "69738-3",
        "24360-0",
    }
)
"""Groups of results: no value of their own, but members that have one."""

PREFERRED_LOINC: Final[dict[Analyte, tuple[str, str]]] = {
    BY_LOINC[code].analyte: (code, BY_LOINC[code].display)
    for code in (
        "751-8",
        "777-3",
        "718-7",
        "60474-4",
        "6690-2",
        "789-8",
        "30451-9",
        "26507-4",
        "770-8",
        "769-0",
        "764-1",
        "17849-1",
        "29463-7",
    )
}
"""The code and display an analyte goes by in our answers."""

LOINC: Final = "http://loinc.org"
LOINC_SYSTEMS: Final[frozenset[str]] = frozenset(
    {
        LOINC,
        "https://loinc.org",
        "http://www.loinc.org",
        "https://www.loinc.org",
        "loinc.org",
        "www.loinc.org",
        "urn:oid:2.16.840.1.113883.6.1",
        "2.16.840.1.113883.6.1",
        "loinc",
        "ln",
    }
)
"""FHIR allows only the first; the others come from CDA, from HL7 v2 and from hands."""

_LONGEST_SYSTEM: Final = 60


def is_loinc(system: str | None) -> bool:
    """Whether a code system is LOINC, by whatever name, case, last slash or space."""
    if system == LOINC:
        return True
    if not system or len(system) > _LONGEST_SYSTEM:
        return False
    return system.strip().rstrip("/").lower() in LOINC_SYSTEMS


UCUM_SYSTEMS: Final[frozenset[str]] = frozenset(
    {
        "http://unitsofmeasure.org",
        "http://unitsofmeasure.org/",
        "https://unitsofmeasure.org",
        "https://unitsofmeasure.org/",
        "urn:oid:2.16.840.1.113883.6.8",
    }
)


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One unit in UCUM, and the exact factor to the unit its analytes are held in."""

    text: str
    dimension: Dimension
    factor: Decimal
    """To 10*9/L, g/dL (also from mmol/L, by hemoglobin's molar mass), % or kg."""


def _rows(dimension: Dimension, factor: str, *texts: str) -> tuple[UnitRow, ...]:
    return tuple(UnitRow(text, dimension, Decimal(factor)) for text in texts)


# One mole of hemoglobin, taken as the monomer with one heme, weighs 16114 g (ICSH).
GRAMS_PER_DECILITER_IN_MMOL_PER_LITER: Final = "1.611"

# fmt: off
UNITS: Final[tuple[UnitRow, ...]] = (
    *_rows(
        _NUMBER, "1",
        "10*3/uL", "10*3/ul", "10^3/uL", "10^3/ul", "10*9/L", "10*9/l", "10^9/L", "10^9/l",
        "10*3/mm3", "10^3/mm3", "10*6/mL", "10*6/ml", "10^6/mL", "10^6/ml",
        "/nL", "/nl", "1/nL", "1/nl", "nL-1", "nl-1",
    ),
    *_rows(
        _NUMBER, "0.001",
        "/uL", "/ul", "1/uL", "1/ul", "/mm3", "1/mm3", "{cells}/uL", "{cells}/ul",
        "{#}/uL", "{#}/ul", "{cells}/mm3", "10*6/L", "10*6/l", "10^6/L", "10^6/l",
    ),
    *_rows(
        _NUMBER, "1000",
        "10*6/uL", "10*6/ul", "10^6/uL", "10^6/ul", "10*12/L", "10*12/l", "10^12/L", "10^12/l",
        "/pL", "/pl",
    ),
    *_rows(_MASS_PER_VOLUME, "1", "g/dL", "g/dl", "g%"),
    *_rows(_MASS_PER_VOLUME, "0.1", "g/L", "g/l"),
    *_rows(_MASS_PER_VOLUME, "0.001", "mg/dL", "mg/dl"),
    *_rows(_MASS_PER_VOLUME, "100", "g/mL", "g/ml"),
    *_rows(_MOLES_PER_VOLUME, GRAMS_PER_DECILITER_IN_MMOL_PER_LITER, "mmol/L", "mmol/l"),
    *_rows(_FRACTION, "1", "%", "/100"),
    *_rows(_FRACTION, "0.1", "[ppth]", "10*-3", "10^-3", "/1000"),
    *_rows(_FRACTION, "100", "1", "{ratio}"),
    *_rows(_MASS, "1", "kg"),
    *_rows(_MASS, "0.001", "g"),
    *_rows(_MASS, "0.45359237", "[lb_av]"),
)
# fmt: on
"""What is UCUM, for reference; app/fhir/units.py reads what laboratories write instead."""


_CELLS_OF_ONE_KIND: Final = (Decimal("0"), Decimal("100"))
_PERCENT: Final = (Decimal("0"), Decimal("100"))

PLAUSIBLE: Final[dict[Analyte, tuple[Decimal, Decimal]]] = {
    _ANC: _CELLS_OF_ONE_KIND,
    _SEGMENTED: _CELLS_OF_ONE_KIND,
    _BANDS: _CELLS_OF_ONE_KIND,
    _LEUKOCYTES: (Decimal("0.01"), Decimal("1000")),
    _PLATELETS: (Decimal("1"), Decimal("3000")),
    _RETICULOCYTES: (Decimal("0"), Decimal("1000")),
    # Our own: a red cell count in a mislabelled unit must not become a reticulocyte count.
    _ERYTHROCYTES: (Decimal("500"), Decimal("10000")),
    _HEMOGLOBIN: (Decimal("2"), Decimal("25")),
    _NEUTROPHIL_PERCENT: _PERCENT,
    _SEGMENTED_PERCENT: _PERCENT,
    _BAND_PERCENT: _PERCENT,
    _RETICULOCYTE_PERCENT: _PERCENT,
    _WEIGHT: (Decimal("0.5"), Decimal("500")),
}
"""In the analyte's unit, ends included. Outside, a wrong unit is likelier than the value."""

MAY_BE_NONE: Final = frozenset({_PLATELETS})
"""What may be 0, although less than the least that is plausible."""

NORMAL_SOMEWHERE: Final[dict[Analyte, tuple[Decimal, Decimal]]] = {
    _ANC: (Decimal("0.5"), Decimal("20")),
    _LEUKOCYTES: (Decimal("1"), Decimal("40")),
    _PLATELETS: (Decimal("50"), Decimal("1000")),
    _RETICULOCYTES: (Decimal("2"), Decimal("400")),
    _HEMOGLOBIN: (Decimal("6"), Decimal("22")),
}
"""In the analyte's unit: a range of normal that lies outside is not in the unit it says."""

MOLAR_HEMOGLOBIN_FLOOR: Final = Decimal("3")
"""In mmol/L. Below, the laboratory may have counted tetramers, a fourth of the monomers."""

_LONGEST_LABEL: Final = 500

# As `_folded` writes them: without accents, й as и.
_COUNTED: Final = (
    r"neutro(?:ph|f|v)i|notrofil|неитрофил|ουδετεροφιλ|好中球|中性粒|嗜中性|호중구",
    r"platelet|plaquet|piastrin|thrombo[cz]yt|trombo[csz]i|trombocyt|trombosyyt|тромбоцит|αιμοπεταλι"
    r"|blodplad|blodplatt|bloedplaat|desticky|verlemezke|p[lł]ytki krwi|tieu cau|血小板|혈소판",
    r"h(?:ae?|e)moglobin|emoglobin|гемоглобин|αιμοσφαιριν|ヘモグロビン|血红蛋白|血色素|血紅素|혈색소"
    r"|헤모글로빈",
    r"reti[ck]ulo[cs]|retikulozyt|ретикулоцит|δικτυοερυθρο|網赤血球|网织红|網織紅|망상적혈구",
    r"leu[ck]o[cz][iy]|leu[ck]osyyt|lokosit|леикоцит|λευκοκυτταρ|λευκα αιμοσφαιρια"
    r"|白血球|白细胞|백혈구|white (?:blood )?(?:cell|count)|wei(?:ss|ß)e blut|globules blancs"
    r"|globulos blancos|globuli bianchi|witte bloed|krwinki biale",
    r"(?<![^\W_])(?:wbc|anc|plts?|hgb|hb|neuts?|retics?|leukos?|thrombos)(?![^\W_])",
)

# Ab and not Abs: analysers print "Neutrophils Abs" for an absolute count.
_NOT_COUNTED: Final = (
    r"l[yi]m(?:ph|f)o|linfo[cz]|лимфоц|リンパ|淋巴|림프|mono[cz][iy]|моноц|単球|单核|단핵"
    r"|eosino(?:ph|f)|эозиноф|好酸|嗜酸|baso(?:ph|f)|базоф|好塩基|嗜碱|blast|бласт|芽球|nucleated",
    r"a1c|gl[yi][ck]|glu[ck]osil|глик|糖化|당화|entitic|distribution|width|antibod|antigen"
    r"|anti-?(?:platelet|plaquet|agreg|aggreg)|esterase|electrophores|oxyh|met-?h(?:ae?|e)mo|sulfhemo|aggregat|agregac|crit(?![^\W_])",
    # The plasma that clotting is measured in is named by the platelets it lacks.
    r"platelet.(?:rich|poor)|plattchenarm|coagul|koagul|prothrombin|thromboplast"
    r"|(?<![^\W_])(?:inr|aptt|ptt)(?![^\W_])",
    r"f(?:o?e|o)tal|f(?:a?e|a)cal|f(?:a?e|a)ces|stool|stuhl|cerebrospinal|spinal fl|body fl|marrow"
    r"|semen|sperm|synovial|pleura|peritone|ascit|sputum|vagin|bronch|dialys|sediment|/area\]|hpf"
    r"|high power field",
    r"(?<![^\W_])urin|orina|(?<![^\W_])harn|(?<![^\W_])moc[zc]|моч|尿|소변|liquor|likvor|ликвор|脑脊液|髄液",
    r"in (?:erythrocyte|red (?:blood )?cell|reticulocyte)|reticulocyte h(?:ae?|e)moglobin"
    r"|h(?:ae?|e)moglobin (?:a2?|c|e|f|s|h|barts?)(?![^\W_])|corpus[ck]|平均|средн"
    r"|(?<!/)volum|объем|(?<![^\W_])(?:medi[ao]|moyen(?:ne)?|mittler)",
    r"(?<![^\W_])(?:mean|mchc?|mpv|pdw|csf|ab|ag|casts?|free)(?![^\W_])",
)


def _folded(text: str) -> str:
    """Without case, and without the accents of Latin, Greek and Cyrillic letters."""
    plain = re.sub("[\u0300-\u036f]", "", normalize("NFKD", text.lower()))
    return normalize("NFC", plain)


_LOOKS_LIKE_A_COUNT: Final = re.compile("|".join(_COUNTED))
_NOT_A_COUNT: Final = re.compile("|".join(_NOT_COUNTED))


def looks_like_a_count(text: str) -> bool:
    """Whether the label of a code we do not know names one of the blood counts we judge."""
    label = _folded(text[:_LONGEST_LABEL])
    return bool(_LOOKS_LIKE_A_COUNT.search(label)) and not _NOT_A_COUNT.search(label)
