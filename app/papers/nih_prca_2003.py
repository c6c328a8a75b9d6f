"""Pure red cell aplasia as the NIH daclizumab protocol entered it (NCT00001962)."""

from decimal import Decimal

from app.domain.chart import Cause, Exclusion
from app.domain.counts import Analyte, Product
from app.domain.limits import AtMost
from app.domain.paper import Citation, Paper, depressed
from app.domain.rules import Criterion, all_of
from app.domain.transfusions import TransfusionsNeeded
from app.papers.nih_daclizumab_2003 import EXCLUSIONS

_SOURCE = "ClinicalTrials.gov NCT00001962, inclusion criteria"

PAPER = Paper(
    id="nih-prca-2003",
    version="1.0.0",
    title="Pure red cell aplasia (NIH daclizumab protocol)",
    finding="pure red cell aplasia by counts",
    citation=Citation(
        text="A study to determine whether therapy with daclizumab will benefit patients with "
        "bone marrow failure, pure red cell aplasia arm. NCT00001962.",
        url="https://clinicaltrials.gov/study/NCT00001962",
    ),
    eligibility=all_of(
        depressed(
            AtMost(Analyte.RETICULOCYTES, Decimal("50")),
            "reticulocyte count <= 50 000/mm3",
            _SOURCE,
        ),
        Criterion(
            code="red-cells-needed",
            title="Red cells needed",
            rule=TransfusionsNeeded(Product.RED_CELLS),
            wording="requiring red blood cell transfusions",
            source=_SOURCE,
        ),
    ),
    also_requires=(
        "the registry tells neither how many transfusions are a need, nor in what time: red cells "
        "given in the 8 weeks before are read as one (our reading)",
        "anemia, for which the registry prints no hemoglobin",
        "absent or decreased erythroid precursors in the marrow",
        "acquired disease, no myelodysplastic syndrome, Fanconi anemia or persistent parvovirus "
        "B19 infection",
        "age of at least 2 years and weight above 12 kg",
    ),
    least_age_years=2,
    above_weight_kg=Decimal(12),
    exclusions=(
        *EXCLUSIONS,
        Exclusion(Cause.DIAMOND_BLACKFAN_ANEMIA, "acquired pure red cell aplasia", _SOURCE),
    ),
)
