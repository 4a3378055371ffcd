"""Planted controls: which ones the judged undefended pairings ask for, and what was found on them.

Evidence from a level of a cut is compared with the same attack on the shallowest level that the channel carries, the
easiest one. Where the attack reports that level anyway, its own endpoint there is the control; otherwise it is run there.
Evidence of membership is compared with the same attack on a training in which some attacked patients are repeated ten times.
An endpoint that comes from the shallowest level itself has no planted control: held against itself it would say nothing, and
a cut so deep that nothing is found on it would be called a broken attack.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leakaudit.engine.merge import Merged, merge
from leakaudit.engine.plan import Pairing, Plan, Planted
from leakaudit.engine.planting import COPIES, PLANTED, Wanted, shallowest
from leakaudit.engine.store import RunStore
from leakaudit.recipes.models import NONE
from leakaudit.scoring.controls import ControlResult, positive_control
from leakaudit.scoring.policy import Policy

__all__ = ["PlantedControls"]

FEWEST = 10
"""Below this many patients nothing is planted: the interval is only indicative, and could decide nothing."""

_SHALLOWEST = "the evidence already comes from the shallowest level that the channel carries"
_NO_LEVEL = "the evidence comes from no level of a cut, and is not about membership"


class PlantedControls:
    """Answers for every endpoint whose positive control was missed what the planted control says.

    Args:
        plan: The plan, with the planted controls that were computed.
        store: Where their results lie.
        policy: Limits.
        undefended: Returns the merged endpoints of a pairing by name, empty where there are none.
        failure: Returns why the last of some cells has no result.
        seed: Seed of resampling.
    """

    def __init__(
        self, plan: Plan, store: RunStore, policy: Policy, *, undefended: Callable[[Pairing], Mapping[str, Merged]],
        failure: Callable[[Sequence[str]], str], seed: int,
    ) -> None:  # fmt: skip
        self._plan, self._store, self._policy, self._seed = plan, store, policy, seed
        self._endpoints, self._failure = undefended, failure
        self._pairings = {(p.protocol, p.attack): p for p in plan.pairings if p.defense == NONE}
        self._facts = {b.protocol: b.facts for b in plan.baselines}
        self._planted = {(p.protocol, p.attack, p.way, p.channel, p.level): p for p in plan.planted}
        self._scored: dict[str, dict[str, Merged]] = {}
        self._positive: dict[tuple[str, str, str], ControlResult | None] = {}

    def wanted(self) -> list[Wanted]:
        """Return the planted controls that are still to be computed: those that no endpoint at hand stands for."""
        found: set[Wanted] = set()
        for pairing in self._pairings.values():
            for m in self._endpoints(pairing).values():
                if self._missed(pairing, m) and m.n >= FEWEST:
                    found |= self._to_plant(pairing, m)
        return sorted(w for w in found if (w.protocol, w.attack, w.way, w.channel, w.level) not in self._planted)

    def of(self, pairing: Pairing, name: str) -> tuple[ControlResult | None, str | None]:
        """Return the planted control of an endpoint, or why there is none; neither where the positive control holds.

        Args:
            pairing: A pairing, defended or not.
            name: Name of the endpoint in it.
        """
        control = self._pairings.get((pairing.protocol, pairing.attack))
        m = None if control is None else self._endpoints(control).get(name)
        if control is None or m is None or not self._missed(control, m):
            return None, None
        if m.kind == "membership":
            return self._computed(control, m, "repeat", "")
        level = self._shallowest(control, m)
        if level is None:
            return None, _NO_LEVEL
        if m.level == level:
            return None, _SHALLOWEST
        own = self._at(level, m, self._endpoints(control))
        if own is not None:
            found = self._judged(own, f"this attack on {level}, undefended")
            return found, None if found is not None else f"{m.endpoint} cannot be judged on {level} either"
        return self._computed(control, m, "level", level)

    def _missed(self, pairing: Pairing, m: Merged) -> bool:
        """Whether an undefended endpoint has a number and misses the positive control with it."""
        place = (pairing.protocol, pairing.attack, m.name)
        if place not in self._positive:  # asked again for every defense
            self._positive[place] = self._control(m, "positive")
        control = self._positive[place]
        return control is not None and not control.passed

    def _control(self, m: Merged, kind: Any) -> ControlResult | None:
        interval = m.interval() if m.resolvable else None
        if interval is None or m.value is None:
            return None
        limit = self._policy.membership_max.value if m.kind in ("membership", "epsilon") else self._policy.leakage_max.value
        factor = self._policy.control_factor.value
        return positive_control(m.value, interval, limit, factor=factor, kind=kind, patients=m.n)

    def _judged(self, m: Merged, what: str) -> ControlResult | None:
        control = self._control(m, "planted")
        return None if control is None else replace(control, criterion=f"{control.criterion}; planted: {what}")

    def _shallowest(self, pairing: Pairing, m: Merged) -> str | None:
        facts = self._facts[pairing.protocol]
        return shallowest(facts, m.channel, m.seat) if m.level is not None else None

    @staticmethod
    def _at(level: str, m: Merged, endpoints: Mapping[str, Merged]) -> Merged | None:
        """Return the endpoint like `m` at another level."""
        place = (m.endpoint, m.channel, m.seat)
        return next((e for e in endpoints.values() if e.level == level and (e.endpoint, e.channel, e.seat) == place), None)

    def _to_plant(self, pairing: Pairing, m: Merged) -> set[Wanted]:
        names = {"protocol": pairing.protocol, "attack": pairing.attack}
        if m.kind == "membership":
            return {Wanted(**names, way="repeat")}
        level = self._shallowest(pairing, m)
        if level is None or m.level == level or self._at(level, m, self._endpoints(pairing)) is not None:
            return set()
        return {Wanted(**names, way="level", channel=m.channel, level=level)}

    def _computed(self, pairing: Pairing, m: Merged, way: Any, level: str) -> tuple[ControlResult | None, str | None]:
        channel = m.channel if way == "level" else ""
        entry = self._planted.get((pairing.protocol, pairing.attack, way, channel, level))
        if entry is None:
            return None, f"with fewer than {FEWEST} patients it would decide nothing" if m.n < FEWEST else "none was run"
        if entry.reason is not None:
            return None, entry.reason
        found = self._score(entry)
        if isinstance(found, str):
            return None, found
        if way == "repeat":
            e = found.get(m.name)
            what = f"up to {PLANTED} attacked patients {COPIES} times in one undefended training, against patients never seen"
        else:
            e = self._at(level, m, found)
            what = f"the same attack moved to {level}, on one undefended training"
        control = None if e is None else self._judged(e, what)
        if control is None:
            where = level or "the planted training"
            return None, f"the attack returned nothing about {m.endpoint} from {where} that can be judged"
        return control, None

    def _score(self, entry: Planted) -> dict[str, Merged] | str:
        """Return the endpoints of a planted control by name, or why there are none."""
        if entry.score not in self._scored:
            stored = self._store.get(entry.score)
            if stored is None:
                return self._failure((entry.train, entry.cell, entry.score)).rstrip(".")
            score = json.loads((stored.folder / "score.json").read_text())
            self._scored[entry.score] = merge([score], "endpoints", self._seed)
        return self._scored[entry.score]
