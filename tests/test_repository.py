"""CRMI 2.0: what definitions say of themselves, how they are searched, and what they need.

HL7's profiles are had from FHIR's registry alone: what they constrain is stated here, from
https://github.com/HL7/crmi-ig (input/profiles, input/pages/artifact-repository-service.md).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fhir.resources.R4B import get_fhir_model_class

from app.api.guard import is_open
from app.fhir.canonicals import BASE
from app.fhir.codes import ANALYTE_LOINC
from app.papers import EVERY, PUBLISHED
from app.publishing.crmi import CANONICAL_TYPES
from app.publishing.definitions import DEFINITION_TYPES, definitions
from tests.conformance import faults

EXTENSION = "http://hl7.org/fhir/StructureDefinition"
OURS = [
    one
    for (kind, _), one in definitions().items()
    if kind in CANONICAL_TYPES and one["url"].startswith(BASE)
]
# Element of R4 or, where the type has none, extension; and how often it may stand.
SHAREABLE = ("url", "version", "name", "title", "status", "experimental", "publisher")
PUBLISHABLE = ("description", "date", "contact", "useContext", "purpose")
METADATA_TYPES = {"Library", "Measure", "PlanDefinition"}
LEVELS = {"narrative", "semi-structured", "structured", "executable"}
PLAN = "/fhir/PlanDefinition"
FHIR_JSON = {"content-type": "application/fhir+json"}


def extensions(resource: dict[str, Any], name: str) -> list[Any]:
    """The values of one of HL7's extensions."""
    return [
        next(value for key, value in one.items() if key.startswith("value"))
        for one in resource["extension"]
        if one["url"] == f"{EXTENSION}/{name}"
    ]


@pytest.mark.parametrize("resource", OURS, ids=lambda one: f"{one['resourceType']}-{one['id']}")
def test_a_definition_follows_crmis_shareable_and_publishable_profiles(
    resource: dict[str, Any],
) -> None:
    kind = resource["resourceType"]
    assert all(resource[name] not in ("", [], None) for name in (*SHAREABLE, *PUBLISHABLE))
    assert extensions(resource, "artifact-versionAlgorithm") == [
        {"system": "http://hl7.org/fhir/version-algorithm", "code": "semver"}
    ]
    assert [part.isdigit() for part in resource["version"].split(".")] == [True] * 3
    assert {"shareable", "publishable"} <= set(extensions(resource, "cqf-knowledgeCapability"))
    assert set(extensions(resource, "cqf-knowledgeRepresentationLevel")) <= LEVELS
    (label,) = extensions(resource, "artifact-copyrightLabel")
    assert len(label) < 50
    copyright_ = extensions(resource, "artifact-copyright") or [resource["copyright"]]
    assert copyright_[0].startswith("Copyright 2026 the maa-assess authors.")
    author = resource.get("author") or extensions(resource, "artifact-author")
    assert [one["name"] for one in author] == ["The maa-assess authors"]
    assert (kind in METADATA_TYPES) == ("author" in resource)
    if kind == "CodeSystem":  # scs-1, scs-2
        assert resource["caseSensitive"]
        assert not any("concept" in one for one in resource["concept"])


def test_an_active_definition_is_approved_and_in_effect_and_a_draft_is_neither() -> None:
    statuses = {one["status"] for one in OURS}
    assert statuses == {"active", "draft"}
    for one in OURS:
        dates = {
            name: one.get(name) or next(iter(extensions(one, f"resource-{name}")), None)
            for name in ("approvalDate", "lastReviewDate", "effectivePeriod")
        }
        assert dates["lastReviewDate"] == one["date"]
        active = one["status"] == "active"
        assert dates["approvalDate"] == (one["date"] if active else None)
        assert dates["effectivePeriod"] == ({"start": one["date"]} if active else None)


def test_the_terms_of_those_whose_codes_are_named_stand_beside_our_copyright() -> None:
    by_id = {one["id"]: one for one in OURS if one["resourceType"] == "ValueSet"}
    assert "Regenstrief Institute" in by_id["platelets"]["copyright"]
    assert "SNOMED International" in by_id["other-causes"]["copyright"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in OURS if one["resourceType"] == kind}


def content(library: dict[str, Any], media_type: str) -> str:
    (found,) = [one["data"] for one in library["content"] if one["contentType"] == media_type]
    return base64.b64decode(found).decode()


