"""What the served process says over HTTP, read by the places the contract fixes."""

from __future__ import annotations

import copy
import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fhir.resources.R4B import get_fhir_model_class
from prometheus_client.parser import text_string_to_metric_families

FHIR_JSON = "application/fhir+json"
OPERATION = "/fhir/$assess-eligibility"
BASE = "https://w3id.org/maa-assess"
NIH = "nih-daclizumab-2003"
LOINC = {"neutrophils": "751-8", "platelets": "777-3", "hemoglobin": "718-7"}
LIMIT = 16 * 1024 * 1024
CALLERS = 50
COHORT = 1_000

Json = dict[str, Any]
Outcome = Callable[[httpx.Response], Json]


def result(
    code: str, value: float, unit: str, patient: str | None = "P1", day: str = "2024-03-05"
) -> Json:
    """One laboratory result, as an entry."""
    resource: Json = {
        "resourceType": "Observation",
        "id": f"{patient}-{code}-{day}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": day,
        "valueQuantity": {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }
    if patient:
        resource["subject"] = {"reference": f"Patient/{patient}"}
    return {"resource": resource}


def bundle(*entries: Json) -> Json:
    """A collection."""
    return {"resourceType": "Bundle", "type": "collection", "entry": list(entries)}


def counts(
    anc: float, platelets: float, patient: str | None = "P1", day: str = "2024-03-05"
) -> list[Json]:
    """Neutrophils and platelets of a day."""
    return [
        result("751-8", anc, "10*9/L", patient, day),
        result("777-3", platelets, "10*9/L", patient, day),
    ]


ELIGIBLE = bundle(*counts(0.9, 41), result("718-7", 9.4, "g/dL"))
# One of three depressed and the red cells unknown: neither two nor too few.
OPEN = bundle(*counts(0.9, 150))


def parameters(data: Json, *given: Json) -> Json:
    """The same input as Parameters."""
    return {
        "resourceType": "Parameters",
        "parameter": [*given, {"name": "data", "resource": data}],
    }


def ask(http: httpx.Client, body: Any, query: Any = None, **headers: str) -> httpx.Response:
    """A request to assess."""
    sent = {"content-type": FHIR_JSON} | {k.replace("_", "-"): v for k, v in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(OPERATION, content=content, params=query, headers=sent)


def assessed(http: httpx.Client, body: Any, query: Any = None) -> Json:
    """The answer, each of its resources a valid one of FHIR R4."""
    response = ask(http, body, query)
    assert response.status_code == httpx.codes.OK, response.text
    assert response.headers["content-type"] == FHIR_JSON
    answer: Json = response.json()
    get_fhir_model_class("Bundle").model_validate(answer)
    return answer


def of_type(answer: Json, kind: str) -> list[Json]:
    """The answer's resources of one type."""
    found = [entry["resource"] for entry in answer["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


def verdicts(answer: Json) -> list[str]:
    """The codes of the verdicts, in order."""
    return [
        observation["valueCodeableConcept"]["coding"][0]["code"]
        for observation in of_type(answer, "Observation")
    ]


def issues(answer: Json) -> set[str]:
    """Our codes of everything the answer remarks."""
    return {
        issue["details"]["coding"][0]["code"]
        for outcome in of_type(answer, "OperationOutcome")
        for issue in outcome["issue"]
    }


# The body, and the parameters beside or inside it


@pytest.mark.parametrize("media_type", [FHIR_JSON, "application/json", "Application/JSON; a=b"])
@pytest.mark.parametrize("body", [ELIGIBLE, parameters(ELIGIBLE)], ids=["Bundle", "Parameters"])
def test_a_bundle_and_parameters_are_answered_under_either_content_type(
    http: httpx.Client, body: Json, media_type: str
) -> None:
    response = ask(http, body, content_type=media_type)
    assert response.status_code == httpx.codes.OK
    assert verdicts(response.json()) == ["eligible"]


def both_ways(name: str, value_type: str, value: Any, query: str | None = None) -> list[Any]:
    """A parameter inside Parameters, and the same one in the query."""
    inside = {"name": name, f"value{value_type}": value}
    return [
        pytest.param([inside], [], id=f"{name}-{value_type}"),
        pytest.param([], [(name, query or str(value))], id=f"{name}-query"),
    ]


def modules(answer: Json) -> list[str]:
    """The definitions applied, in order."""
    return [guidance["moduleCanonical"] for guidance in of_type(answer, "GuidanceResponse")]


def sent(data: Json, inside: list[Json], query: list[tuple[str, str]]) -> tuple[Json, Any]:
    """A body and its query."""
    return (parameters(data, *inside), None) if inside else (data, query)


@pytest.mark.parametrize(
    ("inside", "query"),
    [
        *both_ways("criteria", "Code", "nih-severe"),
        *both_ways("criteria", "Uri", f"{BASE}/PlanDefinition/nih-severe"),
        *both_ways("criteria", "Canonical", f"{BASE}/PlanDefinition/nih-severe|1.0.0"),
        *both_ways("criteria", "String", "nih-severe|1.0.0"),
    ],
)
def test_a_definition_is_chosen_by_id_canonical_or_version(
    http: httpx.Client, inside: list[Json], query: list[tuple[str, str]]
) -> None:
    answer = assessed(http, *sent(ELIGIBLE, inside, query))
    assert modules(answer) == [f"{BASE}/PlanDefinition/nih-severe|1.0.0"]


def test_criteria_given_several_times_are_each_answered_once(http: httpx.Client) -> None:
    names = [NIH, "nih-severe", f"{BASE}/PlanDefinition/{NIH}"]
    wanted = [f"{BASE}/PlanDefinition/{name}|1.0.0" for name in (NIH, "nih-severe")]
    inside = [{"name": "criteria", "valueCode": name} for name in names]
    assert modules(assessed(http, ELIGIBLE, [("criteria", name) for name in names])) == wanted
    assert modules(assessed(http, parameters(ELIGIBLE, *inside))) == wanted


def test_without_criteria_the_nih_definition_is_applied(http: httpx.Client) -> None:
    assert modules(assessed(http, ELIGIBLE)) == [f"{BASE}/PlanDefinition/{NIH}|1.0.0"]


@pytest.mark.parametrize(
    ("inside", "query"),
    [
        *both_ways("asOf", "Date", "2024-03-06"),
        *both_ways("asOf", "DateTime", "2024-03-06T12:00:00Z"),
    ],
)
def test_as_of_leaves_later_results_out(
    http: httpx.Client, inside: list[Json], query: list[tuple[str, str]]
) -> None:
    data = bundle(*counts(0.9, 41), *counts(4, 250, day="2024-03-09"))
    assert verdicts(assessed(http, data)) == ["not-eligible"]
    answer = assessed(http, *sent(data, inside, query))
    assert verdicts(answer) == ["eligible"]
    assert "after-as-of" in issues(answer)


@pytest.mark.parametrize(
    ("inside", "query"),
    [
        *both_ways("subject", "String", "Patient/P2"),
        *both_ways("subject", "Reference", {"reference": "Patient/P2"}, "Patient/P2"),
        *both_ways("subject", "Id", "P2"),
    ],
)
def test_subject_narrows_the_answer_to_one_patient(
    http: httpx.Client, inside: list[Json], query: list[tuple[str, str]]
) -> None:
    data = bundle(*counts(0.9, 41), *counts(4, 250, patient="P2"))
    assert verdicts(assessed(http, data)) == ["eligible", "not-eligible"]
    answer = assessed(http, *sent(data, inside, query))
    assert verdicts(answer) == ["not-eligible"]
    assert of_type(answer, "Observation")[0]["subject"] == {"reference": "Patient/P2"}


def test_subject_is_the_patient_of_results_that_name_none(http: httpx.Client) -> None:
    answer = assessed(http, bundle(*counts(0.9, 41, patient=None)), {"subject": "Patient/P7"})
    assert of_type(answer, "Observation")[0]["subject"] == {"reference": "Patient/P7"}
    assert verdicts(answer) == ["eligible"]


@pytest.mark.parametrize(
    ("inside", "query"),
    [
        *both_ways("window", "PositiveInt", 3),
        *both_ways("window", "Integer", 3),
    ],
)
def test_window_keeps_older_counts_from_being_combined(
    http: httpx.Client, inside: list[Json], query: list[tuple[str, str]]
) -> None:
    data = bundle(result("751-8", 0.9, "10*9/L", day="2024-03-01"), result("777-3", 41, "10*9/L"))
    assert verdicts(assessed(http, data)) == ["eligible"]
    assert verdicts(assessed(http, *sent(data, inside, query))) == ["indeterminate"]


# Platelets and reticulocytes depressed, the hemoglobin not: the policies part here.
POLICY = bundle(
    result("777-3", 41, "10*9/L"),
    result("751-8", 3, "10*9/L"),
    result("718-7", 11, "g/dL"),
    result("60474-4", 30, "10*9/L"),
)


@pytest.mark.parametrize(
    ("inside", "query"), both_ways("redCellPolicy", "Code", "reticulocytes-only")
)
def test_the_red_cell_policy_decides_how_red_cells_are_judged(
    http: httpx.Client, inside: list[Json], query: list[tuple[str, str]]
) -> None:
    assert verdicts(assessed(http, POLICY)) == ["not-eligible"]
    assert verdicts(assessed(http, *sent(POLICY, inside, query))) == ["eligible"]


@pytest.mark.parametrize(("inside", "query"), both_ways("transfusionHistory", "Code", "complete"))
def test_a_complete_transfusion_history_means_none_recorded_is_none_given(
    http: httpx.Client, inside: list[Json], query: list[tuple[str, str]]
) -> None:
    data = bundle(
        result("777-3", 41, "10*9/L"),
        result("751-8", 3, "10*9/L"),
        result("718-7", 8, "g/dL"),
        result("60474-4", 90, "10*9/L"),
    )
    policy = {"name": "redCellPolicy", "valueCode": "reticulocytes-when-transfused"}
    assert verdicts(assessed(http, parameters(data, policy))) == ["indeterminate"]
    if inside:
        answer = assessed(http, parameters(data, policy, *inside))
    else:
        answer = assessed(http, data, [*query, ("redCellPolicy", policy["valueCode"])])
    assert verdicts(answer) == ["eligible"]


@pytest.mark.parametrize(
    ("inside", "query"),
    [
        *both_ways("study", "Reference", {"reference": "ResearchStudy/S1"}, "ResearchStudy/S1"),
    ],
)
def test_a_study_adds_a_research_subject_for_each_patient(
    http: httpx.Client, inside: list[Json], query: list[tuple[str, str]]
) -> None:
    data = bundle(*counts(0.9, 41), *counts(4, 250, patient="P2"), *counts(0.9, 150, patient="P3"))
    enrolled = of_type(assessed(http, *sent(data, inside, query)), "ResearchSubject")
    assert [(s["individual"]["reference"], s["status"]) for s in enrolled] == [
        ("Patient/P1", "eligible"),
        ("Patient/P2", "ineligible"),
        ("Patient/P3", "screening"),
    ]
    assert {s["study"]["reference"] for s in enrolled} == {"ResearchStudy/S1"}
    assert not of_type(assessed(http, data), "ResearchSubject")


# Where each fact stands


def test_the_assessment_stands_where_the_contract_says(http: httpx.Client) -> None:
    answer = assessed(http, ELIGIBLE)
    assert answer["type"] == "collection"
    (observation,) = of_type(answer, "Observation")
    coding = observation["code"]["coding"][0]
    assert (coding["system"], coding["code"]) == (f"{BASE}/CodeSystem/assessment", "eligibility")
    assert observation["status"] == "final"
    assert observation["subject"] == {"reference": "Patient/P1"}
    assert observation["effectiveDateTime"] == "2024-03-05"
    verdict = observation["valueCodeableConcept"]["coding"][0]
    assert (verdict["system"], verdict["code"]) == (f"{BASE}/CodeSystem/verdict", "eligible")
    assert observation["note"]
    assert observation["text"]["div"].startswith("<div")
    method = observation["method"]
    assert f"{BASE}/PlanDefinition/{NIH}|1.0.0" in json.dumps(method)
    assert "daclizumab" in method["text"]


def test_each_criterion_and_each_count_used_is_a_component(http: httpx.Client) -> None:
    (observation,) = of_type(assessed(http, ELIGIBLE), "Observation")
    truths = {
        component["code"]["coding"][0]["code"]: component["valueCodeableConcept"]["coding"][0]
        for component in observation["component"]
        if component["code"]["coding"][0]["system"] == f"{BASE}/CodeSystem/criterion"
    }
    assert {code: coding["code"] for code, coding in truths.items()} == {
        "neutrophils-depressed": "met",
        "platelets-depressed": "met",
        "red-cells-depressed": "not-met",
        "not-severe": "met",
        "other-cause": "not-looked-for",
    }
    used = {
        component["code"]["coding"][0]["code"]: component["valueQuantity"]
        for component in observation["component"]
        if component["code"]["coding"][0]["system"] == "http://loinc.org"
    }
    assert {code: (q["value"], q["code"], q["system"]) for code, q in used.items()} == {
        LOINC["neutrophils"]: (0.9, "10*9/L", "http://unitsofmeasure.org"),
        LOINC["platelets"]: (41, "10*9/L", "http://unitsofmeasure.org"),
        LOINC["hemoglobin"]: (9.4, "g/dL", "http://unitsofmeasure.org"),
    }


def test_every_source_is_named_and_sending_only_the_sources_gives_the_same_verdict(
    http: httpx.Client,
) -> None:
    data = bundle(*ELIGIBLE["entry"], *counts(5, 300, day="2023-03-05"))
    (observation,) = of_type(assessed(http, data), "Observation")
    named = {source["reference"] for source in observation["derivedFrom"]}
    kept = [e for e in data["entry"] if f"Observation/{e['resource']['id']}" in named]
    assert {e["resource"]["id"] for e in kept} == {e["resource"]["id"] for e in ELIGIBLE["entry"]}
    assert verdicts(assessed(http, bundle(*kept))) == verdicts(assessed(http, data))


def resolved(answer: Json, reference: str) -> Json:
    """The resource of the answer that a reference names."""
    (found,) = [e["resource"] for e in answer["entry"] if e["fullUrl"] == reference]
    resource: Json = found
    return resource


def test_the_guidance_resolves_inside_the_answer(http: httpx.Client) -> None:
    spoiled = copy.deepcopy(ELIGIBLE)
    del spoiled["entry"][2]["resource"]["valueQuantity"]["unit"]
    del spoiled["entry"][2]["resource"]["valueQuantity"]["code"]
    answer = assessed(http, spoiled)
    (guidance,) = of_type(answer, "GuidanceResponse")
    assert guidance["status"] == "success"
    assert "dataRequirement" not in guidance
    assert guidance["outputParameters"] == {"reference": "#output"}
    (output,) = guidance["contained"]
    assert output["id"] == "output"
    by_name = {parameter["name"]: parameter for parameter in output["parameter"]}
    assert by_name["verdict"]["valueCode"] == "eligible"
    assessment = resolved(answer, by_name["assessment"]["valueReference"]["reference"])
    assert assessment == of_type(answer, "Observation")[0]
    (message,) = guidance["evaluationMessage"]
    outcome = resolved(answer, message["reference"])
    assert outcome["resourceType"] == "OperationOutcome"
    (issue,) = outcome["issue"]
    assert issue["severity"] == "warning"
    assert issue["details"]["coding"][0]["code"] == "unit-missing"
    assert issue["expression"][0].startswith("Bundle.entry[2].resource")


def test_an_open_verdict_names_exactly_the_counts_that_would_settle_it(
    http: httpx.Client,
) -> None:
    answer = assessed(http, OPEN)
    assert verdicts(answer) == ["indeterminate"]
    (guidance,) = of_type(answer, "GuidanceResponse")
    assert guidance["status"] == "data-required"
    wanted = {
        requirement["codeFilter"][0]["code"][0]["code"]
        for requirement in guidance["dataRequirement"]
    }
    assert wanted == {LOINC["hemoglobin"], "60474-4"}


def test_places_in_parameters_are_named_from_parameters(http: httpx.Client) -> None:
    spoiled = copy.deepcopy(ELIGIBLE)
    del spoiled["entry"][1]["resource"]["status"]
    answer = assessed(http, parameters(spoiled, {"name": "window", "valueInteger": 9}))
    places = [
        place
        for outcome in of_type(answer, "OperationOutcome")
        for issue in outcome["issue"]
        for place in issue["expression"]
    ]
    assert places == ["Parameters.parameter[1].resource.entry[1].resource.status"]


def test_the_same_request_gives_the_same_bytes(http: httpx.Client) -> None:
    first = ask(http, ELIGIBLE, {"study": "ResearchStudy/1"}).content
    assert ask(http, ELIGIBLE, {"study": "ResearchStudy/1"}).content == first
    with httpx.Client(base_url=http.base_url) as another:
        assert ask(another, ELIGIBLE, {"study": "ResearchStudy/1"}).content == first


def test_fifty_callers_at_once_get_equal_bytes(http: httpx.Client) -> None:
    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda _: ask(http, ELIGIBLE), range(CALLERS)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["x-request-id"] for answer in answers}) == CALLERS


def test_health_is_answered_while_a_cohort_is_judged(http: httpx.Client) -> None:
    cohort = [result("751-8", 0.9, "10*9/L", f"P{index}") for index in range(COHORT)]
    body = json.dumps(bundle(*cohort)).encode()
    answered = 0
    with ThreadPoolExecutor(1) as pool:
        judged = pool.submit(ask, http, body)
        while not judged.done():
            assert http.get("/health/live").status_code == httpx.codes.OK
            answered += 1
    assert judged.result().status_code == httpx.codes.OK
    # Held up by the cohort, one would be answered before it is judged and one after.
    assert answered > 4


# X-Request-Id


def test_a_request_id_is_echoed(http: httpx.Client) -> None:
    for answer in (
        ask(http, ELIGIBLE, x_request_id="abc-1.2_3"),
        ask(http, b"{", x_request_id="abc-1.2_3"),
        http.get("/nowhere", headers={"x-request-id": "abc-1.2_3"}),
    ):
        assert answer.headers.get_list("x-request-id") == ["abc-1.2_3"]


def test_a_request_id_is_assigned_where_none_is_given(http: httpx.Client) -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}", http.get("/health/live").headers["x-request-id"])


@pytest.mark.parametrize("hostile", ["a b", "x" * 65, "<script>", "a\tb", "\xe9", "", "a,b;c=d"])
def test_a_hostile_request_id_is_replaced(
    http: httpx.Client, server_log: Path, hostile: str
) -> None:
    headers = [(b"x-request-id", hostile.encode("latin-1"))]
    request = http.build_request("GET", "/health/live", headers=headers)
    given = http.send(request).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", given)
    assert not hostile or hostile not in server_log.read_text()


# Errors


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/fhir/Nothing/1", 404),
        ("GET", "/fhir/../etc/passwd", 404),
        ("POST", "/fhir/metadata", 405),
        ("GET", OPERATION, 405),
        ("DELETE", OPERATION, 405),
        ("TRACE", "/metrics", 405),
    ],
)
def test_an_unknown_address_or_method_is_told_as_an_outcome(
    http: httpx.Client, outcome_of: Outcome, method: str, path: str, status: int
) -> None:
    response = http.request(method, path)
    assert response.status_code == status
    outcome_of(response)
    assert status != httpx.codes.METHOD_NOT_ALLOWED or response.headers["allow"]


