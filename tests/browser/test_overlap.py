"""What is written in the pictures is legible in a browser: nothing overlaps, nothing is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from app import plots
from tests.pictures import COHORT, STORIES, of_cohort, of_story
from tests.tools import chromium

# The boxes of all words, and of the picture.
MEASURE = """() => {
  const box = (one) => {
    const { x, y, width, height } = one.getBBox();
    return [x, y, x + width, y + height, one.textContent];
  };
  const { width } = document.querySelector("svg").viewBox.baseVal;
  return [[...document.querySelectorAll("text")].map(box), width];
}"""
# A box of text is higher than its letters.
INK = 0.8


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of Debian's Chromium, which asks for nothing from outside."""
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        yield browser.new_page()
        browser.close()


def overlapping(page: Page, picture: str) -> list[str]:
    """Words that cover each other or leave the picture."""
    page.set_content(f"<body>{picture}</body>")
    boxes, width = page.evaluate(MEASURE)
    found = [text for left, _, right, _, text in boxes if left < 0 or right > width]
    for n, (left, top, right, bottom, text) in enumerate(boxes):
        for left2, top2, right2, bottom2, text2 in boxes[n + 1 :]:
            across = min(right, right2) - max(left, left2)
            down = min(bottom, bottom2) - max(top, top2)
            if across > 0 and down > (1 - INK) * min(bottom - top, bottom2 - top2):
                found.append(f"{text} | {text2}")
    return found


@pytest.mark.parametrize("width", [360, 760, 1200])
@pytest.mark.parametrize("story", STORIES)
def test_no_words_of_a_story_overlap(page: Page, story: str, width: int) -> None:
    for picture in of_story(story, width):
        assert overlapping(page, picture) == []


@pytest.mark.parametrize("width", [360, 760, 1200])
@pytest.mark.parametrize(
    "criteria", ["nih-daclizumab-2003", "camitta-2000-non-severe", "nih-eltrombopag-2012"]
)
def test_no_words_of_the_trials_patients_overlap(page: Page, criteria: str, width: int) -> None:
    for picture in of_cohort(width, criteria):
        assert overlapping(page, picture) == []


@pytest.mark.parametrize("width", [320, 760, 1600])
def test_no_words_of_a_cohort_overlap(page: Page, width: int) -> None:
    picture = plots.plot(COHORT, [("operation", "measure"), ("width", str(width))])
    assert overlapping(page, picture) == []


def test_words_that_overlap_would_be_seen(page: Page) -> None:
    words = '<text x="5" y="20">one</text><text x="7" y="22">other</text>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50" width="100">{words}</svg>'
    assert overlapping(page, svg) == ["one | other"]


def test_a_policy_that_allows_nothing_but_the_picture_leaves_it_whole(page: Page) -> None:
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    (picture,) = of_story("anc-as-text")
    page.set_content(f"<html><head>{policy}</head><body>{picture}</body></html>")
    fills = "() => getComputedStyle(document.querySelector('.limit')).stroke"
    assert page.evaluate(fills) == "rgb(168, 67, 0)"
    assert refused == []
