"""The networks and settings of the landscape: what of a segmentation network decides whether a gradient can be inverted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from leakaudit_gradients.method import PRESETS, Method, Preset
from monai.networks.nets import BasicUNet, UNet
from torch import Tensor, nn
from torch.nn import functional as F

from leakaudit.models import SegmentationNet, SegmentationTask

__all__ = ["MODALITIES", "PRIORS", "REGIONS", "VARIANTS", "Net", "Variant", "VariantTask"]

MODALITIES, REGIONS = 4, 3
FIVE = (16, 32, 64, 64, 64)

PRIORS = ("pca", "autoencoder")
"""Weights of the priors that are learned from auxiliary images, by the names of the fields of `Method`."""

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "leaky": lambda: nn.LeakyReLU(0.01),
    "relu": nn.ReLU,
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the landscape: network B with one thing changed.

    Attributes:
        network: `plain` is `Net` below, `split` leakaudit's own `SegmentationNet`, `monai` MONAI's `UNet`, `basic` its `BasicUNet`.
        channels: Of each level, shallowest first.
        activation: Of `_ACTIVATIONS`; or `default`, what a library's network comes with.
        normalization: `none`, `instance`, `group` (four channels a group), or `default`.
        convolutions: 3x3 convolutions a block.
        down: How a plain network shrinks its features.
        he: Initialization of a plain network: He et al. 2015 with biases of zero, or what PyTorch starts from.
        epochs: Passes over auxiliary patients that the network was trained for.
        tensors: Beginnings of the names of the parameters whose gradients are seen; none: all.
        known: Whether the adversary knows the true masks.
        noise: Spread of the noise on each tensor of the gradient over the root mean square of its entries.
        exchanged: Whether every target is attacked with the gradient of another one: the negative control.
        preset: How the gradient is matched, of the package's presets.
        changed: What of the preset is changed, by the name of a field of `Method`.
    """

    network: Literal["plain", "split", "monai", "basic"] = "plain"
    channels: tuple[int, ...] = FIVE
    activation: str = "gelu"
    normalization: str = "none"
    convolutions: int = 1
    down: Literal["stride", "max", "average"] = "stride"
    he: bool = True
    epochs: int = 0
    tensors: tuple[str, ...] = ()
    known: bool = True
    noise: float = 0.0
    exchanged: bool = False
    preset: Preset = "smooth-unet"
    changed: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def learns(self) -> bool:
        """Whether something is learned from auxiliary patients before the search: the network, or a prior of images."""
        return bool(self.epochs or any(self.changed.get(name) for name in PRIORS))

    def task(self) -> VariantTask:
        """Return the task: binary cross-entropy, one step of SGD with rate 1."""
        return VariantTask(self)

    def method(self, iterations: int) -> Method:
        """Return how the gradient is matched with so many evaluations."""
        return replace(PRESETS[self.preset], iterations=iterations, **self.changed)  # type: ignore[arg-type]


class VariantTask(SegmentationTask):
    """leakaudit's task with the network of a variant in the place of its own."""

    def __init__(self, variant: Variant) -> None:
        network = {"channels": list(variant.channels), "convolutions": variant.convolutions}
        if variant.network == "split" and variant.activation != "default":
            names = {"leaky": "leaky-relu"}
            network |= {"activation": names.get(variant.activation, variant.activation), "normalization": variant.normalization}
        training = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0, "dice_weight": 0.0}
        super().__init__(network=network, training=training, dims=2, groups=[list(range(MODALITIES))], levels=[0, 1])
        self.variant = variant

    def build(self) -> nn.Module:  # type: ignore[override]
        """Return the network, freshly initialized from torch's global generator."""
        v = self.variant
        match v.network:
            case "split":
                net: SegmentationNet = super().build()
                return net
            case "monai":
                return _monai(v)
            case "basic":
                features = (*v.channels, v.channels[0])
                return BasicUNet(2, MODALITIES, REGIONS, features, act=("LeakyReLU", {"negative_slope": 0.1, "inplace": False}))
            case _:
                return Net(v)


def _monai(v: Variant) -> nn.Module:
    act = "PRELU" if v.activation == "default" else v.activation.upper()
    norm = {"none": None, "default": "INSTANCE", "group": ("GROUP", {"num_groups": 4})}[v.normalization]
    return UNet(2, MODALITIES, REGIONS, v.channels, (2,) * (len(v.channels) - 1), act=act, norm=norm)


