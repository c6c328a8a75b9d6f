"""No input makes the service fail: it is answered, or refused with what is wrong and where."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Post = Callable[..., httpx.Response]
Json = dict[str, Any]

OK, BAD, NOTHING = 200, 400, 422
MANY = 10_000
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
XHTML = "{http://www.w3.org/1999/xhtml}"


def result(code: str, value: Any, unit: str, patient: str = "Patient/1", name: str = "") -> Json:
    """One laboratory result, as an entry."""
    return {
        "resource": {
            "resourceType": "Observation",
            "id": name or f"o{code}",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": code, "display": "Count"}]},
            "subject": {"reference": patient},
            "effectiveDateTime": "2024-03-05T08:30:00Z",
            "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
        }
    }


def bundle(*entries: Any) -> Json:
    """A collection."""
    return {"resourceType": "Bundle", "type": "collection", "entry": list(entries)}


ANC, PLATELETS = result("751-8", 0.9, "10*9/L"), result("777-3", 41, "10*9/L")
GOOD = bundle(ANC, PLATELETS)
# A text that stands once in the good request: the neutrophils' value.
GOOD_TEXT = json.dumps(GOOD).encode()
VALUE = b'"value": 0.9'
assert GOOD_TEXT.count(VALUE) == 1


def spoiled(**elements: Any) -> Json:
    """The good request, elements of its neutrophils replaced; None takes one away."""
    data = copy.deepcopy(GOOD)
    resource = data["entry"][0]["resource"]
    for name, value in elements.items():
        if value is None:
            resource.pop(name, None)
        else:
            resource[name] = value
    return data


def resources(answer: Json, kind: str) -> list[Json]:
    """The answer's resources of one type."""
    found = [entry["resource"] for entry in answer["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


def verdicts(response: httpx.Response) -> list[str]:
    """The verdicts of an answer."""
    assert response.status_code == OK, response.text[:500]
    return [
        o["valueCodeableConcept"]["coding"][0]["code"]
        for o in resources(response.json(), "Observation")
    ]


def remarks(response: httpx.Response) -> list[tuple[str, str]]:
    """Our code and the place of everything an answer remarks."""
    return [
        (issue["details"]["coding"][0]["code"], place)
        for outcome in resources(response.json(), "OperationOutcome")
        for issue in outcome["issue"]
        for place in issue.get("expression", [""])
    ]


def refused(response: httpx.Response, status: int, text: str = "", place: str = "") -> None:
    """The request was refused so, with this in the reason and at this place."""
    assert response.status_code == status
    issue = response.json()["issue"][0]
    assert text in issue["diagnostics"]
    assert not place or issue["expression"] == [place]


def set_aside(response: httpx.Response, code: str, place: str) -> None:
    """The neutrophils were set aside, for this reason; the platelets alone leave it open."""
    assert verdicts(response) == ["indeterminate"]
    assert (code, f"Bundle.entry[0].resource{place}") in remarks(response)


# Bodies that are nothing to assess


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", BAD, "Not JSON"),
        (b"   ", BAD, "Not JSON"),
        (b"hello", BAD, "Not JSON"),
        (b"<Bundle/>", BAD, "Not JSON"),
        (b'{"resourceType": "Bundle"', BAD, "Not JSON"),
        (b'{"resourceType": "Bundle"} x', BAD, "Not JSON"),
        (b"{'resourceType': 'Bundle'}", BAD, "Not JSON"),
        (b"null", BAD, "Not FHIR"),
        (b"[]", BAD, "Not FHIR"),
        (b'"x"', BAD, "Not FHIR"),
        (b"1", BAD, "Not FHIR"),
        (b"true", BAD, "Not FHIR"),
        (b"{}", BAD, "Send a Bundle"),
        (b'{"resourceType": null}', BAD, "Send a Bundle"),
        (b'{"resourceType": "bundle"}', BAD, "Send a Bundle"),
        (b'{"resourceType": "Patient", "id": "1"}', BAD, "Send a Bundle"),
        (json.dumps(ANC["resource"]).encode(), BAD, "Send a Bundle"),
        (b'{"resourceType": 7}', BAD, "Not FHIR"),
        (b'{"resourceType": "Bundle"}', NOTHING, "no Observation"),
        (b'{"resourceType": "Bundle", "entry": []}', NOTHING, "no Observation"),
        (b'{"resourceType": "Bundle", "entry": [{}]}', NOTHING, "no Observation"),
        (b'{"resourceType": "Bundle", "entry": [{"resource": null}]}', NOTHING, "no Observation"),
        (b'{"resourceType": "Bundle", "entry": [null]}', BAD, "Not FHIR"),
        (b'{"resourceType": "Bundle", "entry": null}', BAD, "Not FHIR"),
        (b'{"resourceType": "Bundle", "entry": {}}', BAD, "Not FHIR"),
        (b'{"resourceType": "Parameters"}', NOTHING, "'data'"),
        (b'{"resourceType": "Parameters", "parameter": []}', NOTHING, "'data'"),
        (b'{"resourceType": "Parameters", "parameter": [{}]}', BAD, "a name and one value"),
        (b'{"resourceType": "Parameters", "parameter": [null]}', BAD, "Not FHIR"),
        (b'{"resourceType":"Parameters","parameter":[{"name":"data"}]}', BAD, "'data' is a Bundle"),
    ],
)
def test_a_body_without_data_is_refused(post: Post, body: bytes, status: int, text: str) -> None:
    refused(post(body), status, text)


