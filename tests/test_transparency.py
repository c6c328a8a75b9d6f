"""The transparency sheet: true of the engine, as served as in docs, and no older than the tests."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.papers import EVERY, RESPONSES
from app.web.blocks import Block, Heading, Points, Table, html, markdown
from app.web.transparency import FIGURES, sheet
from tests.transparency import DOCUMENT, counted, document

Json = dict[str, Any]
FIXTURES = Path(__file__).parents[1] / "fixtures"
REQUESTS = sorted(FIXTURES.glob("*/request.json"))
TRIAL = FIXTURES / "daclizumab-2003" / "bundle.json"
CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
OMB = "urn:oid:2.16.840.1.113883.6.238"
IDS = list(dict.fromkeys(paper.id for paper in EVERY))


def us_core(name: str, code: str, text: str) -> Json:
    """The US Core extension of race or ethnicity."""
    return {
        "url": f"{CORE}/us-core-{name}",
        "extension": [
            {"url": "ombCategory", "valueCoding": {"system": OMB, "code": code, "display": text}},
            {"url": "text", "valueString": text},
        ],
    }


def patient(race: tuple[str, str], ethnicity: tuple[str, str], language: str, **said: str) -> Json:
    """What a Patient may say of itself beside sex and date of birth."""
    return {
        "language": language,
        "extension": [
            us_core("race", *race),
            us_core("ethnicity", *ethnicity),
            {
                "url": f"{CORE}/us-core-genderIdentity",
                "valueCodeableConcept": {"text": said["gender"]},
            },
            {
                "url": "http://hl7.org/fhir/StructureDefinition/patient-religion",
                "valueCodeableConcept": {"text": said["religion"]},
            },
        ],
        "name": [{"family": said["family"], "given": [said["given"]]}],
        "address": [{"country": said["country"], "city": said["city"], "postalCode": "1"}],
        "communication": [{"language": {"coding": [{"code": language}]}, "preferred": True}],
        "maritalStatus": {"text": said["marital"]},
    }


PEOPLE = [
    patient(
        ("2054-5", "Black or African American"),
        ("2186-5", "Not Hispanic or Latino"),
        "yo",
        gender="non-binary",
        religion="Islam",
        family="Adéyẹmí",
        given="Olú",
        country="NG",
        city="Lagos",
        marital="married",
    ),
    patient(
        ("2106-3", "White"),
        ("2135-2", "Hispanic or Latino"),
        "es",
        gender="male",
        religion="none",
        family="Severe",
        given="Platelets 20",
        country="US",
        city="Anemia, Wyoming",
        marital="widowed",
    ),
    patient(
        ("2028-9", "Asian"),
        ("2186-5", "Not Hispanic or Latino"),
        "ja",
        gender="female",
        religion="Shinto",
        family="山田",
        given="花子",
        country="JP",
        city="東京",
        marital="never married",
    ),
]


def bundle_of(request: Json) -> Json:
    if request["resourceType"] == "Bundle":
        return request
    (data,) = (one["resource"] for one in request["parameter"] if one["name"] == "data")
    return data  # type: ignore[no-any-return]


def subjects(bundle: Json) -> set[str]:
    """The ids of Patients that results name, and that are not in the data themselves."""
    named = set(re.findall(r'"reference": "Patient/([A-Za-z0-9.-]+)"', json.dumps(bundle)))
    entries = [one.get("resource", {}) for one in bundle.get("entry", ())]
    return named - {one.get("id") for one in entries if one.get("resourceType") == "Patient"}


def as_somebody(request: Json, said: Json) -> Json:
    """The request with a Patient for everybody in it, who says this of himself."""
    request = copy.deepcopy(request)
    bundle = bundle_of(request)
    entries = bundle.setdefault("entry", [])
    entries += [{"resource": {"resourceType": "Patient", "id": id_}} for id_ in subjects(bundle)]
    for entry in entries:
        resource = entry.get("resource", {})
        if resource.get("resourceType") == "Patient":
            kept = [*resource.get("extension", ()), *said.get("extension", ())]
            resource |= said | ({"extension": kept} if kept else {})
    return request


def told(answer: Json) -> Iterator[tuple[Any, ...]]:
    """Of each assessment whose, by which definition, its verdict and all coded answers."""
    for entry in answer.get("entry", ()):
        one = entry["resource"]
        if one["resourceType"] == "Observation":
            codes = [
                (part["code"]["coding"][0]["code"], json.dumps(part[value]))
                for part in one["component"]
                for value in part
                if value.startswith("value")
            ]
            verdict = one["valueCodeableConcept"]["coding"][0]["code"]
            yield one["subject"], one["method"]["coding"][0]["code"], verdict, codes


def asked(http: httpx.Client, operation: str, request: Json, query: str = "") -> list[Any]:
    headers = {"content-type": "application/fhir+json"}
    response = http.post(f"/fhir/{operation}{query}", json=request, headers=headers)
    assert response.status_code == httpx.codes.OK, response.text[:300]
    return list(told(response.json()))


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.parent.name)
def test_who_somebody_is_turns_no_verdict_of_eligibility(http: httpx.Client, path: Path) -> None:
    """Race, ethnicity, language, gender identity, religion, address, name and marital status."""
    request = json.loads(path.read_bytes())
    query = "?exclusions=apply" if request["resourceType"] == "Bundle" else ""
    plain = asked(http, "$assess-eligibility", as_somebody(request, {}), query)
    assert plain
    for said in PEOPLE:
        assert asked(http, "$assess-eligibility", as_somebody(request, said), query) == plain


@pytest.mark.parametrize("definition", [paper.id for paper in RESPONSES])
def test_who_somebody_is_turns_no_verdict_of_response(http: httpx.Client, definition: str) -> None:
    request = json.loads(TRIAL.read_bytes())
    query = f"?criteria={definition}"
    plain = asked(http, "$assess-response", as_somebody(request, {}), query)
    assert len(plain) == 17
    for said in PEOPLE:
        assert asked(http, "$assess-response", as_somebody(request, said), query) == plain


def test_a_patients_circumstances_turn_no_verdict(http: httpx.Client) -> None:
    """Sexual orientation, gender identity, housing and homelessness, as records of their own."""
    request = json.loads((FIXTURES / "three-patients" / "request.json").read_bytes())
    plain = [one[:3] for one in asked(http, "$assess-eligibility", request)]
    entries = bundle_of(request)["entry"]
    for subject in [one[0] for one in plain]:
        for code in ("76690-7", "76691-5", "71802-3"):
            entries.append(
                {
                    "resource": {
                        "resourceType": "Observation",
                        "status": "final",
                        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                        "subject": subject,
                        "effectiveDateTime": "2024-03-05",
                        "valueCodeableConcept": {"text": "asked but declined"},
                    }
                }
            )
        homeless = {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "Z59.00"}
        entries.append(
            {
                "resource": {
                    "resourceType": "Condition",
                    "code": {"coding": [homeless]},
                    "subject": subject,
                }
            }
        )
    assert [one[:3] for one in asked(http, "$assess-eligibility", request)] == plain


def test_a_change_that_is_used_is_seen(http: httpx.Client) -> None:
    """The same comparison finds what the sheet says is used: sex, where no range is given."""
    counts = {"777-3": (50, 200), "751-8": (3, 3), "60474-4": (30, 80), "718-7": (8, 12)}
    units = {code: "g/dL" if code == "718-7" else "10*9/L" for code in counts}
    entries = [
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "subject": {"reference": "Patient/one"},
                "effectiveDateTime": day,
                "valueQuantity": {
                    "value": values[index],
                    "system": "http://unitsofmeasure.org",
                    "code": units[code],
                },
            }
        }
        for code, values in counts.items()
        for index, day in enumerate(("2024-01-01", "2024-04-01"))
    ]
    request = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    query = "?treatmentStart=2024-01-02"
    verdicts = {
        sex: asked(http, "$assess-response", as_somebody(request, {"gender": sex}), query)[0][2]
        for sex in ("male", "female")
    }
    assert verdicts == {"male": "response", "female": "complete-response"}


def test_the_sheet_in_docs_is_the_one_that_is_served(http: httpx.Client) -> None:
    """`python -m tests.transparency` writes it."""
    assert DOCUMENT.read_text() == document()
    served = http.get("/transparency")
    assert served.status_code == httpx.codes.OK
    assert html(sheet()) in served.text


def test_the_figures_claim_no_more_than_the_tests_hold_and_not_much_less() -> None:
    """A quarter less at the most: new tests need no new sheet, lost ones do."""

    def compare(told: Json, held: Json) -> None:
        assert set(told) == set(held)
        for name, figure in told.items():
            if isinstance(figure, dict):
                compare(figure, held[name])
            else:
                assert figure <= held[name] <= figure * 1.25 + 5, name

    claimed, held = json.loads(FIGURES.read_bytes()), counted()
    assert claimed["trial"] == held["trial"] == {"treated": 17, "evaluable": 16, "responded": 6}
    compare(claimed, held)


def test_each_definition_has_its_thirteen_source_attributes() -> None:
    blocks = list(sheet())
    titles = [one.anchor for one in blocks if isinstance(one, Heading) and one.level == 3]
    tables = [one for one in blocks if isinstance(one, Table) and one.name == "Source attributes"]
    assert titles == IDS
    assert len(tables) == len(IDS)
    for table in tables:
        names = [name for name, _ in table.rows]
        assert len(set(names)) == 13
        assert all(answer for _, answer in table.rows)


def test_only_the_definitions_that_ask_what_is_normal_use_the_sex() -> None:
    """Of the five, by their texts: normal counts, or the laboratory's lower limit, are asked of."""
    used = {}
    for id_, table in zip(
        IDS,
        (one for one in sheet() if isinstance(one, Table) and one.name == "Source attributes"),
        strict=True,
    ):
        (answer,) = (row[1] for row in table.rows if row[0] == "Use of sex")
        used[id_] = answer.startswith("Used")
    assert {id_ for id_, is_used in used.items() if is_used} == {
        "nih-daclizumab-2003",
        "camitta-2000-non-severe",
    }


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append("".join(data.split()))


def test_html_and_markdown_say_the_same_words() -> None:
    parser = _Words()
    parser.feed(html(sheet()))
    text = re.sub(r"\[([^\]]+)\]\([^)\s]+\)", r"\1", markdown("", sheet()))
    text = re.sub(r"^(#+|-) ?|^\|( --- \|)+$|(?<!\\)\|", " ", text, flags=re.MULTILINE)
    assert "".join(parser.found) == "".join(text.replace("\\|", "|").split())


def test_what_a_table_holds_is_escaped() -> None:
    blocks: list[Block] = [
        Table("<t>", ("a|b",), [("x < y", "[w](https://e.org/?a=1&b)")]),
        Points(["1 < 2"]),
    ]
    written = html(blocks)
    assert '<th scope="row">x &lt; y</th>' in written
    assert '<a rel="noreferrer" href="https://e.org/?a=1&amp;b">w</a>' in written
    assert 'aria-label="&lt;t&gt;"' in written
    assert r"| a\|b |" in markdown("t", blocks)
