"""Parameters of the network and of training, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag, TypeAdapter, model_validator

from leakaudit.errors import nearest
from leakaudit.plugins.params import Params

__all__ = ["NetworkChoice", "NetworkParams", "SegResNetParams", "TrainingParams", "network_params"]


class NetworkParams(Params):
    """A U-Net with one encoder per group of modalities, a shared trunk and a 1x1 head."""

    architecture: Literal["unet"] = Field("unet", description="unet: the only one that split learning can cut.")
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

    @property
    def levels(self) -> int:
        """Number of resolutions; each halves the one before."""
        return len(self.channels)

    def key(self) -> dict[str, JsonValue]:
        """Return the parameters as plain JSON, without `architecture`: keys from before there was a choice stay valid."""
        return {name: value for name, value in super().key().items() if name != "architecture"}


class SegResNetParams(Params):
    """MONAI's SegResNet, which takes all modalities together and is trained whole.

    The network of Myronenko (BrainLes at MICCAI 2018, arXiv 1810.11654) without its variational branch: residual blocks, group
    normalization (8 groups) and ReLU. The defaults are those of the federation of Li et al. (MLMI 2019, arXiv 1910.00962); with
    four modalities and three regions they have 4,702,227 parameters in 3D.
    """

    architecture: Literal["segresnet"] = Field(description="segresnet: residual blocks, in federated and centralized training.")
    init_filters: int = Field(16, ge=8, multiple_of=8, description="Channels of the first level; each level doubles them.")
    blocks_down: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 2, 2, 4], min_length=2, description="Residual blocks of each level on the way down, shallowest first."
    )
    blocks_up: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 1, 1], min_length=1, description="Residual blocks of each level on the way up, deepest first: one level less than down."
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of the first layer's channels that a training step switches off.")

    @model_validator(mode="after")
    def _as_many_up(self) -> SegResNetParams:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(
                f"blocks_up needs {len(self.blocks_down) - 1} numbers, one less than blocks_down, so that masks have the size of "
                f"images; it has {len(self.blocks_up)}"
            )
        return self

    @property
    def levels(self) -> int:
        """Number of resolutions; each halves the one before."""
        return len(self.blocks_down)

    @property
    def normalization(self) -> Literal["group"]:
        """Kind of normalization layer."""
        return "group"


def _architecture(value: Any) -> Any:
    """Return the architecture that a network names; a U-Net where it names none."""
    return value.get("architecture", "unet") if isinstance(value, Mapping) else getattr(value, "architecture", "unet")


def _known(value: Any) -> Any:
    name, choices = _architecture(value), ("unet", "segresnet")
    if name not in choices:
        raise ValueError(f"there is no architecture {name!r}.{nearest(str(name), choices)}")
    if isinstance(value, Mapping) and "architecture" not in value:
        foreign = [field for field in value if field in SegResNetParams.model_fields and field not in NetworkParams.model_fields]
        if foreign:
            raise ValueError(f"{', '.join(foreign)} is for a SegResNet: add architecture: segresnet")
    return value


NetworkChoice = Annotated[
    Annotated[NetworkParams, Tag("unet")] | Annotated[SegResNetParams, Tag("segresnet")],
    Discriminator(_architecture),
    BeforeValidator(_known),
]
"""Either network; one that names no architecture is a U-Net."""

_CHOICE: TypeAdapter[NetworkParams | SegResNetParams] = TypeAdapter(NetworkChoice)


def network_params(fields: Mapping[str, Any] | NetworkParams | SegResNetParams) -> NetworkParams | SegResNetParams:
    """Return the network that plain values describe.

    Raises:
        ValueError: They describe none.
    """
    return _CHOICE.validate_python(fields)


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
    weight_decay: float = Field(
        0.0, ge=0, description="L2 penalty: this times a weight is added to its gradient (after the noise of DP-SGD)."
    )

    def key(self) -> dict[str, JsonValue]:
        """Return the parameters as plain JSON, without a weight decay of 0: keys from before there was one stay valid."""
        key = super().key()
        return key if self.weight_decay else {name: value for name, value in key.items() if name != "weight_decay"}
