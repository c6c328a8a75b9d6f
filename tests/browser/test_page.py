"""The page in a real browser: what a visitor gives it, what is shown, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.conftest import ROOT

WAIT_MS = 15_000
DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 390, "height": 800}
NARROWEST = {"width": 320, "height": 700}
ATTACK = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>\'"&'
MET = "The counts meet this definition."
NOT_MET = "The counts do not meet this definition."
OPEN = "Open: it is not known whether the counts meet this definition."
SEVERE = "The counts do not meet this definition: they are severe by counts."
SHEET = """date,ANC (10^9/L),platelets (10^9/L),Hb (g/dL),reticulocytes (10^9/L)
2024-03-05,0.90,41,9.4,35
"""

Json = dict[str, Any]


class Visit:
    """A page that is open, and what the browser complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(url)

    def _heard(self, message: Any) -> None:
        # A refused input and a picture that is not drawn are answers too.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def story(self, name: str) -> Locator:
        self.page.locator(f"[data-story={name}]").click()
        return self.answer()

    def paste(self, text: str) -> None:
        # As a paste does it: at once, and told as one.
        self.page.locator("#input").evaluate(
            """(field, text) => {
                field.value = text;
                field.dispatchEvent(new InputEvent("input", { inputType: "insertFromPaste" }));
            }""",
            text,
        )

    def answer(self) -> Locator:
        answer = self.page.locator("#answer")
        expect(answer).to_be_visible()
        return answer

    def drop(self, name: str, content: bytes, kind: str = "") -> None:
        file = {"name": name, "mimeType": kind, "buffer": content}
        self.page.locator("#file").set_input_files([file])  # type: ignore[arg-type]

    def problem(self) -> Locator:
        return self.page.locator("#problems .problem, #sheet .problem").first


@pytest.fixture
def visit(browser: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    how = {"viewport": DESKTOP} | getattr(request, "param", {})
    context = browser.new_context(**how)
    visit = Visit(context.new_page(), server)
    yield visit
    context.close()
    assert visit.complaints == []


def result(code: str, value: float, unit: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": f"o-{code}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2024-03-05",
        "valueQuantity": {"value": value, "unit": unit},
    } | more


def bundle(*resources: Json) -> str:
    entries = [{"resource": resource} for resource in resources]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})


# What each story comes to, from its fixture's title.


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("moderate", [MET]),
        ("open", [OPEN]),
        ("severe", [SEVERE]),
        ("transfused", [OPEN, MET]),
        ("unit", [OPEN]),
        ("clumps", [OPEN]),
        ("text", [SEVERE]),
        ("three", [NOT_MET, MET, OPEN]),
        ("response", ["Response."]),
    ],
)
def test_a_story_comes_to_its_verdict(visit: Visit, name: str, verdicts: list[str]) -> None:
    answer = visit.story(name)
    expect(answer.locator(".verdict h4")).to_have_text(verdicts)


def test_a_cohort_is_told_in_one_table_and_patient_by_patient(visit: Visit) -> None:
    answer = visit.story("cohort")
    expect(answer.locator(".overview tbody tr")).to_have_count(17)
    expect(answer.locator(".patient")).to_have_count(17)
    expect(answer.locator("#cohort svg")).to_contain_text("6 of 16 evaluable patients responded")
    answer.locator(".overview").get_by_role("button", name="mAA-03").click()
    expect(
        answer.locator(".patient", has=visit.page.locator("h3", has_text="mAA-03"))
    ).to_be_focused()


def test_each_criterion_has_its_count_as_sent_and_as_read_its_date_and_its_limit(
    visit: Visit,
) -> None:
    answer = visit.story("open")
    row = answer.locator(".criteria tr", has_text="Platelets depressed")
    expect(row.locator("td")).to_have_text(
        [
            "✓ met",
            "platelets ≤ 70 x10⁹/L",
            re.compile("60 10\\*9/L"),
            "platelets 60 x10⁹/L",
            "2024-03-05",
        ]
    )
    red_cells = answer.locator(".criteria tr", has_text="Red cells depressed")
    expect(red_cells.locator("td").first).to_have_text("? unknown")
    expect(answer.locator(".missing")).to_contain_text("To settle it: absolute reticulocyte count.")
    others = answer.locator(".side tr", has_text="Severe aplastic anemia (Camitta 1976)")
    expect(others.locator("[data-name=Verdict]")).to_contain_text("not met")


