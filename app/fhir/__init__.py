"""The edge: FHIR in, FHIR out."""
