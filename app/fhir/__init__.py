"""The words of FHIR that reading and writing share: codes, units, maps, times, outcomes."""
