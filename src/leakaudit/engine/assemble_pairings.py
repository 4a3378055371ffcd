"""Pairings of the report: their worst endpoint, controls, threat models in words, and images where they may be shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from leakaudit.engine.assemble_endpoints import EndpointWriter, control
from leakaudit.engine.assemble_guarantees import statements
from leakaudit.engine.plan import Plan
from leakaudit.engine.results import Judged, Results
from leakaudit.plugins.descriptors import AttackInfo, DatasetInfo
from leakaudit.recipes.models import NONE
from leakaudit.report import pairings as mp
from leakaudit.report.images import encode_png, marked
from leakaudit.report.privacy import pseudonym, sanitize
from leakaudit.scoring.policy import Policy
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
        self._endpoints = EndpointWriter(policy, salt, per_patient=plan.recipe.report.per_patient)
        # Patient keys of a real cohort may be identifiers: they are taken out of every text that a failure brings along.
        self.known = () if self.synthetic else tuple(e.patient for e in plan.inventory.patients)

    def pairing(self, judged: Judged) -> mp.Pairing:
        """Return one pairing."""
        p, result = judged.pairing, judged.result
        return mp.Pairing(
            protocol=p.protocol, defense=p.defense, attack=p.attack, family=self.info(judged).family,
            learned=self.info(judged).learned, status=judged.verdict.status, reasons=self.clean(judged.verdict.reasons),
            repeats=p.repeats,
            threat=self._threat(judged), adaptive=result.adaptive if p.defense != NONE and judged.merged else None,
            isolation=_isolation(judged, self.plan.recipe.run.isolation),
            endpoints=[self._endpoints.endpoint(judged, e) for e in result.endpoints],
            controls=self._controls(judged), leakage=self.top(judged), sabotage=judged.sabotage,
            claim=_claim(judged),
            **self.guarantees(self.results.trainings[p.protocol, p.defense]),
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

    def top(self, judged: Judged) -> mp.Strongest | None:
        """Return a pairing's worst endpoint, measured by its limit."""
        known = [e for e in judged.result.endpoints if e.value is not None]
        if not known:
            return None
        top = max(known, key=lambda e: ((e.value or 0.0) / limit_of(e, self.policy), e.name))
        ci = None if top.interval is None else [top.interval.low, top.interval.high]
        return mp.Strongest(value=top.value, ci=ci, endpoint=top.name, kind=judged.merged[top.name].kind)

    def _controls(self, judged: Judged) -> mp.Controls:
        """Return the controls of the worst endpoint, but the worst negative control of all."""
        top = self.top(judged)
        e = next((e for e in judged.result.endpoints if top is not None and e.name == top.endpoint), None)
        if e is None:
            return mp.Controls()
        own = self._endpoints.controls(e, defended=judged.pairing.defense != NONE)
        found = [(x.negative, x) for x in judged.result.endpoints if x.negative is not None]
        worst = max(found, key=lambda pair: (pair[0].low, pair[1].name), default=None)
        return own if worst is None else own.model_copy(update={"negative": control(worst[0], worst[1].patients)})

    def _images(self, judged: Judged) -> list[mp.ImageTriple]:
        allowed = {"none": False, "synthetic": self.synthetic, "public": self.synthetic or self.public, "all": True}
        if not allowed[self.plan.recipe.report.images]:
            return []
        # Images of real patients say so in their own pixels.
        shown: Callable[[Any], Any] = (lambda rows: rows) if self.synthetic or self.public else marked
        return [
            mp.ImageTriple(
                patient=pseudonym(self.salt, p["patient"]), seat=p["seat"], level=p["level"], round=p["round"],
                **{name: encode_png(shown(p[name])) for name in ("original", "reconstruction", "chance")}, score=p["score"],
            )
            for p in judged.pictures
        ]  # fmt: skip

    @staticmethod
    def guarantees(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the fields of a pairing or a training that state its formal claims."""
        found = statements(trainings)
        return {"guarantee": found[0] if found else None, "further_guarantees": found[1:]}

    def info(self, judged: Judged) -> AttackInfo:
        """Return the descriptor of a pairing's attack."""
        choice = next(a for a in self.plan.recipe.attacks if a.label == judged.pairing.attack)
        return cast(AttackInfo, choice.plugin.info)

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Return texts without identifiers and paths."""
        return [sanitize(t, known=self.known, limit=600) for t in texts]


def _claim(judged: Judged) -> mp.Claim | None:
    claim = judged.result.claim
    if claim is None:
        return None
    return mp.Claim(
        word=claim.outcome, epsilon=claim.claimed, delta=claim.delta, unit=claim.unit, lower_bound=claim.bound,
        ceiling=claim.ceiling, reason=claim.reason,
    )  # fmt: skip


def _isolation(judged: Judged, mode: str) -> str:
    if not judged.merged:
        return "did not run"
    confined = "cut off from other files by the kernel" if judged.sandbox == "landlock" else "not cut off from other files"
    text = f"in a process of its own, on its view alone, {confined}"
    if judged.pairing.requires is None or not judged.pairing.requires.plays_in_training:
        return text
    where = "in a process of its own" if mode == "strict" else "in the training's own process, where it can reach the others' data"
    return f"{text}; during training its party was {where}"
