"""Response in non-severe aplastic anemia as Camitta proposed (Acta Haematol 2000); unverified."""

from decimal import Decimal

from app.domain.counts import Analyte, Product
from app.domain.limits import Above, Below
from app.domain.paper import Citation, Lineage, ResponsePaper
from app.domain.recovery import Doubled, Normal, Rise
from app.domain.rules import AtBaseline, Criterion, Not, Rule, all_of, any_of
from app.domain.transfusions import independence_gained

_SOURCE = "Acta Haematol 2000;103:16, as the field knows it: not read again by us"


def _line(analyte: Analyte, if_below: str, rise: str, *other_ways: Rule) -> Rule:
    """Normalised, doubled, or risen from a very low baseline."""
    return any_of(
        Normal(analyte),
        Doubled(analyte),
        all_of(
            AtBaseline(Below(analyte, Decimal(if_below))),
            Rise(analyte, Decimal(rise), more_than=True),
        ),
        *other_ways,
    )


def _lineage(code: str, title: str, analyte: Analyte, rule: Rule) -> Lineage:
    wording = "transfusion independence, doubling or normalisation, or a rise over the baseline"
    return Lineage(analyte, Not(Normal(analyte)), Criterion(code, title, rule, wording, _SOURCE))


_LINEAGES = (
    _lineage(
        "neutrophil-response",
        "Neutrophil response",
        Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
        _line(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, "0.5", "0.5"),
    ),
    _lineage(
        "platelet-response",
        "Platelet response",
        Analyte.PLATELETS,
        _line(Analyte.PLATELETS, "20", "20", independence_gained(Product.PLATELETS)),
    ),
    _lineage(
        "red-cell-response",
        "Red-cell response",
        Analyte.HEMOGLOBIN,
        _line(Analyte.HEMOGLOBIN, "6", "3.0", independence_gained(Product.RED_CELLS)),
    ),
)
_COMPLETE = Criterion(
    code="complete",
    title="Complete response",
    rule=all_of(
        Normal(Analyte.HEMOGLOBIN),
        Above(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("1.5")),
        Above(Analyte.PLATELETS, Decimal("150")),
    ),
    wording="hemoglobin normal for age and sex, neutrophils > 1.5, platelets > 150 x 10^9/L",
    source=_SOURCE,
)

RESPONSE = ResponsePaper(
    id="camitta-2000-non-severe",
    version="1.0.0",
    title="Response in non-severe aplastic anemia (Camitta 2000)",
    citation=Citation(
        text="Camitta BM. What is the definition of cure for aplastic anemia? "
        "Acta Haematol 2000;103:16-8.",
        url="https://doi.org/10.1159/000040999",
    ),
    response=Criterion(
        code="primary-end-point",
        title="Response, complete or partial",
        rule=any_of(
            *(all_of(AtBaseline(Not(Normal(one.analyte))), one.responded) for one in _LINEAGES),
        ),
        wording="transfusion independence, or doubling or normalisation of at least one line, or "
        "a rise of hemoglobin > 3.0 g/dL (if < 6), neutrophils > 0.5 (if < 0.5), "
        "platelets > 20 x 10^9/L (if < 20)",
        source=_SOURCE,
    ),
    complete=_COMPLETE,
    lineages=_LINEAGES,
    confirmed_after_days=28,
    also_requires=(
        "two or more counts at least 4 weeks apart agree, off growth factors: a response that "
        "no other count confirms stays open",
    ),
    verified=False,
)
