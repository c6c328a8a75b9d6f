"""Severe aplastic anemia as NIH trials define it (N Engl J Med 2017)."""

from decimal import Decimal

from app.domain.counts import Analyte
from app.domain.limits import AtLeast, Below
from app.domain.paper import Citation, Paper, ResponsePaper, depressed
from app.domain.rules import Criterion, Not, all_of, at_least

_SOURCE = "N Engl J Med 2017;376:1540, Methods, patients (PMC5548296)"

PAPER = Paper(
    id="nih-severe",
    version="1.0.0",
    title="Severe aplastic anemia (NIH)",
    finding="severe aplastic anemia",
    citation=Citation(
        text="Townsley DM, Scheinberg P, Winkler T, et al. Eltrombopag added to standard "
        "immunosuppression for aplastic anemia. N Engl J Med 2017;376:1540-50.",
        url="https://pmc.ncbi.nlm.nih.gov/articles/PMC5548296/",
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
            Below(Analyte.RETICULOCYTES, Decimal("60"), disputed=True),
            "absolute reticulocyte count < 60 000/uL",
            _SOURCE,
        ),
    ),
    also_requires=("marrow cellularity below 30%",),
)

_END_POINTS = "N Engl J Med 2017;376:1540, Methods, end points (PMC5548296)"
_COMPLETE = Criterion(
    code="complete",
    title="Complete response",
    rule=all_of(
        AtLeast(Analyte.ABSOLUTE_NEUTROPHIL_COUNT, Decimal("1.0")),
        AtLeast(Analyte.HEMOGLOBIN, Decimal("10")),
        AtLeast(Analyte.PLATELETS, Decimal("100")),
    ),
    wording="absolute neutrophil count of at least 1000/uL, hemoglobin of at least 10 g/dL and "
    "platelets of at least 100 000/uL",
    source=_END_POINTS,
)

RESPONSE = ResponsePaper(
    id=PAPER.id,
    version=PAPER.version,
    title="Response in severe aplastic anemia (NIH)",
    citation=PAPER.citation,
    response=Criterion(
        code="primary-end-point",
        title="Response, complete or partial",
        rule=Not(PAPER.eligibility),
        wording="partial: no longer meets the criteria of severe aplastic anemia",
        source=_END_POINTS,
    ),
    complete=_COMPLETE,
    entry=PAPER.eligibility,
    also_requires=("assessed at 3 and at 6 months",),
)
