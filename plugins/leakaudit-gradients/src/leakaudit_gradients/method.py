"""How to search, as plain data without torch: objective, optimizer, priors, start; and the published ways by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PRESETS", "Decay", "Method", "Objective", "Optimizer", "Preset", "Sign", "Start"]

Objective = Literal["euclidean", "relative", "cosine", "layer-cosine"]
Optimizer = Literal["lbfgs", "adam"]
Sign = Literal["none", "hard", "soft"]
Decay = Literal["none", "steps", "cosine"]
Start = Literal["gray", "mean", "noise", "pattern"]
Preset = Literal["dlg", "inverting-gradients", "modern", "smooth-unet", "kinked-unet", "batch-statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to search for images whose update is the observed one.

    Attributes:
        objective: Distance of updates. `euclidean`: sum of squared differences over all parameters, over the observed sum of
            squares; `relative`: the same for each tensor by itself, mean over tensors; `cosine`: 1 - cosine of the whole update;
            `layer-cosine`: 1 - cosine of each tensor, mean over tensors.
        optimizer: L-BFGS or Adam.
        iterations: Evaluations of the objective and its gradient, per target and start.
        learning_rate: Adam's.
        sign: What Adam is fed: the gradient, its sign, or a soft sign that fades into the gradient.
        decay: How Adam's learning rate falls: tenfold at 3/8, 5/8 and 7/8 of the iterations, by a cosine, or not at all.
        warmup: Iterations in which Adam's learning rate rises from 0.
        history: Pairs that L-BFGS remembers.
        tv: Weight of the total variation (mean over voxels).
        l2: Weight of the mean square.
        pca: Weight of the distance to the span of auxiliary patients.
        autoencoder: Weight of the error of an autoencoder trained on auxiliary patients.
        statistics: Weight of the distance to the batch statistics that an update carries, where it carries any.
        invariance: Weight of the distance between what passes over the data have in common whatever the order of samples.
        box: Whether images are kept within the range of values that images have.
        start: Where images start: gray (0), the mean auxiliary image, noise, or a patch of noise that is repeated.
    """

    objective: Objective = "relative"
    optimizer: Optimizer = "lbfgs"
    iterations: int = 300
    learning_rate: float = 0.1
    sign: Sign = "none"
    decay: Decay = "none"
    warmup: int = 0
    history: int = 50
    tv: float = 0.0
    l2: float = 0.0
    pca: float = 0.0
    autoencoder: float = 0.0
    statistics: float = 0.0
    invariance: float = 1.0
    box: bool = False
    start: Start = "gray"


PRESETS: dict[Preset, Method] = {
    # Zhu, Liu and Han 2019.
    "dlg": Method(objective="euclidean", iterations=300, history=100, start="noise"),
    # Geiping et al. 2020, the setting for a single image.
    "inverting-gradients": Method(
        objective="cosine", optimizer="adam", iterations=4800, sign="hard", decay="steps", tv=1e-6, box=True, start="noise"
    ),
    # The defaults of recent work in one: soft signs, warm-up and cosine decay, a start of repeated patches. Its published form
    # couples the color channels in the total variation and regularizes features of the last layer; modalities are no colors,
    # and a segmentation network has no such features.
    "modern": Method(
        objective="cosine", optimizer="adam", iterations=24000, sign="soft", decay="cosine", warmup=50, tv=1e-4, box=True,
        start="pattern",
    ),
    # Second order, every tensor on its own scale, no box: what smooth U-Nets without normalization give way to.
    "smooth-unet": Method(objective="relative", iterations=400, tv=1e-4, start="mean"),
    # The same distance where the activation has kinks: Adam gets over them where a line search gives up (VALIDATION.md).
    "kinked-unet": Method(
        objective="relative", optimizer="adam", iterations=1600, decay="cosine", warmup=10, tv=1e-4, start="mean"
    ),
    # Hatamizadeh et al. 2023: their weights of batch statistics, total variation and mean square, warm-up, cosine and start from a
    # prior image. Their 40,000 iterations are for 224 x 224; their distance of updates is absolute, here each tensor has its own
    # scale; the noise that they add to each step and their second beta of 0.9 are left out.
    "batch-statistics": Method(
        objective="relative", optimizer="adam", iterations=4000, decay="cosine", warmup=100, tv=1e-4, l2=1e-5, statistics=0.1,
        start="mean",
    ),
}  # fmt: skip
"""Published ways to search, and those for U-Nets with smooth and with kinked activations."""
