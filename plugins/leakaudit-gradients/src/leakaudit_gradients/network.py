"""What of a network decides whether its gradients can be inverted, and how to go about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from leakaudit_gradients.method import Preset

__all__ = ["Choice", "choice", "choice_for", "kinks", "walls"]

_KINKED = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.RReLU, nn.Hardswish, nn.Hardtanh)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, *_BATCH)
_LONGER = 3
"""How many times more evaluations a network with group normalization gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How `preset: auto` searches.

    Attributes:
        preset: Way to search.
        longer: Factor on the preset's evaluations.
        reason: Why, one sentence for the log.
        hopeful: Whether the search is expected to find images.
    """

    preset: Preset
    reason: str
    longer: int = 1
    hopeful: bool = True


def choice(kinked: Sequence[str] = (), walled: Sequence[str] = (), *, group: bool = False, batch: bool = False) -> Choice:
    """Return how to search, and why, from what is known of a network.

    Args:
        kinked: Activations with kinks, in words; empty where they are smooth at every depth.
        walled: Layers behind which no image was found, in words: instance normalization and max pooling.
        group: Whether it has group normalization.
        batch: Whether it has batch normalization, whose statistics sites send.
    """
    has = " and ".join([*kinked, *walled])
    if batch:
        return Choice(
            preset="batch-statistics", hopeful=False,
            reason=f"the network has {has}, where gradients alone say little; running statistics of its batch normalization travel "
            "with the update, so they are matched beside it",
        )  # fmt: skip
    if walled:
        return Choice(
            preset="inverting-gradients", hopeful=False,
            reason=f"the network has {has}, where gradient matching found no image, though some patients: the attack for it is "
            "gradient-inverter, which learns the map from updates to images",
        )  # fmt: skip
    if kinked:
        return Choice(
            preset="kinked-unet", longer=_LONGER if group else 1,
            reason=f"the network has {has}, where a second-order search finds little and Adam finds part of the image and "
            "recognizes patients; gradient-inverter, which learns the map from updates to images, is the second attack",
        )  # fmt: skip
    if group:
        return Choice(
            preset="smooth-unet", longer=_LONGER,
            reason="the network is smooth at every depth and has group normalization, which a second-order search gets through "
            f"with {_LONGER} times the evaluations",
        )  # fmt: skip
    return Choice(
        preset="smooth-unet",
        reason="the network is smooth at every depth and has no normalization, where a second-order search finds images",
    )


def choice_for(network: nn.Module) -> Choice:
    """Return how to search the gradients of a network for images, and why."""
    kinds = [type(module) for module in network.modules()]
    return choice(
        kinks(network),
        walls(network),
        group=any(issubclass(k, nn.GroupNorm) for k in kinds),
        batch=any(issubclass(k, _BATCH) for k in kinds),
    )


def kinks(network: nn.Module) -> tuple[str, ...]:
    """Return the activations of a network that have kinks, in words, each once.

    Kinks make gradients jump, which hinders a second-order search more than Adam.
    """
    kinds = [type(module) for module in network.modules()]
    return tuple(dict.fromkeys(f"{k.__name__} activations" for k in kinds if issubclass(k, _KINKED)))


def walls(network: nn.Module) -> tuple[str, ...]:
    """Return the layers of a network behind which gradient matching found no image, in words, each once.

    Instance and batch normalization divide by the image's own spread; max pooling jumps from voxel to voxel. Group normalization
    over many voxels is left out: it slows the search down and does not stop it.
    """
    kinds = [type(module) for module in network.modules()]
    return tuple(dict.fromkeys(k.__name__ for k in kinds if issubclass(k, _MAXIMA + _NORMS)))
