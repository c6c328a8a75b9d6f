"""Bodies that ask for much with little: each is made of so many parts, which cross-refer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

Json = dict[str, Any]
LOINC = "http://loinc.org"
PLATELETS, HEMOGLOBIN, NEUTROPHILS, LEUKOCYTES = "777-3", "718-7", "751-8", "6690-2"
SHARE, RETICULOCYTES, WEIGHT = "770-8", "60474-4", "29463-7"
_DAY = date(2020, 1, 1)


def bundle(*resources: Json) -> bytes:
    """The resources as a Bundle's JSON."""
    entries = [{"resource": one} for one in resources]
    return json.dumps({"resourceType": "Bundle", "entry": entries}).encode()


def day(number: int) -> str:
    """The date so many days after the first."""
    return (_DAY + timedelta(days=number)).isoformat()


def result(code: str, value: float, when: str = "2020-01-01", **more: Any) -> Json:
    """A count of one patient, in its usual unit."""
    unit = {HEMOGLOBIN: "g/dL", WEIGHT: "kg", SHARE: "%"}.get(code, "10*9/L")
    system = "http://unitsofmeasure.org"
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": when,
        "valueQuantity": {"value": value, "unit": unit, "system": system, "code": unit},
    } | more


def component(code: str) -> Json:
    """A part of a panel that looks like a count and is none."""
    return {"code": {"coding": [{"system": LOINC, "code": code}]}}


def transfusion(number: int, when: str) -> Json:
    return {
        "resourceType": "Procedure",
        "id": f"t{number}",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "12719002"}]},
        "subject": {"reference": "Patient/p"},
        "performedDateTime": when,
    }


def dose(number: int) -> Json:
    return {
        "resourceType": "MedicationAdministration",
        "id": f"d{number}",
        "status": "completed",
        "medicationCodeableConcept": {"text": "daclizumab"},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": day(number),
        "dosage": {"dose": {"value": 70, "unit": "mg", "code": "mg"}},
    }


def contained_patients(n: int) -> bytes:
    """A panel of so many unusable parts, whose patient is the last of as many contained ones."""
    held = [
        {"resourceType": "Patient", "id": f"c{i}", "identifier": [{"value": f"{i}"}]}
        for i in range(n)
    ]
    parts = [component(PLATELETS) for _ in range(n)]
    panel = result(PLATELETS, 20, contained=held, component=parts)
    return bundle(panel | {"subject": {"reference": f"#c{n - 1}"}})


def ring_of_panels(n: int) -> bytes:
    """Panels each of which is a member of the one before; the last closes the ring."""
    panels = []
    for i in range(n):
        member = [{"reference": f"Observation/r{(i + 1) % n}"}]
        panel = result(PLATELETS, 20, id=f"r{i}", hasMember=member)
        if i:
            del panel["subject"], panel["effectiveDateTime"]
        panels.append(panel)
    return bundle(*panels)


def one_version_many_times(n: int) -> bytes:
    """One version of one resource, each time with another value."""
    meta = {"versionId": "1"}
    return bundle(*(result(PLATELETS, i, id="same", meta=meta) for i in range(n)))


def counts_and_transfusions(n: int) -> bytes:
    """Contradictory counts of one moment, after as many transfusions."""
    counts = [result(PLATELETS, 20 + i / 1000) for i in range(n)]
    return bundle(*counts, *(transfusion(i, "2019-12-31") for i in range(n)))


def transfusions_of_many_days(n: int) -> bytes:
    """A count and a transfusion every other week, for years after treatment."""
    counts = [result(PLATELETS, 20, day(14 * i)) for i in range(n)]
    return bundle(*counts, *(transfusion(i, day(14 * i)) for i in range(n)), dose(0))


def doses_and_weights(n: int) -> bytes:
    """A dose in mg and a weight on each of many days."""
    weights = [result(WEIGHT, 70 + i / 1000, day(i)) for i in range(n)]
    return bundle(result(PLATELETS, 20), *weights, *(dose(i) for i in range(n)))


def contradictions_before_and_after(n: int) -> bytes:
    """Contradictory counts of one moment before treatment, and of one after it."""
    before = [result(NEUTROPHILS, 0.1 + i / 100000) for i in range(n)]
    after = [result(NEUTROPHILS, 1 + i / 100000, day(90)) for i in range(n)]
    return bundle(*before, *after, dose(1))


def pairs_of_one_moment(n: int) -> bytes:
    """Leukocytes and neutrophils in percent, which contradict each other again and again."""
    return bundle(
        *(
            one
            for i in range(n)
            for one in (
                result(LEUKOCYTES, 3 + i % 2, id=f"w{i}"),
                result(SHARE, 30, id=f"n{i}"),
            )
        )
    )


def years_of_counts(n: int) -> bytes:
    """Counts of all three lineages every week after one dose, the neutrophils rising."""
    return bundle(
        dose(0),
        *(
            result(code, value, day(7 * i))
            for i in range(n)
            for code, value in (
                (NEUTROPHILS, 0.8 + i / 2000),
                (PLATELETS, 20),
                (HEMOGLOBIN, 8),
                (RETICULOCYTES, 30),
            )
        ),
    )


