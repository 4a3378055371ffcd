from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.epsilon import (
    check_claim,
    default_guesses,
    leakage_of_epsilon,
    one_run,
    one_run_bound,
    one_run_ceiling,
    one_run_p_value,
    two_sample_bound,
    two_sample_ceiling,
    two_sample_split,
)
from leakaudit.scoring.families import (
    fdp_one_run_hull,
    gdp_delta,
    gdp_epsilon,
    gdp_two_sample_hull,
    hull,
    one_run_hull,
    two_sample_hull,
)

QUANTILES = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)


@pytest.mark.parametrize(("shift", "thresholds", "value"), [(0, 2, 0), (1, 386, 1.13346), (2, 374, 2.311945), (4, 140, 4.395568)])
def test_one_run_reference_values(shift, thresholds, value):
    assert len(hull(QUANTILES + shift, QUANTILES)[0]) == thresholds
    assert one_run_hull(QUANTILES + shift, QUANTILES, delta=1e-6) == pytest.approx(value, rel=1e-5, abs=0)


@pytest.mark.parametrize(("shift", "value"), [(0, 0), (1, 2.164749), (2, 4.7218075), (4, 9.133752)])
def test_fdp_one_run_reference_values(shift, value):
    assert fdp_one_run_hull(QUANTILES + shift, QUANTILES, delta=1e-6) == pytest.approx(value, rel=1e-5, abs=0)


CEILINGS = {
    50: (2.78, 2.79, 2.57), 100: (3.49, 3.49, 3.28), 200: (4.19, 4.19, 3.98), 500: (5.10, 5.11, 4.91), 1000: (5.78, 5.81, 5.60),
    2000: (6.45, 6.50, 6.30), 5000: (7.28, 7.42, 7.21), 10000: (7.83, 8.11, None),
}  # fmt: skip


@pytest.mark.parametrize("m", CEILINGS)
def test_ceilings(m):
    approximate, pure, two_sample = CEILINGS[m]
    assert one_run_ceiling(m, delta=1e-5) == pytest.approx(approximate, abs=0.01)
    assert one_run_ceiling(m) == pytest.approx(pure, abs=0.01)
    if two_sample is not None:
        assert two_sample_ceiling(m) == pytest.approx(two_sample, abs=0.01)


