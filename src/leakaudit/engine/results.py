"""From cells to verdicts: the numbers of every pairing, its controls, and what the rules of evidence make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakaudit.engine.claims import examined_claims, worst_claim
from leakaudit.engine.endpoint_results import EndpointResults, adjust
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.merge import Merged
from leakaudit.engine.plan import Baseline, Pairing, Plan
from leakaudit.engine.planted import PlantedControls
from leakaudit.engine.planting import Wanted
from leakaudit.engine.store import RunStore
from leakaudit.engine.stored import RESAMPLING, Stored
from leakaudit.engine.utility import UtilityResult, mean_dice, utility_of
from leakaudit.plugins.descriptors import AttackInfo
from leakaudit.recipes.models import NONE
from leakaudit.scoring.outcome import candidate_verdict, defense_verdict, protocol_verdict, run_verdict
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.results import ClaimResult, EndpointResult, PairingResult, Verdict
from leakaudit.scoring.verdicts import pairing_verdict

__all__ = ["Judged", "Results", "judge"]

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
        altered: `train.json` of each training that the attack's replies altered; empty for any other attack.
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
    altered: tuple[dict[str, Any], ...] = ()
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
        wanted: Planted controls that these results ask for and that the plan does not have yet.
    """

    judged: tuple[Judged, ...]
    utility: Mapping[Place, UtilityResult]
    defenses: Mapping[Place, Verdict]
    protocols: Mapping[str, Verdict]
    run: Verdict
    trainings: Mapping[Place, tuple[dict[str, Any], ...]]
    wanted: tuple[Wanted, ...] = ()


def judge(plan: Plan, store: RunStore, outcomes: Mapping[str, Outcome], policy: Policy) -> Results:
    """Judge a run. Pure: it reads stored evidence and computes nothing anew, so that another policy needs no new attack."""
    return _Judge(plan, store, outcomes, policy).results()


