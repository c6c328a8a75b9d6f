"""What the service publishes about itself as FHIR, from the tables that the engine runs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from app import __version__
from app.domain.cohort import BY_LINEAGES, STRATIFIERS
from app.domain.paper import LINEAGE_RESPONSES, Citation, Paper, ResponsePaper
from app.domain.rules import Criterion, criteria_of
from app.fhir.canonicals import BASE, MEASURE_ID, POPULATION_SYSTEM, SCREENING_ID, STRATIFIER_SYSTEM
from app.fhir.json import Json, coded
from app.fhir.outcome import Fault, RequestError
from app.papers import PUBLISHED, RESPONSES
from app.publishing.cql import criterion_define, libraries
from app.publishing.profiles import profiles
from app.publishing.terminology import DATE, PUBLISHER, defined, terminology

DEFINITION_TYPES = (
    "CodeSystem",
    "ConceptMap",
    "Library",
    "Measure",
    "OperationDefinition",
    "PlanDefinition",
    "ResearchStudy",
    "StructureDefinition",
    "ValueSet",
)
OPERATIONS = ("assess-eligibility", "assess-response", "evaluate-measure", "plot")
_FHIRPATH = "text/fhirpath"
_MEETS = "Meets the definition"
_AID = "Research criteria: a decision aid, not a diagnosis."


@cache
def definitions() -> Mapping[tuple[str, str], Json]:
    """Every definition by its type and id, in this order."""
    found = [
        *_operations(),
        *_plans(),
        *_libraries(),
        _measure(),
        _screening_measure(),
        *terminology(),
        *profiles(),
        _study(),
    ]
    return {(one["resourceType"], one["id"]): one for one in sorted(found, key=_type_and_id)}


def _type_and_id(resource: Json) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


def found_by(
    among: Mapping[tuple[str, str], Json], kind: str, query: Sequence[tuple[str, str]]
) -> list[Json]:
    """The definitions of a type that a FHIR search finds: `url`, `_id`, `name`.

    Several values with commas are alternatives; a name is found by its beginning in any case.
    RequestError 400 for a modifier that is not known.
    """
    found = [one for (type_, _), one in among.items() if type_ == kind]
    for parameter, text in query:
        name, _, modifier = parameter.partition(":")
        if name not in {"_id", "url", "name"}:
            continue
        if modifier and (name, modifier) != ("name", "exact"):
            fault = Fault("not-supported", f"The modifier ':{modifier[:30]}' is not supported.")
            raise RequestError(400, fault)
        values = text.split(",")
        found = [one for one in found if any(_matches(one, parameter, v) for v in values)]
    return found


def _matches(resource: Json, parameter: str, value: str) -> bool:
    if parameter == "_id":
        return bool(resource["id"] == value)
    if parameter == "url":
        url, _, version = value.partition("|")
        return resource.get("url") == url and version in {"", resource.get("version")}
    name = str(resource.get("name", ""))
    return name == value if ":" in parameter else name.lower().startswith(value.lower())


def _parameter(name: str, type_: str, text: str, use: str = "in", **more: object) -> Json:
    counted: Json = {"min": 0, "max": "1"}
    return {"name": name, "use": use, **counted, "documentation": text, "type": type_} | more


_JUDGED = (
    _parameter(
        "criteria",
        "uri",
        "Which published definitions, by id or canonical; one assessment each. "
        "Default: nih-daclizumab-2003.",
        max="*",
    ),
    _parameter("asOf", "dateTime", "Judge as known on that day. Default: the latest result."),
    _parameter("subject", "string", "Only this patient; the patient of results without subject."),
    _parameter("window", "positiveInt", "Days within which counts are combined. Default 30."),
    _parameter(
        "redCellPolicy",
        "code",
        "both (default), reticulocytes-when-transfused, or reticulocytes-only.",
    ),
    _parameter(
        "transfusionHistory",
        "code",
        "complete: the data hold every transfusion; unknown (default).",
    ),
    _parameter(
        "study",
        "Reference",
        "Adds a ResearchSubject for each patient.",
        targetProfile=["http://hl7.org/fhir/StructureDefinition/ResearchStudy"],
    ),
    _parameter(
        "codeMap",
        "ConceptMap",
        "The sender's own codes to LOINC, for this request alone; a target's product of the system "
        "http://unitsofmeasure.org declares the unit of results that carry none.",
        max="*",
    ),
)
_START = _parameter(
    "treatmentStart",
    "dateTime",
    "Start of treatment. Default: the earliest administration of the protocol's drug in the data.",
)
_INDEPENDENCE = _parameter(
    "independenceWindow",
    "string",
    "Transfusion-free time that makes independent, such as '12 wk' (d, wk, mo, a; up to 2 a). "
    "Default: the definition's, 8 weeks.",
)
_DATA = _parameter(
    "data",
    "Bundle",
    "The patient data; without Parameters the Bundle may be the body. For a Patient instance the "
    "data are read from the configured FHIR server instead.",
)


def _operations() -> Iterator[Json]:
    eligibility, response, measure, plot = OPERATIONS
    yield _operation(
        eligibility,
        "Assess eligibility",
        "Do a patient's blood counts meet a published definition of aplastic anemia? " + _AID,
        ["Patient"],
        [_DATA, *_JUDGED, _return("Bundle", "The assessments, in a Bundle of type collection.")],
        system=True,
    )
    yield _operation(
        response,
        "Assess response",
        "Did a treated patient respond, by a published definition? " + _AID,
        ["Patient"],
        [
            _DATA,
            *_JUDGED,
            _START,
            _INDEPENDENCE,
            _return("Bundle", "The assessments, in a Bundle of type collection."),
        ],
        system=True,
    )
    additional = _parameter("additionalData", "Bundle", "The cohort's data; nothing is stored.")
    yield _operation(
        measure,
        "Evaluate measure",
        "How many of a cohort responded? FHIR's own operation, with the data in the request.",
        ["Measure"],
        [
            additional,
            _parameter("periodStart", "date", "The start of the period reported."),
            _parameter("periodEnd", "date", "The end of the period: results after it are ignored."),
            _parameter("reportType", "code", "population (default), subject or subject-list."),
            *(one for one in _JUDGED if one["name"] not in {"asOf", "study"}),
            _START,
            _INDEPENDENCE,
            _return("MeasureReport", "The report."),
        ],
        base="http://hl7.org/fhir/OperationDefinition/Measure-evaluate-measure",
    )
    yield _operation(
        plot,
        "Plot",
        "How do a patient's counts stand against a definition over time? " + _AID,
        [],
        [
            _DATA,
            _parameter(
                "operation",
                "code",
                "eligibility or response of one patient, or measure: each patient of a cohort. "
                "Default: response where treatmentStart is given, else eligibility.",
            ),
            _parameter("width", "positiveInt", "Pixels, from 320 to 1600; 760 by default."),
            *(one for one in _JUDGED if one["name"] != "study"),
            _START,
            _INDEPENDENCE,
            _return("Binary", "The picture: image/svg+xml, or image/png where Accept says so."),
        ],
        system=True,
    )


def _return(type_: str, text: str) -> Json:
    return _parameter("return", type_, text, "out", min=1)


def _operation(
    code: str,
    title: str,
    description: str,
    resource: list[str],
    parameters: list[Json],
    system: bool = False,
    base: str = "",
) -> Json:
    definition = defined("OperationDefinition", code, title, description) | {
        "kind": "operation",
        "affectsState": False,
        "code": code,
        "resource": resource,
        "system": system,
        "type": False,
        "instance": bool(resource),
        "parameter": parameters,
    }
    if not resource:
        del definition["resource"]
    return definition | {"base": base} if base else definition


def _plans() -> Iterator[Json]:
    eligibility = {paper.id: paper for paper in PUBLISHED}
    response = {paper.id: paper for paper in RESPONSES}
    for name in dict.fromkeys([*eligibility, *response]):
        yield _plan([p for p in (eligibility.get(name), response.get(name)) if p])


def _plan(papers: Sequence[Paper | ResponsePaper]) -> Json:
    """A definition's criteria as an eca-rule; one paper may define eligibility and response."""
    paper = papers[0]
    description = f"{'; '.join(one.title for one in papers)}. {_AID}"
    plan = defined("PlanDefinition", paper.id, paper.title, description, paper.version)
    if not all(one.verified for one in papers):
        plan |= {"status": "draft", "experimental": True}
    if isinstance(paper, Paper):
        plan["library"] = [f"{BASE}/Library/{paper.id}|{paper.version}"]
    also = dict.fromkeys(text for one in papers for text in one.also_requires)
    return plan | {
        "type": coded("http://terminology.hl7.org/CodeSystem/plan-definition-type", "eca-rule"),
        "subjectCodeableConcept": coded("http://hl7.org/fhir/resource-types", "Patient"),
        "usage": "Also required or to be known, and not told by counts: " + "; ".join(also) + ".",
        "relatedArtifact": [_cited(paper.citation)],
        "action": [_action(one) for one in papers],
    }


