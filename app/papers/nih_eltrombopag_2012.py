"""Response as the NIH eltrombopag trial counted it (N Engl J Med 2012); unverified."""

from decimal import Decimal

from app.domain.counts import Analyte, Product
from app.domain.limits import Below
from app.domain.paper import Citation, Lineage, ResponsePaper
from app.domain.recovery import Doubled, Rise
from app.domain.rules import AtBaseline, Criterion, all_of, any_of
from app.domain.transfusions import FewerUnits, independence_gained

_SOURCE = "N Engl J Med 2012;367:11, end points, as the field knows them: not read again by us"
_ANC = Analyte.ABSOLUTE_NEUTROPHIL_COUNT

_NEUTROPHILS = Criterion(
    code="neutrophil-response",
    title="Neutrophil response",
    rule=any_of(
        all_of(AtBaseline(Below(_ANC, Decimal("0.5"))), Doubled(_ANC)),
        Rise(_ANC, Decimal("0.5"), more_than=True),
    ),
    wording="a rise of 100% or more (if < 0.5), or of more than 0.5 x 10^9/L",
    source=_SOURCE,
)
_PLATELETS = Criterion(
    code="platelet-response",
    title="Platelet response",
    rule=any_of(
        Rise(Analyte.PLATELETS, Decimal("20")),
        independence_gained(Product.PLATELETS),
    ),
    wording="a rise of 20 x 10^9/L or more, or independence of platelet transfusions for 8 weeks",
    source=_SOURCE,
)
_RED_CELLS = Criterion(
    code="red-cell-response",
    title="Red-cell response",
    rule=any_of(
        all_of(
            AtBaseline(Below(Analyte.HEMOGLOBIN, Decimal("9"))),
            Rise(Analyte.HEMOGLOBIN, Decimal("1.5")),
        ),
        FewerUnits(Product.RED_CELLS, 4),
    ),
    wording="a rise of hemoglobin of 1.5 g/dL or more (if < 9), or 4 or more red-cell units fewer "
    "per 8 weeks",
    source=_SOURCE,
)

RESPONSE = ResponsePaper(
    id="nih-eltrombopag-2012",
    version="1.0.0",
    title="Response by lineage (NIH eltrombopag trial, 2012)",
    citation=Citation(
        text="Olnes MJ, Scheinberg P, Calvo KR, et al. Eltrombopag and improved hematopoiesis in "
        "refractory aplastic anemia. N Engl J Med 2012;367:11-9.",
        url="https://doi.org/10.1056/NEJMoa1200931",
    ),
    response=Criterion(
        code="primary-end-point",
        title="Response in at least one lineage",
        rule=any_of(_NEUTROPHILS, _PLATELETS, _RED_CELLS),
        wording="a response in at least one lineage",
        source=_SOURCE,
    ),
    lineages=(
        Lineage(_ANC, None, _NEUTROPHILS),
        Lineage(Analyte.PLATELETS, None, _PLATELETS),
        Lineage(Analyte.HEMOGLOBIN, None, _RED_CELLS),
    ),
    verified=False,
)
