"""The operations as functions: bytes and parameters in, FHIR out. Every front door calls these."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.assessment import Assessment, Paper, assess_eligibility
from app.fhir.outcome import BASE, Fault, RequestError
from app.fhir.reading import Reading, read_courses
from app.fhir.requests import Request, read_request
from app.fhir.writing import Json, write_assessments
from app.papers import PUBLISHED

_PAPERS = {paper.id: paper for paper in PUBLISHED}
DEFAULT_PAPER = PUBLISHED[0]


def eligibility(
    body: bytes, query: Iterable[tuple[str, str]] = (), default_window_days: int = 30
) -> Json:
    """`$assess-eligibility`: a Bundle or Parameters in, a Bundle of assessments out.

    Raises RequestError with the HTTP status and its faults.
    """
    request, reading, assessments = assess(body, query, default_window_days)
    courses = {course.patient: course for course in reading.courses}
    return write_assessments(
        [(assessment, courses[assessment.patient].remarks) for assessment in assessments],
        reading.remarks,
        request.study,
    )


def assess(
    body: bytes, query: Iterable[tuple[str, str]] = (), default_window_days: int = 30
) -> tuple[Request, Reading, list[Assessment]]:
    """The eligibility assessments as values: for each patient one by each definition."""
    request = read_request(body, query)
    papers = papers_named(request.criteria)
    reading = read_courses(
        request.entries, request.place, request.subject, request.transfusion_history_complete
    )
    window = request.window_days or default_window_days
    assessments = [
        assess_eligibility(paper, course, request.as_of, window, request.red_cell_policy)
        for course in reading.courses
        for paper in papers
    ]
    return request, reading, assessments


def papers_named(names: Iterable[str]) -> list[Paper]:
    """The definitions asked for by id or canonical; 422 for one that is not published here."""
    papers: dict[str, Paper] = {}
    for name in names:
        canonical, _, version = name.partition("|")
        paper = _PAPERS.get(canonical.removeprefix(f"{BASE}/PlanDefinition/"))
        if paper is None or version not in {"", paper.version}:
            raise RequestError(
                422,
                Fault(
                    "not-found",
                    f"No definition '{name[:100]}'. Known: {', '.join(_PAPERS)}.",
                    "Parameters.parameter.where(name='criteria')",
                ),
            )
        papers[paper.id] = paper
    return list(papers.values()) or [DEFAULT_PAPER]
