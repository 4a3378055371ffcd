"""How many stacked models fit a device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leakaudit.models.task import Task

__all__ = ["bare", "footprint", "stack_size"]

_BUDGET = {"cpu": 2**26}
"""Bytes that one stack may take, roughly: on a CPU, batched convolutions that outgrow its caches are slower than single ones."""
_ELSEWHERE = 2**32


def stack_size(task: Task, sample: Tensor, batch: int, *, private: bool, device: torch.device, most: int) -> int:
    """Return how many models are trained at once: as many as fit the device, at least one and at most `most`.

    It depends on no clock and no free memory, so that the same plan gives the same numbers. Arguments as in `footprint`.
    """
    budget = _BUDGET.get(device.type, _ELSEWHERE)
    return max(1, min(most, budget // footprint(task, sample, batch, private=private)))


def footprint(task: Task, sample: Tensor, batch: int, *, private: bool) -> int:
    """Return the bytes that one model of a stack needs for a step, roughly: parameters, moments, gradients, activations.

    Args:
        task: The task.
        sample: One image (1, modalities, *spatial).
        batch: Rows in a batch.
        private: Whether gradients of every row are kept.
    """
    net = bare(task)
    outputs: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: outputs.append(out.numel() * out.element_size()))
        for layer in net.modules()
        if not any(True for _ in layer.children())
    ]
    with torch.no_grad():
        net(sample.to("cpu"))
    for hook in hooks:
        hook.remove()
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    # Kept for the backward pass, once more as gradients, and copies of the images that layers rearrange.
    return weights * (8 + (3 * batch if private else 0)) + 3 * batch * sum(outputs)


def bare(task: Task) -> nn.Module:
    """Return the task's network in training mode, for its shape alone; the global stream stays untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return task.build().train()
