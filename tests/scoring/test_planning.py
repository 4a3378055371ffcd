"""Sample sizes against the tables of the simulations they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.planning import (
    canary_spread,
    hits_allowed,
    membership_power,
    patients_for_hits,
    patients_for_power,
    power_of_mean,
)
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc, normalized, patients_for_auc


def test_identification_in_a_gallery_of_100() -> None:
    assert [hits_allowed(n, 0.1, 100) for n in (30, 36, 50, 100, 200)] == [None, 0, 1, 4, 13]


@pytest.mark.parametrize("hits", [0, 1, 4])
@pytest.mark.parametrize(("limit", "gallery", "level"), [(0.1, 100, 0.95), (0.05, 20, 0.95), (0.1, 100, 0.9875)])
def test_the_number_found_is_the_first_that_passes(hits: int, limit: float, gallery: int, level: float) -> None:
    n = patients_for_hits(hits, limit, gallery, level)
    high = [normalized(clopper_pearson(hits, k, level), 1 / gallery).high for k in (n - 1, n)]
    assert high[0] > limit >= high[1]
    assert hits_allowed(n, limit, gallery, level) == hits


def test_fewer_than_36_with_nobody_found_and_50_with_one() -> None:
    assert 30 < patients_for_hits(0, 0.1, 100) <= 36
    assert 36 < patients_for_hits(1, 0.1, 100) <= 50


def test_a_number_that_no_study_has_is_an_error() -> None:
    with pytest.raises(EvidenceError, match="not even"):
        patients_for_power(0.08, 1e-6)


@pytest.mark.parametrize(("n", "percent"), [(5, 16), (10, 36), (30, 85), (50, 98)])
def test_canaries_of_32_bits(n: int, percent: float) -> None:
    assert 100 * power_of_mean(n, canary_spread(32), 0.1) == pytest.approx(percent, abs=1.5)


@pytest.mark.parametrize(
    ("drop", "expected"), [(0.0, (59, 86, 96, 100, 100)), (0.02, (29, 49, 65, 83, 98)), (0.06, (2.3, 1.4, 1.3, 0.6, 0.2))]
)
def test_the_gate_of_utility(drop: float, expected: tuple[float, ...]) -> None:
    """The reference intervals are a little narrower than Student's at 10 patients."""
    found = [100 * power_of_mean(n, 0.08, 0.05 - drop, 0.9) for n in (10, 20, 30, 50, 100)]
    assert found == pytest.approx(expected, abs=2.5)


def test_the_power_of_a_mean_is_that_of_simulated_patients() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.08, (20_000, 14))
    bound = values.mean(axis=1) - stats.t.ppf(0.95, 13) * values.std(axis=1, ddof=1) / np.sqrt(14)
    assert (bound >= -0.05).mean() == pytest.approx(power_of_mean(14, 0.08, 0.05, 0.9), abs=0.01)
    assert power_of_mean(1, 0.08, 0.05) == 0


@pytest.mark.parametrize(("spread", "room", "level"), [(0.08, 0.05, 0.9), (canary_spread(), 0.1, 0.95), (0.08, 0.005, 0.9)])
def test_the_number_for_a_power_is_the_first_that_has_it(spread: float, room: float, level: float) -> None:
    n = patients_for_power(spread, room, level)
    assert power_of_mean(n - 1, spread, room, level) < 0.8 <= power_of_mean(n, spread, room, level)


@pytest.mark.parametrize(("limit", "n"), [(0.1, 524), (0.2, 131), (0.3, 59)])
def test_membership_passes_in_four_of_five_runs_where_nothing_leaks(limit: float, n: int) -> None:
    assert patients_for_auc(limit) == pytest.approx(n, abs=1)
    assert membership_power(n, limit) == pytest.approx(0.8, abs=0.005)


def test_the_power_of_membership_is_that_of_simulated_patients() -> None:
    rng = np.random.default_rng(2)
    n, passed = 131, 0
    for _ in range(1500):
        ranks = stats.rankdata(rng.random(2 * n))[:n]
        auc = (ranks.sum() - n * (n + 1) / 2) / n**2
        passed += 2 * newcombe_auc(auc, n, n).high - 1 <= 0.2
    assert passed / 1500 == pytest.approx(membership_power(n, 0.2), abs=0.04)
    assert membership_power(0, 0.2) == 0
