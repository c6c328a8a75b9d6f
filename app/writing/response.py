"""Response assessments to FHIR R4 resources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from app.domain.counts import Count, Product, Remark, Severity
from app.domain.dependence import DEPENDENCE_DAYS
from app.domain.exposure import Exposure
from app.domain.moments import INDEPENDENCE_WINDOWS, Moment, ResponseVerdict
from app.domain.paper import LINEAGE_RESPONSES
from app.domain.response import LineageReport, ResponseAssessment
from app.domain.rules import Criterion, Truth, criteria_of
from app.fhir.canonicals import ASSESSMENT_SYSTEM, CRITERION_SYSTEM
from app.fhir.components import RESPONSE_COMPONENTS, RESPONSE_COURSE, RESPONSE_MOMENTS
from app.fhir.json import Json, coded, quantity
from app.fhir.verdicts import TRUTHS, VERDICTS, truth_coded, verdict_coded
from app.writing.answers import Answer, data_requirements
from app.writing.chart import cause_component
from app.writing.narrative import as_xhtml, named, rule_cells, text_of
from app.writing.notes import policy_note, standing_notes
from app.writing.observation import assessment_observation, canonical, day_of, decided_by
from app.writing.words import readable

_PRODUCTS = (Product.RED_CELLS, Product.PLATELETS)
_HEADLINES = {
    ResponseVerdict.COMPLETE: "Complete response.",
    ResponseVerdict.RESPONSE: "Response.",
    ResponseVerdict.NO_RESPONSE: "No response.",
    ResponseVerdict.NOT_EVALUABLE: "Not evaluable.",
    ResponseVerdict.INDETERMINATE: "It is not known whether the patient responded.",
}


def response_answer(found: ResponseAssessment, remarks: Sequence[Remark]) -> Answer:
    """A response assessment, with the remarks made in reading its patient's data."""
    return Answer(
        observation=_observation(found),
        canonical=canonical(found.paper),
        patient=found.patient,
        day=day_of(found),
        verdict=found.verdict.value,
        open=found.verdict is ResponseVerdict.INDETERMINATE,
        note=found.reason or missing_for_response(found),
        requirements=data_requirements(found.needs, found.needs_transfusions),
        remarks=(*remarks, *found.remarks, *window_remarks(found)),
        enrolment="on-study",
    )


def response_headline(found: ResponseAssessment) -> str:
    """The verdict in a sentence, with its reason where there is none."""
    return f"{_HEADLINES[found.verdict]} {found.reason}".strip()


def missing_for_response(found: ResponseAssessment) -> str:
    """What would settle an open verdict; empty when it is settled."""
    if found.verdict is not ResponseVerdict.INDETERMINATE:
        return ""
    if found.unconfirmed:
        days = found.paper.confirmed_after_days
        return f"To settle it: counts at least {days} days apart that confirm the response."
    wanted = [f"{analyte.title} free of transfusion or growth factor" for analyte in found.needs]
    if found.needs_transfusions:
        weeks = _weeks(found.independence_days)
        wanted.append(
            f"the transfusions of the {weeks} before the counts and before treatment"
            if found.independence_days == DEPENDENCE_DAYS
            else f"the transfusions of the {weeks} before the counts, and of the "
            f"{_weeks(DEPENDENCE_DAYS)} before treatment"
        )
    if wanted:
        return f"To settle it: {', '.join(wanted)}."
    return (
        "The counts rose above the entry limit but are not normal, and the definition prints no "
        "number in between: ask a definition with numbers, such as nih-eltrombopag-2012."
    )


def _rule_text(found: ResponseAssessment, criterion: Criterion) -> str:
    """The rule in words; where it is made of the lineages' rules, their names."""
    lineages = {one.lineage.responded.code for one in found.lineages}
    named = criteria_of(criterion.rule)
    if lineages & {one.code for one in named}:
        return "at least one of: " + ", ".join(one.title for one in named)
    return criterion.describe()


def _observation(found: ResponseAssessment) -> Json:
    notes = _notes(found)
    verdict = verdict_coded(found.verdict) | {"text": response_headline(found)}
    return assessment_observation(
        found,
        coded(ASSESSMENT_SYSTEM, "response", "Hematologic response by blood counts"),
        verdict,
        _narrative(found, notes),
        notes,
        [
            *_criteria(found),
            *_assessments(found),
            *_course(found),
            cause_component(found.causes),
        ],
        charted=found.causes.sources,
    )


