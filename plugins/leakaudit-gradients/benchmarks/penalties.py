"""What the priors of auxiliary patients charge for: phantoms that were not learned from, and what is made of them.

    python plugins/leakaudit-gradients/benchmarks/penalties.py --size 32 --seeds 3

Every row is a kind of image, every column a prior; a figure is the penalty over that of the true images, the mean over seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import torch
from landscape_data import phantoms
from leakaudit_gradients.autoencoder import residual_of
from leakaudit_gradients.priors import Prior, span_of, total_variation
from torch import Tensor
from torch.nn import functional as F

__all__ = ["kinds", "main", "ratios"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the priors of auxiliary patients charge for.")
    parser.add_argument("--size", type=int, default=32, help="voxels along each side")
    parser.add_argument("--patients", type=int, default=16, help="phantoms that are judged")
    parser.add_argument("--own", type=int, default=96, help="auxiliary phantoms")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the autoencoder")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    scene = phantoms(args.size, args.patients, args.own)
    own, images = torch.from_numpy(scene.own.images.copy()), scene.tensors()[0]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(args.seeds)]
    columns: Mapping[str, Sequence[Prior]] = {
        "total variation": [total_variation],
        "span": [span_of(own)],
        "autoencoder": [residual_of(own, seed) for seed in seeds],
        "trained on noise alone": [residual_of(own, seed, flattened=0.0) for seed in seeds],
    }
    looked = {**kinds(images, own), "learned from": own}
    print("| images | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    true = {name: [float(prior(images)) for prior in priors] for name, priors in columns.items()}
    print("| true, absolute | " + " | ".join(f"{sum(each) / len(each):.4f}" for each in true.values()) + " |")
    for kind, made in looked.items():
        print(f"| {kind} | " + " | ".join(f"{ratios(priors, images, made):.2f}" for priors in columns.values()) + " |")
    return 0


def kinds(images: Tensor, own: Tensor) -> dict[str, Tensor]:
    """Return what is made of images (n, modalities, H, W), by name; `own` are auxiliary images."""
    mean, noise = own.mean(dim=0, keepdim=True), torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return {
        "noise .1": images + 0.1 * noise,
        "noise .3": images + 0.3 * noise,
        "noise 1": images + noise,
        "averages of 3x3": F.avg_pool2d(images, 3, stride=1, padding=1),
        "averages of 5x5": F.avg_pool2d(images, 5, stride=1, padding=2),
        "halfway to the mean": (images + mean) / 2,
        "mean": mean,
        "gray": torch.zeros_like(mean),
        "modalities exchanged": images.roll(1, dims=1),
        "two patients averaged": (images + images.roll(1, dims=0)) / 2,
    }


def ratios(priors: Sequence[Prior], true: Tensor, made: Tensor) -> float:
    """Return the penalty of some images over that of the true ones, the mean over priors."""
    return sum(float(prior(made) / prior(true)) for prior in priors) / len(priors)


if __name__ == "__main__":
    sys.exit(main())
