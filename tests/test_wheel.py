"""The wheel, installed beside a distribution that has an `app` too, in a folder with one."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.exports import export
from tests.conftest import FHIR_JSON, OPERATION, SECONDS_TO_START, environment, free_port, running
from tests.tools import require

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "iwg-2018"
STORY = ROOT / "fixtures" / "three-patients"
FOREIGN = "raise ImportError('the app of somebody else')\n"
FOREIGN_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "somebody-else"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["app"]
"""
SECONDS = 180


@dataclass(frozen=True)
class Installed:
    """Where the wheel is installed, and a folder with an `app` of its own to work in."""

    programs: Path
    packages: Path
    folder: Path

    def run(self, program: str, *arguments: str, **settings: str) -> str:
        """What a program there prints; it must not fail."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.folder,
            env=environment() | settings,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def pip(*arguments: str, python: Path = Path(sys.executable)) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, timeout=SECONDS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Both wheels built and installed by pip; their dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    project, work, venv = folder / "project", folder / "work", folder / "venv"
    for parent in (project, work):
        (parent / "app").mkdir(parents=True)
        (parent / "app" / "__init__.py").write_text(FOREIGN)
    (project / "pyproject.toml").write_text(FOREIGN_PROJECT)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    for source in (ROOT, project):
        pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source))
    pip("install", "--no-deps", *map(str, folder.glob("*.whl")), python=venv / "bin" / "python")
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return Installed(venv / "bin", packages, work)


def test_the_foreign_app_is_really_in_the_way(installed: Installed) -> None:
    code = "try:\n import app\nexcept ImportError as error: print(error)"
    assert installed.run("python", "-c", code) == "the app of somebody else\n"
    assert installed.run("python", "-P", "-c", code) == "the app of somebody else\n"


def test_nothing_in_the_wheel_names_the_folder(installed: Installed) -> None:
    modules = list((installed.packages / "maa_assess").rglob("*.py"))
    assert len(modules) > 50
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            found = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or "", *(["app"] if node.level else [])]
                if isinstance(node, ast.ImportFrom)
                else [node.value]
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
                else []
            )
            named = [name for name in found if name == "app" or name.startswith("app.")]
            assert not named, f"{module}, line {getattr(node, 'lineno', 0)}: {named}"


def test_the_command_answers(installed: Installed) -> None:
    answer = installed.run("maa-assess", "eligibility", str(STORY / "request.json"), "--json")
    assert json.loads(answer) == json.loads((STORY / "response.json").read_text())


@pytest.mark.parametrize(
    "command",
    [
        ["python", "-m", "uvicorn", "--factory", "maa_assess.main:create_app", "--workers", "2"],
        ["maa-assess", "serve"],
    ],
)
def test_it_serves(installed: Installed, tmp_path: Path, command: list[str]) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(installed.programs / command[0]), *command[1:], "--port", str(port)]
    log = tmp_path / "log"
    with running(command, log, f"{url}/health/live", SECONDS_TO_START, {}, installed.folder):
        body = (STORY / "request.json").read_bytes()
        headers = {"content-type": FHIR_JSON}
        answer = httpx.post(f"{url}{OPERATION}", content=body, headers=headers)
        definition = httpx.get(f"{url}/fhir/Library/NihDaclizumab2003")
        page = httpx.get(url).text
        files = [httpx.get(f"{url}{address}") for address in re.findall(r'="(/web/[^"]+)"', page)]
        files.append(httpx.get(f"{url}/web/0/stories/open.json"))
    assert answer.json() == json.loads((STORY / "response.json").read_text())
    assert definition.status_code == httpx.codes.OK, "The files beside the modules are there too."
    assert len(files) > 4
    assert {file.status_code for file in files} == {httpx.codes.OK}
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example's distribution is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("plug-in")
    source = shutil.copytree(EXAMPLE, folder / "source")
    to = folder / "packages"
    pip("install", "--no-deps", "--no-build-isolation", "--target", str(to), str(source))
    return to


def test_the_plug_ins_own_cases_hold_beside_the_installed_service(
    installed: Installed, plug_in: Path
) -> None:
    tests = [str(EXAMPLE / "tests"), "-q", "-p", "no:cacheprovider"]
    told = installed.run("python", "-m", "pytest", *tests, PYTHONPATH=str(plug_in))
    cases = (EXAMPLE / "tests" / "cases.toml").read_text("utf-8").count("[[case]]")
    assert told.split()[0] == "." * cases, told


def test_a_definition_of_another_distribution_is_served(
    installed: Installed, plug_in: Path, tmp_path: Path
) -> None:
    """A woman whose platelets rose from 50 to 80 and stayed: HI-P, and no other."""
    days = {"2024-01-01": "50", "2024-03-01": "80", "2024-04-26": "80"}
    entries = [
        count_of(code, value, unit, day)
        for day, platelets in days.items()
        for code, value, unit in (
            ("751-8", "2.5", "10*9/L"),
            ("777-3", platelets, "10*9/L"),
            ("718-7", "12.5", "g/dL"),
        )
    ]
    body = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    query = {"criteria": "iwg-2018", "treatmentStart": "2024-01-01"}
    query["transfusionHistory"] = "complete"
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(installed.programs / "maa-assess"), "serve", "--port", str(port)]
    found = {"PYTHONPATH": str(plug_in)}
    log = tmp_path / "log"
    with (
        running(command, log, f"{url}/health/live", SECONDS_TO_START, found, installed.folder),
        httpx.Client(base_url=url) as http,
    ):
        answer = http.post("/fhir/$assess-response", params=query, json=body).json()
        plan = http.get("/fhir/PlanDefinition/iwg-2018").json()
        document, page = http.get("/openapi.json").text, http.get("/").text
        explained = http.get("/explain/iwg-2018")
        libraries = http.get("/fhir/Library").text
        unknown = http.post("/fhir/$assess-response", params={"criteria": "no-such"}, json=body)
    observation = answer["entry"][0]["resource"]
    assert observation["valueCodeableConcept"]["coding"][0]["code"] == "response"
    parts = {
        part["code"]["coding"][0]["code"]: part["valueCodeableConcept"]["coding"][0]["code"]
        for part in observation["component"]
        if "valueCodeableConcept" in part
    }
    assert parts["platelet-response"] == "met"
    assert parts["red-cell-response"] == "not-met"
    assert parts["neutrophil-response"] == "not-applicable"
    assert plan["status"] == "draft"
    assert "simplified" in plan["title"]
    assert "library" not in plan
    assert "japan-childhood, iwg-2018" in " ".join(document.split())
    assert '"iwg-2018"' in page
    assert explained.status_code == httpx.codes.OK
    assert "HI-P" in explained.text
    assert "Iwg2018" not in libraries
    assert unknown.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "iwg-2018" in unknown.text


def count_of(code: str, value: str, unit: str, day: str) -> dict[str, Any]:
    """One result, as an entry."""
    quantity = {"value": float(value), "code": unit, "system": "http://unitsofmeasure.org"}
    return {
        "resource": {
            "resourceType": "Observation",
            "id": f"{code}-{day}",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "subject": {"reference": "Patient/one"},
            "effectiveDateTime": day,
            "valueQuantity": quantity,
        }
    }


def test_several_workers_and_spark_executors_come_to_the_same_files(
    installed: Installed, tmp_path: Path
) -> None:
    require("java")
    export(tmp_path / "in", 400, each=8)
    arguments = [str(tmp_path / "in"), "--out"]
    workers = ["--workers", "2"]
    told = installed.run("maa-assess", "screen", *arguments, str(tmp_path / "one"), *workers)
    assert "nih-daclizumab-2003 eligible: " in told
    installed.run(
        str(Path(sys.executable).with_name("spark-submit")),
        *["--master", "local-cluster[1,1,1024]"],
        *["--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false"],
        *["--conf", "spark.driver.bindAddress=127.0.0.1", "--executor-memory", "512m"],
        str(installed.packages / "maa_assess" / "bulk" / "spark.py"),
        "--single-files",
        *arguments,
        str(tmp_path / "spark"),
        SPARK_LOCAL_IP="127.0.0.1",
        PYSPARK_PYTHON=str(installed.programs / "python"),
    )
    for name in ("assessments.ndjson", "verdicts.csv"):
        one, spark = ((tmp_path / by / name).read_bytes() for by in ("one", "spark"))
        assert one, name
        assert one == spark, name
