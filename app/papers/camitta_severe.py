"""Severe and very severe aplastic anemia by peripheral counts (Camitta 1976)."""

from decimal import Decimal

from app.domain.counts import Analyte
from app.domain.limits import Below
from app.domain.paper import Citation, Paper, depressed
from app.domain.rules import Criterion, all_of, at_least

_CITATION = Citation(
    text="Camitta BM, Thomas ED, Nathan DG, et al. Severe aplastic anemia: a prospective study of "
    "the effect of early marrow transplantation on acute mortality. Blood 1976;48(1):63-70.",
    url="https://pubmed.ncbi.nlm.nih.gov/779871/",
)
_SOURCE = "Camitta 1976, as restated by the British Society for Haematology guideline"

NEUTROPHILS = depressed(
    Below(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("0.5")), "neutrophils < 0.5 x 10^9/L", _SOURCE
)
PLATELETS = depressed(Below(Analyte.PLATELETS, Decimal("20")), "platelets < 20 x 10^9/L", _SOURCE)
RETICULOCYTES = depressed(
    Below(Analyte.RETICULOCYTES, Decimal("60"), manual=Decimal("20"), disputed=True),
    "reticulocytes < 20 x 10^9/L counted by hand, < 60 x 10^9/L automated",
    _SOURCE,
)
SEVERE_BY_COUNTS = at_least(2, NEUTROPHILS, PLATELETS, RETICULOCYTES)

_MARROW = (
    "marrow cellularity below 25%, or 25-50% with fewer than 30% residual hematopoietic cells",
)

SEVERE = Paper(
    id="camitta-severe-1976",
    version="1.0.0",
    title="Severe aplastic anemia (Camitta 1976)",
    finding="severe aplastic anemia",
    citation=_CITATION,
    eligibility=SEVERE_BY_COUNTS,
    also_requires=_MARROW,
)

VERY_SEVERE = Paper(
    id="very-severe",
    version="1.0.0",
    title="Very severe aplastic anemia",
    finding="very severe aplastic anemia",
    citation=_CITATION,
    eligibility=all_of(
        SEVERE_BY_COUNTS,
        Criterion(
            code="neutrophils-very-low",
            title="Neutrophils very low",
            rule=Below(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("0.2")),
            wording="as severe aplastic anemia, with neutrophils < 0.2 x 10^9/L",
            source="British Society for Haematology guideline, definition of severity",
        ),
    ),
    also_requires=_MARROW,
)
