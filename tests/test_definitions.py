"""The definitions: valid, agreeing with the engine's own tables, read and searched over HTTP."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhirpathpy import evaluate
from fhirpathpy.models import models

from app.domain.paper import Paper
from app.domain.rules import criteria_of
from app.fhir.canonicals import BASE
from app.fhir.codes import ANALYTE_LOINC, REJECTED_LOINC
from app.fhir.json import objects_in
from app.fhir.outcome import ISSUES
from app.papers import EVERY, PUBLISHED
from app.publishing.definitions import DEFINITION_TYPES, definitions
from tests.conformance import faults

FIXTURES = Path(__file__).parents[1] / "fixtures"
ANSWERS = sorted(FIXTURES.glob("*/response.json"))
OPERATION = "/fhir/$assess-eligibility"
ELIGIBLE = (FIXTURES / "anc-1200" / "request.json").read_bytes()


def of_type(kind: str) -> list[dict[str, Any]]:
    return [one for (type_, _), one in definitions().items() if type_ == kind]


@pytest.mark.parametrize("definition", definitions().values(), ids=lambda d: d["id"])
def test_a_definition_is_valid_fhir_under_its_own_canonical(definition: dict[str, Any]) -> None:
    get_fhir_model_class(definition["resourceType"]).model_validate(definition)
    assert not faults(definition)
    if definition.get("url", "").startswith("http://hl7.org/fhir/"):
        name = re.sub("^linkId-(.*)", r"extension-\1.linkId", definition["id"])
        assert definition["url"].endswith(f"/StructureDefinition/{name}")
        assert (definition["status"], definition["experimental"]) == ("draft", True)
    elif definition["resourceType"] not in {"Group", "ResearchStudy"}:
        assert definition["url"] == f"{BASE}/{definition['resourceType']}/{definition['id']}"


def test_every_type_of_definition_is_there() -> None:
    published = {kind for kind, _ in definitions()}
    assert published == set(DEFINITION_TYPES)


def test_a_paper_we_have_not_seen_is_a_draft() -> None:
    unseen = {paper.id for paper in EVERY if not paper.verified}
    assert unseen == {"camitta-2000-non-severe", "nih-eltrombopag-2012"}
    for plan in of_type("PlanDefinition"):
        draft = plan["id"] in unseen
        assert (plan["status"], plan["experimental"]) == ("draft" if draft else "active", draft)


def test_a_plan_cites_its_paper_and_names_each_criterion_in_the_papers_words() -> None:
    plans = {plan["id"]: plan for plan in of_type("PlanDefinition")}
    assert set(plans) == {paper.id for paper in EVERY}
    for paper in PUBLISHED:
        plan = plans[paper.id]
        assert plan["relatedArtifact"][0]["url"] == paper.citation.url
        told = [
            (action["code"][0]["coding"][0]["code"], action["documentation"][0]["label"])
            for action in plan["action"][0]["action"]
        ]
        assert told == [(c.code, c.wording) for c in criteria_of(paper.eligibility)]


@pytest.mark.parametrize("paper", PUBLISHED, ids=lambda paper: paper.id)
def test_a_plan_names_what_the_definition_excludes_with_the_codes_it_is_read_by(
    paper: Paper,
) -> None:
    plan = next(plan for plan in of_type("PlanDefinition") if plan["id"] == paper.id)
    chart = plan["action"][-1]
    assert chart["code"][0]["coding"][0]["code"] == "other-cause"
    told = [
        (one["code"][0]["coding"][0]["code"], one["documentation"][0]["label"])
        for one in chart.get("action", [])
    ]
    assert told == [(one.cause.code, one.wording) for one in paper.exclusions]
    for one in paper.exclusions:
        assert one.cause.title in chart["description"]
    sets = {one["url"] for one in of_type("ValueSet")}
    for action in (chart, *chart.get("action", [])):
        assert {f["valueSet"] for i in action.get("input", []) for f in i["codeFilter"]} <= sets
        assert "input" in action or "by its words" in action["description"]


def test_chemotherapy_is_looked_for_in_procedures_and_medications_and_hiv_in_conditions() -> None:
    plan = next(plan for plan in of_type("PlanDefinition") if plan["id"] == PUBLISHED[0].id)
    inputs = {
        action["code"][0]["coding"][0]["code"]: {one["type"] for one in action["input"]}
        for action in plan["action"][-1]["action"]
        if "input" in action
    }
    assert inputs["hiv"] == {"Condition"}
    assert inputs["chemotherapy"] >= {"Procedure", "MedicationAdministration"}


def test_the_other_causes_hold_every_code_but_those_of_treatments_of_aplastic_anemia() -> None:
    sets = {one["url"]: one for one in of_type("ValueSet")}
    included = {
        url
        for part in sets[f"{BASE}/ValueSet/other-causes"]["compose"]["include"]
        for url in part["valueSet"]
    }
    left = {
        url.rpartition("/cause-")[2] for url in sets if "/cause-" in url and url not in included
    }
    assert included <= set(sets)
    assert left == {
        "antithymocyte-globulin",
        "ciclosporin",
        "eltrombopag",
        "androgen",
    }


def codings(value: Any) -> Iterator[dict[str, Any]]:
    return (one for one in objects_in(value) if "system" in one and "code" in one)


@pytest.mark.parametrize("path", ANSWERS, ids=lambda p: p.parent.name)
def test_every_code_of_an_answer_is_in_its_code_system(path: Path) -> None:
    known = {
        one["url"]: {c["code"]: c["display"] for c in one["concept"]}
        for one in of_type("CodeSystem")
    }
    found = [c for c in codings(json.loads(path.read_bytes())) if c["system"].startswith(BASE)]
    assert found
    for coding in found:
        assert coding["code"] in known[coding["system"]], coding
        display = known[coding["system"]][coding["code"]]
        assert coding.get("display", display) == display
        if coding["system"].rpartition("/")[2] in {"verdict", "truth", "other-cause"}:
            assert "display" in coding, coding


def test_the_value_sets_and_the_map_hold_every_code_that_is_read_and_no_other() -> None:
    listed = {
        concept["code"]
        for one in of_type("ValueSet")
        for include in one["compose"]["include"]
        if include.get("system") == "http://loinc.org"
        for concept in include["concept"]
    }
    assert listed == {row.code for row in ANALYTE_LOINC}
    (mapped,) = [one for one in of_type("ConceptMap") if one["id"] == "loinc-to-analyte"]
    targets = {
        element["code"]: element["target"][0].get("code")
        for group in mapped["group"]
        for element in group["element"]
    }
    assert targets["751-8"] == "absolute-neutrophil-count"
    assert targets["718-7"] == "hemoglobin"
    assert {code for code, target in targets.items() if target is None} == set(REJECTED_LOINC)
    assert set(targets) - set(REJECTED_LOINC) == listed


def test_every_issue_has_a_meaning() -> None:
    (issues,) = [one for one in of_type("CodeSystem") if one["id"] == "issue"]
    assert {c["code"] for c in issues["concept"]} == set(ISSUES)


def fhirpath(resource: dict[str, Any], expression: str) -> list[Any]:
    return evaluate(resource, expression, {}, models["r4"])


def test_the_measures_expressions_count_the_trial_as_the_report_does(http: httpx.Client) -> None:
    """A FHIRPath engine that is not ours runs them over the trial's response assessments."""
    body = (FIXTURES / "daclizumab-2003" / "bundle.json").read_bytes()
    headers = {"content-type": "application/fhir+json"}
    answer = http.post("/fhir/$assess-response", content=body, headers=headers).json()
    assessments = [
        entry["resource"]
        for entry in answer["entry"]
        if entry["resource"]["resourceType"] == "Observation"
    ]
    measure = next(m for m in of_type("Measure") if m["id"] == "maa-hematologic-response")
    counts = {
        population["code"]["coding"][0]["code"]: sum(
            fhirpath(one, population["criteria"]["expression"]) == [True] for one in assessments
        )
        for population in measure["group"][0]["population"]
    }
    # 17 treated, 16 evaluable, 6 responded: the trial's own figures.
    assert counts == {
        "initial-population": 17,
        "denominator": 17,
        "denominator-exclusion": 1,
        "numerator": 6,
    }
    depth = measure["group"][0]["stratifier"][0]["criteria"]["expression"]
    strata = [fhirpath(one, depth) for one in assessments]
    assert (strata.count(["complete-response"]), strata.count(["single-lineage"])) == (2, 4)


