"""FHIR out: assessments to resources."""