@pytest.mark.parametrize("library", of_type("Library").values(), ids=lambda one: one["id"])
def test_a_library_is_computable_and_executable_and_names_what_its_elm_includes(
    library: dict[str, Any],
) -> None:
    assert content(library, "text/cql").startswith(f"library {library['name']} version")
    elm = json.loads(content(library, "application/elm+json"))["library"]
    capabilities = extensions(library, "cqf-knowledgeCapability")
    assert capabilities == ["shareable", "publishable", "computable", "executable"]
    included = {
        f"{BASE}/Library/{one['path']}|{one['version']}"
        for one in elm.get("includes", {}).get("def", [])
    }
    depended = {
        one["resource"]
        for one in library.get("relatedArtifact", [])
        if one["type"] == "depends-on" and one["resource"].startswith(f"{BASE}/Library/")
    }
    assert depended == included
    names = [one["name"] for one in elm.get("parameters", {}).get("def", [])]
    told = [one["name"] for one in library.get("parameter", []) if one["use"] == "in"]
    assert told == names
    defined = {
        one["name"]: one["expression"]["type"]
        for one in elm["statements"]["def"]
        if one.get("type") != "FunctionDef"
    }
    for one in library.get("parameter", []):
        if one["use"] == "out":
            # A list, a tuple or a retrieve is no plain type.
            assert defined[one["name"]] not in {"List", "Tuple", "Query", "Retrieve", "Flatten"}


def test_the_library_of_a_paper_says_its_parameters_its_data_and_its_source() -> None:
    library = of_type("Library")["NihDaclizumab2003"]
    assert [(one["use"], one["name"], one["type"]) for one in library["parameter"]] == [
        ("in", "As of", "dateTime"),
        ("in", "Window days", "integer"),
        ("in", "Red cell policy", "string"),
        ("in", "Transfusion history complete", "boolean"),
        ("out", "Screened", "boolean"),
        ("out", "Neutrophils depressed", "boolean"),
        ("out", "Platelets depressed", "boolean"),
        ("out", "Red cells depressed", "boolean"),
        ("out", "Not severe by counts", "boolean"),
        ("out", "Meets the definition", "boolean"),
        ("out", "Verdict", "string"),
    ]
    assert library["relatedArtifact"][0]["url"] == PUBLISHED[0].citation.url
    assert {
        "type": "depends-on",
        "display": "FHIR model information",
        "resource": "http://fhir.org/guides/cqf/common/Library/FHIR-ModelInfo|4.0.1",
    } in library["relatedArtifact"]
    needed = {one["type"] for one in library["dataRequirement"]}
    assert needed == {
        "Patient",
        "Observation",
        "Procedure",
        "Specimen",
        "Medication",
        "MedicationAdministration",
        "MedicationStatement",
    }


def test_the_data_required_hold_every_result_whose_code_the_cql_knows_and_no_other() -> None:
    known = content(of_type("Library")["MaaTables"], "text/cql")
    read = {row.code for row in ANALYTE_LOINC if f"'{row.code}'" in known}
    value_sets = {one["url"]: one for one in of_type("ValueSet").values()}
    asked = {
        concept["code"]
        for need in of_type("Library")["MaaCounts"]["dataRequirement"]
        for one in need.get("codeFilter", [])
        if "valueSet" in one
        for concept in value_sets[one["valueSet"]]["compose"]["include"][0]["concept"]
    }
    assert asked == read
    # Body weight is read by the service, not by the CQL.
    assert "29463-7" not in asked


def test_every_library_of_a_paper_cites_it_and_is_a_draft_where_it_was_not_seen() -> None:
    urls = {paper.citation.url for paper in EVERY}
    cited = {
        one["url"]
        for library in of_type("Library").values()
        for one in library.get("relatedArtifact", [])
        if one["type"] == "citation"
    }
    assert cited == urls
    unseen = {name for name, one in of_type("Library").items() if one["status"] == "draft"}
    assert unseen == {"Camitta2000NonSevereResponse", "NihEltrombopag2012Response"}


# Searches