def test_definitions_are_read_and_found_by_url_id_and_name(http: httpx.Client) -> None:
    url = f"{BASE}/PlanDefinition/nih-daclizumab-2003"
    assert http.get("/fhir/PlanDefinition/nih-daclizumab-2003").json()["url"] == url
    for query, total in (
        ({"url": url}, 1),
        ({"url": f"{url}|1.0.0"}, 1),
        ({"url": f"{url}|9"}, 0),
        ({"_id": "nih-daclizumab-2003,emaa"}, 2),
        ({"name": "maanih"}, 4),
        ({"name:exact": "maanih"}, 0),
        ({"_id": "emaa", "url": url}, 0),
        ({}, 13),
        ({"unknown": "x"}, 13),
    ):
        bundle = http.get("/fhir/PlanDefinition", params=query).json()
        get_fhir_model_class("Bundle").model_validate(bundle)
        assert (bundle["total"], len(bundle.get("entry", []))) == (total, total), query
        for entry in bundle.get("entry", []):
            assert http.get(entry["fullUrl"]).json() == entry["resource"]


def test_what_cannot_be_found_or_asked_is_said(http: httpx.Client) -> None:
    assert http.get("/fhir/PlanDefinition/none").status_code == 404
    assert http.get("/fhir/Observation").status_code == 404
    assert http.get("/fhir/ValueSet?url:below=x").status_code == 400
    assert http.get("/fhir/ValueSet?_summary=most").status_code == 400
    assert http.get("/fhir/ValueSet?_id=none&_summary=most").status_code == 400
    strict = {"prefer": "handling=strict"}
    assert http.get("/fhir/ValueSet?colour=red", headers=strict).status_code == 400
    assert http.post("/fhir/ValueSet").status_code == 405
    assert http.delete("/fhir/ValueSet/platelets").status_code == 405


