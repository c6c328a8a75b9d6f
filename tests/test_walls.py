"""What stops a body, a caller or a neighbour from taking the service away from the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from app import operations
from app.api.strict import check_strictly
from app.fhir import subjects
from app.fhir.outcome import RequestError
from tests import shapes

OPERATIONS = (operations.eligibility, operations.response)
LONG = (("window", "36500"),)


def _work(call: Callable[..., Any], *arguments: Any) -> int:
    """How many steps Python takes: its instructions are counted, no clock is asked."""
    taken = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal taken
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        taken += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        call(*arguments)
    except RequestError:
        pass
    finally:
        sys.settrace(None)
    return taken


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: str(one.__name__))
@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda one: str(one.__name__))
def test_twice_the_body_takes_about_twice_the_work(
    shape: Callable[[int], bytes], operation: Callable[..., Any]
) -> None:
    some, more = shape(60), shape(120)
    for body in (some, more):  # what is worked out once is worked out
        operation(body, LONG)
    assert _work(operation, more, LONG) < 2.4 * _work(operation, some, LONG)


def test_a_key_given_twice_is_told_in_time_that_grows_as_the_body() -> None:
    _work(check_strictly, shapes.repeated_keys(1))  # the models are loaded at the first call
    assert _work(check_strictly, shapes.repeated_keys(400)) < 2.4 * _work(
        check_strictly, shapes.repeated_keys(200)
    )


def test_a_contained_patient_is_decoded_once_however_often_it_is_pointed_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = 0
    decode = subjects.DECODE_RESOURCE

    def counting(raw: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return decode(raw)

    monkeypatch.setattr(subjects, "DECODE_RESOURCE", counting)
    operations.eligibility(shapes.contained_patients(50))
    assert decoded == 50