@pytest.mark.parametrize(
    "data", [{"resourceType": "Patient"}, {}, [], "x", 1, None], ids=json.dumps
)
def test_data_that_is_no_bundle_is_refused(post: Post, data: Any) -> None:
    body = {"resourceType": "Parameters", "parameter": [{"name": "data", "resource": data}]}
    assert post(body).status_code == BAD


@pytest.mark.parametrize("extra", [{}, {"resource": None}, {"fullUrl": "urn:uuid:1"}])
def test_an_entry_without_a_resource_is_passed_over(post: Post, extra: Json) -> None:
    assert verdicts(post(bundle(extra, *GOOD["entry"]))) == ["eligible"]


@pytest.mark.parametrize("bad", ["x", 1, [], True, {}, {"resourceType": 5}])
def test_an_entry_that_is_no_resource_is_set_aside_and_named(post: Post, bad: Any) -> None:
    response = post(bundle({"resource": bad}, *GOOD["entry"]))
    assert verdicts(response) == ["eligible"]
    ((code, place),) = remarks(response)
    assert code == "not-fhir"
    assert place.startswith("Bundle.entry[0].resource")


# Depth and size


@pytest.mark.parametrize("levels", [100, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_body_of_nothing_but_nesting_is_refused(
    post: Post, levels: int, opening: bytes, closing: bytes
) -> None:
    assert post(opening * levels + b"1" + closing * levels).status_code == BAD


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("place", [b'"resourceType"', b'"status"'])
def test_nesting_in_an_element_we_do_not_read_is_no_matter_until_it_is_too_deep(
    post: Post, opening: bytes, closing: bytes, place: bytes
) -> None:
    def nested(levels: int) -> bytes:
        value = b'"extension": ' + opening * levels + b"1" + closing * levels + b", "
        return GOOD_TEXT.replace(place, value + place, 1)

    assert verdicts(post(nested(100))) == ["eligible"]
    refused(post(nested(100_000)), BAD, "nested too deep")


def test_bundles_in_bundles_are_read_three_deep_and_then_refused(post: Post) -> None:
    data = GOOD
    for _ in range(3):
        data = bundle({"resource": data})
    assert verdicts(post(data)) == ["eligible"]
    refused(post(bundle({"resource": data})), BAD, "Bundles deeper")


def test_ten_thousand_entries_are_answered(post: Post) -> None:
    entries = [result("751-8", 0.9, "10*9/L", name=f"o{index}") for index in range(MANY)]
    assert verdicts(post(bundle(*entries, PLATELETS))) == ["eligible"]


def test_ten_thousand_pairs_of_one_moment_are_answered(post: Post) -> None:
    entries = [
        entry
        for index in range(MANY)
        for entry in (
            result("6690-2", 3 + index % 2, "10*9/L", name=f"w{index}"),
            result("770-8", 30, "%", name=f"n{index}"),
        )
    ]
    assert len(verdicts(post(bundle(*entries)))) == 1


def test_a_thousand_subjects_are_each_answered(post: Post) -> None:
    entries = [result("751-8", 0.9, "10*9/L", f"Patient/{i}", f"o{i}") for i in range(1000)]
    assert verdicts(post(bundle(*entries))) == ["indeterminate"] * 1000


@pytest.mark.parametrize("element", ["display", "unit", "id", "reference", "status", "date"])
def test_a_huge_string_is_answered_without_repeating_it_at_length(post: Post, element: str) -> None:
    huge = "x" * 1_000_000
    data = copy.deepcopy(GOOD)
    resource = data["entry"][0]["resource"]
    match element:
        case "display":
            resource["code"]["coding"][0]["display"] = huge
        case "unit":
            resource["valueQuantity"]["code"] = huge
        case "reference":
            resource["subject"]["reference"] = f"Patient/{huge}"
        case "date":
            resource["effectiveDateTime"] = huge
        case _:
            resource[element] = huge
    response = post(data)
    assert response.status_code == OK
    if element != "id":
        assert len(response.content) < len(huge)


# Numbers


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"+1", b"01", b"1.", b".5"])
def test_a_number_that_json_does_not_know_is_not_json(post: Post, number: bytes) -> None:
    refused(post(GOOD_TEXT.replace(VALUE, b'"value": ' + number)), BAD, "Not JSON")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (b"9" * 400, "implausible-value"),
        (b"0." + b"1" * 400, "implausible-value"),
        (b"1e400", "implausible-value"),
        (b"1e-400", "implausible-value"),
        (b"1E+99999999999999999999", None),
        (b"-0.9", "implausible-value"),
        (b"-1e3", "implausible-value"),
        (b'"0.9"', "invalid-value"),
        (b'"NaN"', "invalid-value"),
        (b"null", "no-value"),
        (b"true", None),
        (b"[0.9]", None),
        (b'{"value": 0.9}', None),
    ],
)
def test_a_value_no_laboratory_gives_is_set_aside(
    post: Post, number: bytes, code: str | None
) -> None:
    response = post(GOOD_TEXT.replace(VALUE, b'"value": ' + number))
    assert verdicts(response) == ["indeterminate"]
    ((found, place),) = remarks(response)
    assert place.startswith("Bundle.entry[0].resource.value")
    assert code is None or found == code


