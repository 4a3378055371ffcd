"""Parameters of `feature-space-hijack`, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from leakaudit.facts import ProtocolFacts
from leakaudit.threats import NotApplicable, Requires, Tap, ThreatModel
from leakaudit_hijacking.base_params import TrainingAttackParams

__all__ = ["FeatureSpaceHijackParams"]


class FeatureSpaceHijackParams(TrainingAttackParams):
    """Parameters of `feature-space-hijack`. The defaults are the published settings for MNIST (10,000 iterations)."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "pilot": "normalized", "pilot_iterations": 150, "pilot_frozen": True, "pilot_rate": 2e-3, "decoder": "residual",
            "decoder_width": 16, "decoder_rate": 2e-3, "critic_width": 32, "critic_blocks": 2, "critic_rate": 2e-3,
            "critic_steps": 3, "penalty": 100.0, "penalty_norm": "image",
        }
    }  # fmt: skip

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "preset": "quick", "pilot_iterations": 2, "decoder_width": 4, "critic_width": 4, "critic_blocks": 1,
                    "task_weight": 0.5,
                },
                {"preset": "quick", "clients": ["client-0"], "levels": ["level0"]},
            ]
        }
    )  # fmt: skip

    preset: Literal["published", "quick"] = Field(
        "published",
        description="`published`: the settings of Pasquini et al. for MNIST, which need about 10,000 iterations; `quick`: for "
        "some hundred, with a pilot that is trained first and then frozen, smaller networks and higher rates. Whatever else "
        "is stated wins.",
    )
    task_weight: float = Field(
        0, ge=0, le=1,
        description="Share of the true task's gradient in the replies. 0 is the published hijack. In between, both parts have "
        "the length of the honest reply, so that the clients still learn and nothing is seen in its size: the adaptive hijacker. "
        "1 replies honestly.",
    )  # fmt: skip
    pilot: Literal["linear", "normalized"] = Field(
        "linear",
        description="The pilot's form: convolutions alone, as published, or with normalization and leaky ReLU, whose range is "
        "that of a U-Net's features.",
    )
    pilot_iterations: int = Field(0, ge=0, description="Steps of pilot and decoders before the first reply.")
    pilot_batch: int = Field(16, ge=1, description="Auxiliary samples in each of those steps.")
    pilot_frozen: bool = Field(False, description="Whether pilot and decoders stay as they are after those.")
    pilot_rate: float = Field(1e-5, gt=0, description="Adam's learning rate of the pilot.")
    decoder: Literal["linear", "residual"] = Field(
        "linear", description="The decoders' form: transposed convolutions alone, as published, or residual blocks."
    )
    decoder_width: int = Field(
        256, ge=4,
        description="Channels of a linear decoder at its level, of a residual one at half the image's resolution.",
    )  # fmt: skip
    decoder_rate: float = Field(1e-5, gt=0, description="Adam's learning rate of the decoders.")
    critic_width: int = Field(256, ge=4, description="Channels of the critics.")
    critic_blocks: int = Field(6, ge=0, description="Residual blocks of the critics.")
    critic_rate: float = Field(1e-4, gt=0, description="Adam's learning rate of the critics.")
    critic_steps: int = Field(1, ge=1, description="Steps of the critics (and of a pilot that is not frozen) per reply.")
    penalty: float = Field(500, ge=0, description="Weight of the gradient penalty.")
    penalty_norm: Literal["image", "channel"] = Field(
        "channel",
        description="Norm in the gradient penalty: `image`, over all of a sample's features, as the penalty is defined; "
        "`channel`, over the voxels of each channel alone, as the published code computes it.",
    )

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A server that answers with gradients of its own making and owns patients; it needs to know no network."""
        obstacle = self.obstacle(facts)
        if obstacle is not None:
            return obstacle
        threat = ThreatModel(
            plays=("server",), alters=() if self.task_weight == 1 else ("replies",), channels=("activation",),
            knows=("sample-ids",), auxiliary="same",
        )  # fmt: skip
        tap = Tap(channel="activation", rounds=self.observed, names=self.levels)
        return Requires(threat=threat, taps=(tap,), plays_in_training=True)
