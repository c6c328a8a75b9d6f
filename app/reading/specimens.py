"""What a laboratory says of a specimen beside the count, and what that leaves of the count."""

from __future__ import annotations

from msgspec import Raw

from app.domain.counts import Analyte, Interval
from app.domain.effort import spend
from app.fhir.codes import LoincRow
from app.fhir.kept import LONGEST, for_a_request
from app.fhir.resources import DECODE_SAID, Specimen
from app.reading.aside import Repairs, SetAside, read_element
from app.reading.doubts import Doubt, doubt_of, worst


def doubt_told(remark: Raw) -> Doubt | None:
    """What notes or interpretations say of a specimen; SetAside: they are not FHIR."""
    if not remark:
        return None
    raw = bytes(remark)
    spend(len(raw) // 8)
    return _doubt_in(raw) if len(raw) < LONGEST else _doubt_in.__wrapped__(raw)


@for_a_request(1024)
def _doubt_in(raw: bytes) -> Doubt | None:
    said = read_element(DECODE_SAID, raw, "") or ()
    texts = (text for one in said for text in (one.text, *(c.display for c in one.coding)))
    return worst({doubt_of(text) for text in texts if text})


# Of HL7 v2 table 0493: clotted, contaminated, hemolyzed.
SPOILT_CONDITIONS = {"CLOT", "CON", "HEM"}


def doubt_of_specimen(specimen: Specimen) -> Doubt | None:
    """What a Specimen's condition and notes say of it; SetAside: they are not FHIR."""
    for said in read_element(DECODE_SAID, bytes(specimen.condition), ".condition") or ():
        if any(coding.code in SPOILT_CONDITIONS for coding in said.coding):
            return Doubt.SPOILT
    return worst({doubt_told(specimen.condition), doubt_told(specimen.note)})


def under_doubt(interval: Interval, row: LoincRow, doubt: Doubt | None) -> tuple[Interval, Repairs]:
    """What a doubted count still tells, and that it is doubted. SetAside: it tells nothing."""
    if doubt is Doubt.SPOILT:
        text = "The laboratory calls the specimen clotted, hemolysed, diluted or contaminated."
        raise SetAside("specimen-doubt", f"{text} Not used: repeat the count.")
    if doubt is None or row.analyte is not Analyte.PLATELETS:
        return interval, ()
    text = "The laboratory tells of clumped platelets: the count is a lower bound."
    if interval.low is None:
        raise SetAside("specimen-doubt", f"{text} Of an upper bound nothing is left.")
    return Interval(interval.low, None, interval.low_included), (("specimen-doubt", text),)