def test_digits_are_shown_as_they_were_sent(visit: Visit) -> None:
    visit.paste(bundle(result("751-8", 1, "10*9/L")).replace('"value": 1,', '"value": 0.900,'))
    expect(visit.answer().locator(".criteria")).to_contain_text("0.900 10*9/L")


def test_a_count_leads_to_its_place_in_the_input(visit: Visit) -> None:
    answer = visit.story("open")
    answer.get_by_role("button", name=re.compile("^60 10")).first.click()
    entry = visit.page.locator("#entry-1")
    expect(entry.locator("summary")).to_be_focused()
    expect(entry.locator("mark").first).to_be_visible()
    expect(entry.locator("pre")).to_contain_text('"value": 60')


def test_what_was_set_aside_is_told_and_its_place_marked(visit: Visit) -> None:
    answer = visit.story("unit")
    issue = answer.locator(".issues li", has_text="The value has no unit")
    expect(issue.locator(".level")).to_have_text("warning")
    issue.get_by_role("button").click()
    marked = visit.page.locator("#entries mark")
    expect(marked.first).to_have_text(re.compile('"value'))
    expect(visit.page.locator("#entries details.doubted")).to_have_count(1)


def test_what_if_moves_the_verdict_and_back(visit: Visit) -> None:
    answer = visit.story("open")
    answer.get_by_role("button", name="What if the reticulocytes were known?").click()
    visit.page.keyboard.type("35")
    visit.page.keyboard.press("Enter")
    expect(answer.locator(".moved")).to_contain_text("was open, now met")
    expect(answer.locator(".moved")).to_contain_text("Red cells depressed: unknown, now met")
    expect(answer.locator(".verdict h4")).to_have_text(MET)
    answer.get_by_role("button", name="Back to the counts as sent").click()
    expect(answer.locator(".verdict h4")).to_have_text(OPEN)
    expect(answer.locator(".moved")).to_have_count(0)


def test_what_if_changes_a_count_that_was_sent(visit: Visit) -> None:
    answer = visit.story("moderate")
    answer.locator(".if summary").click()
    answer.get_by_label("Count", exact=True).select_option("change Observation/tora-platelets")
    answer.locator(".if").get_by_label("is").fill("70,1")
    answer.get_by_role("button", name="See what moves").click()
    expect(answer.locator(".moved")).to_contain_text("was met, now open")
    expect(answer.locator(".moved")).to_contain_text("These are not the patient's counts")


def test_definitions_day_window_and_policy_are_asked_for(visit: Visit) -> None:
    page = visit.page
    visit.paste(
        bundle(
            result("751-8", 0.9, "10*9/L"),
            result("777-3", 41, "10*9/L"),
            result("777-3", 300, "10*9/L", id="later", effectiveDateTime="2024-03-20"),
        )
    )
    expect(visit.answer().locator(".verdict h4")).to_have_text([OPEN])
    page.locator("#how summary").click()
    page.get_by_label("As known on").fill("2024-03-06")
    expect(visit.answer().locator(".verdict h4")).to_have_text([MET])
    page.get_by_label(re.compile("BSH")).check()
    expect(visit.answer().locator(".verdict h4")).to_have_count(2)


