"""The sparse vector technique on rows of values, in numpy alone. Each row is an update of its own.

Li et al. 2019 (arXiv 1910.00962) select an update's entries with it; Lyu, Su and Li, VLDB 2017 (arXiv 1603.01699), say
which forms of it are private.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from leakaudit_updates.accounting import Plan

__all__ = ["release", "select"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]

_PASSES = 100
"""Passes over the entries after which fewer than planned are released. Stopping early is private; never stopping is not."""


def select(values: Floats, plan: Plan, rng: np.random.Generator) -> Mask:
    """Return which entries are released.

    An entry is accepted once its clipped magnitude with fresh noise reaches the noisy threshold; passes over those not yet
    accepted go on until there are enough. Entries are looked at in random order: of a pass that accepts too many, a random
    part is taken, which is what stopping in time means there. Published variants draw of all accepted instead.

    Args:
        values: Differences, (rows, entries).
        plan: The round.
        rng: Source of all noise.

    Returns:
        (rows, entries).
    """
    sizes = np.abs(np.clip(values, -plan.gamma, plan.gamma))
    threshold = plan.tau + rng.laplace(scale=plan.threshold, size=(len(values), 1))
    accepted = np.zeros(values.shape, dtype=np.bool_)
    for _ in range(_PASSES):
        missing = plan.released - accepted.sum(axis=1)
        rows = np.flatnonzero(missing > 0)
        if not len(rows):
            break
        noise = rng.laplace(scale=plan.query, size=(len(rows), values.shape[1]))
        passed = (sizes[rows] + noise >= threshold[rows]) & ~accepted[rows]
        accepted[rows] |= _some(passed, missing[rows], rng) if plan.stops else passed
    return accepted if plan.stops else _drawn(accepted, plan.released, rng)


def release(values: Floats, chosen: Mask, plan: Plan, rng: np.random.Generator) -> Floats:
    """Return the chosen values, clipped and noised in the plan's order, and 0 elsewhere; (rows, entries)."""
    noise = rng.laplace(scale=plan.release, size=values.shape)
    if plan.clip_first:
        noisy = np.clip(values, -plan.gamma, plan.gamma) + noise
    else:
        noisy = np.clip(values + noise, -plan.gamma, plan.gamma)
    sent: Floats = np.where(chosen, noisy, 0.0)
    return sent


def _some(passed: Mask, room: NDArray[np.integer[Any]], rng: np.random.Generator) -> Mask:
    """Return a random part of each row's entries, at most `room` of them."""
    keys = np.where(passed, rng.random(passed.shape), np.inf)
    rows = np.arange(len(passed))
    over = passed.sum(axis=1) > room
    limit = np.where(over, np.sort(keys, axis=1)[rows, np.where(over, room, 0)], np.inf)
    return passed & (keys < limit[:, None])


def _drawn(accepted: Mask, count: int, rng: np.random.Generator) -> Mask:
    """Return `count` draws with replacement of each row's accepted entries: repeated draws leave fewer."""
    found = accepted.sum(axis=1, keepdims=True)
    draws = rng.integers(0, np.maximum(found, 1), size=(len(accepted), count))
    hit = np.zeros(accepted.shape, dtype=np.bool_)
    np.put_along_axis(hit, draws, values=np.True_, axis=1)
    place = np.maximum(np.cumsum(accepted, axis=1) - 1, 0)
    return accepted & np.take_along_axis(hit, place, axis=1)
