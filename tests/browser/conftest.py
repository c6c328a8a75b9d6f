"""The browser of the tests: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.tools import do_without


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A user without Chromium skips these tests, CI does not."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        do_without("Chromium is not installed (apt-get install chromium): no browser test.")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