@pytest.mark.parametrize("number", [b"0.9", b"9e-1", b"0.09E1", b"0.90000000000000000000", b"9E-1"])
def test_a_value_is_the_same_however_its_number_is_written(post: Post, number: bytes) -> None:
    assert verdicts(post(GOOD_TEXT.replace(VALUE, b'"value": ' + number))) == ["eligible"]


def test_a_limit_is_met_exactly_and_missed_by_the_least_digit(post: Post) -> None:
    met = post(GOOD_TEXT.replace(VALUE, b'"value": 1.2'))
    missed = post(GOOD_TEXT.replace(VALUE, b'"value": 1.20000000000000000000000001'))
    assert (verdicts(met), verdicts(missed)) == (["eligible"], ["indeterminate"])


# Elements of the wrong kind


@pytest.mark.parametrize(
    ("elements", "code", "place"),
    [
        ({"valueString": "0.9"}, "invalid-value", ""),
        ({"valueInteger": 1}, "invalid-value", ""),
        ({"valueQuantity": None}, "no-value", ""),
        ({"valueQuantity": None, "valueBoolean": True}, "invalid-value", ".value"),
        ({"valueQuantity": {"value": 0.9}}, "unit-missing", ".value"),
        ({"valueQuantity": {"value": 0.9, "unit": "apples"}}, "unit-unknown", ".value"),
        ({"valueQuantity": "0.9"}, "not-fhir", ".valueQuantity"),
        ({"valueQuantity": []}, "not-fhir", ".valueQuantity"),
        ({"status": "entered-in-error"}, "status-excluded", ".status"),
        ({"status": "Final"}, "status-excluded", ".status"),
        ({"status": None}, "status-excluded", ".status"),
        ({"status": 1}, "not-fhir", ".status"),
        ({"code": "751-8"}, "not-fhir", ".code"),
        ({"effectiveDateTime": "5.3.2024"}, "no-date", ".effective"),
        ({"effectiveDateTime": "2024-13-45"}, "no-date", ".effective"),
        ({"effectiveDateTime": "2023-02-29"}, "no-date", ".effective"),
        ({"effectiveDateTime": "0001-01-01T00:00:00+14:00"}, "no-date", ".effective"),
        ({"effectiveDateTime": "9999-12-31T23:59:59-14:00"}, "no-date", ".effective"),
        ({"effectiveDateTime": "2024-03-05T25:00:00Z"}, "no-date", ".effective"),
        ({"effectiveDateTime": "2024-03-05T08:00:00+99:99"}, "no-date", ".effective"),
        ({"effectiveDateTime": "\u0662\u0660\u0662\u0664"}, "no-date", ".effective"),
        ({"effectiveDateTime": None}, "no-date", ""),
        ({"effectiveDateTime": 20240305}, "not-fhir", ".effectiveDateTime"),
        ({"modifierExtension": [{"url": "urn:x"}]}, "modifier-extension", ""),
        ({"subject": {}}, "no-subject", ""),
        ({"subject": {"reference": "Group/1"}}, "no-subject", ""),
    ],
    ids=str,
)
def test_a_result_that_cannot_be_used_is_set_aside_with_its_reason(
    post: Post, elements: Json, code: str, place: str
) -> None:
    set_aside(post(spoiled(**elements)), code, place)


