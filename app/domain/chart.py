"""What else stands in a chart: other causes of low counts, and what a definition excludes.

A record is told as it stands; what it means for a day is worked out here. Nothing in a chart turns
a verdict by counts, unless its caller asks for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from enum import Enum
from typing import NamedTuple

from app.domain.counts import Remark, Severity, Source, When
from app.domain.effort import spend


class CauseKind(Enum):
    """What sort of thing a cause is."""

    MALIGNANT = "malignant"
    MARROW_FAILURE = "other marrow failure"
    INFECTION = "infection"
    DISEASE = "other disease or state"
    TREATMENT = "treatment"
    DRUG = "drug"
    IMMUNOSUPPRESSION = "immunosuppression"
    """Given for aplastic anemia itself: no other cause, but told of beside a response."""


class Cause(Enum):
    """What may explain low counts or bars from a definition: its code, its name, its kind."""

    MYELODYSPLASIA = "myelodysplastic-syndrome", "myelodysplastic syndrome", CauseKind.MALIGNANT
    LEUKEMIA = "leukemia", "leukemia", CauseKind.MALIGNANT
    LYMPHOMA = "lymphoma", "lymphoma", CauseKind.MALIGNANT
    PLASMA_CELL_NEOPLASM = "plasma-cell-neoplasm", "plasma cell neoplasm", CauseKind.MALIGNANT
    MYELOFIBROSIS = "myelofibrosis", "myelofibrosis", CauseKind.MALIGNANT
    FANCONI_ANEMIA = "fanconi-anemia", "Fanconi anemia", CauseKind.MARROW_FAILURE
    DYSKERATOSIS_CONGENITA = (
        "dyskeratosis-congenita",
        "dyskeratosis congenita",
        CauseKind.MARROW_FAILURE,
    )
    DIAMOND_BLACKFAN_ANEMIA = (
        "diamond-blackfan-anemia",
        "Diamond-Blackfan anemia",
        CauseKind.MARROW_FAILURE,
    )
    SHWACHMAN_DIAMOND_SYNDROME = (
        "shwachman-diamond-syndrome",
        "Shwachman-Diamond syndrome",
        CauseKind.MARROW_FAILURE,
    )
    OTHER_INHERITED_FAILURE = (
        "other-inherited-marrow-failure",
        "other inherited marrow failure",
        CauseKind.MARROW_FAILURE,
    )
    NOCTURNAL_HEMOGLOBINURIA = (
        "paroxysmal-nocturnal-hemoglobinuria",
        "paroxysmal nocturnal hemoglobinuria",
        CauseKind.MARROW_FAILURE,
    )
    HIV = "hiv", "HIV infection", CauseKind.INFECTION
    HEPATITIS_B = "hepatitis-b", "hepatitis B", CauseKind.INFECTION
    HEPATITIS_C = "hepatitis-c", "hepatitis C", CauseKind.INFECTION
    PARVOVIRUS = "parvovirus-b19", "parvovirus B19 infection", CauseKind.INFECTION
    HEART_FAILURE = "heart-failure", "heart failure", CauseKind.DISEASE
    HEART_FAILURE_NYHA_3 = (
        "heart-failure-nyha-iii-iv",
        "heart failure of NYHA class III or IV",
        CauseKind.DISEASE,
    )
    PREGNANCY = "pregnancy", "pregnancy", CauseKind.DISEASE
    CIRRHOSIS = "liver-cirrhosis", "liver cirrhosis", CauseKind.DISEASE
    HYPERSPLENISM = "hypersplenism", "hypersplenism", CauseKind.DISEASE
    B12_DEFICIENCY = "vitamin-b12-deficiency", "vitamin B12 deficiency", CauseKind.DISEASE
    FOLATE_DEFICIENCY = "folate-deficiency", "folate deficiency", CauseKind.DISEASE
    COPPER_DEFICIENCY = "copper-deficiency", "copper deficiency", CauseKind.DISEASE
    TRANSPLANT = "stem-cell-transplant", "stem-cell transplant", CauseKind.TREATMENT
    CHEMOTHERAPY = "chemotherapy", "chemotherapy", CauseKind.TREATMENT
    RADIOTHERAPY = "radiotherapy", "radiotherapy", CauseKind.TREATMENT
    ANTITHYROID_DRUG = "antithyroid-drug", "antithyroid drug", CauseKind.DRUG
    LINEZOLID = "linezolid", "linezolid", CauseKind.DRUG
    CLOZAPINE = "clozapine", "clozapine", CauseKind.DRUG
    OTHER_MARROW_POISON = (
        "other-myelotoxic-drug",
        "other drug known to depress the marrow",
        CauseKind.DRUG,
    )
    ANTITHYMOCYTE_GLOBULIN = (
        "antithymocyte-globulin",
        "antithymocyte globulin",
        CauseKind.IMMUNOSUPPRESSION,
    )
    CICLOSPORIN = "ciclosporin", "ciclosporin", CauseKind.IMMUNOSUPPRESSION
    ELTROMBOPAG = "eltrombopag", "eltrombopag", CauseKind.IMMUNOSUPPRESSION
    ANDROGEN = "androgen", "androgen", CauseKind.IMMUNOSUPPRESSION
    ALEMTUZUMAB = "alemtuzumab", "alemtuzumab", CauseKind.IMMUNOSUPPRESSION

    def __init__(self, code: str, title: str, kind: CauseKind) -> None:
        self.code = code
        self.title = title
        self.kind = kind

    # Members are single objects; Enum's own hash is a call in Python for every look-up.
    __hash__ = object.__hash__


# Our reading: cycles come 3 to 4 weeks apart and the marrow of one takes up to 6 to recover, so
# counts are free of it after 90 days. Of another drug the counts recover within 30.
_BEARS_FOR_DAYS = {
    Cause.CHEMOTHERAPY: 90,
    Cause.RADIOTHERAPY: 90,
    Cause.ANTITHYROID_DRUG: 30,
    Cause.LINEZOLID: 30,
    Cause.CLOZAPINE: 30,
    Cause.OTHER_MARROW_POISON: 30,
}
"""How long after the last dose or session a treatment may still explain the counts."""


class Standing(Enum):
    """What a record itself says of what it records."""

    CERTAIN = "certain"
    DOUBTFUL = "doubtful"
    """Suspected, contradicted, or without the status that would tell."""
    ENDED = "ended"


class Charted(NamedTuple):
    """One record of a cause."""

    cause: Cause
    said: str
    """As the chart words it."""
    when: When
    """From when to when; the last day there is where nothing says that it ended."""
    source: Source
    standing: Standing = Standing.CERTAIN
    doubt: str = ""
    """Why it is doubtful."""
    surely_until: date = date.max
    """The earliest day on which it may have ended; of a treatment the last known to be in it."""

    @property
    def kind(self) -> CauseKind:
        """What sort of thing is recorded."""
        return self.cause.kind

    @property
    def words(self) -> str:
        """The record in a few words, with its date."""
        said = self.said
        if self.cause.title.lower() not in said.lower() and self.kind is CauseKind.TREATMENT:
            said = f"{self.cause.title}: {said}"
        return f"{said} {self.when.text}".strip() + (f" ({self.doubt})" if self.doubt else "")


class State(Enum):
    """What a record says of one day."""

    PRESENT = "present"
    DOUBTFUL = "doubtful"
    LATER = "later"
    """It begins after the day judged."""
    PAST = "past"


def state_on(record: Charted, day: date) -> State:
    """Whether what is recorded was there on a day, or may still have borne on its counts."""
    if record.when.first > day:
        return State.LATER
    number = day.toordinal()
    if number not in days_maybe_there(record):
        return State.PAST
    return State.PRESENT if number in days_surely_there(record) else State.DOUBTFUL


def days_maybe_there(record: Charted) -> range:
    """The days, as ordinals, on which it was there or bore on counts, or may have."""
    return range(0) if record.standing is Standing.ENDED else _days_until(record, record.when.last)


def days_surely_there(record: Charted) -> range:
    """Those of these days on which it did for sure."""
    if record.standing is not Standing.CERTAIN:
        return range(0)
    return _days_until(record, min(record.when.last, record.surely_until))


def _days_until(record: Charted, last: date) -> range:
    bears_for = _BEARS_FOR_DAYS.get(record.cause, 0)
    return range(record.when.first.toordinal(), last.toordinal() + bears_for + 1)


class LookedFor(Enum):
    """Whether the chart names another cause."""

    RECORDED = "recorded"
    NONE_RECORDED = "none-recorded"
    NOT_LOOKED_FOR = "not-looked-for"
    """Neither conditions nor medications were in the data."""


class OtherCauses(NamedTuple):
    """What the chart says of other causes on the day judged."""

    answer: LookedFor
    looked_at: tuple[str, ...] = ()
    """Of conditions and medications those of which there were any."""
    present: tuple[Charted, ...] = ()
    doubtful: tuple[Charted, ...] = ()
    later: tuple[Charted, ...] = ()
    """Recorded since the day judged, where the caller set no day."""
    past: tuple[Charted, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def recorded(self) -> tuple[Charted, ...]:
        """All but what has passed, the surest first."""
        return self.present + self.doubtful + self.later

    @property
    def explains(self) -> bool:
        """Whether a malignant disease or chemotherapy is there for sure, on that day or since."""
        surely = self.present + self.later
        return any(
            one.kind is CauseKind.MALIGNANT or one.cause is Cause.CHEMOTHERAPY for one in surely
        )

    @property
    def sources(self) -> tuple[Source, ...]:
        """The records named."""
        return tuple(record.source for record in self.recorded)


NOT_LOOKED_FOR = OtherCauses(LookedFor.NOT_LOOKED_FOR)


def other_causes(
    chart: Sequence[Charted], looked_at: tuple[str, ...], day: date | None, as_of: When | None
) -> OtherCauses:
    """What a chart records beside the counts of a day; None where there is no such day.

    What begins after `as_of` is left out with a remark. Where the caller set no day, what was
    recorded since the newest count is told as well: a leukemia found a week later explains it.
    """
    if not chart:
        return OtherCauses(LookedFor.NONE_RECORDED, looked_at) if looked_at else NOT_LOOKED_FOR
    spend(len(chart))
    states: dict[State, list[Charted]] = {state: [] for state in State}
    left_out: list[Charted] = []
    for record in chart:
        if record.kind is CauseKind.IMMUNOSUPPRESSION:
            continue
        if as_of and record.when.begins_after(as_of):
            left_out.append(record)
        else:
            states[state_on(record, day or date.max)].append(record)
    recorded = states[State.PRESENT] or states[State.DOUBTFUL] or states[State.LATER]
    answer = LookedFor.RECORDED if recorded else LookedFor.NONE_RECORDED
    if not recorded and not looked_at:
        answer = LookedFor.NOT_LOOKED_FOR
    return OtherCauses(
        answer,
        looked_at,
        tuple(states[State.PRESENT]),
        tuple(states[State.DOUBTFUL]),
        tuple(states[State.LATER]),
        tuple(states[State.PAST]),
        tuple(_remarks(left_out, states[State.PAST], as_of)),
    )


def _remarks(
    left_out: Sequence[Charted], past: Sequence[Charted], as_of: When | None
) -> Iterator[Remark]:
    if left_out and as_of:
        text = (
            f"In the chart, and later than {as_of.text}, the day judged: {_named(left_out)}. "
            "Not told of as another cause."
        )
        yield Remark("after-as-of", Severity.WARNING, text, _places(left_out))
    if past:
        text = f"In the chart, and past on the day judged: {_named(past)}."
        yield Remark("other-cause-past", Severity.INFORMATION, text, _places(past))


def _named(records: Iterable[Charted]) -> str:
    return "; ".join(dict.fromkeys(record.words for record in records))


def _places(records: Iterable[Charted]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(record.source.place for record in records))


class Exclusion(NamedTuple):
    """A cause that a definition excludes, and who says so."""

    cause: Cause
    wording: str
    source: str


def excluded_by(exclusions: Sequence[Exclusion], causes: OtherCauses) -> tuple[Charted, ...]:
    """What is recorded for sure on the day judged, and a definition excludes."""
    excluded = {one.cause for one in exclusions}
    return tuple(record for record in causes.present if record.cause in excluded)
