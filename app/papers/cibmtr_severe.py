"""Severe aplastic anemia by counts as the CIBMTR has transplant centers report it."""

from decimal import Decimal

from app.domain.counts import Analyte
from app.domain.limits import Below
from app.domain.paper import Citation, Paper
from app.domain.rules import Criterion, at_least

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
        Criterion(
            code="neutrophils-depressed",
            title="Neutrophils depressed",
            rule=Below(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("0.5")),
            wording="absolute neutrophil count < 500/uL",
            source=_SOURCE,
        ),
        Criterion(
            code="platelets-depressed",
            title="Platelets depressed",
            rule=Below(Analyte.PLATELETS, Decimal("20")),
            wording="platelet count < 20 000/uL",
            source=_SOURCE,
        ),
        Criterion(
            code="reticulocytes-depressed",
            title="Reticulocytes depressed",
            rule=Below(Analyte.RETICULOCYTES, Decimal("20"), disputed=True),
            wording="reticulocyte count < 20 000/uL, by hand or automated (no method is named)",
            source=_SOURCE,
        ),
    ),
    also_requires=(
        "marrow cellularity below 25%, or 25-50% with fewer than 30% residual hematopoietic cells",
        "counts of the time of diagnosis",
    ),
)
