"""Parameters of the network and of training, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leakaudit.plugins.params import Params

__all__ = ["NetworkParams", "TrainingParams"]


class NetworkParams(Params):
    """A U-Net with one encoder per group of modalities, a shared trunk and a 1x1 head."""

    channels: list[int] = Field([16, 32, 64], description="Feature channels of each level, shallowest first.", min_length=2)
    normalization: Literal["instance", "group", "batch", "none"] = Field(
        "instance", description="Normalization layer. Batch normalization mixes patients: DP defenses refuse it."
    )
    activation: Literal["leaky-relu", "relu", "gelu", "prelu"] = Field("leaky-relu", description="Activation function.")
    convolutions: int = Field(2, ge=1, le=4, description="3x3 convolutions per block.")
    upsample: Literal["nearest", "transposed"] = Field("nearest", description="How the decoder upsamples.")

    @model_validator(mode="after")
    def _group_channels(self) -> NetworkParams:
        if any(c < 1 for c in self.channels):
            raise ValueError("channels must be positive")
        if self.normalization == "group" and any(c % 4 for c in self.channels):
            raise ValueError("group normalization uses 4 channels a group: every entry of channels must be a multiple of 4")
        return self


class TrainingParams(Params):
    """How one party (or all together) takes optimization steps."""

    optimizer: Literal["adam", "sgd"] = Field("adam", description="Optimizer of every party.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate.")
    decay: Literal["none", "cosine"] = Field(
        "none", description="Whether the learning rate falls to zero over the rounds, by a cosine. Not in federated learning."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD; ignored by Adam.")
    batch_size: int = Field(8, ge=1, description="Samples per step; the expected number under Poisson sampling.")
    dice_weight: float = Field(0.5, ge=0, le=1, description="Weight of soft Dice in the loss; the rest is cross-entropy.")
