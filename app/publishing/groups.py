"""Eligibility as data: each definition as a Group, whose characteristics an outside engine can run.

R4 has no way to say "at least two of": how characteristics are combined is said by the extensions
that stand for elements of R6's Group (https://hl7.org/fhir/versions.html#extensions). The manner is
that of StudyEligibilityCriteria in HL7's Evidence-Based Medicine guide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from html import escape

from app.domain.limits import Above, AtLeast, AtMost, Below, Limit
from app.domain.paper import Paper
from app.domain.rules import AtLeastOf, Criterion, Not, Rule
from app.domain.sustained import Sustained
from app.domain.transfusions import TransfusionsNeeded
from app.fhir.canonicals import (
    BASE,
    CHARACTERISTIC_DURATION,
    COMBINATION_METHOD,
    COMBINATION_THRESHOLD,
    CRITERION_SYSTEM,
)
from app.fhir.codes import ANALYTE_LOINC, LOINC, PREFERRED_LOINC
from app.fhir.json import Json, coded, quantity
from app.fhir.treatments import TRANSFUSIONS
from app.papers import PUBLISHED
from app.publishing.terminology import AID, ANALYTE_SYSTEM, code_slug

_PART = "part-"
_COMPARATORS = {AtMost: "<=", Below: "<", AtLeast: ">=", Above: ">"}
_NARRATIVE = (
    "{title}, version {version}: who meets it by counts, in the reading of the source's own words. "
    "Each limit is for one count in the unit stated; a code of our analyte system has the id of "
    "the ValueSet whose LOINC codes are read as that count. Where a count is missing, its "
    "characteristic is unknown, not false. Also required, and not told by counts: {also}. {source} "
    "{aid}"
)


def groups() -> Iterator[Json]:
    """A Group for each definition of eligibility or severity."""
    return map(group, PUBLISHED)


def group(paper: Paper) -> Json:
    """One definition as its counts decide it."""
    inner = _Inner()
    root = inner.combined(paper.eligibility, "")
    words = _NARRATIVE.format(
        title=paper.title,
        version=paper.version,
        also="; ".join(paper.also_requires),
        source=paper.citation.text,
        aid=AID,
    )
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escape(words)}</p></div>'
    identifier = {"system": "urn:ietf:rfc:3986", "value": f"{BASE}/Group/{paper.id}"}
    found: Json = {
        "resourceType": "Group",
        "id": paper.id,
        "text": {"status": "generated", "div": div},
    }
    if inner.groups:
        found["contained"] = inner.groups
    named = {"code": {"text": paper.finding}, "name": paper.title}
    return {**found, "identifier": [identifier], **root, **named}


@dataclass
class _Inner:
    """The Groups within that of a definition: R4 nests no characteristics."""

    groups: list[Json] = field(default_factory=list)

    def combined(self, rule: Rule, name: str) -> Json:
        """A Group without its identity: how its characteristics are combined, and they."""
        n, rules = (rule.n, rule.rules) if isinstance(rule, AtLeastOf) else (1, (rule,))
        named = [(one, _named(one, name, place)) for place, one in enumerate(rules, 1)]
        return _combined(n, [self._characteristic(one, its_name) for one, its_name in named])

    def _characteristic(self, rule: Rule, name: str) -> Json:
        if isinstance(rule, Not):
            found = self._characteristic(rule.rule, name)
            return found | {"exclude": not found["exclude"]}
        if isinstance(rule, Criterion):
            return self._criterion(rule, name)
        if isinstance(rule, Sustained):
            days = quantity(Decimal(rule.days), "d", ">=")
            found = self._within(self.combined(rule.rule, name), rule.describe(), name)
            return {"extension": [{"url": CHARACTERISTIC_DURATION, "valueDuration": days}], **found}
        if isinstance(rule, Limit) and rule.manual is not None:
            return self._within(self._by_method(rule, name), rule.describe(), name)
        if isinstance(rule, AtLeastOf):
            return self._within(self.combined(rule, name), rule.describe(), name)
        return _leaf(rule)

    def _criterion(self, criterion: Criterion, name: str) -> Json:
        """A characteristic by the criterion's name, with the source's words."""
        found = self._characteristic(criterion.rule, name)
        code = found.pop("code")
        if "valueReference" in found and not found["exclude"]:
            # One that is excluded is called by what it excludes, or it would be denied twice.
            code = coded(CRITERION_SYSTEM, criterion.code, criterion.title)
        words = f"{criterion.title}: {criterion.wording} ({criterion.source})"
        return {"id": name, "code": code | {"text": words}, **found}

    def _within(self, found: Json, words: str, name: str) -> Json:
        """The characteristic of belonging to another Group, which is put among those within."""
        identity = {"resourceType": "Group", "id": f"{name}.group"}
        self.groups.append({**identity, **found, "name": words})
        return {
            "code": {"text": words},
            "valueReference": {"reference": f"#{name}.group"},
            "exclude": False,
        }

    def _by_method(self, limit: Limit, name: str) -> Json:
        """One number for cells counted by hand, the other for all else."""
        ways = []
        for number, by_hand in ((limit.manual or limit.number, True), (limit.number, False)):
            one = replace(limit, number=number, manual=None)
            both = _combined(2, [_leaf(one), _counted_by_hand(limit, by_hand)])
            how = "by hand" if by_hand else "not by hand"
            words = f"{one.describe()}, counted {how}"
            ways.append(self._within(both, words, f"{name}.{how.replace(' ', '-')}"))
        return _combined(1, ways)


def _named(rule: Rule, within: str, place: int) -> str:
    """What a characteristic is called: by its criterion and those around it, else by its place."""
    if isinstance(rule, Criterion):
        around = [name for name in within.split(".") if name and not name.startswith(_PART)]
        return ".".join([*around, rule.code])
    return f"{within}.{_PART}{place}".removeprefix(".")


def _combined(n: int, characteristics: Sequence[Json]) -> Json:
    """A Group of whoever has at least n of the characteristics."""
    if n == len(characteristics):
        how: list[Json] = [{"url": COMBINATION_METHOD, "valueCode": "all-of"}]
    elif n == 1:
        how = [{"url": COMBINATION_METHOD, "valueCode": "any-of"}]
    else:
        threshold = {"url": COMBINATION_THRESHOLD, "valuePositiveInt": n}
        how = [{"url": COMBINATION_METHOD, "valueCode": "at-least"}, threshold]
    return {
        "extension": how,
        "type": "person",
        "actual": False,
        "characteristic": list(characteristics),
    }


def _leaf(rule: Rule) -> Json:
    """What is no combination: a limit, transfusions, or else the rule's own words."""
    if isinstance(rule, Limit):
        loinc, display = PREFERRED_LOINC[rule.analyte]
        code: Json = {
            "coding": [
                {"system": LOINC, "code": loinc, "display": display},
                {"system": ANALYTE_SYSTEM, "code": code_slug(rule.analyte)},
            ],
            "text": rule.analyte.title,
        }
        limit = quantity(rule.number, rule.analyte.unit, _COMPARATORS[type(rule)])
        return {"code": code, "valueQuantity": limit, "exclude": False}
    code = {"text": rule.describe()}
    if isinstance(rule, TransfusionsNeeded):
        codes = (key for key, product in TRANSFUSIONS.items() if product is rule.product)
        code = {"coding": [{"system": s, "code": c} for s, c in codes], **code}
    return {"code": code, "valueBoolean": True, "exclude": False}


def _counted_by_hand(limit: Limit, by_hand: bool) -> Json:
    """Whether the count judged is one of a method by hand, as its LOINC code tells."""
    coding = [
        {"system": LOINC, "code": row.code, "display": row.display}
        for row in ANALYTE_LOINC
        if row.manual and row.analyte is limit.analyte
    ]
    code = {"coding": coding, "text": f"{limit.analyte.title}, counted by hand"}
    return {"code": code, "valueBoolean": True, "exclude": not by_hand}