def test_each_day_the_answer_changed_is_told_and_drawn(visit: Visit) -> None:
    page = visit.page
    asked = json.loads((ROOT / "fixtures/met-twice-in-a-life/request.json").read_text())
    visit.paste(json.dumps(asked["parameter"][1]["resource"]))
    answer = visit.answer()
    expect(answer.locator(".verdict h4")).to_have_text([NOT_MET])
    expect(answer.locator(".periods")).to_have_count(0)
    page.locator("#how summary").click()
    page.get_by_label("Judge", exact=True).select_option("changes")
    expect(answer.locator(".verdict h4")).to_have_text(["The counts met this definition."])
    expect(answer.locator(".verdict")).to_contain_text(
        "first on 2021-02-01. By the newest counts: not met (2024-03-05)."
    )
    expect(answer.locator(".course dd").locator("visible=true")).to_have_text(
        ["2021-02-01", "2023-04-03", "2", "28 d", re.compile("^other causes")]
    )
    rows = answer.locator(".periods tbody tr")
    expect(rows.locator("th")).to_have_text(
        ["2021-02-01", "2021-09-06", "2023-01-09", "2023-02-27", "2023-04-03", "2024-03-05"]
    )
    expect(rows.locator("[data-name=Answer]")).to_have_text(
        ["✓ met", "✗ not met", "✓ met", "? open", "✓ met", "✗ not met"]
    )
    expect(answer.locator(".picture .period")).to_have_count(6)
    rows.nth(2).get_by_role("button", name=re.compile("^40 ")).click()
    expect(page.locator("#entries .revealed pre")).to_contain_text("olga-platelets-20230109")
    page.get_by_label("Met for at least").fill("6 weeks or so")
    page.get_by_label("Met for at least").blur()
    expect(visit.problem()).to_contain_text("'sustained' is a duration up to 10 a")
    page.get_by_label("Met for at least").fill("6 wk")
    page.get_by_label("Met for at least").blur()
    expect(answer.locator(".verdict h4")).to_have_text([NOT_MET])
    expect(answer.locator(".course dd").first).to_contain_text("Not known: it may")
    assert Axe().run(page).response["violations"] == []


def test_recorded_exclusions_decide_where_they_are_asked_to(visit: Visit) -> None:
    visit.paste((ROOT / "fixtures/leukemia-in-the-chart/request.json").read_text())
    expect(visit.answer().locator(".verdict h4")).to_have_text([MET])
    visit.page.locator("#how summary").click()
    visit.page.get_by_label("Recorded exclusions").select_option("apply")
    expect(visit.answer().locator(".verdict h4")).to_have_text([NOT_MET])


def test_nothing_is_stored_and_nothing_stands_in_an_address(visit: Visit, server: str) -> None:
    visit.story("response")
    visit.page.locator("#how summary").click()
    visit.page.get_by_label("As known on").fill("2000-06-01")
    expect(visit.page.locator(".verdict").first).to_contain_text("2000-06-01")
    kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
    assert visit.page.evaluate(kept) == [0, 0, "", f"{server}/"]
    assert visit.page.evaluate("indexedDB.databases()") == []
    for address in visit.asked:
        assert address.startswith(f"{server}/")
        assert re.search(r"[?](?!operation=response&width=[0-9]+$)", address) is None
        assert "mAA-03" not in address


def test_the_answer_can_be_copied_as_fhir(visit: Visit) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer = visit.story("three")
    first = answer.locator(".patient").first
    first.locator(".fhir summary").click()
    first.get_by_role("button", name="Copy").click()
    expect(first.get_by_text("Copied.")).to_be_visible()
    copied = json.loads(visit.page.evaluate("navigator.clipboard.readText()"))
    kinds = [entry["resource"]["resourceType"] for entry in copied["entry"]]
    assert kinds[:2] == ["Observation", "GuidanceResponse"]