def _cited(citation: Citation) -> Json:
    return {"type": "citation", "citation": citation.text, "url": citation.url}


def _action(paper: Paper | ResponsePaper) -> Json:
    """What fires when a paper's rule holds, with its criteria and the paper's words."""
    if isinstance(paper, Paper):
        criteria: Iterable[Criterion] = criteria_of(paper.eligibility)
        verdict = "eligible"
    else:
        ends = (paper.response, paper.complete, paper.relapse)
        criteria = [*(line.responded for line in paper.lineages), *filter(None, ends)]
        verdict = "response"
    return {
        "title": paper.title,
        "code": [coded(f"{BASE}/CodeSystem/verdict", verdict)],
        "trigger": [{"type": "named-event", "name": "patient-view"}],
        "condition": [
            _condition(paper, _MEETS if isinstance(paper, Paper) else "primary-end-point")
        ],
        "action": [_criterion(one, paper) for one in criteria],
    }


def _condition(paper: Paper | ResponsePaper, name: str) -> Json:
    """Eligibility is a define of the paper's CQL; a response is read off our assessment of it."""
    if isinstance(paper, Paper):
        expression = {"language": "text/cql", "expression": f'"{name}"'}
    else:
        expression = {"language": _FHIRPATH, "expression": _met(name)}
    return {"kind": "applicability", "expression": expression}


