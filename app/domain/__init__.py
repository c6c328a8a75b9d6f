"""The judgement, pure: standard library only; no clock, no FHIR, no input or output."""
