"""The profiles of our two assessments, and the extensions our answers use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from app.fhir.canonicals import (
    ASSESSMENT_SYSTEM,
    BASE,
    CHARACTERISTIC_DURATION,
    COMBINATION_METHOD,
    COMBINATION_THRESHOLD,
    CONFIDENCE_INTERVAL,
    DECIDED_BY,
    DEFINITION,
    LINK_ID,
    MEASURE_SCORING,
    NOT_EVALUABLE,
    PERIOD,
)
from app.fhir.json import Json
from app.publishing.terminology import defined

_LINKED = (
    "Measure.group",
    "Measure.group.population",
    "Measure.group.stratifier",
    "MeasureReport.group",
    "MeasureReport.group.population",
    "MeasureReport.group.stratifier",
    "MeasureReport.group.stratifier.stratum.population",
)
_HL7 = "http://hl7.org/fhir/StructureDefinition"
_MUST_SUPPORT = (
    "mustSupport here: whoever writes the assessment fills the element wherever the data judged "
    "hold what it tells, and whoever reads it may rely on that, and does not pass it over."
)


def profile_of(assessment: str) -> str:
    """The canonical of the profile of an `eligibility` or `response` assessment."""
    return f"{BASE}/StructureDefinition/{assessment}-assessment"


def profiles() -> Iterator[Json]:
    """Every StructureDefinition."""
    yield _assessment("eligibility", "Assessment of eligibility by blood counts")
    yield _assessment("response", "Assessment of hematologic response by blood counts")
    yield _extension(
        DECIDED_BY,
        "Decided by",
        "A source that decided the criterion, gave the count, or names another cause.",
        "Observation.component",
        "Reference",
    )
    yield _complex_extension(
        PERIOD,
        "Eligibility period",
        "Assessments one after another that come to one verdict: the first and the last day "
        "judged so, how many days were, and the criteria and results that decided the first. What "
        "lies between two assessments is not known.",
        "Observation",
        (
            ("verdict", "Coding"),
            ("period", "Period"),
            ("assessments", "integer"),
            ("criterion", "Coding"),
            ("source", "Reference"),
        ),
        repeated={"criterion", "source"},
    )
    yield _extension(
        DEFINITION,
        "Response definition",
        "The published definition of response that the report applies.",
        "MeasureReport",
        "canonical",
    )
    yield _complex_extension(
        CONFIDENCE_INTERVAL,
        "Confidence interval",
        "The interval of a proportion, its level and the method it was worked out by.",
        "MeasureReport.group.measureScore",
        (("low", "decimal"), ("high", "decimal"), ("level", "decimal"), ("method", "string")),
    )
    yield _complex_extension(
        NOT_EVALUABLE,
        "Not evaluable",
        "A treated patient who is excluded from the denominator, and the reason. A summary does "
        "not say who it is.",
        "MeasureReport",
        (("subject", "Reference"), ("reason", "string")),
        repeated={"subject"},
    )


def cross_version_extensions() -> Iterator[Json]:
    """Elements of R5 and R6, and of DEQM's guide, by HL7's canonicals: no registry has them yet."""
    for url, type_, element, words in (
        (COMBINATION_METHOD, "code", "Group", "all-of, any-of, at-least or at-most"),
        (COMBINATION_THRESHOLD, "positiveInt", "Group", "How many, of at-least or at-most"),
        (CHARACTERISTIC_DURATION, "Duration", "Group.characteristic", "How long it must hold"),
    ):
        name = url.partition("extension-")[2]
        description = (
            f"{words}: stands in R4 for R6's {name}, by the canonical that HL7's rules give it."
        )
        yield _extension(url, f"R6: {name}", description, element, type_) | _stands_in(url)
    for element in _LINKED:
        url = LINK_ID.format(element)
        description = (
            "Which part of the measure this is: stands in R4 for R5's "
            f"{element}.linkId, by the canonical that HL7's rules give it."
        )
        # FHIR allows an id 64 letters, fewer than the longest of these names has.
        short = {"id": f"linkId-{element}"}
        title = f"R5: {element}.linkId"
        yield _extension(url, title, description, element, "string") | _stands_in(url) | short
    scoring = _extension(
        MEASURE_SCORING,
        "DEQM: measure scoring",
        "How the measure is scored: stands for the extension of HL7's Data Exchange for Quality "
        "Measures, universal realm, by its canonical.",
        "MeasureReport",
        "CodeableConcept",
    )
    yield scoring | _stands_in(MEASURE_SCORING)


def _stands_in(url: str) -> Json:
    return {"url": url, "status": "draft", "experimental": True}


def _structure(name: str, title: str, description: str, type_: str) -> Json:
    base = "Extension" if type_ == "Extension" else "Observation"
    return defined("StructureDefinition", name, title, description) | {
        "fhirVersion": "4.0.1",
        "kind": "complex-type" if type_ == "Extension" else "resource",
        "abstract": False,
        "type": type_,
        "baseDefinition": f"{_HL7}/{base}",
        "derivation": "constraint",
    }


def _assessment(name: str, title: str) -> Json:
    description = (
        f"{title}: the verdict, each criterion, each count used, the sources and the citation. "
        f"A decision aid from published criteria, not a diagnosis. {_MUST_SUPPORT}"
    )
    pattern = {"coding": [{"system": ASSESSMENT_SYSTEM, "code": name}]}
    elements: list[Json] = [
        {"id": "Observation", "path": "Observation"},
        _told("text", "What a clinician can read alone", min=1),
        _told(
            "extension",
            "Transfusions and drugs that decided (workflow-supportingInfo); over a life, the "
            "periods of one verdict",
        ),
        _told("status", "The assessment is whole", fixedCode="final"),
        _told("code", "Which assessment", patternCodeableConcept=pattern),
        _told("subject", "The patient, as the data name him", min=1),
        _told("effective[x]", "The day judged", type=[{"code": "dateTime"}]),
        _told(
            "value[x]",
            "The verdict",
            min=1,
            type=[{"code": "CodeableConcept"}],
            binding={
                "strength": "required",
                "valueSet": f"{BASE}/ValueSet/{name}-verdict",
            },
        ),
        _told("note", "What the definition also requires and counts cannot tell", min=1),
        _told("method", "The definition's canonical, and its citation as text", min=1),
        _told("derivedFrom", "Each result judged: of a derived count, all it was worked out from"),
        _told("component", "Each criterion, then each count used", min=1),
        _told("component.extension", "The sources that decided it, or gave the count"),
        _told("component.code", "The criterion's code, or the count's LOINC"),
        _told("component.value[x]", "Met, not met or unknown; or the count in UCUM", min=1),
        _told("component.referenceRange", "The definition's limit, in its own words"),
    ]
    return _structure(f"{name}-assessment", title, description, "Observation") | {
        "differential": {"element": elements}
    }


def _told(name: str, short: str, **constraints: object) -> Json:
    """An element that a reader may rely on; `constraints` in the order FHIR has them."""
    place = f"Observation.{name}"
    return {"id": place, "path": place, "short": short, **constraints, "mustSupport": True}


def _extension(url: str, title: str, description: str, context: str, type_: str) -> Json:
    name = url.rsplit("/", 1)[1]
    return _structure(name, title, description, "Extension") | {
        "context": [{"type": "element", "expression": context}],
        "differential": {
            "element": [
                {"id": "Extension", "path": "Extension", "short": title, "definition": description},
                {"id": "Extension.extension", "path": "Extension.extension", "max": "0"},
                {"id": "Extension.url", "path": "Extension.url", "fixedUri": url},
                _value("Extension", type_),
            ]
        },
    }


def _value(place: str, type_: str) -> Json:
    path = "Extension.extension.value[x]" if ":" in place else "Extension.value[x]"
    return {"id": f"{place}.value[x]", "path": path, "min": 1, "type": [{"code": type_}]}


def _complex_extension(
    url: str,
    title: str,
    description: str,
    context: str,
    parts: Sequence[tuple[str, str]],
    repeated: Collection[str] = (),
) -> Json:
    """Of its parts those that are `repeated` may be there any number of times, or not at all."""
    structure = _extension(url, title, description, context, "string")
    root, _, own_url, _ = structure["differential"]["element"]
    elements: list[Json] = [root]
    for name, type_ in parts:
        place = f"Extension.extension:{name}"
        elements += (
            {
                "id": place,
                "path": "Extension.extension",
                "sliceName": name,
                "min": 0 if name in repeated else 1,
                "max": "*" if name in repeated else "1",
            },
            {"id": f"{place}.extension", "path": "Extension.extension.extension", "max": "0"},
            {"id": f"{place}.url", "path": "Extension.extension.url", "fixedUri": name},
            _value(place, type_),
        )
    elements += (own_url, {"id": "Extension.value[x]", "path": "Extension.value[x]", "max": "0"})
    structure["differential"]["element"] = elements
    return structure
