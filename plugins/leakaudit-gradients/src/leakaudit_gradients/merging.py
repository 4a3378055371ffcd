"""From the images of several passes over the same data to one image for each sample."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from leakaudit_gradients.localrun import LocalRun

__all__ = ["merged"]


def merged(images: Tensor, masks: Tensor, run: LocalRun) -> tuple[Tensor, Tensor]:
    """Return one image and one mask for each sample of a target: the mean over passes, matched by likeness to the first.

    Args:
        images: (variables, modalities, *spatial), pass by pass.
        masks: (variables, regions, *spatial).
        run: The batches; variables that are in none are left out.
    """
    if run.copies == 1:
        return images, masks
    n, seen = run.samples, run.seen()
    x, y = images.clone()[:n], masks.clone()[:n]
    count = torch.ones(n)
    for number in range(1, run.copies):
        rows = torch.arange(number * n, (number + 1) * n)
        rows = rows[seen[rows]]
        far = torch.cdist(images[rows].flatten(1), images[:n].flatten(1))
        mine, first = linear_sum_assignment(far.cpu().numpy())
        x[first], y[first] = x[first] + images[rows[mine]], y[first] + masks[rows[mine]]
        count[first] += 1
    share = count.to(x).reshape(-1, *[1] * (x.ndim - 1))
    return x / share, y / share
