"""Parameters of `epsilon-audit`, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import Canaries, NotApplicable, Requires, Tap, ThreatModel

__all__ = ["EpsilonAuditParams"]


class EpsilonAuditParams(AttackParams):
    """Parameters of `epsilon-audit`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"canaries": 8}, {"canaries": 8, "canary": "gradient"}]})

    canary: Literal["mislabeled", "gradient"] = Field(
        "mislabeled",
        description="mislabeled: patients with the wrong mask, looked for in the deployed model's answers; gradient: units that "
        "are nothing but a gradient, looked for in updates or weights: the worst case that a guarantee speaks of.",
    )
    canaries: int = Field(
        100, ge=1, le=10_000,
        description="Canaries in each training, trained on beside the patients where a fair coin says so. Their number limits "
        "what can be shown: the ceiling that `plan` and the report print. 1: trainings are two samples, with and without it.",
    )  # fmt: skip
    norm: float = Field(
        1.0, gt=0,
        description="Norm of a gradient canary; at least the clip norm of the defense under audit, and far above it where clipping "
        "itself is in doubt.",
    )  # fmt: skip

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """Whoever sees what the canaries would show in: the model's answers, every site's update, or the trainer's weights."""
        canaries = Canaries(count=self.canaries, form="gradients" if self.canary == "gradient" else "patients")
        return self._mislabeled(facts, canaries) if self.canary == "mislabeled" else self._gradients(facts, canaries)

    @staticmethod
    def _mislabeled(facts: ProtocolFacts, canaries: Canaries) -> Requires | NotApplicable:
        if "output" not in facts.channels:
            return NotApplicable(reason=f"protocol {facts.protocol!r} deploys no model that answers an outsider")
        threat = ThreatModel(
            plays=("outsider",), alters=("cohort",), channels=("output",), knows=("candidates", "labels"), auxiliary="same"
        )
        return Requires(threat=threat, taps=(Tap(channel="output"),), canaries=canaries)

    @staticmethod
    def _gradients(facts: ProtocolFacts, canaries: Canaries) -> Requires | NotApplicable:
        updates = [f for f in facts.flows if f.channel == "update" and f.carries == "site"]
        models = [f for f in facts.flows if f.channel == "model" and f.receiver == "outsider"]
        if updates:
            threat = ThreatModel(
                plays=(updates[0].receiver,), alters=("cohort",), channels=("update",), knows=("architecture", "candidates"),
                auxiliary="none",
            )  # fmt: skip
            return Requires(threat=threat, taps=(Tap(channel="update", rounds=None),), canaries=canaries)
        if not models:
            return NotApplicable(
                reason=f"no party of {facts.protocol!r} trains the whole network by itself, so none takes gradient canaries"
            )
        if facts.rounds < 2:
            return NotApplicable(reason="weights are compared from the first round to the last, and there is one round only")
        threat = ThreatModel(
            plays=("outsider",), alters=("cohort",), channels=("model",), knows=("architecture", "weights", "candidates"),
            auxiliary="none",
        )  # fmt: skip
        return Requires(threat=threat, taps=(Tap(channel="model", rounds=(0, -1)),), canaries=canaries)
