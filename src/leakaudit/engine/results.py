"""From cells to verdicts: the numbers of every pairing, its controls, and what the rules of evidence make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakaudit.cohorts.cohort import REGIONS
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.merge import Merged, merge
from leakaudit.engine.plan import Baseline, Pairing, Plan
from leakaudit.engine.store import RunStore
from leakaudit.engine.utility import UtilityResult, mean_dice, patient_means
from leakaudit.plugins.descriptors import AttackInfo
from leakaudit.scoring.controls import ControlResult, negative_control, positive_control
from leakaudit.scoring.intervals import Interval, difference_interval, patient_interval, with_repeats
from leakaudit.scoring.multiplicity import bonferroni_level
from leakaudit.scoring.outcome import candidate_verdict, defense_verdict, protocol_verdict, run_verdict, utility_verdict
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.results import EndpointResult, PairingResult, Verdict
from leakaudit.scoring.verdicts import pairing_verdict

__all__ = ["Judged", "Results", "judge"]

NONE = "none"
_RESAMPLING = 20220822
"""Seed of every resampling: public and fixed, so that rescoring stored evidence gives the same intervals."""

Place = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One pairing with everything the report says of it.

    Attributes:
        pairing: Its place in the plan.
        result: The numbers its verdict was made from.
        verdict: Its verdict.
        merged: Its endpoints by name.
        pictures: Originals and reconstructions of synthetic or public data.
        sabotage: Dice under an attack that alters training.
        seconds: Seconds of its attack cells.
        peak_mb: Largest memory of its attack cells.
        sandbox: How the attack's process was confined.
    """

    pairing: Pairing
    result: PairingResult
    verdict: Verdict
    merged: Mapping[str, Merged]
    pictures: tuple[dict[str, Any], ...] = ()
    sabotage: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None
    sandbox: str = ""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that was found.

    Attributes:
        judged: Pairings in the plan's order.
        utility: By (protocol, defense).
        defenses: Privacy verdict by (protocol, defense).
        protocols: By protocol.
        run: Of the run.
        trainings: `train.json` of each repeat by (protocol, defense).
    """

    judged: tuple[Judged, ...]
    utility: Mapping[Place, UtilityResult]
    defenses: Mapping[Place, Verdict]
    protocols: Mapping[str, Verdict]
    run: Verdict
    trainings: Mapping[Place, tuple[dict[str, Any], ...]]


def judge(plan: Plan, store: RunStore, outcomes: Mapping[str, Outcome], policy: Policy) -> Results:
    """Judge a run. Pure: it reads stored evidence and computes nothing anew, so that another policy needs no new attack."""
    return _Judge(plan, store, outcomes, policy).results()


class _Judge:
    def __init__(self, plan: Plan, store: RunStore, outcomes: Mapping[str, Outcome], policy: Policy) -> None:
        self.plan, self.store, self.outcomes, self.policy = plan, store, outcomes, policy
        self.families = {a.label: _family(a.plugin.info) for a in plan.recipe.attacks}
        self.loaded = {id(p): self._load(p) for p in plan.pairings}
        self.trainings = {(b.protocol, b.defense): self._trainings(b) for b in plan.baselines}

    def results(self) -> Results:
        judged = tuple(self._pairing(p) for p in self.plan.pairings)
        utility = {(b.protocol, b.defense): self._utility(b) for b in self.plan.baselines}
        defenses = {(b.protocol, b.defense): self._defense(b, judged) for b in self.plan.baselines}
        protocols = {}
        for protocol in dict.fromkeys(b.protocol for b in self.plan.baselines):
            candidates = {
                d: candidate_verdict(verdict, utility[p, d].verdict or _UNMEASURED)
                for (p, d), verdict in defenses.items()
                if p == protocol and d != NONE and verdict.status != "N/A"
            }
            protocols[protocol] = protocol_verdict(candidates, self._policy_for(candidates))
        run = run_verdict(protocols, synthetic=_synthetic(self.plan))
        return Results(judged=judged, utility=utility, defenses=defenses, protocols=protocols, run=run, trainings=self.trainings)

    def _policy_for(self, candidates: Mapping[str, Verdict]) -> Policy:
        """Return the policy with only those named candidates that apply to the protocol."""
        named = tuple(c for c in self.policy.candidates if c in candidates)
        return self.policy.model_copy(update={"candidates": named})

    # Reading ------------------------------------------------------------------------------------------------------

    def _json(self, key: str, name: str) -> dict[str, Any] | None:
        entry = self.store.get(key)
        return None if entry is None else dict(json.loads((entry.folder / name).read_text()))

    def _load(self, pairing: Pairing) -> list[dict[str, Any]] | str:
        """Return the score cells of a pairing, or why there are none."""
        if pairing.error is not None:
            return pairing.error
        found = []
        for keys in zip(pairing.trains, pairing.attacks, pairing.scores, strict=True):
            score = self._json(keys[-1], "score.json")
            if score is None:
                return self._reason(keys)
            found.append(score)
        return found

    def _reason(self, keys: Sequence[str]) -> str:
        """Return the first failure on the way to a score; a blocked cell's own words name the one that failed."""
        for key in keys:
            outcome = self.outcomes.get(key)
            if outcome is not None and not outcome.ok:
                return f"{_WORDS.get(outcome.status, outcome.status)}: {outcome.reason}"
        return "Not computed."

    def _trainings(self, baseline: Baseline) -> tuple[dict[str, Any], ...]:
        found = [self._json(key, "train.json") for key in baseline.trains]
        return tuple(t for t in found if t is not None) if all(t is not None for t in found) else ()

    # Pairings -----------------------------------------------------------------------------------------------------

    def _pairing(self, pairing: Pairing) -> Judged:
        names: dict[str, Any] = {"protocol": pairing.protocol, "defense": pairing.defense, "attack": pairing.attack}
        loaded = self.loaded[id(pairing)]
        undefended = pairing.defense == NONE
        if pairing.reason is not None or isinstance(loaded, str):
            error = loaded if isinstance(loaded, str) else None
            result = PairingResult(**names, undefended=undefended, not_applicable=pairing.reason, error=error)
            return Judged(pairing=pairing, result=result, verdict=pairing_verdict(result, self.policy), merged={})
        merged = merge(loaded, "endpoints", _RESAMPLING)
        shuffled = merge(loaded, "shuffled", _RESAMPLING)
        attacks = [self._json(key, "attack.json") or {} for key in pairing.attacks]
        endpoints = tuple(self._endpoint(pairing, m, shuffled.get(name)) for name, m in merged.items())
        result = PairingResult(
            **names, undefended=undefended, adaptive=all(_adaptive(a, pairing) for a in attacks), endpoints=endpoints
        )
        cells = [self.outcomes[k] for k in pairing.attacks if k in self.outcomes]
        return Judged(
            pairing=pairing, result=result, verdict=pairing_verdict(result, self.policy), merged=merged,
            pictures=tuple({**p, "seat": e["seat"], "level": e["level"]} for e in loaded[0]["evidence"] for p in e["pictures"]),
            sabotage=self._sabotage(pairing), sandbox=str(attacks[0].get("sandbox", "")),
            seconds=sum(c.seconds for c in cells) if cells and not any(c.cached for c in cells) else None,
            peak_mb=max((c.peak_mb for c in cells), default=0.0) or None,
        )  # fmt: skip

    def _endpoint(self, pairing: Pairing, m: Merged, shuffled: Merged | None) -> EndpointResult:
        k = self._endpoints_of(pairing)
        d = len(self.policy.candidates) or sum(
            b.protocol == pairing.protocol and b.defense != NONE and b.reason is None for b in self.plan.baselines
        )
        low, high = m.interval(bonferroni_level(0.95, k)), m.interval(bonferroni_level(0.95, max(d, 1)))
        return EndpointResult(
            name=m.name, channel=m.channel, family=self.families[pairing.attack],
            kind="membership" if m.tables else "leakage", value=m.value if m.resolvable else None, interval=m.interval(),
            fail_low=None if low is None else low.low, pass_high=None if high is None else high.high, per_patient=m.per_patient,
            patients=m.n, repeats=m.repeats, resolvable=m.resolvable, positive=self._positive(pairing, m.name),
            negative=_negative(shuffled),
        )  # fmt: skip

    def _endpoints_of(self, pairing: Pairing) -> int:
        """Return how many endpoints are tested on one defense of one protocol."""
        count = 0
        for other in self.plan.pairings:
            loaded = self.loaded[id(other)]
            if (other.protocol, other.defense) == (pairing.protocol, pairing.defense) and not isinstance(loaded, str):
                count += sum(len(e["endpoints"]) for r in loaded[:1] for e in r["evidence"])
        return max(count, 1)

    def _positive(self, pairing: Pairing, name: str) -> ControlResult | None:
        """Return the control by the same attack and endpoint on the undefended training."""
        for other in self.plan.pairings:
            if (other.protocol, other.defense, other.attack) == (pairing.protocol, NONE, pairing.attack):
                loaded = self.loaded[id(other)]
                if isinstance(loaded, str) or other.reason is not None:
                    return None
                m = merge(loaded, "endpoints", _RESAMPLING).get(name)
                interval = m.interval() if m is not None else None
                if m is None or m.value is None or interval is None:
                    return None
                limit = self.policy.membership_max.value if m.tables else self.policy.leakage_max.value
                return positive_control(m.value, interval, limit, factor=self.policy.control_factor.value)
        return None

    def _sabotage(self, pairing: Pairing) -> float | None:
        if pairing.requires is None or not pairing.requires.threat.alters:
            return None
        trainings = [self._json(key, "train.json") for key in pairing.trains]
        means = [m for t in trainings if t is not None and (m := mean_dice(t["utility"]["dice"])["mean"]) is not None]
        return float(np.mean(means)) if means else None

    # Baselines ----------------------------------------------------------------------------------------------------

    def _defense(self, baseline: Baseline, judged: Sequence[Judged]) -> Verdict:
        if baseline.reason is not None:
            return Verdict(status="N/A", reasons=(baseline.reason,))
        if baseline.defense == NONE:
            return Verdict(status="control", reasons=("Without defense: a control, never a gate.",))
        place = (baseline.protocol, baseline.defense)
        mine = {j.pairing.attack: j.verdict for j in judged if (j.pairing.protocol, j.pairing.defense) == place}
        if not self.trainings[place]:
            return Verdict(status="ERROR", reasons=(self._reason(baseline.trains),))
        return defense_verdict(mine, baseline.facts.channels, self.policy)

    def _utility(self, baseline: Baseline) -> UtilityResult:
        place = (baseline.protocol, baseline.defense)
        nothing = dict.fromkeys((*REGIONS, "mean"))
        trainings = self.trainings[place]
        if not trainings:
            why = baseline.reason or self._reason(baseline.trains)
            return UtilityResult(dice=nothing, interval=None, difference=None, n=0, verdict=None, reason=why)
        patients, means = patient_means(trainings)
        if not patients:
            why = "The split has no test patients, so utility was not measured."
            return UtilityResult(dice=nothing, interval=None, difference=None, n=0, verdict=None, reason=why)
        table = np.array([[[np.nan if v is None else v for v in row] for row in t["utility"]["dice"]] for t in trainings])
        dice = mean_dice(np.concatenate(list(table)).tolist())
        interval = None
        if len(patients) >= 2:
            interval = with_repeats(means.mean(axis=1), patient_interval(means.mean(axis=0), seed=_RESAMPLING))
        difference, verdict = self._difference(baseline, patients, means)
        return UtilityResult(dice=dice, interval=interval, difference=difference, n=len(patients), verdict=verdict)

    def _difference(
        self, baseline: Baseline, patients: list[str], means: Any
    ) -> tuple[tuple[float, Interval] | None, Verdict | None]:
        if baseline.defense == NONE:
            return None, None
        reference = self.trainings.get((baseline.protocol, NONE), ())
        if reference and len(patients) < 2:
            return None, Verdict(status="REVIEW", reasons=("One test patient: the difference of Dice has no interval.",))
        if not reference:
            return None, utility_verdict(None, self.policy)
        before = patient_means(reference)[1]
        interval = difference_interval(means, before, seed=_RESAMPLING)
        return (float((means - before).mean()), interval), utility_verdict(interval, self.policy)


_UNMEASURED = Verdict(status="REVIEW", reasons=("Utility was not measured.",))
_WORDS = {
    "error": "The cell failed", "timeout": "The cell ran past its time limit", "killed": "The cell's process died",
    "blocked": "Blocked",
}  # fmt: skip


def _family(info: Any) -> Any:
    assert isinstance(info, AttackInfo)
    return info.family


def _synthetic(plan: Plan) -> bool:
    return bool(getattr(plan.recipe.data.plugin.info, "synthetic", False))


def _adaptive(attack: Mapping[str, Any], pairing: Pairing) -> bool:
    """Return whether the engine saw the attack use a defended replica of a seat that carries the defense."""
    used = [r for r in attack.get("replicas", []) if r["calls"] and r["defended"]]
    return any(r["seat"] in pairing.defended for r in used)


def _negative(shuffled: Merged | None) -> ControlResult | None:
    if shuffled is None or shuffled.value is None:
        return None
    interval = shuffled.interval(0.999)
    return None if interval is None else negative_control(shuffled.value, interval)
