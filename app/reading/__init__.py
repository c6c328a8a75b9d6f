"""FHIR in: bytes to Courses, and what was set aside, and why."""