@pytest.mark.parametrize(
    "accept",
    [
        "application/fhir+xml",
        "text/html",
        "*/*;q=0",
        "application/json;q=0",
        "application/fhir+json; q=0.000, */*",
        "application/fhir+xml;q=1.0, application/json;q=0.0",
        "nonsense",
        "application/fhir+json; fhirVersion=5.0",
    ],
)
def test_a_caller_who_takes_no_json_is_refused(
    http: httpx.Client, outcome_of: Outcome, accept: str
) -> None:
    for response in (
        ask(http, ELIGIBLE, accept=accept),
        http.get("/fhir/metadata", headers={"accept": accept}),
    ):
        assert response.status_code == httpx.codes.NOT_ACCEPTABLE
        outcome_of(response)


@pytest.mark.parametrize(
    "accept",
    [
        "application/fhir+json",
        "application/json",
        "*/*",
        "application/*;q=0.1",
        "",
        "application/fhir+xml;q=0.9, application/fhir+json;q=0.1",
        "application/xml;q=0, */*",
        "APPLICATION/FHIR+JSON; fhirVersion=4.0",
    ],
)
def test_a_caller_who_takes_json_is_answered(http: httpx.Client, accept: str) -> None:
    response = ask(http, ELIGIBLE, accept=accept)
    assert response.status_code == httpx.codes.OK
    # A caller who takes only the generic type is given it, as FHIR asks of servers.
    generic = accept == "application/json"
    assert response.headers["content-type"] == ("application/json" if generic else FHIR_JSON)


