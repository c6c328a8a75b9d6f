"""Settings: what is wrong is told in a line that names it, and no secret is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr, ValidationError

from app.settings import Settings, SettingsError, read_settings, takes
from tests.conftest import ROOT, environment, free_port

SECRET = "s3cr3t-t0ken"
OPERATIONS = ROOT / "docs/operations.md"
KEY = {"fhir_client_id": "a", "fhir_private_key_file": "b"}
ISSUER = {"auth_issuer": "https://auth.example.org", "auth_audience": "a"}
INTROSPECTION = {
    "auth_introspection_url": "https://auth.example.org/introspect",
    "auth_client_id": "a",
    "auth_client_secret": "b",
}
AUDIT = {"audit": "file:///audit.jsonl", "audit_spool": "spool"}
# What a setting is of no use without.
NEEDED = {
    "smart_issuers": {"smart_client_id": "maa"},
    "smart_client_id": {"smart_issuers": "https://ehr.example.org/r4"},
    **dict.fromkeys(KEY, KEY),
    "auth_issuer": ISSUER,
    "auth_jwks_url": ISSUER,
    "auth_client_id": INTROSPECTION,
    "auth_client_secret": INTROSPECTION,
    **dict.fromkeys(AUDIT, AUDIT),
    "auth_certificate_header": {"trusted_proxies": "127.0.0.1"},
}
TABLE = re.compile(r"(?<=<!-- settings: )(.*?-->\n).*?(?=<!-- end of settings)", re.DOTALL)


def refused(**given: str) -> tuple[str, ...]:
    """What is said of settings that the environment gives."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in given.items():
            patch.setenv(f"MAA_{name.upper()}", text)
        with pytest.raises(SettingsError) as error:
            read_settings()
    return error.value.lines


def table() -> str:
    """Every setting, as docs/operations.md lists them."""
    rows = ["| name | default | effect | takes |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = f"MAA_{name.upper()}"
        secret = " (a secret)" if SecretStr in get_args(field.annotation) else ""
        default = field.default
        shown = "none" if default in (None, ()) else f"`{str(default).lower()}`"
        if isinstance(default, str):
            shown = f"`{default}`"
        effect = " ".join((field.description or "").split())
        words, _, example = takes(name).partition(", such as ")
        rows.append(f"| `{variable}`{secret} | {shown} | {effect} | {words}, such as `{example}` |")
    return "\n".join(rows) + "\n"


def test_every_setting_is_in_the_table_as_the_code_has_it() -> None:
    """`python -m tests.test_settings --rewrite` writes the table anew."""
    text = OPERATIONS.read_text(encoding="utf-8")
    assert TABLE.sub(lambda found: found[1] + table(), text) == text


def test_every_example_and_default_in_the_table_can_be_set() -> None:
    for name, field in Settings.model_fields.items():
        for example in field.examples or ():
            Settings(**NEEDED.get(name, {}) | {name: example})
        assert field.description, name
        assert takes(name)


def ended(command: Sequence[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """A process that ends by itself."""
    return subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=environment() | settings,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "value", "shape", "remedy"),
    [
        ("window_days", "abc", "text of 3 characters", "a whole number of at least 1"),
        ("window_days", "36501", "a whole number of 5 digits", "at most 36500"),
        ("fhir_timeout_seconds", "-1", "below 0", "a number above 0"),
        ("cds_require_jwt", "maybe", "text of 5 characters", "true or false"),
        ("cors_origins", "https://ehr.example.org/", "a URL of 24 characters", "scheme, host and"),
        ("cors_origins", '["https://a"', "JSON of 12 characters", "between commas"),
        ("trusted_hosts", "maa.example.org:8000", "text of 20 characters", "without scheme"),
        ("public_url", "'https://maa'", "with its quotation marks", "http or https URL"),
        ("cds_clients", '[{"iss": "a"}]', "wrong at [0].jku", "a JSON list of objects"),
        ("shared_store", "memcached://secret", "with memcached", "sqlite:///path or redis://"),
        ("fhir_server", "http://fhir.example.org", "with http", "MAA_FHIR_ALLOW_HTTP"),
    ],
)
def test_a_mistake_is_one_line_with_the_name_the_shape_and_the_remedy(
    name: str, value: str, shape: str, remedy: str
) -> None:
    (line,) = refused(**{name: value})
    assert line.startswith(f"MAA_{name.upper()} is ")
    assert shape in line
    assert remedy in line
    assert value not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("MAA_WINDOWDAYS", "MAA_WINDOW_DAYS"), ("MAA_FHIR_TOKENFILE", "MAA_FHIR_TOKEN_FILE")],
)
def test_a_misspelled_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    (line,) = refused(**{name.removeprefix("MAA_"): "3"})
    assert line == f"{name} is no setting; did you mean {nearest}?"


