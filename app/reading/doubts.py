# ruff: noqa: RUF001 the letters of other scripts are meant
"""What a laboratory says of a specimen in words: whether a count made of it can be believed."""

from __future__ import annotations

import re
from collections.abc import Container
from enum import Enum
from itertools import islice
from typing import Final
from unicodedata import normalize


class Doubt(Enum):
    """What a remark makes of the counts."""

    CLUMPED = "clumped"
    """Platelets stick together: the analyser counts too few, and the count is a lower bound."""
    SPOILT = "spoilt"
    """Clotted, hemolysed, diluted or contaminated: no count can be believed."""


_LONGEST: Final = 4000
_MOST_WORDS: Final = 50

CLUMPED: Final = (
    r"clump\w*|(?<!anti)(?<!anti-)aggregat\w*|agregad\w*|agregat\w*|agregac\w*|agregaty|kumelen\w*"
    r"|agglutin\w*|aglutin\w*|verklump\w*|klump\w*|samengeklont\w*|grumos?|ammass\w*|amas\b|shluk\w*"
    r"|zlep\w*|satell?it\w*|pseudo-?thrombo[cz]yto\w*|pseudo-?trombocito\w*|агрега\w*|сателлит\w*"
    r"|edta[ -]?(?:effe[ck]t|arte?fa[ck]t|depend|induced|relat|bedingt|abhangig|phenomen)\w*"
    r"|凝集|聚集|응집|edta依存"
)
SPOILT: Final = (
    r"(?<!\w)(?:micro-?)?clot(?:s|ted|ting (?:of|in))?\b|contaminat\w*|contaminad\w*|contamine\w*"
    r"|kontamin\w*|h(?:ae?|e)mol[yi][sz]\w*\b(?! (?:index|screen))"
    r"|hamolytisch\w*\b(?! (?:anam|uram))"
    r"|h(?:ae?|e)molytic (?:specimen|sample)|emoli[sz]\w*|dilut(?:ed|ional|ion with)|verdunnt\w*"
    r"|geronnen\w*|gerinnsel\w*|caillots?|dilue\w*|diluid\w*|diluit\w*|verdund|gestold|stolsel\w*"
    r"|(?<!\w)coagul(?:e|es|ee|ad[ao]s?|at[aoi]|os?|i)\b|(?<!\w)koag(?:el|ul(?:um|a|ier|er)\w*)"
    r"|skrzep\w*|сгуст\w*|сверну\w*|гемоли[зс]\w*|разведен\w*|pihti\w*|凝固|溶血|稀释|希釈|혈전|용혈"
)
_WORD: Final = re.compile(rf"(?P<clumped>{CLUMPED})|(?P<spoilt>{SPOILT})")

# Between a denial and what it denies stand only words like these: "no evidence of platelet clumps",
# but not "not reliable, clumps".
_BETWEEN: Final = (
    r"(?:(?:evidence|signs?|significant|visible|obvious|apparent|any|of|or|and|nor|the|small|large|gross"
    r"|platelets?|plt|thrombo[cz]yt\w*|thrombo[cz]yten|fibrin|seen|specimen|sample|is|are|was|were|been"
    r"|present|detected|hinweise?|auf|fur|sichtbare?n?|von|oder|und|der|die|d|de|du|des|ni|ou|et|signes?"
    r"|se|han|observan?|observaron|detectan?|evidencian?|hay|presencia|y|o|e|plaquetari\w*|plaquettair\w*"
    r"|piastrin\w*|plaquetas?|plaquettes?|trombocit\w*|tromboc[iy]\w*|di|evidenza|segni|presenza|nach"
    r"|av|eller|og|och|тромбоцит\w*|i|lub|plytek"
    rf"|{CLUMPED}|{SPOILT})[\s,/'’-]+){{0,8}}"
)
_DENIED_BEFORE: Final = re.compile(
    r"(?:(?<!\w)(?:no|not|non|none|without|absence|absent|negative for|free of|free from|nil|neg"
    r"|kein\w*|nicht|ohne|pas|sans|aucune?|sin|ningun\w*|ausencia|sem|nao|nenhum\w*|senza"
    r"|nessun\w*|assenza|geen|niet|zonder|ingen|inga|inget|ikke|inte|utan|uden|uten|brak|nie|bez|нет|не|без|yok)"
    rf"[\s,:'’-]+{_BETWEEN}|(?:未见|未見|无|無|没有)[^。,;]{{0,8}})$"
)
_DENIED_AFTER: Final = re.compile(
    r"(?:\s+(?:is|are|was|were|clumps?|aggregates?|seen|present|check|platelets?|тромбоцит\w*|plaquet\w*"
    r"|piastrin\w*|trombo[cs]\w*))*\s*(?:[:=(-]+\s*)?"
    r"(?:(?:none|nil|no|not|absent\w*|neg|negativ[oae]?|nein|keine?|nicht|nie|aucun\w*|nao|ausentes?"
    r"|assent[ei]|ingen|нет|0)(?!\w)(?! (?:excluded|be |ruled|reliab|accura|sure|certain|valid))"
    r"|(?:excluded|ruled out|ausgeschlossen)(?!\w)|-\)"
    r"|[はを]?(?:なし|無し|認めず|認めません|ありません|陰性)|阴性|없음)"
)
_CLAUSE: Final = re.compile(
    r"[.;!\n。；]|(?<!\w)(?:but|however|although|aber|mais|pero|mas|ma|men)(?!\w)"
)


def worst(doubts: Container[Doubt | None]) -> Doubt | None:
    """The doubt that leaves the least of a count."""
    return next((doubt for doubt in (Doubt.SPOILT, Doubt.CLUMPED) if doubt in doubts), None)


def doubt_of(text: str) -> Doubt | None:
    """The doubt a laboratory's remark tells of; None where it denies it, or tells of none.

    The worse of two. No more than 4000 characters and 50 words that may tell of one are looked at.
    """
    plain = re.sub("[\u0300-\u036f]", "", normalize("NFKD", text[:_LONGEST].lower()))
    words = (
        (clause, word)
        for clause in _CLAUSE.split(normalize("NFC", plain))
        for word in _WORD.finditer(clause)
    )
    return worst(
        {
            Doubt.SPOILT if word["spoilt"] else Doubt.CLUMPED
            for clause, word in islice(words, _MOST_WORDS)
            if not _denied(clause, word)
        }
    )


# More than a denial and the words that may stand between it and what it denies.
_REACH: Final = 120
_WORD_BEGUN: Final = re.compile("[a-zа-я]+$")


def _denied(clause: str, word: re.Match[str]) -> bool:
    # The word may be the end of a longer one: Thrombozytenaggregate.
    before = _WORD_BEGUN.sub("", clause[max(0, word.start() - _REACH) : word.start()])
    after = clause[word.end() : word.end() + _REACH]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(after))
