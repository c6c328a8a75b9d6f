"""CRMI's two operations on definitions: one with all that it needs, and what it needs of data.

https://hl7.org/fhir/uv/crmi/distribution.html says which references are traced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType

from app.fhir.json import Json, coded
from app.fhir.outcome import Fault, RequestError
from app.publishing.crmi import CANONICAL_TYPES
from app.publishing.definitions import definitions
from app.publishing.terminology import DATE

Given = Mapping[str, Sequence[str]]
"""Parameters as they were sent, by name."""
_WHICH = ("id", "url", "version")
_ONCE = frozenset({*_WHICH, "count", "offset", "packageOnly"})
TAKEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "package": (*_WHICH, "include", "offset", "count", "packageOnly"),
        "data-requirements": _WHICH,
    }
)
"""The parameters of each operation; those of CRMI's that are not among them are refused."""
_MOST_DIGITS = 9
_KNOWLEDGE = frozenset({"Library", "Measure", "PlanDefinition"})


def packaged(kind: str, given: Given) -> Json:
    """A Bundle of a definition and all that it depends on, the definition first.

    It is a transaction that creates what a server does not have yet; with `count` or `offset` a
    collection of a part, and with a count of none a searchset that tells the total. RequestError
    400 for a parameter that is not taken, 404 where there is no such definition.
    """
    artifact = _asked_for("package", kind, given)
    asked = given.get("include", ["all"])
    if not _TYPES.keys() >= set(asked):
        raise RequestError(400, Fault("value", f"'include' is one of {', '.join(_TYPES)}."))
    if given.get("packageOnly", ["true"])[0] not in {"true", "false"}:
        raise RequestError(400, Fault("value", "'packageOnly' is 'true' or 'false'."))
    found = [
        one for one in _with_dependencies(_key(artifact)) if _is_included(one, artifact, asked)
    ]
    offset, count = _number(given, "offset", 0), _number(given, "count", len(found))
    if count == 0 and "count" in given:
        return {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
    part = found[offset : offset + count]
    whole = len(part) == len(found)
    entries = [_created(one) if whole else _held(one) for one in part]
    bundle: Json = {"resourceType": "Bundle", "type": "transaction" if whole else "collection"}
    return bundle | ({"entry": entries} if entries else {})


def required(kind: str, given: Given) -> Json:
    """A module-definition Library: what a definition depends on, and the data that it needs.

    RequestError as of `packaged`.
    """
    return _requirements(_key(_asked_for("data-requirements", kind, given)))


def _asked_for(operation: str, kind: str, given: Given) -> Json:
    """The definition that is asked about."""
    for name, values in given.items():
        if name not in TAKEN[operation]:
            text = (
                f"'{name[:60]}' is not taken by ${operation}: leave it out. It takes "
                f"{', '.join(TAKEN[operation])}; there is one version of each definition here."
            )
            raise RequestError(400, Fault("not-supported", text))
        if name in _ONCE and len(set(values)) > 1:
            raise RequestError(400, Fault("invalid", f"'{name}' is given more than once."))
    if "id" not in given and "url" not in given:
        text = f"Say which {kind}: by 'id' or 'url', or ask at /fhir/{kind}/[id]/${operation}."
        raise RequestError(400, Fault("required", text))
    for one in definitions().values():
        if one["resourceType"] == kind and _is_asked(one, given):
            return one
    text = f"No such definition. GET /fhir/{kind} lists what there is."
    raise RequestError(404, Fault("not-found", text))


def _is_asked(resource: Json, given: Given) -> bool:
    url, _, version = given.get("url", [""])[0].partition("|")
    versions = {version, *given.get("version", ())} - {""}
    return (
        resource["id"] in given.get("id", [resource["id"]])
        and url in {"", resource["url"]}
        and versions <= {resource["version"]}
    )


def _number(given: Given, name: str, default: int) -> int:
    text = given.get(name, [str(default)])[0]
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise RequestError(400, Fault("value", f"'{name}' is a whole number, 0 or more."))
    return int(text)


_TYPES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "all": frozenset(CANONICAL_TYPES),
        "canonical": frozenset(CANONICAL_TYPES),
        "terminology": frozenset({"CodeSystem", "ConceptMap", "ValueSet"}),
        "conformance": frozenset({"StructureDefinition"}),
        "knowledge": _KNOWLEDGE,
        "artifact": frozenset(),
        "profiles": frozenset(),
        "extensions": frozenset(),
        "tests": frozenset(),
        "examples": frozenset(),
    }
)
"""What may be asked to be included, with the types that are meant."""