# How it looks, and for whom


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("story", ["", "unit", "response", "three"])
def test_axe_finds_nothing(
    browser: Browser, server: str, theme: Any, size: Any, story: str
) -> None:
    context = browser.new_context(viewport=size, color_scheme=theme)
    visit = Visit(context.new_page(), server)
    if story:
        visit.story(story)
        expect(visit.page.locator(".side").first).to_be_attached()
    open_all = "document.querySelectorAll('details').forEach(one => { one.open = true; })"
    visit.page.evaluate(open_all)
    found = Axe().run(visit.page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
    context.close()


def test_axe_finds_nothing_in_a_sheet_and_an_explanation(visit: Visit, server: str) -> None:
    visit.paste("Datum;Hb\n03/04/2024;8,1\n")
    expect(visit.page.locator("#sheet")).to_be_visible()
    assert Axe().run(visit.page).response["violations"] == []
    visit.page.goto(f"{server}/explain/nih-daclizumab-2003")
    assert Axe().run(visit.page).response["violations"] == []


@pytest.mark.parametrize("visit", [{"viewport": NARROWEST}], indirect=True)
def test_the_narrowest_screen_scrolls_one_way_only(visit: Visit) -> None:
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert visit.page.evaluate(wide) == 0
    visit.story("response")
    assert visit.page.evaluate(wide) == 0
    visit.paste(SHEET)
    expect(visit.page.locator("#sheet")).to_be_visible()
    assert visit.page.evaluate(wide) == 0


def test_a_verdict_is_reached_and_read_by_keyboard_alone(visit: Visit) -> None:
    keyboard = visit.page.keyboard
    keyboard.press("Tab")
    expect(visit.page.get_by_role("link", name="To the counts")).to_be_focused()
    keyboard.press("Enter")
    expect(visit.page.locator("#input")).to_be_focused()
    while visit.page.evaluate("document.activeElement.dataset.story") != "open":
        keyboard.press("Tab")
    keyboard.press("Enter")
    expect(visit.page.locator("#h-answer")).to_be_focused()
    expect(visit.page.locator("#status")).to_contain_text("Open")
    while "1.5 10*9/L" not in visit.page.evaluate("document.activeElement.textContent"):
        keyboard.press("Tab")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert visit.page.evaluate(outline) != "none"
    keyboard.press("Enter")
    expect(visit.page.locator("#entry-0 summary")).to_be_focused()


@pytest.mark.parametrize(("name", "patients"), [("three", 3), ("response", 1), ("transfused", 2)])
def test_each_patient_is_printed_on_one_sheet(visit: Visit, name: str, patients: int) -> None:
    visit.story(name)
    expect(visit.page.locator(".side")).to_have_count(patients)
    expect(visit.page.locator(".picture svg")).to_have_count(patients)
    printed = visit.page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == patients
    visit.page.emulate_media(media="print")
    for hidden in ("#ask", "#source", "nav"):
        expect(visit.page.locator(hidden)).not_to_be_visible()
    visit.page.emulate_media(media="screen")


def test_the_policy_stops_what_would_break_the_page(visit: Visit) -> None:
    page = visit.page
    page.evaluate(
        """() => {
            window.stopped = [];
            document.addEventListener("securitypolicyviolation", event => {
                window.stopped.push(event.effectiveDirective);
            });
            const add = (name, fill) => {
                const made = document.createElement(name);
                fill(made);
                document.body.append(made);
            };
            add("script", made => { made.textContent = "window.broken = 1"; });
            add("script", made => { made.src = "https://elsewhere.invalid/x.js"; });
            add("style", made => { made.textContent = "body { display: none }"; });
            add("p", made => { made.setAttribute("style", "color: red"); });
            add("img", made => { made.src = "https://elsewhere.invalid/x.png"; });
            add("iframe", made => { made.src = "https://elsewhere.invalid/"; });
            add("button", made => {
                made.setAttribute("onclick", "window.broken = 1");
                made.click();
            });
            fetch("https://elsewhere.invalid/").catch(() => {});
        }"""
    )
    page.wait_for_function("new Set(window.stopped).size >= 7")
    assert set(page.evaluate("window.stopped")) == {
        "script-src-elem",
        "script-src-attr",
        "style-src-elem",
        "style-src-attr",
        "img-src",
        "frame-src",
        "connect-src",
    }
    assert page.evaluate("window.broken") is None
    assert page.locator("body").is_visible()
    visit.complaints.clear()


def test_text_of_the_data_is_never_more_than_text(visit: Visit) -> None:
    attacked = result(
        "751-8",
        0.9,
        ATTACK,
        id="o-1",
        note=[{"text": ATTACK}],
    )
    attacked["code"]["text"] = attacked["code"]["coding"][0]["display"] = ATTACK
    patient = {"resourceType": "Patient", "id": "p1", "name": [{"text": ATTACK}], "gender": ATTACK}
    told = result("777-3", 1, "x", id="o-2", valueString=f"45 {ATTACK}")
    del told["valueQuantity"]
    odd = result("718-7", 8, "g/dL", status=ATTACK, id="o-3")
    odd_subject = result("718-7", 8, "g/dL", id="o-4", subject={"display": ATTACK})
    visit.paste(bundle(patient, attacked, told, odd, odd_subject, result("777-3", 40, "10*9/L")))
    answer = visit.answer()
    expect(answer).to_contain_text(ATTACK)
    expect(visit.page.locator("#source")).to_contain_text(ATTACK)
    for one in visit.page.locator("#entries details summary").all():
        one.click()
    for one in answer.locator("details").all():
        one.evaluate("one => { one.open = true; }")
    visit.paste(
        f'patient,date,"ANC ({ATTACK.replace(chr(34), chr(39))})",{ATTACK.replace(chr(34), "")}\n'
    )
    visit.paste(f"patient\tdate\tANC ({ATTACK})\t{ATTACK}\n{ATTACK}\t2024-03-05\t0.9 {ATTACK}\tx\n")
    expect(visit.page.locator("#sheet")).to_contain_text(ATTACK)
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.page.locator("#status")).not_to_have_text("")
    visit.drop(f"{ATTACK}.csv", b"%PDF-1.7")
    visit.drop("a.json", bundle({"resourceType": ATTACK, "id": ATTACK}).encode())
    expect(visit.problem()).to_be_visible()
    assert visit.page.evaluate("window.broken") is None
    assert visit.page.locator("main img, main script").count() == 0


