"""Epsilon is what the formulas give, and the noise for a wanted epsilon keeps it."""

from __future__ import annotations

import math

import pytest
from leakaudit_dp.accounting import accountant_name, noise_for, spent
from opacus.accountants import RDPAccountant
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

from leakaudit.errors import UserError


def renyi(alpha: int, q: float, sigma: float) -> float:
    """Renyi DP of one Poisson-subsampled Gaussian step at an integer order (Mironov et al. 2019, section 3.3)."""
    if q == 1:
        return alpha / (2 * sigma**2)
    terms = [
        gammaln(alpha + 1) - gammaln(k + 1) - gammaln(alpha - k + 1)
        + (alpha - k) * math.log(1 - q) + k * math.log(q) + (k * k - k) / (2 * sigma**2)
        for k in range(alpha + 1)
    ]  # fmt: skip
    return float(logsumexp(terms)) / (alpha - 1)


def by_hand(q: float, sigma: float, steps: int, delta: float) -> float:
    return min(
        steps * renyi(a, q, sigma) + math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in range(2, 256)
    )


@pytest.mark.parametrize(
    ("sigma", "steps", "published"), [(0.7, 11_250, 6.113), (1.1, 15_000, 2.506), (1.3, 3_750, 0.922)]
)  # fmt: skip
def test_known_epsilons_at_rate_004(sigma: float, steps: int, published: float) -> None:
    assert by_hand(0.004, sigma, steps, 1e-5) == pytest.approx(published, abs=5e-4)
    accountant = RDPAccountant()
    accountant.history = [(sigma, 0.004, steps)]
    orders = [float(a) for a in range(2, 256)]
    assert accountant.get_epsilon(1e-5, alphas=orders) == pytest.approx(published, abs=5e-4)
    # Ours also searches fractional orders, so it may be lower, by a few hundredths.
    ours = spent("rdp", noise=sigma, rate=0.004, steps=steps, delta=1e-5)
    assert published - 0.05 < ours < published + 5e-4
    assert ours - 2.0 < spent("prv", noise=sigma, rate=0.004, steps=steps, delta=1e-5) < ours + 0.01


@pytest.mark.parametrize(
    ("sigma", "steps", "published"), [(0.7, 11_250, 6.863), (1.1, 15_000, 2.905), (1.3, 3_750, 1.160)]
)  # fmt: skip
def test_the_older_conversion_gives_the_epsilons_of_older_reports(sigma: float, steps: int, published: float) -> None:
    """The conversion says which epsilon a curve becomes: Mironov 2017 gives up to .7 more than the one in use."""
    found = min(steps * renyi(a, 0.004, sigma) + math.log(1 / 1e-5) / (a - 1) for a in range(2, 256))
    assert found == pytest.approx(published, abs=5e-4)
    assert found > by_hand(0.004, sigma, steps, 1e-5)


def exact(sigma: float, rounds: int, delta: float) -> float:
    """Epsilon of Gaussian mechanisms composed exactly (Balle and Wang 2018, arXiv 1805.06530, theorem 8)."""
    mu = math.sqrt(rounds) / sigma

    def left(epsilon: float) -> float:
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu)) - delta

    return 0.0 if left(0.0) <= 0 else float(brentq(left, 0.0, 500.0))


EVERYBODY = {
    1: (13.22, 53.22, 103.22),
    5: (1.53, 4.35, 7.22),
    10: (0.63, 1.78, 2.79),
    20: (0.25, 0.73, 1.13),
    50: (0.07, 0.22, 0.35),
}
"""Epsilon at delta 1e-2 when every site takes part in each of 10, 50 and 100 rounds, by noise multiplier."""


@pytest.mark.parametrize(
    ("sigma", "rounds", "published"),
    [(sigma, n, value) for sigma, row in EVERYBODY.items() for n, value in zip((10, 50, 100), row, strict=True)],
)
def test_known_epsilons_when_everybody_takes_part(sigma: float, rounds: int, published: float) -> None:
    assert by_hand(1.0, sigma, rounds, 1e-2) == pytest.approx(published, abs=5.1e-3)
    ours = spent("rdp", noise=sigma, rate=1.0, steps=rounds, delta=1e-2)
    # Ours also searches orders between the integers, which tells where the best one is below 3, and stays above the truth.
    assert exact(sigma, rounds, 1e-2) < ours < published + 6e-3


def test_rounds_at_a_time_compose_to_the_rounds_together() -> None:
    """Rounds and noise count by rounds / noise^2 alone, as Gaussian mechanisms do."""
    whole = spent("rdp", noise=5.0, rate=1.0, steps=100, delta=1e-2)
    assert spent("rdp", noise=1.0, rate=1.0, steps=4, delta=1e-2) == pytest.approx(whole, rel=1e-9)
    assert spent("rdp", noise=0.5, rate=1.0, steps=1, delta=1e-2) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
@pytest.mark.parametrize(("rate", "steps"), [(0.1, 100), (0.3, 600), (0.004, 11_250), (1.0, 100)])
def test_next_to_no_noise_costs_a_finite_large_epsilon(noise: float, rate: float, steps: int) -> None:
    """What proves nothing must say so with a number: neither a small one nor an overflow."""
    found = spent("rdp", noise=noise, rate=rate, steps=steps, delta=1e-5)
    without_sampling = spent("rdp", noise=noise, rate=1.0, steps=steps, delta=1e-5)
    assert 1e3 < found <= without_sampling < float("inf")


def test_more_steps_cost_more_and_none_cost_nothing() -> None:
    costs = [spent("rdp", noise=1.0, rate=0.1, steps=n, delta=1e-5) for n in (0, 1, 10, 100)]
    assert costs == sorted(costs)
    assert costs[0] == 0
    assert costs[1] > 0


@pytest.mark.parametrize(
    ("kind", "epsilon", "rate"), [("rdp", 8.0, 0.01), ("rdp", 0.5, 1.0), ("rdp", 1000.0, 1.0), ("prv", 3.0, 1.0)]
)
def test_the_noise_for_an_epsilon_keeps_it_without_waste(kind: str, epsilon: float, rate: float) -> None:
    noise = noise_for(kind, epsilon=epsilon, rate=rate, steps=60, delta=1e-5)
    reached = spent(kind, noise=noise, rate=rate, steps=60, delta=1e-5)
    assert 0.98 * epsilon <= reached <= epsilon


def test_an_epsilon_without_a_number_of_steps_is_refused() -> None:
    with pytest.raises(UserError, match="how many steps"):
        noise_for("rdp", epsilon=1.0, rate=0.1, steps=0, delta=1e-5)


def test_an_epsilon_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(UserError, match="raise target_epsilon"):
        noise_for("rdp", epsilon=1e-9, rate=1.0, steps=10_000, delta=1e-5)


def test_the_numerical_accountant_refuses_what_it_cannot_compute() -> None:
    """Far above its limit it would ask for gigabytes of memory."""
    with pytest.raises(UserError, match=r"up to 20.*accountant: rdp"):
        spent("prv", noise=0.05, rate=0.3, steps=600, delta=1e-5)
    with pytest.raises(UserError, match="up to 20"):
        noise_for("prv", epsilon=1000.0, rate=0.3, steps=600, delta=1e-5)


def test_the_accountant_is_named_with_its_version() -> None:
    assert accountant_name("rdp").startswith("RDP accountant of Opacus 1.")
