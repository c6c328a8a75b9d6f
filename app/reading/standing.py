"""Which results stand: not those that a correction replaces, nor impossible pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from app.domain.choosing import places
from app.domain.counts import Analyte, Count, Remark, Severity
from app.domain.derivation import impossible_pairs
from app.fhir.resources import Observation
from app.reading.bundles import identifiers_of
from app.reading.records import Record


def standing_of(record: Record) -> tuple[tuple[Count, ...], list[Remark]]:
    """The counts of a record that stand, and why others do not."""
    standing, replaced = tuple(record.counts), list[Remark]()
    if record.corrected:
        standing, replaced = _not_replaced(list(map(_Result, record.counts, record.observations)))
    if impossible := impossible_pairs(standing):
        standing = _without(standing, impossible)
        replaced += map(_contradiction, impossible)
    return standing, replaced


class _Result(msgspec.Struct, frozen=True, gc=False):
    count: Count
    observation: Observation

    @property
    def issued(self) -> str:
        return self.observation.issued or ""

    @property
    def alike(self) -> tuple[int, Analyte]:
        """The same for results that the same correction replaces."""
        return id(self.observation), self.count.analyte


def _not_replaced(results: list[_Result]) -> tuple[tuple[Count, ...], list[Remark]]:
    """The results that stand: a corrected or amended one replaces what it corrects."""
    corrections: dict[object, _Result] = {}
    # A panel may have many parts of one kind, all under the same many identifiers.
    seen: set[tuple[int, Analyte]] = set()
    for result in results:
        if result.observation.status != "final" and result.alike not in seen:
            seen.add(result.alike)
            for key in _keys(result):
                other = corrections.get(key)
                if other is None or result.issued > other.issued:
                    corrections[key] = result
    newest: dict[tuple[int, Analyte], _Result | None] = {}
    standing: list[Count] = []
    replaced: list[Remark] = []
    for result in results:
        if result.alike not in newest:
            found = (corrections[key] for key in _keys(result) if key in corrections)
            newest[result.alike] = next(found, None)
        newer = newest[result.alike]
        if (
            newer is None
            or newer is result
            or (result.observation.status != "final" and newer.issued == result.issued)
        ):
            standing.append(result.count)
        else:
            replaced.append(
                Remark(
                    "superseded",
                    Severity.INFORMATION,
                    "Replaced by a corrected result.",
                    (result.count.sources[0].place,),
                )
            )
    return tuple(standing), replaced


def _keys(result: _Result) -> Iterator[object]:
    """What a correction and the result it corrects share: the draw (ruling 7).

    An order's identifier alone does not do: an older draw may be amended after a newer is final.
    """
    count = result.count
    if count.specimen:
        for one in identifiers_of(result.observation):
            yield count.analyte, count.specimen, one.system, one.value
    moment = count.when.instant or (count.when.first, count.when.last)
    yield count.analyte, moment


def _without(counts: Iterable[Count], pairs: Iterable[Iterable[Count]]) -> tuple[Count, ...]:
    refused = {id(count) for pair in pairs for count in pair}
    return tuple(count for count in counts if id(count) not in refused)


def _contradiction(pair: Iterable[Count]) -> Remark:
    """That neutrophils outnumber leukocytes (ruling 5)."""
    text = (
        "More neutrophils than leukocytes of the same moment: one of the counts is wrong, and "
        "neither is used. Correct or repeat them."
    )
    return Remark("contradiction", Severity.WARNING, text, places(pair))