def ids(http: httpx.Client, kind: str, *query: tuple[str, str]) -> list[str]:
    strict = {"prefer": "handling=strict"}
    bundle = http.get(f"/fhir/{kind}", params=list(query), headers=strict).json()
    assert bundle["resourceType"] == "Bundle", bundle
    found = [entry["resource"]["id"] for entry in bundle.get("entry", [])]
    assert bundle["total"] == len(found)
    return found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ([("title:contains", "DACLIZUMAB")], ["nih-daclizumab-2003", "nih-prca-2003"]),
        ([("title", "daclizumab")], []),
        ([("title", "Moderate aplastic anemia (nih")], ["nih-daclizumab-2003"]),
        ([("title:exact", "moderate aplastic anemia (NIH daclizumab pilot trial, 2003)")], []),
        (
            [("title:exact", r"Moderate aplastic anemia (NIH daclizumab pilot trial\, 2003)")],
            ["nih-daclizumab-2003"],
        ),
        ([("description:contains", "PURE RED CELL")], ["nih-prca-2003"]),
        ([("status", "draft")], ["camitta-2000-non-severe", "nih-eltrombopag-2012"]),
        ([("status", "draft"), ("status", "active")], []),
        ([("status", "draft,retired"), ("name:contains", "eltro")], ["nih-eltrombopag-2012"]),
        (
            [("status", "http://hl7.org/fhir/publication-status|draft"), ("name", "MAANIH")],
            ["nih-eltrombopag-2012"],
        ),
        ([("status", "http://example.org|draft")], []),
        ([("url", f"{BASE}/PlanDefinition/emaa"), ("version", "1.0.0")], ["emaa"]),
        ([("url", f"{BASE}/PlanDefinition/emaa|1.0.0")], ["emaa"]),
        ([("url", f"{BASE}/PlanDefinition/emaa"), ("version", "9.0.0")], []),
        ([("url", f"{BASE}/plandefinition/emaa")], []),
        ([("_id", "emaa"), ("identifier:missing", "true")], ["emaa"]),
        ([("_id", "emaa"), ("identifier:missing", "false")], []),
        ([("identifier", "urn:oid:1.2.3")], []),
        ([("_id", "emaa"), ("title", "")], ["emaa"]),
    ],
)
def test_plans_are_found_by_what_crmi_asks_for(
    http: httpx.Client, query: list[tuple[str, str]], found: list[str]
) -> None:
    assert ids(http, "PlanDefinition", *query) == found


def test_a_study_and_a_group_are_found_by_their_identifier(http: httpx.Client) -> None:
    registered = "https://clinicaltrials.gov|NCT00001962"
    assert ids(http, "ResearchStudy", ("identifier", registered)) == ["NCT00001962"]
    assert ids(http, "ResearchStudy", ("identifier", "NCT00001962")) == ["NCT00001962"]
    assert ids(http, "ResearchStudy", ("identifier", "https://clinicaltrials.gov|")) != []
    assert ids(http, "ResearchStudy", ("identifier", "|NCT00001962")) == []
    assert ids(http, "Group", ("identifier", f"{BASE}/Group/emaa")) == ["emaa"]


@pytest.mark.parametrize("kind", DEFINITION_TYPES)
def test_every_type_is_searched_by_id_url_and_name(http: httpx.Client, kind: str) -> None:
    """By what a resource has: a study of R4 has neither url nor name, so nothing is found."""
    for one in http.get(f"/fhir/{kind}").json()["entry"][:3]:
        resource = one["resource"]
        assert ids(http, kind, ("_id", resource["id"])) == [resource["id"]]
        for name in ("url", "name"):
            wanted = [resource["id"]] if name in resource else []
            found = ids(http, kind, (name, resource.get(name, "http://example.org")))
            assert set(wanted) <= set(found)
            assert ids(http, kind, (name, "http://example.org/none")) == []


def test_a_repository_is_searched_for_types_of_which_it_has_none(http: httpx.Client) -> None:
    for kind in ("ActivityDefinition", "Questionnaire"):
        assert ids(http, kind, ("url", "http://example.org")) == []
        assert http.get(f"/fhir/{kind}/any").status_code == 404


