"""The definitions over HTTP: read, searched, in part (`_summary`, `_elements`), with an ETag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from app.api.fhir_json import answer_with, cacheable, require_json_accepted
from app.api.strict import asks_strict
from app.body import FHIR_JSON, FORM, form_of
from app.fhir.json import Json
from app.fhir.outcome import Fault, RequestError
from app.publishing.capabilities import capability_statement
from app.publishing.definitions import DEFINITION_TYPES, EMPTY_TYPES, definitions
from app.publishing.searching import found_by, known, parameters_of

router = APIRouter(tags=["definitions"])

_SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
_SUMMARIES = ("true", "false", "text", "data", "count")
_EVERYWHERE = {"_format", "_pretty", "_summary", "_elements"}


def query_parameter(name: str, text: str, **schema: Any) -> Json:
    """What OpenAPI says of a parameter of the query."""
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string"} | schema}


def documented(answer: str, *parameters: Json, **named: str) -> dict[str, Any]:
    """What OpenAPI says of a definition's address; `named` are further answers, by their status."""
    fhir: Json = {FHIR_JSON: {"schema": {"type": "object"}}}
    generic = {"200": {"application/json": {"schema": {"type": "object"}}}}
    told = {
        "200": answer,
        "400": "OperationOutcome: a parameter that is not understood",
        "406": "OperationOutcome: no JSON accepted",
    } | named
    return {
        "response_class": Response,
        "openapi_extra": {
            "parameters": [*parameters, *_ALWAYS],
            "responses": {
                status: {"description": text, "content": fhir | generic.get(status, {})}
                for status, text in told.items()
            },
        },
    }


_ALWAYS = (
    query_parameter("_format", f"The media type: json, {FHIR_JSON} or application/json."),
    query_parameter("_pretty", "'true' indents."),
)
_IN_PART = (
    query_parameter(
        "_summary", "A part of each resource, or only their number.", enum=list(_SUMMARIES)
    ),
    query_parameter("_elements", "Only these elements, between commas."),
)
_SEARCHED = {
    "_id": "Its id.",
    "description": "How its description begins; `description:contains` what stands in it.",
    "identifier": "Its identifier: a value, or `system|value`.",
    "name": "How its name begins, in any case; `name:exact`, `name:contains`.",
    "status": "Its status.",
    "title": "How its title begins, in any case; `title:exact`, `title:contains`.",
    "url": "Its canonical; its version may follow behind a bar.",
    "version": "Its version.",
}
BODIES = {
    "413": "OperationOutcome: the body is too long",
    "415": "OperationOutcome: the body is of another type",
}
_ID: Json = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


@router.get(
    "/fhir/metadata",
    operation_id="metadata",
    summary="What this service can do",
    **documented("The CapabilityStatement.", *_IN_PART),
)
async def metadata(request: Request) -> Response:
    """The CapabilityStatement."""
    require_json_accepted(request)
    settings = request.app.state.settings
    statement = capability_statement(
        _base(request), bool(settings.origins), settings.asks_for_tokens
    )
    return cacheable(request, _partial(request, statement))


class _Id(StringConvertor):
    """What may be an id: `$match` and `_search` are none, and have other methods."""

    regex = r"[^/$_][^/]*"


register_url_convertor("definition", _Id())


