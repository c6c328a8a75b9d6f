"""The counts the British Society for Haematology asks for to diagnose aplastic anemia."""

from decimal import Decimal

from app.domain.counts import Analyte
from app.domain.limits import Below
from app.domain.paper import Citation, Paper, depressed
from app.domain.rules import at_least

_SOURCE = "British Society for Haematology guideline, definition of aplastic anaemia"

PAPER = Paper(
    id="bsh-diagnosis",
    version="1.0.0",
    title="Aplastic anemia, diagnostic counts (BSH)",
    finding="aplastic anemia by counts",
    citation=Citation(
        text="Killick SB, Bown N, Cavenagh J, et al. Guidelines for the diagnosis and management "
        "of adult aplastic anaemia. Br J Haematol 2016;172:187-207.",
        url="https://doi.org/10.1111/bjh.13853",
    ),
    eligibility=at_least(
        2,
        depressed(Below(Analyte.HEMOGLOBIN, Decimal("10")), "hemoglobin < 100 g/L", _SOURCE),
        depressed(Below(Analyte.PLATELETS, Decimal("50")), "platelets < 50 x 10^9/L", _SOURCE),
        depressed(
            Below(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("1.5")),
            "neutrophils < 1.5 x 10^9/L",
            _SOURCE,
        ),
    ),
    also_requires=(
        "a hypocellular bone marrow without abnormal infiltrate or marrow fibrosis",
        "non-severe disease is what is not severe by camitta-severe-1976",
    ),
)
