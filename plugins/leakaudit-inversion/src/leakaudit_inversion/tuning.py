"""Chooses the weight of the prior on auxiliary patients: the adversary attacks its own patients first, and knows the answer."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from leakaudit_inversion.explain import Habits, explained
from leakaudit_inversion.losses import reconstruction_loss
from leakaudit_inversion.prior import Prior
from leakaudit_inversion.search import Search
from leakaudit_inversion.source import Auxiliary
from leakaudit_inversion.span import Track

__all__ = ["LADDER", "choose_tv"]

LADDER = (1e-3, 1e-2, 1e-1, 1.0)
"""Weights that are tried, all in one batch."""
_SAMPLES = 4


def choose_tv(
    track: Track, samples: Auxiliary, start: Tensor, prior: Prior, endpoints: dict[str, tuple[str, ...]], rounds: int,
    how: Search, habits: Habits, at_once: int, generator: torch.Generator,
) -> dict[str, float]:  # fmt: skip
    """Return for each endpoint the weight of `LADDER` with which auxiliary patients are recovered best.

    Args:
        track: The client over the observed rounds.
        samples: Auxiliary samples, on the device; at most four are taken.
        start: (modalities, *spatial), where searches start.
        prior: The prior; its weights are those that are chosen.
        endpoints: Levels of each endpoint.
        rounds: Observations of each sample.
        how: Budget and randomness.
        habits: How the client sends.
        at_once: Most images in one batch.
        generator: Chooses samples, and when in its round each is sent.
    """
    device = samples.images.device
    chosen = torch.randperm(len(samples), generator=generator, device=generator.device)[:_SAMPLES].to(device)
    some = samples.take(chosen, device)
    place = torch.rand(rounds, len(some), generator=generator, device=generator.device).to(device)
    with torch.no_grad():
        draws = [model(some.images) for model in track.models(place)]
    many = [{name: t.repeat(len(LADDER), *[1] * (t.ndim - 1)) for name, t in draw.items()} for draw in draws]
    place = place.repeat(1, len(LADDER))
    prior = dataclasses.replace(prior, tv=torch.tensor(LADDER, device=device).repeat_interleave(len(some)))
    begin = start.to(device).expand(len(prior.tv), *start.shape)
    found = {}
    for name, levels in endpoints.items():
        images = explained(track, many, torch.ones_like(place), place, levels, begin, prior, how, habits.noise, at_once)
        found[name] = LADDER[_nearest(images, some)]
    return found


def _nearest(images: Tensor, truth: Auxiliary) -> int:
    """Return which block of reconstructions, one per weight, is nearest to the truth."""
    losses = [float(reconstruction_loss(block, truth.images, truth.brain, "mse+ssim")) for block in images.chunk(len(LADDER))]
    return min(range(len(losses)), key=losses.__getitem__)