def test_the_picture_is_read_by_pointer_and_by_keyboard(visit: Visit) -> None:
    answer = visit.story("open")
    picture = answer.locator(".read-out")
    expect(picture.get_by_role("img")).to_be_visible()
    picture.locator(".mark").nth(1).hover()
    expect(picture.locator(".readout")).to_have_text("platelets 60 x10⁹/L, 2024-03-05; judged")
    picture.focus()
    visit.page.keyboard.press("Home")
    expect(picture.locator(".readout")).to_have_text("ANC 1.5 x10⁹/L, 2024-03-05; judged")
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#entry-1 summary")).to_be_focused()


@pytest.mark.parametrize(
    "inside",
    [
        "<script>window.broken = 1</script>",
        '<g onload="window.broken = 1"/>',
        '<a href="javascript:1"><text>x</text></a>',
        '<rect style="fill: red"/>',
        '<rect fill="url(https://elsewhere.invalid/x)"/>',
        "<foreignObject><p xmlns='http://www.w3.org/1999/xhtml'>x</p></foreignObject>",
    ],
)
def test_a_picture_with_more_than_a_drawing_in_it_stays_out(visit: Visit, inside: str) -> None:
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/>{inside}</svg>'
    visit.page.route(
        "**/fhir/$plot*",
        lambda route: route.fulfill(body=drawn, content_type="image/svg+xml"),
    )
    answer = visit.story("open")
    expect(visit.problem()).to_have_text("The picture is not one that this page shows.")
    expect(answer.locator(".picture svg")).to_have_count(0)
    expect(answer.locator(".verdict h4")).to_have_text(OPEN)
    assert visit.page.evaluate("window.broken") is None
    visit.complaints.clear()  # The policy stops some of it while it is read.


# Sheets


def test_a_sheet_is_shown_before_it_is_judged(visit: Visit) -> None:
    visit.paste(SHEET)
    expect(visit.page.locator("#sheet")).to_be_visible()
    expect(visit.page.locator("#status")).to_contain_text("4 counts of 1 patient")
    expect(visit.page.locator("#answer")).not_to_be_visible()
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    answer = visit.answer()
    expect(answer.locator(".verdict h4")).to_have_text(MET)
    expect(answer.locator(".criteria")).to_contain_text("0.90 10^9/L")
    answer.get_by_role("button", name=re.compile("^41 ")).first.click()
    expect(visit.page.locator("#cell-1-2")).to_be_focused()
    expect(visit.page.locator("#cell-1-2")).to_have_text("41")


def test_a_spreadsheet_of_another_country_is_read(visit: Visit) -> None:
    visit.paste(
        "Datum\tNeutrophile (G/L)\tThrombozyten (G/L)\tHb (g/dl)\tRetikulozyten (/nl)\n"
        "5.3.2024\t0,9\t41\t8,1\t<20\n"
    )
    expect(visit.page.locator("#sheet")).to_contain_text("0,9 read as 0.9")
    expect(visit.page.locator("#sheet")).to_contain_text("5.3.2024 read as 2024-03-05")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    answer = visit.answer()
    expect(answer.locator(".verdict h4")).to_have_text(MET)
    expect(answer.locator(".criteria tr", has_text="Red cells depressed").first).to_contain_text(
        "met"
    )


