"""Epsilon of DP-SGD steps or rounds of site-level DP, and the noise for a wanted epsilon, by the accountants of Opacus.

Each step is a Gaussian mechanism on a Poisson sample, each round one on all sites (rate 1). Renyi DP composes it in closed form
(Mironov, Talwar and Zhang 2019, arXiv 1908.10530); privacy loss random variables compose it numerically and tighter (Gopi, Lee and
Wutschitz 2021, arXiv 2106.02848).
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator

from leakaudit.errors import UserError
from leakaudit_dp.library import VERSION, RDPAccountant, create_accountant, get_noise_multiplier

__all__ = ["accountant_name", "conversion", "noise_for", "spent"]

_ORDERS: list[float] = [*RDPAccountant.DEFAULT_ALPHAS, *range(64, 257, 8)]
"""Renyi orders: those of Opacus, and higher ones that strong noise needs."""

_PRV_ERROR = 0.01
_PRV_LIMIT = 20.0
"""Epsilon above which the numerical accountant needs gigabytes, then fails."""

_CONVERSIONS = {
    "rdp": "Renyi DP to (epsilon, delta) by Balle et al. 2020, theorem 21, best of orders 1.1 to 256",
    "prv": f"upper end of the numerical composition, error at most {_PRV_ERROR} in epsilon",
}


def accountant_name(kind: str) -> str:
    """Return the accountant's name with the version of its library."""
    return f"{kind.upper()} accountant of Opacus {VERSION}"


def conversion(kind: str) -> str:
    """Return in words how the accountant's curve becomes (epsilon, delta)."""
    return _CONVERSIONS[kind]


@contextlib.contextmanager
def _without_hints() -> Iterator[None]:
    with warnings.catch_warnings():
        # At the ends of the orders the bound is loose but true; a reader could do nothing about it.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        warnings.filterwarnings("ignore", message="divide by zero encountered in log")  # of the prv accountant at rate 1
        yield


def _options(kind: str) -> dict[str, object]:
    return {"alphas": _ORDERS} if kind == "rdp" else {"eps_error": _PRV_ERROR}


@functools.cache
def spent(kind: str, *, noise: float, rate: float, steps: int, delta: float) -> float:
    """Return epsilon of `steps` steps; infinite where the accountant finds no bound.

    Args:
        kind: `"rdp"` or `"prv"`.
        noise: Noise multiplier, above 0.
        rate: Sampling rate of a unit, in (0, 1].
        steps: Steps, over all rounds.
        delta: Failure probability, in (0, 1).

    Raises:
        UserError: Epsilon is beyond what `"prv"` can compute.
    """
    if steps == 0:
        return 0.0
    if kind == "prv":
        _keep_within_prv(spent("rdp", noise=noise, rate=rate, steps=steps, delta=delta))
    accountant = create_accountant(mechanism=kind)
    accountant.history = [(noise, rate, steps)]
    with _without_hints():
        return max(0.0, float(accountant.get_epsilon(delta=delta, **_options(kind))))


@functools.cache  # seats with the same settings share one search of some seconds
def noise_for(kind: str, *, epsilon: float, rate: float, steps: int, delta: float, name: str = "dp-sgd") -> float:
    """Return the least noise multiplier (to about 0.01 in epsilon) whose `steps` steps cost at most `epsilon`.

    Args:
        kind: `"rdp"` or `"prv"`.
        epsilon: What they may cost.
        rate: Sampling rate of a unit, in (0, 1].
        steps: Steps, over all rounds.
        delta: Failure probability, in (0, 1).
        name: The defense, for messages.

    Raises:
        UserError: No noise gets that low, the number of steps is unknown, or epsilon is beyond `"prv"`.
    """
    if kind == "prv":
        _keep_within_prv(epsilon)
    if steps < 1:
        raise UserError(
            f"{name} was given target_epsilon, but this protocol does not say in advance how many steps it takes; "
            "give noise_multiplier instead."
        )
    wanted = {"target_epsilon": epsilon, "target_delta": delta, "sample_rate": rate, "steps": steps, "accountant": kind}
    try:
        with _without_hints():
            return float(get_noise_multiplier(**wanted, epsilon_tolerance=min(0.01, epsilon / 100), **_options(kind)))
    except ValueError as error:
        raise UserError(
            f"{name} cannot reach epsilon {epsilon:g} at delta {delta:g} in {steps} steps with sampling rate {rate:.3g} "
            f"({error}); raise target_epsilon or take fewer steps."
        ) from error


def _keep_within_prv(epsilon: float) -> None:
    if epsilon > _PRV_LIMIT:
        raise UserError(
            f"dp-sgd: the prv accountant computes epsilons up to {_PRV_LIMIT:g}, and this training is at about {epsilon:.3g}; "
            "use accountant: rdp, more noise or fewer steps."
        )
