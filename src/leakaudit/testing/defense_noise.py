"""Gray-box checks of a claimed DP-SGD: one step is played with and without one unit, twice over, and compared with the claim.

The idea is that of re:cord-play (arXiv 2602.17454): neighboring inputs under the same randomness show what a unit moves, the same
input under other randomness shows the noise. Their ratio is the parameter mu of a Gaussian mechanism, T steps have sqrt(T) mu, and
the privacy curve of that is exact (Dong, Roth and Su 2022, arXiv 1905.02383, corollary 2.13). So the check needs no accountant and
takes no word of the defense for granted but its claim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy import optimize
from torch import Tensor

from leakaudit.defenses import Guarantee
from leakaudit.errors import UserError
from leakaudit.scoring.families import gdp_delta, gdp_epsilon
from leakaudit.testing.defense_plays import Run, Stand, stand_of
from leakaudit.testing.results import UntriedError, ViolationError
from leakaudit.testing.subject import Subject

__all__ = ["noise", "sampling"]

_STEPS = 3
_RATE, _SHUFFLED_STEPS = 0.02, 50
"""One pass over 50 units in batches of one: under shuffling each takes part exactly once."""
_SLACK = 1.2
"""Factor on mu that passes: noise is estimated from some hundred numbers, and accountants round up."""
_MANY = 64
"""Entries from which a tensor's own noise can be estimated."""


def noise(subject: Subject) -> None:
    """Noise is on every weight, is added after clipping, and is as strong as the claimed epsilon says."""
    stand = stand_of(subject)
    run = Run(steps=_STEPS, rate=1.0)
    seen = _seen(stand, run)
    if seen.bare:
        raise ViolationError(
            f"two streams of randomness gave {seen.bare!r} the same step: no noise is added to it, but epsilon {stand.claim} is "
            "claimed.",
            "add noise from self.seat.rng(purpose) to the gradient of every weight, whatever the batch.",
        )
    found = stand.play(0, run, loud=True)
    for claim in found.claims:
        if math.sqrt(_STEPS) * seen.mu <= _SLACK * _mu_of(claim):
            continue
        if seen.uneven:
            raise ViolationError(
                f"the noise on a step is {seen.uneven:.3g} times weaker when the gradient of one {claim.unit} is large, so that no "
                f"epsilon holds ({claim.epsilon:.4g} is claimed).",
                "clip the gradient of each unit first, then add noise to the sum; never clip or rescale what is noised.",
            )
        true = _epsilon_of(math.sqrt(_STEPS) * seen.mu, claim.delta)
        raise ViolationError(
            f"one {claim.unit} moves a step by {seen.mu:.3g} standard deviations of its noise; {_STEPS} such steps cost epsilon "
            f"{true:.4g} at delta {claim.delta:g}, and {claim.epsilon:.4g} is claimed.",
            "clip the gradient of each whole unit, scale the noise to that norm, and count every step of every round.",
        )


def sampling(subject: Subject) -> None:
    """Amplification by sampling is claimed only of batches that are drawn so."""
    stand = stand_of(subject)
    kind = stand.training.sampling.kind
    fix = "return Needs(sampling='poisson') from needs(), or count every pass as one release of each unit."
    if kind == "poisson":
        return
    run = Run(steps=_SHUFFLED_STEPS, rate=_RATE)
    try:
        claims = stand.play(0, run, loud=False).claims
    except UserError as refusal:
        raise UntriedError(f"it refuses small batches that are drawn by {kind} ({refusal})") from refusal
    seen = _seen(stand, run)
    for claim in claims:
        if "poisson" in claim.sampling_assumed.lower():
            raise ViolationError(
                f"its accountant assumes {claim.sampling_assumed!r}, but its batches are drawn by {kind}.", fix
            )  # fmt: skip
        once = math.sqrt(_RATE * _SHUFFLED_STEPS) * seen.mu
        if once > _SLACK * _mu_of(claim):
            raise ViolationError(
                f"after one pass in batches drawn by {kind}, in which every {claim.unit} takes part, it claims epsilon "
                f"{claim.epsilon:.4g}; taking part once costs {_epsilon_of(once, claim.delta):.4g}.",
                fix,
            )


# What the plays show ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What the plays of one step show.

    Attributes:
        mu: How far a unit moves a step, in standard deviations of the noise, over all weights.
        bare: A weight without noise, if there is one.
        uneven: How much weaker the noise is on one of the neighbors; 0 where both have the same.
    """

    mu: float
    bare: str | None
    uneven: float


def _seen(stand: Stand, run: Run) -> _Seen:
    """Play the first step of a run with and without the loud unit under two streams each.

    Raises:
        UntriedError: The defense draws other numbers for a neighboring batch.
    """
    plays = {(s, loud): stand.play(s, run, loud=loud, whole=False).step for s in (0, 1) for loud in (True, False)}
    spread = {loud: {k: plays[0, loud][k] - plays[1, loud][k] for k in plays[0, loud]} for loud in (True, False)}
    bare = next((k for side in spread.values() for k, t in side.items() if not t.abs().amax() > 0), None)
    moved = {k: [plays[s, True][k] - plays[s, False][k] for s in (0, 1)] for k in plays[0, True]}
    levels = {loud: _level(list(side.values())) for loud, side in spread.items()}
    weak, strong = min(levels, key=lambda k: levels[k]), max(levels.values())
    uneven = strong / max(levels[weak], 1e-30)
    apart = _level([a - b for a, b in moved.values()])
    if uneven < 1.5 and apart > strong / 2:
        raise UntriedError("it draws other numbers for a neighboring batch, so that the same noise cannot be played twice")
    total = 0.0
    for k, (a, b) in moved.items():
        own = _level([spread[weak][k]]) if a.numel() >= _MANY else levels[weak]
        total += float(((a + b) / 2).square().sum()) / max(own, 1e-30) ** 2
    return _Seen(math.sqrt(total), bare, uneven if uneven >= 1.5 else 0.0)


def _level(differences: Sequence[Tensor]) -> float:
    """Return the standard deviation of the noise in each of two equal terms, from differences of the two."""
    flat = torch.cat([t.flatten() for t in differences])
    return math.sqrt(float(flat.square().mean()) / 2)


def _mu_of(claim: Guarantee) -> float:
    """Return the largest mu whose Gaussian mechanism is within a claim."""
    delta = max(claim.delta, 1e-300)

    def above(log_mu: float) -> float:
        return gdp_delta(claim.epsilon, math.exp(log_mu)) - delta

    ends = -30.0, 30.0
    return math.exp(float(optimize.brentq(above, *ends))) if above(ends[0]) < 0 < above(ends[1]) else math.inf


def _epsilon_of(mu: float, delta: float) -> float:
    """Return epsilon of a mu-Gaussian mechanism at a delta; infinite where the noise is next to none."""
    return math.inf if mu > 1e6 else gdp_epsilon(mu, max(delta, 1e-300))