def test_a_date_that_can_be_two_days_is_asked_for(visit: Visit) -> None:
    visit.paste(SHEET.replace("2024-03-05", "03/04/2024"))
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.page.locator("#problems")).to_contain_text("Which day is 03/04/2024?")
    visit.page.get_by_label("day first: 2024-04-03").check()
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.answer().locator(".verdict")).to_contain_text("judged on 2024-04-03")


def test_a_date_that_another_row_explains_is_not_asked_for(visit: Visit) -> None:
    visit.paste(SHEET.replace("2024-03-05", "03/04/2024") + "25/03/2024,1.0,45,9.2,33\n")
    expect(visit.page.locator("#sheet")).to_contain_text("day/month/year, since 25/03/2024 occurs")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.answer().locator(".verdict")).to_contain_text("judged on 2024-04-03")


def test_a_number_that_can_be_two_is_asked_for(visit: Visit) -> None:
    visit.paste("date;ANC (/uL);platelets (/uL)\n2024-03-05;1,200;45000\n")
    expect(visit.page.get_by_role("group", name="Which number is 1,200?")).to_be_visible()
    visit.page.get_by_label("1200", exact=True).check()
    expect(visit.page.locator("#sheet")).to_contain_text("1,200 read as 1200")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.answer().locator(".verdict h4")).to_have_text(MET)


def test_a_column_without_a_unit_is_asked_for(visit: Visit) -> None:
    visit.paste(SHEET.replace("platelets (10^9/L)", "platelets"))
    expect(visit.problem()).to_have_text("The column 'platelets' has no unit: choose it.")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.page.locator("#answer")).not_to_be_visible()
    visit.page.get_by_label("Unit of column 3, platelets").select_option("10*3/uL")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.answer().locator(".verdict h4")).to_have_text(MET)


def test_two_patients_in_one_sheet_are_told_apart(visit: Visit) -> None:
    visit.paste(
        "Name\tdate\tANC (10^9/L)\tplatelets (10^9/L)\n"
        "Jane Doe\t2024-03-05\t0.9\t41\nJohn Roe\t2024-03-05\t4.0\t250\n"
    )
    expect(visit.page.locator("#sheet")).to_contain_text("The sheet holds 2 patients")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    answer = visit.answer()
    expect(answer.locator(".patient h3")).to_have_text(
        [re.compile("Jane Doe"), re.compile("John Roe")]
    )
    expect(answer.locator(".verdict h4")).to_have_text([MET, NOT_MET])


def test_days_side_by_side_are_read_as_rows(visit: Visit) -> None:
    visit.paste("\t2024-03-05\nANC (10^9/L)\t0.9\nplatelets (10^9/L)\t41\nnote\tx\n")
    page = visit.page
    expect(page.locator("#sheet")).to_contain_text("The column 'note' is not used")
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(visit.answer().locator(".verdict h4")).to_have_text(MET)


def test_a_sheet_with_a_row_for_each_result_is_read(visit: Visit) -> None:
    visit.paste(
        "Patient\tDate\tTest\tResult\tUnits\n"
        "A1\t2024-03-05 08:30\tNeutrophils abs.\t0,9\tG/L\n"
        "A1\t2024-03-05 08:30\tPlatelet count\t41\t10^9/L\n"
        "A1\t2024-03-05 08:30\tNeutrophils\t40\t%\n"
        "A1\t2024-03-05 08:30\tCreatinine\t80\tumol/L\n"
        "A1\t2024-03-05 08:30\tPlatelet distribution width\t12\tfL\n"
    )
    sheet = visit.page.locator("#sheet")
    expect(visit.page.locator("#status")).to_contain_text("3 counts of 1 patient")
    expect(sheet).to_contain_text("'Creatinine' is not used (1 row).")
    expect(sheet).to_contain_text("'Platelet distribution width' is not used (1 row).")
    expect(sheet).to_contain_text("The times of day are not used, the days are")
    expect(sheet).to_contain_text("2024-03-05 08:30 read as 2024-03-05")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    answer = visit.answer()
    expect(answer.locator(".verdict h4")).to_have_text([MET])
    answer.locator(".criteria").get_by_role("button", name=re.compile("^41 ")).first.click()
    expect(visit.page.locator("#cell-2-3")).to_be_focused()


