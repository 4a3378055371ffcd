"""What a verdict needs of this plan: patients for every kind of endpoint that the attacks can yield, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

from leakaudit.engine.merge_epsilon import DELTA
from leakaudit.engine.plan import Pairing, Plan
from leakaudit.plugins.descriptors import AttackInfo
from leakaudit.recipes.models import NONE
from leakaudit.scoring import planning
from leakaudit.scoring.audit import audit_ceiling
from leakaudit.scoring.multiplicity import bonferroni_level
from leakaudit.scoring.rates import patients_for_auc, tail_bound
from leakaudit.scoring.verdicts import patients_needed

__all__ = ["Need", "needs"]

Kind = Literal["fidelity", "identity", "canary", "mask", "membership", "property", "epsilon", "utility"]
FEWEST_TO_FAIL = 10
"""Below this many patients a mean cannot FAIL."""
SMOKE = 10
"""Membership with fewer patients a side tests the machinery, not the model."""
_GALLERY = 100


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one kind of endpoint needs.

    Attributes:
        kind: Kind of endpoint, or `"utility"`.
        protocols: Labels of the protocols where it is measured.
        attacks: Labels of the attacks that yield it.
        unit: What is counted.
        there: How many there are.
        to_pass: How many PASS needs, with a chance of 80 % where nothing leaks; None where no number is enough.
        to_fail: How many FAIL needs.
        power: Chance of PASS with those that are there where nothing leaks; None where it is not a matter of chance.
        notes: Further sentences.
    """

    kind: Kind
    unit: str
    there: int
    to_pass: int | None
    to_fail: int | None
    protocols: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    power: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there are as many as PASS needs."""
        return self.to_pass is not None and self.there >= self.to_pass

    def line(self) -> str:
        """Return the need as one line of text."""
        who = f"{self.kind} in {', '.join(self.protocols)}" + (f" by {', '.join(self.attacks)}" if self.attacks else "")
        best = "no Dice is lost" if self.kind == "utility" else "nothing leaks"
        chance = "" if self.power is None else f" (chance of PASS {self.power:.0%} if {best})"
        asked = "" if self.to_pass is None else f"PASS needs {self.to_pass} {self.unit}, "
        text = f"{who}: {asked}there are {self.there}{chance}"
        few = not self.enough and self.kind != "epsilon"
        if self.kind == "epsilon":
            text = f"{who}: there are {self.there} {self.unit}"
        return "; ".join((f"{text}: too few" if few else text, *self.notes))

    def to_json(self) -> dict[str, Any]:
        """Return the need as plain JSON."""
        return asdict(self) | {"enough": self.enough}


def needs(plan: Plan) -> list[Need]:
    """Return what the endpoints of a plan need, equal needs of several attacks together, and utility last."""
    found: dict[Need, tuple[dict[str, None], dict[str, None]]] = {}
    for pairing in plan.pairings:
        if pairing.requires is not None:
            for need in _Needs(plan, pairing).all():
                protocols, attacks = found.setdefault(need, ({}, {}))
                protocols[pairing.protocol] = attacks[pairing.attack] = None
    together = [replace(need, protocols=tuple(p), attacks=tuple(a)) for need, (p, a) in found.items()]
    return [*together, *_utility(plan)]


def _utility(plan: Plan) -> list[Need]:
    defended = tuple(dict.fromkeys(b.protocol for b in plan.baselines if b.defense != NONE and b.reason is None))
    if not defended:
        return []
    margin, test = plan.recipe.policy.dice_margin.value, len(plan.split.test)
    spread = planning.DICE_SPREAD
    return [
        Need(
            kind="utility", protocols=defended, unit="test patients", there=test,
            to_pass=planning.patients_for_power(spread, margin, 0.9), to_fail=2,
            power=planning.power_of_mean(test, spread, margin, 0.9),
            notes=(f"a loss of {margin:g} is accepted, and differences of Dice are taken to spread by {spread:g} over patients",),
        )
    ]  # fmt: skip


class _Needs:
    """What one pairing's endpoints need."""

    def __init__(self, plan: Plan, pairing: Pairing) -> None:
        self.plan, self.pairing, self.policy = plan, pairing, plan.recipe.policy
        choice = next(a for a in plan.recipe.attacks if a.label == pairing.attack)
        self.info = cast(AttackInfo, choice.plugin.info)
        applied = [b for b in plan.baselines if b.protocol == pairing.protocol and b.defense != NONE and b.reason is None]
        # PASS is judged at a level that is shared among the candidate defenses.
        self.level = bonferroni_level(0.95, max(len(self.policy.candidates) or len(applied), 1))
        self.least, self.attacked = patients_needed(self.policy), len(plan.split.attacked)

    def all(self) -> Iterator[Need]:
        evidence = set(self.info.evidence)
        if "images" in evidence:
            yield self._mean("fidelity")
            yield self._identity()
            # Whether a dataset plants identity bits is known once it is read; the phantom says it in its parameters.
            if getattr(self.plan.recipe.data.params, "canary", False):
                yield self._canary()
        if "masks" in evidence:
            yield self._mean("mask")
        if "values" in evidence:
            yield self._mean("property")
        if "scores" in evidence:
            canaries = None if self.pairing.requires is None else self.pairing.requires.canaries
            yield self._epsilon(canaries.count) if canaries is not None and canaries.fair else self._membership()

    def _epsilon(self, canaries: int) -> Need:
        """Return the ceiling: no number of canaries passes a claim, and few refute none."""
        runs = self.plan.recipe.repeats
        ceiling = audit_ceiling(canaries, runs, delta=DELTA)
        trainings = "one training" if runs == 1 else f"{runs} trainings"
        note = f"in {trainings} not even a perfect attack shows more than epsilon {ceiling:.2f} (delta {DELTA:g})"
        notes = (note, "a claim can be refuted only")
        return Need(kind="epsilon", unit="canaries", there=canaries, to_pass=None, to_fail=FEWEST_TO_FAIL, notes=notes)

    def _mean(self, kind: Kind) -> Need:
        share, tail = tail_bound(self.attacked), self.policy.tail_share.value
        note = f"even if nobody leaks, up to {share:.0%} of such patients may be worse than the worst seen ({tail:.0%} are allowed)"
        return self._attacked(kind, self.least, notes=() if self.attacked >= self.least else (note,))

    def _attacked(self, kind: Kind, to_pass: int | None, **more: Any) -> Need:
        return Need(
            kind=kind, unit="attacked patients", there=self.attacked, to_pass=to_pass,
            to_fail=FEWEST_TO_FAIL, **more,
        )  # fmt: skip

    def _identity(self) -> Need:
        again = {e.patient for e in self.plan.inventory.patients if e.visits > 1}
        split = self.plan.split
        everybody = {*split.members, *split.validation, *split.test, *split.non_members, *split.auxiliary}
        compared = again & everybody if again else set(split.members)
        if not set(split.attacked) <= compared or len(compared) < 2:
            why = "not measured, because an attacked patient has no other visit to be found by"
            return self._attacked("identity", None, notes=(why,))
        gallery, limit = min(max(_GALLERY, self.attacked), len(compared)), self.policy.leakage_max.value
        none, one = (max(self.least, planning.patients_for_hits(k, limit, gallery, self.level)) for k in (0, 1))
        enough = self.attacked >= self.least
        allowed = planning.hits_allowed(self.attacked, limit, gallery, self.level) if enough else None
        here = "" if allowed is None else f"; here at most {allowed} may be found"
        note = f"{none} if nobody is found at rank 1 among {gallery}, {one} if one is{here}"
        return self._attacked("identity", none, notes=(note,))

    def _canary(self) -> Need:
        spread, limit = planning.canary_spread(), self.policy.leakage_max.value
        n = max(self.least, planning.patients_for_power(spread, limit, self.level))
        chance = planning.power_of_mean(self.attacked, spread, limit, self.level) if self.attacked >= self.least else 0.0
        return self._attacked("canary", n, power=chance)

    def _membership(self) -> Need:
        limit, split = self.policy.membership_max.value, self.plan.split
        canaries = self.pairing.requires.canaries if self.pairing.requires is not None else None
        there = min(len(split.members), len(split.non_members))
        unit = "patients a side"
        if canaries is not None:
            there, unit = int(canaries.count * min(canaries.probability, 1 - canaries.probability)), "canaries a side (expected)"
        notes = (f"below {SMOKE} a side this is a smoke test",) if there < SMOKE else ()
        return Need(
            kind="membership", unit=unit, there=there,
            to_pass=max(self.least, patients_for_auc(limit, planning.POWER, self.level)), to_fail=FEWEST_TO_FAIL,
            power=planning.membership_power(there, limit, self.level) if there >= self.least else 0.0, notes=notes,
        )  # fmt: skip