def _is_included(resource: Json, artifact: Json, asked: Sequence[str]) -> bool:
    kind = resource["resourceType"]
    special = {"artifact": resource is artifact}
    if kind == "StructureDefinition":
        is_extension = resource["type"] == "Extension"
        special |= {"extensions": is_extension, "profiles": not is_extension}
    return any(kind in _TYPES[name] or special.get(name, False) for name in asked)


def _held(resource: Json) -> Json:
    return {"fullUrl": resource["url"], "resource": resource}


def _created(resource: Json) -> Json:
    """An entry by which a server that has no such version of it creates it."""
    unless = f"url={resource['url']}&version={resource['version']}"
    kind = resource["resourceType"]
    return _held(resource) | {"request": {"method": "POST", "url": kind, "ifNoneExist": unless}}


def _key(resource: Json) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


# What a definition depends on


@cache
def _with_dependencies(key: tuple[str, str]) -> tuple[Json, ...]:
    """A definition, then what it depends on: Libraries, terminology, and the rest."""
    found = [definitions()[key]]
    for resource in found:
        found += (one for one in _referred_to(resource) if one not in found)
    order = ("Library", "CodeSystem", "ValueSet", "ConceptMap")
    ranks = {kind: rank for rank, kind in enumerate(order)}
    rest = sorted(found[1:], key=lambda one: ranks.get(one["resourceType"], len(order)))
    return (found[0], *rest)


def _referred_to(resource: Json) -> Iterator[Json]:
    """The definitions of ours that it names anywhere by their canonical."""
    ours = _by_canonical()
    for text in _texts(resource):
        if (one := ours.get(text)) is not None and one is not resource:
            yield one


@cache
def _by_canonical() -> Mapping[str, Json]:
    canonical = [one for one in definitions().values() if one["resourceType"] in CANONICAL_TYPES]
    return {
        name: one for one in canonical for name in (one["url"], f"{one['url']}|{one['version']}")
    }


def _texts(part: object) -> Iterator[str]:
    """Every text in a resource."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for inner in part.values():
            yield from _texts(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _texts(inner)


# What it needs of data


@cache
def _requirements(key: tuple[str, str]) -> Json:
    artifact, *dependencies = _with_dependencies(key)
    whole = (artifact, *dependencies)
    canonicals = [f"{one['url']}|{one['version']}" for one in dependencies]
    found: Json = {
        "resourceType": "Library",
        "title": f"What is needed for: {artifact['title']}"[:200],
        "status": artifact["status"],
        "experimental": artifact["experimental"],
        "type": coded("http://terminology.hl7.org/CodeSystem/library-type", "module-definition"),
        "date": DATE,
        "description": f"The data and the definitions that {artifact['url']}, version "
        f"{artifact['version']}, needs.",
    }
    if "subjectCodeableConcept" in artifact:
        found["subjectCodeableConcept"] = artifact["subjectCodeableConcept"]
    told = {
        "relatedArtifact": [
            {"type": "depends-on", "resource": one}
            for one in dict.fromkeys([*canonicals, *_elsewhere(whole)])
        ],
        "parameter": _each_once(one for part in whole for one in part.get("parameter", ()))
        if artifact["resourceType"] in _KNOWLEDGE
        else [],
        "dataRequirement": _each_once(_data(artifact, dependencies)),
    }
    return found | {name: value for name, value in told.items() if value}


def _data(artifact: Json, dependencies: Sequence[Json]) -> Iterator[Json]:
    """What the Libraries retrieve, what actions take in, and what a Measure's expressions read."""
    for one in (artifact, *dependencies):
        if one["resourceType"] == "Library":
            yield from one.get("dataRequirement", ())
        elif one["resourceType"] == "PlanDefinition":
            yield from _inputs(one)
    if artifact["resourceType"] == "Measure":
        for one in _referred_to(artifact):
            if one.get("derivation") == "constraint" and one["type"] != "Extension":
                yield {"type": one["type"], "profile": [one["url"]]}


def _inputs(action: Json) -> Iterator[Json]:
    yield from action.get("input", ())
    for inner in action.get("action", ()):
        yield from _inputs(inner)


def _elsewhere(resources: Iterable[Json]) -> Iterator[str]:
    """What they depend on that is not ours: a model's information, code systems."""
    ours = _by_canonical()
    for one in resources:
        named = [a["resource"] for a in one.get("relatedArtifact", ()) if "resource" in a]
        named += (part["system"] for part in _includes(one) if "system" in part)
        named += (group["source"] for group in one.get("group", ()) if "source" in group)
        yield from (name for name in named if name not in ours)


def _includes(resource: Json) -> list[Json]:
    found: list[Json] = resource.get("compose", {}).get("include", [])
    return found


def _each_once(found: Iterable[Json]) -> list[Json]:
    once: list[Json] = []
    once += (one for one in found if one not in once)
    return once
