"""Pictures for the tests: drawn as the service does, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from app import operations
from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.writing.picture import draw
from app.writing.plotted import eligibility_plot, response_plot
from app.writing.sheet import DEFAULT_WIDTH

FIXTURES = Path(__file__).parent.parent / "fixtures"
STORIES = sorted(path.parent.name for path in FIXTURES.glob("*/request.json"))
COHORT = (FIXTURES / "daclizumab-2003" / "bundle.json").read_bytes()
SVG = "{http://www.w3.org/2000/svg}"

Json = dict[str, Any]
Element = ElementTree.Element


def of_story(story: str, width: int = DEFAULT_WIDTH) -> list[str]:
    """A story's pictures: for each patient one by each definition."""
    body = (FIXTURES / story / "request.json").read_bytes()
    judged = operations.assessed(ASSESS_ELIGIBILITY, body, normal_ranges=True)
    reading = judged.reading
    courses = {course.patient: course for course in reading.courses}
    return [
        draw(
            eligibility_plot(
                one,
                courses[one.patient],
                [*reading.remarks, *courses[one.patient].remarks],
                judged.question.as_of,
            ),
            width,
        )
        for one in judged.assessments
    ]


def of_cohort(width: int = DEFAULT_WIDTH, criteria: str = "nih-daclizumab-2003") -> list[str]:
    """The pictures of the patients of the trial's fixture, treated."""
    judged = operations.assessed(ASSESS_RESPONSE, COHORT, [("criteria", criteria)])
    reading = judged.reading
    courses = {course.patient: course for course in reading.courses}
    return [
        draw(
            response_plot(
                one,
                courses[one.patient],
                [*reading.remarks, *courses[one.patient].remarks],
                judged.question.as_of,
            ),
            width,
        )
        for one in judged.assessments
    ]


def read(picture: str) -> Element:
    """The picture as elements; fails where it is not well-formed."""
    return ElementTree.fromstring(picture)


def of_class(root: Element, name: str) -> list[Element]:
    """The elements of a class."""
    return [one for one in root.iter() if name in one.get("class", "").split()]


def title(element: Element) -> str:
    """What an element is called."""
    return element.findtext(f"{SVG}title") or ""


def texts(root: Element) -> list[str]:
    """Every word written in the picture, in order."""
    return [one.text or "" for one in root.iter(f"{SVG}text")]


def shapes(element: Element) -> str:
    """What a mark is made of: the names of its elements, a hollow one in brackets."""
    drawn = (one for one in element.iter() if one.tag not in {f"{SVG}g", f"{SVG}title"})
    return " ".join(
        f"({name})" if one.get("fill") in {"#ffffff", "none"} else name
        for one in drawn
        for name in [one.tag.removeprefix(SVG)]
    )


def outline(picture: str) -> Iterator[str]:
    """The picture as a structure: what is written, and each mark with its words and its shape."""
    root = read(picture)
    yield f"  {' | '.join(texts(root))}"
    for group in (one for one in root.iter(f"{SVG}g") if title(one)):
        yield f"  {group.get('class')}: {title(group)} [{shapes(group)}]"


def result(code: str, value: float | None, day: str, unit: str = "10*9/L", **more: Any) -> Json:
    """An entry with one result of the patient p."""
    resource: Json = {
        "resourceType": "Observation",
        "id": f"{code}-{day}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": day,
    }
    if value is not None:
        resource["valueQuantity"] = {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        }
    return {"resource": resource | more}


def bundle(*entries: Json) -> bytes:
    """A collection."""
    return json.dumps(
        {"resourceType": "Bundle", "type": "collection", "entry": list(entries)}
    ).encode()
