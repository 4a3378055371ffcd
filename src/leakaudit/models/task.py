"""The one definition of learning that victim, replica and shadow models share: network, per-sample loss, local run."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import JsonValue
from torch import Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_

from leakaudit.models.params import NetworkParams, TrainingParams, network_params
from leakaudit.models.segresnet import ResidualNet
from leakaudit.models.unet import SegmentationNet

__all__ = ["SegmentationTask", "Task", "TaskSpec", "Tensors", "load_task", "optimizer_for"]

Tensors = Mapping[str, Tensor]
"""Named tensors: parameters by name, features by level, `"logits"`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task as plain data: what travels to workers, into keys, and through `Attack.prepare`.

    Attributes:
        target: `"package.module:Class"` of a `Task`.
        params: Keyword arguments of its constructor, JSON.
    """

    target: str
    params: dict[str, JsonValue]


def load_task(spec: TaskSpec) -> Task:
    """Build the task that `spec` names."""
    module, _, name = spec.target.partition(":")
    return cast(Task, getattr(importlib.import_module(module), name)(**spec.params))


class Task(ABC):
    """Network, per-sample loss and local run. Stateless; every method is pure."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Return a freshly initialized network (from torch's global generator)."""

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return one loss per sample, shape (n,). A sample's loss never depends on the others of its batch."""

    @abstractmethod
    def local(self, params: Tensors, x: Tensor, y: Tensor, order: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the parameters after one optimization step per entry of `order`, with fresh optimizer state.

        Pure: gradients and vmap go through it, so that nothing in the network is dropped at random. Batch normalization takes the
        statistics of each batch, as in training; running statistics are neither used nor returned.

        Args:
            params: Parameters by name.
            x: Images (n, modalities, *spatial).
            y: Region masks (n, regions, *spatial).
            order: Row indices of each step's batch.
        """

    def update(self, params: Tensors, x: Tensor, y: Tensor, order: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the change that `local` makes, by parameter; arguments as there.

        A task that sums up the steps themselves, instead of subtracting weights that are much larger, saves small steps from
        being rounded away.
        """
        after = self.local(params, x, y, order)
        return {name: after[name] - params[name] for name in after}


def optimizer_for(training: TrainingParams, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that `training` asks for."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=training.momentum, weight_decay=decay)


class SegmentationTask(Task):
    """Region segmentation with soft Dice plus cross-entropy.

    Args:
        network: Fields of `NetworkParams` or `SegResNetParams`.
        training: Fields of `TrainingParams`.
        dims: 2 or 3.
        groups: Input channels of each encoder; a SegResNet has one.
        levels: Levels that cross the cut; a SegResNet has none.
        outputs: Number of regions.
    """

    def __init__(
        self,
        *,
        network: Mapping[str, Any],
        training: Mapping[str, Any],
        dims: int,
        groups: Sequence[Sequence[int]],
        levels: Sequence[int],
        outputs: int = 3,
    ) -> None:
        self.network = network_params(network)
        self.training = TrainingParams.model_validate(training)
        self.dims, self.groups, self.levels, self.outputs = dims, groups, levels, outputs
        self._functional: nn.Module | None = None

    def build(self) -> nn.Module:
        """Return a freshly initialized `SegmentationNet` or `ResidualNet`."""
        if isinstance(self.network, NetworkParams):
            return SegmentationNet(self.dims, self.network, self.groups, self.levels, self.outputs)
        (group,) = self.groups
        return ResidualNet(self.dims, self.network, group, self.outputs)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return soft Dice plus binary cross-entropy per sample, shape (n,)."""
        n = logits.shape[0]
        cross = F.binary_cross_entropy_with_logits(logits, y, reduction="none").reshape(n, -1).mean(dim=1)
        p, t = torch.sigmoid(logits).flatten(2), y.flatten(2)
        # Squared terms in the denominator (Milletari et al. 2016): an absent region pulls predictions to zero smoothly.
        dice = 1 - (2 * (p * t).sum(-1) + 1) / ((p * p).sum(-1) + (t * t).sum(-1) + 1)
        weight = self.training.dice_weight
        return weight * dice.mean(dim=1) + (1 - weight) * cross

    def local(self, params: Tensors, x: Tensor, y: Tensor, order: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the parameters after one step per entry of `order` (see `Task.local`)."""
        moved = self.update(params, x, y, order)
        return {name: value + moved[name] for name, value in params.items()}

    def update(self, params: Tensors, x: Tensor, y: Tensor, order: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the sum of the steps, one per entry of `order` (see `Task.update`)."""
        net = self._functional = self._functional or _pure(self.build())

        def objective(values: dict[str, Tensor], xb: Tensor, yb: Tensor) -> Tensor:
            return self.loss(functional_call(net, values, (xb,)), yb).mean()

        moved, first, second = ({k: torch.zeros_like(v) for k, v in params.items()} for _ in range(3))
        for step, rows in enumerate(order, start=1):
            values = {name: value + moved[name] for name, value in params.items()}
            gradients = cast(dict[str, Tensor], grad(objective)(values, x[rows], y[rows]))
            for name, g in gradients.items():
                change, first[name], second[name] = self._step(values[name], g, first[name], second[name], step)
                moved[name] = moved[name] + change
        return moved

    def _step(self, p: Tensor, g: Tensor, m: Tensor, v: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the change of one parameter, and its moments."""
        rate = self.training.learning_rate
        if self.training.weight_decay:
            g = g + self.training.weight_decay * p
        if self.training.optimizer == "sgd":
            m = self.training.momentum * m + g
            return -rate * m, m, v
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        # The tiny offset keeps the derivative of the root finite where a gradient is exactly zero.
        hat = v / (1 - 0.999**step) + 1e-30
        return -rate * (m / (1 - 0.9**step)) / (hat.sqrt() + 1e-8), m, v


def _pure(net: nn.Module) -> nn.Module:
    """Return a network in training without what a call would change or draw: running statistics and dropout."""
    replace_all_batch_norm_modules_(net)
    for module in net.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
            module.eval()
    return net