@pytest.mark.parametrize(
    ("m", "every", "half"),
    [
        (10, 1.05, 0.20),
        (20, 1.82, 1.05),
        (30, 2.25, 1.51),
        (50, 2.78, 2.06),
        (100, 3.49, 2.78),
        (200, 4.19, 3.49),
        (300, 4.60, 3.90),
    ],
)
def test_ceilings_of_all_and_half_guessed(m, every, half):
    assert one_run_ceiling(m) == pytest.approx(every, abs=0.01)
    assert one_run_ceiling(m, guesses=m // 2) == pytest.approx(half, abs=0.01)


def test_p_value_against_the_definition():
    for eps, v, r, m, delta in ((0.0, 7, 10, 30, 1e-3), (1.3, 40, 45, 100, 1e-4), (0.7, 3, 9, 20, 0.0), (2.0, 0, 5, 9, 1e-2)):
        b = stats.binom(r, math.exp(eps) / (1 + math.exp(eps)))
        tail = b.sf(v - 1)
        alpha = max([(b.cdf(v - 1) - b.cdf(v - i - 1)) / i for i in range(1, v + 1)], default=0.0)
        assert one_run_p_value(eps, v, r, m, delta) == pytest.approx(min(1.0, tail + 2 * m * delta * max(0, alpha)))


def test_bound_inverts_the_p_value_and_grows_with_correct_guesses():
    bounds = [one_run_bound(v, 40, 100, delta=1e-5) for v in range(20, 41)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0
    assert one_run_p_value(bounds[-1], 40, 40, 100, 1e-5) == pytest.approx(0.05)
    assert one_run_bound(30, 40, 100, at_least=99.0) == 0


def test_guesses_are_registered_before_the_coins():
    assert default_guesses(30) == (7,)
    assert default_guesses(499) == (124,)
    assert default_guesses(640) == (320, 160, 80, 40, 20)


def test_one_run_of_a_perfect_attack_reaches_its_ceiling():
    coins = np.arange(40) % 2 == 0
    result = one_run(coins.astype(float), coins)
    assert result.tried == (10,)
    assert result.correct == 10
    assert result.value == pytest.approx(result.ceiling) == pytest.approx(one_run_bound(10, 10, 40))


def test_ties_never_help_the_bound_and_order_does_not_matter():
    rng = np.random.default_rng(0)
    coins = rng.uniform(size=60) < 0.5
    assert one_run(np.zeros(60), coins).correct == 0
    scores = rng.integers(0, 4, 60) + 2.0 * coins
    order = rng.permutation(60)
    assert one_run(scores, coins) == one_run(scores[order], coins[order])


def test_several_numbers_of_guesses_pay_bonferroni():
    coins = np.arange(640) % 2 == 0
    result = one_run(coins.astype(float), coins)
    assert result.value == pytest.approx(one_run_bound(320, 320, 640, significance=0.01))
    assert one_run(coins.astype(float), coins, guesses=(320,)).value > result.value


def test_one_run_refuses_misfits():
    with pytest.raises(EvidenceError):
        one_run([1.0, 2.0], [True])
    with pytest.raises(EvidenceError, match="impossible"):
        one_run([1.0, 2.0], [True, False], guesses=(3,))
    with pytest.raises(EvidenceError, match="impossible"):
        one_run_bound(5, 4, 10)


@pytest.mark.parametrize("m", [50, 200])
def test_false_claims_at_epsilon_zero_stay_below_five_percent(m):
    rng = np.random.default_rng(m)
    claims = [one_run(rng.normal(size=m), rng.uniform(size=m) < 0.5).value > 0 for _ in range(400)]
    assert sum(claims) <= 31


@pytest.mark.parametrize(("epsilon", "m"), [(0.5, 50), (1.0, 200), (2.0, 200), (4.0, 1000)])
def test_randomized_response_is_covered(epsilon, m):
    rng = np.random.default_rng(int(10 * epsilon) + m)
    keep = 1 / (1 + math.exp(-epsilon))
    false = 0
    for _ in range(400):
        coins = rng.uniform(size=m) < 0.5
        seen = np.where(rng.uniform(size=m) < keep, coins, ~coins)
        # Randomized response ties; an attacker breaks ties by noise of its own.
        false += one_run(seen + 0.1 * rng.uniform(size=m), coins).value > epsilon
    assert false <= 31


@pytest.mark.parametrize(("epsilon", "m"), [(1.0, 50), (2.0, 200)])
def test_the_gaussian_mechanism_is_covered(epsilon, m):
    rng, delta = np.random.default_rng(m), 1e-3
    low, high = 0.01, 10.0
    for _ in range(60):
        low, high = ((low + high) / 2, high) if gdp_epsilon((low + high) / 2, delta) < epsilon else (low, (low + high) / 2)
    false = 0
    for _ in range(400):
        coins = rng.uniform(size=m) < 0.5
        false += one_run(rng.normal(size=m) + low * coins, coins, delta=delta).value > epsilon
    assert false <= 31


def test_two_sample_bound_by_hand_and_symmetric():
    low, high = stats.beta.ppf(0.025, 40, 11), stats.beta.ppf(0.975, 6, 45)
    assert two_sample_bound(40, 50, 5, 50) == pytest.approx(max(math.log(low / high), math.log((1 - high) / (1 - low))))
    assert two_sample_bound(45, 50, 10, 50) == pytest.approx(two_sample_bound(40, 50, 5, 50))
    assert two_sample_bound(25, 50, 25, 50) == 0
    assert two_sample_bound(50, 50, 0, 50, copies=2) == pytest.approx(two_sample_ceiling(50) / 2)
    with pytest.raises(EvidenceError, match="pure DP"):
        two_sample_bound(50, 50, 0, 50, copies=2, delta=1e-5)


def test_split_chooses_on_one_half_only():
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, 400), rng.normal(0, 1, 400)
    value = two_sample_split((x[:200], y[:200]), (x[200:], y[200:]))
    assert 0 < value < two_sample_ceiling(200)
    # The half that counts cannot move the threshold.
    assert two_sample_split((x[:200], y[:200]), (np.full(50, -9.0), np.full(50, 9.0))) <= two_sample_ceiling(50)
    null = [two_sample_split((a[:25], b[:25]), (a[25:], b[25:])) for a, b in rng.normal(size=(200, 2, 50))]
    assert sum(v > 0 for v in null) <= 18


@pytest.mark.parametrize("mu", [1.0, 2.0])
def test_clopper_pearson_audit_comes_near_the_gaussian_truth(mu):
    n = 200_000
    q = stats.norm.ppf((np.arange(n) + 0.5) / n)
    truth = gdp_epsilon(mu, 0.1)
    assert 0.8 * truth < two_sample_hull(q + mu, q, delta=0.1, significance=0.2) <= truth


def test_gaussian_dp_route():
    q = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    truth = gdp_epsilon(1.5, 1e-5)
    assert 0.7 * truth < gdp_two_sample_hull(q + 1.5, q, delta=1e-5) <= truth
    assert gdp_two_sample_hull(q, q, delta=1e-5) == 0


def test_gdp_conversion():
    assert gdp_delta(0.0, 1.0) == pytest.approx(2 * stats.norm.cdf(0.5) - 1)
    for mu, delta in ((0.5, 1e-5), (3.0, 1e-6), (9.0, 1e-6)):
        assert gdp_delta(gdp_epsilon(mu, delta), mu) == pytest.approx(delta, rel=1e-6)
    assert gdp_epsilon(0.1, 0.5) == 0
    assert gdp_delta(1.0, 0.0) == 0


def test_hull_is_the_upper_hull_of_all_thresholds():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 40) + 1.0, rng.integers(0, 9, 30) * 1.0
    tp, fp = hull(x, y)
    assert (tp[0], fp[0], tp[-1], fp[-1]) == (0, 0, 40, 30)
    slopes = np.diff(tp) / np.maximum(np.diff(fp), 1e-9)
    assert (np.diff(slopes) < 0).all()
    for t in np.unique(np.r_[x, y]):
        assert (x >= t).sum() <= np.interp((y >= t).sum(), fp, tp) + 1e-9


def test_leakage_of_epsilon():
    assert [round(leakage_of_epsilon(e), 2) for e in (0, 0.2, 1, 2, 4)] == [0, 0.10, 0.46, 0.76, 0.96]


def test_claims():
    assert check_claim(2.1, 2.0, ceiling=2.2, control=None) == "REFUTED"
    assert check_claim(1.0, 2.0, ceiling=2.8, control=2.5) == "NOT REFUTED"
    for ceiling, control in ((1.9, 2.5), (2.8, 1.9), (2.8, None), (2.0, 2.5)):
        assert check_claim(1.0, 2.0, ceiling=ceiling, control=control) == "UNTESTABLE"
