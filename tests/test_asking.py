"""One table of parameters: whoever tells of them, or reads them, tells and reads the same."""

from __future__ import annotations

import argparse
import json
import pickle
from typing import Any

import pytest

from app.api.documents import (
    ELIGIBILITY_DOCUMENT,
    MATCH_DOCUMENT,
    MEASURE_DOCUMENT,
    PLOT_DOCUMENT,
    RESPONSE_DOCUMENT,
)
from app.asking import (
    ASSESS_ELIGIBILITY,
    ASSESS_RESPONSE,
    BY_NAME,
    DEFINITIONS,
    EVALUATE_MEASURE,
    MATCH,
    OPERATIONS,
    PARAMETERS,
    PLOT,
    parameters_of,
)
from app.cli import _parser
from app.fhir.outcome import RequestError
from app.papers import PUBLISHED
from app.publishing.definitions import definitions
from app.requests import read_question, read_request
from tests.shapes import PLATELETS, bundle, result

DOCUMENTS = {
    ASSESS_ELIGIBILITY: ELIGIBILITY_DOCUMENT,
    ASSESS_RESPONSE: RESPONSE_DOCUMENT,
    EVALUATE_MEASURE: MEASURE_DOCUMENT,
    PLOT: PLOT_DOCUMENT,
    MATCH: MATCH_DOCUMENT,
}
# A value that can be meant of each that has no choices, and is not the default.
_VALUES = {
    "periodStart": "2024-01-01",
    "periodEnd": "2024-12-31",
    "width": "800",
    "criteria": "nih-daclizumab-2003",
    "asOf": "2024-03-05",
    "subject": "Patient/1",
    "window": "14",
    "study": "ResearchStudy/1",
    "reporter": "Organization/1",
    "treatmentStart": "2024-01-01",
    "independenceWindow": "12 wk",
    "sustained": "6 wk",
    "picture": "true",
    "phase": "phase-2",
    "zipCode": "20892",
    "travelRadius": "50",
}
GOOD = {
    one.name: next((c for c in reversed(one.choices) if c != one.default), "")
    or _VALUES.get(one.name, "")
    for one in PARAMETERS
    if not one.is_resource
}


def said(*asked: Any, **more: Any) -> str:
    """Why a question is refused."""
    with pytest.raises(RequestError) as refused:
        read_question(*asked, **more)
    return " ".join(fault.text for fault in refused.value.faults)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_openapi_tells_of_every_parameter_that_the_definition_has(operation: str) -> None:
    defined = definitions()["OperationDefinition", operation]["parameter"]
    resources = {"Bundle", "ConceptMap"}
    asked = [p["name"] for p in defined if p["use"] == "in" and p["type"] not in resources]
    told = DOCUMENTS[operation]["openapi_extra"]["parameters"]
    assert [one["name"] for one in told] == asked


@pytest.mark.parametrize(
    ("command", "operation"), [("eligibility", ASSESS_ELIGIBILITY), ("response", ASSESS_RESPONSE)]
)
def test_the_command_line_takes_what_the_operation_takes(command: str, operation: str) -> None:
    (commands,) = (
        one.choices for one in _parser()._actions if isinstance(one, argparse._SubParsersAction)
    )
    options = {name for one in commands[command]._actions for name in one.option_strings}
    known = {one.option for one in PARAMETERS if one.metavar}
    # Two are of the FHIR answer alone, and the data are the file.
    left_out = {"--study", "--picture", "--data"}
    assert options & known == {one.option for one in parameters_of(operation)} - left_out


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", GOOD)
def test_a_parameter_fills_the_question_or_is_refused_by_its_name(
    operation: str, name: str
) -> None:
    one = BY_NAME[name]
    # A picture takes what is asked of what it shows.
    shown = "eligibility" if ASSESS_ELIGIBILITY in one.operations else "response"
    more = [("operation", shown)] if operation == PLOT and name != "operation" else []
    if operation in one.operations:
        asked = read_question([(name, GOOD[name]), *more], operation)
        default = read_question(more, operation)
        if name != "criteria":
            assert getattr(asked, one.field) != getattr(default, one.field)
    elif operation not in one.also:
        assert f"'{name}' is asked of" in said([(name, GOOD[name])], operation)


def test_every_parameter_of_a_query_has_a_good_value_here() -> None:
    assert all(GOOD.values()), GOOD


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"criteria"}))
def test_a_parameter_given_twice_is_refused(name: str) -> None:
    operation = BY_NAME[name].operations[0]
    assert "more than once" in said([(name, GOOD[name])] * 2, operation)


def test_a_picture_of_eligibility_is_not_asked_how_long_independence_lasts() -> None:
    query = [("operation", "eligibility"), ("independenceWindow", "12 wk")]
    assert "asked of a response, not of eligibility" in said(query, PLOT)


def test_nothing_is_left_to_a_default() -> None:
    asked = read_question((), ASSESS_ELIGIBILITY, window_days=21)
    assert (asked.papers, asked.window_days) == ((PUBLISHED[0],), 21)


def test_a_subject_alone_asks_the_measure_for_his_own_report() -> None:
    asked: Any = [("subject", "1")]
    assert read_question(asked, EVALUATE_MEASURE).report_type == "subject"
    asked += [("reportType", "population")]
    assert read_question(asked, EVALUATE_MEASURE).report_type == "population"


@pytest.mark.parametrize("operation", [ASSESS_ELIGIBILITY, ASSESS_RESPONSE])
def test_a_question_in_another_process_names_the_same_papers(operation: str) -> None:
    query = [("criteria", paper.id) for paper in DEFINITIONS[operation]]
    asked = read_question(query, operation)
    again = pickle.loads(pickle.dumps(asked))
    assert again == asked
    assert all(one is other for one, other in zip(again.papers, asked.papers, strict=True))


def test_parameters_with_data_are_no_question_to_a_server() -> None:
    data = {"name": "data", "resource": {"resourceType": "Bundle"}}
    sent = json.dumps({"resourceType": "Parameters", "parameter": [data]}).encode()
    assert "read from the FHIR server" in said(parameters=sent)
    assert read_request(sent)[1].place == "Parameters.parameter[0].resource"


def test_data_come_with_the_question_once() -> None:
    question, data = read_request(bundle(result(PLATELETS, 30)), [("window", "7")])
    assert (question.window_days, len(data.entries), data.place) == (7, 1, "Bundle")
