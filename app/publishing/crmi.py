"""What HL7's CRMI 2.0 asks a shareable and publishable definition to say of itself.

Canonical Resource Management Infrastructure, https://hl7.org/fhir/uv/crmi/profiles.html. Where R4
has no element for it, it stands as the extension that the profile names. What CRMI suggests and we
do not say is listed in docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from app.fhir.canonicals import BASE
from app.fhir.json import Json
from app.publishing.terminology import DATE

_EXTENSION = "http://hl7.org/fhir/StructureDefinition"
_CRMI = "http://hl7.org/fhir/uv/crmi"
PACKAGE = f"{_CRMI}/OperationDefinition/crmi-package"
DATA_REQUIREMENTS = f"{_CRMI}/OperationDefinition/crmi-data-requirements"
REPOSITORIES = (
    f"{_CRMI}/CapabilityStatement/crmi-shareable-artifact-repository",
    f"{_CRMI}/CapabilityStatement/crmi-publishable-artifact-repository",
)
HOLDERS = "The maa-assess authors"
_COPYRIGHT = (
    "Copyright 2026 the maa-assess authors. Licensed under the Apache License, Version 2.0."
)
_COPYRIGHT_LABEL = "© 2026 the maa-assess authors, Apache-2.0"
_USAGE_CONTEXT = "http://terminology.hl7.org/CodeSystem/usage-context-type"
_PURPOSES = MappingProxyType(
    {
        "CodeSystem": "That every code of an answer has a meaning that can be looked up.",
        "ConceptMap": "That it can be told as what a code is read, and which codes are not.",
        "Library": "That another engine comes to the same verdicts by counts.",
        "Measure": "That patients are counted alike wherever they are counted.",
        "OperationDefinition": "That a caller knows what may be asked, and with which parameters.",
        "PlanDefinition": "That a published definition is read and applied in its source's words.",
        "StructureDefinition": "That a receiver knows what an answer holds, and can check it.",
        "ValueSet": "That it can be told which codes are read, and that no others are.",
    }
)
CANONICAL_TYPES = tuple(_PURPOSES)
"""The types that CRMI has profiles for, and that we publish."""
# R4's MetadataResources in all but name: they have elements for what others say by extensions.
_WITH_METADATA = frozenset({"Library", "Measure", "PlanDefinition"})
_CAPABILITIES = MappingProxyType(
    {"Library": ("computable", "executable"), "ValueSet": ("computable",)}
)


def profiles_of(kind: str) -> list[str]:
    """The canonicals of CRMI's profiles that every definition of the type follows."""
    name = kind.lower()
    found = [f"{level}{name}" for level in ("shareable", "publishable")]
    found += (f"{level}{name}" for level in _CAPABILITIES.get(kind, ()))
    return [f"{_CRMI}/StructureDefinition/crmi-{one}" for one in found]


def publishable(resource: Json) -> Json:
    """A definition with what CRMI asks of it; what is no canonical resource in R4, as it is.

    What a definition says itself stands: a purpose, an author, extensions of its own. For one
    under a canonical of HL7's we do not vouch.
    """
    kind = resource["resourceType"]
    if kind not in _PURPOSES or not resource["url"].startswith(BASE):
        return resource
    said: Json = {
        "contact": [{"name": HOLDERS, "telecom": [{"system": "url", "value": BASE}]}],
        "useContext": [
            {
                "code": {"system": _USAGE_CONTEXT, "code": "focus", "display": "Clinical Focus"},
                "valueCodeableConcept": {"text": "Aplastic anemia"},
            }
        ],
        "purpose": _PURPOSES[kind],
        "extension": [*_extensions(resource), *resource.get("extension", ())],
    }
    if kind in _WITH_METADATA:
        said |= _dates(resource) | {"author": [{"name": HOLDERS}]}
    if kind != "OperationDefinition":
        said["copyright"] = " ".join(filter(None, (_COPYRIGHT, resource.get("copyright"))))
    kept = {name: resource[name] for name in ("purpose", "author") if name in resource}
    return resource | said | kept


def _dates(resource: Json) -> Json:
    """When it was approved and since when it is meant to be used; a draft is neither."""
    reviewed = {"lastReviewDate": DATE}
    if resource["status"] != "active":
        return reviewed
    return {"approvalDate": DATE, **reviewed, "effectivePeriod": {"start": DATE}}


def _extensions(resource: Json) -> Iterator[Json]:
    kind = resource["resourceType"]
    yield {
        "url": f"{_EXTENSION}/artifact-versionAlgorithm",
        "valueCoding": {"system": "http://hl7.org/fhir/version-algorithm", "code": "semver"},
    }
    for capability in ("shareable", "publishable", *_CAPABILITIES.get(kind, ())):
        yield {"url": f"{_EXTENSION}/cqf-knowledgeCapability", "valueCode": capability}
    level = "executable" if kind == "Library" else "structured"
    yield {"url": f"{_EXTENSION}/cqf-knowledgeRepresentationLevel", "valueCode": level}
    yield {"url": f"{_EXTENSION}/artifact-copyrightLabel", "valueString": _COPYRIGHT_LABEL}
    if kind not in _WITH_METADATA:
        for name, value in _dates(resource).items():
            type_ = "Period" if name == "effectivePeriod" else "Date"
            yield {"url": f"{_EXTENSION}/resource-{name}", f"value{type_}": value}
        author = {"name": HOLDERS}
        yield {"url": f"{_EXTENSION}/artifact-author", "valueContactDetail": author}
    if kind == "OperationDefinition":
        # R4 has no copyright of an operation.
        yield {"url": f"{_EXTENSION}/artifact-copyright", "valueMarkdown": _COPYRIGHT}
