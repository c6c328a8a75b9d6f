"""The registered studies whose definitions are published, as ResearchStudies."""

from __future__ import annotations

from collections.abc import Iterator

from app.domain.paper import Study
from app.fhir.json import Json, coded
from app.papers import STUDIES
from app.publishing.plans import cited

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def studies() -> Iterator[Json]:
    """A ResearchStudy for each."""
    return map(study, STUDIES)


def study(one: Study) -> Json:
    """A study, with the Groups and the PlanDefinitions by which it took its patients."""
    return {
        "resourceType": "ResearchStudy",
        "id": one.id,
        "identifier": [
            {"system": "https://clinicaltrials.gov", "value": one.id},
            {"value": one.sponsors_id},
        ],
        "title": one.title,
        "protocol": [_reference("PlanDefinition", paper.id) for paper in one.papers],
        "status": one.status,
        "primaryPurposeType": coded(f"{_TERMINOLOGY}/research-study-prim-purp-type", "treatment"),
        "category": [{"text": "Interventional"}],
        "condition": [{"text": one.condition}],
        "relatedArtifact": [cited(paper.citation) for paper in one.papers],
        "description": one.description,
        "enrollment": [_reference("Group", paper.id) for paper in one.papers],
        "arm": [{"name": one.arm}],
        "objective": [
            {
                "name": one.end_point,
                "type": coded(f"{_TERMINOLOGY}/research-study-objective-type", "primary"),
            }
        ],
    }


def _reference(kind: str, name: str) -> Json:
    return {"reference": f"{kind}/{name}"}
