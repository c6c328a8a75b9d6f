"""Moderate aplastic anemia as the NIH daclizumab pilot trial defined it (Blood 2003)."""

from app.domain.assessment import Citation, Paper
from app.domain.counts import Analyte, Product
from app.domain.rules import (
    AtMost,
    Criterion,
    Not,
    TransfusionDependent,
    all_of,
    any_of,
    at_least,
)
from app.papers.camitta_severe import SEVERE_BY_COUNTS

_ABSTRACT = "Blood 2003;102(10):3584, abstract, definition of moderate aplastic anemia"

NEUTROPHILS = Criterion(
    code="neutrophils-depressed",
    title="Neutrophils depressed",
    rule=AtMost(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, "1.2"),
    wording="absolute neutrophil count <= 1200/mm3",
    source=_ABSTRACT,
)
PLATELETS = Criterion(
    code="platelets-depressed",
    title="Platelets depressed",
    rule=AtMost(Analyte.PLATELETS, "70"),
    wording="platelet count <= 70 000/mm3",
    source=_ABSTRACT,
)

_HEMOGLOBIN = AtMost(Analyte.HEMOGLOBIN, "8.5")
_RETICULOCYTES = AtMost(Analyte.RETICULOCYTES, "60")
_BOTH = all_of(_HEMOGLOBIN, _RETICULOCYTES)

RED_CELLS = Criterion(
    code="red-cells-depressed",
    title="Red cells depressed",
    rule=_BOTH,
    wording="hemoglobin <= 8.5 g/dL and absolute reticulocyte count <= 60 000/mm3",
    source=_ABSTRACT,
    policies=(
        ("both", _BOTH),
        (
            "reticulocytes-when-transfused",
            any_of(
                _BOTH,
                all_of(_HEMOGLOBIN, Not(TransfusionDependent(Product.RED_CELLS))),
            ),
        ),
        ("reticulocytes-only", _RETICULOCYTES),
    ),
)
NOT_SEVERE = Criterion(
    code="not-severe",
    title="Not severe by counts",
    rule=Not(SEVERE_BY_COUNTS),
    wording="moderate, in contrast to severe, aplastic anemia: not two of neutrophils < 0.5, "
    "platelets < 20, reticulocytes < 60 (by hand < 20) x 10^9/L",
    source="Blood 2003;102(10):3584, abstract; the sister trial NCT01328587 states the exclusion; "
    "limits of Camitta 1976",
)

PAPER = Paper(
    id="nih-daclizumab-2003",
    version="1.0.0",
    title="Moderate aplastic anemia (NIH daclizumab pilot trial, 2003)",
    finding="moderate aplastic anemia",
    citation=Citation(
        text="Maciejewski JP, et al. Recombinant humanized anti-IL-2 receptor antibody "
        "(daclizumab) produces responses in patients with moderate aplastic anemia. "
        "Blood 2003;102(10):3584-6. NCT00001962.",
        url="https://doi.org/10.1182/blood-2003-04-1032",
    ),
    eligibility=all_of(at_least(2, NEUTROPHILS, PLATELETS, RED_CELLS), NOT_SEVERE),
    also_requires=(
        "a hypocellular bone marrow",
        "no other disease that explains the counts, such as myelodysplastic syndrome, Fanconi "
        "anemia or persistent parvovirus B19 infection",
        "age of at least 2 years and weight above 12 kg",
        "no uncontrolled infection, HIV, hepatitis B or C, heart failure above NYHA class II, or "
        "active chemotherapy",
    ),
    red_cell_policies=("both", "reticulocytes-when-transfused", "reticulocytes-only"),
)
