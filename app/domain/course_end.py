"""What ends a treated patient's course, and what else was given against the disease in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from app.domain.chart import Cause, CauseKind, Charted, Standing
from app.domain.counts import Remark, Severity, When


def transplant_after(
    chart: Sequence[Charted], start: When | None, as_of: When | None
) -> Charted | None:
    """The first stem-cell transplant since the start: counts of later days are not the drug's."""
    if start is None:
        return None
    since = [
        one
        for one in chart
        if one.cause is Cause.TRANSPLANT
        and one.standing is Standing.CERTAIN
        and one.when.first >= start.first
        and not (as_of and one.when.begins_after(as_of))
    ]
    return min(since, key=lambda one: one.when.first, default=None)


def remarks_on_the_course(
    chart: Sequence[Charted], ended: Charted | None, since: date, until: date
) -> Iterator[Remark]:
    """A transplant that ended the course, and other immunosuppression between two days."""
    if ended:
        text = (
            f"A stem-cell transplant ended the course ({ended.when.text[:10]}): counts of that day "
            "and later are not the drug's, and were not judged."
        )
        yield Remark("course-ended", Severity.WARNING, text, (ended.source.place,))
    given = [
        one
        for one in chart
        if one.kind is CauseKind.IMMUNOSUPPRESSION
        and one.when.last >= since
        and one.when.first <= until
    ]
    if given:
        named = "; ".join(dict.fromkeys(f"{one.cause.title} ({one.words})" for one in given))
        places = tuple(dict.fromkeys(one.source.place for one in given))
        text = f"Other immunosuppression between baseline and assessment: {named}."
        yield Remark("other-immunosuppression", Severity.WARNING, text, places)
