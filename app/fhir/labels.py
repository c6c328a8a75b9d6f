"""Whether the words beside a code that is not known name a blood count, in many languages."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import normalize

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
