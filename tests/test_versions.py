"""What is written as FHIR R5 names it is read as R4's is; what cannot be is refused."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import httpx
import msgspec
import pytest
from fhir.resources import get_fhir_model_class as r5_model
from fhir.resources.R4B import get_fhir_model_class as r4_model

from app.asking import ASSESS_ELIGIBILITY
from app.cds_hooks.prefetch import _newest_first
from app.cli import main
from app.domain.counts import Course
from app.fhir.bodies import Entry
from app.fhir.json import encode
from app.fhir.resources import R5_NAMES, Readable
from app.operations import assessed, eligibility, response
from tests.shapes import PLATELETS, bundle, result

FIXTURES = Path(__file__).parent.parent / "fixtures"
STORIES = sorted(path.parent.name for path in FIXTURES.glob("*/request.json"))
KINDS = {str(kind.__struct_config__.tag): kind for kind in get_args(Readable)}
ENCODE = msgspec.json.Encoder(decimal_format="number").encode
Json = dict[str, Any]

# Written out from the pages of R5, not from the table that is tested.
RENAMED = {
    "Procedure": {
        "performedDateTime": "occurrenceDateTime",
        "performedPeriod": "occurrencePeriod",
    },
    "MedicationAdministration": {
        "effectiveDateTime": "occurenceDateTime",
        "effectivePeriod": "occurencePeriod",
    },
}
# Elements of other types, with which the type shares a struct.
OTHERS = {
    "Condition": {"status"},
    "DiagnosticReport": {"effectiveInstant", "effectiveTiming"},
    "MedicationRequest": {"effectiveDateTime", "effectivePeriod"},
    "Patient": {"status"},
}
ADHERENCE = {"active": "taking", "on-hold": "on-hold", "stopped": "stopped"}


def as_r5(data: Any) -> Any:
    """Data with every element named as R5 names it."""
    if isinstance(data, list):
        return [as_r5(one) for one in data]
    if not isinstance(data, dict):
        return data
    kind = data.get("resourceType")
    names = RENAMED.get(kind, {})  # type: ignore[arg-type]
    found = {names.get(name, name): as_r5(value) for name, value in data.items()}
    medication = {
        name: found.pop(old)
        for name, old in (
            ("concept", "medicationCodeableConcept"),
            ("reference", "medicationReference"),
        )
        if old in found
    }
    if medication:
        found["medication"] = medication
    if kind == "MedicationStatement" and found["status"] in ADHERENCE:
        found["adherence"] = {"code": {"coding": [{"code": ADHERENCE[found["status"]]}]}}
        found["status"] = "recorded"
    return found


def transfusion(**elements: Any) -> Json:
    concept = {"coding": [{"system": "http://snomed.info/sct", "code": "12719002"}]}
    own = {"resourceType": "Procedure", "id": "given", "status": "completed", "code": concept}
    return {**own, "subject": {"reference": "Patient/p"}, **elements}


def filgrastim(kind: str = "MedicationStatement", **elements: Any) -> Json:
    own = {"resourceType": kind, "id": "given", "status": "recorded"}
    medication = {"medication": {"concept": {"text": "filgrastim"}}}
    return {**own, "subject": {"reference": "Patient/p"}, **medication, **elements}


def read(*resources: Json) -> tuple[Course, set[str]]:
    """The patient's course, and the codes of what was said of the data."""
    body = bundle(result(PLATELETS, 30), *resources)
    reading = assessed(ASSESS_ELIGIBILITY, body).reading
    (course,) = reading.courses
    return course, {remark.code for remark in (*reading.remarks, *course.remarks)}


def adhering(code: str) -> Json:
    return {"adherence": {"code": {"coding": [{"code": code}]}}}


@pytest.mark.parametrize("story", STORIES)
def test_a_story_in_r5_is_answered_as_in_r4(story: str) -> None:
    request = (FIXTURES / story / "request.json").read_bytes()
    renamed = ENCODE(as_r5(json.loads(request, parse_float=Decimal)))
    assert json.loads(encode(eligibility(renamed))) == json.loads(encode(eligibility(request)))


def test_the_trial_in_r5_is_answered_as_in_r4() -> None:
    request = (FIXTURES / "daclizumab-2003" / "bundle.json").read_bytes()
    renamed = ENCODE(as_r5(json.loads(request, parse_float=Decimal)))
    assert b"occurenceDateTime" in renamed
    assert json.loads(encode(response(renamed))) == json.loads(encode(response(request)))


@pytest.mark.parametrize("kind", KINDS)
def test_each_element_read_is_one_of_r4s_or_r5s(kind: str) -> None:
    in_r4, in_r5 = (
        {field.alias or name for name, field in model.model_fields.items()}
        for model in (r4_model(kind), r5_model(kind))
    )
    read = set(KINDS[kind].__struct_fields__) - OTHERS.get(kind, set())
    assert read <= in_r4 | in_r5
    # What R5 has not under R4's name is read under R5's.
    renamed = R5_NAMES.get(kind, {})
    medication = {"medicationCodeableConcept", "medicationReference"}
    assert read - in_r5 - medication == set(renamed.values()) - in_r5
    assert set(renamed) <= in_r5 - in_r4
    assert (medication <= read) == ("medication" in read)


