"""The learned map of the landscape: from gradients to images."""

from __future__ import annotations

import numpy as np
import torch
from landscape_data import Scene
from landscape_search import prepared
from landscape_variants import Variant
from leakaudit_gradients.inverter_map import fit
from leakaudit_gradients.inverter_sketch import Sketch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from leakaudit.cohorts import regions
from leakaudit.models import Tensors

__all__ = ["MAPS", "learned"]

MAPS = (
    "gelu", "two levels, relu", "leaky", "max pooling", "instance", "instance, leaky", "monai, default", "leakaudit, default",
    "basic", "basic, trained",
)  # fmt: skip
"""Variants whose gradients a map is learned from by default: one that matching inverts, and those that it does not."""

_WIDTH = 2048
_AT_ONCE = 8


def learned(variant: Variant, scene: Scene, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the map makes of the victims' gradients, and of the next victim's in their place, each (n, modalities, H, W).

    Args:
        variant: Its network; what else it changes does not matter here.
        scene: Its auxiliary patients are learned from.
        seed: Of the network and the projection.
    """
    _, simulate = prepared(variant, scene, seed)
    own, masks = torch.from_numpy(scene.own.images.copy()), torch.from_numpy(regions(scene.own.labels))
    like = simulate(own[:1], masks[:1])
    sketch = Sketch(like, _WIDTH, torch.Generator().manual_seed(seed))

    def features(x: Tensor, y: Tensor) -> NDArray[np.float64]:
        def one(image: Tensor, mask: Tensor) -> Tensors:
            return simulate(image[None], mask[None])

        with torch.no_grad():
            parts = [sketch(vmap(one)(a, b)) for a, b in zip(x.split(_AT_ONCE), y.split(_AT_ONCE), strict=True)]
        return np.asarray(torch.cat(parts).double().numpy())

    known = fit(features(own, masks), own.flatten(1).double().numpy(), range(len(own)))
    sent = features(*scene.tensors())
    return _images(known(sent), scene), _images(known(np.roll(sent, 1, axis=0)), scene)


def _images(flat: NDArray[np.float64], scene: Scene) -> NDArray[np.float32]:
    axes = (0, 2, 3)
    low, high = (f(scene.own.images, axis=axes, keepdims=True) for f in (np.min, np.max))
    return np.asarray(np.clip(flat.reshape(scene.victims.images.shape), low, high), dtype=np.float32)
