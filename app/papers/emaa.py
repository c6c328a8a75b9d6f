"""Moderate aplastic anemia as the EMAA trial defines it (NCT02773225)."""

from decimal import Decimal

from app.domain.chart import Cause, Exclusion
from app.domain.counts import Analyte
from app.domain.limits import Above, Below
from app.domain.paper import Citation, Paper, depressed
from app.domain.rules import Criterion, Not, all_of, at_least
from app.papers.nih_daclizumab_2003 import OTHER_DISEASES

_SOURCE = "ClinicalTrials.gov NCT02773225, inclusion criteria"
_NEUTROPHILS = Analyte.ABSOLUTE_NEUTROPHIL_COUNT

PAPER = Paper(
    id="emaa",
    version="1.0.0",
    title="Moderate aplastic anemia (EMAA trial)",
    finding="moderate aplastic anemia",
    citation=Citation(
        text="Efficacy and safety of eltrombopag + ciclosporin in patients with moderate aplastic "
        "anemia (EMAA). NCT02773225.",
        url="https://clinicaltrials.gov/study/NCT02773225",
    ),
    eligibility=all_of(
        at_least(
            2,
            depressed(
                all_of(Below(_NEUTROPHILS, Decimal("1.2")), Above(_NEUTROPHILS, Decimal("0.5"))),
                "absolute neutrophil count < 1.2 G/L and > 0.5 G/L",
                _SOURCE,
            ),
            depressed(Below(Analyte.PLATELETS, Decimal("70")), "platelet count < 70 G/L", _SOURCE),
            depressed(
                Below(Analyte.RETICULOCYTES, Decimal("60")),
                "absolute reticulocyte count < 60 G/L",
                _SOURCE,
            ),
        ),
        Criterion(
            code="not-severe",
            title="Not severe by counts",
            rule=Not(
                at_least(
                    2,
                    Below(_NEUTROPHILS, Decimal("0.5")),
                    Below(Analyte.PLATELETS, Decimal("20")),
                    Below(Analyte.RETICULOCYTES, Decimal("20"), disputed=True),
                )
            ),
            wording="not two of: neutrophils < 0.5, platelets < 20, reticulocytes < 20 G/L",
            source=_SOURCE + ", definition of severe aplastic anemia",
            excludes_severe=True,
        ),
    ),
    also_requires=(
        "a hypocellular bone marrow for the age",
        "no evidence of another disease that causes marrow failure",
        "age of at least 18 years and a need for treatment",
    ),
    least_age_years=18,
    exclusions=tuple(
        Exclusion(cause, "no evidence of another disease that causes marrow failure", _SOURCE)
        for cause in (Cause.MYELODYSPLASIA, *(one.cause for one in OTHER_DISEASES))
    ),
)
