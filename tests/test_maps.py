"""A hospital's own codes are read by its map, and a map that does not hold is refused whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.fhir.maps import CodeMap, read_code_maps
from app.fhir.outcome import RequestError
from app.fhir.writing import encode
from app.operations import eligibility

Json = dict[str, Any]
LAB = "https://lab.example.org/codes"
HEADER = "system,code,loinc,unit"
DAY = "2024-03-05"
HERE = "Bundle.entry[0].resource"
GROUP = "Parameters.parameter[0].resource.group[0]"


def coded(*codings: tuple[str | None, str]) -> Json:
    parts = [
        {"system": system, "code": code} if system else {"code": code} for system, code in codings
    ]
    return {"coding": parts}


def result(
    *codings: tuple[str | None, str], value: str = "45", unit: Json | None = None, **over: Any
) -> Json:
    """A result of the patient of these tests; 45 platelets per nanoliter meet the limit of 70."""
    number = {"value": msgspec.Raw(value.encode())} | (unit or {})
    return {
        "resourceType": "Observation",
        "id": "one",
        "status": "final",
        "code": coded(*codings),
        "subject": {"reference": "Patient/a"},
        "effectiveDateTime": DAY,
        "valueQuantity": number,
    } | over


UCUM = {"unit": "10*9/L", "system": "http://unitsofmeasure.org", "code": "10*9/L"}


def bundle(*resources: Json) -> Json:
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": resource} for resource in resources],
    }


def csv_map(tmp_path: Path, *rows: str, header: str = HEADER, name: str = "lab.csv") -> CodeMap:
    path = tmp_path / name
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    found = read_code_maps([path])
    assert found is not None
    return found


def concept_map(*elements: Json, **over: Any) -> Json:
    group = {"source": LAB, "target": "http://loinc.org", "element": list(elements)}
    return {"resourceType": "ConceptMap", "status": "active", "group": [group]} | over


def element(code: str, loinc: str, equivalence: str = "equivalent", **target: Any) -> Json:
    return {"code": code, "target": [{"code": loinc, "equivalence": equivalence} | target]}


class Answer:
    """What is said of a request."""

    def __init__(self, body: Json, code_map: CodeMap | None = None) -> None:
        answer = msgspec.json.decode(encode(eligibility(encode(body), code_map=code_map)))
        resources = [entry["resource"] for entry in answer["entry"]]
        (assessment,) = (one for one in resources if one["resourceType"] == "Observation")
        self.truths = {
            part["code"]["coding"][0]["code"]: part["valueCodeableConcept"]["coding"][0]["code"]
            for part in assessment["component"]
            if "valueCodeableConcept" in part
        }
        self.platelets = self.truths["platelets-depressed"]
        self.issues = [
            issue
            for one in resources
            if one["resourceType"] == "OperationOutcome"
            for issue in one["issue"]
        ]
        self.codes = [issue["details"]["coding"][0]["code"] for issue in self.issues]


def ask(code_map: CodeMap | None, *resources: Json) -> Answer:
    return Answer(bundle(*resources), code_map)


def ask_with(*maps: Json, data: Json | None = None, own: CodeMap | None = None) -> Answer:
    """The maps in the request."""
    data = data or bundle(result((LAB, "PLT"), unit=UCUM))
    given = [{"name": "codeMap", "resource": one} for one in maps]
    return Answer(
        {"resourceType": "Parameters", "parameter": [*given, {"name": "data", "resource": data}]},
        own,
    )


def refused(*maps: Json, own: CodeMap | None = None) -> tuple[str, str]:
    """The place and the words of the first fault of a request with these maps."""
    with pytest.raises(RequestError) as caught:
        ask_with(*maps, own=own)
    assert caught.value.status == 400
    fault = caught.value.faults[0]
    return fault.place or "", fault.text


def test_without_a_map_a_local_code_is_no_count() -> None:
    answer = ask(None, result((LAB, "PLT"), unit=UCUM))
    assert answer.platelets == "unknown"


def test_a_local_code_is_read_by_the_map_and_the_answer_says_by_which(tmp_path: Path) -> None:
    answer = ask(csv_map(tmp_path, f"{LAB},PLT,777-3,"), result((LAB, "PLT"), unit=UCUM))
    assert answer.platelets == "met"
    (issue,) = answer.issues
    assert issue["details"]["coding"][0]["code"] == "code-mapped"
    assert issue["severity"] == "information"
    assert issue["expression"] == [HERE]
    assert "'lab.csv'" in issue["diagnostics"]
    assert "777-3" in issue["diagnostics"]


def test_a_result_without_a_unit_has_the_one_that_the_map_declares(tmp_path: Path) -> None:
    answer = ask(csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L"), result((LAB, "PLT")))
    assert answer.platelets == "met"
    assert answer.codes == ["code-mapped", "unit-declared"]


def test_a_result_without_a_unit_and_none_declared_is_set_aside(tmp_path: Path) -> None:
    answer = ask(csv_map(tmp_path, f"{LAB},PLT,777-3,"), result((LAB, "PLT")))
    assert answer.platelets == "unknown"
    assert "unit-missing" in answer.codes


def test_a_unit_that_only_the_hospital_knows_is_the_declared_one(tmp_path: Path) -> None:
    local = {"unit": "PLTEINH"}
    answer = ask(csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L"), result((LAB, "PLT"), unit=local))
    assert answer.platelets == "met"
    assert "PLTEINH" in answer.issues[1]["diagnostics"]


def test_a_unit_that_is_known_is_believed_before_the_declared_one(tmp_path: Path) -> None:
    per_microliter = {"unit": "/uL"}
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L")
    answer = ask(code_map, result((LAB, "PLT"), value="150000", unit=per_microliter))
    assert answer.platelets == "not-met"
    assert "unit-declared" not in answer.codes


def test_a_unit_of_another_kind_is_no_reason_to_take_the_declared_one(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L")
    answer = ask(code_map, result((LAB, "PLT"), unit={"unit": "%"}))
    assert answer.platelets == "unknown"
    assert "unit-conflict" in answer.codes


def test_a_ucum_code_that_is_not_known_is_not_overruled(tmp_path: Path) -> None:
    other = {"unit": "x", "code": "10*9/dL", "system": "http://unitsofmeasure.org"}
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L")
    assert ask(code_map, result((LAB, "PLT"), unit=other)).platelets == "unknown"


def test_a_row_for_a_loinc_code_declares_its_unit_alone(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, "http://loinc.org,777-3,777-3,10*9/L")
    answer = ask(code_map, result(("http://loinc.org", "777-3")))
    assert answer.platelets == "met"
    assert answer.codes == ["unit-declared"]


def test_loinc_stands_beside_a_local_code_of_the_same_count(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},PLT,26515-7,")
    answer = ask(code_map, result(("http://loinc.org", "777-3"), (LAB, "PLT"), unit=UCUM))
    assert answer.platelets == "met"
    assert answer.codes == []


def test_loinc_and_a_local_code_of_another_count_are_set_aside(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},ANC,751-8,")
    answer = ask(code_map, result(("http://loinc.org", "777-3"), (LAB, "ANC"), unit=UCUM))
    assert answer.platelets == "unknown"
    assert answer.codes == ["ambiguous-code"]
    assert answer.issues[0]["expression"] == [f"{HERE}.code"]


def test_two_local_codes_of_two_counts_are_set_aside(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},ANC,751-8,", f"{LAB},PLT,777-3,")
    answer = ask(code_map, result((LAB, "PLT"), (LAB, "ANC"), unit=UCUM))
    assert answer.codes == ["ambiguous-code"]


def test_a_loinc_that_is_never_read_is_not_saved_by_a_map(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,")
    answer = ask(code_map, result(("http://loinc.org", "74775-8"), (LAB, "PLT"), unit=UCUM))
    assert answer.platelets == "unknown"
    assert answer.codes == ["unmapped-code"]


def test_under_a_panels_loinc_the_local_code_tells_what_was_counted(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,")
    answer = ask(code_map, result(("http://loinc.org", "58410-2"), (LAB, "PLT"), unit=UCUM))
    assert answer.platelets == "met"


def test_the_same_code_of_another_system_is_not_mapped(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,")
    assert (
        ask(code_map, result(("https://other.example.org", "PLT"), unit=UCUM)).platelets
        == "unknown"
    )


def test_a_row_without_a_system_maps_codes_that_are_sent_without_one(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, ",PLT,777-3,")
    assert ask(code_map, result((None, "PLT"), unit=UCUM)).platelets == "met"
    assert ask(code_map, result((LAB, "PLT"), unit=UCUM)).platelets == "unknown"


def test_an_oid_is_the_same_system_with_and_without_its_urn(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, "1.2.246.537.6.3,2791,777-3,")
    assert ask(code_map, result(("urn:oid:1.2.246.537.6.3", "2791"), unit=UCUM)).platelets == "met"


def test_a_declared_unit_holds_for_a_value_in_text_and_for_a_range(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L")
    text = result((LAB, "PLT"))
    del text["valueQuantity"]
    assert ask(code_map, text | {"valueString": "45"}).platelets == "met"
    ends = {"low": {"value": 40}, "high": {"value": 45}}
    assert ask(code_map, text | {"valueRange": ends}).platelets == "met"


def test_reticulocytes_mapped_to_a_count_by_hand_have_the_limit_of_a_count_by_hand(
    tmp_path: Path,
) -> None:
    """20 x10^9/L is not severe by hand, and 60 by machine is the limit."""
    data = [
        result((LAB, "R"), value="25", unit=UCUM),
        result(("http://loinc.org", "777-3"), value="15", unit=UCUM),
        result(("http://loinc.org", "751-8"), value="0.6", unit=UCUM),
    ]
    by_hand = ask(csv_map(tmp_path, f"{LAB},R,40665-2,"), *data)
    by_machine = ask(csv_map(tmp_path, f"{LAB},R,60474-4,"), *data)
    assert (by_hand.truths["not-severe"], by_machine.truths["not-severe"]) == ("met", "not-met")


# A map in the request


@pytest.mark.parametrize("equivalence", ["equal", "equivalent", "wider", "subsumes"])
def test_a_concept_map_in_the_request_is_read(equivalence: str) -> None:
    answer = ask_with(concept_map(element("PLT", "777-3", equivalence)))
    assert answer.platelets == "met"
    assert "Parameters.parameter[0].resource" in answer.issues[0]["diagnostics"]


def test_a_concept_map_goes_by_its_canonical() -> None:
    answer = ask_with(concept_map(element("PLT", "777-3"), url=f"{LAB}/map", version="2"))
    assert f"'{LAB}/map|2'" in answer.issues[0]["diagnostics"]


def test_a_map_is_kept_for_no_other_request() -> None:
    assert ask_with(concept_map(element("PLT", "777-3"))).platelets == "met"
    assert ask(None, result((LAB, "PLT"), unit=UCUM)).platelets == "unknown"


def test_a_product_of_ucum_declares_the_unit() -> None:
    product = {"property": "urn:x", "system": "http://unitsofmeasure.org", "value": "10*9/L"}
    declared = concept_map(element("PLT", "777-3", product=[product]))
    answer = ask_with(declared, data=bundle(result((LAB, "PLT"))))
    assert answer.platelets == "met"
    assert answer.codes == ["code-mapped", "unit-declared"]


def test_a_code_that_a_map_calls_unmatched_is_not_read() -> None:
    answer = ask_with(concept_map(element("PLT", "777-3", "unmatched"), element("B", "751-8")))
    assert answer.platelets == "unknown"