def test_several_accept_headers_are_read_as_one(http: httpx.Client) -> None:
    headers = [("accept", "text/html"), ("accept", FHIR_JSON)]
    with httpx.Client(base_url=http.base_url) as bare:
        bare.headers.pop("accept")
        assert bare.get("/fhir/metadata", headers=headers).status_code == httpx.codes.OK


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("json", 200),
        ("application/fhir+json", 200),
        ("application/json", 200),
        ("xml", 406),
        ("application/fhir+xml", 406),
        ("ttl", 406),
    ],
)
def test_format_speaks_before_accept(
    http: httpx.Client, outcome_of: Outcome, asked: str, status: int
) -> None:
    other = "application/fhir+xml" if status == httpx.codes.OK else FHIR_JSON
    response = ask(http, ELIGIBLE, {"_format": asked}, accept=other)
    assert response.status_code == status
    if status != httpx.codes.OK:
        outcome_of(response)


@pytest.mark.parametrize("query", ["_format=application/fhir+json", "_format=xml&_format=json"])
def test_a_plus_sign_and_a_repeated_format_are_read(http: httpx.Client, query: str) -> None:
    assert http.get(f"/fhir/metadata?{query}").status_code == httpx.codes.OK


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/fhir+xml"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {},
        {"content-type": FHIR_JSON, "content-encoding": "br"},
        {"content-type": f"{FHIR_JSON}; fhirVersion=3.0"},
    ],
    ids=str,
)
def test_a_body_that_does_not_say_that_it_is_json_is_refused(
    http: httpx.Client, outcome_of: Outcome, headers: dict[str, str]
) -> None:
    response = http.post(OPERATION, content=json.dumps(ELIGIBLE).encode(), headers=headers)
    assert response.status_code == httpx.codes.UNSUPPORTED_MEDIA_TYPE
    outcome_of(response)