class Net(nn.Module):
    """Network B: blocks of 3x3 convolutions, nearest upsampling, skips that are concatenated, 1x1 head."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        sizes, self.down = variant.channels, variant.down
        self.encoders = nn.ModuleList(
            _block(variant, sizes[i - 1] if i else MODALITIES, c, 2 if i and self.down == "stride" else 1)
            for i, c in enumerate(sizes)
        )
        self.decoders = nn.ModuleList(_block(variant, sizes[i + 1] + sizes[i], sizes[i], 1) for i in range(len(sizes) - 1))
        self.head = nn.Conv2d(sizes[0], REGIONS, 1)
        if variant.he:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, regions, H, W) of images (n, modalities, H, W)."""
        skips: list[Tensor] = []
        for i, block in enumerate(self.encoders):
            if i and self.down != "stride":
                x = F.max_pool2d(x, 2) if self.down == "max" else F.avg_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        for i in range(len(self.decoders) - 1, -1, -1):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.decoders[i](torch.cat([x, skips[i]], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _block(variant: Variant, inside: int, outside: int, stride: int) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(variant.convolutions):
        free = variant.normalization == "none"
        layers.append(nn.Conv2d(outside if i else inside, outside, 3, 1 if i else stride, 1, bias=free))
        if variant.normalization == "instance":
            layers.append(nn.InstanceNorm2d(outside, affine=True))
        elif variant.normalization == "group":
            layers.append(nn.GroupNorm(outside // 4, outside))
        layers.append(_ACTIVATIONS[variant.activation]())
    return nn.Sequential(*layers)


B = Variant()
_TWO = replace(B, channels=(16, 32))
_MONAI = Variant(network="monai")
_MONAI_DEFAULT = replace(_MONAI, activation="default", normalization="default")
_OURS = Variant(network="split", channels=(16, 32, 64), activation="default", normalization="default", convolutions=2)
_ADAM: dict[str, str | float] = {"optimizer": "adam", "decay": "cosine", "warmup": 10, "learning_rate": 0.1}
"""Adam in the place of L-BFGS, the loss unchanged."""

VARIANTS: dict[str, Variant] = {
    "gelu": B,
    "gelu, default init": replace(B, he=False),
    "two convolutions": replace(B, convolutions=2),
    "three levels": replace(B, channels=(16, 32, 64)),
    "three levels, narrow": replace(B, channels=(8, 16, 32)),
    "two levels": _TWO,
    "two levels, softplus": replace(_TWO, activation="softplus"),
    "two levels, leaky": replace(_TWO, activation="leaky"),
    "two levels, relu": replace(_TWO, activation="relu"),
    "max pooling": replace(B, down="max"),
    "average pooling": replace(B, down="average"),
    "leaky": replace(B, activation="leaky"),
    # Without biases a background of exactly 0 lies on the kink; with PyTorch's own it does not.
    "leaky, default init": replace(B, activation="leaky", he=False),
    "relu": replace(B, activation="relu"),
    "relu, default init": replace(B, activation="relu", he=False),
    "two levels, leaky, default init": replace(_TWO, activation="leaky", he=False),
    "two levels, relu, default init": replace(_TWO, activation="relu", he=False),
    "instance": replace(B, normalization="instance"),
    "group": replace(B, normalization="group"),
    "instance, leaky": replace(B, normalization="instance", activation="leaky"),
    "trained": replace(B, epochs=6),
    "encoder only": replace(B, tensors=("encoders",)),
    "first convolution only": replace(B, tensors=("encoders.0",)),
    "unknown mask": replace(B, known=False),
    "noise .001": replace(B, noise=1e-3),
    "noise .01": replace(B, noise=1e-2),
    "noise .1": replace(B, noise=1e-1),
    "noise 1": replace(B, noise=1.0),
    "monai, gelu": replace(_MONAI, activation="gelu"),
    "monai, gelu group": replace(_MONAI, activation="gelu", normalization="group"),
    "monai, default": _MONAI_DEFAULT,
    "leakaudit, gelu": Variant(network="split", channels=FIVE),
    "leakaudit, default": _OURS,
    "basic": Variant(network="basic", channels=(32, 32, 64, 128, 256), activation="default", normalization="default"),
    "basic, trained": Variant(
        network="basic", channels=(32, 32, 64, 128, 256), activation="default", normalization="default", epochs=6
    ),
    "gelu, layer cosine": replace(B, changed={"objective": "layer-cosine"}),
    "gelu, cosine": replace(B, changed={"objective": "cosine"}),
    "gelu, adam for lbfgs": replace(B, changed=_ADAM),
    "leaky, default init, adam for lbfgs": replace(B, activation="leaky", he=False, changed=_ADAM),
    "instance, adam for lbfgs": replace(B, normalization="instance", changed=_ADAM),
    "monai, default, adam for lbfgs": replace(_MONAI_DEFAULT, changed=_ADAM),
    "leakaudit, default, adam for lbfgs": replace(_OURS, changed=_ADAM),
    "gelu, adam": replace(B, preset="inverting-gradients"),
    "leaky, default init, adam": replace(B, activation="leaky", he=False, preset="inverting-gradients"),
    "instance, adam": replace(B, normalization="instance", preset="inverting-gradients"),
    "negative control": replace(B, exchanged=True),
    "negative control, leaky, default init": replace(B, activation="leaky", he=False, exchanged=True),
    "negative control, leaky, default init, adam for lbfgs": replace(
        B, activation="leaky", he=False, exchanged=True, changed=_ADAM
    ),
    "negative control, unknown mask": replace(B, known=False, exchanged=True),
}  # fmt: skip
"""The rows: network B, what is changed of it, networks as they come with libraries, and the negative control."""

VARIANTS |= {
    f"{name}, {prior} {weight}".replace(" 0.", " ."): replace(VARIANTS[name], changed={**VARIANTS[name].changed, prior: weight})
    for name in ("gelu", "noise 1", "leaky, default init, adam for lbfgs")
    for prior in PRIORS
    for weight in (0.01, 0.1, 1)
}
