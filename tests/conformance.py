"""Checks a FHIR R4 (4.0.1) resource with tools and definitions this project did not write.

`faults` asks three independent judges, since each is blind where another sees: the `fhir.resources`
models know which elements are required and which dates exist; HL7's JSON schema knows every element
name, required code and lexical form; HL7's invariants, run by `fhirpathpy`, know how elements
depend on one another. The definitions lie in `r4/`, whose README tells their origin.
"""

from __future__ import annotations

import copy
import functools
import json
import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fhirpathpy
from fhir.resources.R4B import get_fhir_model_class
from fhirpathpy.engine.nodes import ResourceNode, TypeInfo
from fhirpathpy.models import models
from jsonschema import Draft6Validator
from pydantic import ValidationError

Json = Any

_DATA = Path(__file__).parent / "r4"
_XHTML = "{http://www.w3.org/1999/xhtml}"
_XML = "{http://www.w3.org/XML/1998/namespace}"
# Attributes that hold an address, where a script may hide behind its scheme.
_ADDRESSES = frozenset({"cite", "href", "longdesc", "src", "usemap"})
_ACTIVE = re.compile(r"^\s*(javascript|vbscript|data:text)", re.IGNORECASE)


def faults(resource: dict[str, Json], resolve: bool = True) -> list[str]:
    """Every fault of the resource as "path: message"; an empty list for a valid one.

    Constraints that R4 gives as warnings (best practice) are no faults. With `resolve`, neither a
    `urn:uuid:` nor a `urn:oid:` reference of a Bundle may point to an entry that is not there.
    """
    kind = resource.get("resourceType")
    if not isinstance(kind, str):
        return ["(root): no resourceType"]
    # The engine is documented to annotate what it is given.
    resource = copy.deepcopy(resource)
    found = list(_json_faults(resource, kind))
    if kind not in _kinds():
        return [*found, f"{kind}: not among the resource types this checker has definitions of"]
    nodes = list(_nodes(kind, resource, kind, kind, resource, resource))
    for node in nodes:
        if node.value is node.resource:
            found += _resource_faults(node.value, node.where)
    for node in nodes:
        found += _invariant_faults(node)
    if resolve and kind == "Bundle":
        found += _reference_faults(nodes)
    return list(dict.fromkeys(found))


# --- The definitions -------------------------------------------------------------------------


@functools.cache
def _definitions() -> dict[str, Json]:
    schema = json.loads((_DATA / "fhir.schema.json").read_text(encoding="utf-8"))
    anchored: dict[str, Any] = _anchored(schema["definitions"])
    return anchored


def _anchored(schema: Json) -> Json:
    """The schema with its patterns as R4 means them.

    In Python `$` matches before a final newline too; and `\\S` has to take in the no-break space,
    which R4's own resources use, since space means the ASCII ones there.
    """
    if isinstance(schema, dict):
        return {
            key: "(?a)" + re.sub(r"\$$", r"\\Z", value)
            if key == "pattern" and isinstance(value, str)
            else _anchored(value)
            for key, value in schema.items()
        }
    return [_anchored(item) for item in schema] if isinstance(schema, list) else schema


@functools.cache
def _kinds() -> frozenset[str]:
    return frozenset(_target(one) or "" for one in _definitions()["ResourceList"]["oneOf"])


def _target(schema: dict[str, Json]) -> str | None:
    """The definition that a property's schema, or that of its items, refers to."""
    ref = schema.get("items", schema).get("$ref")
    return ref.rsplit("/", 1)[-1] if ref else None


@functools.cache
def _paths() -> dict[str, str]:
    """The definitions' element paths: `Observation_ReferenceRange` is Observation.referenceRange.

    A definition that is used twice keeps the path where it is defined, which is the shorter one,
    as the engine's model and the invariants do.
    """
    paths = {name: name for name in _definitions() if "_" not in name}
    queue = list(paths)
    for name in queue:
        for prop, schema in _definitions()[name].get("properties", {}).items():
            target = _target(schema)
            if target and target not in paths:
                paths[target] = f"{paths[name]}.{prop}"
                queue.append(target)
    return paths


@functools.cache
def _validator(kind: str) -> Draft6Validator:
    # A resource within a resource is validated on its own by its type: the schema's choice among
    # all types is slow, and names none of the faults when it fails.
    definitions = {**_definitions(), "ResourceList": {"type": "object"}}
    return Draft6Validator({"$ref": f"#/definitions/{kind}", "definitions": definitions})


