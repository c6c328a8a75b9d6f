"""A hospital's own codes are read by its map, and a map that does not hold is refused whole."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from fhir.resources.R4B.conceptmap import ConceptMap

from app.asking import ASSESS_ELIGIBILITY
from app.bulk.judging import Order
from app.cli import main
from app.ehr.searches import tokens_of
from app.fhir.json import encode
from app.fhir.map_files import read_code_maps
from app.fhir.maps import CodeMap, CodeMapError
from app.fhir.outcome import RequestError
from app.operations import eligibility
from app.reading.courses import read_courses
from app.requests import read_request
from app.settings import Settings
from tests.conformance import faults
from tests.conftest import environment
from tests.test_ehr import Asked, Client, Reply, calling, searchset, service, serving

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


def test_what_a_map_made_of_many_results_is_said_once_with_every_place(tmp_path: Path) -> None:
    code_map = csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L")
    one, two = result((LAB, "PLT")), result((LAB, "PLT"), id="two", effectiveDateTime="2024-03-04")
    answer = ask(code_map, one, two)
    assert answer.codes == ["code-mapped", "unit-declared", "superseded"]
    both = [HERE, HERE.replace("[0]", "[1]")]
    assert [issue["expression"] for issue in answer.issues[:2]] == [both, both]


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


# A map that does not hold


def refusal(path: Path, *others: Path) -> str:
    with pytest.raises(CodeMapError) as caught:
        read_code_maps([path, *others])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(tmp_path: Path, content: bytes | str, name: str = "lab.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


GOOD = f"{LAB},PLT,777-3,10*9/L"
# The rows after the header and one good row, the line at fault, and a word of the reason.
BAD_ROWS = {
    "a LOINC that nobody knows": (f"{LAB},X,99999-9,", 3, "99999-9"),
    "a LOINC that is not read": (f"{LAB},X,74775-8,", 3, "platelet-rich"),
    "a panel": (f"{LAB},X,58410-2,", 3, "panel"),
    "no LOINC": (f"{LAB},X,,", 3, "no LOINC"),
    "no code": (f"{LAB},,777-3,", 3, "no code"),
    "a unit that nobody knows": (f"{LAB},X,777-3,bushel", 3, "bushel"),
    "a unit of another dimension": (f"{LAB},X,777-3,g/dL", 3, "does not fit"),
    "millions of platelets": (f"{LAB},X,777-3,M/uL", 3, "does not fit"),
    "the same row twice": (GOOD, 3, "twice: see line 2"),
    "one code of two counts": (f"{LAB},PLT,751-8,", 3, "777-3 and 751-8: see line 2"),
    "a LOINC under another": ("http://loinc.org,777-3,751-8,", 3, "LOINC is read as it is"),
    "a field too few": (f"{LAB},X,777-3", 3, "3 fields"),
    "a code that a spreadsheet rounded": (f"{LAB},1.02255E+15,777-3,", 3, "spreadsheet"),
    "an endless code": (f"{LAB},{'x' * 2000},777-3,", 3, "1000 characters"),
    "a quote that does not end": (f'{LAB},"X,777-3,', 3, "not CSV"),
    "an empty line before it": (f"\n{LAB},X,99999-9,", 4, "99999-9"),
    "a field of two lines before it": (f'{LAB},"X\nY",777-3,\n{LAB},Z,99999-9,', 5, "99999-9"),
}


@pytest.mark.parametrize(("rows", "line", "why"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, rows: str, line: int, why: str
) -> None:
    path = written(tmp_path, f"{HEADER}\n{GOOD}\n{rows}\n")
    said = refusal(path)
    assert said.startswith(f"{path}, line {line}: ")
    assert why in said


def test_the_first_bad_row_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    rows = "\n".join(f"{LAB},X{number},99999-9," for number in range(5))
    said = refusal(written(tmp_path, f"{HEADER}\n{rows}\n"))
    assert ", line 2: " in said
    assert said.endswith("(and 4 more)")


BAD_FILES = {
    "empty": (b"", "line 1: the file is empty"),
    "blank": (b" \n\n ", "line 1: the file is empty"),
    "no header": (GOOD.encode(), "'system' is not there"),
    "no row": (HEADER.encode(), "it maps no code at all"),
    "a column that is not known": (b"system,code,loinc,units\na,b,777-3,/nL", "'units'"),
    "a column twice": (b"system,code,loinc,code\na,b,777-3,c", "twice"),
    "UTF-16": (f"{HEADER}\n{GOOD}\n".encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (f"{HEADER}\n{GOOD}\n".encode("utf-16-le"), "UTF-16"),
    "XML": (b'<?xml version="1.0"?><ConceptMap/>', "'system' is not there"),
    "a program": (bytes(range(256)) * 10, "UTF-16"),
    "a JSON list": (b"[]", "'system' is not there"),
    "broken JSON": (b'{"resourceType":"ConceptMap",\n"group":[', "line 2 (ConceptMap): not JSON"),
    "JSON with a wrong word": (b'{"group":\n[\nx]}', "line 3 (ConceptMap): not JSON"),
    "another resource": (b'{"resourceType":"Bundle"}', "line 1 (ConceptMap): not a ConceptMap"),
    "a map of nothing": (b'{"resourceType":"ConceptMap"}', "it maps no code at all"),
    "nested too deep": (b'{"group":' + b"[" * 100_000, "line 1"),
}


@pytest.mark.parametrize(("content", "why"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = written(tmp_path, content)
    said = refusal(path)
    assert said.startswith(f"{path}, line ")
    assert why in said


def test_latin_1_is_refused_at_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\n{GOOD}\n{LAB},Hämoglobin,718-7,\n".encode("latin-1"))
    assert refusal(path) == f"{path}, line 3: byte 0xe4 is not UTF-8: save it as UTF-8"


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.csv"
    assert refusal(missing) == f"{missing}: No such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: Is a directory"


def test_a_code_in_two_files_is_refused_even_for_the_same_loinc(tmp_path: Path) -> None:
    one = written(tmp_path, f"{HEADER}\n{GOOD}\n", "one.csv")
    two = written(tmp_path, f"{HEADER}\n{LAB},B,751-8,\n{GOOD}\n", "two.csv")
    assert refusal(one, two) == f"{two}, line 3: the code 'PLT' stands in {one} as well: line 2"


def test_the_same_file_twice_is_one_map(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\n{GOOD}\n")
    found = read_code_maps([path, path])
    assert found is not None
    assert len(found.maps) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_of_any_spreadsheet_is_read(
    tmp_path: Path, delimiter: str, mark: str, end: str
) -> None:
    header = delimiter.join(("System", " code", "DISPLAY", "loinc", "unit", "comment"))
    row = delimiter.join((LAB, "PLT", '"Platelets, all"', "777-3 ", "10*9/L", ""))
    found = read_code_maps([written(tmp_path, mark + header + end + row + end + delimiter * 5)])
    assert found is not None
    (read,) = found.rows()
    assert (read.system, read.code, read.loinc, read.unit) == (LAB, "PLT", "777-3", "10*9/L")
    assert read.display == "Platelets, all"


def test_no_file_is_no_map() -> None:
    assert read_code_maps([]) is None


def test_a_concept_map_in_a_file_is_read_and_its_faults_have_a_line(tmp_path: Path) -> None:
    good = concept_map(element("PLT", "777-3"))
    assert read_code_maps([written(tmp_path, json.dumps(good), "map.json")]) is not None
    # The same row before it: a line is not found by what stands in it alone.
    bad = concept_map(element("PLT", "777-3"), element("X", "99999-9"), element("X", "99999-9"))
    lines = json.dumps(bad, indent=1)
    path = written(tmp_path, lines, "map.json")
    line = lines[: lines.index('"code": "X"')].count("\n")
    place = "ConceptMap.group[0].element[1].target[0]"
    said = refusal(path)
    assert said.startswith(f"{path}, line {line} ({place}): LOINC '99999-9'")
    assert said.endswith("(and 1 more)")


# A map in a request that does not hold


MODIFIER = [{"url": "urn:x", "valueBoolean": True}]
PRODUCT = {"property": "urn:x", "system": "http://unitsofmeasure.org", "value": "10*9/L"}
BAD_TARGETS = {
    "narrower": element("A", "777-3", "narrower"),
    "inexact": element("A", "777-3", "inexact"),
    "relatedto": element("A", "777-3", "relatedto"),
    "no equivalence": {"code": "A", "target": [{"code": "777-3"}]},
    "an unknown LOINC": element("A", "99999-9"),
    "a condition": element("A", "777-3", dependsOn=[{"property": "urn:x", "value": "y"}]),
    "a modifier": element("A", "777-3", modifierExtension=MODIFIER),
    "a unit that does not fit": element("A", "718-7", product=[PRODUCT]),
    "two units": element("A", "777-3", product=[PRODUCT, PRODUCT]),
    "a product that is no unit": element("A", "777-3", product=[PRODUCT | {"system": "urn:y"}]),
}


@pytest.mark.parametrize("bad", BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_a_target_that_is_not_surely_the_same_count_is_refused_by_its_place(bad: Json) -> None:
    place, _ = refused(concept_map(element("OK", "751-8"), bad))
    assert place == f"{GROUP}.element[1].target[0]"


def test_a_code_with_two_targets_is_refused() -> None:
    two = element("A", "777-3")["target"] + element("A", "751-8")["target"]
    place, text = refused(concept_map({"code": "A", "target": two}))
    assert place == f"{GROUP}.element[0].target[1]"
    assert "777-3 and 751-8" in text


def test_a_chain_of_maps_and_so_a_cycle_is_refused() -> None:
    """A to B, and B to A or to LOINC: only what goes straight to LOINC is read."""
    chain = concept_map(element("A", "777-3"))
    chain["group"].append({"source": "urn:a", "target": LAB, "element": [element("B", "A")]})
    place, text = refused(chain)
    assert place == "Parameters.parameter[0].resource.group[1].target"
    assert "chain" in text


@pytest.mark.parametrize("mode", ["fixed", "other-map"])
def test_a_map_that_says_something_of_all_other_codes_is_refused(mode: str) -> None:
    given = concept_map(element("A", "777-3"))
    given["group"][0]["unmapped"] = {"mode": mode, "code": "777-3"}
    assert refused(given)[0] == f"{GROUP}.unmapped"


def test_a_modifier_extension_anywhere_on_the_way_is_refused() -> None:
    given = concept_map(element("A", "777-3"))
    of_group = {**given, "group": [given["group"][0] | {"modifierExtension": MODIFIER}]}
    of_element = concept_map(element("A", "777-3") | {"modifierExtension": MODIFIER})
    assert refused(given | {"modifierExtension": MODIFIER})[0] == "Parameters.parameter[0].resource"
    assert refused(of_group)[0] == GROUP
    assert refused(of_element)[0] == f"{GROUP}.element[0]"


def test_what_is_no_concept_map_is_refused_by_its_place() -> None:
    assert refused({"resourceType": "Patient"})[0] == "Parameters.parameter[0].resource"
    odd = concept_map(element("A", "777-3"))
    odd["group"][0]["element"][0]["target"] = "777-3"
    assert refused(odd)[0] == f"{GROUP}.element[0].target"


def test_a_map_as_a_plain_value_or_in_the_query_is_refused() -> None:
    data = {"name": "data", "resource": bundle()}
    value = {"name": "codeMap", "valueString": "map.csv"}
    with pytest.raises(RequestError) as caught:
        Answer({"resourceType": "Parameters", "parameter": [value, data]})
    assert caught.value.faults[0].place == "Parameters.parameter[0]"
    with pytest.raises(RequestError) as caught:
        eligibility(encode(bundle()), [("codeMap", "map.csv")])
    assert "Parameters" in caught.value.faults[0].text


def test_two_maps_of_a_request_hold_together_but_not_for_the_same_code() -> None:
    one, two = concept_map(element("A", "751-8")), concept_map(element("PLT", "777-3"))
    assert ask_with(one, two).platelets == "met"
    place, _ = refused(two, one, two)
    assert place == "Parameters.parameter[2].resource.group[0].element[0].target[0]"


def test_a_request_adds_to_the_map_of_the_settings_but_does_not_turn_it_over(
    tmp_path: Path,
) -> None:
    own = csv_map(tmp_path, f"{LAB},PLT,777-3,10*9/L")
    no_unit = bundle(result((LAB, "PLT")))
    assert ask_with(concept_map(element("A", "751-8")), own=own).platelets == "met"
    # The same again takes nothing away.
    assert ask_with(concept_map(element("PLT", "777-3")), own=own, data=no_unit).platelets == "met"
    place, text = refused(concept_map(element("PLT", "751-8")), own=own)
    assert place == f"{GROUP}.element[0].target[0]"
    assert "'lab.csv'" in text
    thousand = [PRODUCT | {"value": "/uL"}]
    assert "10*9/L" in refused(concept_map(element("PLT", "777-3", product=thousand)), own=own)[1]


def test_a_hundred_thousand_rows_are_read_and_the_last_one_is_found(tmp_path: Path) -> None:
    rows = [f"{LAB},C{number},777-3,10*9/L" for number in range(100_000)]
    code_map = csv_map(tmp_path, *rows)
    answer = ask(code_map, result((LAB, "C99999")))
    assert answer.platelets == "met"
    path = written(tmp_path, "\n".join([HEADER, *rows, GOOD.replace("777-3", "7")]))
    assert ", line 100002: " in refusal(path)


# The maps we ship

EXAMPLES = Path(__file__).parent.parent / "examples" / "code-maps"
NPU, FINLAND = "urn:oid:1.2.208.176.2.1", "urn:oid:1.2.246.537.6.3"
SNOMED = "http://snomed.info/sct"
# A value as the country's laboratories report it, its unit where the map declares none, and what
# it comes to.
SHIPPED = {
    ("uk-snomed-ct.csv", SNOMED, "1022551000000104"): ("0.9", "10*9/L", "ANC", "0.9"),
    ("uk-snomed-ct.csv", SNOMED, "1022651000000100"): ("45", "10*9/L", "platelets", "45"),
    ("uk-snomed-ct.csv", SNOMED, "1022541000000102"): ("2.1", "10*9/L", "leukocytes", "2.1"),
    ("uk-snomed-ct.csv", SNOMED, "1022431000000105"): ("85", "g/L", "Hb", "8.5"),
    ("uk-snomed-ct.csv", SNOMED, "1107511000000100"): ("85", "g/L", "Hb", "8.5"),
    ("uk-snomed-ct.csv", SNOMED, "1022451000000103"): ("2.5", "10*12/L", "erythrocytes", "2500"),
    ("nordic-npu.json", NPU, "NPU02902"): ("0.9", None, "ANC", "0.9"),
    ("nordic-npu.json", NPU, "NPU03568"): ("45", None, "platelets", "45"),
    ("nordic-npu.json", NPU, "NPU02319"): ("5", None, "Hb", "8.055"),
    ("nordic-npu.json", NPU, "NPU02593"): ("2.1", None, "leukocytes", "2.1"),
    ("finland-kuntaliitto.csv", FINLAND, "3238"): ("0.9", None, "ANC", "0.9"),
    ("finland-kuntaliitto.csv", FINLAND, "2791"): ("45", None, "platelets", "45"),
    ("finland-kuntaliitto.csv", FINLAND, "1552"): ("85", None, "Hb", "8.5"),
    ("finland-kuntaliitto.csv", FINLAND, "2218"): ("2.1", None, "leukocytes", "2.1"),
    ("finland-kuntaliitto.csv", FINLAND, "2581"): ("40", None, "ARC", "40"),
    ("finland-kuntaliitto.csv", FINLAND, "2582"): ("1.6", None, "reticulocyte %", "1.6"),
    ("finland-kuntaliitto.csv", FINLAND, "1341"): ("2.5", None, "erythrocytes", "2500"),
}


@pytest.mark.parametrize(("place", "told"), SHIPPED.items(), ids=lambda one: one[-1])
def test_a_shipped_map_reads_what_a_laboratory_there_sends(
    place: tuple[str, str, str], told: tuple[str, str | None, str, str]
) -> None:
    name, system, code = place
    value, unit, analyte, amount = told
    code_map = read_code_maps([EXAMPLES / name])
    assert code_map is not None
    valued = result((system, code), value=value, unit={"unit": unit} if unit else None)
    entries = read_request(encode(bundle(valued)))[1].entries
    (course,) = read_courses(entries, "Bundle", code_map=code_map).courses
    (count,) = course.counts
    assert (count.analyte.short, count.value.exact) == (analyte, Decimal(amount))


def test_every_row_of_the_shipped_maps_is_tried_and_says_where_it_is_from() -> None:
    for path in sorted(EXAMPLES.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            assert all(row["source"] for row in csv.DictReader(file))
    given = json.loads((EXAMPLES / "nordic-npu.json").read_bytes())
    assert not faults(given)
    assert all(e["target"][0]["comment"] for g in given["group"] for e in g["element"])
    found = read_code_maps(sorted(EXAMPLES.iterdir()))
    assert found is not None
    names = {(row.system, row.code): row for row in found.rows()}
    assert {key for key in names if key[0]} == {(system, code) for _, system, code in SHIPPED}
    # Finland's short names, with and without the space, stand for what their numbers do.
    by_display = {row.display: row.loinc for key, row in names.items() if key[0] == FINLAND}
    short = [row for key, row in names.items() if not key[0]]
    assert len(short) == 2 * len(by_display)
    assert all(row.loinc == by_display[row.display] for row in short)


# The doors


JSON = {"content-type": "application/fhir+json"}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A map with a code that a search and an address must escape."""
    rows = (f"{LAB},PLT,777-3,10*9/L", f'{LAB},"A,N|C &",751-8,10*9/L', ",HB,718-7,g/dL")
    return written(tmp_path, "\n".join((HEADER, *rows)))


