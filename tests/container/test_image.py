"""What is in the image: the service and what it needs, told and licensed; how it is built."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.container.conftest import Image
from tests.container.engine import ROOT, Container, base_name

DOCKERFILE = ROOT / "Dockerfile"
SHARE = "/opt/maa-assess/share"
DISTRIBUTIONS = """
import json, re
from importlib.metadata import distributions
named = {re.sub(r'[-_.]+', '-', d.name).lower(): d.version for d in distributions()}
print(json.dumps(named))
"""


def installed(container: Container) -> dict[str, str]:
    """The distributions that Python finds inside, with their versions."""
    found: dict[str, str] = json.loads(container.python(DISTRIBUTIONS))
    return found


def locked() -> dict[str, str]:
    """The distributions that the service can be asked for need, with the image's Python."""
    lines = (ROOT / "requirements-service.lock").read_text().splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith(" ")]
    needed = [pin for pin in pins if not re.search(r"(?<!!)= 'win32'|python_full_version <", pin)]
    return {(part := pin.split(" ")[0].split("=="))[0].split("[")[0]: part[1] for pin in needed}


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_from_elsewhere_is_named_by_its_digest() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE.read_text(), re.MULTILINE)
    own = {name for _, name in stages}
    foreign = [source for source, _ in stages if source not in own]
    assert len(foreign) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", foreign[0])


def test_it_adds_less_than_130_megabytes_to_its_base(image: Image, told: list[str]) -> None:
    added = image.engine.size(image.name) - image.engine.size(base_name())
    told.append(f"the image adds {added / 1e6:.0f} MB to its base")
    assert 10e6 < added < 130e6


def test_it_holds_the_service_and_nothing_that_installs(container: Container) -> None:
    found = installed(container)
    assert found.pop("maa-assess")
    assert found == locked()
    assert not {"pip", "setuptools", "wheel", "numpy", "scipy", "pyarrow", "pyspark"} & set(found)
    code = "import glob; print(glob.glob('/usr/local/**/*pip*', recursive=True))"
    assert container.python(code) == "[]\n"


def test_it_says_what_is_in_it_and_under_which_licences(container: Container) -> None:
    sbom = json.loads(container.python(f"print(open('{SHARE}/sbom.cdx.json').read())"))
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {re.sub(r"[-_.]+", "-", c["name"]).lower(): c for c in sbom["components"]}
    found = installed(container)
    found.pop("maa-assess")
    assert {name: part["version"] for name, part in listed.items()} == found
    assert sbom["metadata"]["component"]["name"] == "maa-assess"
    licences = container.python(f"print(open('{SHARE}/LICENSES').read())")
    for part in listed.values():
        named = re.escape(f"{part['name']}\n{part['version']}\n")
        licence = re.search(rf"^{named}(.+)\n((?:.*\n){{3}})", licences, re.MULTILINE)
        assert licence, f"{part['name']} is not among the licences."
        # What its metadata leave out, the text that follows says: MIT's own words.
        known = licence[1] != "UNKNOWN" or "Permission is hereby granted, free" in licence[2]
        assert known, f"{part['name']} has no licence."


def test_it_is_labelled(image: Image) -> None:
    labels = json.loads(
        image.engine.podman("image", "inspect", image.name, "--format", "{{json .Labels}}")
    )
    prefix = "org.opencontainers.image"
    for key in ("title", "description", "licenses", "documentation", "base.name"):
        assert labels[f"{prefix}.{key}"], key
    assert labels[f"{prefix}.base.name"] == base_name()


def test_the_same_source_gives_the_same_layers(image: Image) -> None:
    again = image.engine.build("--no-cache")
    layers = [
        image.engine.podman("image", "inspect", name, "--format", "{{json .RootFS.Layers}}")
        for name in (image.name, again)
    ]
    assert layers[0] == layers[1]
