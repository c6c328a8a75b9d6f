"""HL7's official validator over all that we publish, answer and show as a request.

What it validates against is our FHIR package, as anybody has it. It runs without a terminology
server, with the R4 definitions that Maven Central has.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.fhir.json import encode
from app.package import FILE_NAME, package
from app.publishing.definitions import definitions
from app.publishing.profiles import profile_of
from tests.tools import require

ROOT = Path(__file__).parents[1]
HERE = ROOT / "tests" / "validator"
BUILD = ROOT / "build" / "validator"
FIXTURES = ROOT / "fixtures"
ANSWERS = sorted(FIXTURES.glob("*/response.json"))
REQUESTS = [*sorted(FIXTURES.glob("*/request.json")), FIXTURES / "daclizumab-2003" / "bundle.json"]
CLASSES = f"{BUILD / 'classes'}{os.pathsep}{BUILD / 'lib'}/*"


def built() -> None:
    """The validator with its libraries, had once from Maven Central."""
    require("java", "javac", "mvn")
    lib = f"-DoutputDirectory={BUILD / 'lib'}"
    maven = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies", lib]
    subprocess.run(maven, check=True, timeout=600)
    compile_ = ["javac", "-cp", f"{BUILD / 'lib'}/*", "-d", str(BUILD / "classes")]
    subprocess.run([*compile_, str(HERE / "Validate.java")], check=True, timeout=120)


def assessments(answer: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The assessments of an answer, each with what it assesses."""
    for entry in answer.get("entry", []):
        if entry["resource"]["resourceType"] == "Observation":
            yield entry["resource"]["code"]["coding"][0]["code"], entry["resource"]


def package_in(folder: Path) -> tuple[Path, Path]:
    """Our FHIR package, and a folder with HL7's extensions that its definitions carry."""
    file = folder / FILE_NAME
    file.write_bytes(package())
    extensions = folder / "extensions"
    extensions.mkdir()
    hl7 = tomllib.loads((HERE / "extensions.toml").read_text())
    for one in (*map(extension, hl7["extension"]), *map(code_system, hl7["system"])):
        (extensions / f"{one['id']}.json").write_text(json.dumps(one))
    return file, extensions


def unpacked(file: Path, folder: Path) -> list[Path]:
    """The resources of a FHIR package, the examples too."""
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter="data")
    return list(folder.rglob("*-*.json"))


def code_system(row: dict[str, Any]) -> dict[str, Any]:
    """A code system by its canonical and its codes."""
    return {
        "resourceType": "CodeSystem",
        "id": row["url"].rpartition("/")[2],
        "url": row["url"],
        "status": "active",
        "caseSensitive": True,
        "content": "complete",
        "concept": [{"code": c, "display": c, "definition": c} for c in row["codes"]],
    }


def extension(row: dict[str, Any]) -> dict[str, Any]:
    """An extension by its canonical and the types of its value."""
    name = row["url"].rpartition("/")[2]
    return {
        "resourceType": "StructureDefinition",
        "id": name,
        "url": row["url"],
        "name": "".join(part.capitalize() for part in name.split("-")),
        "status": "active",
        "fhirVersion": "4.0.1",
        "kind": "complex-type",
        "abstract": False,
        "context": [{"type": "element", "expression": "DomainResource"}],
        "type": "Extension",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Extension",
        "derivation": "constraint",
        "differential": {
            "element": [
                {"id": "Extension", "path": "Extension"},
                {"id": "Extension.extension", "path": "Extension.extension", "max": "0"},
                {"id": "Extension.url", "path": "Extension.url", "fixedUri": row["url"]},
                {
                    "id": "Extension.value[x]",
                    "path": "Extension.value[x]",
                    "min": 1,
                    "type": [{"code": code} for code in row["types"]],
                },
            ]
        },
    }


