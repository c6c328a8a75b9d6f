"""The counts that Japan's Ministry of Health asks for to diagnose aplastic anemia."""

from decimal import Decimal

from app.domain.chart import Cause, Exclusion
from app.domain.counts import Analyte
from app.domain.limits import Below
from app.domain.paper import Citation, Paper, depressed
from app.domain.rules import at_least

_SOURCE = "Ministry of Health, Labour and Welfare of Japan, diagnostic criteria (revised 2010), A"

PAPER = Paper(
    id="mhlw-diagnosis",
    version="1.0.0",
    title="Aplastic anemia, diagnostic counts (Japan)",
    finding="aplastic anemia by counts",
    citation=Citation(
        text="Ministry of Health, Labour and Welfare of Japan. Idiopathic aplastic anemia, "
        "diagnostic criteria of the designated intractable diseases (revised 2010).",
        url="https://www.mhlw.go.jp/stf/newpage_25626.html",
    ),
    eligibility=at_least(
        2,
        depressed(
            Below(Analyte.HEMOGLOBIN, Decimal("10.0")), "hemoglobin below 10.0 g/dL", _SOURCE
        ),
        depressed(
            Below(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("1.5")),
            "neutrophils below 1500/uL",
            _SOURCE,
        ),
        depressed(Below(Analyte.PLATELETS, Decimal("100")), "platelets below 100 000/uL", _SOURCE),
    ),
    also_requires=(
        "marrow findings: fewer nucleated cells (or fewer megakaryocytes and more lymphocytes) "
        "without marked dysplasia, or less hematopoiesis in the biopsy",
        "no other disease that explains the pancytopenia, such as leukemia, myelodysplastic "
        "syndrome, myelofibrosis or paroxysmal nocturnal hemoglobinuria",
    ),
    exclusions=tuple(
        Exclusion(cause, "no other disease that explains the pancytopenia", _SOURCE)
        for cause in (
            Cause.LEUKEMIA,
            Cause.MYELODYSPLASIA,
            Cause.MYELOFIBROSIS,
            Cause.NOCTURNAL_HEMOGLOBINURIA,
        )
    ),
)
