"""The FHIR package: what FHIR tools load of ours."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from app import __version__
from app.fhir.canonicals import BASE
from app.fhir.json import encode
from app.package import NAME, package
from app.publishing.definitions import definitions

Json = dict[str, Any]
FIXTURES = Path(__file__).parents[1] / "fixtures"


@cache
def contents() -> dict[str, bytes]:
    """Each file of the package, by its name."""
    with tarfile.open(fileobj=io.BytesIO(package()), mode="r:gz") as tar:
        files = ((one.name, tar.extractfile(one)) for one in tar.getmembers())
        return {name: file.read() for name, file in files if file}


@cache
def resources(folder: str) -> dict[str, Json]:
    """The resources of a folder, by the name of their file."""
    named = {Path(name): content for name, content in contents().items()}
    return {
        path.name: json.loads(content)
        for path, content in named.items()
        if str(path.parent) == folder and path.name not in {"package.json", ".index.json"}
    }


def test_it_is_the_same_to_the_byte_in_every_process(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "app.cli", "package", "--out", str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            timeout=60,
        )
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == package()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli", "package", "--out", str(tmp_path / "no" / "where")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert str(tmp_path / "no" / "where") in done.stderr
    assert "Traceback" not in done.stderr


def test_its_manifest_has_what_the_specification_requires() -> None:
    """https://hl7.org/fhir/packages.html: two namespaces, a semantic version, a core package."""
    manifest = json.loads(contents()["package/package.json"])
    assert re.fullmatch(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+", manifest["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert manifest["version"] == __version__
    assert manifest["fhirVersions"] == ["4.0.1"]
    assert manifest["dependencies"]["hl7.fhir.r4.core"] == "4.0.1"
    assert (manifest["type"], manifest["canonical"]) == ("IG", BASE)
    assert all(manifest[name] for name in ("author", "description", "url", "license"))


@pytest.mark.parametrize("folder", ["package", "package/example"])
def test_the_index_tells_of_each_file_what_the_file_says(folder: str) -> None:
    index = json.loads(contents()[f"{folder}/.index.json"])
    assert index["index-version"] == 2
    rows = {row.pop("filename"): row for row in index["files"]}
    told = ("resourceType", "id", "url", "version", "kind", "type", "supplements", "content")
    assert rows == {
        name: {key: one[key] for key in told if isinstance(one.get(key), str)}
        for name, one in resources(folder).items()
    }


def test_it_holds_each_definition_as_it_is_served_and_a_guide_that_lists_them() -> None:
    held = resources("package")
    (guide,) = (one for one in held.values() if one["resourceType"] == "ImplementationGuide")
    assert guide["url"] == f"{BASE}/ImplementationGuide/{NAME}"
    get_fhir_model_class("ImplementationGuide").model_validate(guide)
    served = {f"{kind}-{name}.json": encode(one) for (kind, name), one in definitions().items()}
    files = {name: contents()[f"package/{name}"] for name in held}
    assert {name: text for name, text in files.items() if name in served} == served
    assert set(files) - set(served) == {f"ImplementationGuide-{NAME}.json"}
    both = [*held.values(), *resources("package/example").values()]
    listed = {row["reference"]["reference"] for row in guide["definition"]["resource"]}
    assert listed == {f"{one['resourceType']}/{one['id']}" for one in both if one is not guide}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def test_whatever_of_ours_it_names_it_brings() -> None:
    held = resources("package")
    brought = {f"{BASE}/{one['resourceType']}/{one['id']}" for one in held.values()}
    named = {
        text.partition("|")[0]
        for one in (*held.values(), *resources("package/example").values())
        for text in strings(one)
        if re.fullmatch(rf"{re.escape(BASE)}/[A-Z]\w+/[\w.|-]+", text)
    }
    assert len(named) > 50
    assert named - brought == set()


def test_the_cql_includes_nothing_that_is_not_there() -> None:
    found = [one for one in resources("package").values() if one["resourceType"] == "Library"]
    texts = [
        b64decode(content["data"]).decode()
        for one in found
        for content in one.get("content", [])
        if content["contentType"] == "text/cql"
    ]
    own = {pair for text in texts for pair in re.findall(r"^library (\w+) version '(.+)'", text)}
    used = {
        pair
        for text in texts
        for pair in re.findall(r"^include (\w+) version '(.+?)'", text, re.MULTILINE)
    }
    assert used
    assert used <= own
    for one in found:
        if any(content["contentType"] == "text/cql" for content in one.get("content", [])):
            assert one["url"].endswith(f"/{one['name']}")


def test_an_example_is_answered_as_the_service_answers_it() -> None:
    """The golden answer of the same story; ids are for the package alone."""
    answer = json.loads((FIXTURES / "two-low-one-unknown" / "response.json").read_bytes())
    shown = resources("package/example")["Bundle-moderate-answer.json"]
    assert {**shown, "id": None} == {**answer, "id": None}
