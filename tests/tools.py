"""What the tests need of the machine beside Python."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest


def require(*programs: str) -> None:
    """Skips the test where a program is missing, saying which; on CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        do_without(f"needs {', '.join(missing)}, not found on this machine")


def chromium() -> str:
    """Where Debian's Chromium is; skips the test, or fails on CI, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        do_without("Chromium is not installed (apt-get install chromium)")
    return str(found)


def require_modules(*modules: str) -> None:
    """Skips the test where a Python module is missing, as `require` does."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        do_without(f"needs {', '.join(missing)}, not installed here")


def require_root() -> None:
    """Skips the test where it is not run by root; on CI that is a failure."""
    if os.geteuid() != 0:
        do_without("needs root")


def do_without(reason: str) -> None:
    """Skips the test; on CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
