"""Laplace scales of the sparse vector technique and the epsilon that they keep. Neither torch nor numpy.

Two updates of a site are neighbors if they differ in anything at all: the unit is the site. Each entry is clipped to
[-g, g], so a magnitude moves by at most g and a value by at most 2 g. With noise Lap(b1) on the threshold, Lap(b2) on each
magnitude, Lap(b3) on each released value (Lyu, Su and Li, VLDB 2017, arXiv 1603.01699; g is their sensitivity):

    threshold  g / b1
    selection  2 g / b2 for every entry whose acceptance the output may depend on
    release    2 g / b3 for every released entry, if the value was clipped before the noise; unbounded otherwise

The costs add up (delta is 0), over rounds too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version

from leakaudit_updates.params_svt import SvtParams

__all__ = ["ACCOUNTANT", "Cost", "Plan", "claimed", "cost", "plan"]

ACCOUNTANT = f"sparse vector technique, pure epsilon, of leakaudit-updates {version('leakaudit-updates')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One round of the technique, down to its noise scales.

    Attributes:
        entries: Number of the update's entries.
        released: Number of entries to release.
        gamma: Bound of a magnitude.
        tau: Threshold, before noise.
        threshold: Laplace scale of the threshold's noise.
        query: Laplace scale of each magnitude's noise.
        release: Laplace scale of each released value's noise.
        stops: Whether selection stops at `released` accepted entries; otherwise whole passes are accepted, and the entries
            to release are drawn of them, with replacement.
        clip_first: Whether values are clipped before the noise; otherwise after it.
    """

    entries: int
    released: int
    gamma: float
    tau: float
    threshold: float
    query: float
    release: float
    stops: bool
    clip_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Epsilon of one round by part; infinite where no bound holds."""

    threshold: float
    selection: float
    release: float

    @property
    def epsilon(self) -> float:
        """Epsilon of the round."""
        return self.threshold + self.selection + self.release


def _split(epsilon: float, released: int) -> tuple[float, float]:
    """Return epsilon of threshold and of queries in the ratio 1 : (2 c)^(2/3) that Lyu et al. recommend."""
    ratio = float((2 * released) ** (2 / 3))
    return epsilon / (1 + ratio), epsilon * ratio / (1 + ratio)


def plan(params: SvtParams, entries: int) -> Plan:
    """Return the plan of a round for an update of `entries` entries, at least one."""
    gamma, tau = params.gamma * params.local_steps, params.tau * params.local_steps
    q = min(math.ceil(params.fraction * entries), entries)
    per_entry = 0.1 if params.noise_var is None else params.noise_var
    match params.variant:
        case "correct":
            share = 0.5 if params.release_share is None else params.release_share
            first, second = _split(params.epsilon * (1 - share), q)
            scales = (gamma / first, 2 * gamma * q / second, 2 * gamma * q / (params.epsilon * share))
        case "nvflare-2.8":
            first, second = _split(params.epsilon, q)
            scales = (gamma / first, 2 * gamma * q / second, 2 * gamma / per_entry)
        case "nvflare-2.2":
            second = params.epsilon * float((2 * q) ** (2 / 3))
            scales = (2 * gamma / params.epsilon, 4 * gamma * q / second, 2 * gamma / per_entry)
    return Plan(
        entries=entries, released=q, gamma=gamma, tau=tau, threshold=scales[0], query=scales[1], release=scales[2],
        stops=params.variant == "correct", clip_first=params.variant != "nvflare-2.2",
    )  # fmt: skip


def cost(plan: Plan) -> Cost:
    """Return what one round costs, from its noise alone.

    Where selection does not stop in time, the entries to release are drawn of all that a pass accepted, and how many these
    were shapes the draw; that can be every entry, so every entry is charged.
    """
    counted = plan.released if plan.stops else plan.entries
    return Cost(
        threshold=plan.gamma / plan.threshold,
        selection=counted * 2 * plan.gamma / plan.query,
        release=plan.released * 2 * plan.gamma / plan.release if plan.clip_first else math.inf,
    )


def claimed(params: SvtParams, entries: int) -> float:
    """Return the epsilon of a round that the variant's publishers state.

    "nvflare-2.2" is meant to be (eps1 + eps2 + eps3)-DP with eps2 = eps1 (2 q)^(2/3); "nvflare-2.8" adds noise_var for
    every released entry to `epsilon`.
    """
    q = plan(params, entries).released
    per_entry = 0.1 if params.noise_var is None else params.noise_var
    match params.variant:
        case "correct":
            return params.epsilon
        case "nvflare-2.8":
            return params.epsilon + q * per_entry
        case "nvflare-2.2":
            return params.epsilon * (1 + float((2 * q) ** (2 / 3))) + per_entry
