"""What is built on: each file by its hash, under licences we may pass on, without known holes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.tools import require_modules

LOCKS = sorted([*ROOT.glob("*.lock"), *ROOT.glob("tests/**/*.lock")])
# What the service and the exports run on; the others are tools of ours.
SHIPPED = ("requirements-service.lock", "requirements-exports.lock")
# Each may be passed on with ours. Of MPL-2.0, whose files stay open, nothing is changed; OFL-1.1 is
# a font's, which may not be sold alone.
ALLOWED = (
    "0BSD",
    "Apache Software License",
    "Apache-2.0",
    "BSD",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Mozilla Public License 2.0",
    "OFL-1.1",
    "PSF-2.0",
    "Zlib",
)
# What its metadata leave out, its licence file says.
MIT_BY_ITS_TEXT = "resvg-py"
_BIN = Path(sys.executable).parent


def requirements(lock: Path) -> list[str]:
    """The lock's requirements, each with its options, on one line."""
    whole = re.sub(r"\\\n\s*", " ", lock.read_text())
    return [line for line in whole.splitlines() if line and not line.startswith("#")]


def names(*locks: str) -> set[str]:
    """The packages that these locks pin."""
    return {one.partition("==")[0] for lock in locks for one in requirements(ROOT / lock)}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_package_is_pinned_to_one_version_and_its_hashes(lock: Path) -> None:
    assert requirements(lock)
    for one in requirements(lock):
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+ ", one), one
        assert re.search(r" --hash=sha256:[0-9a-f]{64}\b", one), one


@pytest.mark.parametrize("lock", sorted(ROOT.glob("*/package-lock.json")), ids=str)
def test_every_package_of_node_is_pinned_to_its_hash(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    assert len(packages) > 1
    assert [name for name, one in packages.items() if name and "integrity" not in one] == []


def test_what_is_shipped_is_under_licences_that_let_it_be_passed_on() -> None:
    require_modules("piplicenses")
    installed = []
    for name in sorted(names(*SHIPPED)):
        try:
            installed.append(distribution(name).metadata["Name"])
        except PackageNotFoundError:  # of another system or Python
            continue
    assert {"fastapi", "cryptography", "redis", "duckdb"} <= {name.lower() for name in installed}
    (text,) = (f for f in distribution(MIT_BY_ITS_TEXT).files or () if f.name == "LICENSE")
    assert "Permission is hereby granted, free of charge" in text.read_text()
    installed.remove(distribution(MIT_BY_ITS_TEXT).metadata["Name"])
    command = [str(_BIN / "pip-licenses"), "--from", "mixed", "--packages", *installed]
    allowed = ["--partial-match", "--allow-only", ";".join(ALLOWED)]
    done = subprocess.run([*command, *allowed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_no_version_we_pin_has_a_known_vulnerability(lock: Path, tmp_path: Path) -> None:
    """Asked of PyPI, which a closed network does not reach: then nothing is known, and it says so.

    What is known changes without us, so that this fails one day for a commit that passed.
    """
    require_modules("pip_audit")
    told = tmp_path / "audit.json"
    command = [str(_BIN / "pip-audit"), "--require-hashes", "--disable-pip", "-r", str(lock)]
    output = ["--format", "json", "--output", str(told), "--progress-spinner", "off"]
    done = subprocess.run([*command, *output], capture_output=True, text=True, check=False)
    found = json.loads(told.read_text())["dependencies"] if told.exists() else []
    unknown = [one["name"] for one in found if "vulns" not in one]
    if len(unknown) == len(found):
        pytest.skip(f"NOT AUDITED: PyPI's advisories are not reached from here ({lock.name})")
    assert unknown == []
    assert {one["name"]: one["vulns"] for one in found if one["vulns"]} == {}, done.stderr
