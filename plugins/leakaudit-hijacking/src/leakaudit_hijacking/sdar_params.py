"""Parameters of `sdar` and `pcat`, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from leakaudit.facts import ProtocolFacts
from leakaudit.threats import NotApplicable, Requires, Tap, ThreatModel
from leakaudit_hijacking.base_params import TrainingAttackParams, sends_labels, u_shaped

__all__ = ["PcatParams", "SdarParams"]

_TINY: JsonDict = {"preset": "quick", "decoder_width": 4, "discriminator_width": 4, "discriminator_blocks": 1}
_QUICK = {
    "simulator_rate": 2e-3, "decoder_rate": 4e-3, "decoder_width": 16, "feature_rate": 4e-4, "image_weight": 0.0, "steps": 3,
    "discriminator_width": 32, "discriminator_blocks": 1,
}  # fmt: skip


class SdarParams(TrainingAttackParams):
    """Parameters of `sdar`. The defaults are the published settings for CIFAR-10 (20,000 iterations)."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": _QUICK}

    model_config = ConfigDict(json_schema_extra={"examples": [_TINY, {"preset": "quick", "clients": ["client-0"]}]})

    preset: Literal["published", "quick"] = Field(
        "published",
        description="`published`: the rates of Zhu et al. for CIFAR-10, which need about 20,000 iterations; `quick`: for some "
        "hundred, with smaller networks and higher rates. Whatever else is stated wins.",
    )
    condition: Literal["auto", "labels", "predictions", "none"] = Field(
        "auto",
        description="The mask that decoder and discriminators see beside features and images. `labels`: the true one, where "
        "masks are sent to the server; `predictions`: what the server's network makes of the features; `none`: no mask. `auto` "
        "takes the first of them that can be had; in a U-shaped split, none, as published.",
    )
    feature_weight: float = Field(
        0.02, ge=0, description="Weight of the features' discriminator in the simulator's loss (lambda 1); 0 leaves it out."
    )
    image_weight: float = Field(
        1e-5, ge=0, description="Weight of the images' discriminator in the decoder's loss (lambda 2); 0 leaves it out."
    )
    simulator_rate: float = Field(1e-3, gt=0, description="Adam's learning rate of the simulators.")
    head_rate: float = Field(1e-3, gt=0, description="Adam's learning rate of the simulated head in a U-shaped split.")
    decoder_rate: float = Field(5e-4, gt=0, description="Adam's learning rate of the decoders.")
    feature_rate: float = Field(2e-5, gt=0, description="Adam's learning rate of the features' discriminators.")
    image_rate: float = Field(5e-9, gt=0, description="Adam's learning rate of the images' discriminators.")
    label_flip: float = Field(
        0.2, ge=0, le=1,
        description="Share of auxiliary masks exchanged at random in a U-shaped split, so that the simulated head, whose true "
        "one nobody sees, is not trusted too much.",
    )  # fmt: skip
    decoder: Literal["linear", "residual"] = Field("residual", description="The decoders' form.")
    decoder_width: int = Field(64, ge=4, description="Channels of the decoders at half the image's resolution.")
    discriminator_width: int = Field(128, ge=4, description="Channels of the discriminators.")
    discriminator_blocks: int = Field(3, ge=0, description="Residual blocks of the discriminators.")
    batch_size: int | None = Field(None, ge=1, description="Auxiliary samples per step; as many as the clients send by default.")
    steps: int = Field(1, ge=1, description="Steps of the simulation for every batch of the victims.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A server that follows the protocol, looks on, and owns patients with masks."""
        obstacle = self.obstacle(facts)
        if obstacle is not None:
            return obstacle
        if self.condition == "labels" and not sends_labels(facts):
            return NotApplicable(reason="no masks are sent to the server: condition must be predictions, none or auto")
        if self.condition == "predictions" and u_shaped(facts):
            return NotApplicable(reason="the head of a U-shaped split is not the server's: condition must be none or auto")
        given = self.resolved(facts) == "labels"
        threat = ThreatModel(
            plays=("server",), channels=("activation", "label") if given else ("activation",),
            knows=("architecture", "defense", "sample-ids"), auxiliary="same",
        )  # fmt: skip
        taps = [Tap(channel="activation", rounds=self.observed)]
        if given:
            taps.append(Tap(channel="label", rounds=self.observed))
        return Requires(threat=threat, taps=tuple(taps), plays_in_training=True)

    def resolved(self, facts: ProtocolFacts) -> Literal["labels", "predictions", "none"]:
        """Return the condition that `auto` stands for under a protocol."""
        if self.condition != "auto":
            return self.condition
        return "labels" if sends_labels(facts) else "none" if u_shaped(facts) else "predictions"


class PcatParams(SdarParams):
    """Parameters of `pcat`: `sdar` without discriminators."""

    feature_weight: float = Field(
        0, ge=0, description="Weight of the features' discriminator in the simulator's loss; above 0 this is `sdar`."
    )
    image_weight: float = Field(
        0, ge=0, description="Weight of the images' discriminator in the decoder's loss; above 0 this is `sdar`."
    )