PARAMETERS = {
    "resourceType": "Parameters",
    "parameter": [
        {"name": "criteria", "valueCode": "nih-daclizumab-2003"},
        {"name": "asOf", "valueDate": "2024-03-06"},
        {"name": "subject", "valueReference": {"reference": "Patient/1"}},
        {"name": "window", "valueInteger": 30},
        {
            "name": "data",
            "resource": bundle(
                ANC,
                PLATELETS,
                {
                    "fullUrl": "http://lab.example/fhir/Patient/1",
                    "resource": {
                        "resourceType": "Patient",
                        "id": "1",
                        "identifier": [{"system": "urn:mrn", "value": "7"}],
                    },
                },
                {
                    "resource": {
                        "resourceType": "DiagnosticReport",
                        "id": "r",
                        "status": "final",
                        "result": [{"reference": "Observation/o751-8"}, {"reference": "#in"}],
                        "contained": [
                            result("718-7", 9.4, "g/dL")["resource"] | {"id": "in", "contained": []}
                        ],
                        "subject": {"reference": "Patient/1"},
                        "effectivePeriod": {"start": "2024-03-05", "end": "2024-03-05"},
                    }
                },
                {
                    "resource": {
                        "resourceType": "Observation",
                        "id": "panel",
                        "meta": {"versionId": "1", "lastUpdated": "2024-03-05T09:00:00Z"},
                        "status": "final",
                        "code": {"coding": [{"system": LOINC, "code": "58410-2"}], "text": "CBC"},
                        "subject": {"identifier": {"system": "urn:mrn", "value": "7"}},
                        "effectiveTiming": {"event": ["2024-03-05"]},
                        "hasMember": [{"reference": "Observation/o777-3"}],
                        "component": [
                            {
                                "code": {"coding": [{"system": LOINC, "code": "60474-4"}]},
                                "valueRange": {
                                    "low": {"value": 30, "unit": "10*9/L"},
                                    "high": {"value": 40, "unit": "10*9/L"},
                                },
                                "referenceRange": [
                                    {
                                        "low": {"value": 20, "unit": "10*9/L"},
                                        "type": {"coding": [{"code": "normal"}]},
                                    }
                                ],
                            }
                        ],
                    }
                },
                {
                    "resource": {
                        "resourceType": "Procedure",
                        "id": "t",
                        "status": "completed",
                        "code": {
                            "coding": [{"system": "http://snomed.info/sct", "code": "116863004"}]
                        },
                        "subject": {"reference": "Patient/1"},
                        "performedPeriod": {"start": "2024-01-05", "end": "2024-01-06"},
                    }
                },
                {
                    "resource": {
                        "resourceType": "MedicationAdministration",
                        "id": "m",
                        "status": "completed",
                        "medicationCodeableConcept": {"text": "filgrastim"},
                        "subject": {"reference": "Patient/1"},
                        "effectiveDateTime": "2024-01-05",
                        "dosage": {"dose": {"value": 1, "unit": "mg"}},
                    }
                },
            ),
        },
    ],
}


