"""The papers as PlanDefinitions, with their CQL as Libraries."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence

from app.domain.chart import CauseKind, Exclusion
from app.domain.paper import Citation, Paper, ResponsePaper
from app.domain.rules import Criterion, criteria_of
from app.fhir.canonicals import BASE
from app.fhir.json import Json, coded
from app.papers import PUBLISHED, RESPONSES, SHIPPED
from app.publishing.causes import CAUSE_SYSTEM, OTHER_CAUSES, value_set_of
from app.publishing.cql import criterion_define, libraries, library_name, response_id
from app.publishing.elm import needs_of
from app.publishing.terminology import AID, defined

FHIRPATH = "text/fhirpath"
_MEETS = "Meets the definition"


def plans() -> Iterator[Json]:
    """A PlanDefinition for each paper."""
    eligibility = {paper.id: paper for paper in PUBLISHED}
    response = {paper.id: paper for paper in RESPONSES}
    for name in dict.fromkeys([*eligibility, *response]):
        yield _plan([p for p in (eligibility.get(name), response.get(name)) if p])


def _plan(papers: Sequence[Paper | ResponsePaper]) -> Json:
    """A definition's criteria as an eca-rule; one paper may define eligibility and response."""
    paper = papers[0]
    description = f"{'; '.join(one.title for one in papers)}. {AID}"
    plan = defined("PlanDefinition", paper.id, paper.title, description, paper.version)
    if not all(one.verified for one in papers):
        plan |= {"status": "draft", "experimental": True}
    if isinstance(paper, Paper) and paper in SHIPPED:
        plan["library"] = [library_canonical(paper)]
    also = dict.fromkeys(text for one in papers for text in one.also_requires)
    return plan | {
        "type": coded("http://terminology.hl7.org/CodeSystem/plan-definition-type", "eca-rule"),
        "subjectCodeableConcept": coded("http://hl7.org/fhir/resource-types", "Patient"),
        "usage": "Also required or to be known, and not told by counts: " + "; ".join(also) + ".",
        "relatedArtifact": [cited(paper.citation)],
        "action": [
            *(_action(one) for one in papers),
            *(_chart(one) for one in papers if isinstance(one, Paper)),
        ],
    }


def library_canonical(paper: Paper) -> str:
    """The canonical and version of a paper's CQL: engines look a library up by its name in CQL."""
    return f"{BASE}/Library/{library_name(paper.id)}|{paper.version}"


def cited(citation: Citation) -> Json:
    """A publication, as a related artifact."""
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
        expression = {"language": FHIRPATH, "expression": _met(name)}
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


_CHART_WORDS = (
    "What the chart records of other causes is told of beside the verdict by counts, and turns "
    "none. Where exclusions=apply is asked for, each of these that is recorded for sure and active "
    "on the day judged makes not eligible: {excluded}. The CQL judges the counts alone."
)
_DISEASE = ("Condition",)
_DRUG = ("MedicationAdministration", "MedicationRequest", "MedicationStatement")
_READ_FROM: Mapping[CauseKind, tuple[str, ...]] = {
    CauseKind.TREATMENT: ("Condition", "Procedure", *_DRUG),
    CauseKind.DRUG: _DRUG,
}


def _chart(paper: Paper) -> Json:
    """What is looked for in the chart, and an action for each exclusion with its codes."""
    limits = [
        *([f"age below {paper.least_age_years} years"] if paper.least_age_years else []),
        *([f"weight up to {paper.above_weight_kg} kg"] if paper.above_weight_kg else []),
    ]
    excluded = "; ".join([*(one.cause.title for one in paper.exclusions), *limits])
    action: Json = {
        "title": "Other causes in the chart",
        "description": _CHART_WORDS.format(excluded=excluded or "none"),
        "code": [coded(f"{BASE}/CodeSystem/criterion", "other-cause")],
        "input": _inputs(("Condition", "Procedure", *_DRUG), OTHER_CAUSES),
    }
    if paper.exclusions:
        action["action"] = [_exclusion(one, paper) for one in paper.exclusions]
    return action


def _exclusion(exclusion: Exclusion, paper: Paper) -> Json:
    cause = exclusion.cause
    codes = value_set_of(cause)
    action: Json = {
        "title": f"Excluded: {cause.title}",
        "code": [coded(CAUSE_SYSTEM, cause.code)],
        "documentation": [
            {
                "type": "citation",
                "label": exclusion.wording,
                "citation": exclusion.source,
                "url": paper.citation.url,
            }
        ],
    }
    if codes is None:
        return action | {"description": "No code says it: it is read by its words alone."}
    return action | {"input": _inputs(_READ_FROM.get(cause.kind, _DISEASE), codes)}


def _inputs(kinds: Iterable[str], value_set: str) -> list[Json]:
    return [
        {
            "type": kind,
            "codeFilter": [
                {"path": "medication" if kind in _DRUG else "code", "valueSet": value_set}
            ],
        }
        for kind in kinds
    ]


def library_resources() -> Iterator[Json]:
    """The papers' criteria of eligibility as CQL with its ELM, and what they all include."""
    papers = {paper.id: paper for paper in PUBLISHED} | {response_id(p): p for p in RESPONSES}
    for one in libraries():
        more = needs_of(one)
        if paper := papers.get(one.id):
            more["relatedArtifact"].insert(0, cited(paper.citation))
            if not paper.verified:
                more |= {"status": "draft", "experimental": True}
        description = f"{one.title}, in Clinical Quality Language. {AID}"
        contents = (("text/cql", one.cql), ("application/elm+json", one.elm))
        yield defined("Library", one.name, one.title, description, one.version) | {
            "name": one.name,
            "type": coded("http://terminology.hl7.org/CodeSystem/library-type", "logic-library"),
            "subjectCodeableConcept": coded("http://hl7.org/fhir/resource-types", "Patient"),
            "content": [
                {"contentType": kind, "data": b64encode(text.encode()).decode()}
                for kind, text in contents
            ],
            **more,
        }