def _offer(kind: str) -> None:
    """Search and read of one type; a path of its own, so that what is no type stays unknown."""
    searched = [query_parameter(name, _SEARCHED[name]) for name in parameters_of(kind)]
    searched += _IN_PART

    @router.get(
        f"/fhir/{kind}",
        operation_id=f"search-{kind}",
        summary=f"{kind}: all, or found by {', '.join(parameters_of(kind))}",
        **documented("Bundle (searchset) of what was found.", *searched),
    )
    async def search(request: Request) -> Response:
        require_json_accepted(request)
        return cacheable(request, _searchset(request, kind))

    posted = documented("Bundle (searchset) of what was found.", *searched, **BODIES)
    posted["openapi_extra"]["requestBody"] = {"content": {FORM: {"schema": {"type": "object"}}}}

    @router.post(
        f"/fhir/{kind}/_search",
        operation_id=f"search-{kind}-by-post",
        summary="The same, with the parameters in the body",
        **posted,
    )
    async def search_by_post(request: Request) -> Response:
        # Those of the address hold too.
        query = [*request.query_params.multi_items(), *await form_of(request)]
        whole = Request({**request.scope, "query_string": urlencode(query).encode()})
        require_json_accepted(whole)
        return answer_with(whole, _searchset(whole, kind))

    @router.get(
        f"/fhir/{kind}/{{id:definition}}",
        operation_id=f"read-{kind}",
        summary=f"One {kind}",
        **documented(
            f"The {kind}.", _ID, *_IN_PART, **{"404": "OperationOutcome: no such definition"}
        ),
    )
    async def read(request: Request) -> Response:
        require_json_accepted(request)
        found = _published(request).get((kind, request.path_params["id"]))
        if found is None:
            text = f"No such definition. GET /fhir/{kind} lists what there is."
            raise RequestError(404, Fault("not-found", text))
        return cacheable(request, _partial(request, found))


for _kind in (*DEFINITION_TYPES, *EMPTY_TYPES):
    _offer(_kind)


def _searchset(request: Request, kind: str) -> Json:
    query = request.query_params.multi_items()
    unknown = [name for name, _ in query if name not in _EVERYWHERE and not known(kind, name)]
    if unknown and asks_strict(request):
        taken = ", ".join(parameters_of(kind))
        text = f"{kind} is not searched by '{unknown[0][:60]}', but by {taken}."
        raise RequestError(400, Fault("not-supported", text))
    summary = _summary_asked(request)
    found = found_by(_published(request), kind, query)
    used = [(name, value) for name, value in query if name not in unknown]
    address = f"{_base(request)}/fhir/{kind}"
    bundle: Json = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(found),
        "link": [{"relation": "self", "url": address + (f"?{urlencode(used)}" if used else "")}],
    }
    if found and summary != "count":
        bundle["entry"] = [
            {
                "fullUrl": f"{address}/{one['id']}",
                "resource": _partial(request, one),
                "search": {"mode": "match"},
            }
            for one in found
        ]
    return bundle


def _published(request: Request) -> Mapping[tuple[str, str], Json]:
    own: Mapping[tuple[str, str], Json] = request.app.state.concept_maps
    return {**definitions(), **own} if own else definitions()


def _base(request: Request) -> str:
    address: str = request.app.state.settings.address(str(request.base_url))
    return address


def _partial(request: Request, resource: Json) -> Json:
    """The resource, or the part of it that `_elements` or `_summary` asks for."""
    elements = request.query_params.get("_elements")
    summary = _summary_asked(request)
    if elements:
        names = [
            name.strip().removeprefix(f"{resource['resourceType']}.")
            for name in elements.split(",")
        ]
        return _subset(resource, names)
    if summary == "data":
        return _subset(resource, [name for name in resource if name != "text"])
    if summary == "text":
        return _subset(resource, ["text"])
    if summary == "true":
        return _subset(resource, _model(resource).summary_elements_sequence())
    return resource


def _summary_asked(request: Request) -> str:
    """RequestError 400 for what is no summary."""
    summary = request.query_params.get("_summary", "false")
    if summary not in _SUMMARIES:
        text = f"'_summary' is one of {', '.join(_SUMMARIES)}."
        raise RequestError(400, Fault("value", text))
    return summary


def _subset(resource: Json, names: Sequence[str]) -> Json:
    """These elements and whatever FHIR requires, tagged as a part."""
    fields = _model(resource).model_fields.items()
    required = {
        field.alias or name
        for name, field in fields
        if field.is_required() or (field.json_schema_extra or {}).get("element_required")
    }
    kept = {"resourceType", "id", *required, *names}
    part = {name: value for name, value in resource.items() if name in kept}
    return part | {"meta": {"tag": [_SUBSETTED]}}


def _model(resource: Json) -> Any:
    """The element table of the resource's type."""
    from fhir.resources.R4B import get_fhir_model_class  # noqa: PLC0415 slow to import

    return get_fhir_model_class(resource["resourceType"])
