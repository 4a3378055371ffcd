"""Pairings of the report: endpoints, controls, threat models in words, and images where they may be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from leakaudit.defenses.guarantee import Guarantee
from leakaudit.engine.merge import Merged
from leakaudit.engine.plan import Plan
from leakaudit.engine.results import NONE, Judged, Results
from leakaudit.plugins.descriptors import AttackInfo, DatasetInfo
from leakaudit.report import pairings as mp
from leakaudit.report.images import encode_png
from leakaudit.report.privacy import pseudonym, sanitize
from leakaudit.scoring.controls import ControlResult, rho
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.rates import tail_bound
from leakaudit.scoring.results import EndpointResult
from leakaudit.scoring.verdicts import limit_of

__all__ = ["PairingWriter"]


class PairingWriter:
    """Writes pairings into the report's form.

    Args:
        plan: What was planned.
        results: What was found.
        policy: What counts as acceptable.
        salt: Random bytes of this run, for pseudonyms.
    """

    def __init__(self, plan: Plan, results: Results, policy: Policy, salt: bytes) -> None:
        self.plan, self.results, self.policy, self.salt = plan, results, policy, salt
        info = cast(DatasetInfo, plan.recipe.data.plugin.info)
        self.synthetic = info.synthetic
        self.public = info.public or bool(getattr(plan.recipe.data.params, "public", False))
        # Patient keys of a real cohort may be identifiers: they are taken out of every text that a failure brings along.
        self.known = () if self.synthetic else tuple(e.patient for e in plan.inventory.patients)

    def pairing(self, judged: Judged) -> mp.Pairing:
        """Return one pairing."""
        p, result = judged.pairing, judged.result
        repeats = len(p.scores)
        return mp.Pairing(
            protocol=p.protocol, defense=p.defense, attack=p.attack, family=self.info(judged).family,
            status=judged.verdict.status, reasons=self.clean(judged.verdict.reasons), repeats=repeats,
            threat=self._threat(judged), adaptive=result.adaptive if p.defense != NONE and judged.merged else None,
            isolation=_isolation(judged, self.plan.recipe.run.isolation),
            endpoints=[self._endpoint(judged, e) for e in result.endpoints],
            controls=self._controls(judged), leakage=self.top(judged), sabotage=judged.sabotage,
            guarantee=self.guarantee(self.results.trainings[p.protocol, p.defense]),
            cost=mp.Cost(seconds=judged.seconds, peak_memory_mb=judged.peak_mb), images=self._images(judged),
        )  # fmt: skip

    def _threat(self, judged: Judged) -> mp.Threat:
        requires = judged.pairing.requires
        if requires is None:
            return mp.Threat(plays=["outsider"], auxiliary="none", words="Not applicable here.")
        t = requires.threat
        return mp.Threat(
            plays=list(t.plays), alters=list(t.alters), channels=list(t.channels), knows=list(t.knows), auxiliary=t.auxiliary,
            words=t.describe(),
        )  # fmt: skip

    def _endpoint(self, judged: Judged, e: EndpointResult) -> mp.Endpoint:
        merged = judged.merged[e.name]
        limit = limit_of(e, self.policy)
        return mp.Endpoint(
            name=e.name, kind=merged.kind, channel=e.channel, seat=merged.seat, level=merged.level,
            status=self._endpoint_status(judged, e, limit), limit=limit, leakage=self._leakage(merged, e),
            raw={k: mp.RawValue(value=v, n=merged.n) for k, v in merged.raw.items()},
        )  # fmt: skip

    def _endpoint_status(self, judged: Judged, e: EndpointResult, limit: float) -> Any:
        if judged.pairing.defense == NONE:
            return "control"
        if e.fail_low is not None and e.fail_low > limit and e.patients >= 10:
            return "FAIL"
        return judged.verdict.status if judged.verdict.status in ("PASS", "ERROR") else "REVIEW"

    def _leakage(self, merged: Merged, e: EndpointResult) -> mp.Leakage:
        interval = e.interval
        unit = "patients" if merged.n != 1 else "patient"
        few = e.repeats < self.policy.min_repeats.value
        scope = "this trained model" if few else f"{e.repeats} trainings"
        reason = None if e.value is not None else "chance and full recovery are too close together for this metric to resolve"
        shown = self.plan.recipe.report.per_patient
        return mp.Leakage(
            value=e.value, ci=None if interval is None or e.value is None else [interval.low, interval.high], reason=reason,
            scope=f"{scope}, {merged.n} {unit}", chance=merged.chance, chance_name=merged.chance_name, anchor=merged.anchor,
            worst=None if e.worst is None else mp.Worst(value=e.worst, bound=tail_bound(merged.n)), patients=merged.n,
            per_patient=[
                mp.PatientLeakage(patient=pseudonym(self.salt, p), value=v)
                for p, v in zip(merged.patients, e.per_patient, strict=True)
            ] if shown and e.per_patient else [],
        )  # fmt: skip

    def top(self, judged: Judged) -> mp.Strongest | None:
        """Return a pairing's worst endpoint, measured by its limit."""
        known = [e for e in judged.result.endpoints if e.value is not None]
        if not known:
            return None
        top = max(known, key=lambda e: (e.value or 0.0) / limit_of(e, self.policy))
        ci = None if top.interval is None else [top.interval.low, top.interval.high]
        return mp.Strongest(value=top.value, ci=ci, endpoint=top.name)

    def _controls(self, judged: Judged) -> mp.Controls:
        top = self.top(judged)
        e = next((e for e in judged.result.endpoints if top is not None and e.name == top.endpoint), None)
        if e is None:
            return mp.Controls()
        ratio = None
        if e.positive is not None and e.interval is not None and judged.pairing.defense != NONE:
            ratio = rho(e.interval.high, e.positive.low)
        worst = max((x.negative for x in judged.result.endpoints if x.negative is not None), key=lambda c: c.low, default=None)
        positive, negative, planted = (_control(c, e.patients) for c in (e.positive, worst, e.planted))
        return mp.Controls(positive=positive, negative=negative, planted=planted, ratio=ratio)

    def _images(self, judged: Judged) -> list[mp.ImageTriple]:
        allowed = {"none": False, "synthetic": self.synthetic, "public": self.synthetic or self.public, "all": True}
        if not allowed[self.plan.recipe.report.images]:
            return []
        return [
            mp.ImageTriple(
                patient=pseudonym(self.salt, p["patient"]), seat=p["seat"], level=p["level"], original=encode_png(p["original"]),
                reconstruction=encode_png(p["reconstruction"]), chance=encode_png(p["chance"]), score=p["score"],
            )
            for p in judged.pictures
        ]  # fmt: skip

    def guarantee(self, trainings: Sequence[Mapping[str, Any]]) -> mp.GuaranteeStatement | None:
        """Return the claims of all seats as one statement: every release, at the largest epsilon."""
        claims = [Guarantee.from_json(g) for t in trainings[:1] for g in t["guarantees"].values()]
        if not claims:
            return None
        weakest = max(claims, key=lambda claim: claim.epsilon)
        releases = list(dict.fromkeys(r for claim in claims for r in claim.releases))
        return mp.GuaranteeStatement(
            mechanism=weakest.mechanism, unit=weakest.unit, neighbors=weakest.neighbors, releases=[list(r) for r in releases],
            epsilon=weakest.epsilon, delta=weakest.delta, accountant=weakest.accountant, conversion=weakest.conversion,
            sampling=weakest.sampling, assumes=list(weakest.assumes),
        )  # fmt: skip

    def info(self, judged: Judged) -> AttackInfo:
        """Return the descriptor of a pairing's attack."""
        choice = next(a for a in self.plan.recipe.attacks if a.label == judged.pairing.attack)
        return cast(AttackInfo, choice.plugin.info)

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Return texts without identifiers and paths."""
        return [sanitize(t, known=self.known, limit=600) for t in texts]


def _control(control: ControlResult | None, n: int) -> mp.Control | None:
    if control is None:
        return None
    ci = [control.low, control.high]
    return mp.Control(value=control.value, ci=ci, criterion=control.criterion, passed=control.passed, n=n)


def _isolation(judged: Judged, mode: str) -> str:
    if not judged.merged:
        return "did not run"
    confined = "cut off from other files by the kernel" if judged.sandbox == "landlock" else "not cut off from other files"
    text = f"in a process of its own, on its view alone, {confined}"
    if judged.pairing.requires is None or not judged.pairing.requires.plays_in_training:
        return text
    where = "in a process of its own" if mode == "strict" else "in the training's own process, where it can reach the others' data"
    return f"{text}; during training its party was {where}"
