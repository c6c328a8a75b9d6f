"""The page's files: whole, from here alone, and its stories those of the fixtures.

`python -m tests.test_web --rewrite` writes the stories anew.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.asking import PARAMETERS
from app.papers import PUBLISHED, RESPONSES
from app.web.stories import STORIES, Story
from tests.conftest import ROOT, serving

WEB = ROOT / "app" / "web"
# The launch alone loads the other.
SCRIPTS = sorted(set(WEB.glob("*.js")) - {WEB / "smart.js"})
# Of the file build/fhir-client.pure.min.js in the npm package fhirclient 2.6.3 (Apache-2.0).
FHIR_CLIENT = "658dec434e308a6ba682158f1e94bfaa0f600bb500e78443369bfe7818133d90"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FIRST_LOAD_BYTES = 150_000


def told(story: Story) -> str:
    """A story as its file has it: the fixture's data, or those of one patient."""
    folder = ROOT / "fixtures" / story.fixture
    file = folder / "request.json"
    data: dict[str, Any] = json.loads(
        (file if file.exists() else folder / "bundle.json").read_text()
    )
    if story.patient:
        data["entry"] = [
            entry
            for entry in data["entry"]
            if f"Patient/{story.patient}" in json.dumps(entry)
            or entry["resource"].get("id") == story.patient
        ]
    # As one would paste it; a cohort's alone would be long.
    return json.dumps(data, indent=1 if len(data["entry"]) < 100 else None) + "\n"


@pytest.mark.parametrize("name", STORIES)
def test_a_story_of_the_page_is_that_of_its_fixture(name: str) -> None:
    assert (WEB / "stories" / f"{name}.json").read_text("utf-8") == told(STORIES[name])


def test_every_story_file_is_offered() -> None:
    assert {file.stem for file in (WEB / "stories").iterdir()} == set(STORIES)


def test_the_first_load_is_small_and_whole(http: httpx.Client) -> None:
    page = http.get("/", headers={"accept-encoding": "identity"})
    loaded = set(re.findall(r'(?:src|href)="(/web/[^"]+)"', page.text))
    version = re.findall(r"/web/[0-9a-f]{16}/", page.text)[0]
    waiting = list(loaded)
    while waiting:
        for name in re.findall(r'from "\./([^"]+)"', http.get(waiting.pop()).text):
            if (address := f"{version}{name}") not in loaded:
                loaded.add(address)
                waiting.append(address)
    files = {address: http.get(address) for address in loaded}
    assert {f"{version}{script.name}" for script in SCRIPTS} == {a for a in files if ".js" in a}
    for address, answer in files.items():
        assert answer.status_code == httpx.codes.OK, address
        assert "immutable" in answer.headers["cache-control"]
    total = len(page.content) + sum(len(answer.content) for answer in files.values())
    assert total < FIRST_LOAD_BYTES


def test_the_page_offers_the_choices_that_the_operations_take(http: httpx.Client) -> None:
    offered = {
        name: re.findall(r'<option value="([^"]+)"( selected)?>', options)
        for name, options in re.findall(
            r'<select id="(\w+)"[^>]*>(.*?)</select>', http.get("/").text
        )
    }
    assert set(offered) >= {"redCellPolicy", "transfusionHistory", "when", "exclusions"}
    for name, options in offered.items():
        (asked,) = (one for one in PARAMETERS if one.name == name)
        assert sorted(choice for choice, _ in options) == sorted(asked.choices)
        assert [choice for choice, selected in options if selected] == [asked.default]


def test_what_is_kept_of_others_is_as_they_published_it() -> None:
    (script,) = (WEB / "vendor").glob("*.js")
    assert script.name == "fhir-client-2.6.3.pure.min.js"
    assert hashlib.sha256(script.read_bytes()).hexdigest() == FHIR_CLIENT
    assert (
        "Apache License, Version 2.0" in script.with_name("fhir-client-2.6.3.LICENSE").read_text()
    )


def test_a_browser_that_has_the_page_is_not_sent_it_again(http: httpx.Client) -> None:
    for path in ("/", "/explain/nih-daclizumab-2003", "/transparency"):
        etag = http.get(path).headers["etag"]
        again = http.get(path, headers={"if-none-match": etag})
        assert (again.status_code, again.content) == (304, b"")
        other = http.get(path, headers={"if-none-match": 'W/"0"'})
        assert other.status_code == httpx.codes.OK


def test_a_file_of_another_version_is_not_kept(http: httpx.Client) -> None:
    assert http.get("/web/0/style.css").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/explain/emaa", "/transparency"])
def test_a_page_allows_nothing_inline_and_nothing_from_elsewhere(
    http: httpx.Client, path: str
) -> None:
    answer = http.get(path)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<style|<script(?![^>]* src=)| style=| on[a-z]+=", answer.text)


@pytest.mark.parametrize(
    "name",
    ["routes.py", "..%2fsettings.py", "page.html", "stories/none.json", ""],
)
def test_what_is_no_file_of_the_page_is_not_served(http: httpx.Client, name: str) -> None:
    assert http.get(f"/web/0/{name}").status_code == httpx.codes.NOT_FOUND


def test_every_definition_is_explained_with_its_limits_and_its_source(http: httpx.Client) -> None:
    for paper in [*PUBLISHED, *RESPONSES]:
        text = http.get(f"/explain/{paper.id}").text  # type: ignore[attr-defined]
        assert paper.citation.url in text  # type: ignore[attr-defined]
        assert "decision aid, not a diagnosis" in text
        assert ("Unverified:" in text) is (not paper.verified)  # type: ignore[attr-defined]
    daclizumab = http.get("/explain/nih-daclizumab-2003").text
    assert "ANC \N{LESS-THAN OR EQUAL TO} 1.2 x10\N{SUPERSCRIPT NINE}/L" in (daclizumab)
    assert "a hypocellular bone marrow" in daclizumab
    assert http.get("/explain/none").status_code == httpx.codes.NOT_FOUND


def test_the_page_finds_its_files_below_a_prefix(tmp_path: Path) -> None:
    with serving(tmp_path / "log", MAA_PUBLIC_URL="https://lab.example.org/maa") as url:
        page = httpx.get(f"{url}/maa/").text
        found = re.findall(r'(?:src|href)="(/[^"]+)"', page)
        assert found
        for address in found:
            assert address.startswith("/maa/")
            assert httpx.get(f"{url}{address}").status_code == httpx.codes.OK


def test_whoever_reads_no_html_is_answered_as_before(http: httpx.Client) -> None:
    for accept in ("application/json", "*/*", "text/html"):
        answer = http.get("/", headers={"accept": accept})
        assert answer.status_code == httpx.codes.OK
        assert answer.headers["content-type"].startswith("text/html")


def test_the_page_is_sent_compressed_to_whoever_asks(http: httpx.Client) -> None:
    with http.stream("GET", "/", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw).startswith(b"<!doctype html>")


if __name__ == "__main__" and sys.argv[1:] == ["--rewrite"]:
    for one, story in STORIES.items():
        (WEB / "stories" / f"{one}.json").write_text(told(story), "utf-8")