def test_what_an_orchestrator_says_of_a_service_named_maa_is_no_setting() -> None:
    lines = refused(port="tcp://10.0.0.1:80", port_80_tcp_addr="a", service_host="b", ports="80")
    assert [line.split()[0] for line in lines] == ["MAA_PORTS"]


def test_a_secret_is_read_from_a_file_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    monkeypatch.setenv("MAA_FHIR_TOKEN_FILE", str(file))
    settings = read_settings()
    assert settings.fhir_token
    assert settings.fhir_token.get_secret_value() == SECRET
    assert SECRET not in f"{settings} {settings!r} {settings.model_dump()} "


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", None])
def test_a_file_that_holds_no_secret_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    (line,) = refused(fhir_token_file=str(file))
    assert line.startswith("MAA_FHIR_TOKEN_FILE names ")


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    (line,) = refused(fhir_token=SECRET, fhir_token_file=str(file))
    assert line == "MAA_FHIR_TOKEN and MAA_FHIR_TOKEN_FILE are both set: keep one."


def test_every_origin_beside_our_own_credentials_is_refused() -> None:
    (line,) = refused(fhir_server="https://fhir.example.org", cors_origins="*")
    assert "any web page could read patients" in line


def test_a_bad_neighbour_does_not_bring_a_secret_into_the_error() -> None:
    with pytest.raises(ValidationError) as error:
        Settings(fhir_server="http://fhir.example.org", fhir_token=SECRET, window_days=0)
    assert SECRET not in str(error.value)


UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ((sys.executable, "-m", "app.cli", "serve"), 2),
        (UVICORN, 3),
        ((*UVICORN, "--workers", "2"), None),  # how it ends is uvicorn's to say; that it does, ours
    ],
    ids=["serve", "uvicorn", "uvicorn-workers"],
)
def test_a_bad_setting_ends_the_start_in_lines_of_ours(
    command: Sequence[str], status: int | None
) -> None:
    bad = {"MAA_FHIR_SERVER": "http://fhir.example.org", "MAA_FHIR_TOKEN": SECRET}
    done = ended([*command, "--port", str(free_port())], **bad)
    assert status is None or done.returncode == status
    lines = {line for line in done.stderr.splitlines() if not line.startswith(("INFO", "ERROR"))}
    (line,) = lines
    assert line.startswith("maa-assess: MAA_FHIR_SERVER is a URL of 23 characters with http;")
    assert SECRET not in done.stdout + done.stderr


def test_a_key_that_does_not_fit_ends_the_start_in_a_line(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n")
    given = {
        "MAA_FHIR_SERVER": "https://fhir.example.org",
        "MAA_FHIR_CLIENT_ID": "c",
        "MAA_FHIR_PRIVATE_KEY_FILE": str(key),
    }
    command = [sys.executable, "-c", "from app.main import create_app; create_app()"]
    done = ended(command, **given)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "MAA_FHIR_PRIVATE_KEY_FILE: The private key is not a PEM file" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_it_does_not_listen_beyond_loopback_without_being_told(host: str) -> None:
    done = ended([sys.executable, "-m", "app.cli", "serve", "--host", host, "--port", "0"])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert host in line
    assert "MAA_INSECURE=true" in line


if __name__ == "__main__" and "--rewrite" in sys.argv:
    written = OPERATIONS.read_text(encoding="utf-8")
    OPERATIONS.write_text(TABLE.sub(lambda found: found[1] + table(), written), encoding="utf-8")
