"""The picture that README begins with; `python -m tests.browser.portrait` writes it anew."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import ViewportSize, sync_playwright

from tests.conftest import ROOT, serving
from tests.tools import chromium

PORTRAIT = ROOT / "docs" / "page.png"
_SIZE: ViewportSize = {"width": 1000, "height": 1024}


def main() -> None:
    """A year of treatment, as a visitor sees it after one click."""
    with (
        TemporaryDirectory() as folder,
        serving(Path(folder, "log")) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport=_SIZE, color_scheme="light")
        page.goto(url)
        page.locator("[data-story=response]").click()
        page.locator(".picture svg").wait_for()
        page.locator(".side").first.wait_for()
        page.locator("#answer").evaluate("one => window.scrollTo(0, one.offsetTop - 16)")
        # No button looks pressed, and no frame is drawn around what was gone to.
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=PORTRAIT)
        browser.close()


if __name__ == "__main__":
    main()
