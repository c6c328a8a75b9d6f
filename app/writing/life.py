"""What is said of a life: when a definition was first met and last, how often, and the timeline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from app.domain.counts import Source
from app.domain.judgement import Finding, Verdict
from app.domain.life import Life, Period
from app.domain.paper import analytes_of
from app.domain.rules import Truth
from app.domain.sustained import time_of
from app.fhir.canonicals import ABSENCE_SYSTEM, CRITERION_SYSTEM, PERIOD
from app.fhir.components import ABSENCES, LIFE_COMPONENTS
from app.fhir.json import Json, coded, quantity
from app.fhir.verdicts import VERDICTS, verdict_coded
from app.writing.narrative import BETWEEN, xhtml_text
from app.writing.observation import reference_of

# More rows help no reader; the extensions have them all.
_MOST_ROWS = 100
_DECIDING = {
    Verdict.ELIGIBLE: Truth.MET,
    Verdict.NOT_ELIGIBLE: Truth.NOT_MET,
    Verdict.INDETERMINATE: Truth.UNKNOWN,
}


def with_life(div: str, life: Life) -> str:
    """The narrative of the day told of, with the life after its first sentences."""
    rows = "" if life.changes is None else _table(life)
    first, rest = div.split("</p>", 1)
    return f"{first.rstrip()} {xhtml_text(life_text(life))}</p>{rows}{rest}"


def life_extensions(life: Life) -> list[Json]:
    """The timeline, where the changes were asked for: an extension for each period."""
    return [] if life.changes is None else [_extension(period) for period in life.periods]


def life_text(life: Life) -> str:
    """The life in words."""
    judged = _number(life.assessments, "day")
    if not life.periods:
        return "No day with counts that could be judged."
    if life.first_met is None:
        left = sum(period.assessments for period in life.open)
        said = f"Judged on {judged}, and known to be met on none"
        return f"{said}{f'; not known on {left}' if left else ''}. {BETWEEN}"
    first, last = life.first_met, life.last_met
    before = sum(period.assessments for period in life.open_before)
    open_before = f" On {_number(before, 'day')} before it is not known." if before else ""
    return (
        f"First met on {first}, last on {last}, in {_number(life.episodes, 'episode')}; longest "
        f"met at every assessment over {_time(life.longest_met_days or 0)}. Judged on {judged}."
        f"{open_before} {BETWEEN}"
    )


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _time(days: int) -> str:
    return time_of(days) if days else "one day"


def life_components(life: Life) -> Iterator[Json]:
    """First and last day met, how often, and for how long."""
    yield _day_component("first-met", life.first_met, life)
    yield _day_component("last-met", life.last_met, life)
    number = life.episodes
    maybe = not life.met and life.may_have_been_met
    yield _component("episodes") | (_absent(life) if maybe else {"valueInteger": number})
    longest = life.longest_met_days
    yield _component("longest-time-met") | (
        _absent(life) if longest is None else {"valueQuantity": quantity(longest, "d")}
    )


def _day_component(code: str, day: date | None, life: Life) -> Json:
    value = {"valueDateTime": day.isoformat()} if day else _absent(life)
    return _component(code) | value


def _component(code: str) -> Json:
    return {"code": coded(CRITERION_SYSTEM, code, LIFE_COMPONENTS[code])}


def _absent(life: Life) -> Json:
    code = absence(life)
    return {"valueCodeableConcept": coded(ABSENCE_SYSTEM, code, ABSENCES[code])}


def absence(life: Life) -> str:
    """Why no day is known to have met the definition: none did, or one may have."""
    return "unknown" if life.may_have_been_met else "none"


def life_cells(life: Life) -> dict[str, str]:
    """What is said of the life, by the components' codes; times in days."""
    nothing = absence(life)
    days = life.longest_met_days
    maybe = not life.met and life.may_have_been_met
    return {
        "first-met": life.first_met.isoformat() if life.first_met else nothing,
        "last-met": life.last_met.isoformat() if life.last_met else nothing,
        "episodes": nothing if maybe else str(life.episodes),
        "longest-time-met": nothing if days is None else str(days),
    }


def _extension(period: Period) -> Json:
    """A period, and what decided its first day."""
    deciding = _deciding(period)
    asked = {analyte for finding in deciding for analyte in analytes_of(finding.criterion)}
    sources: dict[Source, None] = {
        source: None
        for count in period.counts
        if count.analyte in asked
        for source in count.sources
    }
    span = {"start": period.first.isoformat(), "end": period.last.isoformat()}
    verdict = verdict_coded(period.verdict)["coding"][0]
    return {
        "url": PERIOD,
        "extension": [
            {"url": "verdict", "valueCoding": verdict},
            {"url": "period", "valuePeriod": span},
            {"url": "assessments", "valueInteger": period.assessments},
            *(
                {
                    "url": "criterion",
                    "valueCoding": {"system": CRITERION_SYSTEM, "code": finding.criterion.code},
                }
                for finding in deciding
            ),
            *({"url": "source", "valueReference": reference_of(source)} for source in sources),
        ],
    }


def _deciding(period: Period) -> list[Finding]:
    """The criteria that came to what the verdict is."""
    truth = _DECIDING[period.verdict]
    return [finding for finding in period.judgement.findings if finding.truth is truth]


def _table(life: Life) -> str:
    """The periods for a reader."""
    rows = "".join(
        f"<tr><td>{period.first}</td><td>{period.last}</td><td>{period.assessments}</td>"
        f"<td>{VERDICTS[period.verdict.value]}</td><td>"
        f"{xhtml_text(', '.join(one.criterion.title for one in _deciding(period)))}</td></tr>"
        for period in life.periods[:_MOST_ROWS]
    )
    if not rows:
        return ""
    left = len(life.periods) - _MOST_ROWS
    more = f"<p>{left} more are in the extensions.</p>" if left > 0 else ""
    return (
        "<table><thead><tr><th>From</th><th>To</th><th>Days judged</th><th>Verdict</th>"
        f"<th>Decided by</th></tr></thead><tbody>{rows}</tbody></table>{more}"
    )
