"""Moderate aplastic anemia in children (Howard 2004)."""

from decimal import Decimal

from app.domain.counts import Analyte
from app.domain.limits import Below
from app.domain.paper import Citation, Paper, depressed
from app.domain.rules import at_least
from app.domain.sustained import sustained

_SOURCE = "Pediatr Blood Cancer 2004;43:545, definition of moderate aplastic anemia"

PAPER = Paper(
    id="howard-2004-pediatric",
    version="1.0.0",
    title="Moderate aplastic anemia in children (Howard 2004)",
    finding="moderate aplastic anemia of childhood",
    citation=Citation(
        text="Howard SC, Naidu PE, Hu XJ, et al. Natural history of moderate aplastic anemia in "
        "children. Pediatr Blood Cancer 2004;43:545-51.",
        url="https://doi.org/10.1002/pbc.20131",
    ),
    eligibility=sustained(
        at_least(
            2,
            depressed(
                Below(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("1.5")),
                "absolute neutrophil count < 1.5 x 10^9/L",
                _SOURCE,
            ),
            depressed(
                Below(Analyte.RETICULOCYTES, Decimal("40")),
                "absolute reticulocyte count < 40 x 10^9/L",
                _SOURCE,
            ),
            depressed(
                Below(Analyte.PLATELETS, Decimal("100")), "platelets < 100 x 10^9/L", _SOURCE
            ),
        ),
        days=6 * 7,
        wording="for at least 6 weeks",
        source=_SOURCE,
    ),
    also_requires=(
        "marrow cellularity below 50%",
        "a patient in childhood",
    ),
)
