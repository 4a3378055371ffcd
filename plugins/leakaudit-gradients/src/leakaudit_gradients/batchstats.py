"""What batch normalization tells: running statistics that travel with the update give the statistics of the batch away.

A batch normalization layer keeps stat_new = (1 - m) stat_old + m stat_batch in every training step, m its momentum. Sites that send
their running statistics with the update therefore send, after one local step,

    stat_batch = (stat_new - (1 - m) stat_old) / m,

the mean and the variance of the layer's inputs (Hatamizadeh et al. 2023, arXiv 2202.06924). After T steps the same difference over
1 - (1 - m)^T is a mean of the batches' statistics with weights m (1 - m)^(T - t), of which no single one can be read off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_

from leakaudit.models import Task, Tensors

__all__ = ["batch_statistics", "disagreement", "statistics_of"]

_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def batch_statistics(network: nn.Module, update: Tensors, before: Tensors) -> dict[str, Tensor]:
    """Return the mean and variance of every batch normalization layer's inputs in the one step behind an update.

    Args:
        network: A network like the site's; only its layers' momenta are read.
        update: Change of parameters and buffers by name, as sent.
        before: Parameters and buffers that the site had received, by name.

    Returns:
        `<layer>.running_mean` and `<layer>.running_var` (the unbiased variance) of the batch, each (channels,). Layers whose
        running statistics were not sent, or that keep a plain average over all steps, are left out.
    """
    found: dict[str, Tensor] = {}
    for layer, module in network.named_modules():
        if not isinstance(module, _LAYERS) or not module.momentum:
            continue
        names = [f"{layer}.running_mean", f"{layer}.running_var"]
        if all(name in update and name in before for name in names):
            found |= {name: before[name] + update[name] / module.momentum for name in names}
    return found


def statistics_of(task: Task, params: Tensors) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the function that gives a batch of images (n, modalities, *spatial) the statistics that `batch_statistics` reads.

    Differentiable, and mappable over targets.

    Args:
        task: The task that sites learn.
        params: The model that they received, by name.
    """
    with torch.random.fork_rng(devices=[]):
        network = task.build().to(next(iter(params.values())).device).eval()
    # Without running statistics a layer takes those of the batch, also outside of training.
    replace_all_batch_norm_modules_(network)
    found: dict[str, Tensor] = {}

    def watch(layer: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            (x,) = inputs
            axes = [0, *range(2, x.ndim)]
            found[f"{layer}.running_mean"], found[f"{layer}.running_var"] = x.mean(dim=axes), x.var(dim=axes)

        return keep

    for layer, module in network.named_modules():
        if isinstance(module, _LAYERS):
            module.register_forward_pre_hook(watch(layer))

    def simulate(images: Tensor) -> dict[str, Tensor]:
        found.clear()
        functional_call(network, dict(params), (images,))
        return dict(found)

    return simulate


def disagreement(simulated: Mapping[str, Tensor], observed: Mapping[str, Tensor]) -> Tensor:
    """Return the sum over layers of ||mean - mean'|| + ||variance - variance'||, a scalar (Hatamizadeh et al. 2023)."""
    return torch.stack([torch.linalg.vector_norm(simulated[name] - tensor) for name, tensor in observed.items()]).sum()
