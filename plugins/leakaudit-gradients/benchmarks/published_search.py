"""One search of `published.py`: gradients or updates of a classifier, inverted by the package's own search, and scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from leakaudit_gradients.last_layer import label_of
from leakaudit_gradients.localrun import LocalRun, Simulate
from leakaudit_gradients.matching import Goal, Guess, match
from leakaudit_gradients.method import Method
from published_data import CLASSES, Scale
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from leakaudit.models import Tensors
from leakaudit.scoring.assignment import matched_scores

__all__ = ["Found", "gradient_of", "inverted", "labels_told", "local_run", "psnr_table", "searched"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        psnr: PSNR in dB of every attacked image on [0, 1], matched one to one within a target.
        loss: Objective of every target at the end, with its priors; empty where nothing was searched for.
    """

    psnr: tuple[float, ...]
    loss: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean PSNR."""
        return float(np.mean(self.psnr))

    def share(self, least: float) -> float:
        """Return the share of images whose PSNR exceeds `least`."""
        return float(np.mean(np.array(self.psnr) > least))

    def __str__(self) -> str:
        """Return both as a line of a table."""
        span = f"{min(self.psnr):.2f} to {max(self.psnr):.2f}"
        found = f"{self.mean:.2f} dB ({span}), n = {len(self.psnr)}, {self.share(20):.0%} above 20"
        return f"{found}, loss {np.mean(self.loss):.1e} (largest {max(self.loss):.1e})" if self.loss else found


def gradient_of(network: nn.Sequential) -> Simulate:
    """Return what gives the gradient of the mean cross-entropy of images (n, channels, H, W) and one-hot labels (n, classes)."""
    params = {name: p.detach() for name, p in network.named_parameters()}
    return lambda x, y: _gradient(network, params, x, y)


def local_run(network: nn.Sequential, run: LocalRun, rate: float) -> Simulate:
    """Return what gives the update of a local run of SGD without momentum, summed step by step."""
    params, order = {name: p.detach() for name, p in network.named_parameters()}, run.order()

    def simulate(x: Tensor, y: Tensor) -> Tensors:
        moved = {name: torch.zeros_like(p) for name, p in params.items()}
        for rows in order:
            here = {name: p + moved[name] for name, p in params.items()}
            change = _gradient(network, here, x[rows], y[rows])
            moved = {name: moved[name] - rate * change[name] for name in moved}
        return moved

    return simulate


def _gradient(network: nn.Sequential, params: Tensors, x: Tensor, y: Tensor) -> Tensors:
    def loss(values: Tensors) -> Tensor:
        return F.cross_entropy(functional_call(network, dict(values), (x,)), y)

    return cast(Tensors, grad(loss)(params))


def labels_told(updates: Tensors) -> Tensor:
    """Return the label of the single image behind each gradient, (targets,), from the last layer by the rule of iDLG."""
    weights = [tensor for tensor in updates.values() if tensor.ndim == 3]
    return torch.tensor([label_of(one) for one in weights[-1]])


def inverted(network: nn.Sequential, x: Tensor, labels: Tensor, scale: Scale, method: Method, seed: int = 0) -> Found:
    """Invert the gradient of each target, one step on all of its images.

    The label of a single image is read from its gradient; those of several are known, as the published attacks take them to be.

    Args:
        network: The classifier.
        x: Images (targets, samples, channels, H, W) on [0, 1].
        labels: (targets, samples).
        scale: For the network.
        method: How to search; it starts from noise.
        seed: Of the noise.
    """
    simulate = gradient_of(network)
    updates = {name: t.detach() for name, t in vmap(simulate)(scale.forward(x), one_hot(labels)).items()}
    told = labels_told(updates)[:, None] if x.shape[1] == 1 else labels
    goal = Goal(
        updates=updates, simulate=simulate, run=LocalRun.of(x.shape[1], x.shape[1], 1), masks=one_hot(told), bounds=scale.bounds()
    )  # fmt: skip
    return searched(goal, x, scale, method, seed)


def one_hot(labels: Tensor) -> Tensor:
    """Return labels of any shape as masks (*shape, classes)."""
    return F.one_hot(labels, CLASSES).float()


def searched(goal: Goal, x: Tensor, scale: Scale, method: Method, seed: int = 0) -> Found:
    """Search from one start of noise and score what is found against images (targets, samples, channels, H, W)."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    assert goal.masks is not None
    found = match(goal, method, [Guess(images=noise, masks=goal.masks)])
    assert found.loss is not None
    scores = [matched_scores(psnr_table(scale.back(g), t)) for g, t in zip(found.images, x, strict=True)]
    return Found(psnr=tuple(float(v) for some in scores for v in some), loss=tuple(found.loss.tolist()))


def psnr_table(guesses: Tensor, truth: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the PSNR in dB of every guess (n, ...) against every image (m, ...) on [0, 1], (n, m)."""
    error = torch.cdist(guesses.double().flatten(1), truth.double().flatten(1)).square() / math.prod(truth.shape[1:])
    table: np.ndarray[tuple[int, int], np.dtype[np.float64]] = (-10 * error.clamp_min(1e-12).log10()).numpy()
    return table
