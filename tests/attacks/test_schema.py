"""Requests made from our OpenAPI document, fitting it and breaking it, to the running service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.conftest import ROOT, serving
from tests.test_ehr import serving as telling
from tests.tools import require_modules

# Of each address; `schemathesis run` with more of them takes as long as it is given.
EXAMPLES = 5
# These are one function for every type of definition: a Library's stand for them.
THE_SAME = r"^/fhir/(?!Library)\w+/(.*/)?(_search|\$(package|data-requirements))$"


def broken(url: str, tmp_path: Path, *more: str) -> str:
    """What schemathesis finds, by every check of it and the same requests each time."""
    require_modules("schemathesis")
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(Path(__file__).with_name("schemathesis.toml"))),
        *("run", str(ROOT / "openapi" / "openapi.json"), "--url", url, *more),
        *("--checks", "all", "--seed", "1", "--max-examples", str(EXAMPLES)),
        *("--exclude-path-regex", THE_SAME),
        *("--continue-on-failure", "--generation-database", "none", "--no-color"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.stdout[-5000:] if done.returncode else ""


def test_no_request_made_from_the_openapi_document_is_answered_against_it(
    server: str, tmp_path: Path
) -> None:
    assert broken(server, tmp_path) == ""


@pytest.mark.parametrize("with_token", [True, False], ids=["with a token", "without one"])
def test_it_is_so_too_where_a_token_is_asked_for(with_token: bool, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    known = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "1"}
    issued = {"keys": [known]}
    with telling(lambda _: (200, {}, json.dumps(issued).encode())) as issuer:
        claims = {
            "iss": f"{issuer.host}/auth",
            "aud": "urn:maa",
            "exp": time.time() + 600,
            "client_id": "tester",
            "scope": "system/*.rs",
        }
        token = jwt.encode(claims, key, "ES256", headers={"kid": "1"})
        settings = {
            "MAA_AUTH_ISSUER": str(claims["iss"]),
            "MAA_AUTH_JWKS_URL": f"{issuer.host}/jwks",
            "MAA_AUTH_AUDIENCE": str(claims["aud"]),
        }
        # Who does not say who he is does not learn which methods there are.
        without = ["--exclude-checks", "unsupported_method,allow_header_conformance"]
        more = ["--header", f"Authorization: Bearer {token}"] if with_token else without
        with serving(tmp_path / "log", **settings) as url:
            assert broken(url, tmp_path, *more) == ""