def _criteria(found: ResponseAssessment) -> Iterator[Json]:
    paper = found.paper
    reports = {report.lineage.responded.code: report for report in found.lineages}
    for code in LINEAGE_RESPONSES:
        yield _lineage(reports[code]) if code in reports else _truth(code, None)
    yield _independence(found)
    end_point = _truth("primary-end-point", found.response, _rule_text(found, paper.response))
    end_point["code"]["text"] = paper.response.title
    yield end_point
    rule = paper.complete.describe() if paper.complete else ""
    yield _truth("complete", found.complete, rule)
    yield _truth("kept-two-years", found.kept_two_years)
    if paper.relapse:
        yield _truth("relapse", found.relapse, paper.relapse.describe())


def _truth(code: str, truth: Truth | None, rule: str = "") -> Json:
    component: Json = {
        "code": coded(CRITERION_SYSTEM, code, RESPONSE_COMPONENTS[code]),
        "valueCodeableConcept": truth_coded(truth),
    }
    if rule:
        component["referenceRange"] = [{"text": readable(rule)}]
    return component


def _lineage(report: LineageReport) -> Json:
    criterion = report.lineage.responded
    component = _truth(criterion.code, report.truth, criterion.describe())
    component["valueCodeableConcept"]["text"] = lineage_text(report)
    counts = (count for count in (report.before, report.after) if count)
    return decided_by(component, [source for count in counts for source in count.sources])


def _independence(found: ResponseAssessment) -> Json:
    component = _truth("transfusion-independence", found.independence)
    if found.baseline is None or found.judged is None:
        return component
    component["valueCodeableConcept"]["text"] = transfusions_text(found)
    windows = (found.baseline, found.judged.window)
    return decided_by(component, [source for t in windows for source in t.dependence_sources])


def transfusions_text(found: ResponseAssessment) -> str:
    """Dependence before treatment and independence at the assessment; empty without one."""
    if found.baseline is None or found.judged is None:
        return ""
    days = found.independence_days
    return " ".join(_transfused(found, product, days) for product in _PRODUCTS)


def _transfused(found: ResponseAssessment, product: Product, days: int) -> str:
    """One product's transfusions before treatment, and up to the assessment."""
    assert found.baseline  # noqa: S101 asked where there is one, and an assessment
    assert found.judged  # noqa: S101
    before = found.baseline.known.transfusion_dependent[product]
    after = found.judged.known.transfusion_independent[product]
    depended = {
        Truth.MET: "depended on transfusions",
        Truth.NOT_MET: "did not depend on transfusions",
        Truth.UNKNOWN: "it is not known whether the patient depended on transfusions",
    }[before]
    since = {
        Truth.MET: "none",
        Truth.NOT_MET: "still transfused",
        Truth.UNKNOWN: "it is not known whether any was given",
    }[after]
    return (
        f"{product.value.capitalize()}: {depended} in the {_weeks(DEPENDENCE_DAYS)} before "
        f"treatment; {since} in the {_weeks(days)} to {found.judged.day}."
    )


def _weeks(days: int) -> str:
    return f"{days} days" if days % 7 else f"{days // 7} weeks"


def window_remarks(found: ResponseAssessment) -> tuple[Remark, ...]:
    """The published transfusion-free times under which the answer would be another."""
    return tuple(
        Remark(
            "independence-window",
            Severity.INFORMATION,
            f"Were {INDEPENDENCE_WINDOWS[other.days]} free of transfusion asked for, the verdict "
            f"would be {other.verdict.value} and transfusion independence "
            f"{other.independence.value if other.independence else 'not applicable'}.",
            (),
        )
        for other in found.other_windows
    )


def lineage_text(report: LineageReport) -> str:
    """Before, now, the change, and why it counts as it does."""
    said = [report.why]
    for name, count in (("before", report.before), ("judged", report.after)):
        if count:
            said.append(f"{name} {_value(count)}")
    if report.change is not None:
        said.append(readable(f"change {report.change:+f} {report.lineage.analyte.unit}"))
    if report.fold is not None:
        said.append(f"{report.fold}-fold")
    return "; ".join(said)


def _value(count: Count) -> str:
    analyte = count.analyte
    return readable(f"{analyte.short} {text_of(count.value)} {analyte.unit} of {count.when.text}")


def _assessments(found: ResponseAssessment) -> Iterator[Json]:
    for code, _, moment in moments_of(found):
        verdict = moment.verdict if moment else ResponseVerdict.NOT_EVALUABLE
        yield {
            "code": coded(CRITERION_SYSTEM, code, RESPONSE_COMPONENTS[code]),
            "valueCodeableConcept": verdict_coded(verdict),
        }
        if moment:
            yield _dated(f"{code}-date", moment)


def moments_of(found: ResponseAssessment) -> list[tuple[str, str, Moment | None]]:
    """The assessments told beside the verdict: code, title, and the assessment."""
    moments = (found.at_3_months, found.at_6_months, found.current, found.best)
    return [
        (code, title, moment)
        for (code, title), moment in zip(RESPONSE_MOMENTS.items(), moments, strict=True)
    ]


