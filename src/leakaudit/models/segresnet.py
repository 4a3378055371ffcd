"""The residual network of the published brain tumor federation: MONAI's SegResNet, made fit for audits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.segresnet_block import ResBlock
from monai.networks.nets import SegResNet
from torch import Tensor, nn

from leakaudit.models.params import SegResNetParams

__all__ = ["Doubling", "ResidualNet"]


class ResidualNet(SegResNet):  # type: ignore[misc]  # MONAI has no types
    """A SegResNet (Myronenko, arXiv 1810.11654) on some of the modalities.

    Names and shapes of its parameters are MONAI's. Nothing works in place, which the hooks behind gradients of single samples
    forbid, and linear upsampling is done by sums, whose backward pass is reproducible on a GPU.

    Args:
        dims: 2 or 3.
        params: Network parameters.
        group: Input channels that it takes.
        outputs: Number of regions.
    """

    def __init__(self, dims: int, params: SegResNetParams, group: Sequence[int], outputs: int = 3) -> None:
        super().__init__(
            spatial_dims=dims, init_filters=params.init_filters, in_channels=len(group), out_channels=outputs,
            dropout_prob=params.dropout or None, act=("RELU", {"inplace": False}), norm=("GROUP", {"num_groups": 8}),
            blocks_down=tuple(params.blocks_down), blocks_up=tuple(params.blocks_up),
        )  # fmt: skip
        self.group = list(group)
        for layer in (*self.down_layers, *self.up_layers):
            assert isinstance(layer, nn.Sequential)
            for i, block in enumerate(layer):
                if isinstance(block, ResBlock):
                    layer[i] = _Block(dims, block.norm1.num_channels, norm=self.norm, act=self.act)
        for stage in self.up_samples:
            assert isinstance(stage, nn.Sequential)
            stage[1] = Doubling()

    def forward(self, x: Tensor) -> Tensor:
        """Return region logits (n, outputs, *spatial) of images (n, modalities, *spatial)."""
        logits: Tensor = super().forward(x[:, self.group])
        return logits


class _Block(ResBlock):  # type: ignore[misc]
    """A residual block that does not add in place."""

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(self.act(self.norm1(x)))
        added: Tensor = x + self.conv2(self.act(self.norm2(inner)))
        return added


class Doubling(nn.Module):
    """Linear upsampling by two along every spatial axis, as `torch.nn.functional.interpolate` does without aligned corners."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, channels, *2 * spatial) of (n, channels, *spatial)."""
        for axis in range(2, x.dim()):
            x = _doubled(x, axis)
        return x


def _doubled(x: Tensor, axis: int) -> Tensor:
    """Interpolate at the quarters between voxel centers; at the border the outermost voxel goes on."""
    size = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)], dim=axis)
    after = torch.cat([x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)], dim=axis)
    pair = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim=axis + 1)
    return pair.flatten(axis, axis + 1)
