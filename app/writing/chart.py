"""What stands in a chart beside the counts, in words and as components of an assessment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.domain.assessment import Assessment
from app.domain.chart import Charted, LookedFor, OtherCauses
from app.domain.counts import Source
from app.domain.person import PersonFinding
from app.domain.rules import Truth
from app.fhir.canonicals import CRITERION_SYSTEM
from app.fhir.components import CHART_COMPONENTS
from app.fhir.json import Json
from app.fhir.verdicts import other_cause_coded, truth_coded
from app.writing.observation import decided_by

_KINDS = ("conditions", "medications")


def named(records: Iterable[Charted], after: bool = False) -> str:
    """Records in a few words, each once; `after` says that they are of after the day judged."""
    words = dict.fromkeys(record.words for record in records)
    return "; ".join(f"{one} (after the day judged)" if after else one for one in words)


def chart_words(causes: OtherCauses) -> str:
    """What the chart says, without a full stop."""
    if causes.answer is LookedFor.RECORDED:
        told = (named(causes.present), named(causes.doubtful), named(causes.later, after=True))
        return "; ".join(filter(None, told))
    if causes.answer is LookedFor.NOT_LOOKED_FOR:
        return "other causes not looked for: neither conditions nor medications were in the data"
    missing = [kind for kind in _KINDS if kind not in causes.looked_at]
    without = f"; no {missing[0]} were in the data" if missing else ""
    return f"no other cause among the {' and '.join(causes.looked_at)}{without}"


def exclusion_words(found: Assessment) -> str:
    """What is recorded for sure on the day judged, and the definition excludes."""
    outside = (one.told for one in found.person if one.truth is Truth.NOT_MET)
    return "; ".join(filter(None, [named(found.excluding), *outside]))


def chart_components(found: Assessment) -> Iterator[Json]:
    """Other causes; exclusions where they were asked for; age and weight where there is data."""
    yield cause_component(found.causes)
    if found.judgement.exclusion is not None:
        yield _exclusion(found, found.judgement.exclusion)
    for one in found.person:
        yield _person(one)


def cause_component(causes: OtherCauses) -> Json:
    """Whether another cause is recorded, with each record named."""
    value = other_cause_coded(causes.answer) | {"text": chart_words(causes)}
    return _component("other-cause", value, causes.sources)


def _exclusion(found: Assessment, truth: Truth) -> Json:
    value = truth_coded(truth)
    if text := exclusion_words(found):
        value["text"] = text
    component = _component("no-recorded-exclusion", value, (r.source for r in found.excluding))
    wording = dict.fromkeys(f"{one.wording} ({one.source})" for one in found.paper.exclusions)
    if wording:
        component["referenceRange"] = [{"text": "Excluded: " + "; ".join(wording)}]
    return component


def _person(one: PersonFinding) -> Json:
    value = truth_coded(one.truth) | {"text": one.told}
    component = _component(one.code, value, one.weight.sources if one.weight else ())
    component["referenceRange"] = [{"text": one.limit}]
    return component


def _component(code: str, value: Json, sources: Iterable[Source]) -> Json:
    coding = {"system": CRITERION_SYSTEM, "code": code, "display": CHART_COMPONENTS[code]}
    component: Json = {"code": {"coding": [coding]}, "valueCodeableConcept": value}
    return decided_by(component, tuple(sources))
