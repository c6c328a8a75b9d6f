"""What is counted, a count, and one patient's counts, transfusions and drugs in time.

What there is one of for every result is a NamedTuple: it is made in a quarter of the time that a
frozen dataclass takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from app.domain.chart import Charted

# The default context rounds at 28 digits, and a rounded count can cross a limit.
_ZERO = Decimal(0)
EXACT = Context(prec=1000, traps=[Inexact, InvalidOperation, Overflow])


class Analyte(Enum):
    """What a laboratory counts in blood, each with the one unit (UCUM) it is held in."""

    ABSOLUTE_NEUTROPHIL_COUNT = ("absolute neutrophil count", "ANC", "10*9/L")
    PLATELETS = ("platelets", "platelets", "10*9/L")
    HEMOGLOBIN = ("hemoglobin", "Hb", "g/dL")
    RETICULOCYTES = ("absolute reticulocyte count", "ARC", "10*9/L")
    LEUKOCYTES = ("leukocytes", "leukocytes", "10*9/L")
    ERYTHROCYTES = ("erythrocytes", "erythrocytes", "10*9/L")
    SEGMENTED_NEUTROPHILS = ("segmented neutrophils", "segmented neutrophils", "10*9/L")
    BAND_NEUTROPHILS = ("band neutrophils", "band neutrophils", "10*9/L")
    NEUTROPHIL_PERCENT = ("neutrophils per 100 leukocytes", "neutrophil %", "%")
    SEGMENTED_PERCENT = ("segmented neutrophils per 100 leukocytes", "segmented %", "%")
    BAND_PERCENT = ("band neutrophils per 100 leukocytes", "bands %", "%")
    RETICULOCYTE_PERCENT = ("reticulocytes per 100 erythrocytes", "reticulocyte %", "%")
    BODY_WEIGHT = ("body weight", "weight", "kg")

    def __init__(self, title: str, short: str, unit: str) -> None:
        self.title = title
        self.short = short
        self.unit = unit

    # Members are single objects; Enum's own hash is a call in Python for every look-up.
    __hash__ = object.__hash__


class Kind(Enum):
    """How directly a count tells of its analyte; the more direct one wins."""

    MEASURED = "measured"
    DERIVED = "derived"
    """Worked out from other results, for example leukocytes x neutrophil %."""
    BOUND = "bound"
    """Only limits what the count can be: neutrophils never exceed leukocytes."""


class Severity(Enum):
    """How much a remark matters to the reader of the answer."""

    WARNING = "warning"
    INFORMATION = "information"


class Remark(NamedTuple):
    """Something set aside, repaired or doubted: why, and where in the request (FHIRPath)."""

    code: str
    severity: Severity
    text: str
    places: tuple[str, ...]


class Interval(NamedTuple):
    """What is known of a quantity: exact when both ends are the same; None is unbounded."""

    low: Decimal | None
    high: Decimal | None
    low_included: bool = True
    high_included: bool = True

    @staticmethod
    def exactly(value: Decimal) -> Interval:
        """The interval that holds one value."""
        return Interval(value, value)

    @property
    def exact(self) -> Decimal | None:
        """The value, where it is known exactly."""
        return self.low if self.low == self.high else None

    def inside(self, other: Interval) -> bool:
        """Whether no value of this lies outside the other; cells are never fewer than none."""
        low, least = self.low or _ZERO, other.low or _ZERO
        if low < least or (low == least and self.low_included and not other.low_included):
            return False
        if self.high is None or other.high is None:
            return other.high is None
        if self.high == other.high:
            return other.high_included or not self.high_included
        return self.high < other.high

    def both(self, other: Interval) -> Interval | None:
        """What the two have in common; None where they exclude each other."""
        low, open_low = max((i.low or _ZERO, not i.low_included) for i in (self, other))
        highs = [(i.high, i.high_included) for i in (self, other) if i.high is not None]
        high, high_included = min(highs, default=(None, True))
        if high is not None and (low > high or (low == high and (open_low or not high_included))):
            return None
        return Interval(low, high, not open_low, high_included)

    def times(self, factor: Decimal) -> Interval:
        """The interval scaled by a positive factor, without rounding."""
        return Interval(
            None if self.low is None else EXACT.multiply(self.low, factor),
            None if self.high is None else EXACT.multiply(self.high, factor),
            self.low_included,
            self.high_included,
        )


class When(NamedTuple):
    """A moment as the source tells it: the civil days it may lie in; the instant, if known."""

    first: date
    last: date
    instant: datetime | None
    text: str

    @property
    def precise(self) -> bool:
        """Whether the day is known."""
        return self.first == self.last

    def same_moment(self, other: When) -> bool:
        """Whether nothing tells the two apart: one instant, or one day where a time is missing."""
        if self.instant and other.instant:
            return self.instant == other.instant
        return self.first == other.first and self.last == other.last

    @property
    def lasting(self) -> bool:
        """Whether it has begun, and no end is known."""
        return self.last == date.max and self.first > date.min

    def begins_after(self, other: When) -> bool:
        """Whether none of this lies before the other's end; what lasts has begun before."""
        if self.instant and other.instant:
            return self.instant > other.instant
        return self.first > other.last

    def after(self, other: When) -> bool:
        """Whether this may lie after the other; a day is compared as the source wrote it."""
        if self.instant and other.instant:
            return self.instant > other.instant
        return self.last > other.last


