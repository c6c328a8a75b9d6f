"""The operations as functions: bytes and parameters in, FHIR out. Every front door calls these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from app.asking import Request, read_request
from app.domain.assessment import Assessment, assess_eligibility
from app.domain.cohort import Cohort
from app.domain.counts import Remark, When
from app.domain.paper import Paper, ResponsePaper
from app.domain.response import ResponseAssessment, assess_response
from app.domain.tally import count
from app.fhir.canonicals import BASE
from app.fhir.json import Json
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError
from app.papers import PUBLISHED, RESPONSES
from app.reading.courses import Reading, read_courses
from app.writing.answers import Answer, eligibility_answer, write_answers
from app.writing.measure import measure_report
from app.writing.observation import canonical
from app.writing.response import response_answer

Assessed = TypeVar("Assessed", Assessment, ResponseAssessment)
Published = TypeVar("Published", Paper, ResponsePaper)


def eligibility(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    default_window_days: int = 30,
    code_map: CodeMap | None = None,
) -> Json:
    """`$assess-eligibility`: a Bundle or Parameters in, a Bundle of assessments out.

    Raises RequestError with the HTTP status and its faults.
    """
    assessed = assess(body, query, default_window_days, code_map=code_map)
    return _written(assessed, eligibility_answer)


def response(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    default_window_days: int = 30,
    code_map: CodeMap | None = None,
) -> Json:
    """`$assess-response`: a Bundle or Parameters in, a Bundle of response assessments out.

    Raises RequestError with the HTTP status and its faults.
    """
    assessed = assess_responses(body, query, default_window_days, code_map=code_map)
    return _written(assessed, response_answer)


def _written(
    assessed: tuple[Request, Reading, list[Assessed]],
    answer: Callable[[Assessed, Sequence[Remark]], Answer],
) -> Json:
    request, reading, assessments = assessed
    remarks = {course.patient: course.remarks for course in reading.courses}
    # One by one: of a large cohort's answers each is encoded while it is at hand.
    answers = (answer(found, remarks[found.patient]) for found in assessments)
    return write_answers(answers, reading.remarks, request.study)


def evaluate_measure(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    default_window_days: int = 30,
    code_map: CodeMap | None = None,
) -> Json:
    """`$evaluate-measure`: a cohort's data in `additionalData` in, its MeasureReport out.

    Raises RequestError with the HTTP status and its faults.
    """
    request, reading, assessments = assess_responses(
        body, query, default_window_days, measure=True, code_map=code_map
    )
    report_type = request.report_type or ("subject" if request.subject else "population")
    if report_type == "subject" and len(assessments) != 1:
        text = "One patient and one definition are reported: name the patient with 'subject'."
        raise RequestError(422, Fault("required", text))
    remarks = [remark for course in reading.courses for remark in course.remarks]
    return cohort_report(
        assessments, [*reading.remarks, *remarks], report_type, request.period_start
    )


def cohort_report(
    assessments: Sequence[ResponseAssessment],
    remarks: Sequence[Remark],
    report_type: str = "population",
    since: When | None = None,
) -> Json:
    """Assessments by one definition as a MeasureReport; RequestError 422 for more than one."""
    if len({found.paper for found in assessments}) > 1:
        raise RequestError(422, Fault("required", "A measure applies one definition: 'criteria'."))
    return measure_report(
        Cohort(tuple(assessments)), canonical(assessments[0].paper), report_type, remarks, since
    )


def assess_responses(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    default_window_days: int = 30,
    measure: bool = False,
    code_map: CodeMap | None = None,
) -> tuple[Request, Reading, list[ResponseAssessment]]:
    """The response assessments as values: for each patient one by each definition."""
    request = read_request(body, query, measure, code_map)
    return request, *judge_responses(request, default_window_days)


def judge_responses(
    request: Request, default_window_days: int = 30
) -> tuple[Reading, list[ResponseAssessment]]:
    """What a request that has been read comes to; RequestError where nothing is to be assessed."""
    papers, reading, window = _asked(request, RESPONSES, default_window_days, normal_ranges=True)
    found = [
        assess_response(
            paper,
            course,
            request.treatment_start,
            request.as_of,
            window,
            request.red_cell_policy,
            request.independence_days,
        )
        for course in reading.courses
        for paper in papers
    ]
    count("response", reading.remarks, reading.courses, found)
    return reading, found


def assess(
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    default_window_days: int = 30,
    normal_ranges: bool = False,
    code_map: CodeMap | None = None,
) -> tuple[Request, Reading, list[Assessment]]:
    """The eligibility assessments as values: for each patient one by each definition.

    With `normal_ranges` the counts carry their laboratory's own range.
    """
    request = read_request(body, query, code_map=code_map)
    return request, *judge_eligibility(request, default_window_days, normal_ranges)


def judge_eligibility(
    request: Request, default_window_days: int = 30, normal_ranges: bool = False
) -> tuple[Reading, list[Assessment]]:
    """What a request that has been read comes to; RequestError where nothing is to be assessed."""
    if request.independence_days:
        name = "independenceWindow"
        place = f"Parameters.parameter.where(name='{name}')"
        text = f"'{name}' is asked of a response, not of eligibility."
        raise RequestError(400, Fault("not-supported", text, place))
    papers, reading, window = _asked(request, PUBLISHED, default_window_days, normal_ranges)
    found = [
        assess_eligibility(paper, course, request.as_of, window, request.red_cell_policy)
        for course in reading.courses
        for paper in papers
    ]
    count("eligibility", reading.remarks, reading.courses, found)
    return reading, found


def _asked(
    request: Request,
    published: Sequence[Published],
    default_window_days: int,
    normal_ranges: bool,
) -> tuple[list[Published], Reading, int]:
    """The definitions and the window asked for, and the patients' courses."""
    papers = papers_named(request.criteria, published)
    reading = read_courses(
        request.entries,
        request.place,
        request.subject,
        request.transfusion_history_complete,
        normal_ranges,
        request.code_map,
    )
    return papers, reading, request.window_days or default_window_days


def papers_named(names: Iterable[str], published: Sequence[Published]) -> list[Published]:
    """The definitions asked for by id or canonical; 422 for one that is not published here."""
    known = {paper.id: paper for paper in published}
    papers: dict[str, Published] = {}
    for name in names:
        url, _, version = name.partition("|")
        paper = known.get(url.removeprefix(f"{BASE}/PlanDefinition/"))
        if paper is None or version not in {"", paper.version}:
            raise RequestError(
                422,
                Fault(
                    "not-found",
                    f"No definition '{name[:100]}' for this operation. Known: {', '.join(known)}.",
                    "Parameters.parameter.where(name='criteria')",
                ),
            )
        papers[paper.id] = paper
    return list(papers.values()) or [published[0]]
