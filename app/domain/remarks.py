"""What is said beside a verdict: results that contradict, were left out, or are old."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from app.domain.choosing import places
from app.domain.counts import Count, Course, Kind, Remark, Severity, When
from app.domain.derivation import NEVER_ALONE
from app.domain.effort import spend
from app.domain.person import reached
from app.domain.rules import Known, OfOneAnalyte, Rule, Truth
from app.domain.window import Window, placed


def contradictions(rule: Rule, known: Known, window: Window) -> Iterator[Remark]:
    """Results of one moment that answer a rule differently, each analyte once.

    They are looked for among the counts as reported, before support is (ruling 6).
    """
    if not window.passed_over and max(map(len, window.chosen.values()), default=0) < 2:
        return
    reported = known._replace(counts=window.chosen)
    seen = set()
    leaves = (leaf for leaf in rule.leaves() if isinstance(leaf, OfOneAnalyte))
    for leaf in leaves:
        spend(2 * len(known.counts.get(leaf.analyte, ())))
        if leaf.analyte in seen:
            continue
        if leaf.contradicted(reported):
            seen.add(leaf.analyte)
            yield Remark(
                "contradiction",
                Severity.WARNING,
                f"Results of one moment stand on either side of a limit ({leaf.describe()}): "
                f"{leaf.analyte.title} is not known. Correct or repeat the count.",
                places(window.chosen[leaf.analyte]),
            )
        elif others := _on_the_other_side(leaf, reported, window):
            seen.add(leaf.analyte)
            yield Remark(
                "direct-before-derived",
                Severity.WARNING,
                f"{leaf.analyte.title} as reported stands on the other side of a limit "
                f"({leaf.describe()}) than worked out from other results of the same moment: the "
                "one reported was judged. Check both.",
                places([*window.chosen[leaf.analyte], *others]),
            )


def _on_the_other_side(leaf: OfOneAnalyte, reported: Known, window: Window) -> list[Count]:
    """What was worked out for the moment of a reported count, and answers the other way."""
    others = window.passed_over.get(leaf.analyte, ())
    truth = leaf.check(reported) if others else Truth.UNKNOWN
    if truth is Truth.UNKNOWN:
        return []
    alone = [(c, leaf.check(reported._replace(counts={leaf.analyte: (c,)}))) for c in others]
    return [count for count, other in alone if other not in {truth, Truth.UNKNOWN}]


def stale(window: Window, as_of: When | None, window_days: int) -> Iterator[Remark]:
    """Counts long before the day asked for: the verdict stands, and says so (ruling 13)."""
    if as_of and window.day and (as_of.first - window.last_day).days > window_days:
        text = (
            f"The newest counts judged are more than {window_days} days older than {as_of.text}, "
            "the day judged: they may no longer hold."
        )
        yield Remark("stale", Severity.WARNING, text, places(window.counts))


def of_the_person(
    course: Course, day: When | None, least_age_years: int | None, counts: Sequence[Count]
) -> Iterator[Remark]:
    """A death before the day judged, and an age that the definition leaves out (ruling 13)."""
    if day is None:
        return
    if course.died and course.died.last < day.first:
        text = f"The patient died before ({course.died.text}): check whose results these are."
        yield Remark("after-death", Severity.WARNING, text, places(counts))
    if (
        least_age_years is not None
        and course.born
        and reached(course.born, least_age_years, day.last) is Truth.NOT_MET
    ):
        text = (
            f"The patient was younger than {least_age_years} years, the least age of the "
            "definition: the verdict is by counts alone."
        )
        yield Remark("under-age", Severity.WARNING, text, places(counts))


def left_out(
    judged: Sequence[Count],
    first_day: date,
    until: Sequence[Count],
    later: Sequence[Count],
    as_of: When | None,
    window_days: int,
) -> Iterator[Remark]:
    """What was not judged: for each kind of reason its places, every place under one reason.

    What lies before `first_day` was not combined with what was judged.
    """
    told = set(places(judged))
    if not told:
        first_day = date.min
    left: dict[str, list[str]] = {reason: [] for reason in _REASONS}
    vague, outside = left["imprecise-date"], left["outside-window"]
    unpaired, superseded = left["unpaired"], left["superseded"]
    for count in until:
        if count.kind is not Kind.MEASURED or (place := count.sources[0].place) in told:
            continue
        first, last, _, _ = count.when
        if first != last and not placed(count, window_days):
            vague.append(place)
        elif first < first_day:
            outside.append(place)
        elif count.analyte in NEVER_ALONE:
            unpaired.append(place)
        else:
            superseded.append(place)
    if unpaired:
        paired = {s.place for c in until for part in c.parts for s in part.sources}
        superseded += (place for place in unpaired if place in paired)
        left["unpaired"] = [place for place in unpaired if place not in paired]
    left["after-as-of"] += (c.sources[0].place for c in later if c.kind is Kind.MEASURED)
    for reason, (severity, text) in _REASONS.items():
        if left[reason]:
            said = text.format(as_of=as_of.text if as_of else "", days=window_days)
            yield Remark(reason, severity, said, tuple(left[reason]))


_REASONS = {
    "after-as-of": (Severity.INFORMATION, "Later than {as_of}, the day judged: not used."),
    "imprecise-date": (
        Severity.WARNING,
        "The date is less precise than the window of {days} days: it cannot be told whether the "
        "result belongs to the day judged. Send the day.",
    ),
    "outside-window": (
        Severity.WARNING,
        "More than {days} days before the newest count judged: not combined with it.",
    ),
    "unpaired": (
        Severity.WARNING,
        "A part or a percentage tells nothing without its total (leukocytes or erythrocytes) of "
        "the same specimen or moment.",
    ),
    "superseded": (
        Severity.INFORMATION,
        "Not needed: a newer or more direct result was judged, or the definition does not ask for "
        "this one.",
    ),
}
"""Why a result was not judged, the first reason that holds."""
