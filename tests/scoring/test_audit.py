"""The audit of epsilon over several trainings: exact where it must be, and false claims no oftener than promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from leakaudit.scoring.audit import audit_bound, audit_ceiling, conditional_bound, per_run_guesses
from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.epsilon import one_run, one_run_bound, two_sample_bound
from leakaudit.scoring.families import gdp_epsilon


def test_one_training_is_the_one_run_bound():
    rng = np.random.default_rng(0)
    coins = rng.uniform(size=80) < 0.5
    scores = rng.normal(size=80) + 2 * coins
    single = one_run(scores, coins, delta=1e-5)
    found = audit_bound([scores], [coins], delta=1e-5)
    assert found.value == pytest.approx(single.value)
    assert found.ceiling == pytest.approx(single.ceiling)
    assert (found.guesses, found.correct, found.method) == (single.guesses, single.correct, "one-run")


def test_trainings_with_coins_of_their_own_are_one_mechanism_on_all_their_canaries():
    rng = np.random.default_rng(1)
    coins = [rng.uniform(size=40) < 0.5 for _ in range(3)]
    found = audit_bound([c.astype(float) for c in coins], coins)
    assert (found.canaries, found.guesses, found.correct) == (120, 30, 30)
    assert found.value == pytest.approx(one_run_bound(30, 30, 120)) == pytest.approx(found.ceiling)
    assert found.ceiling > audit_ceiling(40)


def test_the_best_canaries_are_guessed_within_each_training():
    coins = [np.array([True, False, False, False]), np.array([True, False, False, False])]
    # On another scale, the second training's scores are all above the first's; its worst must not be guessed for that.
    found = audit_bound([np.array([1.0, 0, 0, 0]), np.array([9.0, 8, 8, 8])], coins)
    assert (found.guesses, found.correct) == (2, 2)


def test_guesses_are_fixed_before_any_coin_is_seen():
    assert per_run_guesses(40) == (10,)
    assert per_run_guesses(40, 3) == (10,)
    assert per_run_guesses(200, 3) == (100, 50, 25, 12, 6)
    assert per_run_guesses(2) == (1,)


@pytest.mark.parametrize(("epsilon", "m", "runs"), [(0.0, 50, 3), (0.5, 30, 3), (1.0, 50, 3), (2.0, 200, 1), (4.0, 200, 5)])
def test_randomized_response_over_several_trainings_is_covered(epsilon, m, runs):
    rng = np.random.default_rng(int(10 * epsilon) + m)
    false = 0
    for _ in range(400):
        coins = [rng.uniform(size=m) < 0.5 for _ in range(runs)]
        seen = [np.where(rng.uniform(size=m) < special.expit(epsilon), c, ~c) + 0.1 * rng.uniform(size=m) for c in coins]
        false += audit_bound(seen, coins).value > epsilon
    assert false <= 31


@pytest.mark.parametrize(("shift", "m", "runs"), [(0.3, 50, 3), (1.0, 100, 3)])
def test_the_gaussian_mechanism_over_several_trainings_is_covered(shift, m, runs):
    rng, delta = np.random.default_rng(m), 1e-5
    epsilon, false = gdp_epsilon(shift, delta), 0
    for _ in range(400):
        coins = [rng.uniform(size=m) < 0.5 for _ in range(runs)]
        false += audit_bound([rng.normal(size=m) + shift * c for c in coins], coins, delta=delta).value > epsilon
    assert false <= 31


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0])
def test_one_canary_in_each_of_many_trainings_is_covered(epsilon):
    rng, false = np.random.default_rng(int(10 * epsilon)), 0
    for _ in range(400):
        coins = rng.uniform(size=100) < 0.5
        seen = np.where(rng.uniform(size=100) < special.expit(epsilon), coins, ~coins) + 0.1 * rng.uniform(size=100)
        false += audit_bound(seen[:, None], coins[:, None]).value > epsilon
    assert false <= 31


def test_one_canary_is_judged_by_two_samples_with_a_threshold_of_the_other_half():
    coins = np.arange(80) % 2 == 0
    found = audit_bound(coins.astype(float)[:, None], coins[:, None])
    assert found.method == "two-sample"
    assert found.value == pytest.approx(two_sample_bound(20, 20, 0, 20)) == pytest.approx(found.ceiling)
    # A threshold that is right in the first half alone earns nothing: it is used on the second.
    first_only = np.where(np.arange(80) < 40, coins, False).astype(float)
    assert audit_bound(first_only[:, None], coins[:, None]).value == 0


def test_one_canary_whose_coins_all_fell_alike_shows_nothing():
    assert audit_bound(np.ones((6, 1)), np.ones((6, 1), dtype=bool)).value == 0
    assert audit_ceiling(1, 3) == 0


def test_a_delta_costs_and_more_canaries_show_more():
    assert audit_ceiling(100, delta=1e-2) < audit_ceiling(100, delta=1e-5) < audit_ceiling(100) < audit_ceiling(200)
    assert audit_ceiling(200, delta=1e-5) == pytest.approx(2.779, abs=1e-3)


def test_the_conditional_bound_is_tighter_and_speaks_of_several_canaries_only():
    rng = np.random.default_rng(3)
    coins = [rng.uniform(size=300) < 0.5]
    scores = [rng.normal(size=300) + 2 * coins[0]]
    assert conditional_bound(scores, coins, delta=1e-5) > audit_bound(scores, coins, delta=1e-5).value > 0
    assert conditional_bound([np.array([1.0])], [np.array([True])], delta=1e-5) is None
    assert conditional_bound([np.ones(4)], [np.ones(4, dtype=bool)], delta=1e-5) is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(EvidenceError, match="same canaries"):
        audit_bound([np.ones(3), np.ones(2)], [np.ones(3, dtype=bool), np.ones(2, dtype=bool)])
    with pytest.raises(EvidenceError, match="same canaries"):
        audit_bound([], [])
    with pytest.raises(EvidenceError):
        audit_bound([np.array([math.nan, 1.0])], [np.array([True, False])])
