"""The altered task: the segmentation network with an imprint module in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from leakaudit.models import NetworkParams, SegmentationNet, SegmentationTask
from leakaudit_gradients.imprint_params import Query

__all__ = ["Imprint", "ImprintNet", "ImprintTask", "Plan", "pattern", "query_vector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How an imprint module is made: all of it JSON, so that it can travel in a `TaskSpec`.

    Attributes:
        shape: (modalities, *spatial) of an image.
        query: What sorts images into bins.
        seed: Of the query vector and of the pattern.
        cuts: Lower ends of the bins, ascending, in the units of query vector times image.
        scale: Factor of weights and biases.
        gain: Factor of the pattern that is added to an image.
        divisor: What images are divided by before the module; it balances the learning of weights and biases.
    """

    shape: Sequence[int]
    query: Query
    seed: int
    cuts: Sequence[float]
    scale: float
    gain: float
    divisor: float


def query_vector(shape: Sequence[int], query: Query, seed: int) -> Tensor:
    """Return the query vector h, shape (d,), float64, of mean square 1."""
    size = int(torch.Size(shape).numel())
    if query == "mean":
        return torch.ones(size, dtype=torch.float64)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pattern(shape: Sequence[int], seed: int) -> Tensor:
    """Return what is added to images, shape (1, *shape): +1 or -1 at every voxel, which no normalization layer takes away."""
    draw = torch.Generator().manual_seed(seed + 1)
    return torch.randint(0, 2, (1, *shape), generator=draw).float() * 2 - 1


class Imprint(nn.Module):
    """Linear map with equal rows, ReLU, and back to an image by one fixed pattern (Fowl et al. 2022, arXiv 2110.13057).

    The map back is the same for all rows and is not learned. Therefore the gradient at row i is the sum over those images whose
    query exceeds cut i of one number per image times the image, whatever the row: differences of rows single images out, also
    after the rows have changed.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        h = query_vector(plan.shape, plan.query, plan.seed)
        cuts = torch.tensor(plan.cuts, dtype=torch.float64)
        # Made without the random numbers of an initialization: the network behind starts as it does without the module.
        self.linear = cast(nn.Linear, nn.utils.skip_init(nn.Linear, len(h), len(cuts)))
        with torch.no_grad():
            self.linear.weight.copy_((plan.scale * plan.divisor * h).float().expand(len(cuts), -1))
            self.linear.bias.copy_(-plan.scale * cuts)
        self.gain, self.divisor = plan.gain, plan.divisor
        # Not a buffer: it is no state, and per-sample gradients forbid buffers.
        self.pattern = pattern(plan.shape, plan.seed)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (n, *shape) with the pattern added."""
        active = torch.relu(self.linear(x.flatten(1) / self.divisor)).mean(dim=1)
        return x + self.gain * active.reshape(-1, *[1] * (x.ndim - 1)) * self.pattern.to(x)


class ImprintNet(SegmentationNet):
    """A `SegmentationNet` behind an imprint module; its own parameters keep their names.

    Args:
        plan: The imprint module.
        dims: 2 or 3.
        params: Network parameters.
        groups: Input channel indices of each encoder.
        levels: Levels that cross the cut.
        outputs: Number of regions.
    """

    def __init__(
        self, plan: Plan, dims: int, params: NetworkParams, groups: Sequence[Sequence[int]], levels: Sequence[int], outputs: int
    ) -> None:
        super().__init__(dims, params, groups, levels, outputs)
        self.imprint = Imprint(plan)

    def forward(self, x: Tensor) -> Tensor:
        """Return region logits (n, outputs, *spatial) of images (n, modalities, *spatial)."""
        return super().forward(self.imprint(x))


class ImprintTask(SegmentationTask):
    """The segmentation task, loss and local run unchanged, on a network with an imprint module in front.

    Args:
        imprint: Fields of `Plan`.
        **task: Arguments of `SegmentationTask`.
    """

    def __init__(self, *, imprint: Mapping[str, Any], **task: Any) -> None:
        super().__init__(**task)
        self.plan = Plan(**imprint)

    def build(self) -> ImprintNet:
        """Return a freshly initialized `ImprintNet`; from one seed its own weights are those of the honest `SegmentationNet`."""
        if not isinstance(self.network, NetworkParams):
            raise TypeError(f"the imprint module is made for the built-in U-Net, not for a {self.network.architecture}")
        return ImprintNet(self.plan, self.dims, self.network, self.groups, self.levels, self.outputs)
