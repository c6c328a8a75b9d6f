"""The FHIR server as a source of a patient's data."""