def _dated(code: str, moment: Moment) -> Json:
    return {
        "code": coded(CRITERION_SYSTEM, code, RESPONSE_COMPONENTS[code]),
        "valueDateTime": moment.day.isoformat(),
    }


def _course(found: ResponseAssessment) -> Iterator[Json]:
    """Time to response, first loss, and the protocol's drug as it was given."""
    if found.first_response:
        days = found.first_response.days_after
        yield {
            "code": coded(
                CRITERION_SYSTEM, "time-to-response", RESPONSE_COURSE["time-to-response"]
            ),
            "valueQuantity": quantity(days, "d"),
        }
    if found.first_loss:
        yield _dated("first-loss-date", found.first_loss)
    if found.exposure:
        yield {
            "code": coded(
                CRITERION_SYSTEM, "daclizumab-exposure", RESPONSE_COURSE["daclizumab-exposure"]
            ),
            "valueString": exposure_text(found.exposure),
        }


def exposure_text(exposure: Exposure) -> str:
    """The drug as it was given, beside the trial's plan: information only."""
    said = [f"{exposure.doses} doses from {exposure.first.text} to {exposure.last.text}"]
    if exposure.interval_days:
        said.append("every " + _spread([Decimal(d) for d in exposure.interval_days]) + " days")
    if exposure.mg_per_kg:
        said.append(_spread(exposure.mg_per_kg) + " mg/kg")
    return "; ".join(said) + " (the trial planned 1 mg/kg every 14 days for 3 months)"


def _spread(values: Sequence[Decimal]) -> str:
    low, high = min(values), max(values)
    return f"{low:f}" if low == high else f"{low:f} to {high:f}"


def _notes(found: ResponseAssessment) -> list[str]:
    paper = found.paper
    notes = standing_notes(paper)
    notes += filter(None, (found.reason, missing_for_response(found)))
    notes += (f"{text[0].upper()}{text[1:]}." for text in paper.also_requires)
    if found.policy:
        notes.append(policy_note(found.policy))
    if found.independence_days != paper.independence_days:
        notes.append(
            f"Transfusion independence was asked for over {_weeks(found.independence_days)}; the "
            f"definition's is {_weeks(paper.independence_days)}."
        )
    notes += (remark.text for remark in window_remarks(found))
    notes += (one.text for one in found.remarks if one.code == "severe-limit-disputed")
    return notes


def _narrative(found: ResponseAssessment, notes: Iterable[str]) -> str:
    rows = "".join(_row(report) for report in found.lineages)
    moments = "".join(
        f"<li>{as_xhtml(title)}: {VERDICTS[moment.verdict.value]} ({moment.day})</li>"
        for _, title, moment in moments_of(found)
        if moment
    )
    start = f" Treatment started {found.start.text}." if found.start else ""
    day = f" Judged on the counts of {found.judged.day}." if found.judged else ""
    kept = TRUTHS[found.kept_two_years.value if found.kept_two_years else "not-applicable"]
    exposure = f"<p>{as_xhtml(exposure_text(found.exposure))}</p>" if found.exposure else ""
    transfusions = transfusions_text(found)
    criteria = "".join(
        f"<p>{as_xhtml(one.title)}: {as_xhtml(_rule_text(found, one))}. "
        f"The paper: {as_xhtml(one.wording)} ({as_xhtml(one.source)})</p>"
        for one in (found.paper.response, found.paper.complete)
        if one
    )
    table = (
        "<table><thead><tr><th>Lineage</th><th>Answer</th><th>Counts</th><th>Rule</th>"
        f"<th>The paper's words</th></tr></thead><tbody>{rows}</tbody></table>"
        if rows
        else ""
    )
    return (
        '<div xmlns="http://www.w3.org/1999/xhtml">'
        f"<p>{as_xhtml(found.paper.title)}: {as_xhtml(named(found.patient))}<br/>"
        f"<b>{as_xhtml(response_headline(found))}</b>{as_xhtml(start + day)}</p>{table}"
        + (f"<ul>{moments}<li>Kept for two years: {kept}</li></ul>" if moments else "")
        + (f"<p>{as_xhtml(transfusions)}</p>" if transfusions else "")
        + criteria
        + exposure
        + f"<p>{as_xhtml(found.paper.citation.text)}</p>"
        + "".join(f"<p>{as_xhtml(note)}</p>" for note in notes)
        + "</div>"
    )


def _row(report: LineageReport) -> str:
    criterion = report.lineage.responded
    answer = TRUTHS[report.truth.value if report.truth else "not-applicable"]
    return (
        f"<tr><td>{as_xhtml(criterion.title)}</td><td>{answer}</td>"
        f"<td>{as_xhtml(lineage_text(report))}</td>{rule_cells(criterion)}</tr>"
    )