def test_a_search_by_post_finds_the_same(http: httpx.Client) -> None:
    form = {"title:contains": "daclizumab", "_elements": "title"}
    posted = http.post(f"{PLAN}/_search?status=active", data=form)
    asked = http.get(PLAN, params={"status": "active", **form})
    assert posted.json() == asked.json()
    assert posted.json()["total"] == 2
    assert http.post(f"{PLAN}/_search").json()["total"] == http.get(PLAN).json()["total"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("name:below=x", "not-supported"),
        ("url:exact=x", "not-supported"),
        ("status:not=draft", "not-supported"),
        ("title:=x", None),
        ("identifier:missing=maybe", "value"),
        ("identifier:missing=true,false", "value"),
        (f"title={','.join(map(str, range(501)))}", "too-costly"),
        (f"title={'a,' * 9000}", None),
        (f"title={'a' * 30000}", None),
        ("title=%00%ff\\", None),
    ],
)
def test_a_search_is_refused_for_a_reason_or_answered(
    http: httpx.Client, query: str, code: str | None
) -> None:
    response = http.get(f"{PLAN}?{query}")
    assert response.status_code == (400 if code else 200)
    if code:
        assert [one["code"] for one in response.json()["issue"]] == [code]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"title=" + b"a" * 70_000, 413),
        ({"content-type": "application/x-www-form-urlencoded; charset=utf-8"}, b"\xff&&=", 200),
    ],
)
def test_a_search_by_post_takes_a_form_no_longer_than_any_search(
    http: httpx.Client, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert http.post(f"{PLAN}/_search", content=body, headers=headers).status_code == status


def test_what_is_asked_by_another_method_is_told_the_right_ones(http: httpx.Client) -> None:
    for path, methods in (
        ("Library/_search", {"POST"}),
        ("Library/$package", {"GET", "HEAD", "POST"}),
        ("Library/Emaa/$package", {"GET", "HEAD", "POST"}),
        ("Library/Emaa", {"GET", "HEAD"}),
    ):
        response = http.delete(f"/fhir/{path}")
        assert response.status_code == 405
        assert set(response.headers["allow"].split(", ")) == methods


# $package and $data-requirements


def canonicals(part: Any) -> Iterator[str]:
    """Every text in a resource that may be a canonical of ours, without its version."""
    if isinstance(part, str):
        yield part.partition("|")[0]
    elif isinstance(part, dict):
        for inner in part.values():
            yield from canonicals(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from canonicals(inner)


@pytest.mark.parametrize("resource", OURS, ids=lambda one: f"{one['resourceType']}-{one['id']}")
def test_a_package_holds_all_that_is_named_in_it_and_creates_what_is_not_there(
    resource: dict[str, Any], http: httpx.Client
) -> None:
    bundle = http.get(f"/fhir/{resource['resourceType']}/{resource['id']}/$package").json()
    assert bundle["type"] == "transaction"
    held = {entry["resource"]["url"]: entry for entry in bundle["entry"]}
    assert len(held) == len(bundle["entry"])
    assert bundle["entry"][0]["resource"] == resource
    published = {one["url"] for one in definitions().values() if "url" in one}
    assert {one for one in canonicals(bundle) if one in published} == set(held)
    for url, entry in held.items():
        version = entry["resource"]["version"]
        assert entry["request"] == {
            "method": "POST",
            "url": entry["resource"]["resourceType"],
            "ifNoneExist": f"url={url}&version={version}",
        }


def test_a_measures_package_begins_with_it_and_its_library(http: httpx.Client) -> None:
    bundle = http.get("/fhir/Measure/eligibility-emaa/$package").json()
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    names = [entry["resource"]["id"] for entry in bundle["entry"]]
    assert names[:4] == ["eligibility-emaa", "Emaa", "MaaCounts", "MaaTables"]
    assert kinds[1:4] == ["Library"] * 3
    assert set(kinds[4:]) == {"ValueSet"}
    assert not faults(bundle)


@pytest.mark.parametrize(
    ("query", "type_", "names"),
    [
        ("count=2&offset=1", "collection", ["Emaa", "MaaCounts"]),
        ("count=2", "collection", ["eligibility-emaa", "Emaa"]),
        ("count=999", "transaction", None),
        ("offset=999", "collection", []),
        ("include=artifact", "transaction", ["eligibility-emaa"]),
        (
            "include=knowledge",
            "transaction",
            ["eligibility-emaa", "Emaa", "MaaCounts", "MaaTables"],
        ),
        ("include=artifact&include=examples", "transaction", ["eligibility-emaa"]),
        ("include=profiles", "transaction", []),
        ("version=1.0.0&packageOnly=true", "transaction", None),
        (f"url={BASE}/Measure/eligibility-emaa|1.0.0", "transaction", None),
    ],
)
def test_a_package_is_given_in_part(
    http: httpx.Client, query: str, type_: str, names: list[str] | None
) -> None:
    address = "/fhir/Measure/eligibility-emaa/$package"
    whole = http.get(address).json()
    bundle = http.get(f"{address}?{query}").json()
    get_fhir_model_class("Bundle").model_validate(bundle)
    assert bundle["type"] == type_
    found = [entry["resource"]["id"] for entry in bundle.get("entry", [])]
    assert found == (names if names is not None else [e["resource"]["id"] for e in whole["entry"]])
    count = http.get(f"{address}?count=0").json()
    total = len(whole["entry"])
    assert count == {"resourceType": "Bundle", "type": "searchset", "total": total}


def test_an_operation_is_asked_by_canonical_id_get_or_post_alike(http: httpx.Client) -> None:
    url = f"{BASE}/Library/Emaa"
    for operation in ("package", "data-requirements"):
        one = http.get(f"/fhir/Library/Emaa/${operation}")
        assert one.status_code == 200
        at = f"/fhir/Library/${operation}"
        parameters = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "url", "valueUri": url},
                {"name": "version", "valueString": "1.0.0"},
            ],
        }
        answers = [
            http.get(at, params={"url": url, "version": "1.0.0"}),
            http.get(at, params={"id": "Emaa"}),
            http.post(at, json=parameters, headers=FHIR_JSON),
            http.post(f"/fhir/Library/Emaa/${operation}"),
        ]
        assert [answer.content for answer in answers] == [one.content] * 4
        known = http.get(
            f"/fhir/Library/Emaa/${operation}", headers={"if-none-match": one.headers["etag"]}
        )
        assert known.status_code == 304


