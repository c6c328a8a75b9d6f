"""The committed OpenAPI document is the service's own, and its example is true."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from app.api.guard import is_open
from app.cli import main
from app.main import create_app

COMMITTED = Path(__file__).resolve().parent.parent / "openapi" / "openapi.json"
# Pages for people, and what they load.
PAGES = {
    "/fhir/.well-known/smart-configuration",
    "/",
    "/explain/{id}",
    "/transparency",
    "/launch",
    "/smart",
    "/web/{version}/{name}",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
}
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The committed document."""
    read: dict[str, Any] = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return read


def test_the_committed_document_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == COMMITTED.read_text(encoding="utf-8")


def test_the_committed_document_is_the_applications_own(document: dict[str, Any]) -> None:
    assert document == json.loads(json.dumps(create_app().openapi()))


def test_the_served_document_is_the_committed_one(
    document: dict[str, Any], http: httpx.Client
) -> None:
    assert http.get("/openapi.json").json() == document


def test_the_example_request_gives_the_example_response(
    document: dict[str, Any], post: Callable[..., httpx.Response]
) -> None:
    operation = document["paths"]["/fhir/$assess-eligibility"]["post"]
    request = operation["requestBody"]["content"]["application/fhir+json"]["example"]
    answer = operation["responses"]["200"]["content"]["application/fhir+json"]["example"]
    response = post(request)
    assert response.status_code == httpx.codes.OK
    assert response.json() == answer


def addresses(routes: Any) -> set[tuple[str, str]]:
    """Every method and path that a router answers; routers inside it are walked too."""
    found: set[tuple[str, str]] = set()
    for route in routes:
        if isinstance(route, APIRoute):
            found |= {(method.lower(), route.path_format) for method in route.methods or ()}
        inner = getattr(route, "original_router", None)
        found |= addresses(inner.routes) if inner is not None else set()
    return found


def test_every_address_of_the_service_is_documented(document: dict[str, Any]) -> None:
    answered = {(m, p) for m, p in addresses(create_app().routes) if p not in PAGES}
    documented = {
        (method, path)
        for path, item in document["paths"].items()
        for method in item.keys() & METHODS
    }
    assert ("post", "/fhir/$assess-eligibility") in answered
    assert answered == documented


def test_a_token_is_documented_wherever_one_may_be_asked_for(document: dict[str, Any]) -> None:
    """What is open to anybody is judged by the service itself: it asks for tokens everywhere else.

    None is needed where nobody is asked who he is: that is the empty choice.
    """
    schemes = document["components"]["securitySchemes"]
    assert {(one["type"], one["scheme"]) for one in schemes.values()} == {("http", "bearer")}
    for path, item in document["paths"].items():
        for method in item.keys() & METHODS:
            choices = item[method].get("security", [{}])
            named = {name for choice in choices for name in choice}
            # Where hooks ask for tokens of their own, discovery does too.
            hooks = path.startswith("/cds-services")
            wanted = {"accessToken"} if not is_open(method.upper(), path) else set()
            assert named == wanted | ({"cdsHooksClient"} if hooks else set()), path
            assert choices[0] == {}, path


def test_every_query_parameter_documented_is_one_the_operation_knows(
    document: dict[str, Any], post: Callable[..., httpx.Response]
) -> None:
    operation = document["paths"]["/fhir/$assess-eligibility"]["post"]
    body = operation["requestBody"]["content"]["application/fhir+json"]["example"]
    for parameter in operation["parameters"]:
        answer = post(body, {parameter["name"]: "!"})
        assert "No parameter has the name" not in answer.text
        default = parameter["schema"].get("default")
        if default is not None:
            assert post(body, {parameter["name"]: str(default)}).content == post(body).content
