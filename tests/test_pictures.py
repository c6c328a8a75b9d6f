"""The picture shows every count against the definition, and nothing that was not sent."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64decode
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from app import operations, plots
from app.fhir.json import encode
from app.fhir.outcome import RequestError
from app.writing import svg
from app.writing.glyphs import GLYPHS, OUTCOMES, RINGS, STATES
from tests.pictures import (
    COHORT,
    STORIES,
    SVG,
    Element,
    Json,
    bundle,
    of_class,
    of_cohort,
    of_story,
    outline,
    read,
    result,
    shapes,
    texts,
    title,
)

GOLDEN = Path(__file__).parent / "pictures.txt"
# What an SVG may hold under a policy that allows neither styles nor scripts, and in any page.
ELEMENTS = {"svg", "title", "desc", "g", "rect", "line", "path", "circle", "text"}
NEVER = re.compile(r"style|on\w+|href|id|xlink.*")

PLATELET_TRANSFUSION: Json = {
    "resource": {
        "resourceType": "Procedure",
        "id": "t",
        "status": "completed",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "12719002"}]},
        "performedDateTime": "2024-03-03",
    }
}

every_story = pytest.mark.parametrize("story", STORIES)


def drawn(*entries: Json, **query: str) -> Element:
    """The picture that `$plot` makes of one patient's entries."""
    return read(plots.plot(bundle(*entries), list(query.items())))


def panel(root: Element, name: str) -> Element:
    """The marks of one analyte."""
    (found,) = of_class(root, name)
    return found


def height(mark: Element) -> Decimal:
    """Where the middle of a round mark stands."""
    return Decimal(next(mark.iter(f"{SVG}circle")).get("cy", ""))


def limit_heights(root: Element) -> list[Decimal]:
    return [Decimal(line.get("y1", "")) for line in of_class(root, "limit")]


@every_story
def test_the_picture_of_a_story_needs_neither_style_nor_script_and_is_named(story: str) -> None:
    for picture in of_story(story):
        root = read(picture)
        assert root.get("role") == "img"
        assert title(root)
        assert root.findtext(f"{SVG}desc")
        for element in root.iter():
            assert element.tag.removeprefix(SVG) in ELEMENTS
            assert not [name for name in element.attrib if NEVER.fullmatch(name)]


@every_story
def test_the_same_story_is_drawn_to_the_same_bytes(story: str) -> None:
    assert of_story(story) == of_story(story)


def golden() -> str:
    return "".join(
        f"{name}\n" + "".join(f"{line}\n" for line in outline(picture)) for name, picture in _all()
    )


def _all() -> Iterator[tuple[str, str]]:
    """Each story by its first patient; of the trial whoever responded in a way of his own."""
    for story in STORIES:
        yield story, of_story(story)[0]
    treated, rises = of_cohort(), of_cohort(criteria="camitta-2000-non-severe")
    for number in (1, 5, 9):
        yield f"mAA-0{number}", treated[number - 1]
    yield "the trial's patients together", plots.plot(COHORT, [("operation", "measure")])
    yield "mAA-05 by camitta-2000-non-severe", rises[4]


def test_every_story_is_drawn_as_was_looked_at() -> None:
    assert golden() == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize(
    ("anc", "where"),
    [(1.199, "below"), (1.2, "on"), (1.201, "above")],
)
def test_a_count_stands_on_its_side_of_the_definitions_limit(anc: float, where: str) -> None:
    root = drawn(result("751-8", anc, "2024-03-05"))
    entry, severe = limit_heights(root)
    (mark,) = of_class(root, "mark")
    # An SVG's y grows downwards.
    side = {
        "below": height(mark) > entry,
        "on": height(mark) == entry,
        "above": height(mark) < entry,
    }
    assert side[where]
    assert severe > entry


