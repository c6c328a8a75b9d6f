"""The services, and the queries whose results a client sends along (prefetch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import quote

from app.asking import ASSESS_ELIGIBILITY, ASSESS_RESPONSE
from app.ehr.searches import SEARCHES, Search, searches
from app.fhir.json import Json
from app.fhir.maps import CodeMap
from app.fhir.outcome import Fault, RequestError
from app.operations import OPERATIONS

HOOK = "patient-view"
# The version of the specification as CDS Hooks 3.0 has services tell it: STU2 is 2.0.
_SPECIFICATION = "STU2"
_TOKEN = "{{context.patientId}}"  # noqa: S105 CDS Hooks' word for a placeholder
_NEWEST_FIRST = {
    "MedicationAdministration": "-effective-time",
    "MedicationRequest": "-authoredon",
    "Condition": "-recorded-date",
}
_SEARCHES = tuple(search for search in SEARCHES if search.name != "medications-taken")


@dataclass(frozen=True, slots=True)
class Service:
    """One service: what a client shows of it, and what it needs to know of a patient."""

    id: str
    title: str
    description: str
    searches: tuple[Search, ...]
    count: int
    """How many results of each search are asked for, the newest first."""
    operation: str
    """What is asked of the patient's data."""
    code_map: CodeMap | None = None
    """The hospital's own codes, which the searches look for and results are read by."""

    @property
    def whole_course(self) -> bool:
        """Whether older results matter too, so that a first page alone does not do."""
        return OPERATIONS[self.operation].whole_course

    @property
    def optional(self) -> frozenset[str]:
        """The prefetch keys without which there is an answer too."""
        return frozenset(search.name for search in self.searches if search.optional)

    def queries(self, patient_id: str) -> dict[str, str]:
        """The prefetch key of each query, and the query for a patient, relative to the server."""
        searched = {search.name: self._query(search, patient_id) for search in self.searches}
        return {"patient": f"Patient/{patient_id}"} | searched

    def _query(self, search: Search, patient_id: str) -> str:
        # Bare codes: a '|' must be escaped in a URL, and clients disagree on who does it. Results
        # of another system's equal code are set aside when they are read.
        codes = ",".join(quote(code, safe="") for code in search.codes)
        of_codes = f"&code={codes}" if codes else ""
        newest_first = _NEWEST_FIRST.get(search.type, "-date")
        return (
            f"{search.type}?patient={patient_id}{of_codes}&_sort={newest_first}&_count={self.count}"
        )


_ELIGIBILITY = Service(
    id="maa-eligibility",
    title="Moderate aplastic anemia by blood counts",
    description="Says whether the patient's newest blood counts meet the published criteria of "
    "moderate aplastic anemia (NIH daclizumab trial, 2003), and which test would settle an open "
    "answer. Research criteria: a decision aid, not a diagnosis.",
    searches=tuple(search for search in _SEARCHES if search.name != "weight"),
    count=100,
    operation=ASSESS_ELIGIBILITY,
)
_RESPONSE = Service(
    id="maa-response",
    title="Response of aplastic anemia to daclizumab by blood counts",
    description="Says whether a patient treated with daclizumab responded by the end point of the "
    "NIH trial of 2003: baseline, now, and the change of each blood count. Suggests no treatment.",
    searches=_SEARCHES,
    count=1000,
    operation=ASSESS_RESPONSE,
)
Services = Mapping[str, Service]
SERVICES: Services = MappingProxyType({one.id: one for one in (_ELIGIBILITY, _RESPONSE)})
"""By their ids."""


def services_with(code_map: CodeMap | None) -> Services:
    """The services, with the hospital's own codes in what they ask for."""
    if code_map is None:
        return SERVICES
    found = {search.name: search for search in searches(code_map)}
    return {
        one.id: replace(
            one, searches=tuple(found[search.name] for search in one.searches), code_map=code_map
        )
        for one in SERVICES.values()
    }


def service_named(service_id: str, services: Services = SERVICES) -> Service:
    """The service of an id; RequestError 404 where there is none."""
    service = services.get(service_id)
    if service is None:
        text = f"No such service. Known: {', '.join(services)}; GET /cds-services tells of them."
        raise RequestError(404, Fault("not-found", text))
    return service


def discovery(services: Services = SERVICES) -> Json:
    """What `GET /cds-services` answers."""
    return {
        "services": [
            {
                "hook": HOOK,
                "title": service.title,
                "description": service.description,
                "id": service.id,
                "prefetch": service.queries(_TOKEN),
                "usageRequirements": "Needs every prefetch key (null where there is no data) but "
                "conditions and medications, without which other causes are not looked for; or "
                "fhirServer and fhirAuthorization of a server that this service is set up to "
                "read; else the answer is 412.",
                "version": _SPECIFICATION,
            }
            for service in services.values()
        ]
    }
