"""The two operations as values, and the one way to a verdict. Every front door calls these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from app.asking import (
    ASSESS_ELIGIBILITY,
    ASSESS_RESPONSE,
    EVALUATE_MEASURE,
    WINDOW_DAYS,
    Data,
    Question,
)
from app.domain.assessment import Assessment, assess_eligibility
from app.domain.cohort import Cohort
from app.domain.counts import Course, Patient, Remark
from app.domain.life import assess_life, sustained_over
from app.domain.paper import Paper, ResponsePaper, interpretation
from app.domain.response import ResponseAssessment, assess_response
from app.domain.tally import count
from app.fhir.components import CHART_COMPONENTS, LIFE_COMPONENTS, RESPONSE_TABLE
from app.fhir.json import Json
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError
from app.reading.courses import Reading, read_courses
from app.requests import read_request
from app.writing.answers import Answer, eligibility_answer, write_answers
from app.writing.life import life_cells
from app.writing.measure import Reported as Reported
from app.writing.measure import measure_report
from app.writing.media import with_picture
from app.writing.narrative import headline, missing
from app.writing.observation import canonical
from app.writing.picture import description, draw
from app.writing.plotted import Plot, eligibility_plot, response_plot
from app.writing.response import missing_for_response, response_answer, response_headline

AnyAssessment = Assessment | ResponseAssessment


@dataclass(frozen=True, slots=True)
class Operation:
    """What is judged of a patient, how, and how it is written."""

    name: str
    """As metrics and the command line name it."""
    judge: Callable[[Question, Any, Course], Any]
    """By one definition, of one course."""
    answer: Callable[[Any, Sequence[Remark]], Answer]
    headline: Callable[[Any], str]
    """The verdict in a sentence."""
    missing: Callable[[Any], str]
    """What would settle an open one."""
    plot: Callable[..., Plot]
    """What a picture shows of one assessment, with its course and what was remarked."""
    whole_course: bool
    """Whether the counts of a whole course are judged, and by their laboratory's own range."""
    criteria: Callable[[Question], Iterable[str]]
    """The codes of what an answer says beside the verdict and the counts."""
    truths: Callable[[Any], Mapping[str, str]] | None = None
    """The answer to each criterion; None where it is read off what is written."""
    in_cohort: Callable[[Any], bool] | None = None
    """Whether an assessment counts in a cohort's report; None where there is no such report."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a question comes to: what was read, and the assessments of it."""

    question: Question
    reading: Reading
    assessments: Sequence[Any]
    """For each patient one by each definition: `Assessment`, or of response the other kind."""

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.question.operation]

    def remarks(self, patient: Patient) -> Sequence[Remark]:
        """What was remarked in reading a patient's data."""
        return next((c.remarks for c in self.reading.courses if c.patient == patient), ())


def _eligibility(question: Question, paper: Paper, course: Course) -> Assessment:
    asked = _over_time_asked(paper, question)
    how = question.as_of, question.window_days, question.red_cell_policy
    applied = question.exclusions == "apply"
    if question.when == "newest":
        return assess_eligibility(asked, course, *how, exclusions=applied)
    changes = question.when == "changes"
    return assess_life(asked, course, *how, with_changes=changes, exclusions=applied)


def _over_time_asked(paper: Paper, question: Question) -> Paper:
    days = question.sustained_days
    return sustained_over(paper, days) if days else paper


def _response(question: Question, paper: ResponsePaper, course: Course) -> ResponseAssessment:
    return assess_response(
        paper,
        course,
        question.treatment_start,
        question.as_of,
        question.window_days,
        question.red_cell_policy,
        question.independence_days,
    )


def _criteria_asked(question: Question) -> Iterable[str]:
    criteria = (
        criterion.code
        for paper in question.papers
        for criterion in interpretation(
            _over_time_asked(paper, question), question.red_cell_policy
        ).criteria
    )
    of_life = () if question.when == "newest" else LIFE_COMPONENTS
    return dict.fromkeys((*criteria, *CHART_COMPONENTS, *of_life))


def _truths(found: Assessment) -> dict[str, str]:
    truths = {one.criterion.code: one.truth.value for one in found.findings}
    truths |= {one.code: one.truth.value for one in found.person}
    truths["other-cause"] = found.causes.answer.value
    if found.judgement.exclusion:
        truths["no-recorded-exclusion"] = found.judgement.exclusion.value
    return truths | life_cells(found.life) if found.life else truths


