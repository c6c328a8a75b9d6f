"""What holds of every course and every Bundle, tried on many."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from app import operations
from app.domain.assessment import Verdict, analytes_of, assess_eligibility, reading
from app.domain.counts import (
    Analyte,
    Count,
    Course,
    Drug,
    DrugGiven,
    Interval,
    Kind,
    NoTransfusion,
    Patient,
    Product,
    Source,
    Transfusion,
    When,
)
from app.domain.derivation import derived_counts
from app.fhir.writing import encode
from app.papers import PUBLISHED

settings.register_profile(
    "here",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("here")

JUDGED = (
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT,
    Analyte.PLATELETS,
    Analyte.HEMOGLOBIN,
    Analyte.RETICULOCYTES,
)
# On, just under and just over every published limit, and far from all of them.
TELLING = {
    Analyte.ABSOLUTE_NEUTROPHIL_COUNT: [
        "0.1",
        "0.2",
        "0.4",
        "0.5",
        "0.6",
        "1.2",
        "1.3",
        "1.5",
        "4",
    ],
    Analyte.PLATELETS: ["10", "19", "20", "49", "50", "69", "70", "71", "99", "100", "250"],
    Analyte.HEMOGLOBIN: ["6", "8.4", "8.5", "8.6", "9.9", "10", "14"],
    Analyte.RETICULOCYTES: ["10", "19", "20", "39", "40", "59", "60", "61", "100"],
}
READINGS = [(p, policy) for p in PUBLISHED for policy in (p.red_cell_policies or (None,))]
readings = st.sampled_from(READINGS)
days = st.dates(date(1900, 1, 1), date(2100, 12, 31)) | st.sampled_from([date.min, date.max])
numbers = st.decimals(0, 500, places=2)


@st.composite
def whens(draw: st.DrawFn) -> When:
    first = draw(days)
    if draw(st.booleans()):
        last = (
            min(first + timedelta(days=draw(st.integers(0, 400))), date.max)
            if first < date(2200, 1, 1)
            else first
        )
        return When(first, last, None, f"{first}/{last}")
    return When(
        first, first, datetime(first.year, first.month, first.day, 8, tzinfo=UTC), str(first)
    )


intervals = st.one_of(
    numbers.map(Interval.exactly),
    numbers.map(lambda n: Interval(None, n, high_included=False)),
    numbers.map(lambda n: Interval(n, None)),
    st.tuples(numbers, numbers).map(lambda pair: Interval(min(pair), max(pair))),
    st.just(Interval(None, None)),
)
sources = st.integers(0, 9).map(lambda n: Source(f"Observation/{n}", f"Bundle.entry[{n}].resource"))
counts = st.builds(
    Count,
    analyte=st.sampled_from(Analyte),
    value=intervals,
    when=whens(),
    sources=st.tuples(sources),
    manual=st.booleans(),
    doubtful=st.booleans(),
    kind=st.just(Kind.MEASURED),
    parts=st.just(()),
    specimen=st.sampled_from([None, "Specimen/1"]),
)
courses = st.builds(
    lambda some, given, statements, drugs, complete: Course(
        Patient("Patient/1"),
        counts=tuple(some),
        derived=derived_counts(some),
        transfusions=tuple(given),
        no_transfusions=tuple(statements),
        transfusion_history_complete=complete,
        drugs=tuple(drugs),
    ),
    st.lists(counts, max_size=12),
    st.lists(st.builds(Transfusion, st.sampled_from(Product), whens(), sources), max_size=5),
    st.lists(st.builds(NoTransfusion, st.none(), whens(), sources), max_size=2),
    st.lists(st.builds(DrugGiven, st.sampled_from(Drug), whens(), sources), max_size=3),
    st.booleans(),
)


@given(courses, readings, st.none() | whens(), st.integers(1, 36_500))
def test_every_course_has_a_verdict(course: Course, which: Any, as_of: Any, window: int) -> None:
    paper, policy = which
    found = assess_eligibility(paper, course, as_of, window, policy)
    assert (found.verdict is Verdict.INDETERMINATE) == bool(
        found.needs or found.needs_transfusion_history
    )


@given(courses, readings, st.randoms(use_true_random=False))
def test_order_and_repetition_of_results_change_no_verdict(
    course: Course, which: Any, shuffler: random.Random
) -> None:
    paper, policy = which
    some = [*course.counts, *course.counts[:3]]
    shuffler.shuffle(some)
    other = replace(course, counts=tuple(some), derived=derived_counts(some))
    one, two = (assess_eligibility(paper, c, policy=policy) for c in (course, other))
    assert (one.verdict, one.needs) == (two.verdict, two.needs)


values = st.fixed_dictionaries(
    {a: st.none() | st.sampled_from(TELLING[a]).map(Decimal) for a in JUDGED}
)


def of_values(some: dict[Analyte, Decimal | None]) -> Course:
    day = date(2024, 3, 5)
    return Course(
        Patient("Patient/1"),
        counts=tuple(
            Count(
                analyte,
                Interval.exactly(value),
                When(day, day, None, "2024-03-05"),
                (Source(f"Observation/{analyte.name}", analyte.name),),
            )
            for analyte, value in some.items()
            if value is not None
        ),
    )


@given(values, readings)
def test_a_decided_verdict_stands_whatever_is_learned_of_missing_counts(
    some: dict[Analyte, Decimal | None], which: Any
) -> None:
    paper, policy = which
    verdict = assess_eligibility(paper, of_values(some), policy=policy).verdict
    assume(verdict is not Verdict.INDETERMINATE)
    missing = [analyte for analyte, value in some.items() if value is None]
    for learned in product(*(TELLING[a][::2] for a in missing)):
        more = some | {a: Decimal(v) for a, v in zip(missing, learned, strict=True)}
        assert assess_eligibility(paper, of_values(more), policy=policy).verdict is verdict


@given(values, readings)
def test_the_counts_asked_for_settle_the_verdict_and_each_of_them_can_matter(
    some: dict[Analyte, Decimal | None], which: Any
) -> None:
    paper, policy = which
    found = assess_eligibility(paper, of_values(some), policy=policy)
    assume(found.verdict is Verdict.INDETERMINATE and policy != "reticulocytes-when-transfused")
    matters = set()
    for learned in product(*(TELLING[a] for a in found.needs)):
        told = {a: Decimal(v) for a, v in zip(found.needs, learned, strict=True)}
        settled = assess_eligibility(paper, of_values(some | told), policy=policy)
        assert settled.verdict is not Verdict.INDETERMINATE
        for analyte in set(found.needs) - matters:
            without = assess_eligibility(
                paper, of_values(some | told | {analyte: None}), policy=policy
            )
            if without.verdict is Verdict.INDETERMINATE:
                matters.add(analyte)
    assert matters == set(found.needs)
    assert set(found.needs) <= analytes_of(reading(paper, policy)[0])


# Through FHIR

UNITS = {
    "751-8": [
        ("10*9/L", "1"),
        ("10*3/uL", "1"),
        ("/uL", "1000"),
        ("{cells}/uL", "1000"),
        ("K/uL", "1"),
    ],
    "777-3": [("10*9/L", "1"), ("/nL", "1"), ("/mm3", "1000"), ("10*12/L", "0.001")],
    "718-7": [("g/dL", "1"), ("g/L", "10"), ("mg/dL", "1000")],
    "60474-4": [("10*9/L", "1"), ("10*6/mL", "1"), ("/uL", "1000"), ("10*6/uL", "0.001")],
}
CODES = dict(zip(UNITS, JUDGED, strict=True))


def observation(name: str, code: str, value: str, unit: str, when: str, **more: Any) -> str:
    quantity = f'{{"value":{value},"unit":{json.dumps(unit)}}}'
    rest = json.dumps(
        {
            "resourceType": "Observation",
            "id": name,
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "subject": {"reference": "Patient/1"},
            "effectiveDateTime": when,
        }
        | more
    )
    return f'{rest[:-1]},"valueQuantity":{quantity}}}'


def ask(resources: list[str], **parameters: str) -> dict[str, Any]:
    entries = ",".join(f'{{"resource":{resource}}}' for resource in resources)
    body = f'{{"resourceType":"Bundle","type":"collection","entry":[{entries}]}}'
    answer: dict[str, Any] = json.loads(
        encode(operations.eligibility(body.encode(), list(parameters.items())))
    )
    return answer


def verdict_of(answer: dict[str, Any]) -> tuple[str, list[str]]:
    found = answer["entry"][0]["resource"]
    return found["valueCodeableConcept"]["coding"][0]["code"], [
        part["valueCodeableConcept"]["coding"][0]["code"]
        for part in found["component"]
        if "valueCodeableConcept" in part
    ]


spellings = st.sampled_from([str, lambda v: f"{v}0" if "." in v else f"{v}.0", lambda v: f"{v}e0"])


@st.composite
def told_twice(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """The same counts, once plainly and once in other units, spellings and order."""
    plain: list[str] = []
    other: list[str] = []
    for code, analyte in CODES.items():
        if draw(st.booleans()):
            value = draw(st.sampled_from(TELLING[analyte]))
            unit, factor = draw(st.sampled_from(UNITS[code]))
            written = draw(spellings)(format(Decimal(value) * Decimal(factor), "f"))
            plain.append(observation(code, code, value, UNITS[code][0][0], "2024-03-05"))
            other.append(observation(code, code, written, unit, "2024-03-05"))
    other += other[:1]
    return plain, draw(st.permutations(other))


@given(told_twice())
def test_unit_spelling_order_and_repetition_change_no_verdict(
    told: tuple[list[str], list[str]],
) -> None:
    assume(told[0])
    assert verdict_of(ask(told[0])) == verdict_of(ask(told[1]))


@given(told_twice(), st.sampled_from(sorted(CODES)))
def test_a_result_entered_in_error_changes_no_verdict(
    told: tuple[list[str], list[str]], code: str
) -> None:
    assume(told[0])
    wrong = observation(
        "wrong", code, "1", UNITS[code][0][0], "2024-03-06", status="entered-in-error"
    )
    assert verdict_of(ask(told[0])) == verdict_of(ask([*told[0], wrong]))


MORE = [
    ("6690-2", "10*9/L", ["0.4", "0.9", "2.0", "6"]),
    ("770-8", "%", ["20", "60", "61"]),
    ("769-0", "%", ["20", "55"]),
    ("764-1", "%", ["1", "5"]),
    ("30451-9", "10*9/L", ["0.3", "1.3"]),
    ("26507-4", "10*9/L", ["0.1"]),
    ("789-8", "10*12/L", ["2.0", "4.0"]),
    ("17849-1", "%", ["0.5", "1.5", "3"]),
    *((code, UNITS[code][0][0], TELLING[analyte]) for code, analyte in CODES.items()),
]
WHENS = [
    "2024-03-05",
    "2024-03-05T08:00:00Z",
    "2024-03-05T09:00:00+01:00",
    "2024-02-20",
    "2024-02-04",
    "2024-02-03",
    "2024-03",
    "2024",
    "2019-03-05",
]


@st.composite
def charts(draw: st.DrawFn) -> list[str]:
    resources = []
    for index in range(draw(st.integers(1, 9))):
        code, unit, some = draw(st.sampled_from(MORE))
        more: dict[str, Any] = {}
        if draw(st.booleans()):
            more["specimen"] = {"reference": "Specimen/1"}
        text = observation(
            f"o{index}",
            code,
            draw(st.sampled_from(some)),
            unit,
            draw(st.sampled_from(WHENS)),
            **more,
        )
        comparator = draw(st.sampled_from(["", "", "", "<", ">="]))
        if comparator:
            text = text.replace('"unit"', f'"comparator":"{comparator}","unit"')
        resources.append(text)
    for index in range(draw(st.integers(0, 5))):
        code = draw(st.sampled_from(["116863004", "12719002", "116859006"]))
        when = draw(st.sampled_from([*WHENS, "2024-03-01", "2024-01-20"]))
        resources.append(
            json.dumps(
                {
                    "resourceType": "Procedure",
                    "id": f"p{index}",
                    "status": "completed",
                    "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
                    "subject": {"reference": "Patient/1"},
                    "performedDateTime": when,
                }
            )
        )
    return resources


@given(charts(), readings, st.sampled_from(["complete", "unknown"]))
def test_the_answers_own_evidence_is_enough(chart: list[str], which: Any, history: str) -> None:
    paper, policy = which
    asked = {"criteria": paper.id, "transfusionHistory": history, "redCellPolicy": policy or "both"}
    answer = ask(chart, **asked)
    found = answer["entry"][0]["resource"]
    named = {r.get("reference") for r in found.get("derivedFrom", [])}
    named |= {e["valueReference"]["reference"] for e in found.get("extension", [])}
    kept = [
        text
        for text in chart
        if (r := msgspec.json.decode(text)) and f"{r['resourceType']}/{r['id']}" in named
    ]
    assume(any('"Observation"' in text for text in kept))
    assert verdict_of(ask(kept, **asked)) == verdict_of(answer)
