"""The conformance checker passes what R4 allows and notices what it forbids."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance import faults

Json = dict[str, Any]
PATIENT = "urn:uuid:5b0e3c52-6a3c-4d53-9a52-0d5f9a1f0001"
RESULT = "urn:uuid:5b0e3c52-6a3c-4d53-9a52-0d5f9a1f0002"
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
UCUM = "http://unitsofmeasure.org"


def observation() -> Json:
    return {
        "resourceType": "Observation",
        "text": {"status": "generated", "div": f"<div {XHTML}><p>Haemoglobin 13.5 g/dL</p></div>"},
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": "2024-05-01T10:00:00Z",
        "valueQuantity": {"value": 13.5, "unit": "g/dL", "system": UCUM, "code": "g/dL"},
        "referenceRange": [{"low": {"value": 12.0, "system": UCUM, "code": "g/dL"}}],
    }


def bundle() -> Json:
    result = observation()
    result["subject"] = {"reference": PATIENT}
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": PATIENT, "resource": {"resourceType": "Patient", "gender": "female"}},
            {"fullUrl": RESULT, "resource": result},
        ],
    }


def guidance() -> Json:
    return {
        "resourceType": "GuidanceResponse",
        "contained": [
            {
                "resourceType": "Parameters",
                "id": "out",
                "parameter": [{"name": "grade", "valueInteger": 2}],
            }
        ],
        "moduleUri": "http://example.org/Library/grade",
        "status": "success",
        "outputParameters": {"reference": "#out"},
    }


def capability() -> Json:
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2024-05-01",
        "kind": "instance",
        "implementation": {"description": "A service"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "resource": [{"type": "Observation"}]}],
    }


def report() -> Json:
    return {
        "resourceType": "MeasureReport",
        "status": "complete",
        "type": "summary",
        "measure": "http://example.org/Measure/m",
        "period": {"start": "2024-01-01", "end": "2024-12-31"},
        "group": [{"population": [{"count": 3}]}],
    }


VALID: dict[str, Callable[[], Json]] = {
    "an Observation": observation,
    "a Bundle": bundle,
    "a GuidanceResponse with contained Parameters": guidance,
    "a CapabilityStatement": capability,
    "a MeasureReport": report,
    "an OperationOutcome": lambda: {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": "A\u00a0reason"}],
    },
    "a ResearchSubject": lambda: {
        "resourceType": "ResearchSubject",
        "status": "on-study",
        "study": {"reference": "ResearchStudy/1"},
        "individual": {"reference": "Patient/1"},
    },
}


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_resource_has_no_faults(kind: str) -> None:
    assert faults(VALID[kind]()) == []


def test_the_resource_is_left_as_it_was() -> None:
    given = bundle()
    before = copy.deepcopy(given)
    faults(given)
    assert given == before


def broken(make: Callable[[], Json], **changes: Any) -> Json:
    """The resource with elements replaced, or taken out by an Ellipsis."""
    resource = make() | changes
    return {key: value for key, value in resource.items() if value is not ...}


def narrative(inner: str) -> Json:
    return {"status": "generated", "div": f"<div {XHTML}>{inner}</div>"}


def parameter(**content: Any) -> Json:
    return {"resourceType": "Parameters", "parameter": [{"name": "p", **content}]}


def entry_twice(kind: str, **entry: Any) -> Json:
    patient = {"fullUrl": PATIENT, "resource": {"resourceType": "Patient"}, **entry}
    return {"resourceType": "Bundle", "type": kind, "entry": [patient, patient]}


LOW = {"value": 1, "system": UCUM, "code": "g/dL"}
HIGH = {"value": 2, "system": UCUM, "code": "g/dL"}

FAULTY: dict[str, tuple[Json, str]] = {
    "a code outside a required binding": (
        broken(observation, status="banana"),
        "Observation.status: 'banana' is not one of",
    ),
    "a code outside a required binding that the schema had left open": (
        {
            "resourceType": "ServiceRequest",
            "status": "banana",
            "intent": "order",
            "subject": {"reference": "Patient/1"},
        },
        "ServiceRequest.status: 'banana' is not one of",
    ),
    "an unknown element": (broken(observation, verdict="good"), "'verdict' was unexpected"),
    "a missing required element": (broken(observation, code=...), "'code' is a required"),
    "a missing required primitive": (broken(observation, status=...), "'status' is required"),
    "an empty string": (broken(observation, id=""), "Observation.id: empty string"),
    "an empty array": (broken(observation, category=[]), "Observation.category: empty array"),
    "an empty object": (broken(observation, method={}), "Observation.method: empty object"),
    "a null": (broken(observation, method=None), "Observation.method: null"),
    "a day that does not exist": (
        broken(observation, effectiveDateTime="2024-02-30"),
        "Observation.effectiveDateTime: ",
    ),
    "a time without its zone": (
        broken(observation, effectiveDateTime="2024-02-20T10:00:00"),
        "Observation.effectiveDateTime: ",
    ),
    "a code that ends in a newline": (
        broken(observation, code={"coding": [{"code": "718-7\n"}]}),
        "Observation.code.coding[0].code: ",
    ),
    "two choices of one element": (broken(observation, valueString="13.5"), "valueString"),
    "a value beside the reason of its absence": (
        broken(observation, dataAbsentReason={"text": "unknown"}),
        "Observation: obs-6: ",
    ),
    "a value beside a component of the same code": (
        broken(observation, component=[{"code": observation()["code"], "valueInteger": 1}]),
        "Observation: obs-7: ",
    ),
    "a reference range of nothing": (
        broken(observation, referenceRange=[{"appliesTo": [{"text": "adults"}]}]),
        "Observation.referenceRange[0]: obs-3: ",
    ),
    "a unit's code without its system": (
        broken(observation, valueQuantity={"value": 1, "code": "g/dL"}),
        "Observation.valueQuantity: qty-3: ",
    ),
    "a range that ends below its start": (
        broken(observation, valueQuantity=..., valueRange={"low": HIGH, "high": LOW}),
        "Observation.valueRange: rng-2: ",
    ),
    "a period that ends before its start": (
        broken(report, period={"start": "2024-12-31", "end": "2024-01-01"}),
        "MeasureReport.period: per-1: ",
    ),
    "an extension with neither value nor extension": (
        broken(observation, extension=[{"url": "http://example.org/x"}]),
        "Observation.extension[0]: ext-1: ",
    ),
    "a reference to nothing contained": (
        broken(guidance, outputParameters={"reference": "#in"}),
        "GuidanceResponse.outputParameters: ref-1: ",
    ),
    "a contained resource that nothing refers to": (
        broken(guidance, outputParameters=...),
        "GuidanceResponse: dom-3: ",
    ),
    "a contained resource with a version": (
        broken(
            guidance,
            contained=[{"resourceType": "Parameters", "id": "out", "meta": {"versionId": "1"}}],
        ),
        "GuidanceResponse: dom-4: ",
    ),
    "a parameter of both a value and a resource": (
        parameter(valueString="x", resource={"resourceType": "Patient", "gender": "male"}),
        "Parameters.parameter[0]: inv-1: ",
    ),
    "a script in the narrative": (
        broken(observation, text=narrative("<script>alert(1)</script>")),
        "Observation.text.div: txt-1: ",
    ),
    "an event's handler in the narrative": (
        broken(observation, text=narrative('<p onclick="alert(1)">13.5</p>')),
        "Observation.text.div: txt-1: ",
    ),
    "a script behind a link of the narrative": (
        broken(observation, text=narrative('<a href=" JavaScript:alert(1)">13.5</a>')),
        "Observation.text.div: txt-1: ",
    ),
    "an entity of HTML in the narrative": (
        broken(observation, text=narrative("13.5&nbsp;g/dL")),
        "Observation.text.div: txt-1: ",
    ),
    "a narrative outside the namespace of XHTML": (
        broken(observation, text={"status": "generated", "div": "<div>13.5</div>"}),
        "Observation.text.div: txt-1: ",
    ),
    "a narrative of nothing but space": (
        broken(observation, text=narrative("<p> </p>")),
        "Observation.text.div: txt-2: ",
    ),
    "a total in a collection": (broken(bundle, total=2), "Bundle: bdl-1: "),
    "a search in a collection": (
        entry_twice("collection", search={"mode": "match"}),
        "Bundle: bdl-2: ",
    ),
    "a transaction without requests": (entry_twice("transaction"), "Bundle: bdl-3: "),
    "a full URL given twice": (entry_twice("collection"), "Bundle: bdl-7: "),
    "a full URL of one version": (
        entry_twice("collection", fullUrl="http://example.org/Patient/1/_history/1"),
        "Bundle.entry[0]: bdl-8: ",
    ),
    "a document without its date": (entry_twice("document"), "Bundle: bdl-10: "),
    "an instance without its implementation": (
        broken(capability, implementation=...),
        "CapabilityStatement: cpb-14: ",
    ),
    "a resource declared twice": (
        broken(
            capability,
            rest=[{"mode": "server", "resource": [{"type": "Patient"}, {"type": "Patient"}]}],
        ),
        "CapabilityStatement.rest[0]: cpb-9: ",
    ),
    "a report for data collection that gives counts": (
        broken(report, type="data-collection"),
        "MeasureReport: mrp-1: ",
    ),
    "a fault within an entry": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": broken(observation, status="banana")}],
        },
        "Bundle.entry[0].resource.status: 'banana' is not one of",
    ),
    "a resource type the checker does not know": (
        {"resourceType": "Banana"},
        "Banana: not among the resource types",
    ),
    "no resource type": ({"status": "final"}, "no resourceType"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_the_checker_notices(fault: str) -> None:
    resource, message = FAULTY[fault]
    found = faults(resource)
    assert any(message in one for one in found), found
    assert not any("could not be evaluated" in one for one in found), found


def test_a_reference_to_an_entry_that_is_not_there_is_a_fault_unless_told_otherwise() -> None:
    given = bundle()
    del given["entry"][0]
    assert faults(given) == [
        f"Bundle.entry[0].resource.subject.reference: {PATIENT} is the fullUrl of no entry"
    ]
    assert faults(given, resolve=False) == []


def test_every_fault_is_told_with_its_path() -> None:
    given = broken(observation, status="banana", dataAbsentReason={"text": "unknown"}, category=[])
    assert {one.split(": ")[0] for one in faults(given)} == {
        "Observation",
        "Observation.category",
        "Observation.status",
    }