ELIGIBILITY = Operation(
    name="eligibility",
    judge=_eligibility,
    answer=eligibility_answer,
    headline=lambda found: headline(found.judgement),
    missing=lambda found: missing(found.judgement),
    plot=eligibility_plot,
    whole_course=False,
    criteria=_criteria_asked,
    truths=_truths,
)
RESPONSE = Operation(
    name="response",
    judge=_response,
    answer=response_answer,
    headline=response_headline,
    missing=missing_for_response,
    plot=response_plot,
    whole_course=True,
    criteria=lambda _question: RESPONSE_TABLE,
    in_cohort=lambda found: found.start is not None,
)
OPERATIONS = MappingProxyType(
    {ASSESS_ELIGIBILITY: ELIGIBILITY, ASSESS_RESPONSE: RESPONSE, EVALUATE_MEASURE: RESPONSE}
)
"""By the codes of their OperationDefinitions; a measure is a cohort's responses."""


def judged(
    question: Question, data: Data, normal_ranges: bool = False, of_one_patient: bool = False
) -> Judged:
    """The question, asked of the data; RequestError 422 where there is nothing to assess.

    With `normal_ranges` the counts carry their laboratory's own range, whatever is asked. Data
    `of_one_patient` may hold nothing of another than the subject: OthersDataError.
    """
    operation = OPERATIONS[question.operation]
    reading = read_courses(
        data.entries,
        data.place,
        question.subject,
        question.transfusion_history == "complete",
        normal_ranges or operation.whole_course or question.picture,
        question.code_map,
        of_one_patient,
    )
    found = [
        operation.judge(question, paper, course)
        for course in reading.courses
        for paper in question.papers
    ]
    count(operation.name, reading.remarks, reading.courses, found)
    return Judged(question, reading, found)


def assessed(
    operation: str,
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    window_days: int = WINDOW_DAYS,
    code_map: CodeMap | None = None,
    normal_ranges: bool = False,
) -> Judged:
    """A whole request, judged; RequestError with the HTTP status and its faults."""
    question, data = read_request(body, query, operation, window_days, code_map)
    return judged(question, data, normal_ranges)


def written(found: Judged) -> Json:
    """What was judged, as FHIR: a Bundle of assessments, or a cohort's MeasureReport."""
    if found.question.operation == EVALUATE_MEASURE:
        return _report(found)
    courses = {course.patient: course for course in found.reading.courses}
    # One by one: of a large cohort's answers each is encoded while it is at hand.
    answers = (_answer(found, one, courses[one.patient]) for one in found.assessments)
    return write_answers(answers, found.reading.remarks, found.question.study)


def _answer(found: Judged, one: AnyAssessment, course: Course) -> Answer:
    answer = found.operation.answer(one, course.remarks)
    if not found.question.picture:
        return answer
    plot = plotted(found, one, course)
    observation = with_picture(answer.observation, draw(plot), description(plot))
    return answer._replace(observation=observation)


def plotted(found: Judged, one: AnyAssessment, course: Course) -> Plot:
    """What a picture shows of an assessment, with everything that was remarked of its data."""
    remarks = [*found.reading.remarks, *course.remarks]
    return found.operation.plot(one, course, remarks, found.question.as_of)


def answered(
    operation: str,
    body: bytes,
    query: Iterable[tuple[str, str]] = (),
    window_days: int = WINDOW_DAYS,
    code_map: CodeMap | None = None,
) -> Json:
    """A whole request, answered; errors as of `assessed`."""
    return written(assessed(operation, body, query, window_days, code_map))


eligibility = partial(answered, ASSESS_ELIGIBILITY)
response = partial(answered, ASSESS_RESPONSE)
evaluate_measure = partial(answered, EVALUATE_MEASURE)


def _report(found: Judged) -> Json:
    question, reading = found.question, found.reading
    if question.report_type == "subject" and len(found.assessments) != 1:
        text = "One patient and one definition are reported: name the patient with 'subject'."
        raise RequestError(422, Fault("required", text))
    remarks = [remark for course in reading.courses for remark in course.remarks]
    asked = Reported(
        today(), question.report_type, question.period_start, reporter=question.reporter
    )
    return cohort_report(found.assessments, [*reading.remarks, *remarks], asked)


def today() -> date:
    """The day on which a report is made: in UTC, as no caller's zone is known."""
    return datetime.now(UTC).date()


def cohort_report(
    assessments: Sequence[ResponseAssessment], remarks: Sequence[Remark], asked: Reported
) -> Json:
    """Assessments by one definition as a MeasureReport; RequestError 422 for more than one."""
    if len({found.paper for found in assessments}) > 1:
        raise RequestError(422, Fault("required", "A measure applies one definition: 'criteria'."))
    return measure_report(
        Cohort(tuple(assessments)), canonical(assessments[0].paper), asked, remarks
    )