@pytest.mark.parametrize(
    ("time", "days"),
    [
        ({"occurrenceDateTime": "2024-03-03"}, (3, 3)),
        ({"occurrencePeriod": {"start": "2024-03-03", "end": "2024-03-04"}}, (3, 4)),
        ({"occurrenceTiming": {"event": ["2024-03-03"]}}, (3, 3)),
        ({"occurrenceDateTime": "2024-03-03", "performedDateTime": "2024-03-03"}, (3, 3)),
    ],
)
def test_a_transfusion_dated_as_in_r5_keeps_its_days(time: Json, days: tuple[int, int]) -> None:
    course, told = read(transfusion(**time))
    (given,) = course.transfusions
    assert given.standing
    assert (given.when.first, given.when.last) == tuple(date(2024, 3, day) for day in days)
    assert told == set()


@pytest.mark.parametrize(
    "time",
    [
        {"occurrenceDateTime": "2024-03-03", "performedDateTime": "2024-03-04"},
        {"occurrenceTiming": {"event": ["2024-03-03", "2024-03-09"]}},
        {"occurrenceTiming": {"repeat": {"frequency": 1}}},
        {"occurrenceString": "last week"},
        {"occurrenceAge": {"value": 40, "code": "a"}},
    ],
)
def test_a_transfusion_whose_date_cannot_be_used_is_kept_and_told(time: Json) -> None:
    course, told = read(transfusion(**time))
    assert [given.standing for given in course.transfusions] == [False]
    assert told == {"no-date"}


@pytest.mark.parametrize(
    ("medication", "found"),
    [
        ({"concept": {"text": "filgrastim"}}, True),
        ({"reference": {"reference": "Medication/m"}}, True),
        ({"concept": {"text": "injection"}, "reference": {"reference": "Medication/m"}}, True),
        ({"concept": {"text": "aspirin"}}, False),
    ],
)
@pytest.mark.parametrize("kind", ["MedicationAdministration", "MedicationStatement"])
def test_a_medication_named_as_in_r5_is_seen(kind: str, medication: Json, found: bool) -> None:
    held = {"resourceType": "Medication", "id": "m", "code": {"text": "Neupogen"}}
    name = "occurenceDateTime" if kind == "MedicationAdministration" else "effectiveDateTime"
    given = filgrastim(kind, medication=medication, status="completed", **{name: "2024-03-03"})
    course, told = read(given, held)
    assert [one.when.first for one in course.drugs] == [date(2024, 3, 3)] * found
    assert told == set()


def test_a_record_that_names_two_medications_is_set_aside_and_told() -> None:
    given = filgrastim(medicationCodeableConcept={"text": "aspirin"}, effectiveDateTime="2024")
    course, told = read(given)
    assert course.drugs == ()
    assert told == {"not-fhir"}
    same = filgrastim(medicationCodeableConcept={"text": "filgrastim"}, effectiveDateTime="2024")
    assert len(read(same)[0].drugs) == 1


@pytest.mark.parametrize(
    ("elements", "last"),
    [
        ({}, date.max),
        (adhering("taking-not-as-directed"), date.max),
        (adhering("stopped-as-directed"), date(2024, 3, 3)),
        (adhering("on-hold"), date(2024, 3, 3)),
    ],
)
def test_what_is_recorded_lasts_on_unless_it_was_stopped(elements: Json, last: date) -> None:
    course, told = read(filgrastim(effectiveDateTime="2024-03-03", **elements))
    assert [one.when.last for one in course.drugs] == [last]
    assert told == set()


@pytest.mark.parametrize(
    "elements", [adhering("not-taking"), adhering("x"), {"adherence": {}}, {"status": "draft"}]
)
def test_a_drug_that_may_not_have_been_taken_is_told_and_may_have_been(elements: Json) -> None:
    course, told = read(filgrastim(effectiveDateTime="2024-03-03", **elements))
    assert told == {"status-excluded"}
    assert len(course.drugs) == 1


def test_an_export_in_r5_has_the_verdicts_of_one_in_r4(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    data = json.loads((FIXTURES / "platelets-after-transfusion" / "request.json").read_bytes())
    tables = []
    for name, one in (("r4", data), ("r5", as_r5(data))):
        export = tmp_path / name
        export.mkdir()
        lines = [json.dumps(entry["resource"]) for entry in one["entry"]]
        (export / "all.ndjson").write_text("\n".join(lines))
        assert main(["screen", str(export), "--out", str(tmp_path / f"of-{name}")]) == 0
        tables.append((tmp_path / f"of-{name}" / "verdicts.csv").read_text())
    assert "indeterminate" in tables[0]
    assert tables[0] == tables[1]


def test_r5_is_read_and_not_checked_strictly(http: httpx.Client) -> None:
    content = bundle(result(PLATELETS, 30), transfusion(occurrenceDateTime="2020-01-01"))
    headers = {"content-type": "application/fhir+json; fhirVersion=5.0"}
    address = "/fhir/$assess-eligibility"
    assert http.post(address, content=content, headers=headers).status_code == httpx.codes.OK
    headers["prefer"] = "handling=strict"
    refused = http.post(address, content=content, headers=headers)
    assert refused.status_code == httpx.codes.UNSUPPORTED_MEDIA_TYPE
    assert "against FHIR R4" in refused.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    "page",
    [
        [transfusion(occurrenceDateTime=f"2024-03-0{n}") for n in (3, 2, 1)],
        [filgrastim("MedicationAdministration", occurenceDateTime=f"2024-0{n}") for n in (3, 1)],
    ],
)
def test_a_prefetched_page_in_r5_is_seen_to_be_the_newest(page: list[Json]) -> None:
    entries = [Entry(None, msgspec.Raw(msgspec.json.encode(one))) for one in page]
    assert _newest_first(entries)
    assert not _newest_first(entries[::-1])
