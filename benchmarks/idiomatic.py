"""The same service as one would first write it: FastAPI, typed with fhir.resources in and out.

`uvicorn --factory benchmarks.idiomatic:create_app` serves it. It answers less than ours does: a
verdict, its criteria and counts, a short narrative; nothing repaired, doubted or derived.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fastapi import FastAPI
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.observation import Observation

_BASE = "https://w3id.org/maa-assess"
_CODES = {"751-8": "anc", "777-3": "platelets", "718-7": "hemoglobin", "60474-4": "arc"}
_LIMITS = {
    "anc": Decimal("1.2"),
    "platelets": Decimal(70),
    "hemoglobin": Decimal("8.5"),
    "arc": Decimal(60),
}
_CRITERIA = {
    "neutrophils-depressed": ("anc",),
    "platelets-depressed": ("platelets",),
    "red-cells-depressed": ("hemoglobin", "arc"),
}


def validate(body: bytes) -> Bundle:
    """The input alone, read and validated."""
    return Bundle.model_validate_json(body)


def answer_bytes(body: bytes) -> bytes:
    """Bytes in, bytes out, models between."""
    return assess(Bundle.model_validate_json(body)).model_dump_json().encode()


def create_app() -> FastAPI:
    """The service."""
    app = FastAPI()

    @app.post("/fhir/$assess-eligibility")
    async def assess_eligibility(bundle: Bundle) -> Bundle:
        return assess(bundle)

    return app


def assess(bundle: Bundle) -> Bundle:
    """One Observation and one GuidanceResponse for each patient."""
    newest: dict[str, dict[str, Observation]] = {}
    for entry in bundle.entry or ():
        found = entry.resource
        if not isinstance(found, Observation) or found.status != "final" or not found.subject:
            continue
        if not found.valueQuantity or not found.effectiveDateTime:
            continue
        for coding in found.code.coding or ():
            if coding.code in _CODES:
                counts = newest.setdefault(found.subject.reference or "", {})
                old = counts.get(_CODES[coding.code])
                if old is None or old.effectiveDateTime < found.effectiveDateTime:  # type: ignore[operator]
                    counts[_CODES[coding.code]] = found
    entries = []
    for patient, counts in newest.items():
        observation = _observation(patient, counts)
        entries += [{"resource": observation}, {"resource": _guidance(patient, observation)}]
    return Bundle.model_validate({"resourceType": "Bundle", "type": "collection", "entry": entries})


def _observation(patient: str, counts: dict[str, Observation]) -> dict[str, Any]:
    low = {name for name, count in counts.items() if count.valueQuantity.value <= _LIMITS[name]}  # type: ignore[operator, union-attr]
    met = {code: low.issuperset(names) for code, names in _CRITERIA.items()}
    verdict = "eligible" if sum(met.values()) >= 2 else "not-eligible"
    rows = "".join(f"<tr><td>{code}</td><td>{truth}</td></tr>" for code, truth in met.items())
    criteria = [
        {
            "code": _concept("criterion", code),
            "valueCodeableConcept": _concept("truth", "met" if truth else "not-met"),
        }
        for code, truth in met.items()
    ]
    shown = [
        {
            "code": count.code.model_dump(),
            "valueQuantity": count.valueQuantity.model_dump(),  # type: ignore[union-attr]
        }
        for count in counts.values()
    ]
    return {
        "resourceType": "Observation",
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{verdict}</p>'
            f"<table>{rows}</table></div>",
        },
        "status": "final",
        "code": _concept("assessment", "eligibility"),
        "subject": {"reference": patient},
        "effectiveDateTime": max(count.effectiveDateTime for count in counts.values()),  # type: ignore[type-var]
        "valueCodeableConcept": _concept("verdict", verdict),
        "derivedFrom": [{"reference": f"Observation/{count.id}"} for count in counts.values()],
        "component": criteria + shown,
    }


def _guidance(patient: str, observation: dict[str, Any]) -> dict[str, Any]:
    verdict = observation["valueCodeableConcept"]["coding"][0]["code"]
    return {
        "resourceType": "GuidanceResponse",
        "moduleCanonical": f"{_BASE}/PlanDefinition/nih-daclizumab-2003|1.0.0",
        "status": "success",
        "subject": {"reference": patient},
        "contained": [
            {
                "resourceType": "Parameters",
                "id": "output",
                "parameter": [{"name": "verdict", "valueCode": verdict}],
            }
        ],
        "outputParameters": {"reference": "#output"},
    }


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{_BASE}/CodeSystem/{system}", "code": code}]}
