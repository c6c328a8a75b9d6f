"""What a CQL library needs, read off its ELM: its parameters, its data, and what it depends on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

from app.domain.counts import Analyte
from app.fhir.canonicals import BASE
from app.fhir.codes import ANALYTE_LOINC, LOINC, PANEL_LOINC
from app.fhir.json import Json
from app.publishing.cql import LibraryText, libraries
from app.publishing.terminology import code_slug

_MODELS = {"FHIR": "http://fhir.org/guides/cqf/common/Library/FHIR-ModelInfo"}


def needs_of(library: LibraryText) -> Json:
    """The elements of its Library that say so; each only where there is something to say."""
    elm = _read(library.elm)
    said = {
        "relatedArtifact": [*_models(elm), *map(_dependency, _included(elm))],
        "parameter": list(_parameters(elm)),
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
        type_ = one["parameterTypeSpecifier"]["name"].rpartition("}")[2]
        # CQL's own types are FHIR's primitive ones with a great first letter.
        kind = f"{type_[0].lower()}{type_[1:]}"
        yield {"name": one["name"], "use": "in", "min": 0, "max": "1", "type": kind}


def _data(library: LibraryText) -> Iterator[Json]:
    """What it and what it includes retrieve; of Observations, those whose codes they know."""
    read = [_read(one.elm) for one in _with_included(library)]
    retrieved = (one["dataType"].rpartition("}")[2] for elm in read for one in _retrieves(elm))
    for kind in dict.fromkeys(retrieved):
        if kind == "Observation":
            yield from _observations(_codes(library))
        else:
            yield {"type": kind}


def _with_included(library: LibraryText) -> list[LibraryText]:
    found = [library]
    for one in found:
        found += (other for other in _included(_read(one.elm)) if other not in found)
    return found


def _retrieves(part: object) -> Iterator[Json]:
    if isinstance(part, dict):
        if part.get("type") == "Retrieve":
            yield part
        for inner in part.values():
            yield from _retrieves(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _retrieves(inner)


def _codes(library: LibraryText) -> frozenset[str]:
    """The LOINC that stands in it or in what it includes."""
    texts = [one.elm for one in _with_included(library)]
    return frozenset(
        row.code for row in ANALYTE_LOINC if any(f'"{row.code}"' in text for text in texts)
    )


def _observations(codes: frozenset[str]) -> Iterator[Json]:
    """A requirement for each count, and one for the panels that have counts as components."""
    for analyte in Analyte:
        if codes & {row.code for row in ANALYTE_LOINC if row.analyte is analyte}:
            value_set = f"{BASE}/ValueSet/{code_slug(analyte)}"
            yield _observation({"valueSet": value_set})
    yield _observation({"code": [{"system": LOINC, "code": code} for code in sorted(PANEL_LOINC)]})


def _observation(filtered: Json) -> Json:
    return {"type": "Observation", "codeFilter": [{"path": "code", **filtered}]}
