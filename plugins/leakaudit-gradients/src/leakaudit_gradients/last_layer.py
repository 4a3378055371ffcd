"""What the gradient of the last layer says in closed form: labels, class fractions, shares of regions.

The bias of a last 1x1 convolution is added to every voxel, so its gradient is the sum of the gradients at all logits. Under mean
cross-entropy that is mean(p) - mean(y): what a network predicts on average minus what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Moments", "bias_gradient", "class_fractions", "label_of", "last_layer", "shares"]

_GRID = 4001


def label_of(weight_gradient: Tensor) -> int:
    """Return the class of a single image from the gradient of the last layer's weight (classes, features).

    With features that are not negative (behind a sigmoid or a ReLU) only the row of the true class has a negative sum, since
    dL/dz = p - y is negative there alone (Zhao, Mopuri and Bilen 2020, iDLG).
    """
    return int(weight_gradient.sum(dim=1).argmin())


def class_fractions(mean_probabilities: Tensor, bias_gradient: Tensor) -> Tensor:
    """Return the share of voxels in each class, (classes,), under mean cross-entropy: mean(p) - dL/db.

    Exact for softmax and for sigmoid outputs; how good it is depends on how well mean(p) is known.

    Args:
        mean_probabilities: Mean predicted probability of each class over all voxels, (classes,).
        bias_gradient: Gradient of the last bias, (classes,), of the mean loss.
    """
    return mean_probabilities - bias_gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What a network predicts, as means over voxels, one entry per region.

    Attributes:
        p: Mean of p.
        pq: Mean of p (1 - p).
        pp: Mean of p^2.
        ppq: Mean of p^2 (1 - p).
        voxels: Voxels of one sample.
    """

    p: Tensor
    pq: Tensor
    pp: Tensor
    ppq: Tensor
    voxels: int

    @staticmethod
    def of(logits: Tensor) -> Moments:
        """Return the moments of logits (n, regions, *spatial)."""
        p = torch.sigmoid(logits.double()).transpose(0, 1).flatten(1)
        means = {"p": p, "pq": p * (1 - p), "pp": p * p, "ppq": p * p * (1 - p)}
        return Moments(voxels=int(logits[0, 0].numel()), **{k: v.mean(dim=1) for k, v in means.items()})


def bias_gradient(share: Tensor, moments: Moments, dice_weight: float) -> Tensor:
    """Return the gradient of the last bias for samples of which each region fills `share`, (grid, regions).

    The loss is that of `SegmentationTask`: w (1 - (2 I + 1) / (S + 1)) + (1 - w) BCE, both means over regions, with
    I = sum(p y) and S = sum(p^2) + sum(y). Where predictions do not depend on the mask (an untrained network), sums over a region
    are its size times the mean over the image, which leaves one unknown, the share f:

        dBCE/db = mean(p) - f
        dDice/db = -2 N f mean(pq) / (S + 1) + 2 (2 N f mean(p) + 1) N mean(p^2 q) / (S + 1)^2,   S = N (mean(p^2) + f)

    Args:
        share: (grid, 1) or (grid, regions), in [0, 1].
        moments: Of the predictions.
        dice_weight: w.
    """
    n, regions = moments.voxels, len(moments.p)
    size = n * (moments.pp + share) + 1
    dice = -2 * n * share * moments.pq / size + 2 * (2 * n * share * moments.p + 1) * n * moments.ppq / size**2
    return (dice_weight * dice + (1 - dice_weight) * (moments.p - share)) / regions


def shares(gradient: Tensor, moments: Moments, dice_weight: float, expected: Sequence[float]) -> list[float]:
    """Return the share of voxels of each region from the gradient of the last bias.

    Without a Dice part the answer is the one of `class_fractions`. With it two shares can give the same gradient (around p = 0.5
    small shares rise and larger ones lower it); then the one nearest to what is expected is taken.

    Args:
        gradient: (regions,), of the mean loss.
        moments: Of the predictions on images like those of the site.
        dice_weight: Weight of the Dice part.
        expected: Share of each region to be expected, for example the auxiliary patients' median.
    """
    regions = len(moments.p)
    if dice_weight == 0:
        return [float(v) for v in class_fractions(moments.p, gradient.double().cpu() * regions)]
    grid = torch.linspace(0, 1, _GRID, dtype=torch.float64)
    off = (bias_gradient(grid[:, None], moments, dice_weight) - gradient.double().cpu()).numpy()
    found = []
    for k in range(regions):
        crossing = np.flatnonzero(np.sign(off[:-1, k]) != np.sign(off[1:, k]))
        # Nothing crosses where the gradient is beyond what the formula reaches: then what comes closest.
        places = crossing if len(crossing) else np.array([np.abs(off[:, k]).argmin()])
        found.append(min((float(grid[i]) for i in places), key=_from(expected[k])))
    return found


def _from(place: float) -> Callable[[float], float]:
    return lambda share: abs(share - place)


def last_layer(network: nn.Module) -> tuple[str, str]:
    """Return the names of weight and bias of a network's last layer with a bias.

    Raises:
        ValueError: No layer has one.
    """
    names = [name for name, _ in network.named_parameters()]
    for name in reversed(names):
        weight = f"{name.rpartition('.')[0]}.weight"
        if name.endswith(".bias") and weight in names:
            return weight, name
    raise ValueError(f"no layer of {type(network).__name__} has a bias")