def test_the_ratio_scale_gives_equal_room_to_equal_ratios() -> None:
    days = ["2024-03-01", "2024-03-02", "2024-03-03"]
    values = (25, 50, 100)
    root = drawn(*(result("777-3", v, d) for v, d in zip(values, days, strict=True)))
    heights = [height(mark) for mark in of_class(root, "mark")]
    (first, second) = (a - b for a, b in pairwise(heights))
    assert first > 0
    assert abs(first - second) <= Decimal("0.02")


def test_days_stand_in_proportion() -> None:
    root = drawn(*(result("751-8", 1.0, f"2024-03-{day}") for day in ("01", "03", "07")))
    xs = [Decimal(c.get("cx", "")) for m in of_class(root, "mark") for c in m.iter(f"{SVG}circle")]
    one, two, three = dict.fromkeys(xs)
    assert abs((three - two) - 2 * (two - one)) <= Decimal("0.02")


def test_every_count_is_one_mark_and_the_judged_one_is_ringed() -> None:
    days = [date(2024, 1, 1) + timedelta(weeks=n) for n in range(20)]
    root = drawn(*(result("777-3", 40 + n, day.isoformat()) for n, day in enumerate(days)))
    marks = of_class(panel(root, "platelets"), "mark")
    assert len(marks) == 20
    assert [title(mark) for mark in marks if "judged" in mark.get("class", "")] == [
        "platelets 59 x10⁹/L, 2024-05-13; judged"
    ]


def test_a_count_after_a_transfusion_is_hollow_and_says_so() -> None:
    before, after = result("777-3", 40, "2024-03-01"), result("777-3", 90, "2024-03-05")
    root = drawn(before, after, PLATELET_TRANSFUSION)
    first, second = of_class(root, "mark")
    assert shapes(first) == "circle"
    assert shapes(second) == "(circle) (circle)"
    assert title(second).endswith("after support given 2024-03-03")
    (given,) = of_class(root, "given")
    assert title(given) == "platelets transfused, 2024-03-03"


def test_a_bound_is_an_arrow_to_where_the_count_may_be() -> None:
    quantity = {"value": 2, "unit": "10*9/L", "system": "http://unitsofmeasure.org"}
    below = {**quantity, "code": "10*9/L", "comparator": "<"}
    above = {**quantity, "code": "10*9/L", "value": 100, "comparator": ">="}
    root = drawn(
        result("751-8", None, "2024-03-05", valueQuantity=below),
        result("777-3", None, "2024-03-05", valueQuantity=above),
    )
    said = [title(mark) for mark in of_class(root, "mark")]
    assert said == [
        "ANC < 2 x10⁹/L, 2024-03-05; judged",
        "platelets ≥ 100 x10⁹/L, 2024-03-05; judged",
    ]
    for mark, downwards in zip(of_class(root, "mark"), (True, False), strict=True):
        bar, stem = mark.findall(f"{SVG}line")
        assert bar.get("y1") == bar.get("y2")
        assert (float(stem.get("y2", "")) > float(stem.get("y1", ""))) is downwards


def test_a_count_worked_out_is_a_square() -> None:
    root = drawn(result("6690-2", 4.0, "2024-03-05"), result("770-8", 30, "2024-03-05", unit="%"))
    (mark,) = of_class(panel(root, "absolute-neutrophil-count"), "mark")
    assert shapes(mark) == "rect (circle)"
    assert "worked out" in title(mark)


def test_a_result_set_aside_is_not_drawn_but_said() -> None:
    no_unit = result("777-3", None, "2024-03-05", valueQuantity={"value": 41})
    root = drawn(result("751-8", 0.9, "2024-03-05"), no_unit)
    assert len(of_class(root, "mark")) == 1
    assert "Set aside, not drawn: A number without its unit is no count (1)." in texts(root)
    assert "Platelets: no count" in texts(root)


