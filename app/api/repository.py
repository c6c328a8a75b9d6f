"""CRMI's operations on definitions over HTTP: `$package` and `$data-requirements`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.definitions import BODIES, documented, query_parameter
from app.api.fhir_json import answer_with, cacheable, has_body, require_json_accepted
from app.body import FHIR_JSON, body_of
from app.fhir.json import Json
from app.fhir.outcome import Fault, RequestError
from app.publishing.crmi import CANONICAL_TYPES
from app.publishing.repository import TAKEN, Given, packaged, required
from app.reading.bundles import decode_body

router = APIRouter(tags=["definitions"])
_ANSWERS: Mapping[str, Callable[[str, Given], Json]] = MappingProxyType(
    {"package": packaged, "data-requirements": required}
)
_ABOUT = MappingProxyType(
    {
        "package": (
            "A definition with all that it depends on",
            "Bundle (transaction) of the definition and what it depends on.",
        ),
        "data-requirements": (
            "What a definition depends on, and the data it needs",
            "Library (module-definition) that says so.",
        ),
    }
)
_PARAMETERS = MappingProxyType(
    {
        "id": "The id of the definition.",
        "url": "Its canonical; its version may follow behind a bar.",
        "version": "Its version.",
        "include": "Only these of what is packaged: all, artifact, canonical, terminology, "
        "conformance, profiles, extensions, knowledge, tests or examples.",
        "offset": "How many to leave out, from the first.",
        "count": "How many at the most; 0 asks how many there are.",
        "packageOnly": "Only what is defined here, true or false: nothing else is packaged.",
    }
)
_OF_HTTP = frozenset({"_format", "_pretty"})
_ID: Json = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _offer(kind: str, operation: str) -> None:
    """One operation of a type, at the type and at one definition, by GET and by POST."""
    summary, answer = _ABOUT[operation]
    queries = [query_parameter(name, _PARAMETERS[name]) for name in TAKEN[operation]]
    missing = {"404": "OperationOutcome: no such definition"}

    async def by_get(request: Request) -> Response:
        require_json_accepted(request)
        given = _of_one(request, _in_query(request))
        return cacheable(request, _ANSWERS[operation](kind, given))

    async def by_post(request: Request) -> Response:
        require_json_accepted(request)
        given = _of_one(request, _in_query(request))
        if has_body(request):
            for name, values in (await _in_body(request)).items():
                given.setdefault(name, []).extend(values)
        return answer_with(request, _ANSWERS[operation](kind, given))

    for place, of, path in (("", "", []), ("/{id}", "-of-one", [_ID])):
        address, name = f"/fhir/{kind}{place}/${operation}", f"{operation}-{kind}{of}"
        told = documented(answer, *path, *queries, **missing)
        router.get(address, operation_id=name, summary=summary, **told)(by_get)
        again = "The same, with the parameters in the body"
        told = documented(answer, *path, *queries, **missing, **BODIES)
        told["openapi_extra"]["requestBody"] = {
            "content": {FHIR_JSON: {"schema": {"type": "object", "description": "Parameters"}}}
        }
        router.post(address, operation_id=f"{name}-by-post", summary=again, **told)(by_post)


for _kind in CANONICAL_TYPES:
    for _operation in TAKEN:
        _offer(_kind, _operation)


def _of_one(request: Request, given: dict[str, list[str]]) -> dict[str, list[str]]:
    """The parameters, with the id where it stands in the address."""
    if "id" in request.path_params:
        given.setdefault("id", []).append(request.path_params["id"])
    return given


def _in_query(request: Request) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name not in _OF_HTTP:
            given.setdefault(name, []).append(value)
    return given


async def _in_body(request: Request) -> dict[str, list[str]]:
    """The values of a body's Parameters, by name, as text; RequestError 400 for what has none."""
    given: dict[str, list[str]] = {}
    async with body_of(request) as body:
        decoded = decode_body(body.plain())
    if decoded.resourceType != "Parameters":
        raise RequestError(400, Fault("invalid", "The body is Parameters.", "resourceType"))
    for index, parameter in enumerate(decoded.parameter):
        value = parameter.value()
        if parameter.name and not isinstance(value, str) and parameter.name in _PARAMETERS:
            place = f"Parameters.parameter[{index}]"
            text = f"'{parameter.name}' has one value of its type."
            raise RequestError(400, Fault("invalid", text, place))
        given.setdefault(parameter.name or "", []).append(str(value))
    return given
