"""The numbers of every endpoint that a verdict is made from: intervals at their corrected levels, and its own controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from leakaudit.engine.merge import Merged
from leakaudit.engine.plan import Pairing, Plan
from leakaudit.engine.planted import PlantedControls
from leakaudit.engine.seeds import seed_spread
from leakaudit.engine.stored import Stored
from leakaudit.recipes.models import NONE
from leakaudit.scoring.controls import NEGATIVE_LEVEL, ControlResult, negative_control, positive_control
from leakaudit.scoring.multiplicity import benjamini_hochberg, bonferroni_level
from leakaudit.scoring.policy import Family, Policy
from leakaudit.scoring.results import EndpointResult

__all__ = ["EndpointResults", "adjust"]


class EndpointResults:
    """Makes the endpoints of pairings.

    Args:
        plan: What was planned.
        stored: What was found.
        policy: Limits.
        families: Family of each attack by its label.
        planted: Answers what planted controls say.
    """

    def __init__(
        self, plan: Plan, stored: Stored, policy: Policy, families: Mapping[str, Family], planted: PlantedControls
    ) -> None:  # fmt: skip
        self._plan, self._stored, self._policy, self._families, self._planted = plan, stored, policy, families, planted
        self._undefended = {(p.protocol, p.attack): p for p in plan.pairings if p.defense == NONE}

    def of(self, pairing: Pairing) -> tuple[EndpointResult, ...]:
        """Return the endpoints of a pairing that has scores."""
        shuffled = self._stored.shuffled(pairing)
        return tuple(self._endpoint(pairing, m, shuffled.get(name)) for name, m in self._stored.merged(pairing).items())

    def _endpoint(self, pairing: Pairing, m: Merged, shuffled: Merged | None) -> EndpointResult:
        low = m.interval(bonferroni_level(0.95, self._tested(pairing)))
        high = m.interval(bonferroni_level(0.95, self._candidates(pairing.protocol)))
        planted, no_planted = self._planted.of(pairing, m.name)
        scores = self._stored.scores(pairing)
        spread = None if isinstance(scores, str) else seed_spread(scores, m.name)
        bar, blind = m.patient_bar(), None if m.tables is None else m.tables.blind_advantage()
        return EndpointResult(
            name=m.name, channel=m.channel, family=self._families[pairing.attack],
            kind=_limited(m), value=m.value if m.resolvable else None,
            interval=m.interval(), fail_low=None if low is None else low.low, pass_high=None if high is None else high.high,
            per_patient=m.per_patient, patients=m.n, repeats=m.repeats, coarse=m.kind in ("identity", "canary"),
            resolvable=m.resolvable, attack_seeds=pairing.seeds,
            seed_spread=spread, stable=spread is None or spread <= self._limit(m), positive=self._positive(pairing, m.name),
            planted=planted, no_planted=no_planted, negative=_negative(shuffled), shuffled_worst=_worst(shuffled),
            exchanged=m.shuffle_test(), patient_bar=None if bar is None else bar.limit,
            above_bar=None if bar is None else bar.above, blind=blind, confounded=_tells_apart(blind),
        )  # fmt: skip

    def _limit(self, m: Merged) -> float:
        return self._policy.leakage_max.value if _limited(m) == "leakage" else self._policy.membership_max.value

    def _tested(self, pairing: Pairing) -> int:
        """Return how many endpoints are tested on one defense of one protocol."""
        place = (pairing.protocol, pairing.defense)
        return max(sum(len(self._stored.merged(p)) for p in self._plan.pairings if (p.protocol, p.defense) == place), 1)

    def _candidates(self, protocol: str) -> int:
        """Return how many defenses PASS is corrected for: the named candidates, else all that apply to the protocol."""
        applied = sum(b.protocol == protocol and b.defense != NONE and b.reason is None for b in self._plan.baselines)
        return max(len(self._policy.candidates) or applied, 1)

    def _positive(self, pairing: Pairing, name: str) -> ControlResult | None:
        """Return the control by the same attack and endpoint on the undefended training."""
        undefended = self._undefended.get((pairing.protocol, pairing.attack))
        m = None if undefended is None else self._stored.merged(undefended).get(name)
        interval = m.interval() if m is not None else None
        if m is None or m.value is None or interval is None:
            return None
        return positive_control(m.value, interval, self._limit(m), factor=self._policy.control_factor.value, patients=m.n)


def adjust(endpoints: Sequence[Sequence[EndpointResult]]) -> list[tuple[EndpointResult, ...]]:
    """Return the endpoints of all pairings with their p-values corrected over the run (Benjamini-Hochberg).

    Args:
        endpoints: Endpoints by pairing, undefended ones included.
    """
    found = [e.exchanged.p for row in endpoints for e in row if e.exchanged is not None]
    adjusted = iter(benjamini_hochberg(found).tolist() if found else ())
    return [tuple(e if e.exchanged is None else replace(e, adjusted=next(adjusted)) for e in row) for row in endpoints]


def _limited(m: Merged) -> Literal["leakage", "membership", "epsilon"]:
    """Return which limit an endpoint is held against."""
    return m.kind if m.kind in ("membership", "epsilon") else "leakage"


def _negative(shuffled: Merged | None) -> ControlResult | None:
    if shuffled is None or shuffled.value is None:
        return None
    interval = shuffled.interval(NEGATIVE_LEVEL)
    return None if interval is None else negative_control(shuffled.value, interval, patients=shuffled.n)


def _worst(shuffled: Merged | None) -> float | None:
    return max(shuffled.per_patient, default=None) if shuffled is not None else None


def _tells_apart(blind: tuple[float, Any] | None) -> bool:
    """Return whether the blind baseline's interval excludes 0, on either side: then its area is no coin toss."""
    if blind is None or blind[1] is None:
        return False
    return bool(blind[1].low > 0 or blind[1].high < 0)