def test_a_result_without_a_unit_in_its_row_is_not_taken_for_one_with(visit: Visit) -> None:
    visit.paste("test;date;value;unit\nANC;2024-03-05;0.9;10^9/L\nplatelets;2024-03-05;41;\n")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    answer = visit.answer()
    expect(answer.locator(".verdict h4")).to_have_text([OPEN])
    expect(answer.locator(".issues")).to_contain_text("The value has no unit")


def test_a_time_with_its_zone_is_kept(visit: Visit) -> None:
    visit.paste(SHEET.replace("2024-03-05", "2024-03-05T08:30:00+01:00"))
    expect(visit.page.locator("#sheet")).to_contain_text("ANC")
    expect(visit.page.locator("#sheet")).not_to_contain_text("times of day")
    with visit.page.expect_request("**/fhir/$assess-eligibility") as asked:
        visit.page.get_by_role("button", name="Judge", exact=True).click()
    assert '"effectiveDateTime":"2024-03-05T08:30:00+01:00"' in (asked.value.post_data or "")
    expect(visit.answer().locator(".verdict h4")).to_have_text([MET])


def test_a_percentage_is_no_count(visit: Visit) -> None:
    visit.paste("date,WBC (10^9/L),Neutrophils (%),platelets (10^9/L)\n2024-03-05,2.0,40,41\n")
    visit.page.get_by_role("button", name="Judge", exact=True).click()
    row = visit.answer().locator(".criteria tr", has_text="Neutrophils depressed")
    expect(row).to_contain_text("0.8 x10⁹/L")
    expect(row).to_contain_text("40 %")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("45356", "this is how a spreadsheet stores a day"),
        ("05/03/24", "write the year in four digits"),
        ("2024-02-31", "there is no such day"),
        ("last week", "write it as 2024-03-05"),
    ],
)
def test_a_date_that_is_none_is_told(visit: Visit, cell: str, words: str) -> None:
    visit.paste(SHEET.replace("2024-03-05", cell))
    expect(visit.problem()).to_contain_text(f"Row 2: '{cell}' is not read as a date: {words}")


def test_a_decimal_comma_between_commas_is_told(visit: Visit) -> None:
    visit.paste("date,ANC (10^9/L)\n2024-03-05,0,9\n")
    expect(visit.page.locator("#sheet")).to_contain_text("A decimal comma between commas does that")


# What is no input


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("report.pdf", b"%PDF-1.7 ...", "This is a PDF"),
        ("counts.xlsx", b"PK\x03\x04...", "Save as, CSV"),
        ("counts.xls", b"\xd0\xcf\x11\xe0...", "Save as, CSV"),
        ("scan.png", b"\x89PNG\r\n", "This is a picture"),
        ("empty.csv", b"", "This file is empty"),
        ("data.bin", b"\x80\x00\x01\x02", "This file is not text"),
        ("half.json", b'{"resourceType":"Bundle","entry":[', "is not whole"),
        ("chart.xml", b"<Bundle/>", "This is XML or HTML"),
        ("message.hl7", b"MSH|^~\\&|LAB", "HL7 v2"),
        ("other.json", b'{"a":1}', "it has no resourceType"),
        ("lines.ndjson", b'{"resourceType":"Patient"}\n{"a":1}\n', "Line 2 of 2"),
        ("none.json", b'{"resourceType":"Bundle","entry":[]}', "Observation"),
    ],
)
def test_a_file_that_cannot_be_judged_is_told_in_words_and_nothing_typed_is_lost(
    visit: Visit, name: str, content: bytes, words: str
) -> None:
    visit.page.locator("#input").fill("typed before")
    visit.drop(name, content)
    expect(visit.problem()).to_contain_text(words)
    if visit.page.locator("#input").input_value() != "typed before":
        visit.page.get_by_role("button", name="Bring back what was here").click()
    expect(visit.page.locator("#input")).to_have_value("typed before")