@pytest.mark.parametrize(
    "path", ["/fhir/metadata", "/fhir/ValueSet", "/fhir/CodeSystem/verdict", "/fhir/ValueSet?_id=x"]
)
def test_a_definition_known_by_its_etag_is_not_sent_again(http: httpx.Client, path: str) -> None:
    first = http.get(path)
    etag = first.headers["etag"]
    for known in (etag, f'"other", {etag}', "*", etag.removeprefix("W/")):
        again = http.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert http.get(path, headers={"if-none-match": 'W/"other"'}).status_code == 200


def test_a_definition_is_given_in_part(http: httpx.Client) -> None:
    path = "/fhir/PlanDefinition/nih-daclizumab-2003"
    part = http.get(path, params={"_elements": "url,title"}).json()
    assert set(part) == {"resourceType", "id", "meta", "status", "url", "title"}
    assert part["meta"]["tag"][0]["code"] == "SUBSETTED"
    summary = http.get(path, params={"_summary": "true"}).json()
    assert "name" in summary
    assert "action" not in summary
    counted = http.get("/fhir/PlanDefinition", params={"_summary": "count"}).json()
    assert counted["total"] == 13
    assert "entry" not in counted
    get_fhir_model_class("PlanDefinition").model_validate(summary)


def test_pretty_is_indented_and_says_the_same(http: httpx.Client) -> None:
    plain = http.post(OPERATION, content=ELIGIBLE, headers={"content-type": "application/json"})
    pretty = http.post(
        f"{OPERATION}?_pretty=true", content=ELIGIBLE, headers={"content-type": "application/json"}
    )
    assert b'\n  "resourceType"' in pretty.content
    assert pretty.json() == plain.json()


def test_head_answers_as_get_without_a_body(http: httpx.Client) -> None:
    for path in ("/fhir/metadata", "/fhir/ValueSet/platelets", "/health/live", "/metrics", "/"):
        response = http.head(path)
        assert (response.status_code, response.content) == (200, b"")
    assert http.head("/fhir/ValueSet/none").status_code == 404


def test_scripts_of_other_origins_may_call_every_method(http: httpx.Client) -> None:
    origin = {"origin": "https://ehr.example.org"}
    asked = origin | {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,prefer,authorization",
    }
    preflight = http.options(OPERATION, headers=asked)
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert {"content-type", "prefer", "authorization"} <= {h.strip() for h in allowed.split(",")}
    for response in (
        http.get("/fhir/metadata", headers=origin),
        http.post(OPERATION, headers=origin),
        http.get("/none", headers=origin),
        http.delete("/fhir/metadata", headers=origin),
    ):
        assert response.headers["access-control-allow-origin"] == "*"
        assert "X-Request-Id" in response.headers["access-control-expose-headers"]


