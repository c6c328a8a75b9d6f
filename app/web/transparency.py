"""What the service is, page by page of law: the sheet that who deploys it reads, from the tables.

Source attributes: 45 CFR 170.315(b)(11)(iv)(A), of evidence-based decision support interventions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from app.domain.counts import Analyte, Sex
from app.domain.paper import Paper, ResponsePaper
from app.domain.recovery import NORMAL_HEMOGLOBIN, Normal, Recovered
from app.domain.rules import Criterion, Rule, criteria_of
from app.papers import EVERY, PUBLISHED, RESPONSES
from app.publishing.terminology import AID, DATE
from app.web.blocks import Block, Heading, Paragraph, Points, Table
from app.writing.words import readable

TITLE = "Transparency sheet"
FIGURES = Path(__file__).with_name("validation.json")
"""What the test suite holds, counted by `python -m tests.transparency`."""
_ATTRIBUTES = (
    "[45 CFR 170.315(b)(11)(iv)(A)](https://www.ecfr.gov/current/title-45/section-170.315)"
)
_COMMENTARIES = ", ".join(
    f"[{number}](https://{address})"
    for number, address in enumerate(
        (
            "www.frierlevitt.com/articles/fda-clinical-decision-support-software-guidance",
            "quickreads.ext.katten.com/post/102mghc/"
            "fda-clinical-decision-support-software-guidance-refresh-clearer-rules-broader",
            "meddeviceguide.com/blog/fda-clinical-decision-support-cds-guide",
        ),
        1,
    )
)
_UNUSED = "Not used: it is not read, and a test changes it and finds the same verdicts."


@cache
def sheet() -> tuple[Block, ...]:
    """The whole sheet."""
    figures = json.loads(FIGURES.read_text("utf-8"))
    return (
        *_purpose(),
        *_inputs(),
        *_validation(figures),
        *_limits(),
        Heading(2, "The definitions"),
        *(
            block
            for id_ in dict.fromkeys(paper.id for paper in EVERY)
            for block in _definition(id_, figures["cases"].get(id_, {}))
        ),
        *_fda(),
    )


def _purpose() -> Iterator[Block]:
    yield Paragraph(
        "What maa-assess is for, what it reads, how it judges, how that was tested, and where "
        "it ends. It is generated from the tables that the engine judges by."
    )
    yield Heading(2, "Intended use")
    yield Points(
        [
            f"{AID} It says whether blood counts meet a published definition of aplastic anemia, "
            "and whether a treated patient responded.",
            "For health professionals, for research and for quality work. Not for patients to "
            "judge themselves by.",
            "It is not CE-marked and not cleared by any authority; nobody claims that it is, or is "
            "not, a medical device. Whoever deploys it for care decides that, under the law there.",
            "It orders nothing and suggests no treatment: of tests only missing blood counts are "
            "suggested. Nothing in it is for emergencies, and it watches nobody.",
        ]
    )


def _inputs() -> Iterator[Block]:
    yield Heading(2, "What it reads, and how good that must be")
    yield Points(
        [
            "Results of a laboratory, as HL7 FHIR: neutrophils, platelets, hemoglobin, "
            "reticulocytes, and what these are worked out from. Each needs a patient, a date, a "
            "code (LOINC, or a map of the hospital's own) and a unit; a unit is never guessed.",
            "Transfusions, growth factors, the drug of a trial; conditions and other "
            "treatments, which are told of; body weight and date of birth where a definition "
            "limits them.",
            "What is missing, contradictory or doubted by the laboratory makes a criterion "
            "unknown, never met and never refuted. What is set aside is named, with its place "
            "and the reason.",
            "No picture, no signal of an instrument and no genetic sequence is read.",
        ]
    )


def _validation(figures: dict[str, Any]) -> Iterator[Block]:
    trial = figures["trial"]
    yield Heading(2, "How it was tested")
    yield Paragraph(
        "By the test suite, which every change must pass. The figures are at least so many: a test "
        "fails where the suite holds fewer."
    )
    yield Points(
        [
            f"{figures['tests']} tests, each a sentence that could be false, most over many "
            "inputs.",
            f"{figures['stories']} stories of patients, each verdict judged by hand before the "
            "answer was seen.",
            f"{figures['spellings']} spellings of units, each judged by hand.",
            "Cases of each definition, judged by hand from its text: below. Each number of each "
            "definition is moved by a step, and a case must fail.",
            f"The 2003 trial in synthetic patients made to follow its abstract: {trial['treated']} "
            f"treated, {trial['evaluable']} evaluable, {trial['responded']} responded.",
            "Others' engines over the same definitions (CQL), and a second, slow statement of the "
            "rules, over generated patients.",
        ]
    )
    yield Paragraph(
        "No clinical study of the service was made: how often its verdict is a hematologist's "
        "is not known. Its synthetic patients are no evidence of that."
    )


def _limits() -> Iterator[Block]:
    yield Heading(2, "Known limits")
    yield Points(
        [
            "Counts cannot tell a marrow, and no definition here is met by counts alone: what "
            "else it requires stands with each, and in each answer.",
            "Healthy people may have low counts: of African descent neutrophils near "
            "1.0 x10⁹/L (Duffy-null). Descent is not read, and no limit is changed for it.",
            "Of a history that may be incomplete, no transfusion on record is not none given.",
            "Without the laboratory's own range, what is normal in a child is unknown.",
            "Readings of our own, where a paper is silent, are said in the answer as such.",
            "Other hazards and their controls: docs/safety.md.",
        ]
    )


def _definition(id_: str, cases: dict[str, int]) -> Iterator[Block]:
    paper = next((one for one in PUBLISHED if one.id == id_), None)
    response = next((one for one in RESPONSES if one.id == id_), None)
    first = paper or response
    if first is None:
        return
    yield Heading(3, first.title, id_)
    if not first.verified:
        yield Paragraph(
            "Unverified: the published wording could not be seen; these rules are as others report "
            "them."
        )
    if paper:
        rule = readable(paper.eligibility.describe())
        yield Paragraph(f"Who has {paper.finding} by its counts: {rule}.")
        yield _criteria("Criteria", criteria_of(paper.eligibility))
    if response:
        start, end = response.days
        yield Paragraph(
            "Whether a treated patient responded: the best assessment from day "
            f"{start} to day {end} after the start of treatment."
        )
        yield _criteria("Criteria of response", _judged(response))
    beyond = [
        *(paper.also_requires if paper else ()),
        *(response.also_requires if response else ()),
    ]
    if beyond:
        yield Paragraph("What it also asks, or how it is read:")
        yield Points([readable(text) for text in dict.fromkeys(beyond)])
    yield Table(
        "Source attributes", ("Source attribute", "Here"), [*_attributes(first, paper, response)]
    )
    judged = [f"{cases[name]} of {name}" for name in ("eligibility", "response") if name in cases]
    if judged:
        yield Paragraph(f"Cases judged by hand: at least {' and '.join(judged)}.")


def _criteria(name: str, criteria: Iterable[Criterion]) -> Table:
    return Table(
        name,
        ("Criterion", "Rule", "The source's words"),
        [
            (
                one.title,
                readable(one.describe()),
                f"{readable(one.wording)} ({readable(one.source)})",
            )
            for one in dict.fromkeys(criteria)
        ],
    )


def _judged(response: ResponsePaper) -> list[Criterion]:
    others = [one for one in (response.complete, response.relapse) if one]
    return [*(lineage.responded for lineage in response.lineages), response.response, *others]


def _attributes(
    first: Paper | ResponsePaper, paper: Paper | None, response: ResponsePaper | None
) -> Iterator[tuple[str, str]]:
    """The thirteen, in the order of the regulation."""
    cited = [one.citation for one in (paper, response) if one]
    yield (
        "Bibliographic citation",
        " ".join(f"{one.text} [{one.url}]({one.url})" for one in dict.fromkeys(cited)),
    )
    yield "Developer", "the maa-assess authors"
    yield "Funding source", "none"
    yield (
        "Release and revision dates",
        f"version {first.version} of the definition, {DATE}; the source's date is in its citation",
    )
    for name in ("race", "ethnicity", "language", "sexual orientation", "gender identity"):
        yield f"Use of {name}", _UNUSED
    yield "Use of sex", _use_of_sex(response)
    yield "Use of date of birth", _use_of_birth(paper, response)
    yield "Use of social determinants of health", "Not used: none is read for a verdict."
    yield (
        "Use of health status assessments",
        "Not used for a verdict. A pregnancy in the chart is told of, as another cause of low "
        "counts.",
    )


def asks_for_normal(response: ResponsePaper, analyte: Analyte | None = None) -> bool:
    """Whether the definition asks if a count, or any, is normal."""
    rules: list[Rule] = [criterion.rule for criterion in _judged(response)]
    return any(
        isinstance(leaf, (Normal, Recovered)) and analyte in {None, leaf.analyte}
        for rule in rules
        for leaf in rule.leaves()
    )


def _use_of_sex(response: ResponsePaper | None) -> str:
    if response is None or not asks_for_normal(response, Analyte.HEMOGLOBIN):
        return "Not used for a verdict."
    men, women = (NORMAL_HEMOGLOBIN[sex][0] for sex in (Sex.MALE, Sex.FEMALE))
    return (
        "Used for a response: where the laboratory gives no range of its own, hemoglobin is normal "
        f"from {men} g/dL in men and {women} g/dL in women; where the sex is unknown, from the "
        "men's, and not below the women's. A laboratory's range for a sex holds for it alone. "
        "Eligibility does not use it."
    )


def _use_of_birth(paper: Paper | None, response: ResponsePaper | None) -> str:
    uses = []
    least = (paper.least_age_years if paper else None) or (
        response.least_age_years if response else None
    )
    if least and paper:
        uses.append(
            f"an age below {least} years is told of, as a criterion of its own; it makes not "
            "eligible only where the caller asks for exclusions"
        )
    elif least:
        uses.append(f"an age below {least} years is told of, and turns no verdict")
    if response and asks_for_normal(response):
        uses.append(
            "for a response, the table of normal counts holds from 18 years on, and a laboratory's "
            "range for an age holds for that age"
        )
    return f"Used: {'; '.join(uses)}." if uses else "Not used for a verdict."


def _fda() -> Iterator[Block]:
    yield Heading(2, "FDA's four criteria, point by point")
    yield Paragraph(
        "The United States' FDA says when software that supports a clinician's decision is no "
        "device: where it meets all four criteria of section 520(o)(1)(E) of the Food, Drug, "
        "and Cosmetic Act. Its guidance, Clinical Decision Support Software, was issued anew on "
        "6 January 2026 in place of that of 28 September 2022, and by one account revised on 29 "
        "January. Its own text could not be read here: the criteria are told as three "
        f"commentaries tell them ({_COMMENTARIES}). "
        "These are facts for whoever has to decide, not a claim."
    )
    yield Table(
        "FDA's criteria",
        ("Criterion, in our words", "Here"),
        [
            (
                "1. Reads no medical image, no signal of an in vitro diagnostic device, no "
                "pattern or signal of an acquisition system",
                "It reads results as the laboratory reports them: a number, a unit, a date. A "
                "life's counts are judged day by day, each as by itself; whether many of them "
                "are a pattern is for who decides.",
            ),
            (
                "2. Displays, analyzes or prints medical information about a patient, or other "
                "such as studies and guidelines",
                "Counts, transfusions, drugs and conditions of the chart, against published "
                "definitions, each cited.",
            ),
            (
                "3. Supports or advises a health professional on prevention, diagnosis or "
                "treatment, and does not replace his judgment",
                "It says whether a published definition is met and why, and which test is "
                "missing. No diagnosis, no treatment, no order. It cannot know who reads: the "
                "web page asks nobody for his profession, unless who deploys it does.",
            ),
            (
                "4. Lets him review the basis himself, so that he need not rely on it first of all",
                "Each answer names the criteria, the limits, the source's own words, each "
                "result that decided, what is missing and what was set aside. This sheet tells "
                "use, inputs, logic, tests and limits; the source is open.",
            ),
        ],
    )
    yield Paragraph(
        f"The thirteen source attributes of each definition are those of {_ATTRIBUTES}, which "
        "binds certified health IT and not this service: they are given so that a certified "
        "product may show them."
    )