def test_what_is_later_than_the_day_asked_for_is_not_drawn_but_said() -> None:
    early, late = result("751-8", 0.9, "2024-03-05"), result("751-8", 3.0, "2024-04-05")
    root = drawn(early, late, asOf="2024-03-10")
    assert len(of_class(root, "mark")) == 1
    assert any("Later than the day judged: ignored (1)" in text for text in texts(root))


def test_the_laboratorys_own_range_goes_before_that_of_adults() -> None:
    limits = {"low": {"value": 130, "unit": "10*9/L"}, "high": {"value": 450, "unit": "10*9/L"}}
    own = drawn(result("777-3", 41, "2024-03-05", referenceRange=[limits]))
    assert "normal (lab) 130–450" in texts(own)
    assert "normal 150–400" in texts(drawn(result("777-3", 41, "2024-03-05")))


def test_a_child_has_no_range_of_adults() -> None:
    born: Json = {"resource": {"resourceType": "Patient", "id": "p", "birthDate": "2015-01-01"}}
    root = drawn(born, result("777-3", 41, "2024-03-05"))
    assert not of_class(root, "normal")


def test_a_rise_that_a_definition_asks_for_is_drawn_from_the_baseline() -> None:
    """Camitta 2000: double the baseline of 41; +20 is asked for only where it was below 20."""
    before, after = result("777-3", 41, "2024-03-05"), result("777-3", 60, "2024-06-05")
    query = {"treatmentStart": "2024-03-06", "criteria": "camitta-2000-non-severe"}
    words = texts(drawn(before, after, **query))
    assert "≥ 82 response" in words
    assert "> 61 response" not in words
    low = result("777-3", 12, "2024-03-05")
    assert "> 32 response" in texts(drawn(low, after, **query))


def test_twenty_years_of_weekly_counts_are_thinned_and_no_judged_one_is_hidden() -> None:
    start = date(2004, 1, 5)
    entries = [
        result("777-3", 20 + (n * 37) % 60, (start + timedelta(weeks=n)).isoformat())
        for n in range(1040)
    ]
    judged_day = start + timedelta(weeks=521)
    root = drawn(*entries, asOf=judged_day.isoformat())
    marks = of_class(root, "mark")
    assert len(marks) < 200
    ringed = [title(mark) for mark in marks if "judged" in mark.get("class", "").split()]
    assert ringed == [f"platelets {20 + (521 * 37) % 60} x10⁹/L, {judged_day}; judged"]
    values = {int(title(mark).split()[1]) for mark in marks}
    assert {min(values), max(values)} == {20, 79}
    assert any(text.startswith("Drawn are ") for text in texts(root))


def test_dates_as_far_apart_as_are_read_have_years_on_their_axis() -> None:
    root = drawn(result("777-3", 41, "1850-01-01"), result("777-3", 41, "2200-12-31"))
    assert len(of_class(root, "mark")) == 2
    assert "2000" in texts(root)


def test_no_platelets_at_all_have_a_place_on_the_ratio_scale() -> None:
    root = drawn(result("777-3", 0, "2024-03-05"), result("777-3", 41, "2024-03-04"))
    low, high = (height(mark) for mark in reversed(of_class(root, "mark")))
    assert low > high
    assert "0" in texts(root)


def assessment_of(answer: Json) -> Json:
    """The first assessment of an answer."""
    found: Json = json.loads(encode(answer))["entry"][0]["resource"]
    return found


@pytest.mark.parametrize("operation", ["eligibility", "response"])
def test_an_assessment_contains_its_picture_where_that_is_asked_for(operation: str) -> None:
    assess = {"eligibility": operations.eligibility, "response": operations.response}[operation]
    query = [("subject", "Patient/mAA-05")]
    plain = assessment_of(assess(COHORT, query))
    pictured = assessment_of(assess(COHORT, [*query, ("picture", "true")]))
    (media,) = pictured.pop("contained")
    assert media["partOf"] == [{"reference": "#"}]
    assert media["subject"] == pictured["subject"]
    drawn_alone = plots.plot(COHORT, [*query, ("operation", operation)])
    assert b64decode(media["content"]["data"]).decode() == drawn_alone
    assert '<img src="#picture" alt="' in pictured["text"]["div"]
    # What the assessment rests on is the same: the picture is no source of it.
    assert {**pictured, "text": None} == {**plain, "text": None}