def test_what_is_needed_is_a_module_definition_of_data_and_dependencies(
    http: httpx.Client,
) -> None:
    library = http.get("/fhir/PlanDefinition/nih-daclizumab-2003/$data-requirements").json()
    assert not faults(library)
    assert library["type"]["coding"][0]["code"] == "module-definition"
    assert "content" not in library
    depended = {one["resource"] for one in library["relatedArtifact"]}
    assert {one["type"] for one in library["relatedArtifact"]} == {"depends-on"}
    assert f"{BASE}/Library/MaaTables|1.0.0" in depended
    assert {"http://loinc.org", "http://snomed.info/sct"} <= depended
    package = http.get("/fhir/PlanDefinition/nih-daclizumab-2003/$package").json()
    listed = {
        f"{one['resource']['url']}|{one['resource']['version']}" for one in package["entry"][1:]
    }
    assert listed <= depended
    needed = library["dataRequirement"]
    platelets = [{"path": "code", "valueSet": f"{BASE}/ValueSet/platelets"}]
    assert {"type": "Observation", "codeFilter": platelets} in needed
    hiv = [{"path": "code", "valueSet": f"{BASE}/ValueSet/cause-hiv"}]
    assert {"type": "Condition", "codeFilter": hiv} in needed
    assert library["parameter"][0]["name"] == "As of"