def nodes(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a JSON value."""
    yield path
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from nodes(child, (*path, key))


def replaced(value: Any, path: tuple[str | int, ...], by: Any) -> Any:
    """A JSON value with one of its nodes replaced."""
    if not path:
        return by
    copied = copy.copy(value)
    copied[path[0]] = replaced(value[path[0]], path[1:], by)
    return copied


@pytest.mark.parametrize("by", [None, "x", "", 1, -1, 1.5, True, [], {}, [None], [{}]], ids=repr)
def test_any_value_replaced_by_one_of_another_kind_is_answered_or_refused(
    post: Post, by: Any
) -> None:
    assert verdicts(post(PARAMETERS)) == ["eligible"]
    for path in nodes(PARAMETERS):
        response = post(replaced(PARAMETERS, path, by))
        if response.status_code == OK:
            get_fhir_model_class("Bundle").model_validate(response.json())


# Characters


@pytest.mark.parametrize(
    "half", [rb"\ud800", rb"\udc00", rb"\udbff\ud800", rb"\ud800x", rb"\udfff\ud800"]
)
@pytest.mark.parametrize("place", [b"Patient/1", b"10*9/L", b"Count", b"o751-8", b"resourceType"])
def test_half_a_surrogate_pair_is_answered_or_refused_and_never_sent_back(
    post: Post, half: bytes, place: bytes
) -> None:
    response = post(GOOD_TEXT.replace(place, b"urn:" + half))
    assert response.status_code in {OK, BAD, NOTHING}
    response.content.decode("utf-8")
    json.dumps(response.json(), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\x80", b"\xb5"])
@pytest.mark.parametrize("place", [b"Patient/1", b"10*9/L", b"Count", b"o751-8", b"final"])
def test_text_that_is_not_utf8_is_set_aside_or_refused_and_never_sent_back(
    post: Post, bad: bytes, place: bytes
) -> None:
    response = post(GOOD_TEXT.replace(place, bad, 1))
    response.content.decode("utf-8")
    if response.status_code == OK:
        assert verdicts(response) == ["indeterminate"]
        assert [code for code, _ in remarks(response)] == ["not-fhir"]


def test_raw_control_characters_are_not_json(post: Post) -> None:
    refused(post(GOOD_TEXT.replace(b"Patient/1", b"Patient/\x01")), BAD, "Not JSON")


def test_a_byte_order_mark_is_passed_over(post: Post) -> None:
    response = post(b"\xef\xbb\xbf" + GOOD_TEXT)
    assert verdicts(response) == ["eligible"]
    assert response.content == post(GOOD_TEXT).content


@pytest.mark.parametrize("body", ["utf-16", "utf-32", "utf-16-le"])
def test_json_in_another_encoding_is_refused(post: Post, body: str) -> None:
    assert post(json.dumps(GOOD).encode(body)).status_code == BAD


HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "]]>&lt;&amp;&#0;",
    "a\x00b\x01c\x0b\x1f",
    "\x7f\x85\ufffe\uffff\u2028",
    "\N{PILE OF POO}",
    "<!--",
    "{{7*7}}${7*7}%s",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "element", ["display", "text", "unit", "code", "reference", "identifier", "id", "fullUrl"]
)
def test_hostile_text_stays_text_in_a_narrative_that_is_well_formed(
    post: Post, text: str, element: str
) -> None:
    data = copy.deepcopy(GOOD)
    resource = data["entry"][0]["resource"]
    match element:
        case "display":
            resource["code"]["coding"][0]["display"] = text
        case "text":
            resource["code"]["text"] = text
        case "unit" | "code":
            resource["valueQuantity"][element] = text
        case "id":
            resource["id"] = text
        case "fullUrl":
            del resource["id"]
            data["entry"][0]["fullUrl"] = text
        case _:
            by_reference: Json = {"reference": f"urn:{text}"}
            by_identifier: Json = {"identifier": {"value": text}}
            for entry in data["entry"]:
                entry["resource"]["subject"] = (
                    by_reference if element == "reference" else by_identifier
                )
    response = post(data)
    assert len(verdicts(response)) == 1
    for observation in resources(response.json(), "Observation"):
        root = ElementTree.fromstring(observation["text"]["div"])
        names = {node.tag.removeprefix(XHTML) for node in root.iter()}
        assert not names & {"script", "img"}
        assert all(not key.lower().startswith("on") for node in root.iter() for key in node.attrib)


def test_of_a_duplicate_key_the_last_stands(post: Post) -> None:
    twice = GOOD_TEXT.replace(VALUE, b'"value": 9, ' + VALUE)
    assert post(twice).content == post(GOOD_TEXT).content


def test_the_same_resource_twice_is_judged_once(post: Post) -> None:
    response = post(bundle(*GOOD["entry"], *GOOD["entry"]))
    assert verdicts(response) == ["eligible"]


# Parameters


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ({"criteria": "none"}, NOTHING, "No definition 'none'"),
        ({"criteria": ""}, NOTHING, "No definition"),
        ({"criteria": "nih-severe|9.9"}, NOTHING, "No definition"),
        ({"criteria": "<script>"}, NOTHING, "No definition"),
        ({"asOf": "yesterday"}, BAD, "'asOf'"),
        ({"asOf": "2024-13-45"}, BAD, "'asOf'"),
        ({"asOf": "2024-02-30"}, BAD, "'asOf'"),
        ({"asOf": ""}, BAD, "'asOf'"),
        ({"asOf": "0000-01-01"}, BAD, "'asOf'"),
        ({"asOf": "9999-12-31T23:59:59-14:00"}, BAD, "'asOf'"),
        ({"asOf": "2024-03-05T08:30:00"}, BAD, "'asOf'"),
        ({"window": "0"}, BAD, "'window'"),
        ({"window": "-1"}, BAD, "'window'"),
        ({"window": "1e9"}, BAD, "'window'"),
        ({"window": "1000000000"}, BAD, "'window'"),
        ({"window": "abc"}, BAD, "'window'"),
        ({"window": "1.5"}, BAD, "'window'"),
        ({"window": "\u0663"}, BAD, "'window'"),
        ({"window": ""}, BAD, "'window'"),
        ({"redCellPolicy": "Both"}, BAD, "'redCellPolicy'"),
        ({"transfusionHistory": "yes"}, BAD, "'transfusionHistory'"),
        ({"independenceWindow": "8 wk"}, BAD, "asked of a response, not of eligibility"),
        ({"when": "First"}, BAD, "'when' is one of newest, first, changes"),
        ({"when": ""}, BAD, "'when'"),
        ({"sustained": "0 wk"}, BAD, "'sustained' is a duration up to 10 a"),
        ({"sustained": "100 a"}, BAD, "'sustained' is a duration up to 10 a"),
        ({"sustained": "6 kg"}, BAD, "'sustained'"),
        ({"sustained": "6"}, BAD, "'sustained'"),
        ({"sustained": "-6 wk"}, BAD, "'sustained'"),
        ([("sustained", "6 wk"), ("sustained", "6 wk")], BAD, "'sustained' is given more than"),
        ({"subject": ""}, BAD, "'subject'"),
        ({"subject": "Patient/2"}, NOTHING, "'subject'"),
        ({"subject": "Group/1"}, BAD, "'subject'"),
        ({"subject": "a b"}, BAD, "'subject'"),
        ({"subject": "Patient?identifier="}, BAD, "'subject'"),
        ({"subject": "#p"}, BAD, "'subject'"),
        ({"study": "S1"}, BAD, "'study'"),
        ({"Window": "30"}, BAD, "No parameter has the name 'Window'"),
        ({"x" * 5000: "1"}, BAD, "No parameter has the name"),
        ([("window", "1"), ("window", "1")], BAD, "'window' is given more than once"),
        ([("asOf", "2024"), ("asOf", "2024")], BAD, "'asOf' is given more than once"),
        ([("subject", "1"), ("subject", "1")], BAD, "'subject' is given more than once"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_refused_and_named(
    post: Post, query: Any, status: int, text: str
) -> None:
    response = post(GOOD, query)
    refused(response, status, text)
    assert len(response.content) < len("x" * 2000)


@pytest.mark.parametrize(
    "parameter",
    [
        {"name": "window", "valueInteger": 0},
        {"name": "window", "valueInteger": -1},
        {"name": "window", "valuePositiveInt": 10**9},
        {"name": "window", "valueInteger": 10**30},
        {"name": "window", "valueInteger": 1.5},
        {"name": "window", "valueInteger": "30"},
        {"name": "window", "valueReference": {"reference": "Patient/1"}},
        {"name": "window"},
        {"name": "window", "valueBoolean": True},
        {"name": "window", "valueInteger": 30, "valueString": "30"},
        {"name": "asOf", "valueDate": "2024-13-45"},
        {"name": "asOf", "valueDate": 2024},
        {"name": "criteria", "valueReference": {"reference": "nih-severe/1"}},
        {"name": "subject", "valueReference": {}},
        {"name": "subject", "valueReference": {"identifier": {}}},
        {"name": "study", "valueReference": {"display": "S"}},
        {"name": "unknown", "valueString": "x"},
        {"name": None, "valueString": "x"},
        {"valueString": "x"},
        {"name": "data", "resource": GOOD},
    ],
    ids=str,
)
def test_a_bad_parameter_in_parameters_is_refused_at_its_place(post: Post, parameter: Json) -> None:
    given = [{"name": "data", "resource": GOOD}, parameter]
    response = post({"resourceType": "Parameters", "parameter": given})
    assert response.status_code == BAD
    (place,) = response.json()["issue"][0]["expression"]
    assert "parameter" in place


def test_a_parameter_both_in_the_query_and_in_the_body_is_refused(post: Post) -> None:
    given = [{"name": "data", "resource": GOOD}, {"name": "window", "valueInteger": 3}]
    response = post({"resourceType": "Parameters", "parameter": given}, {"window": "3"})
    refused(response, BAD, "'window' is given more than once", "Parameters.parameter[1]")


# Anything at all

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["Bundle", "Parameters", "Observation", "Patient", "final", "2024-03-05"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceType",
                    "entry",
                    "resource",
                    "parameter",
                    "name",
                    "code",
                    "contained",
                    "id",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


def one_of(*usual: Any) -> st.SearchStrategy[Any]:
    """A usual value mostly, sometimes anything."""
    return st.sampled_from(usual) | st.sampled_from(usual) | anything


quantity = st.fixed_dictionaries(
    {},
    optional={
        "value": st.integers(-1, 400) | st.decimals(0, 20, places=2).map(float) | anything,
        "comparator": one_of("<", "<=", ">", ">="),
        "unit": one_of("10*9/L", "g/dL", "/uL", "%", "K/uL"),
        "code": one_of("10*9/L", "g/dL", "%"),
        "system": one_of(UCUM),
    },
)
concept = st.fixed_dictionaries(
    {
        "coding": st.lists(
            st.fixed_dictionaries(
                {
                    "system": one_of(LOINC, "http://snomed.info/sct"),
                    "code": one_of(
                        "751-8", "777-3", "718-7", "60474-4", "6690-2", "770-8", "116863004"
                    ),
                }
            ),
            max_size=2,
        )
        | anything
    },
    optional={"text": one_of("filgrastim", "Platelets")},
)
day = one_of("2024-03-05", "2024-03", "2024-03-05T08:00:00Z", "2024-03-05T23:59:60.5-11:00")
reference = st.fixed_dictionaries(
    {},
    optional={
        "reference": one_of(
            "Patient/1", "Patient/2", "http://a.example/Patient/1", "#p", "urn:uuid:1"
        ),
        "identifier": st.fixed_dictionaries({"value": one_of("7")}) | anything,
    },
)
value = {
    "code": concept | anything,
    "valueQuantity": quantity | anything,
    "valueString": one_of("0.9 10*9/L", "< 5 g/dL"),
    "valueRange": st.fixed_dictionaries({"low": quantity, "high": quantity}) | anything,
    "dataAbsentReason": concept | anything,
    "referenceRange": st.lists(st.fixed_dictionaries({"low": quantity}), max_size=2) | anything,
}
resource = st.fixed_dictionaries(
    {
        "resourceType": st.sampled_from(
            [
                "Observation",
                "Observation",
                "Observation",
                "DiagnosticReport",
                "Patient",
                "Procedure",
                "MedicationAdministration",
                "Medication",
                "Bundle",
                "Condition",
            ]
        ),
        "status": one_of("final", "amended", "completed", "not-done"),
    },
    optional={
        "id": one_of("1", "2", "p"),
        "meta": st.fixed_dictionaries({"versionId": one_of("1", "2"), "lastUpdated": day}),
        "subject": reference | anything,
        "effectiveDateTime": day,
        "effectivePeriod": st.fixed_dictionaries({}, optional={"start": day, "end": day}),
        "performedDateTime": day,
        "issued": day,
        "identifier": st.lists(st.fixed_dictionaries({"value": one_of("7")}), max_size=2),
        "hasMember": st.lists(st.just({"reference": "Observation/1"}), max_size=2),
        "result": st.lists(st.just({"reference": "Observation/1"}), max_size=2),
        "medicationCodeableConcept": concept,
        "medicationReference": reference,
        "component": st.lists(st.fixed_dictionaries({}, optional=value), max_size=2) | anything,
        "contained": st.lists(
            st.just({"resourceType": "Patient", "id": "p", "identifier": [{"value": "7"}]})
            | anything,
            max_size=2,
        ),
        **value,
    },
)
near_valid = st.builds(
    lambda entries: bundle(*entries),
    st.lists(
        st.fixed_dictionaries(
            {"resource": resource},
            optional={"fullUrl": one_of("http://a.example/Patient/1", "urn:uuid:1")},
        ),
        max_size=6,
    ),
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "criteria": st.sampled_from(["nih-daclizumab-2003", "emaa", "howard-2004-pediatric"])
        | st.text(max_size=20),
        "asOf": st.sampled_from(["2024-03-05", "2024-03"]) | st.text(max_size=20),
        "subject": st.sampled_from(["Patient/1", "1", "urn:uuid:1"]) | st.text(max_size=20),
        "window": st.integers(1, 40_000).map(str) | st.text(max_size=5),
        "transfusionHistory": st.sampled_from(["complete", "unknown"]),
        "redCellPolicy": st.sampled_from(
            ["both", "reticulocytes-only", "reticulocytes-when-transfused"]
        ),
        "study": st.just("ResearchStudy/1"),
        "independenceWindow": st.text(max_size=9),
    },
)
# The client is made once, and no example changes it.
reused = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
)


@reused
@given(body=st.binary())
def test_no_bytes_make_the_service_fail(post: Post, body: bytes) -> None:
    assert post(body).status_code in {BAD, NOTHING}


@reused
@given(body=anything, inside=st.booleans())
def test_no_json_makes_the_service_fail(post: Post, body: Any, inside: bool) -> None:
    post({"resourceType": "Bundle", "entry": [{"resource": body}]} if inside else body)


@reused
@given(body=near_valid, query=queries)
def test_no_nearly_valid_bundle_makes_the_service_fail(
    post: Post, body: Json, query: dict[str, str]
) -> None:
    response = post(body, query)
    assert post(body, query).content == response.content
    if response.status_code == OK:
        get_fhir_model_class("Bundle").model_validate(response.json())
        for observation in resources(response.json(), "Observation"):
            ElementTree.fromstring(observation["text"]["div"])
