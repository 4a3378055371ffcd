"""Parameters of the membership attacks, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import Channel, Grant, NotApplicable, Requires, Shadows, Tap, ThreatModel

__all__ = ["MembershipLiraParams", "MembershipLossMapParams", "MembershipLossParams", "MembershipRmiaParams", "Signal"]

Pool = Literal["auxiliary", "auxiliary+candidates"]
"""Whose patients shadow models are trained on."""

Signal = Literal["cross-entropy", "dice", "task"]
"""What is small for patients that a model was trained on."""


class _SeenParams(AttackParams):
    """Where the adversary stands: what it sees of the model in question."""

    position: Literal["outsider", "aggregator", "site"] = Field(
        "outsider",
        description="Who attacks: an outsider, who sees the deployed model's answers; in federated learning the aggregator, honest "
        "but curious, who sees the model of every round; or another site, which receives it until the last round begins. The "
        "site's own patients are no candidates.",
    )
    rounds: int = Field(
        4,
        ge=1,
        description="Aggregator or site: over how many of the last models that it sees the signal is averaged; others ignore it.",
    )

    def sight(self, facts: ProtocolFacts) -> tuple[Channel, tuple[Tap, ...]] | NotApplicable:
        """Return the channel on which the adversary sees the model, and what of it is recorded."""
        if self.position == "outsider":
            if "output" not in facts.channels:
                return NotApplicable(reason=f"protocol {facts.protocol!r} deploys no model that answers an outsider")
            return "output", (Tap(channel="output"),)
        if self.position not in facts.roles or "model" not in facts.sees((self.position,)):
            return NotApplicable(
                reason=f"no {self.position} of {facts.protocol!r} sees the model of a round: that is federated learning"
            )
        if self.position == "site" and (facts.rounds < 2 or len(facts.seats_of("site")) < 2):
            return NotApplicable(
                reason="a site learns of other sites' patients from the second round on: it takes 2 rounds and 2 sites"
            )
        return "model", (Tap(channel="model", rounds=tuple(range(-min(self.rounds, facts.rounds), 0))),)


class MembershipLossParams(_SeenParams):
    """Parameters of `membership-loss`."""

    signal: Signal = Field(
        "cross-entropy",
        description="What is small for patients the model was trained on: the mean cross-entropy per brain voxel; 1 - soft "
        "Dice inside the brain; or the loss that the victims minimized (the adversary must then know the task).",
    )
    calibrate: Literal["none", "site", "volume", "site+volume"] = Field(
        "none",
        description="What is taken out of the scores first: differences in mean and spread between sites, the part that a "
        "straight line through the candidates' tumor volumes explains, or both.",
    )

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A position with candidates and their masks, from which the model or its answers for them are seen."""
        sight = self.sight(facts)
        if isinstance(sight, NotApplicable):
            return sight
        channel, taps = sight
        knows: tuple[Grant, ...] = ("candidates", "labels")
        if self.signal == "task" or channel == "model":
            knows = (*knows, "architecture")
        threat = ThreatModel(plays=(self.position,), channels=(channel,), knows=knows, auxiliary="same")
        return Requires(threat=threat, taps=taps)


class _ShadowParams(AttackParams):
    """What attacks with shadow models have in common."""

    shadows: int = Field(
        16, ge=4, le=512, description="Shadow models, trained by the engine and shared by all attacks that ask for the same."
    )

    mode: Literal["online", "offline"] = Field(
        "online",
        description="online: half of the shadow models are trained on each candidate; offline: shadow models see the adversary's "
        "own patients alone, and serve for any candidate.",
    )

    @property
    def pool(self) -> Pool:
        """Whose patients the shadow models are trained on."""
        return "auxiliary+candidates" if self.mode == "online" else "auxiliary"

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """An outsider who knows task and defense, with candidates, patients of its own and their masks, who may ask the model."""
        if "output" not in facts.channels:
            return NotApplicable(reason=f"protocol {facts.protocol!r} deploys no model that answers an outsider")
        return self._compares("outsider", "output", (Tap(channel="output"),))

    def _compares(self, role: str, channel: Channel, taps: tuple[Tap, ...]) -> Requires:
        knows: tuple[Grant, ...] = ("architecture", "defense", "candidates", "labels")
        threat = ThreatModel(plays=(role,), channels=(channel,), knows=knows, auxiliary="same")
        return Requires(threat=threat, taps=taps, shadows=Shadows(count=self.shadows, pool=self.pool))


class _LikelihoodParams(_ShadowParams):
    """What attacks that compare a patient's likelihoods have in common."""

    signal: Signal = Field(
        "task", description="The loss that is compared: the one that was trained, cross-entropy per brain voxel, or 1 - soft Dice."
    )


class MembershipLiraParams(_SeenParams, _LikelihoodParams):
    """Parameters of `membership-lira`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"shadows": 4}]})

    variance: Literal["fixed", "each"] = Field(
        "fixed",
        description="Spread of the shadow models' signals: pooled over all candidates (best with few shadow models), or of each "
        "candidate by itself.",
    )

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A position that knows task and defense, with candidates, patients of its own and their masks."""
        sight = self.sight(facts)
        return sight if isinstance(sight, NotApplicable) else self._compares(self.position, *sight)


class MembershipRmiaParams(_LikelihoodParams):
    """Parameters of `membership-rmia`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"shadows": 4}]})

    gamma: float = Field(1.0, ge=1, description="A population patient is dominated if the ratio exceeds its ratio so many times.")
    a: float = Field(
        0.3, ge=0, le=1, description="Offline: how alike models with and without a candidate are taken to be (1: the same)."
    )


class MembershipLossMapParams(_ShadowParams):
    """Parameters of `membership-loss-map`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"shadows": 4, "grid": 2}]})

    grid: int = Field(4, ge=1, le=8, description="Cells along each side of the image that loss maps are pooled to.")
    confidence: bool = Field(True, description="Whether the classifier sees how sure the model is in each cell, too.")
    difficulty: Literal["remove", "keep"] = Field(
        "remove",
        description="remove: the classifier sees by how much a map differs from the candidate's mean map over all shadow models; "
        "keep: the map itself, as in the paper, so that one classifier must serve easy and hard patients.",
    )
