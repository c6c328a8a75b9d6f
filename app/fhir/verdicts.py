"""Verdicts and truths as codes with a display: what an answer says, and what we publish of it."""

from __future__ import annotations

from app.domain.chart import LookedFor
from app.domain.judgement import Verdict
from app.domain.moments import ResponseVerdict
from app.domain.rules import Truth
from app.fhir.canonicals import OTHER_CAUSE_SYSTEM, TRUTH_SYSTEM, VERDICT_SYSTEM
from app.fhir.json import Json, coded

ELIGIBILITY_VERDICTS = {
    Verdict.ELIGIBLE.value: "Eligible",
    Verdict.NOT_ELIGIBLE.value: "Not eligible",
    Verdict.INDETERMINATE.value: "Indeterminate",
}
RESPONSE_VERDICTS = {
    ResponseVerdict.COMPLETE.value: "Complete response",
    ResponseVerdict.RESPONSE.value: "Response",
    ResponseVerdict.INDETERMINATE.value: "Indeterminate",
    ResponseVerdict.NO_RESPONSE.value: "No response",
    ResponseVerdict.NOT_EVALUABLE.value: "Not evaluable",
}
VERDICTS = ELIGIBILITY_VERDICTS | RESPONSE_VERDICTS
"""Each verdict's code, and its display."""
TRUTHS = {
    Truth.MET.value: "Met",
    Truth.NOT_MET.value: "Not met",
    Truth.UNKNOWN.value: "Unknown",
    "not-applicable": "Not applicable",
}
"""Each truth's code, and its display."""
OTHER_CAUSES = {
    LookedFor.RECORDED.value: "Another cause is recorded",
    LookedFor.NONE_RECORDED.value: "No other cause is recorded",
    LookedFor.NOT_LOOKED_FOR.value: "Neither conditions nor medications were in the data",
}
"""Each code of what a chart says of other causes, and its display."""


def verdict_coded(verdict: Verdict | ResponseVerdict) -> Json:
    """A verdict with its display."""
    return coded(VERDICT_SYSTEM, verdict.value, VERDICTS[verdict.value])


def truth_coded(truth: Truth | None) -> Json:
    """A truth with its display; None is not applicable."""
    code = truth.value if truth else "not-applicable"
    return coded(TRUTH_SYSTEM, code, TRUTHS[code])


def other_cause_coded(answer: LookedFor) -> Json:
    """Whether the chart names another cause, with its display."""
    return coded(OTHER_CAUSE_SYSTEM, answer.value, OTHER_CAUSES[answer.value])
