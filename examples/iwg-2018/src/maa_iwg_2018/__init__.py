"""Hematologic improvement in myelodysplastic syndromes as IWG 2018 proposes it: an example.

Blood 2019;133:1020, Table 2 (HI-E) and Table 3 (HI-P, HI-N). README.md says what is simplified.
"""

from decimal import Decimal

from maa_assess.domain.counts import Analyte, Product
from maa_assess.domain.limits import Above, Below
from maa_assess.domain.paper import Citation, Lineage, ResponsePaper
from maa_assess.domain.recovery import Doubled, Rise
from maa_assess.domain.rules import AtBaseline, Criterion, Not, all_of, any_of
from maa_assess.domain.transfusions import TransfusionIndependent, TransfusionsNeeded

_ANC = Analyte.ABSOLUTE_NEUTROPHIL_COUNT
_TRANSFUSED = TransfusionsNeeded(Product.RED_CELLS)

_ERYTHROID = Criterion(
    code="red-cell-response",
    title="Red-cell response",
    rule=any_of(
        all_of(AtBaseline(Not(_TRANSFUSED)), Rise(Analyte.HEMOGLOBIN, Decimal("1.5"))),
        all_of(AtBaseline(_TRANSFUSED), TransfusionIndependent(Product.RED_CELLS)),
    ),
    wording="HI-E: not transfused, hemoglobin >= 1.5 g/dL over the baseline for a period of at "
    "least 8 weeks; transfused, absence of any transfusions for at least 8 weeks",
    source="Blood 2019;133:1020, Table 2",
)
_PLATELETS = Criterion(
    code="platelet-response",
    title="Platelet response",
    rule=any_of(
        all_of(
            AtBaseline(Above(Analyte.PLATELETS, Decimal("20"))),
            Rise(Analyte.PLATELETS, Decimal("30")),
        ),
        all_of(
            AtBaseline(Below(Analyte.PLATELETS, Decimal("20"))),
            Above(Analyte.PLATELETS, Decimal("20")),
            Doubled(Analyte.PLATELETS),
        ),
    ),
    wording="HI-P: an increase of 30 x 10^9/L (from > 20), or from < 20 to > 20 x 10^9/L and by "
    "at least 100%",
    source="Blood 2019;133:1020, Table 3",
)
_NEUTROPHILS = Criterion(
    code="neutrophil-response",
    title="Neutrophil response",
    rule=all_of(Doubled(_ANC), Rise(_ANC, Decimal("0.5"), more_than=True)),
    wording="HI-N: at least 100% increase and an absolute increase > 0.5 x 10^9/L",
    source="Blood 2019;133:1020, Table 3",
)
_LINEAGES = (
    Lineage(_ANC, Below(_ANC, Decimal("1.0")), _NEUTROPHILS),
    Lineage(Analyte.PLATELETS, Below(Analyte.PLATELETS, Decimal("100")), _PLATELETS),
    Lineage(Analyte.HEMOGLOBIN, None, _ERYTHROID),
)

RESPONSE = ResponsePaper(
    id="iwg-2018",
    version="1.0.0",
    title="Hematologic improvement (IWG 2018, simplified example)",
    citation=Citation(
        text="Platzbecker U, Fenaux P, Adès L, et al. Proposals for revised IWG 2018 hematological "
        "response criteria in patients with MDS included in clinical trials. "
        "Blood 2019;133:1020-30.",
        url="https://doi.org/10.1182/blood-2018-06-857102",
    ),
    response=Criterion(
        code="primary-end-point",
        title="Hematologic improvement in at least one lineage",
        rule=any_of(
            _ERYTHROID,
            *(
                all_of(AtBaseline(line.affected), line.responded)
                for line in _LINEAGES
                if line.affected
            ),
        ),
        wording="HI-E, HI-P (pretreatment < 100) or HI-N (pretreatment < 1.0 x 10^9/L)",
        source="Blood 2019;133:1020, Tables 2 and 3",
    ),
    lineages=_LINEAGES,
    # The observation period of 16 to 24 weeks.
    days=(112, 168),
    confirmed_after_days=56,
    independence_days=56,
    also_requires=(
        "the same transfusion policy as before treatment",
        "a response of at least 16 weeks to be clinically meaningful",
        "bleeding symptoms are to be taken into account",
        "simplified: see README.md of this example",
    ),
    short="IWG 2018",
    verified=False,
)
PAPERS = (RESPONSE,)
