"""Our tables as SQL-on-FHIR v2 ViewDefinitions, for whoever has a runner of those.

A ViewDefinition is a logical model, and no resource of R4: it is not served beside the definitions,
but printed (`maa-assess views NAME`). Only what the specification asks of every runner is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from app.domain.counts import Analyte
from app.domain.rules import criteria_of
from app.fhir.canonicals import ASSESSMENT_SYSTEM, BASE, CRITERION_SYSTEM
from app.fhir.codes import ANALYTE_LOINC, LOINC
from app.fhir.components import CHART_COMPONENTS, RESPONSE_TABLE
from app.fhir.json import Json
from app.fhir.ucum import UCUM, UNITS
from app.papers import PUBLISHED

_MODEL: Final = "https://sql-on-fhir.org/ig/StructureDefinition"
_STANDING: Final = ("final", "amended", "corrected")
_QUANTITY: Final = "value.ofType(Quantity)"
_CODE: Final = "value.ofType(CodeableConcept).coding.code.first()"


def _view(name: str, title: str, where: str, columns: Iterable[Json], *selects: Json) -> Json:
    return {
        "resourceType": f"{_MODEL}/ViewDefinition",
        "meta": {
            "profile": [
                f"{_MODEL}/ShareableViewDefinition",
                f"{_MODEL}/TabularViewDefinition",
            ]
        },
        "url": f"{BASE}/ViewDefinition/{name.replace('_', '-')}",
        "name": name,
        "title": title,
        "status": "active",
        "resource": "Observation",
        "fhirVersion": ["4.0.1", "4.3.0"],
        "select": [{"column": list(columns)}, *selects],
        "where": [{"path": where}],
    }


def _column(name: str, path: str, kind: str = "string") -> Json:
    return {"name": name, "path": path, "type": kind}


def _any(element: str, values: Iterable[str]) -> str:
    return " or ".join(f"{element} = '{value}'" for value in values)


_WHOSE: Final = (
    _column("patient", "subject.reference"),
    _column("patient_identifier", "subject.identifier.value.first()"),
)


def blood_counts() -> Json:
    """Results that are a quantity under a LOINC code and a UCUM unit that are read here.

    It repairs nothing, sets nothing aside, and takes no value from another resource.
    """
    analytes = dict.fromkeys(row.analyte for row in ANALYTE_LOINC)
    return _view(
        "blood_counts",
        "Blood counts, of plain Observations",
        _any("status", _STANDING),
        [
            *_WHOSE,
            _column("resource_id", "id", "id"),
            _column("status", "status", "code"),
            _column("effective", "effective.ofType(dateTime)", "dateTime"),
        ],
        {"unionAll": [_counts(one) for one in analytes if one is not Analyte.BODY_WEIGHT]},
    )


def _counts(analyte: Analyte) -> Json:
    """The results of one analyte, in its unit."""
    rows = [row for row in ANALYTE_LOINC if row.analyte is analyte]
    coding = f"code.coding.where(system = '{LOINC}' and ({_any('code', (r.code for r in rows))}))"
    factors: dict[str, list[str]] = {}
    dimensions = {row.dimension for row in rows}
    for unit in UNITS:
        if unit.dimension in dimensions:
            factors.setdefault(str(unit.factor), []).append(unit.text)
    values = {
        factor: f"{_QUANTITY}.where(system = '{UCUM}' and ({_any('code', units)})).value"
        for factor, units in factors.items()
    }
    value = " | ".join(
        path if factor == "1" else f"({path} * {factor})" for factor, path in values.items()
    )
    return {
        "forEach": f"where({coding}.exists() and {_QUANTITY}.value.exists())",
        "column": [
            _column("analyte", f"'{analyte.name.lower()}'"),
            _column("loinc", f"{coding}.code.first()", "code"),
            _column("value", value, "decimal"),
            _column("comparator", f"{_QUANTITY}.comparator", "code"),
            _column("unit", f"'{analyte.unit}'"),
            _column("sent_value", f"{_QUANTITY}.value", "decimal"),
            _column("sent_unit", f"{_QUANTITY}.code", "code"),
        ],
    }


def eligibility() -> Json:
    """The verdicts of `assessments.ndjson`, with the answer to each criterion of any definition."""
    criteria = dict.fromkeys(
        criterion.code for paper in PUBLISHED for criterion in criteria_of(paper.eligibility)
    )
    return _verdicts("eligibility", "Eligibility", (*criteria, *CHART_COMPONENTS))


def response() -> Json:
    """The responses of `assessments.ndjson`, with the days that are told of them."""
    return _verdicts("response", "Hematologic response", RESPONSE_TABLE)


def _verdicts(code: str, title: str, parts: Iterable[str]) -> Json:
    return _view(
        code,
        f"{title}, of our assessments",
        _is_assessment(code),
        [
            *_WHOSE,
            _column("definition", "method.coding.code.first()"),
            _column("verdict", _CODE, "code"),
            _column("day", "effective.ofType(dateTime)", "dateTime"),
            *(_part(part) for part in parts),
        ],
    )


def _is_assessment(*codes: str) -> str:
    return f"code.coding.where(system = '{ASSESSMENT_SYSTEM}' and ({_any('code', codes)})).exists()"


def _part(code: str) -> Json:
    """The answer to a criterion, or a day."""
    coding = f"code.coding.where(system = '{CRITERION_SYSTEM}' and code = '{code}')"
    path = f"component.where({coding}.exists())"
    name = code.replace("-", "_")
    if code.endswith("-date"):
        return _column(name, f"{path}.value.ofType(dateTime)", "dateTime")
    return _column(name, f"{path}.{_CODE}", "code")


def judged_counts() -> Json:
    """The counts that the verdicts of `assessments.ndjson` rest on, a row each.

    In place of a bound, such as neutrophils from leukocytes alone, the results it rests on.
    """
    of_loinc = f"code.coding.where(system = '{LOINC}')"
    return _view(
        "judged_counts",
        "The counts that were judged, of our assessments",
        _is_assessment("eligibility", "response"),
        [
            *_WHOSE,
            _column("definition", "method.coding.code.first()"),
            _column("day", "effective.ofType(dateTime)", "dateTime"),
        ],
        {
            "forEach": f"component.where({of_loinc}.exists())",
            "column": [
                _column("loinc", f"{of_loinc}.code.first()", "code"),
                _column("value", f"{_QUANTITY}.value", "decimal"),
                _column("comparator", f"{_QUANTITY}.comparator", "code"),
                _column("unit", f"{_QUANTITY}.code", "code"),
                _column("low", "value.ofType(Range).low.value", "decimal"),
                _column("high", "value.ofType(Range).high.value", "decimal"),
            ],
        },
    )


VIEWS: Final[Mapping[str, Callable[[], Json]]] = MappingProxyType(
    {view.__name__: view for view in (blood_counts, eligibility, response, judged_counts)}
)
