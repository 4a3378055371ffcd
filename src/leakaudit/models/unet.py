"""A U-Net that can be cut: encoders by group of modalities, a trunk that fuses and decodes, and a head.

The parts are those of Split-U-Net (Roth et al., DeCaF 2022, arXiv 2208.10553): each institution runs an encoder on its own
modalities, a server fuses the features of every level and decodes. Whole and uncut, the same network serves
centralized and federated training, so that one definition of learning is compared across protocols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from monai.networks.blocks import Convolution, UpSample
from torch import Tensor, nn

from leakaudit.models.params import NetworkParams

__all__ = ["Encoder", "Head", "SegmentationNet", "Trunk"]

_ACTIVATIONS: dict[str, object] = {
    # Nothing in place: in-place activations break per-sample gradients and replicas that are differentiated twice.
    "leaky-relu": ("LEAKYRELU", {"negative_slope": 0.1, "inplace": False}),
    "relu": ("RELU", {"inplace": False}),
    "gelu": "GELU",
    "prelu": "PRELU",
}


def _norm(params: NetworkParams, channels: int) -> object:
    match params.normalization:
        case "instance":
            return ("INSTANCE", {"affine": True})
        case "group":
            return ("GROUP", {"num_groups": channels // 4})
        case "batch":
            return "BATCH"
        case _:
            return None


def _block(dims: int, params: NetworkParams, inside: int, outside: int, *, stride: int = 1, depth: int | None = None) -> nn.Module:
    """Return `depth` 3x3 convolutions with normalization and activation; the first may be strided."""
    layers = [
        Convolution(
            dims, inside if i == 0 else outside, outside, strides=stride if i == 0 else 1, kernel_size=3,
            norm=_norm(params, outside), act=_ACTIVATIONS[params.activation], adn_ordering="NA",
            # A bias before a normalization has a gradient of pure rounding noise, which Adam would blow up to full steps.
            bias=params.normalization == "none",
        )
        for i in range(depth or params.convolutions)
    ]  # fmt: skip
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """The contracting path down to the cut.

    Args:
        dims: 2 or 3.
        params: Network parameters.
        inputs: Number of input modalities.
        levels: Number of levels it computes; level i has spatial size / 2**i.

    Attributes:
        channels: Channels of each level, for defenses that add layers behind it.
    """

    def __init__(self, dims: int, params: NetworkParams, inputs: int, levels: int) -> None:
        super().__init__()
        sizes = params.channels[:levels]
        self.channels = tuple(sizes)
        self.blocks = nn.ModuleList(
            _block(dims, params, inputs if i == 0 else sizes[i - 1], c, stride=1 if i == 0 else 2) for i, c in enumerate(sizes)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every level, shallowest first, each (n, channels[i], *spatial / 2**i)."""
        features: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features


class Trunk(nn.Module):
    """Fuses the groups' features, goes on down to the deepest level, and decodes.

    Args:
        dims: 2 or 3.
        params: Network parameters.
        groups: Number of encoders.
        levels: Levels that arrive, as indices in ascending order; the last is the cut.
    """

    def __init__(self, dims: int, params: NetworkParams, groups: int, levels: Sequence[int]) -> None:
        super().__init__()
        sizes = params.channels
        self.levels = tuple(levels)
        cut, depth = self.levels[-1], len(sizes)
        self.fuse = nn.ModuleDict({
            str(i): Convolution(
                dims, groups * sizes[i], sizes[i], kernel_size=1, norm=None,
                act=_ACTIVATIONS[params.activation], adn_ordering="NA",
            )
            for i in self.levels
        })  # fmt: skip
        self.down = nn.ModuleDict({str(i): _block(dims, params, sizes[i - 1], sizes[i], stride=2) for i in range(cut + 1, depth)})
        present = {*self.levels, *range(cut, depth)}
        self.up = nn.ModuleDict()
        self.decode = nn.ModuleDict()
        mode = {"mode": "nontrainable", "interp_mode": "nearest", "pre_conv": None, "align_corners": None}
        for i in range(depth - 2, -1, -1):
            self.up[str(i)] = (
                UpSample(dims, sizes[i + 1], sizes[i + 1], scale_factor=2, **mode)
                if params.upsample == "nearest"
                else UpSample(dims, sizes[i + 1], sizes[i + 1], scale_factor=2, mode="deconv")
            )
            skip = sizes[i] if i in present else 0
            self.decode[str(i)] = _block(dims, params, sizes[i + 1] + skip, sizes[i])
        self.depth = depth

    def forward(self, features: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return decoded features (n, channels[0], *spatial).

        Args:
            features: One list per group, each holding the arriving levels in order.
        """
        known: dict[int, Tensor] = {}
        for place, level in enumerate(self.levels):
            known[level] = self.fuse[str(level)](torch.cat([group[place] for group in features], dim=1))
        x = known[self.levels[-1]]
        for i in range(self.levels[-1] + 1, self.depth):
            x = known[i] = self.down[str(i)](x)
        for i in range(self.depth - 2, -1, -1):
            x = self.up[str(i)](x)
            x = self.decode[str(i)](torch.cat([x, known[i]], dim=1) if i in known else x)
        return x


class Head(nn.Module):
    """1x1 convolution from decoded features to one logit per region."""

    def __init__(self, dims: int, params: NetworkParams, outputs: int) -> None:
        super().__init__()
        self.conv = Convolution(dims, params.channels[0], outputs, kernel_size=1, conv_only=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, outputs, *spatial)."""
        return cast(Tensor, self.conv(x))


class SegmentationNet(nn.Module):
    """The whole network: encoders, trunk, head.

    Args:
        dims: 2 or 3.
        params: Network parameters.
        groups: Input channel indices of each encoder.
        levels: Levels that cross the cut, ascending; the last is the cut.
        outputs: Number of regions.
    """

    def __init__(
        self, dims: int, params: NetworkParams, groups: Sequence[Sequence[int]], levels: Sequence[int], outputs: int = 3
    ) -> None:
        super().__init__()
        if not levels or list(levels) != sorted(set(levels)) or levels[-1] >= len(params.channels):
            raise ValueError(f"levels {list(levels)} must ascend and stay below the depth {len(params.channels)}")
        self.groups = [list(group) for group in groups]
        self.levels = tuple(levels)
        self.encoders = nn.ModuleList(Encoder(dims, params, len(group), levels[-1] + 1) for group in groups)
        self.trunk = Trunk(dims, params, len(groups), levels)
        self.head = Head(dims, params, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return region logits (n, outputs, *spatial) of images (n, modalities, *spatial)."""
        features = []
        for group, encoder in zip(self.groups, self.encoders, strict=True):
            levels = encoder(x[:, group])
            features.append([levels[i] for i in self.levels])
        return cast(Tensor, self.head(self.trunk(features)))

    def part(self, name: str) -> nn.Module:
        """Return `"encoder-<i>"`, `"trunk"` or `"head"`.

        Raises:
            KeyError: There is no such part.
        """
        parts: Mapping[str, nn.Module] = {
            **{f"encoder-{i}": e for i, e in enumerate(self.encoders)}, "trunk": self.trunk, "head": self.head,
        }  # fmt: skip
        return parts[name]
