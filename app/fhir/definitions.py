"""What the service publishes about itself as FHIR."""

from __future__ import annotations

from typing import Any

from app import __version__
from app.fhir.outcome import BASE


def capability_statement(server: str) -> dict[str, Any]:
    """The CapabilityStatement: exactly what answers at this server."""
    return {
        "resourceType": "CapabilityStatement",
        "url": f"{BASE}/CapabilityStatement/maa-assess",
        "version": __version__,
        "name": "MaaAssess",
        "title": "maa-assess",
        "status": "active",
        "date": "2026-11-24",
        "description": "Assesses blood counts against published definitions of aplastic anemia. "
        "Research criteria: a decision aid, not a diagnosis.",
        "kind": "instance",
        "software": {"name": "maa-assess", "version": __version__},
        "implementation": {"description": "maa-assess", "url": f"{server}/fhir"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "operation": [
                    {"name": name, "definition": f"{BASE}/OperationDefinition/{name}"}
                    for name in ("assess-eligibility", "assess-response")
                ],
                "resource": [
                    {
                        "type": "Measure",
                        "operation": [
                            {
                                "name": "evaluate-measure",
                                "definition": "http://hl7.org/fhir/OperationDefinition/"
                                "Measure-evaluate-measure",
                            }
                        ],
                    }
                ],
            }
        ],
    }
