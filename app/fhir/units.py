# ruff: noqa: RUF001 the letters of other scripts are meant
"""Units as laboratories spell them, read by a grammar: what a text means, or nothing at all.

A count is written `[x] magnitude [cells] / volume`. Its words are closed lists, and what has two
readings has none here: a wrong factor is worse than a count that is set aside. UCUM is looked up
in its table (app/fhir/ucum.py) first. Every step is linear in a text of at most 100 characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple
from unicodedata import normalize

from app.domain.counts import Analyte
from app.fhir.codes import Dimension, LoincRow
from app.fhir.ucum import GRAMS_PER_DECILITER_IN_MMOL_PER_LITER, UNITS


class Unit(NamedTuple):
    """What a spelling means in one dimension."""

    dimension: Dimension
    factor: Decimal
    """To 10*9/L, g/dL (also from mmol/L, by hemoglobin's molar mass), % or kg. Exact."""
    ucum: bool
    """The text is UCUM and means exactly this; any other was repaired to be read."""
    only: frozenset[Analyte] | None = None
    """The spelling is believed for these analytes alone."""

    def fits(self, row: LoincRow) -> bool:
        """Whether results of this code may come in the unit."""
        trusted = self.only is None or row.analyte in self.only
        return trusted and self.dimension is row.dimension


_LONGEST: Final = 100
# Red cells are the only cells counted in millions: a million platelets per microliter is an error.
_COUNTED_IN_MILLIONS: Final = frozenset({Analyte.ERYTHROCYTES, Analyte.RETICULOCYTES})

TABLE: Final = {row.text: Unit(row.dimension, row.factor, ucum=True) for row in UNITS}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _numbered(words: dict[int, str]) -> dict[str, int]:
    return {word: number for number, some in words.items() for word in some.split()}


_SUPERSCRIPT: Final = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
# The last of these is how a micro sign looks when its UTF-8 was taken for Latin-1.
_ALIKE: Final = (("∕", "/"), ("⁄", "/"), ("−", "-"), ("Âμ", "μ"))
_BRACED_POWER: Final = re.compile(r"\^\{([0-9]{1,2})\}")
_ANNOTATION: Final = re.compile(r"\{([^{}]*)\}")
_COUNTERS: Final = "個个개"
"""The word for pieces in Japanese, Chinese and Korean, which stands without a space."""
_TOKEN: Final = re.compile(rf"[0-9]+|[{_COUNTERS}]|[^\W\d_{_COUNTERS}]+|\S")

_TIMES: Final = frozenset("xX×*хХ")
_DOTS: Final = frozenset(".·⋅•∙")
_PER: Final = _words("per pro por par je в на")
_DIVIDED: Final = _PER | {"/"}
_NOUNS: Final = _words(
    """
    # no nos count counts particles elements éléments elementos blood red white
    cell cells cel cels cél célula células celula celulas cellule cellules cellula celler celle
    zelle zellen hücre komórek кл клеток клетки
    wbc wbcs leukocytes leucocytes leukozyten neutrophils rbc rbcs erythrocytes erythrozyten
    ery erys reticulocytes retikulozyten plt plts platelet platelets thrombocytes thrombozyten
    """
) | frozenset(_COUNTERS)

_LITER, _MILLILITER, _MICROLITER, _NANOLITER, _PICOLITER = 0, 3, 6, 9, 12
# Case tells these apart: ML may be an upper-cased microliter as well.
_CASED_VOLUMES: Final = _numbered(
    {
        _LITER: "L l",
        _MILLILITER: "mL ml",
        _NANOLITER: "nL nl",
        _PICOLITER: "pL pl",
    }
)
_VOLUMES: Final = _numbered(
    {
        _LITER: "liter liters litre litres litro litros litri litr л литр dm3 dm^3",
        _MILLILITER: "milliliter milliliters millilitre millilitres мл",
        _MICROLITER: """
            ul μl mcl mkl micl microl mikrol мкл μliter μlitre microliter microliters microlitre
            microlitres microlitro microlitros microlitri mikroliter mikrolitre
            mm3 mm^3 mm*3 mm**3 mm(3) mm^(3) mmc mmcu mmcub mmcube mmcubo mmcubi mmcubed
            cumm cmm cubmm cubicmm cubicmillimeter cubicmillimeters cubicmillimetre
            cubicmillimetres millimètrecube kubikmillimeter мм3 мм^3 кубмм
            """,
        _NANOLITER: "nanoliter nanoliters nanolitre nanolitres нл",
        _PICOLITER: "picoliter picoliters picolitre picolitres",
    }
)

# `mil` is a thousand in Spanish and Portuguese, a million elsewhere: it stands in no list.
_NUMERALS: Final = _numbered(
    {
        2: "hundred hundreds 百 백",
        3: """
            k thousand thousands thou thous tho th ths thsd tsd tausend duizend tusen tusind
            mille millier milliers miles milhares migl migliaia mila mii tys tis tisíc тыс тис
            ezer bin χιλ ribu nghìn 千 천
            """,
        4: "万 萬 만",
        5: "lakh lakhs lac lacs 十万 십만",
        6: """
            m million millions millionen millioner miljoner miljoen millones milhões milhoes
            milioni milioane mill mio mln млн milyon juta triệu 百万 백만
            """,
    }
)
"""Powers of ten by their names, as they stand before a microliter. Their case tells nothing."""
_NUMERALS_PER_LITER: Final = _numbered(
    {
        6: "million millions mega mpt",
        9: "giga gpt billion billions mrd milliarden mia milliarder млрд",
        12: "tera téra tpt trillion trillions",
    }
)
_LETTERS_PER_LITER: Final = {"G": 9, "Г": 9, "T": 12, "Т": 12}
"""Giga and tera, Latin and Cyrillic: in lower case they are gram and ton."""
_MAGNITUDES: Final = {"g", "t"}.union(_NUMERALS, _NUMERALS_PER_LITER)

_POWERS: Final[dict[int, range | tuple[int, ...]]] = {
    _LITER: range(6, 13),
    _MILLILITER: (6,),
    _MICROLITER: (0, 2, 3, 4, 5, 6),
    _NANOLITER: (0,),
    _PICOLITER: (0,),
}
"""The powers of ten laboratories count in, for each volume; any other is likelier an error."""
_LOST_SUPERSCRIPTS: Final = {
    _LITER: {"109": 9, "1012": 12},
    _MICROLITER: {"103": 3, "104": 4, "106": 6},
}
"""10³ that has become 103 on its way: no laboratory counts by the hundred and three."""
_LOST_SLASH: Final = _words("cumm cmm ul mcl")

_POWER: Final = re.compile(
    r"10(?:(?:\*\*?|\^\+?|~|e\+?|exp|x|\+)([0-9]{1,2})|[*^e]?\(([0-9]{1,2})\))|1?e\+?([0-9]{1,2})"
)
_ROUND_NUMBER: Final = re.compile("1(0*)")
_UCUM_COUNT: Final = re.compile(r"(?:1|10[*^](?:[2-9]|1[0-2]))?/(?:[munp]?[lL]|mm3)")
_UCUM_ANNOTATION: Final = re.compile(r"\.?\{[!-z|~]*\}")

_GRAMS: Final = _words("g gm gms gr grs gram grams gramm gramme grammes gramo gramos grammi г гр")
_MILLIMOLES: Final = _words("mmol MMOL millimole ммоль")
_DECILITERS: Final = _words(
    """
    dl deciliter deciliters decilitre decilitres decilitro deziliter дл
    100ml 100milliliter 100milliliters 100мл %
    """
)
_MASS_FACTORS: Final = {_LITER: Decimal("0.1"), _MILLILITER: Decimal(100)}

_FRACTIONS: Final = {
    text: Decimal(factor)
    for factor, texts in (
        ("1", "% percent pct prozent procent"),
        ("0.1", "‰ permille perthousand promille permil промилле 0/00 o/oo °/oo °/00"),
        ("0.1", "10^-3 10*-3 10e-3 x10^-3 x10*-3 x10e-3 ×10^-3 e-3"),
        ("100", "ratio fraction"),
    )
    for text in texts.split()
}
_OF: Final = _words("of von de total")
_FRACTIONS_OF: Final = {"100": Decimal(1), "1000": Decimal("0.1")}


def readings(text: str) -> tuple[Unit, ...]:
    """What a unit's text means: one unit for each dimension it can be read in.

    Empty where it would have to be guessed. G/L is giga per liter to a count, and an upper-cased
    gram per liter to a hemoglobin.
    """
    if len(text) > _LONGEST:
        return ()
    if unit := TABLE.get(text):
        return (unit,)
    plain = tidy(text)
    if unit := TABLE.get(plain):
        return (unit._replace(ucum=_is_annotated(text, plain)),)
    bare = _without_annotations(plain)
    if bare is None or not bare:
        return ()
    if unit := TABLE.get(bare):
        return (unit._replace(ucum=_is_annotated(text, bare)),)
    tokens = _TOKEN.findall(bare)
    return tuple(_understood(tokens, text))


def fitting(text: str, row: LoincRow) -> Unit | None:
    """The unit's text read as one that results of this code may come in."""
    return next((unit for unit in readings(text) if unit.fits(row)), None)


def tidy(text: str) -> str:
    """Compatible characters made one; a superscript keeps that it was one."""
    text = _SUPERSCRIPT.sub(lambda found: "^" + normalize("NFKC", found.group()), text)
    text = normalize("NFKC", text)
    for seen, meant in _ALIKE:
        text = text.replace(seen, meant)
    return " ".join(_BRACED_POWER.sub(r"^\1", text).split())


def _is_annotated(text: str, bare: str) -> bool:
    """Whether a text is UCUM: nothing but annotations stands beside the bare unit."""
    return _UCUM_ANNOTATION.sub("", text) == bare


def _without_annotations(text: str) -> str | None:
    """The text without what stands in braces; None where that may be more than a remark.

    To UCUM an annotation means nothing, but whoever writes {thousand}/uL means it.
    """
    for remark in _ANNOTATION.findall(text):
        for token in _TOKEN.findall(remark):
            name = token.casefold()
            if (
                token.isdigit()
                or name in _NUMERALS
                or name in _NUMERALS_PER_LITER
                or name in {"g", "t"}
            ):
                return None
    bare = _ANNOTATION.sub("", text).strip()
    return None if "{" in bare or "}" in bare else bare


def _understood(tokens: Sequence[str], text: str) -> Iterator[Unit]:
    share = _FRACTIONS.get("".join(tokens).casefold()) or _share_of(tokens)
    if share:
        yield Unit(Dimension.FRACTION, share, ucum=False)
        return
    halves = _halves(tokens)
    if halves is None:
        return
    upper, lower = halves
    volume = _volume(lower)
    if volume is not None and (count := _count(upper, volume)):
        factor, only = count
        ucum = bool(_UCUM_COUNT.fullmatch(_UCUM_ANNOTATION.sub("", text)))
        yield Unit(Dimension.NUMBER_CONCENTRATION, factor, ucum, only)
    yield from _amount("".join(upper), lower, volume)


def _share_of(tokens: Sequence[str]) -> Decimal | None:
    """A share of named cells: "% of WBC", "/100 WBC"."""
    named = [t for t in tokens if t not in {"(", ")"}]
    while named and (named[-1].casefold() in _NOUNS or named[-1].casefold() in _OF):
        named.pop()
    if named in (["%"], ["‰"]):
        return _FRACTIONS[named[0]]
    while named and named[0].casefold() in _NOUNS:
        named.pop(0)
    divided = len(named) == 2 and named[0].casefold() in _DIVIDED
    return _FRACTIONS_OF.get(named[1]) if divided else None


def _halves(tokens: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """What is counted or weighed, and the volume it is in; dots that only abbreviate are gone."""
    places = [i for i, token in enumerate(tokens) if token.casefold() in _DIVIDED]
    upper, lower = list(tokens), list[str]()
    if len(places) == 1:
        upper, lower = upper[: places[0]], upper[places[0] + 1 :]
    elif places:
        return None
    elif tokens[-2:] == ["-", "1"]:
        upper = upper[:-2]
        if upper and upper[-1] == "^":
            upper.pop()
        lower = [upper.pop()] if upper else []
    elif tokens[-1] == "%":
        upper, lower = upper[:-1], ["%"]
    elif tokens[0].isdigit() or tokens[0] in _TIMES:
        # The slash was lost: 10X3CUMM.
        lower = [upper.pop()]
        if lower[0].casefold() not in _LOST_SLASH:
            return None
    upper, lower = _without_dots(upper), _without_dots(lower)
    return (upper, lower) if lower else None


def _without_dots(tokens: Sequence[str]) -> list[str]:
    return [
        token for i, token in enumerate(tokens) if token not in _DOTS or _between_digits(tokens, i)
    ]


def _between_digits(tokens: Sequence[str], i: int) -> bool:
    return 0 < i < len(tokens) - 1 and tokens[i - 1].isdigit() and tokens[i + 1].isdigit()


def _volume(tokens: Sequence[str]) -> int | None:
    """How many powers of ten a liter is of the volume."""
    some = list(tokens)
    while some and some[-1].casefold() in _NOUNS:
        some.pop()
    name = "".join(some)
    volume = _CASED_VOLUMES.get(name)
    if volume is None and not name.startswith("Mm"):  # UCUM's megameter
        return _VOLUMES.get(name.casefold())
    return volume


def _count(upper: Sequence[str], volume: int) -> tuple[Decimal, frozenset[Analyte] | None] | None:
    """The factor to 10*9/L, and for whom alone it is believed."""
    some = list(upper)
    for end in (0, -1):
        while some and some[end].casefold() in _NOUNS:
            some.pop(end)
    if some and some[0] in _TIMES:
        some.pop(0)
        if not some:
            return None
    name = "".join(some)
    power = _in_digits(name, volume)
    spelled = _in_words(name, volume) if power is None else None
    exponent = spelled if power is None else power
    if exponent is None:
        return None
    only = _COUNTED_IN_MILLIONS if spelled is not None and exponent + volume == 12 else None
    return _ten_to(exponent + volume - 9), only


def _in_digits(name: str, volume: int) -> int | None:
    """The power of ten of a magnitude in digits; that of nothing at all is 0."""
    lost = _LOST_SUPERSCRIPTS.get(volume, {}).get(name)
    if lost is not None:
        return lost
    if found := _POWER.fullmatch(name.lower()):
        power = int(found[1] or found[2] or found[3])
    elif found := _ROUND_NUMBER.fullmatch(name):
        power = len(found[1])
    elif not name:
        power = 0
    else:
        return None
    return power if power in _POWERS[volume] and (power > 0 or name in {"", "1"}) else None


def _in_words(name: str, volume: int) -> int | None:
    if volume == _MICROLITER:
        return _NUMERALS.get(name.casefold())
    if volume == _LITER:
        return _LETTERS_PER_LITER.get(name) or _NUMERALS_PER_LITER.get(name.casefold())
    # A short word for a million beside a milliliter is likelier one beside a microliter.
    in_full = volume == _MILLILITER and name.casefold() in {"million", "millions"}
    return 6 if in_full else None


def _ten_to(power: int) -> Decimal:
    """Without an exponent, which would show in an answer."""
    return Decimal(10**power) if power >= 0 else Decimal(1).scaleb(power)


def _amount(name: str, lower: Sequence[str], volume: int | None) -> Iterator[Unit]:
    """An amount of hemoglobin in a volume, by mass or by moles."""
    in_deciliters = "".join(lower).casefold() in _DECILITERS
    factor = Decimal(1) if in_deciliters else _MASS_FACTORS.get(-1 if volume is None else volume)
    if name in _MILLIMOLES and volume == _LITER:
        molar = Decimal(GRAMS_PER_DECILITER_IN_MMOL_PER_LITER)
        yield Unit(Dimension.MOLAR_CONCENTRATION, molar, ucum=False)
    elif factor and name.casefold() in _GRAMS:
        yield Unit(Dimension.MASS_CONCENTRATION, factor, ucum=False)
    elif factor and name == "mg" and volume != _LITER and lower != ["%"]:
        yield Unit(Dimension.MASS_CONCENTRATION, _ten_to(-3) * factor, ucum=False)