@contextmanager
def using(lab: Path, **settings: Any) -> Iterator[Client]:
    """The service with a map in its settings."""
    with calling(Settings(code_maps=(lab,), **settings)) as client:
        yield client


def test_the_service_reads_by_the_maps_of_its_settings(lab: Path) -> None:
    data = encode(bundle(result((LAB, "PLT"))))
    with using(lab) as client:
        answer = client.post("/fhir/$assess-eligibility", content=data, headers=JSON).json()
    said = [r["resource"] for r in answer["entry"] if "issue" in r["resource"]]
    found = [one["details"]["coding"][0]["code"] for one in said[0]["issue"]]
    assert found == ["code-mapped", "unit-declared"]


def test_a_map_in_a_request_is_checked_over_http_and_by_the_strict_reader(lab: Path) -> None:
    data = {"name": "data", "resource": bundle(result((LAB, "R"), unit=UCUM))}
    body: Json = {
        "resourceType": "Parameters",
        "parameter": [{"name": "codeMap", "resource": concept_map(element("R", "60474-4"))}, data],
    }
    strict = JSON | {"prefer": "handling=strict"}
    with using(lab) as client:
        answer = client.post("/fhir/$assess-eligibility", content=encode(body), headers=strict)
        assert answer.status_code == 200
        assert "code-mapped" in answer.text
        body["parameter"][0]["resource"] = concept_map(element("R", "1"))
        answer = client.post("/fhir/$assess-eligibility", content=encode(body), headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == [f"{GROUP}.element[0].target[0]"]


def test_the_maps_are_published_as_concept_maps_and_are_read_again_as_they_are(
    lab: Path, tmp_path: Path
) -> None:
    with using(lab) as client:
        found = client.get("/fhir/ConceptMap").json()
        published = client.get("/fhir/ConceptMap/lab.csv").json()
    names = [entry["resource"]["id"] for entry in found["entry"]]
    assert names == ["code-to-cause", "loinc-to-analyte", "lab.csv"]
    ConceptMap.model_validate(published)
    assert not faults(published)
    again = read_code_maps([written(tmp_path, json.dumps(published), "again.json")])
    before = read_code_maps([lab])
    assert again is not None
    assert before is not None
    assert list(again.rows()) == list(before.rows())
    # Nobody else's service has it.
    with calling(Settings()) as client:
        assert client.get("/fhir/ConceptMap").json()["total"] == 2


def test_a_published_concept_map_keeps_its_canonical(tmp_path: Path) -> None:
    given = concept_map(element("A", "777-3"), url=f"{LAB}/ours", version="2")
    with using(written(tmp_path, json.dumps(given), "m.json")) as client:
        (entry,) = client.get(f"/fhir/ConceptMap?url={LAB}/ours").json()["entry"]
    assert entry["resource"]["version"] == "2"


def test_prefetch_asks_for_the_hospitals_own_codes(lab: Path) -> None:
    with using(lab) as client:
        services = client.get("/cds-services").json()["services"]
    for one in services:
        asked = dict(parse_qsl(one["prefetch"]["neutrophils"].partition("?")[2]))
        assert r"A\,N\|C &" in tokens_of(asked["code"])
        assert "751-8" in tokens_of(asked["code"])
        asked = dict(parse_qsl(one["prefetch"]["hemoglobin"].partition("?")[2]))
        assert "HB" in tokens_of(asked["code"])
        assert "HB" not in one["prefetch"]["platelets"]


def test_a_card_tells_of_counts_under_the_hospitals_own_codes(lab: Path) -> None:
    found = {
        "platelets": bundle(result((LAB, "PLT"))),
        "neutrophils": bundle(result((LAB, "A,N|C &"), value="0.9")),
    }
    keys = ("hemoglobin", "reticulocytes", "panels", "transfusions", "drugs")
    call = {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": "a"},
        "prefetch": {"patient": {"resourceType": "Patient", "id": "a"}}
        | dict.fromkeys(keys)
        | found,
    }
    headers = {"content-type": "application/json"}
    with using(lab, cds_newest_within_days=0) as client:
        answer = client.post(
            "/cds-services/maa-eligibility", content=encode(call), headers=headers
        ).json()
    (card,) = answer["cards"]
    assert "ANC 0.9, platelets 45" in card["summary"]


@pytest.mark.parametrize("by_post", [False, True])
def test_the_hospitals_own_codes_are_searched_on_the_fhir_server(lab: Path, by_post: bool) -> None:
    def reply(asked: Asked) -> Reply:
        if asked.path.endswith("/Patient/1"):
            return 200, {}, b'{"resourceType":"Patient","id":"1"}'
        tokens = tokens_of((asked.query | asked.form).get("code", [""])[0])
        one = result((LAB, "A,N|C &"), value="0.9") | {"subject": {"reference": "Patient/1"}}
        found = [encode(one).decode()] if rf"{LAB}|A\,N\|C &" in tokens else []
        searched.extend(tokens)
        return 200, {}, searchset(found)

    searched: list[str] = []
    more = {"code_maps": (lab,), "fhir_search_by_post": by_post}
    codes = {"resourceType": "Parameters", "parameter": []}
    codes["parameter"] = [
        {"name": "codeMap", "resource": concept_map(element("R", "60474-4"), url="urn:r")}  # type: ignore[list-item]
    ]
    with serving(reply) as stub, service(stub, **more) as client:
        answer = client.get("/fhir/Patient/1/$assess-eligibility").json()
        assert f"{LAB}|R" not in searched
        client.post("/fhir/Patient/1/$assess-eligibility", content=encode(codes), headers=JSON)
    first = answer["entry"][0]["resource"]["component"][0]
    assert first["valueCodeableConcept"]["coding"][0]["code"] == "met"
    # A code that has no system in the map is searched for in any.
    assert "HB" in searched
    assert f"{LAB}|R" in searched


def test_a_service_with_a_bad_map_does_not_start_and_says_why_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\n{LAB},X,99999-9,\n")
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        env=environment() | {"MAA_CODE_MAPS": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert f"maa-assess: MAA_CODE_MAPS: {path}, line 2: LOINC '99999-9'" in done.stderr
    assert "Traceback" not in done.stderr


# The command line


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.json"
    path.write_bytes(encode(bundle(result((LAB, "PLT")))))
    return path


def test_a_map_can_be_tried_on_the_command_line(
    lab: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["eligibility", str(data), "--code-map", str(lab)]) == 0
    out = capsys.readouterr().out
    assert "platelets 45 x10⁹/L" in out
    assert "by the map 'lab.csv'" in out
    monkeypatch.setenv("MAA_CODE_MAPS", str(lab))
    assert main(["eligibility", str(data), "--json"]) == 0
    assert "code-mapped" in capsys.readouterr().out
    start = ["--treatment-start", "2024-01-01", "--code-map", str(lab)]
    assert main(["response", str(data), *start]) == 0
    assert "code-mapped" in capsys.readouterr().out
    assert main(["cohort", str(data), *start]) == 0


@pytest.mark.parametrize("command", ["eligibility", "response", "cohort", "screen"])
def test_every_command_refuses_a_bad_map_by_file_and_line(
    command: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = written(tmp_path, f"{HEADER}\n{LAB},X,99999-9,\n", "bad.csv")
    out = ["--out", str(tmp_path / "out")] if command == "screen" else []
    assert main([command, str(data), *out, "--code-map", str(bad)]) == 2
    assert capsys.readouterr().err.startswith(f"maa-assess: {bad}, line 2: LOINC '99999-9'")
    assert not (tmp_path / "out").exists()


def plain(patient: str, code: str, value: str, **more: Any) -> Json:
    over = {"id": f"{patient}-{code}", "subject": {"reference": f"Patient/{patient}"}}
    return result((LAB, code), value=value, **(over | more))


def test_an_export_is_screened_by_the_map_and_an_older_count_is_passed_over(
    lab: Path, tmp_path: Path
) -> None:
    export = tmp_path / "export"
    export.mkdir()
    lines = [
        plain("a", "PLT", "45"),
        plain("a", "PLT", "400", id="old", effectiveDateTime="2020-01-01"),
        plain("a", "A,N|C &", "0.9"),
        plain("b", "PLT", "400"),
        # In a panel, which is no plain result.
        plain("b", "X", "1", valueQuantity=None)
        | {"component": [{"code": coded((LAB, "A,N|C &")), "valueQuantity": {"value": 3}}]},
    ]
    file = export / "Observation.ndjson"
    file.write_bytes(b"\n".join(map(encode, lines)))
    out = tmp_path / "out"
    command = ["screen", str(export), "--out", str(out), "--workers", "1"]
    assert main([*command, "--code-map", str(lab)]) == 0
    with (out / "verdicts.csv").open(newline="") as table:
        rows = {row["patient"]: row for row in csv.DictReader(table)}
    assert rows["Patient/a"]["platelets_value"] == "45"
    assert rows["Patient/a"]["absolute_neutrophil_count_value"] == "0.9"
    assert rows["Patient/b"]["absolute_neutrophil_count_value"] == "3"
    assert "code-mapped" in (out / "set-aside.ndjson").read_text()


def test_a_run_that_is_resumed_with_another_map_starts_anew(tmp_path: Path) -> None:
    """The map is part of the question, and the question of the plan that is resumed."""
    one = Order(ASSESS_ELIGIBILITY, (), 30, csv_map(tmp_path, f"{LAB},A,777-3,"))
    two = Order(ASSESS_ELIGIBILITY, (), 30, csv_map(tmp_path, f"{LAB},A,751-8,"))
    assert one != two
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Order) == one
    assert one.code_map is not None
    assert one.code_map.mapped(LAB, "A")
    assert pickle.loads(pickle.dumps(one)) == one
