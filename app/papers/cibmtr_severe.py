"""Severe aplastic anemia by counts as the CIBMTR has transplant centers report it."""

from decimal import Decimal

from app.domain.counts import Analyte
from app.domain.limits import Below
from app.domain.paper import Citation, Paper, depressed
from app.domain.rules import at_least

_SOURCE = "CIBMTR Forms Instruction Manual, 2402 Q320-321, severity of aplastic anemia"

PAPER = Paper(
    id="cibmtr-severe",
    version="1.0.0",
    title="Severe aplastic anemia (CIBMTR)",
    finding="severe aplastic anemia",
    citation=Citation(
        text="Center for International Blood and Marrow Transplant Research. Forms Instruction "
        "Manual, Pre-TED Disease Classification (2402), Q320-321: aplastic anemia.",
        url="https://www.manula.com/manuals/cibmtr/fim/1/en/topic/2402q320-321",
    ),
    eligibility=at_least(
        2,
        depressed(
            Below(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("0.5")),
            "absolute neutrophil count < 500/uL",
            _SOURCE,
        ),
        depressed(Below(Analyte.PLATELETS, Decimal("20")), "platelet count < 20 000/uL", _SOURCE),
        depressed(
            Below(Analyte.RETICULOCYTES, Decimal("20"), disputed=True),
            "reticulocyte count < 20 000/uL, by hand or automated (no method is named)",
            _SOURCE,
        ),
    ),
    also_requires=(
        "marrow cellularity below 25%, or 25-50% with fewer than 30% residual hematopoietic cells",
        "counts of the time of diagnosis",
    ),
)