UNDATED = When(date.min, date.max, None, "")
"""Of what happened, and nobody knows when."""


class Label(NamedTuple):
    """A security label of a resource: what it is about is to be kept as it says."""

    system: str
    code: str
    display: str


class Source(NamedTuple):
    """Where a fact comes from: a reference the caller knows, and its FHIRPath in the request."""

    reference: str
    place: str
    lenders: tuple[str, ...] = ()
    """References of the report or panel that lent it a subject or a date."""
    labels: tuple[Label, ...] = ()
    """Security labels of the resource and of those that lent to it."""


class Count(NamedTuple):
    """One result in its analyte's unit: a value or an interval, when, and from where."""

    analyte: Analyte
    value: Interval
    when: When
    sources: tuple[Source, ...]
    manual: bool = False
    """Counted by hand: the limit for reticulocytes differs."""
    doubtful: bool = False
    """An estimate, or a specimen or method of lesser standing."""
    kind: Kind = Kind.MEASURED
    parts: tuple[Count, ...] = ()
    """The results a derived count or a bound was worked out from."""
    specimen: str | None = None
    normal: Interval | None = None
    """The laboratory's own range of normal counts for this patient."""
    corrected: bool = False
    """Leukocytes without nucleated red cells: they go before a plain count of their moment."""


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def newness(count: Count) -> tuple[date, datetime]:
    """Orders counts in time: by their last day, and on a day by the instant, if known."""
    return count.when.last, count.when.instant or _LONG_AGO


class Product(Enum):
    """What was transfused."""

    RED_CELLS = "red cells"
    PLATELETS = "platelets"
    UNKNOWN = "unknown product"


@dataclass(frozen=True, slots=True)
class Transfusion:
    """One transfusion given."""

    product: Product
    when: When
    source: Source
    standing: bool = True
    """False where it was set aside (no date, unknown status): not counted, and yet no "none"."""


@dataclass(frozen=True, slots=True)
class NoTransfusion:
    """A statement that nothing of this product (None: nothing at all) was given in a period."""

    product: Product | None
    when: When
    source: Source


class Drug(Enum):
    """Drugs that bear on counts."""

    DACLIZUMAB = "daclizumab"
    FILGRASTIM = "filgrastim"
    LENOGRASTIM = "lenograstim"
    PEGFILGRASTIM = "pegfilgrastim"
    LIPEGFILGRASTIM = "lipegfilgrastim"


@dataclass(frozen=True, slots=True)
class DrugGiven:
    """One administration of a drug."""

    drug: Drug
    when: When
    source: Source
    dose_mg: Decimal | None = None
    dose_mg_per_kg: Decimal | None = None
    stated: bool = False
    """Known from a statement that it was taken: tells when, not how often."""
    began: When | None = None
    """The first moment of a period in which it was given."""


class Sex(Enum):
    """The administrative sex, for the limits of a normal hemoglobin."""

    MALE = "male"
    FEMALE = "female"


@dataclass(frozen=True, slots=True)
class Patient:
    """Whom the data are about: a literal reference, or a business identifier."""

    reference: str = ""
    system: str = ""
    value: str = ""


class Course(NamedTuple):
    """One patient's data in time."""

    patient: Patient
    counts: tuple[Count, ...] = ()
    """As the laboratory reported them."""
    derived: tuple[Count, ...] = ()
    """Worked out from `counts`."""
    transfusions: tuple[Transfusion, ...] = ()
    no_transfusions: tuple[NoTransfusion, ...] = ()
    transfusion_history_complete: bool = False
    drugs: tuple[DrugGiven, ...] = ()
    weights: tuple[Count, ...] = ()
    sex: Sex | None = None
    born: When | None = None
    died: When | None = None
    chart: tuple[Charted, ...] = ()
    """What may explain the counts otherwise."""
    looked_at: tuple[str, ...] = ()
    """Of `conditions` and `medications` those that the data hold any of."""
    remarks: tuple[Remark, ...] = ()
