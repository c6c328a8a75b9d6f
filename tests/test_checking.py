"""`maa-assess check`: whether what the settings name works, a line each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli import main
from tests.conftest import free_port
from tests.test_ehr import Asked, Reply, ordinary, serving

SECRET = "s3cr3t"


def checked(
    capsys: pytest.CaptureFixture[str], **settings: str
) -> tuple[int, list[tuple[str, str]]]:
    """The exit code, and each line: ok or FAILED, and what."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in settings.items():
            patch.setenv(f"MAA_{name.upper()}", text)
        code = main(["check"])
    out = capsys.readouterr().out
    assert SECRET not in out
    return code, [(line.split()[0], line.split(maxsplit=1)[1]) for line in out.splitlines()]


def test_with_the_defaults_there_is_nothing_that_could_fail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert checked(capsys) == (0, [("ok", "settings: 0 are set")])


def test_all_that_works_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    codes = tmp_path / "codes.csv"
    codes.write_text("system,code,loinc\nhttps://lab.example.org,HB,718-7\n")

    def reply(asked: Asked) -> Reply:
        if asked.path == "/jwks":
            return 200, {}, json.dumps({"keys": [{"kty": "EC", "kid": "1"}]}).encode()
        if "/Observation" in asked.path:
            assert asked.headers["authorization"] == f"Bearer {SECRET}"
        return (200, {}, b"{}") if asked.path.endswith("/metadata") else ordinary(asked)

    with serving(reply) as stub:
        jku = stub.base.partition("/fhir")[0] + "/jwks"
        code, lines = checked(
            capsys,
            fhir_server=stub.base,
            fhir_token=SECRET,
            code_maps=str(codes),
            cds_clients=json.dumps([{"iss": "ehr", "jku": jku}]),
            shared_store=f"sqlite://{tmp_path}/shared.db",
        )
    assert (code, {said for said, _ in lines}) == (0, {"ok"}), lines
    assert [what for _, what in lines] == [
        "settings: 5 are set",
        "code maps: 1 files",
        "FHIR server: metadata",
        "FHIR server: a search of Observation with our credentials",
        "keys of the CDS Hooks client ehr",
        "shared store",
    ]


def test_what_does_not_work_is_said_with_the_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refusing(asked: Asked) -> Reply:
        return (200, {}, b"{}") if asked.path.endswith("/metadata") else (401, {}, b"")

    gone = f"http://127.0.0.1:{free_port()}/jwks"
    with serving(refusing) as stub:
        code, lines = checked(
            capsys,
            fhir_server=stub.base,
            fhir_token=SECRET,
            code_maps=str(tmp_path / "none.csv"),
            cds_clients=json.dumps([{"iss": "ehr", "jku": gone}]),
            shared_store="sqlite:///none/such.db",
        )
    assert code == 1
    failed = dict(what.split(": ", 1) for said, what in lines if said == "FAILED")
    assert "refused our credentials (401)" in failed.pop("FHIR server")
    assert "MAA_CODE_MAPS" in failed.pop("code maps")
    assert failed.pop("keys of the CDS Hooks client ehr") == "its address does not answer"
    assert "cannot be opened" in failed.pop("shared store")
    assert not failed


def test_who_may_call_and_what_is_written_down_are_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def issuing(asked: Asked) -> Reply:
        if asked.path.endswith("/introspect"):
            return 200, {}, b'{"active":false}'
        if asked.path.endswith("/metadata"):
            return 200, {}, b"{}"
        keys = {"keys": [{"kty": "EC", "kid": "1"}]}
        told = {"issuer": f"{stub.host}/auth", "jwks_uri": f"{stub.host}/auth/jwks"}
        return 200, {}, json.dumps(keys if asked.path.endswith("/jwks") else told).encode()

    with serving(issuing) as stub:
        given = {
            "auth_issuer": f"{stub.host}/auth",
            "auth_audience": "https://maa.example.org/fhir",
            "auth_introspection_url": f"{stub.host}/auth/introspect",
            "audit_spool": str(tmp_path / "spool"),
        }
        code, lines = checked(capsys, audit=f"file://{tmp_path}/audit.jsonl", **given)
        assert (code, {said for said, _ in lines}) == (0, {"ok"}), lines
        assert len(lines) == 5
        code, lines = checked(capsys, audit=stub.base, **given)
        assert (code, lines[-1]) == (0, ("ok", "audit: metadata of its server"))
        elsewhere = f"{stub.host}/other"
        given |= {"auth_issuer": elsewhere, "auth_introspection_url": f"{stub.host}/auth/jwks"}
        (tmp_path / "file").write_text("")
        given["audit_spool"] = str(tmp_path / "file")
        code, lines = checked(capsys, audit="file:///none/such.jsonl", **given)
    assert code == 1
    failed = dict(what.rsplit(": ", 1) for said, what in lines if said == "FAILED")
    assert failed == {
        f"keys of the issuer of access tokens, {elsewhere}": "its metadata are of another issuer",
        f"audit: the spool in {tmp_path}/file": "File exists",
        "audit: its file": "No such file or directory",
    }


def test_a_server_that_is_not_there_is_asked_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    gone = f"http://127.0.0.1:{free_port()}/fhir"
    code, lines = checked(capsys, fhir_server=gone)
    assert (code, lines[1:]) == (1, [("FAILED", "FHIR server: metadata: it cannot be reached")])


def test_settings_that_are_none_are_told_as_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAA_WINDOWDAYS", "3")
        assert main(["check"]) == 2
    said = capsys.readouterr().err
    assert said == "maa-assess: MAA_WINDOWDAYS is no setting; did you mean MAA_WINDOW_DAYS?\n"
