"""Requests made from our OpenAPI document, fitting it and breaking it, to the running service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.tools import require_modules

# Of each address; `schemathesis run` with more of them takes as long as it is given.
EXAMPLES = 5


def test_no_request_made_from_the_openapi_document_is_answered_against_it(
    server: str, tmp_path: Path
) -> None:
    """Every check of schemathesis; the same requests each time."""
    require_modules("schemathesis")
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(Path(__file__).with_name("schemathesis.toml"))),
        *("run", str(ROOT / "openapi" / "openapi.json"), "--url", server),
        *("--checks", "all", "--seed", "1", "--max-examples", str(EXAMPLES)),
        *("--continue-on-failure", "--generation-database", "none", "--no-color"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
