"""What is said wherever a definition is applied, and which reading would change the answer."""

from __future__ import annotations

from app.domain.counts import Remark, Severity
from app.domain.judgement import Judgement, SevereLimit
from app.domain.paper import Paper, ResponsePaper
from app.domain.rules import Truth
from app.domain.severity import severe_limit_text
from app.writing.narrative import AID, UNVERIFIED


def standing_notes(paper: Paper | ResponsePaper) -> list[str]:
    """What is said wherever a definition is applied."""
    return [AID] if paper.verified else [AID, UNVERIFIED]


def policy_note(policy: str) -> str:
    """The red-cell policy in words."""
    return f"Red cells were judged under the policy '{policy}'."


def judgement_remarks(judgement: Judgement) -> tuple[Remark, ...]:
    """The readings of the same words, and the published limits, that would change the answer."""
    remarks = [
        Remark(
            "policy-disagreement",
            Severity.INFORMATION,
            f"Under the red-cell policy '{policy}' the verdict would be {verdict.value}.",
            (),
        )
        for policy, verdict in judgement.other_policies
    ]
    if judgement.severe_limits:
        said = "; ".join(_severe_limit(one) for one in judgement.severe_limits)
        text = (
            "The limit of reticulocytes for severe disease is in dispute, and the answer hangs on "
            f"it. With another published one (x10⁹/L) it would be: {said}."
        )
        remarks.append(Remark("severe-limit-disputed", Severity.INFORMATION, text, ()))
    return tuple(remarks)


_NOT_SEVERE = {
    Truth.MET: ", not severe by counts",
    Truth.NOT_MET: ", severe by counts",
    Truth.UNKNOWN: ", severity not known",
    None: "",
}


def _severe_limit(other: SevereLimit) -> str:
    """For example: below 20 (CIBMTR, AAMDS) eligible, not severe by counts."""
    limit = severe_limit_text(other.number)
    return f"{limit} {other.verdict.value}{_NOT_SEVERE[other.not_severe]}"
