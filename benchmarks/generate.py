"""Seeded synthetic Bundles that look like a laboratory's: the same seed makes the same bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

Json = dict[str, Any]

# LOINC, its display, decimals, unit, the range values are drawn from, the laboratory's normal.
ANALYTES = (
    ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", 1, "10*3/uL",
     (1.2, 6.5), (4.5, 11.0)),
    ("751-8", "Neutrophils [#/volume] in Blood by Automated count", 2, "10*3/uL",
     (0.3, 1.2), (1.8, 7.7)),
    ("777-3", "Platelets [#/volume] in Blood by Automated count", 0, "10*3/uL",
     (12, 160), (150, 400)),
    ("718-7", "Hemoglobin [Mass/volume] in Blood", 1, "g/dL",
     (6.5, 12.5), (12.0, 16.0)),
    ("60474-4", "Reticulocytes [#/volume] in Blood by Automated count", 0, "10*9/L",
     (15, 90), (30, 100)),
)  # fmt: skip
# What most of a hospital's results are, of patients whose blood counts are normal.
CHEMISTRY = (
    ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", 0, "mg/dL", (70, 140), (70, 99)),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", 2, "mg/dL", (0.5, 1.6), (0.6, 1.2)),
    ("2951-2", "Sodium [Moles/volume] in Serum or Plasma", 0, "mmol/L", (130, 148), (136, 145)),
    ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", 1, "mmol/L", (3.2, 5.4), (3.5, 5.1)),
    ("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", 0, "U/L",
     (8, 70), (7, 56)),
    ("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma", 1, "mg/L", (0.2, 60), (0, 5)),
)  # fmt: skip
NORMAL = (
    ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", 1, "10*3/uL",
     (4.0, 12.0), (4.5, 11.0)),
    ("751-8", "Neutrophils [#/volume] in Blood by Automated count", 2, "10*3/uL",
     (1.8, 4.0), (1.8, 7.7)),  # never more than the leukocytes
    ("777-3", "Platelets [#/volume] in Blood by Automated count", 0, "10*3/uL",
     (130, 420), (150, 400)),
    ("718-7", "Hemoglobin [Mass/volume] in Blood", 1, "g/dL",
     (10.0, 16.5), (12.0, 16.0)),
)  # fmt: skip
DAYS_BETWEEN_DRAWS = 7
FIRST_DAY = date(2020, 1, 6)


def bundle(observations: int = 40, patients: int = 1, seed: int = 2003) -> bytes:
    """A collection Bundle of full Observations, about 1.6 kB each, spread over the patients.

    Every patient's blood is drawn once a week, and every draw gives one of each of ANALYTES.
    """
    rng = random.Random(seed)  # noqa: S311 test data, no secret
    each = observations // patients
    entries = [entry for n in range(patients) for entry in entries_of(rng, n, each)]
    whole = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return json.dumps(whole, separators=(",", ":")).encode()


def entries_of(
    rng: random.Random, number: int, observations: int, analytes: tuple[Any, ...] = ANALYTES
) -> Iterator[Json]:
    """One patient's entries, with Observations of one draw after the other."""
    patient = f"{rng.randrange(16**8):08x}-{number}"
    first = FIRST_DAY + timedelta(days=rng.randrange(1500))
    for index in range(observations):
        draw, analyte = divmod(index, len(analytes))
        day = (first + timedelta(days=draw * DAYS_BETWEEN_DRAWS)).isoformat()
        resource = _observation(rng, patient, draw, day, analytes[analyte])
        yield {"fullUrl": f"https://lab.example/fhir/Observation/{resource['id']}",
               "resource": resource}  # fmt: skip


def _observation(rng: random.Random, patient: str, draw: int, day: str, analyte: Any) -> Json:
    loinc, display, decimals, unit, (least, most), (low, high) = analyte
    value = round(rng.uniform(least, most), decimals)
    flag = "L" if value < low else "N"
    coded_unit = {"unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    terminology = "http://terminology.hl7.org/CodeSystem"
    return {
        "resourceType": "Observation",
        "id": f"{patient}-{draw}-{loinc}",
        "meta": {
            "versionId": "1",
            "lastUpdated": f"{day}T09:{draw % 60:02}:12.345+01:00",
            "source": "#laboratory-interface",
            "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"],
        },
        "identifier": [
            {
                "use": "official",
                "system": "https://lab.example/results",
                "value": f"{rng.randrange(10**11):011}",
            }
        ],
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": f"{terminology}/observation-category",
                        "code": "laboratory",
                        "display": "Laboratory",
                    }
                ],
                "text": "Laboratory",
            }
        ],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": loinc, "display": display}],
            "text": display.split(" [")[0],
        },
        "subject": {"reference": f"Patient/{patient}"},
        "encounter": {"reference": f"Encounter/{patient}-{draw}"},
        "effectiveDateTime": f"{day}T08:{draw % 60:02}:00+01:00",
        "issued": f"{day}T09:{draw % 60:02}:00+01:00",
        "performer": [{"reference": "Organization/laboratory", "display": "Central laboratory"}],
        "valueQuantity": {"value": int(value) if decimals == 0 else value, **coded_unit},
        "interpretation": [
            {
                "coding": [
                    {"system": f"{terminology}/v3-ObservationInterpretation", "code": flag}
                ]
            }
        ],
        "specimen": {"reference": f"Specimen/{patient}-{draw}"},
        "referenceRange": [
            {
                "low": {"value": low, **coded_unit},
                "high": {"value": high, **coded_unit},
                "type": {
                    "coding": [
                        {"system": f"{terminology}/referencerange-meaning", "code": "normal"}
                    ]
                },
                "text": f"{low} - {high} {unit}",
            }
        ],
    }  # fmt: skip
