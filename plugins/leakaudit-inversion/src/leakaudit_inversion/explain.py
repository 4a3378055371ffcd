"""From observations of a client to the images that explain them: how it sends, and the search under its weights of then."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.prior import Prior
from leakaudit_inversion.search import Search, goals_of, search
from leakaudit_inversion.span import Track

__all__ = ["Habits", "explained", "habits_of"]

_FLOOR = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a client sends the same images twice.

    Attributes:
        steady: Exactly alike.
        pooling: Which levels show what was dropped.
        noise: Variance between sends by level, relative to the variance of the activations.
    """

    steady: bool
    pooling: Pooling
    noise: Mapping[str, float]


def habits_of(track: Track, images: Tensor) -> Habits:
    """Send images (n, modalities, *spatial) twice and look at the differences."""
    with torch.no_grad():
        first, second = track.last(images), track.last(images)
    pooling = Pooling.of(first, second)
    noise = {}
    for name, a in first.items():
        b = second[name]
        both = (a != 0) & (b != 0) if name in pooling.masked else torch.ones_like(a, dtype=torch.bool)
        apart, spread = (a - b)[both], a[both]
        noise[name] = float(apart.square().mean() / 2 / spread.var(correction=0).clamp_min(_FLOOR)) if both.any() else 0.0
    return Habits(steady=all(torch.equal(first[name], second[name]) for name in first), pooling=pooling, noise=noise)


def explained(
    track: Track, draws: Sequence[Mapping[str, Tensor]], seen: Tensor, place: Tensor, levels: Sequence[str], start: Tensor,
    prior: Prior, how: Search, noise: Mapping[str, float], at_once: int,
) -> Tensor:  # fmt: skip
    """Return the images that explain observations best, (n, modalities, *spatial).

    Args:
        track: The client over the observed rounds.
        draws: Observations by level, each (n, channels, *spatial).
        seen: (observations, n), which of them there are.
        place: (observations, n), when in its round each was sent.
        levels: Levels to explain.
        start: Images to start from.
        prior: What is known of images beforehand.
        how: Budget and randomness.
        noise: Relative variance of the defense's noise by level.
        at_once: Most targets in one batch.
    """
    found = []
    for rows in torch.arange(len(start), device=start.device).split(at_once):
        some = [{name: draw[name][rows] for name in levels} for draw in draws]
        goals = goals_of(some, seen[:, rows], levels, how.pooling, noise)
        own = dataclasses.replace(prior, tv=prior.tv[rows])
        found.append(search(track.models(place[:, rows]), goals, start[rows], own, how)[0])
    return torch.cat(found)