class _Judge:
    def __init__(self, plan: Plan, store: RunStore, outcomes: Mapping[str, Outcome], policy: Policy) -> None:
        self.plan, self.outcomes, self.policy = plan, outcomes, policy
        self.attacks = {a.label: _attack_info(a.plugin.info) for a in plan.recipe.attacks}
        self.stored = Stored(plan, store, outcomes)
        self.trainings = {(b.protocol, b.defense): self.stored.trainings(b) for b in plan.baselines}
        self.planted = PlantedControls(
            plan, store, policy, undefended=self.stored.merged, failure=self.stored.failure, seed=RESAMPLING
        )  # fmt: skip
        families = {label: info.family for label, info in self.attacks.items()}
        self.endpoints = EndpointResults(plan, self.stored, policy, families, self.planted)

    def results(self) -> Results:
        judged = self._pairings()
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
        return Results(
            judged=judged, utility=utility, defenses=defenses, protocols=protocols, run=run, trainings=self.trainings,
            wanted=tuple(self.planted.wanted()),
        )  # fmt: skip

    def _policy_for(self, candidates: Mapping[str, Verdict]) -> Policy:
        """Return the policy with only those named candidates that apply to the protocol."""
        named = tuple(c for c in self.policy.candidates if c in candidates)
        return self.policy.model_copy(update={"candidates": named})

    # Pairings -----------------------------------------------------------------------------------------------------

    def _pairings(self) -> tuple[Judged, ...]:
        found = adjust([() if self._absent(p) else self.endpoints.of(p) for p in self.plan.pairings])
        return tuple(self._pairing(p, endpoints) for p, endpoints in zip(self.plan.pairings, found, strict=True))

    def _absent(self, pairing: Pairing) -> bool:
        return pairing.reason is not None or isinstance(self.stored.scores(pairing), str)

    def _pairing(self, pairing: Pairing, endpoints: tuple[EndpointResult, ...]) -> Judged:
        names: dict[str, Any] = {"protocol": pairing.protocol, "defense": pairing.defense, "attack": pairing.attack}
        scores = self.stored.scores(pairing)
        undefended = pairing.defense == NONE
        if pairing.reason is not None or isinstance(scores, str):
            error = scores if isinstance(scores, str) else None
            result = PairingResult(**names, undefended=undefended, not_applicable=pairing.reason, error=error)
            verdict, altered = pairing_verdict(result, self.policy), _hijacked(self._altered(pairing), pairing)
            return Judged(pairing=pairing, result=result, verdict=verdict, merged={}, altered=altered)
        attacks = [self.stored.json(key, "attack.json") or {} for key in pairing.attacks]
        altered = self._altered(pairing)
        result = PairingResult(
            **names, undefended=undefended, adaptive=all(_adaptive(a, pairing) for a in attacks), endpoints=endpoints,
            claim=None if undefended else self._claim(pairing, altered),
        )  # fmt: skip
        cells = [self.outcomes[k] for k in pairing.attacks if k in self.outcomes]
        return Judged(
            pairing=pairing, result=result, verdict=pairing_verdict(result, self.policy), merged=self.stored.merged(pairing),
            pictures=tuple(
                {**p, **{k: e[k] for k in ("seat", "level", "round")}} for e in scores[0]["evidence"] for p in e["pictures"]
            ),
            sabotage=_sabotage(altered), altered=_hijacked(altered, pairing), sandbox=str(attacks[0].get("sandbox", "")),
            seconds=sum(c.seconds for c in cells) if cells and not any(c.cached for c in cells) else None,
            peak_mb=max((c.peak_mb for c in cells), default=0.0) or None,
        )  # fmt: skip

    def _claim(self, pairing: Pairing, altered: tuple[dict[str, Any], ...]) -> ClaimResult | None:
        """Return what the pairing's canaries say of its defense's guarantee; the risk is shared among a defense's audits."""
        place = (pairing.protocol, pairing.defense)
        mine = [p for p in self.plan.pairings if (p.protocol, p.defense) == place]
        audits = sum(m.kind == "epsilon" for p in mine for m in self.stored.merged(p).values())
        control = next(
            (p for p in self.plan.pairings if (p.protocol, p.attack, p.defense) == (pairing.protocol, pairing.attack, NONE)), None
        )
        undefended = {} if control is None else self.stored.merged(control)
        found = examined_claims(self.stored.merged(pairing), altered, undefended, significance=0.05 / max(audits, 1))
        return worst_claim(list(found))

    def _altered(self, pairing: Pairing) -> tuple[dict[str, Any], ...]:
        """Return the trainings that an attack altered, each once however many seeds attacked it."""
        if pairing.requires is None or not pairing.requires.threat.alters:
            return ()
        found = [self.stored.json(key, "train.json") for key in dict.fromkeys(pairing.trains)]
        return tuple(t for t in found if t is not None)

    # Baselines ----------------------------------------------------------------------------------------------------

    def _defense(self, baseline: Baseline, judged: Sequence[Judged]) -> Verdict:
        if baseline.reason is not None:
            return Verdict(status="N/A", reasons=(baseline.reason,))
        if baseline.defense == NONE:
            return Verdict(status="control", reasons=("Without defense: a control, never a gate.",))
        place = (baseline.protocol, baseline.defense)
        here = [j for j in judged if (j.pairing.protocol, j.pairing.defense) == place]
        # An audit of epsilon that refuted nothing neither passes a defense nor holds it up.
        mine = {j.pairing.attack: j.verdict for j in here if not (j.result.silent and j.verdict.status == "REVIEW")}
        if not self.trainings[place]:
            return Verdict(status="ERROR", reasons=(self.stored.failure(baseline.trains),))
        channels = baseline.facts.channels
        needed = [label for label in mine if self._is_required(self.attacks[label], channels)]
        return defense_verdict(mine, channels, self.policy, required=needed)

    def _is_required(self, info: AttackInfo, channels: Sequence[str]) -> bool:
        """Return whether the policy asks for attacks of this family on a channel that the attack works from."""
        wire = set(channels)
        return any(info.family in self.policy.required.get(c, ()) for c in info.channels if c in wire)

    def _utility(self, baseline: Baseline) -> UtilityResult:
        reference = None if baseline.defense == NONE else self.trainings.get((baseline.protocol, NONE), ())
        mine = self.trainings[baseline.protocol, baseline.defense]
        missing = "" if mine else baseline.reason or self.stored.failure(baseline.trains)
        return utility_of(mine, reference, self.policy, missing)


_UNMEASURED = Verdict(status="REVIEW", reasons=("Utility was not measured.",))


def _attack_info(info: Any) -> AttackInfo:
    assert isinstance(info, AttackInfo)
    return info


def _synthetic(plan: Plan) -> bool:
    return bool(getattr(plan.recipe.data.plugin.info, "synthetic", False))


def _sabotage(trainings: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean Dice of altered trainings; None where there are none."""
    means = [m for t in trainings if (m := mean_dice(t["utility"]["dice"])["mean"]) is not None]
    return float(np.mean(means)) if means else None


def _hijacked(trainings: tuple[dict[str, Any], ...], pairing: Pairing) -> tuple[dict[str, Any], ...]:
    """Return the trainings in which an attack answered in a party's place: what a detector is there to notice."""
    alters = pairing.requires.threat.alters if pairing.requires is not None else ()
    return trainings if "replies" in alters else ()


def _adaptive(attack: Mapping[str, Any], pairing: Pairing) -> bool:
    """Return whether the engine saw the attack use a defended replica of a seat that carries the defense, or defended shadows."""
    used = [r for r in attack.get("replicas", []) if r["calls"] and r["defended"]]
    shadows = attack.get("shadows")
    learned_alike = isinstance(shadows, Mapping) and shadows["used"] > 0 and shadows["defended"]
    return learned_alike or any(r["seat"] in pairing.defended for r in used)
