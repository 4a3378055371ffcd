from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.multiplicity import benjamini_hochberg, bonferroni_level
from leakaudit.scoring.rates import (
    clopper_pearson,
    newcombe_auc,
    normalized,
    patients_for_auc,
    patients_for_rate,
    rate_bounds,
    tail_bound,
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(0, 369, 0, 0.99), (4, 369, 0.30, 2.75), (1, 1000, 0.003, 0.56), (10, 1000, 0.48, 1.83)]
)
def test_clopper_pearson_reference_table(k, n, low, high):
    interval = clopper_pearson(k, n)
    assert (100 * interval.low, 100 * interval.high) == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize("n", [1, 5, 36, 400])
def test_clopper_pearson_closed_forms(n):
    assert clopper_pearson(0, n).high == pytest.approx(1 - 0.025 ** (1 / n))
    assert clopper_pearson(n, n).low == pytest.approx(0.025 ** (1 / n))
    assert clopper_pearson(0, n).low == 0
    assert clopper_pearson(n, n).high == 1


@pytest.mark.parametrize(("k", "n"), [(3, 10), (7, 50), (1, 36)])
def test_clopper_pearson_inverts_the_binomial(k, n):
    interval = clopper_pearson(k, n)
    assert stats.binom.sf(k - 1, n, interval.low) == pytest.approx(0.025)
    assert stats.binom.cdf(k, n, interval.high) == pytest.approx(0.025)


def test_share_of_patients_that_shows_five_percent():
    least = {n: next(k for k in range(n + 1) if clopper_pearson(k, n).low > 0.05) for n in (10, 20, 30, 50, 100)}
    assert least == {10: 3, 20: 4, 30: 5, 50: 7, 100: 11}


def test_rank_one_rule_of_a_gallery_of_100():
    def most(n):
        passing = [k for k in range(n + 1) if normalized(clopper_pearson(k, n), 0.01).high <= 0.10]
        return max(passing, default=None)

    assert [most(n) for n in (30, 36, 50, 100, 200)] == [None, 0, 1, 4, 13]


def test_bounds_of_many_rates_at_once():
    low, high = rate_bounds(range(13), 12, 0.9)
    each = [clopper_pearson(k, 12, 0.9) for k in range(13)]
    assert low.tolist() == [i.low for i in each]
    assert high.tolist() == [i.high for i in each]


def test_newcombe_solves_its_equation():
    for auc, n, m in ((0.7, 12, 30), (0.95, 5, 5), (0.5, 100, 3)):
        interval = newcombe_auc(auc, n, m)
        for t in (interval.low, interval.high):
            v = t * (1 - t) * (1 + ((n + m) / 2 - 1) * ((1 - t) / (2 - t) + t / (1 + t))) / (n * m)
            assert abs(auc - t) == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(v), abs=1e-9)


def test_newcombe_at_the_ends_and_mirrored():
    assert newcombe_auc(1, 5, 5).high == 1
    assert 0.6 < newcombe_auc(1, 5, 5).low < 0.7
    assert newcombe_auc(0, 5, 5).low == 0
    one, other = newcombe_auc(0.8, 7, 11), newcombe_auc(0.2, 11, 7)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))


def test_newcombe_over_strata():
    whole, split = newcombe_auc(0.7, 60, 60), newcombe_auc(0.7, [30, 30], [30, 30])
    single = newcombe_auc(0.7, [60], [60])
    assert (single.low, single.high) == (whole.low, whole.high)
    # Two halves know about as much as the whole.
    assert (split.low, split.high) == pytest.approx((whole.low, whole.high), abs=0.01)


@pytest.mark.parametrize("auc", [0.5, 0.9])
def test_newcombe_covers_with_ten_a_side(auc):
    rng = np.random.default_rng(1)
    shift = np.sqrt(2) * stats.norm.ppf(auc)
    x, y = rng.normal(shift, 1, (600, 10)), rng.normal(0, 1, (600, 10))
    areas = (x[:, :, None] > y[:, None, :]).mean((1, 2))
    hits = [i.low <= auc <= i.high for i in (newcombe_auc(float(a), 10, 10) for a in areas)]
    assert 0.925 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize(("n", "share"), [(5, 0.45), (10, 0.26), (20, 0.139), (30, 0.095), (50, 0.058), (59, 0.05), (200, 0.015)])
def test_tail_bound(n, share):
    assert tail_bound(n) == pytest.approx(share, abs=0.005)


def test_patients_needed():
    assert patients_for_rate(0.10) == 36
    assert [patients_for_auc(limit) for limit in (0.1, 0.2, 0.3)] == [524, 132, 59]


def test_impossible_counts_are_refused():
    for k, n in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(EvidenceError):
            clopper_pearson(k, n)
    for auc, n in ((1.2, 5), (0.5, 0)):
        with pytest.raises(EvidenceError):
            newcombe_auc(auc, n, 5)
    with pytest.raises(EvidenceError):
        tail_bound(0)


def test_normalized_is_not_clipped():
    interval = normalized(Interval(0.4, 0.6, "x"), 0.5)
    assert (interval.low, interval.high) == pytest.approx((-0.2, 0.2))


def test_benjamini_hochberg_against_scipy_and_in_any_order():
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.55, 0.04])
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    order = np.random.default_rng(0).permutation(len(p))
    assert benjamini_hochberg(p[order]) == pytest.approx(benjamini_hochberg(p)[order])
    with pytest.raises(EvidenceError):
        benjamini_hochberg([0.5, 1.5])


def test_bonferroni_level():
    assert bonferroni_level(0.95, 1) == 0.95
    assert bonferroni_level(0.95, 20) == pytest.approx(0.9975)
    with pytest.raises(EvidenceError):
        bonferroni_level(0.95, 0)
