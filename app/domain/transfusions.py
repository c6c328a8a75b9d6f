"""What papers ask of transfusions: dependence, independence, need, fewer units."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.counts import Product
from app.domain.rules import AtBaseline, Known, OfOneProduct, Rule, Truth, all_of, negation


@dataclass(frozen=True, slots=True)
class TransfusionDependent(OfOneProduct):
    """The patient depended on transfusions of the product in the weeks before."""

    def check(self, known: Known) -> Truth:
        return known.transfusion_dependent.get(self.product, Truth.UNKNOWN)

    def describe(self) -> str:
        return f"depends on {self.product.value} transfusions"


@dataclass(frozen=True, slots=True)
class TransfusionIndependent(OfOneProduct):
    """Nothing of the product was transfused in the weeks before, by evidence."""

    def check(self, known: Known) -> Truth:
        return known.transfusion_independent.get(self.product, Truth.UNKNOWN)

    def describe(self) -> str:
        return f"independent of {self.product.value} transfusions"


@dataclass(frozen=True, slots=True)
class TransfusionsNeeded(OfOneProduct):
    """The product was transfused in the weeks before: once is enough, none is by evidence."""

    def check(self, known: Known) -> Truth:
        return negation(TransfusionIndependent(self.product).check(known))

    def describe(self) -> str:
        return f"{self.product.value} transfused in the 8 weeks before"


@dataclass(frozen=True, slots=True)
class FewerUnits(OfOneProduct):
    """At least so many units fewer than in the same weeks before treatment."""

    units: int

    def check(self, known: Known) -> Truth:
        before = known.baseline.units.get(self.product) if known.baseline else None
        now = known.units.get(self.product)
        if before is None or now is None:
            return Truth.UNKNOWN
        return Truth.MET if before - now >= self.units else Truth.NOT_MET

    def describe(self) -> str:
        return f"at least {self.units} units of {self.product.value} fewer per 8 weeks"


def independence_gained(product: Product) -> Rule:
    """A patient who depended on transfusions of the product no longer does."""
    return all_of(AtBaseline(TransfusionDependent(product)), TransfusionIndependent(product))