def answered(http: httpx.Client, head: str, body: list[bytes]) -> httpx.Response:
    """What the service says to a request that never comes to its end."""
    address = urlsplit(str(http.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        request = f"POST {OPERATION} HTTP/1.1\r\nHost: test\r\nContent-Type: {FHIR_JSON}\r\n{head}"
        connection.sendall(f"{request}\r\n\r\n".encode())
        for part in body:
            connection.sendall(part)
        received = b""
        while not received.endswith(b"}]}") and (part := connection.recv(65536)):
            received += part
    top, _, content = received.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=dict(headers), content=content)


def chunk(size: int) -> bytes:
    """A chunk of blanks."""
    return f"{size:x}\r\n".encode() + b" " * size + b"\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (f"Content-Length: {LIMIT + 1}", []),
        ("Transfer-Encoding: chunked", [chunk(LIMIT // 16)] * 16 + [chunk(1)]),
    ],
    ids=["declared", "chunked"],
)
def test_a_body_over_the_limit_is_refused_without_waiting_for_its_end(
    http: httpx.Client, outcome_of: Outcome, head: str, body: list[bytes]
) -> None:
    response = answered(http, head, body)
    assert response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert outcome_of(response)["issue"][0]["code"] == "too-long"
    assert http.get("/health/live").status_code == httpx.codes.OK


@pytest.mark.parametrize(
    ("body", "query", "status", "place"),
    [
        (b"{", {}, 400, None),
        (b'{"resourceType": 1}', {}, 400, ".resourceType"),
        (ELIGIBLE, {"window": "0"}, 400, "Parameters.parameter.where(name='window')"),
        (
            parameters(ELIGIBLE, {"name": "asOf", "valueDate": "2024-13-45"}),
            {},
            400,
            "Parameters.parameter[0]",
        ),
        (
            parameters(ELIGIBLE, {"name": "criteria", "valueReference": {"reference": "a/b"}}),
            {},
            400,
            "Parameters.parameter[0]",
        ),
        (ELIGIBLE, {"criteria": "none"}, 422, "Parameters.parameter.where(name='criteria')"),
        (bundle(), {}, 422, "Bundle"),
        (ELIGIBLE, {"subject": "Patient/other"}, 422, "Bundle"),
        (bundle(*counts(1, 1, patient=None)), {}, 422, "Bundle"),
    ],
)
def test_a_request_that_cannot_be_answered_says_what_and_where(
    http: httpx.Client, outcome_of: Outcome, body: Any, query: Any, status: int, place: str | None
) -> None:
    response = ask(http, body, query)
    assert response.status_code == status
    found = outcome_of(response)["issue"][0].get("expression")
    assert found == ([place] if place else None)


def test_every_bad_parameter_is_told_at_once(http: httpx.Client, outcome_of: Outcome) -> None:
    bad = {"window": "x", "asOf": "x", "redCellPolicy": "x", "transfusionHistory": "x", "a": "b"}
    outcome = outcome_of(ask(http, ELIGIBLE, bad | {"study": "x"}))
    assert len(outcome["issue"]) == len(bad) + 1


# The other addresses


CRMI = "http://hl7.org/fhir/uv/crmi/OperationDefinition/crmi-"


def listed(rest: dict[str, Any]) -> set[tuple[str, str]]:
    """The method and path of all that a CapabilityStatement offers."""
    found = {("POST", f"/fhir/${operation['name']}") for operation in rest["operation"]}
    for resource in rest["resource"]:
        kind = resource["type"]
        for interaction in resource.get("interaction", []):
            path = {"read": f"/fhir/{kind}/{{id}}", "search-type": f"/fhir/{kind}"}
            found.add(("GET", path[interaction["code"]]))
            if interaction["code"] == "search-type":
                found.add(("POST", f"/fhir/{kind}/_search"))
        for operation in resource.get("operation", []):
            name = f"${operation['name']}"
            if operation["definition"].startswith(CRMI):
                at = (f"/fhir/{kind}/{name}", f"/fhir/{kind}/{{id}}/{name}")
                found |= {(method, path) for method in ("GET", "POST") for path in at}
            elif kind == "Measure":
                found.add(("POST", f"/fhir/Measure/maa-hematologic-response/{name}"))
            elif kind == "ResearchStudy":
                found.add(("POST", f"/fhir/ResearchStudy/{name}"))
            else:
                found |= {(method, f"/fhir/{kind}/{{id}}/{name}") for method in ("GET", "POST")}
    return found


def test_metadata_names_exactly_what_answers(http: httpx.Client) -> None:
    response = http.get("/fhir/metadata")
    assert response.headers["content-type"] == FHIR_JSON
    statement = response.json()
    get_fhir_model_class("CapabilityStatement").model_validate(statement)
    assert statement["fhirVersion"] == "4.0.1"
    assert statement["implementation"]["url"] == f"{str(http.base_url).rstrip('/')}/fhir"
    (rest,) = statement["rest"]
    paths = http.get("/openapi.json").json()["paths"]
    answering = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/fhir/") and path != "/fhir/metadata"
    }
    assert listed(rest) == answering
    for method, path in answering:
        status = http.request(method, path.replace("{id}", "unknown"), content=b"").status_code
        expected = {404, 415} if "{id}" in path or "$" in path else {200}
        if path.endswith(("/$package", "/$data-requirements")):
            expected = {404} if "{id}" in path else {400}
        assert status in expected, (method, path, status)


def test_every_operation_is_defined_here_or_by_hl7(http: httpx.Client) -> None:
    (rest,) = http.get("/fhir/metadata").json()["rest"]
    offered = [*rest["operation"], *(o for r in rest["resource"] for o in r.get("operation", []))]
    for operation in offered:
        if operation["definition"].startswith(CRMI):
            assert operation["definition"] == f"{CRMI}{operation['name']}"
            continue
        name = operation["definition"].removeprefix(f"{BASE}/")
        found = http.get(f"/fhir/{name}").json()
        assert (found["url"], found["code"]) == (operation["definition"], operation["name"])


def test_health_says_alive_and_ready(http: httpx.Client) -> None:
    assert http.get("/health/live").json() == {"status": "ok"}
    ready = http.get("/health/ready")
    assert (ready.status_code, ready.json()["notReady"]) == (200, [])


def answers_counted(http: httpx.Client) -> dict[tuple[str, str, str], float]:
    """The counter of requests, by its labels."""
    return {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if sample.name == "maa_requests_total"
    }


def test_metrics_count_answers_without_naming_anyone(http: httpx.Client) -> None:
    good, bad = (OPERATION, "POST", "200"), (OPERATION, "POST", "422")
    before = answers_counted(http)
    ask(http, ELIGIBLE, {"subject": "Patient/P1"})
    ask(http, ELIGIBLE, {"subject": "Patient/other"})
    http.get("/fhir/Patient/Secret-Patient-1/$assess-eligibility")
    http.get("/nowhere/Secret-Patient-1")
    after = answers_counted(http)
    assert after[good] == before.get(good, 0) + 1
    assert after[bad] == before.get(bad, 0) + 1
    text = http.get("/metrics").text
    assert "Secret-Patient-1" not in text
    assert "Patient/P1" not in text


def test_an_unusual_method_makes_no_metric_of_its_own(http: httpx.Client) -> None:
    assert http.request("PROPFIND", "/health/live").status_code == httpx.codes.METHOD_NOT_ALLOWED
    methods = {method for _, method, _ in answers_counted(http)}
    assert "other" in methods
    assert "PROPFIND" not in methods


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_elsewhere(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code == httpx.codes.OK
    assert response.headers["content-type"].startswith("text/html")
    loaded = re.findall(
        r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=[\"']([^\"']+)", response.text
    )
    assert not [address for address in loaded if re.match(r"(?:https?:)?//", address)]
    for address in loaded:
        assert http.get(address).status_code == httpx.codes.OK, address


def test_the_first_page_leads_to_addresses_that_answer(http: httpx.Client) -> None:
    links = re.findall(r'<a href="([^"]+)"', http.get("/").text)
    assert {"/docs", "/fhir/metadata"} <= set(links)
    for link in links:
        assert http.get(link).status_code == httpx.codes.OK


def test_the_log_tells_of_requests_and_nothing_of_patients(
    http: httpx.Client, server_log: Path
) -> None:
    data = bundle(
        result("751-8", 0.87654, "10*9/L", "Log-Patient-9"),
        result("777-3", 41.2345, "10*9/L", "Log-Patient-9"),
    )
    known = "log-test-1"
    ask(http, data, {"subject": "Patient/Log-Patient-9"}, x_request_id=known)
    ask(http, b'{"resourceType":"Bundle","entry":"Log-Patient-9"}')
    ask(http, data, {"subject": "Patient/Log-Patient-8"})
    http.get("/fhir/Patient/Log-Patient-9/$assess-eligibility")
    log = server_log.read_text()
    (line,) = (json.loads(line) for line in log.splitlines() if known in line)
    assert datetime.fromisoformat(line.pop("time")).tzinfo
    assert line.pop("milliseconds") > 0
    assert line == {
        "level": "info",
        "message": "request",
        "request": known,
        "method": "POST",
        "route": OPERATION,
        "status": 200,
        "verdicts": {"nih-daclizumab-2003": {"eligible": 1}},
    }
    for secret in ("Log-Patient", "0.87654", "41.2345", "Traceback"):
        assert secret not in log