@pytest.fixture(scope="session")
def messages(
    http: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[tuple[str, str, str]]]:
    """What the validator says of each file: severity, place, text."""
    built()
    loaded = package_in(tmp_path_factory.mktemp("package"))
    own = unpacked(loaded[0], tmp_path_factory.mktemp("unpacked"))
    more = tmp_path_factory.mktemp("answers")
    asked = {"content-type": "application/fhir+json"}
    trial = (FIXTURES / "daclizumab-2003" / "bundle.json").read_bytes()
    story = (FIXTURES / "leukemia-in-the-chart" / "request.json").read_bytes()
    other = (FIXTURES / "severe-by-counts" / "request.json").read_bytes()
    study = "/fhir/ResearchStudy/$match"
    measure = "/fhir/Measure/maa-hematologic-response/$evaluate-measure"
    for name, response in {
        "metadata": http.get("/fhir/metadata"),
        "searchset": http.get("/fhir/ValueSet"),
        "package": http.get("/fhir/Measure/eligibility-emaa/$package"),
        "package-count": http.get("/fhir/PlanDefinition/emaa/$package?count=0"),
        "needs": http.get("/fhir/PlanDefinition/nih-daclizumab-2003/$data-requirements"),
        "needs-of-measure": http.get("/fhir/Measure/maa-screening/$data-requirements"),
        "part": http.get("/fhir/PlanDefinition/emaa?_summary=true"),
        "responses": http.post("/fhir/$assess-response", content=trial, headers=asked),
        "pictured": http.post(
            "/fhir/$assess-response?picture=true&subject=Patient/mAA-05",
            content=trial,
            headers=asked,
        ),
        "match": http.post(f"{study}?zipCode=20892", content=story, headers=asked),
        "no-match": http.post(study, content=other, headers=asked),
        "report": http.post(measure, content=trial, headers=asked),
        "individual": http.post(
            f"{measure}?reportType=subject&subject=Patient/mAA-05&reporter=Organization/1",
            content=trial,
            headers=asked,
        ),
        "list": http.post(f"{measure}?reportType=subject-list", content=trial, headers=asked),
        "error": http.post("/fhir/$assess-response", content=b"{", headers=asked),
    }.items():
        (more / f"{name}.json").write_bytes(response.content)
    files = [
        str(path) for path in (*own, *loaded[1].iterdir(), *more.iterdir(), *ANSWERS, *REQUESTS)
    ]
    for source in (*ANSWERS, more / "responses.json"):
        for index, (kind, found) in enumerate(assessments(json.loads(source.read_bytes()))):
            path = more / f"{source.parent.name}-{source.stem}-{index}.assessment"
            path.write_text(json.dumps(found))
            files.append(f"{path}={profile_of(kind)}")
    # The validator keeps R4's definitions in the home folder of its user.
    java = ["java", f"-Duser.home={BUILD / 'home'}", "-cp", CLASSES, "Validate"]
    asked_of = [*java, *map(str, loaded), *files]
    run = subprocess.run(asked_of, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    told: dict[str, list[tuple[str, str, str]]] = {}
    for line in run.stdout.splitlines():
        name, severity, place, text = line.split("\t")
        told.setdefault(name, [])
        if severity != "done":
            told[name].append((severity, place, text))
    assert set(told) == {name.split("=")[0] for name in files}
    return told


def test_there_is_no_error(messages: dict[str, list[tuple[str, str, str]]]) -> None:
    wrong = [
        (name, *message)
        for name, found in messages.items()
        for message in found
        if message[0] != "warning"
    ]
    assert wrong == []
    assert len(messages) > len(ANSWERS) + len(REQUESTS) + len(definitions())


def test_every_warning_has_its_reason(messages: dict[str, list[tuple[str, str, str]]]) -> None:
    listed = tomllib.loads((HERE / "warnings.toml").read_text())["warning"]
    assert all(row["reason"] for row in listed)
    given = [(name, *one) for name, found in messages.items() for one in found]
    unlisted = [
        one for one in given if not any(re.search(row["pattern"], one[3]) for row in listed)
    ]
    assert unlisted == []
    for row in listed:
        assert any(re.search(row["pattern"], one[3]) for one in given), row["pattern"]


def test_the_validator_would_find_a_fault(tmp_path: Path) -> None:
    """A broken assessment fails against our profile, and a Measure against its CQL."""
    built()
    answer = json.loads((FIXTURES / "anc-1200" / "response.json").read_bytes())
    _, found = next(assessments(answer))
    del found["method"]
    found["valueCodeableConcept"]["coding"][0]["code"] = "perhaps"
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(found))
    measure = json.loads(encode(definitions()["Measure", "nih-daclizumab-2003-response"]))
    measure["group"][0]["stratifier"][0]["criteria"]["expression"] = "No such name"
    (tmp_path / "measure.json").write_text(json.dumps(measure))
    java = ["java", f"-Duser.home={BUILD / 'home'}", "-cp", CLASSES, "Validate"]
    asked = [*java, *map(str, package_in(tmp_path)), f"{broken}={profile_of('eligibility')}"]
    asked.append(str(tmp_path / "measure.json"))
    said = subprocess.run(asked, capture_output=True, text=True, timeout=300, check=True).stdout
    errors = [line for line in said.splitlines() if "\terror\t" in line]
    assert any("method" in line for line in errors)
    assert any("perhaps" in line for line in errors)
    assert any("No such name" in line for line in errors)