def _met(criterion: str) -> str:
    """Whether a response assessment (Observation) says that the criterion is met, as FHIRPath."""
    found = f"component.where(code.coding.exists(code = '{criterion}'))"
    return f"{found}.value.coding.exists(code = 'met')"


def _criterion(criterion: Criterion, paper: Paper | ResponsePaper) -> Json:
    return {
        "title": criterion.title,
        "description": criterion.describe(),
        "condition": [
            _condition(
                paper, criterion_define(criterion) if isinstance(paper, Paper) else criterion.code
            )
        ],
        "code": [coded(f"{BASE}/CodeSystem/criterion", criterion.code)],
        "documentation": [
            {
                "type": "citation",
                "label": criterion.wording,
                "citation": criterion.source,
                "url": paper.citation.url,
            }
        ],
    }


def _libraries() -> Iterator[Json]:
    """The papers' criteria of eligibility as CQL with its ELM, and what they all include."""
    for one in libraries():
        description = f"{one.title}, in Clinical Quality Language. {_AID}"
        contents = (("text/cql", one.cql), ("application/elm+json", one.elm))
        yield defined("Library", one.id, one.title, description, one.version) | {
            "name": one.name,
            "type": coded("http://terminology.hl7.org/CodeSystem/library-type", "logic-library"),
            "subjectCodeableConcept": coded("http://hl7.org/fhir/resource-types", "Patient"),
            "content": [
                {"contentType": kind, "data": b64encode(text.encode()).decode()}
                for kind, text in contents
            ],
        }


def _measure() -> Json:
    """The cohort's end point; each expression reads a treated patient's response assessment."""
    responded = "value.coding.exists(code = 'complete-response' or code = 'response')"
    populations = (
        ("initial-population", "Initial Population", "code.coding.exists(code = 'response')"),
        ("denominator", "Denominator", "code.coding.exists(code = 'response')"),
        (
            "denominator-exclusion",
            "Denominator Exclusion",
            "value.coding.exists(code = 'not-evaluable')",
        ),
        ("numerator", "Numerator", responded),
    )
    description = (
        "The share of evaluable patients with a hematologic response in at least one affected "
        "blood count, the primary end point of the NIH daclizumab pilot trial. Each expression is "
        "evaluated on the response assessment (Observation) of a patient with a start of "
        f"treatment. {_AID}"
    )
    measure = defined("Measure", MEASURE_ID, "Hematologic response", description, "1.0.0")
    return measure | {
        "subjectCodeableConcept": coded("http://hl7.org/fhir/resource-types", "Patient"),
        "relatedArtifact": [_cited(PUBLISHED[0].citation)],
        "scoring": coded(
            "http://terminology.hl7.org/CodeSystem/measure-scoring", "proportion", "Proportion"
        ),
        "type": [coded("http://terminology.hl7.org/CodeSystem/measure-type", "outcome", "Outcome")],
        "rateAggregation": "Clopper-Pearson exact 95% interval",
        "improvementNotation": coded(
            "http://terminology.hl7.org/CodeSystem/measure-improvement-notation", "increase"
        ),
        "group": [
            {
                "population": [
                    {
                        "code": coded(POPULATION_SYSTEM, code, title),
                        "criteria": {"language": _FHIRPATH, "expression": expression},
                    }
                    for code, title, expression in populations
                ],
                "stratifier": [
                    {
                        "code": coded(STRATIFIER_SYSTEM, code, title),
                        "criteria": {"language": _FHIRPATH, "expression": _stratum(code)},
                    }
                    for code, title, _ in STRATIFIERS
                ],
            }
        ],
    }


