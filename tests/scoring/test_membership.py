from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.families import hull_auc
from leakaudit.scoring.membership import (
    auc,
    balanced_accuracy,
    best_threshold,
    stratified_auc,
    threshold_at_fpr,
    tpr_at_fpr,
)
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc


def test_auc_counts_ties_half():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 30).astype(float), rng.integers(0, 4, 17).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in x for b in y]
    assert auc(x, y) == pytest.approx(np.mean(pairs))
    assert auc(x, y) == pytest.approx(1 - auc(y, x))
    assert auc([1, 1], [1, 1, 1]) == 0.5


def test_published_scores_of_a_shifted_range():
    out = np.arange(100.0)
    assert hull_auc(out + 9.5, out) == pytest.approx(0.595)
    assert auc(out + 9.5, out) == pytest.approx(0.5905)
    low = tpr_at_fpr(out + 9.5, out, 0.01)
    assert low.tpr[0] == 0.11
    assert low.fpr[0] == 0.01
    assert low.tpr[1] == clopper_pearson(11, 100)


def test_a_quarter_circle_has_area_pi_over_four():
    q = (np.arange(5000) + 0.5) / 5000
    members, others = -np.arcsin(q), -np.arccos(1 - q)
    assert auc(members, others) == pytest.approx(np.pi / 4, abs=5e-4)
    assert hull_auc(members, others) == pytest.approx(np.pi / 4, abs=5e-4)


def test_low_rates_below_the_resolution_are_not_printed():
    x, y = np.arange(50.0), np.arange(99.0)
    assert tpr_at_fpr(x, y, 0.01) is None
    assert tpr_at_fpr(x, np.arange(100.0), 0.01) is not None
    assert tpr_at_fpr(x, np.arange(999.0), 0.001) is None


def test_threshold_keeps_its_promise_on_ties():
    others = np.array([3.0] * 5 + [1.0] * 95)
    cut = threshold_at_fpr(others, 0.04)
    assert (others >= cut).mean() == 0
    assert (others >= threshold_at_fpr(others, 0.05)).mean() == 0.05
    assert threshold_at_fpr(others, 1.0) == 1.0


def test_threshold_from_validation_is_used_as_it_is():
    low = tpr_at_fpr([1.0, 3.0], np.r_[np.zeros(98), 2.0, 4.0], 0.01, threshold=2.5)
    assert low.tpr[0] == 0.5
    assert low.fpr[0] == 0.01


def test_balanced_accuracy_with_a_threshold_from_other_patients():
    threshold = best_threshold([3.0, 4.0, 5.0], [1.0, 2.0, 3.5])
    assert threshold == 2.5
    assert balanced_accuracy([2.6, 2.4], [0.0, 9.0], threshold) == 0.5
    assert best_threshold([1.0], [1.0]) <= 1.0


def test_a_score_that_knows_only_the_site_is_worth_nothing_within_sites():
    rng = np.random.default_rng(0)
    pooled, within = [], []
    for _ in range(60):
        site = np.r_[np.repeat(["a", "b"], [70, 30]), np.repeat(["a", "b"], [40, 60])]
        member = np.r_[np.ones(100, bool), np.zeros(100, bool)]
        score = (site == "a") + rng.normal(0, 0.05, 200)
        pooled.append(auc(score[member], score[~member]))
        within.append(stratified_auc(score, member, list(site)).value)
    assert np.mean(pooled) == pytest.approx(0.651, abs=0.01)
    assert np.mean(within) == pytest.approx(0.5, abs=0.01)


def test_stratified_auc_weighs_by_pairs_and_names_sites_left_out():
    scores = [3, 1, 2, 5, 4, 9, 9]
    member = [True, False, False, True, False, True, True]
    sites = ["a", "a", "a", "b", "b", "c", "c"]
    result = stratified_auc(scores, member, sites)
    assert result.value == 1
    assert (result.members, result.others) == (2, 3)
    assert result.left_out == ("c",)
    assert result.interval == newcombe_auc(1.0, [1, 1], [2, 1])
    assert result.leakage.high == 1
    order = np.random.default_rng(0).permutation(7)
    again = stratified_auc([scores[i] for i in order], [member[i] for i in order], [sites[i] for i in order])
    assert again == result


def test_stratified_auc_needs_one_site_with_both_kinds():
    with pytest.raises(EvidenceError, match="no site has both"):
        stratified_auc([1, 2], [True, False], ["a", "b"])
    with pytest.raises(EvidenceError, match="one each"):
        stratified_auc([1, 2], [True], ["a", "b"])
    with pytest.raises(EvidenceError, match="NaN"):
        auc([np.nan], [1.0])


@pytest.mark.parametrize(("n", "half"), [(5, 0.75), (10, 0.52), (50, 0.23), (200, 0.11)])
def test_null_spread_of_the_advantage(n, half):
    rng = np.random.default_rng(0)
    values = [2 * auc(rng.normal(size=n), rng.normal(size=n)) - 1 for _ in range(800)]
    assert 1.96 * np.std(values) == pytest.approx(half, rel=0.1)