def test_whether_a_picture_is_wanted_is_true_or_false() -> None:
    asked = {"name": "picture", "valueBoolean": True}
    data = {"name": "data", "resource": json.loads(bundle(result("777-3", 41, "2024-03-05")))}
    body = json.dumps({"resourceType": "Parameters", "parameter": [asked, data]}).encode()
    assert assessment_of(operations.eligibility(body))["contained"]
    assert "contained" not in assessment_of(operations.eligibility(body.replace(b"true", b"false")))
    with pytest.raises(RequestError) as refused:
        operations.eligibility(COHORT, [("picture", "yes")])
    assert refused.value.faults[0].text == "'picture' is true or false."


def test_a_life_is_a_strip_of_what_each_day_came_to() -> None:
    """Two of three low in March, one in April, two again in May: met, not met, met."""
    counts = [("2024-03-05", 41), ("2024-03-12", 45), ("2024-04-20", 160), ("2024-05-30", 50)]
    entries = [result("777-3", value, day) for day, value in counts]
    entries += [result("751-8", 0.9, day) for day, _ in counts]
    entries += [result("718-7", 12, day, unit="g/dL") for day, _ in counts]
    strip = of_class(drawn(*entries, when="changes", window="5"), "period")
    assert [title(one) for one in strip] == [
        "meets the definition, 2024-03-05 to 2024-03-12",
        "does not meet it, 2024-04-20 to 2024-04-20",
        "meets the definition, 2024-05-30 to 2024-05-30",
    ]
    assert not of_class(drawn(*entries, window="5"), "period")


def swimmers(**query: str) -> Element:
    """The trial's patients, drawn together."""
    return read(plots.plot(COHORT, [("operation", "measure"), *query.items()]))


def test_each_treated_patient_of_the_trial_is_a_bar_the_best_first() -> None:
    """As the abstract counts: 17 treated, 16 evaluable, 6 responded, 2 of them completely."""
    root = swimmers()
    bars = [one.get("class", "").split()[1] for one in of_class(root, "patient")]
    assert bars == (
        ["complete-response"] * 2 + ["response"] * 4 + ["no-response"] * 10 + ["not-evaluable"]
    )
    told = " ".join(texts(root))
    assert "6 of 16 evaluable patients responded: 38% (exact 95% interval 15% to 65%)" in told
    assert "Treated: 17; not evaluable: 1; not known: 0." in told


def test_a_cohort_bar_tells_first_response_loss_and_the_last_day_known() -> None:
    said = [title(one) for one in of_class(swimmers(criteria="japan-childhood"), "patient")]
    third = next(text for text in said if text.startswith("mAA-03:"))
    assert re.search(r"first response 20\d\d-\d\d-\d\d; lost 20\d\d-\d\d-\d\d; last known", third)


def test_a_patient_who_was_not_treated_is_no_bar_and_is_counted() -> None:
    root = read(plots.plot(bundle(result("777-3", 41, "2024-03-05")), [("operation", "measure")]))
    assert of_class(root, "patient") == []
    assert "Without a start of treatment, not drawn: 1." in texts(root)


def test_a_cohort_too_large_for_bars_is_told_where_the_numbers_are() -> None:
    entries = []
    for number in range(501):
        one = result("777-3", 41, "2024-03-05")
        one["resource"] |= {"id": f"r{number}", "subject": {"reference": f"Patient/{number}"}}
        entries.append(one)
    with pytest.raises(RequestError) as refused:
        plots.plot(bundle(*entries), [("operation", "measure")])
    assert refused.value.status == 422
    plots.plot(bundle(*entries[:-1]), [("operation", "measure")])