def test_a_large_input_is_named_and_shown_in_full_only_when_asked_for(visit: Visit) -> None:
    page = visit.page
    platelets = [
        result("777-3", 41, "10*9/L", id=f"o-{index}", effectiveDateTime=f"{1000 + index}-03-05")
        for index in range(1020)
    ]
    text = bundle(result("751-8", 0.9, "10*9/L", effectiveDateTime="2019-03-05"), *platelets)
    page.locator("#input").fill("typed before")
    visit.drop("counts.json", text.encode())
    answer = visit.answer()
    expect(answer.locator(".verdict h4")).to_have_text([MET])
    expect(page.locator("#input")).not_to_be_visible()
    expect(page.locator("#large")).to_contain_text(f"counts.json, {round(len(text) / 1000)} kB")
    expect(page.locator("#large pre")).to_contain_text('{"resourceType": "Bundle"')
    assert Axe().run(page).response["violations"] == []
    answer.locator(".criteria").get_by_role("button", name=re.compile("^41 ")).first.click()
    expect(page.locator("#entry-1020 pre")).to_contain_text('"2019-03-05"')
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("#input")).to_have_value(text)
    expect(page.locator("#large")).not_to_be_visible()
    page.get_by_role("button", name="Bring back what was here").click()
    expect(page.locator("#input")).to_have_value("typed before")
    page.get_by_role("button", name="Bring back what was here").click()
    page.get_by_role("button", name="Take it away").click()
    expect(page.locator("#input")).to_have_value("")
    expect(page.locator("#problems .problem")).to_have_count(0)


def test_a_large_paste_is_not_laid_out(visit: Visit) -> None:
    text = bundle(result("751-8", 0.9, "10*9/L", note=[{"text": "x" * 200_000}]))
    visit.page.locator("#input").evaluate(
        """(field, text) => {
            const clipboardData = new DataTransfer();
            clipboardData.setData("text/plain", text);
            field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, cancelable: true }));
        }""",
        text,
    )
    expect(visit.answer().locator(".verdict h4")).to_have_text([OPEN])
    expect(visit.page.locator("#large")).to_contain_text("What was pasted, 200 kB")
    expect(visit.page.locator("#large")).to_be_focused()


def test_a_large_file_is_told_to_be_one(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_bytes(b" " * 50_000_000)
    visit.page.locator("#file").set_input_files(file)
    expect(visit.problem()).to_contain_text("This file has 48 MB; the page takes up to 16")


def test_a_folder_is_told_to_be_one(visit: Visit) -> None:
    visit.page.evaluate(
        """() => {
            const event = new Event("drop", { bubbles: true, cancelable: true });
            const item = { webkitGetAsEntry: () => ({ isDirectory: true }) };
            event.dataTransfer = { items: [item], files: [new File([], "folder")] };
            document.body.dispatchEvent(event);
        }"""
    )
    expect(visit.problem()).to_contain_text("This is a folder")


def test_a_service_that_does_not_answer_is_told_and_nothing_is_lost(visit: Visit) -> None:
    visit.page.route("**/fhir/*", lambda route: route.abort())
    text = bundle(result("751-8", 0.9, "10*9/L"))
    visit.paste(text)
    expect(visit.problem()).to_contain_text("The service does not answer")
    expect(visit.page.locator("#input")).to_have_value(text)


def test_ndjson_and_parameters_are_judged(visit: Visit, tmp_path: Path) -> None:
    anc, platelets = result("751-8", 0.9, "10*9/L"), result("777-3", 41, "10*9/L")
    visit.paste(f"{json.dumps(anc)}\n{json.dumps(platelets)}\n")
    expect(visit.answer().locator(".verdict h4")).to_have_text(MET)
    asked = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "asOf", "valueDate": "2024-03-10"},
            {"name": "data", "resource": json.loads(bundle(anc))},
        ],
    }
    visit.paste(json.dumps(asked))
    expect(visit.answer().locator(".verdict")).to_contain_text("judged on 2024-03-10")