def test_gzip_is_read_and_written(http: httpx.Client) -> None:
    headers = {"content-type": "application/fhir+json", "content-encoding": "gzip"}
    zipped = http.post(OPERATION, content=gzip.compress(ELIGIBLE), headers=headers)
    plain = http.post(
        OPERATION,
        content=ELIGIBLE,
        headers={"content-type": "application/fhir+json", "accept-encoding": "identity"},
    )
    assert zipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert zipped.content == plain.content


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not gzip", 400),
        (gzip.compress(ELIGIBLE)[:-9], 400),
        (gzip.compress(ELIGIBLE) + b"more", 400),
        (gzip.compress(b" " * 20_000_000), 413),
    ],
    ids=["not-gzip", "cut-short", "more-behind", "a-bomb"],
)
def test_gzip_that_cannot_be_read_is_refused(http: httpx.Client, body: bytes, status: int) -> None:
    headers = {"content-type": "application/fhir+json", "content-encoding": "gzip"}
    response = http.post(OPERATION, content=body, headers=headers)
    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"


def strictly(http: httpx.Client, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/fhir+json", "prefer": "handling=strict"}
    return http.post(OPERATION, content=body, headers=headers)


def test_strict_handling_says_every_fault_with_its_path(http: httpx.Client) -> None:
    body = b"""{"resourceType": "Bundle", "type": "heap", "entry": [
        {"resource": {"resourceType": "Observation", "status": "banana", "colour": 1,
            "code": {"text": 3}, "valueString": "a",
            "valueQuantity": {"value": 1.5, "value": 2, "comparator": "~"}}},
        {"resource": {"resourceType": "Patient", "gender": "x", "birthDate": "yesterday",
            "contained": [{"resourceType": "Observation", "code": {}}]}},
        {"resource": {"resourceType": "Quantity"}},
        {"resource": {"resourceType": "Unknown"}}]}"""
    response = strictly(http, body)
    assert response.status_code == 422
    outcome = response.json()
    get_fhir_model_class("OperationOutcome").model_validate(outcome)
    assert {issue["expression"][0]: issue["code"] for issue in outcome["issue"]} == {
        "Bundle.type": "code-invalid",
        "Bundle.entry[0].resource.status": "code-invalid",
        "Bundle.entry[0].resource.colour": "structure",
        "Bundle.entry[0].resource.code.text": "value",
        "Bundle.entry[0].resource.value": "structure",
        "Bundle.entry[0].resource.valueQuantity.value": "structure",
        "Bundle.entry[0].resource.valueQuantity.comparator": "code-invalid",
        "Bundle.entry[1].resource.gender": "code-invalid",
        "Bundle.entry[1].resource.birthDate": "value",
        "Bundle.entry[1].resource.contained[0].status": "required",
        "Bundle.entry[2].resource.resourceType": "structure",
        "Bundle.entry[3].resource.resourceType": "structure",
    }


def test_strict_handling_of_valid_input_answers_as_ever(http: httpx.Client) -> None:
    for path in sorted(FIXTURES.glob("*/request.json")):
        body = path.read_bytes()
        response = strictly(http, body)
        lenient = http.post(
            OPERATION, content=body, headers={"content-type": "application/fhir+json"}
        )
        assert (response.status_code, response.content) == (lenient.status_code, lenient.content)
        if response.status_code == 200:
            assert response.headers["preference-applied"] == "handling=strict"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"resourceType": 5}', b'{"a": NaN}']
)
def test_strict_handling_of_what_is_no_fhir_is_refused_without_a_bug(
    http: httpx.Client, body: bytes
) -> None:
    assert strictly(http, body).status_code in {400, 422}


def test_strict_handling_ends_its_list(http: httpx.Client) -> None:
    entry = {"resource": {"resourceType": "Observation", "status": "banana", "code": {"text": "x"}}}
    body = {"resourceType": "Bundle", "type": "collection", "entry": [entry] * 500}
    issues = strictly(http, json.dumps(body).encode()).json()["issue"]
    assert len(issues) == 201
    assert issues[-1]["diagnostics"] == "300 more faults are not listed."
