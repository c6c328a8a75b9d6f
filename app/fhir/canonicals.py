"""What our own systems, extensions and measures are called, in answers and in what we publish."""

from __future__ import annotations

BASE = "https://w3id.org/maa-assess"
ASSESSMENT_SYSTEM = f"{BASE}/CodeSystem/assessment"
VERDICT_SYSTEM = f"{BASE}/CodeSystem/verdict"
CRITERION_SYSTEM = f"{BASE}/CodeSystem/criterion"
TRUTH_SYSTEM = f"{BASE}/CodeSystem/truth"
DECIDED_BY = f"{BASE}/StructureDefinition/decided-by"
SUPPORTING_INFO = "http://hl7.org/fhir/StructureDefinition/workflow-supportingInfo"
MEASURE_ID = "maa-hematologic-response"
SCREENING_ID = "maa-screening"
POPULATION_SYSTEM = "http://terminology.hl7.org/CodeSystem/measure-population"
STRATIFIER_SYSTEM = f"{BASE}/CodeSystem/stratifier"
CONFIDENCE_INTERVAL = f"{BASE}/StructureDefinition/confidence-interval"
NOT_EVALUABLE = f"{BASE}/StructureDefinition/not-evaluable"
DEFINITION = f"{BASE}/StructureDefinition/response-definition"
MESSAGES = "http://hl7.org/fhir/StructureDefinition/cqf-messages"