def _lasting(number: int, first: int, last: int) -> Json:
    """A transfusion that went on for all these days, as a chart may claim."""
    given = transfusion(number, day(first))
    del given["performedDateTime"]
    return given | {"performedPeriod": {"start": day(first), "end": day(last)}}


def lasting_transfusions(n: int) -> bytes:
    """As many days of counts as there are transfusions that last over all of them."""
    counts = [result(PLATELETS, 20, day(i)) for i in range(n)]
    return bundle(dose(0), *counts, *(_lasting(i, 0, n) for i in range(n)))


def lasting_growth_factors(n: int) -> bytes:
    """The same with courses of filgrastim."""
    counts = [result(NEUTROPHILS, 1, day(i)) for i in range(n)]
    courses = []
    for i in range(n):
        course = dose(i + 1) | {"medicationCodeableConcept": {"text": "filgrastim"}}
        del course["effectiveDateTime"]
        courses.append(course | {"effectivePeriod": {"start": day(0), "end": day(n)}})
    return bundle(dose(0), *counts, *courses)


def lasting_statements(n: int) -> bytes:
    """The same with statements that nothing was transfused."""
    counts = [result(PLATELETS, 20, day(i)) for i in range(n)]
    none = [_lasting(i, 0, n) | {"status": "not-done"} for i in range(n)]
    return bundle(dose(0), *counts, *none)


def many_days(n: int) -> bytes:
    """Counts of many days after one dose."""
    return bundle(dose(0), *(result(PLATELETS, 20, day(i)) for i in range(n)))


def identifiers_of_a_corrected_panel(n: int) -> bytes:
    """A corrected panel of many parts, under as many identifiers."""
    parts = [
        {
            name: value
            for name, value in result(PLATELETS, 20 + i).items()
            if name in {"code", "valueQuantity"}
        }
        for i in range(n)
    ]
    names = [{"value": f"{i}"} for i in range(n)]
    panel = result(
        PLATELETS,
        20,
        component=parts,
        identifier=names,
        status="corrected",
        specimen={"reference": "Specimen/s"},
    )
    return bundle(panel)


def many_reports(n: int) -> bytes:
    """Reports that all name one result, and one that names many."""
    reports = [
        {
            "resourceType": "DiagnosticReport",
            "id": f"d{i}",
            "result": [{"reference": "Observation/o0"}],
        }
        for i in range(n)
    ]
    all_of_them = [{"reference": f"Observation/o{i}"} for i in range(n)]
    return bundle(
        *(result(PLATELETS, 20 + i, id=f"o{i}") for i in range(n)),
        *reports,
        {"resourceType": "DiagnosticReport", "id": "all", "result": all_of_them},
    )


def patients_with_identifiers(n: int) -> bytes:
    """Patients who share an identifier, one with many; results that name the identifiers."""
    shared = {"system": "urn:mrn", "value": "0"}
    many = [{"system": "urn:mrn", "value": f"{i}"} for i in range(n)]
    return bundle(
        {"resourceType": "Patient", "id": "all", "identifier": many},
        *({"resourceType": "Patient", "id": f"p{i}", "identifier": [shared]} for i in range(n)),
        *(result(PLATELETS, 20, subject={"identifier": one}) for one in many),
    )


def patients(n: int) -> bytes:
    """Ordinary patients of one count each."""
    return bundle(*(result(PLATELETS, 20, subject={"reference": f"Patient/{i}"}) for i in range(n)))


def not_fhir(n: int) -> bytes:
    """Resources that cannot be read, beside one that can."""
    broken = [{"resourceType": "Observation", "status": 1} for _ in range(n)]
    return bundle(result(PLATELETS, 20), *broken)


def nested_bundles(n: int) -> bytes:
    """Bundles in Bundles, as deep as they are read, and broad at the bottom."""
    inner: Json = {
        "resourceType": "Bundle",
        "entry": [{"resource": result(PLATELETS, i)} for i in range(n)],
    }
    for _ in range(2):
        inner = {"resourceType": "Bundle", "entry": [{"resource": inner}]}
    return json.dumps({"resourceType": "Bundle", "entry": [{"resource": inner}]}).encode()


def repeated_keys(n: int) -> bytes:
    """One object in which every key stands twice."""
    keys = ",".join(f'"k{i}":1' for i in range(n))
    return f'{{"resourceType":"Bundle",{keys},{keys}}}'.encode()


SHAPES: tuple[Callable[[int], bytes], ...] = (
    contained_patients,
    ring_of_panels,
    one_version_many_times,
    counts_and_transfusions,
    transfusions_of_many_days,
    doses_and_weights,
    contradictions_before_and_after,
    many_days,
    pairs_of_one_moment,
    years_of_counts,
    identifiers_of_a_corrected_panel,
    many_reports,
    patients_with_identifiers,
    patients,
    not_fhir,
    nested_bundles,
)
"""What the reader is to take in time that grows as the body grows."""

OVERLAPPING: tuple[Callable[[int], bytes], ...] = (
    lasting_transfusions,
    lasting_growth_factors,
    lasting_statements,
)
"""What grows faster than its body, since each part bears on each: the steps counted end it."""
