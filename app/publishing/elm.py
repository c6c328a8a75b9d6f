"""What a CQL library needs, read off its ELM: its parameters, its data, and what it depends on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache

from app.domain.counts import Analyte
from app.fhir.canonicals import BASE
from app.fhir.codes import ANALYTE_LOINC, LOINC, PANEL_LOINC
from app.fhir.json import Json, objects_in
from app.publishing.cql import LibraryText, libraries
from app.publishing.terminology import code_slug

_MODELS = {"FHIR": "http://fhir.org/guides/cqf/common/Library/FHIR-ModelInfo"}
_TRUTH = "{urn:hl7-org:elm-types:r1}Boolean"
_LOGIC = frozenset({"And", "Or", "Xor", "Implies", "Not", "IsTrue", "IsFalse"})
_BOOLEAN = frozenset(
    {
        *_LOGIC,
        *("Exists", "AnyTrue", "AllTrue", "IsNull", "Equal", "Equivalent", "NotEqual"),
        *("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "In", "Contains"),
    }
)


def needs_of(library: LibraryText) -> Json:
    """The elements of its Library that say so; each only where there is something to say."""
    elm = _read(library.elm)
    said = {
        "relatedArtifact": [*_models(elm), *map(_dependency, _included(elm))],
        "parameter": [*_parameters(elm), *_results(library, elm)],
        "dataRequirement": list(_data(library)),
    }
    return {name: value for name, value in said.items() if value}


@cache
def _read(elm: str) -> Json:
    found: Json = json.loads(elm)["library"]
    return found


def _definitions(elm: Json, of: str) -> list[Json]:
    found: list[Json] = elm.get(of, {}).get("def", [])
    return found


def _models(elm: Json) -> Iterator[Json]:
    """FHIR's model information, as the CQL guide says that a library depends on it."""
    for one in _definitions(elm, "usings"):
        if url := _MODELS.get(one["localIdentifier"]):
            yield {
                "type": "depends-on",
                "display": f"{one['localIdentifier']} model information",
                "resource": f"{url}|{one['version']}",
            }


def _included(elm: Json) -> Iterator[LibraryText]:
    by_name = {one.name: one for one in libraries()}
    for one in _definitions(elm, "includes"):
        yield by_name[one["path"]]


def _dependency(library: LibraryText) -> Json:
    return {
        "type": "depends-on",
        "display": library.title,
        "resource": f"{BASE}/Library/{library.name}|{library.version}",
    }


def _parameters(elm: Json) -> Iterator[Json]:
    for one in _definitions(elm, "parameters"):
        type_ = _fhir_type(one["parameterTypeSpecifier"]["name"])
        yield {"name": one["name"], "use": "in", "min": 0, "max": "1", "type": type_}


def _results(library: LibraryText, elm: Json) -> Iterator[Json]:
    """The expressions of a plain type, as what it gives out; of a library for others, none."""
    if any(library in _included(_read(one.elm)) for one in libraries()):
        return
    used = set(_used_as_boolean(elm))
    for one in _definitions(elm, "statements"):
        type_ = _type_of(one["expression"], elm) or ("boolean" if one["name"] in used else None)
        if type_ and "type" not in one:
            yield {"name": one["name"], "use": "out", "min": 0, "max": "1", "type": type_}


def _used_as_boolean(elm: Json) -> Iterator[str]:
    """The names of expressions that logic or a function takes for truths."""
    for part in objects_in(elm):
        operands = part.get("operand", [])
        operands = operands if isinstance(operands, list) else [operands]
        if part.get("type") in _LOGIC:
            yield from _names(operands)
        elif part.get("type") == "FunctionRef":
            for operand, taken in zip(operands, _operands_taken(part, elm), strict=False):
                if taken.get("name") == _TRUTH:
                    yield from _names([operand])
                elif taken.get("elementType", {}).get("name") == _TRUTH:
                    yield from _names(operand.get("element", []))