@dataclass(frozen=True)
class _Invariant:
    key: str
    human: str
    expression: str
    holds: Callable[[_Node], bool]


@functools.cache
def _invariants() -> dict[str, list[_Invariant]]:
    table = tomllib.loads((_DATA / "invariants.toml").read_text(encoding="utf-8"))
    by_path: dict[str, list[_Invariant]] = {}
    for row in table["invariant"]:
        if row["severity"] != "error":
            continue
        holds = _BY_HAND.get(row["key"]) or _engine(row["expression"])
        invariant = _Invariant(row["key"], row["human"], row["expression"], holds)
        for path in row["on"]:
            by_path.setdefault(path, []).append(invariant)
    return by_path


@functools.cache
def _xhtml() -> dict[str, frozenset[str]]:
    table = tomllib.loads((_DATA / "xhtml.toml").read_text(encoding="utf-8"))
    return {element: frozenset(attributes) for element, attributes in table.items()}


# --- The nodes of a resource -----------------------------------------------------------------


@dataclass(frozen=True)
class _Node:
    """One element, with what the definitions and the engine need to know of its place."""

    value: Json
    where: str
    path: str
    """The path of its definition: a type's name, or the place of a backbone element."""
    element: str
    """The path of the element that holds it: Bundle.entry.link for a Bundle_Link."""
    resource: dict[str, Json]
    root: dict[str, Json]
    """The resource itself, or the one that contains it: FHIRPath's %rootResource."""


def _nodes(
    definition: str,
    value: Json,
    where: str,
    element: str,
    resource: dict[str, Json],
    root: dict[str, Json],
) -> Iterator[_Node]:
    path = _paths().get(definition, definition)
    yield _Node(value, where, path, element, resource, root)
    if not isinstance(value, dict):
        return
    properties = _definitions()[definition].get("properties", {})
    for prop, content in value.items():
        if prop not in properties:
            continue
        target = _target(properties[prop]) or "string"
        items = list(enumerate(content)) if isinstance(content, list) else [(None, content)]
        for index, item in items:
            place = f"{where}.{prop}" if index is None else f"{where}.{prop}[{index}]"
            if item is None:
                continue
            if target != "ResourceList":
                yield from _nodes(target, item, place, f"{path}.{prop}", resource, root)
            elif isinstance(item, dict):
                kind = str(item.get("resourceType"))
                inner_root = root if prop == "contained" else item
                if kind in _kinds():
                    yield from _nodes(kind, item, place, kind, item, inner_root)
                else:
                    # Kept as a resource, for the fault that its type deserves.
                    yield _Node(item, place, kind, kind, item, inner_root)


# --- The judges ------------------------------------------------------------------------------


def _json_faults(value: Json, where: str, sibling: bool = False) -> Iterator[str]:
    """The rules of FHIR's JSON form that the schema leaves out: nothing is empty, nor null."""
    if value is None:
        yield f"{where}: null"
    elif value in ("", [], {}):
        yield f"{where}: empty {'string' if value == '' else 'array' if value == [] else 'object'}"
    elif isinstance(value, dict):
        for key, content in value.items():
            twin = value.get(key[1:] if key.startswith("_") else f"_{key}")
            yield from _json_faults(content, f"{where}.{key}", isinstance(twin, list))
    elif isinstance(value, list):
        if all(item is None for item in value):
            yield f"{where}: nothing but null"
        for index, item in enumerate(value):
            # Null fills the gaps between a list of primitives and that of their extensions.
            if item is not None or not sibling:
                yield from _json_faults(item, f"{where}[{index}]")


def _resource_faults(resource: dict[str, Json], where: str) -> Iterator[str]:
    kind = str(resource.get("resourceType"))
    if kind not in _kinds():
        yield f"{where}: {kind} is not a resource type this checker has definitions of"
        return
    for error in _validator(kind).iter_errors(resource):
        yield f"{where}{_place(error.absolute_path)}: {_short(error.message)} (schema)"
    try:
        get_fhir_model_class(kind).model_validate(resource)
    except ValidationError as failure:
        for problem in failure.errors():
            yield f"{where}{_place(problem['loc'])}: {_short(problem['msg'])} (model)"
    # The models trip over a resource type they do not know instead of reporting it.
    except Exception as failure:  # noqa: BLE001
        yield f"{where}: could not be parsed: {_short(repr(failure))} (model)"


def _place(steps: Any) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _short(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:300]}…"