def test_a_measure_of_our_own_answers_needs_them_and_nothing_else(http: httpx.Client) -> None:
    library = http.get("/fhir/Measure/maa-screening/$data-requirements").json()
    profile = f"{BASE}/StructureDefinition/eligibility-assessment"
    assert library["dataRequirement"] == [{"type": "Observation", "profile": [profile]}]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("PlanDefinition/none/$package", 404),
        ("PlanDefinition/$package", 400),
        ("PlanDefinition/$package?version=1.0.0", 400),
        ("PlanDefinition/$package?url=x", 404),
        ("PlanDefinition/emaa/$package?url=x", 404),
        ("PlanDefinition/emaa/$package?version=2.0.0", 404),
        ("PlanDefinition/emaa/$package?id=none", 400),
        (f"PlanDefinition/$package?url={BASE}/PlanDefinition/emaa&url=x", 400),
        (f"Library/$package?url={BASE}/PlanDefinition/emaa", 404),
        ("PlanDefinition/emaa/$package?manifest=x", 400),
        ("PlanDefinition/emaa/$package?artifactVersion=x", 400),
        ("PlanDefinition/emaa/$package?include=some", 400),
        ("PlanDefinition/emaa/$package?count=-1", 400),
        ("PlanDefinition/emaa/$package?count=%D9%A1", 400),
        (f"PlanDefinition/emaa/$package?offset={'9' * 5000}", 400),
        ("PlanDefinition/emaa/$package?packageOnly=perhaps", 400),
        ("PlanDefinition/emaa/$data-requirements?count=1", 400),
        ("PlanDefinition/emaa/$data-requirements?expression=Verdict", 400),
        ("Group/emaa/$package", 404),
        ("ResearchStudy/NCT00001962/$data-requirements", 404),
        ("Patient/emaa/$package", 404),
        ("PlanDefinition/emaa/$packages", 404),
    ],
)
def test_an_operation_that_cannot_be_answered_says_why(
    http: httpx.Client, address: str, status: int
) -> None:
    response = http.get(f"/fhir/{address}")
    assert response.status_code == status
    outcome = response.json()
    get_fhir_model_class("OperationOutcome").model_validate(outcome)
    assert all(one["diagnostics"].endswith(".") for one in outcome["issue"])


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[]",
        b'{"resourceType": "Bundle"}',
        b'{"resourceType": "Parameters", "parameter": [{"name": "url"}]}',
        b'{"resourceType": "Parameters", "parameter": [{"valueUri": "x"}]}',
        b'{"resourceType": "Parameters", "parameter": [{"name": "manifest", "valueUri": "x"}]}',
        b'{"resourceType": "Parameters", "parameter": [{"name": "count", "valueBoolean": true}]}',
    ],
)
def test_parameters_that_cannot_be_read_are_refused(http: httpx.Client, body: bytes) -> None:
    response = http.post("/fhir/Library/Emaa/$package", content=body, headers=FHIR_JSON)
    assert response.status_code == 400
    assert response.json()["resourceType"] == "OperationOutcome"


# What is claimed


def test_the_capability_statement_claims_what_is_answered_and_no_more(http: httpx.Client) -> None:
    statement = http.get("/fhir/metadata").json()
    assert [one.rpartition("/")[2] for one in statement["instantiates"]] == [
        "crmi-shareable-artifact-repository",
        "crmi-publishable-artifact-repository",
    ]
    strict = {"prefer": "handling=strict"}
    by_type = {one["type"]: one for one in statement["rest"][0]["resource"]}
    for kind in ("ActivityDefinition", "Library", "Measure", "PlanDefinition", "Questionnaire"):
        searched = {one["name"]: one["type"] for one in by_type[kind]["searchParam"]}
        assert searched == {
            "_id": "token",
            "description": "string",
            "identifier": "token",
            "name": "string",
            "status": "token",
            "title": "string",
            "url": "uri",
            "version": "token",
        }
    asked = {name for one in by_type.values() for name in named(one.get("searchParam", []))}
    for kind, one in by_type.items():
        if "searchParam" not in one:
            continue
        taken = named(one["searchParam"])
        for name in asked:
            answer = http.get(f"/fhir/{kind}", params={name: "x"}, headers=strict)
            assert answer.status_code == (200 if name in taken else 400), (kind, name)
        packages = "package" in named(one.get("operation", []))
        assert packages == (kind in CANONICAL_TYPES)
        count = len(one.get("supportedProfile", []))
        assert count == {"Library": 4, "ValueSet": 3}.get(kind, 2 if packages else 0)


def named(parts: list[dict[str, Any]]) -> set[str]:
    return {one["name"] for one in parts}


def test_definitions_are_asked_by_anybody_and_what_tells_of_patients_is_not() -> None:
    for path in (
        "/fhir/PlanDefinition/_search",
        "/fhir/Questionnaire/_search",
        "/fhir/Library/$package",
        "/fhir/Library/Emaa/$data-requirements",
    ):
        assert is_open("POST", path)
    for path in (
        "/fhir/Measure/maa-hematologic-response/$evaluate-measure",
        "/fhir/ResearchStudy/$match",
        "/fhir/Patient/_search",
        "/fhir/Patient/x/$package",
        "/fhir/Library",
        "/fhir/Library/a/b/$package",
        "/fhir/Library/$package/$assess-eligibility",
        "/fhir/$assess-eligibility/Library/$package",
    ):
        assert not is_open("POST", path)
