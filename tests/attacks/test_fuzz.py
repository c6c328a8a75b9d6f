"""A short run of the fuzzing that `python -m tests.fuzz` makes as long as it is given."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment
from tests.fuzz import TARGETS
from tests.tools import require_modules

RUNS = 500


@pytest.mark.parametrize("target", TARGETS)
def test_whatever_is_spoiled_is_read_or_refused(target: str) -> None:
    """The same inputs each time, as long as the code that they run through is the same."""
    require_modules("atheris")
    command = [sys.executable, "-m", "tests.fuzz", "--runs", str(RUNS), target]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"#{RUNS}" in done.stdout