def _names(operands: Iterable[Json]) -> Iterator[str]:
    for one in operands:
        if one["type"] == "ExpressionRef" and "libraryName" not in one:
            yield one["name"]


def _operands_taken(function: Json, elm: Json) -> list[Json]:
    """The types that a function takes, where it stands in one form alone."""
    named = _named(function, elm)
    operands: list[Json] = named[0].get("operand", []) if len(named) == 1 else []
    return [one.get("operandTypeSpecifier", {}) for one in operands]


def _type_of(expression: Json, elm: Json) -> str | None:
    """FHIR's type of an expression, where its own operator or those within tell it."""
    operator = expression["type"]
    if operator in _BOOLEAN:
        return "boolean"
    if operator == "Literal":
        return _fhir_type(expression["valueType"])
    if operator in {"ExpressionRef", "FunctionRef"}:
        return _referred(expression, elm)
    if operator == "Case":
        parts = [*(item["then"] for item in expression["caseItem"]), expression["else"]]
    elif operator == "If":
        parts = [expression["then"], expression["else"]]
    else:
        return None
    types = {_type_of(part, elm) for part in parts if part["type"] != "Null"}
    return types.pop() if len(types) == 1 else None


def _referred(reference: Json, elm: Json) -> str | None:
    """The type of what another expression, or a function, comes to."""
    named = _named(reference, elm)
    return _type_of(named[0]["expression"], _where(reference, elm)) if len(named) == 1 else None


def _named(reference: Json, elm: Json) -> list[Json]:
    statements = _definitions(_where(reference, elm), "statements")
    return [one for one in statements if one["name"] == reference["name"]]


def _where(reference: Json, elm: Json) -> Json:
    """The library that a reference leads to."""
    if "libraryName" not in reference:
        return elm
    for one, library in zip(_definitions(elm, "includes"), _included(elm), strict=True):
        if one["localIdentifier"] == reference["libraryName"]:
            return _read(library.elm)
    raise KeyError(reference["libraryName"])


def _fhir_type(name: str) -> str:
    """CQL's plain types are FHIR's primitive ones with a great first letter."""
    type_ = name.rpartition("}")[2]
    return f"{type_[0].lower()}{type_[1:]}"


def _data(library: LibraryText) -> Iterator[Json]:
    """What it and what it includes retrieve; of Observations, those whose codes they know."""
    whole = [one.elm for one in _with_included(library)]
    for kind in dict.fromkeys(kind for elm in whole for kind in _retrieved(elm)):
        if kind == "Observation":
            yield from _observations(frozenset().union(*map(_codes, whole)))
        else:
            yield {"type": kind}


def _with_included(library: LibraryText) -> list[LibraryText]:
    found = [library]
    for one in found:
        found += (other for other in _included(_read(one.elm)) if other not in found)
    return found


@cache
def _retrieved(elm: str) -> tuple[str, ...]:
    """The types of what a library itself retrieves: many include the same."""
    retrieves = (one for one in objects_in(_read(elm)) if one.get("type") == "Retrieve")
    return tuple(dict.fromkeys(one["dataType"].rpartition("}")[2] for one in retrieves))


@cache
def _codes(elm: str) -> frozenset[str]:
    """The LOINC that stands in a library itself."""
    return frozenset(row.code for row in ANALYTE_LOINC if f'"{row.code}"' in elm)


def _observations(codes: frozenset[str]) -> Iterator[Json]:
    """A requirement for each count, and one for the panels that have counts as components."""
    for analyte in Analyte:
        if codes & {row.code for row in ANALYTE_LOINC if row.analyte is analyte}:
            value_set = f"{BASE}/ValueSet/{code_slug(analyte)}"
            yield _observation({"valueSet": value_set})
    yield _observation({"code": [{"system": LOINC, "code": code} for code in sorted(PANEL_LOINC)]})


def _observation(filtered: Json) -> Json:
    return {"type": "Observation", "codeFilter": [{"path": "code", **filtered}]}