def _screening_measure() -> Json:
    """How many patients of an export came to each verdict."""
    description = (
        "How many patients were screened, and how many of them came to each verdict. Each "
        "expression is evaluated on the eligibility assessment (Observation) of a patient. "
        f"{_AID}"
    )
    measure = defined("Measure", SCREENING_ID, "Screening by blood counts", description, "1.0.0")
    return measure | {
        "subjectCodeableConcept": coded("http://hl7.org/fhir/resource-types", "Patient"),
        "scoring": coded(
            "http://terminology.hl7.org/CodeSystem/measure-scoring", "cohort", "Cohort"
        ),
        "group": [
            {
                "population": [
                    {
                        "code": coded(
                            POPULATION_SYSTEM, "initial-population", "Initial Population"
                        ),
                        "criteria": {
                            "language": _FHIRPATH,
                            "expression": "code.coding.exists(code = 'eligibility')",
                        },
                    }
                ],
                "stratifier": [
                    {
                        "code": {"text": "Verdict"},
                        "criteria": {"language": _FHIRPATH, "expression": "value.coding.code"},
                    }
                ],
            }
        ],
    }


def _stratum(stratifier: str) -> str:
    """The stratum of a response assessment, as FHIRPath."""
    if stratifier != "depth":
        return f"component.where(code.coding.code = '{stratifier}').value.coding.code"
    single, multi, none = BY_LINEAGES
    named = " or ".join(f"code.coding.code = '{lineage}'" for lineage in LINEAGE_RESPONSES)
    met = f"component.where({named}).where(value.coding.code = 'met').count()"
    split = f"iif({met} = 0, '{none}', iif({met} = 1, '{single}', '{multi}'))"
    return f"iif(value.coding.code = 'response', {split}, value.coding.code)"


def _study() -> Json:
    """The trial the default definition comes from."""
    return {
        "resourceType": "ResearchStudy",
        "id": "NCT00001962",
        "identifier": [{"system": "https://clinicaltrials.gov", "value": "NCT00001962"}],
        "title": "Recombinant humanized anti-IL-2 receptor antibody (daclizumab) in moderate "
        "aplastic anemia",
        "protocol": [{"reference": f"PlanDefinition/{PUBLISHED[0].id}"}],
        "status": "completed",
        "condition": [{"text": "Moderate aplastic anemia"}],
        "relatedArtifact": [_cited(PUBLISHED[0].citation)],
        "description": "Pilot trial of the National Institutes of Health: 17 patients, 16 "
        "evaluable, 6 responded. Published to document the definition's source: daclizumab is "
        "withdrawn from the market.",
        "arm": [{"name": "Daclizumab 1 mg/kg every 2 weeks for 3 months"}],
    }


# https://hl7.org/fhir/smart-app-launch/conformance.html
_SMART: Json = {
    "service": [
        {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                    "code": "SMART-on-FHIR",
                }
            ]
        }
    ],
    "description": "Operations ask for an access token (OAuth 2.0, SMART scopes): "
    "/.well-known/smart-configuration says whose.",
}


def capability_statement(server: str, cors: bool = True, asks_for_tokens: bool = False) -> Json:
    """The CapabilityStatement: exactly what answers at this server, to scripts, or to tokens."""
    resources = [
        {
            "type": kind,
            "interaction": [{"code": "read"}, {"code": "search-type"}],
            "searchParam": _search_parameters(kind),
        }
        | ({"operation": [_offered("evaluate-measure")]} if kind == "Measure" else {})
        for kind in DEFINITION_TYPES
    ]
    assessments = [_offered(name) for name in OPERATIONS[:2]]
    resources.append({"type": "Patient", "operation": assessments})
    return {
        "resourceType": "CapabilityStatement",
        "url": f"{BASE}/CapabilityStatement/maa-assess",
        "version": __version__,
        "name": "MaaAssess",
        "title": "maa-assess",
        "status": "active",
        "experimental": False,
        "date": DATE,
        "publisher": PUBLISHER,
        "description": f"Assesses blood counts against published definitions of aplastic anemia. "
        f"{_AID}",
        "kind": "instance",
        "software": {"name": "maa-assess", "version": __version__},
        "implementation": {"description": "maa-assess", "url": f"{server}/fhir"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "security": {"cors": cors} | (_SMART if asks_for_tokens else {}),
                "resource": sorted(resources, key=lambda one: str(one["type"])),
                "operation": [*assessments, _offered("plot")],
            }
        ],
    }


def _search_parameters(kind: str) -> list[Json]:
    found = [{"name": "_id", "type": "token"}]
    if kind != "ResearchStudy":  # it has neither in R4
        found += ({"name": "url", "type": "uri"}, {"name": "name", "type": "string"})
    return found


def _offered(name: str) -> Json:
    return {"name": name, "definition": f"{BASE}/OperationDefinition/{name}"}