HOSTILE = "<script>alert('1')</script>&\"\x00\u202e"


def test_hostile_names_are_words_and_never_elements() -> None:
    entry = result("751-8", 0.9, "2024-03-05", subject={"identifier": {"value": HOSTILE}})
    picture = plots.plot(bundle(entry))
    root = read(picture)
    assert "<script" not in picture
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ELEMENTS
    assert "alert" in title(root)


def test_numbers_are_written_in_hundredths_at_most() -> None:
    for picture in of_cohort():
        for element in read(picture).iter():
            for name, text in element.attrib.items():
                if name not in {"data-place", "class", "aria-label"}:
                    assert not re.search(r"\d\.\d{3}|e[-+]\d", text), (name, text)


def test_each_mark_of_the_legend_has_a_shape_of_its_own() -> None:
    drawings = [glyph.draw(50, 50, 50) for glyph in (*GLYPHS.values(), *RINGS.values())]
    drawings += [glyph.draw(50, 50, 50) for glyph in OUTCOMES.values()]
    drawings += [state.draw(50, 50, 50) for state in STATES.values()]
    colourless = [re.sub(r' (fill|stroke)="#(?!ffffff)\w+"', "", text) for text in drawings]
    # Eligibility and response have the same two ends, and are never in one picture.
    twins = 2
    assert len(set(colourless)) == len(colourless) - twins


def test_colours_are_seen_on_white() -> None:
    """WCAG 2.2: 4.5 for words, 3 for marks."""
    words = (svg.INK, svg.SOFT_INK, svg.LIMIT, svg.NORMAL_INK)
    assert all(contrast(colour) >= 4.5 for colour in words)
    assert all(contrast(colour) >= 3 for colour in (svg.COUNTED, svg.GIVEN, svg.LIMIT))


def contrast(colour: str) -> float:
    """Of a colour on white, as WCAG counts it."""
    shares = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    light = sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (light + 0.05)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({}, 422, "required"),
        ({"subject": "Patient/mAA-01", "width": "100"}, 400, "value"),
        ({"subject": "Patient/mAA-01", "width": "1e3"}, 400, "value"),
        ({"subject": "Patient/mAA-01", "operation": "guess"}, 400, "value"),
        ({"subject": "Patient/mAA-01", "criteria": "none"}, 422, "not-found"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_remedy(
    query: dict[str, str], status: int, code: str
) -> None:
    with pytest.raises(RequestError) as refused:
        plots.plot(COHORT, list(query.items()))
    assert (refused.value.status, refused.value.faults[0].type) == (status, code)


def test_a_start_of_treatment_asks_for_the_response() -> None:
    before, after = result("777-3", 41, "2024-03-05"), result("777-3", 160, "2024-06-05")
    assert "baseline" in outline_of(before, after, treatmentStart="2024-03-06")
    assert "baseline" not in outline_of(before, after)
    by_word = outline_of(before, after, treatmentStart="2024-03-06", operation="eligibility")
    assert "baseline" not in by_word


def outline_of(*entries: Json, **query: str) -> str:
    return "\n".join(outline(plots.plot(bundle(*entries), list(query.items()))))


def test_the_extra_draws_the_same_pixels_with_letters_of_its_own() -> None:
    pytest.importorskip("resvg_py")
    picture = plots.plot(COHORT, [("subject", "Patient/mAA-01"), ("operation", "response")])
    pixels = plots.png(picture)
    assert pixels.startswith(b"\x89PNG\r\n")
    assert pixels == plots.png(picture)
    wordless = re.sub(r"<text.*?</text>", "", picture)
    assert len(plots.png(wordless)) < len(pixels) * 0.8


if __name__ == "__main__" and sys.argv[1:] == ["--rewrite"]:
    GOLDEN.write_text(golden(), "utf-8")
