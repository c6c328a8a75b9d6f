"""What the tests need of the machine beside Python."""

from __future__ import annotations

import os
import shutil

import pytest


def require(*programs: str) -> None:
    """Skips the test where a program is missing, saying which; on CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    reason = f"needs {', '.join(missing)}, not found on this machine"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