def _invariant_faults(node: _Node) -> Iterator[str]:
    invariants = [*_invariants().get(node.path, [])]
    if node.element != node.path:
        invariants += _invariants().get(node.element, [])
    for invariant in invariants:
        try:
            holds = invariant.holds(node)
        # A malformed value can trip the engine in any way, and a checker that dies of one fault
        # would hide the others; one that stays silent would hide this.
        except Exception as failure:  # noqa: BLE001
            yield f"{node.where}: {invariant.key} could not be evaluated: {failure!r}"
            continue
        if not holds:
            yield f"{node.where}: {invariant.key}: {invariant.human}"


def _engine(expression: str) -> Callable[[_Node], bool]:
    # R4 writes `as` where it means a filter of many items; the engine holds `as` to the
    # FHIRPath rule of a single item, as later FHIR releases do, which therefore write `ofType`.
    compiled = fhirpathpy.compile(
        re.sub(r"(?<=\))\.as\(", ".ofType(", expression),
        models["r4"],
        {
            # Without one the engine prints what R4's expressions trace.
            "traceFn": lambda *_: None,
            # FHIR's addition to FHIRPath, which the engine lacks.
            "userInvocationTable": {"hasValue": {"fn": _has_value, "arity": {0: []}}},
        },
    )

    def holds(node: _Node) -> bool:
        # The engine sets this only once it has met an `is`, but `ofType` needs it as well.
        TypeInfo.model = models["r4"]  # type: ignore[assignment]
        result = compiled(
            ResourceNode.create_node(node.value, node.path),  # type: ignore[no-untyped-call]
            {"resource": node.resource, "rootResource": node.root},
        )
        # As in HL7's validator: an empty result does not hold, a lone value that is no boolean does
        return bool(result) and result != [False]

    return holds


def _has_value(items: list[Json]) -> list[bool]:
    return [len(items) == 1 and items[0] is not None and not isinstance(items[0], dict)]


def _allowed_xhtml(node: _Node) -> bool:
    """txt-1: the engine has no htmlChecks(), so that the elements are held to R4's own table."""
    # The XML has no document type, hence neither entities of its own.
    if "<!DOCTYPE" in node.value:
        return False
    try:
        div = ET.fromstring(node.value)
    except ET.ParseError:
        return False
    return div.tag == f"{_XHTML}div" and all(_allowed_element(one) for one in div.iter())


def _allowed_element(element: ET.Element) -> bool:
    if not isinstance(element.tag, str) or not element.tag.startswith(_XHTML):
        return False
    allowed = _xhtml().get(element.tag.removeprefix(_XHTML))
    return allowed is not None and all(
        name.replace(_XML, "xml:") in allowed and not (name in _ADDRESSES and _ACTIVE.match(text))
        for name, text in element.items()
    )


def _has_content(node: _Node) -> bool:
    """txt-2: text that is not all space, or an image."""
    try:
        div = ET.fromstring(node.value)
    except ET.ParseError:
        # Already a fault by txt-1.
        return True
    return bool("".join(div.itertext()).strip()) or div.find(f".//{_XHTML}img") is not None


def _low_below_high(node: _Node) -> bool:
    """rng-2: the engine cannot order quantities. Those of different units are left unjudged."""
    low, high = node.value.get("low"), node.value.get("high")
    if not low or not high or "value" not in low or "value" not in high:
        return True
    same = all(low.get(part) == high.get(part) for part in ("system", "code", "unit"))
    return not same or bool(low["value"] <= high["value"])


_BY_HAND: dict[str, Callable[[_Node], bool]] = {
    "rng-2": _low_below_high,
    "txt-1": _allowed_xhtml,
    "txt-2": _has_content,
}


def _is_entry(node: _Node) -> bool:
    return node.path == "Bundle.entry" and isinstance(node.value, dict)


def _reference_faults(nodes: list[_Node]) -> Iterator[str]:
    """The references by a bundle-local name that none of its entries bears."""
    urls = {str(node.value.get("fullUrl")) for node in nodes if _is_entry(node)}
    for node in nodes:
        reference = node.value.get("reference") if isinstance(node.value, dict) else None
        if (
            node.path == "Reference"
            and isinstance(reference, str)
            and reference.startswith(("urn:uuid:", "urn:oid:"))
            # A fragment names a resource contained in the entry's.
            and reference.partition("#")[0] not in urls
        ):
            yield f"{node.where}.reference: {reference} is the fullUrl of no entry"
