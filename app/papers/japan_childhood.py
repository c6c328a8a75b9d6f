"""Response in childhood aplastic anemia as the Japanese study group defined it."""

from decimal import Decimal

from app.domain.counts import Analyte, Product
from app.domain.limits import Above
from app.domain.paper import ABOUT_6_MONTHS, Citation, ResponsePaper
from app.domain.rules import Criterion, Not, all_of, any_of
from app.domain.transfusions import TransfusionIndependent

_SOURCE = "Blood 2000;96:2049, Methods, definition of response; moderate disease"

_COMPLETE = Criterion(
    code="complete",
    title="Complete response",
    rule=all_of(
        Above(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("1.5")),
        Above(Analyte.PLATELETS, Decimal("100")),
        Above(Analyte.HEMOGLOBIN, Decimal("11")),
    ),
    wording="neutrophils > 1.5, platelets > 100 x 10^9/L, hemoglobin > 11 g/dL",
    source=_SOURCE,
)
_COUNTS = all_of(
    Above(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("1.0")),
    Above(Analyte.PLATELETS, Decimal("30")),
    Above(Analyte.HEMOGLOBIN, Decimal("8")),
)
_NO_TRANSFUSION = all_of(
    TransfusionIndependent(Product.RED_CELLS), TransfusionIndependent(Product.PLATELETS)
)

RESPONSE = ResponsePaper(
    id="japan-childhood",
    version="1.0.0",
    title="Response in childhood aplastic anemia (Japan)",
    citation=Citation(
        text="Kojima S, Hibi S, Kosaka Y, et al. Immunosuppressive therapy using antithymocyte "
        "globulin, cyclosporine, and danazol with or without human granulocyte "
        "colony-stimulating factor in children with acquired aplastic anemia. "
        "Blood 2000;96:2049-54.",
        url="https://doi.org/10.1182/blood.V96.6.2049",
    ),
    response=Criterion(
        code="primary-end-point",
        title="Response, complete or partial",
        rule=all_of(_COUNTS, _NO_TRANSFUSION),
        wording="partial: neutrophils > 1.0, platelets > 30 x 10^9/L, hemoglobin > 8 g/dL, no "
        "transfusion",
        source=_SOURCE,
    ),
    complete=_COMPLETE,
    relapse=Criterion(
        code="relapse",
        title="Relapse",
        rule=all_of(
            Not(_COUNTS),
            any_of(
                Not(TransfusionIndependent(Product.RED_CELLS)),
                Not(TransfusionIndependent(Product.PLATELETS)),
            ),
        ),
        wording="counts back to moderate or severe and transfusion needed",
        source=_SOURCE,
    ),
    days=(ABOUT_6_MONTHS[0], ABOUT_6_MONTHS[-1]),
    also_requires=(
        "assessed at 6 months: the best assessment from day 150 to day 210 (our reading)",
    ),
)
