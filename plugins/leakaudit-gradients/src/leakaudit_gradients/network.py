"""What of a network decides whether its gradients can be inverted."""

from __future__ import annotations

from torch import nn

from leakaudit_gradients.method import Preset

__all__ = ["obstacles", "preset_for"]

_KINKED = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.RReLU, nn.Hardswish, nn.Hardtanh)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_NORMS = (
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
)  # fmt: skip


def obstacles(network: nn.Module) -> tuple[str, ...]:
    """Return what makes the landscape of gradient matching rough, in words, each once.

    Kinks in the activation make gradients jump, so that a second-order search finds no slope; max pooling jumps likewise;
    instance and batch normalization divide by the image's own spread. Group normalization over many voxels is left out: it
    slows the search down and does not stop it.
    """
    kinds = [type(module) for module in network.modules()]
    found = [f"{k.__name__} activations" for k in kinds if issubclass(k, _KINKED)]
    found += [f"{k.__name__}" for k in kinds if issubclass(k, _MAXIMA + _NORMS)]
    return tuple(dict.fromkeys(found))


def preset_for(network: nn.Module) -> Preset:
    """Return the preset that fits a network."""
    return "inverting-gradients" if obstacles(network) else "smooth-unet"
