"""What the gradient of a head's input says about the masks, for the loss that the task really uses.

The label holder's head is a 1x1 convolution, logits = W z + b. What it sends back for a voxel v is G_v = W^T g_v, with g_v the
derivative of the loss by the region logits of that voxel, so that with at least as many channels as regions pinv(W^T) G_v = g_v.
For the mean over a batch of B samples and R regions of w Dice + (1 - w) cross-entropy over N voxels, with p = sigmoid(logits),
D = sum p^2 + sum y^2 + 1 and I = 2 sum p y + 1 of the sample's region,

    B R g_v = (1 - w) (p - y) / N + 2 w (I / D^2 p - y / D) p (1 - p).

I <= D, so g_v < 0 exactly where y = 1 and g_v > 0 where y = 0, whatever w, N, B and the sums are: **the sign of g_v is the
mask**. Where the logits are saturated the gradient vanishes in floating point, or drowns in an inexact head or in noise; then the
value decides: given I and D, g_v is linear in y, and of the possible labels the one is taken whose gradient is nearest. I, D and
B follow from the masks of the step before (a fixed point that the sign starts).

The identity for softmax cross-entropy, G_v = W^T (p_v - y_v) / N, is a special case of the first: y is where g is negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leakaudit.cohorts import LABELS, regions

__all__ = ["Head", "logit_gradient", "solved_masks"]

_STEPS = 6
"""Most steps of the fixed point; it settles in two or three."""
_PATTERNS = torch.from_numpy(regions(np.array([[v] for v in LABELS.values()], dtype=np.uint8))[:, :, 0])
"""(labels, regions): in which regions a voxel of each label is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The 1x1 convolution of the label holder.

    Attributes:
        weight: (regions, channels).
        bias: (regions,).
        dice_weight: Weight w of soft Dice in its loss, in [0, 1].
    """

    weight: Tensor
    bias: Tensor
    dice_weight: float


def logit_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the derivative by the logits, (n, regions, *spatial), from that by the features: pinv(W^T) G.

    Args:
        gradient: By the features, (n, channels, *spatial).
        weight: W, (regions, channels).
    """
    return torch.einsum("rc,nc...->nr...", torch.linalg.pinv(weight.double().T), gradient.double())


def solved_masks(gradient: Tensor, features: Tensor, head: Head) -> Tensor:
    """Return the masks (n, regions, *spatial), zeros and ones, that the gradient of the features was computed with.

    Args:
        gradient: By the features, (n, channels, *spatial), of some samples of one batch.
        features: What the head was given, of the same shape.
        head: The head of that step.
    """
    got = logit_gradient(gradient, head.weight).flatten(2)
    weight = head.weight.double()
    logits = torch.einsum("rc,nc...->nr...", weight, features.double()).flatten(2) + head.bias.double()[:, None]
    p = torch.sigmoid(logits)
    # A sign tells nothing where the gradient has vanished; there the prediction is right.
    masks = torch.where(got == 0, p > 0.5, got < 0).double()
    for _ in range(_STEPS):
        before, masks = masks, _nearest(got, p, masks, weight @ weight.T, head.dice_weight)
        if torch.equal(before, masks):
            break
    solved: Tensor = masks.unflatten(2, gradient.shape[2:])
    return solved


def _nearest(got: Tensor, p: Tensor, masks: Tensor, metric: Tensor, dice_weight: float) -> Tensor:
    """Return the masks of the labels whose gradients are nearest to those that arrived, given the sums of `masks`.

    Distances are those between gradients of features: of logits under the metric W W^T.
    """
    absent, present = _by_label(p, masks, dice_weight)
    scale = _scale(got, torch.where(masks > 0, present, absent), metric)
    patterns, distances = _PATTERNS.to(got), []
    for pattern in patterns[:, :, None] > 0:  # one label after another: volumes are large
        apart = got - scale * torch.where(pattern, present, absent)
        distances.append(torch.einsum("nrv,rs,nsv->nv", apart, metric, apart))
    return patterns[torch.stack(distances).argmin(dim=0)].movedim(-1, 1)


def _by_label(p: Tensor, masks: Tensor, w: float) -> tuple[Tensor, Tensor]:
    """Return B R g for y = 0 and for y = 1, each (n, regions, voxels), given the sums that `masks` have."""
    both = (2 * (p * masks).sum(-1, keepdim=True) + 1, (p * p).sum(-1, keepdim=True) + masks.sum(-1, keepdim=True) + 1)
    inter, total = both
    slope = 2 * w * p * (1 - p)
    absent = (1 - w) * p / p.shape[-1] + slope * p * inter / total.square()
    return absent, absent - (1 - w) / p.shape[-1] - slope / total


def _scale(got: Tensor, expected: Tensor, metric: Tensor) -> Tensor:
    """Return 1 / (B R) by least squares: how large a batch was cannot be seen from some of its rows."""
    along = torch.einsum("nrv,rs,nsv->", got, metric, expected)
    length = torch.einsum("nrv,rs,nsv->", expected, metric, expected)
    return (along / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_min(0)
