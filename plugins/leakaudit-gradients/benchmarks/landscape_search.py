"""One search of the landscape: the gradients of all patients by one network, inverted in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from landscape_data import Scene
from landscape_variants import Variant, VariantTask
from leakaudit_gradients.firststep import gradient_simulation
from leakaudit_gradients.localrun import LocalRun, Simulate
from leakaudit_gradients.matching import Goal, Guess, match
from leakaudit_gradients.starts import Known
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from leakaudit.cohorts import regions
from leakaudit.models import Tensors

__all__ = ["Found", "inverted", "observed", "prepared"]

_BATCH, _RATE = 8, 2e-3
"""Of Adam, where a network is trained before it is attacked: leakaudit's defaults."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        images: (n, modalities, H, W).
        dice: Dice of the whole-tumor mask by patient, where masks were searched for; else none.
        loss: The objective by patient.
        parameters: Weights of the network.
    """

    images: NDArray[np.float32]
    dice: list[float]
    loss: list[float]
    parameters: int


def prepared(variant: Variant, scene: Scene, seed: int) -> tuple[Tensors, Simulate]:
    """Return the parameters of a variant's network, trained where it says so, and what gives gradients at them."""
    torch.manual_seed(seed)
    task = variant.task()
    network = task.build()
    if variant.epochs:
        _train(network, task, scene, variant.epochs)
    params = {name: p.detach() for name, p in network.named_parameters()}
    return params, gradient_simulation(task, params)


def observed(variant: Variant, simulate: Simulate, x: Tensor, y: Tensor, seed: int) -> Tensors:
    """Return the gradients that the adversary sees of images and masks (n, 1, channels, H, W), by name, each (n, *shape)."""
    sent = {name: tensor.detach() for name, tensor in vmap(simulate)(x, y).items() if name.startswith(variant.tensors or ("",))}
    if variant.exchanged:
        sent = {name: tensor.roll(1, dims=0) for name, tensor in sent.items()}
    if variant.noise:
        draw = torch.Generator().manual_seed(seed)
        sent = {
            name: tensor + variant.noise * _size(tensor) * torch.randn(tensor.shape, generator=draw)
            for name, tensor in sent.items()
        }
    return sent


def inverted(variant: Variant, scene: Scene, seed: int, iterations: int) -> Found:
    """Invert the gradients of all victims in one batch.

    Args:
        variant: What is attacked, and what of it is seen.
        scene: The victims; searches start at its mean image, and priors are learned from its auxiliary patients.
        seed: Of the network's initialization and the noise.
        iterations: Evaluations for each victim.
    """
    params, simulate = prepared(variant, scene, seed)
    method, x, y = variant.method(iterations), *(tensor[:, None] for tensor in scene.tensors())
    run, prior = LocalRun.of(1, 1, 1), torch.from_numpy(scene.prior)[:, None]
    inside = scene.own.images.transpose(1, 0, 2, 3).reshape(x.shape[2], -1)
    goal = Goal(
        updates=observed(variant, simulate, x, y, seed), simulate=simulate, run=run, masks=y if variant.known else None,
        bounds=(torch.from_numpy(inside.min(axis=1)), torch.from_numpy(inside.max(axis=1))),
        priors=Known.of(scene.own, noise=False, device=x.device).priors(method, torch.Generator().manual_seed(seed)),
    )  # fmt: skip
    start = Guess(images=torch.from_numpy(scene.mean)[:, None], masks=prior)
    guess = match(goal, method, [start])
    assert guess.loss is not None
    return Found(
        images=guess.images[:, 0].numpy().astype(np.float32), dice=[] if variant.known else _dice(guess.masks[:, 0, 0], y[:, 0, 0]),
        loss=guess.loss.tolist(), parameters=sum(p.numel() for p in params.values()),
    )  # fmt: skip


def _train(network: torch.nn.Module, task: VariantTask, scene: Scene, epochs: int) -> None:
    x, y = torch.from_numpy(scene.own.images.copy()), torch.from_numpy(regions(scene.own.labels))
    optimizer = torch.optim.Adam(network.parameters(), lr=_RATE)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(_BATCH):
            optimizer.zero_grad()
            task.loss(network(x[rows]), y[rows]).mean().backward()
            optimizer.step()


def _size(tensor: Tensor) -> Tensor:
    """Return the root mean square of each target's entries, ready to broadcast."""
    return tensor.flatten(1).square().mean(dim=1).sqrt().reshape(-1, *[1] * (tensor.ndim - 1))


def _dice(found: Tensor, truth: Tensor) -> list[float]:
    a, b = (found > 0.5).flatten(1).float(), truth.flatten(1)
    return [float(d) for d in 2 * (a * b).sum(dim=1) / (a.sum(dim=1) + b.sum(dim=1)).clamp_min(1)]
