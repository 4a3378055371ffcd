from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.families import hull_auc
from leakaudit.scoring.membership import auc, membership_test, stratified_auc
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc
from leakaudit.scoring.thresholds import tpr_at_fpr


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


def test_exchanged_memberships_give_a_p_value_that_is_right_where_nothing_leaks():
    rng = np.random.default_rng(0)
    member, sites = np.r_[np.ones(12, bool), np.zeros(9, bool)], ["a", "b", "c"] * 7
    found = [membership_test([rng.normal(size=21)], [member], sites, seed=i).p for i in range(200)]
    assert np.mean(np.array(found) <= 0.05) <= 0.09
    assert 0.4 < np.mean(found) < 0.6
    shifted = [membership_test([rng.normal(size=21) + 1.5 * member], [member], sites, seed=i).p for i in range(50)]
    assert np.mean(np.array(shifted) <= 0.05) > 0.6


def test_the_site_alone_is_no_evidence_of_membership():
    member = np.r_[np.ones(8, bool), np.zeros(2, bool), np.ones(2, bool), np.zeros(8, bool)]
    sites = ["a"] * 10 + ["b"] * 10
    score = np.repeat([1.0, 0.0], 10)
    assert membership_test([score], [member], sites, seed=0).p == 1
    assert membership_test([score], [member], ["all"] * 20, seed=0).p < 0.05


@pytest.mark.parametrize(("n", "floor"), [(2, 1 / 6), (3, 0.05), (5, 1 / 252)])
def test_floor_of_exchanged_memberships(n, floor):
    member = [True] * n + [False] * n
    result = membership_test([np.arange(2 * n, 0, -1.0)], [member], ["a"] * (2 * n), seed=0)
    assert result.floor == pytest.approx(floor)
    assert result.possible == (floor <= 0.05)
    assert result.patients == 2 * n
    if result.exact:
        assert result.p == pytest.approx(floor)


def test_repeats_with_coins_of_their_own_are_exchanged_together():
    """Canaries are tossed anew for every training; a score that follows the coins is found over all of them."""
    rng = np.random.default_rng(0)
    coins = [rng.uniform(size=30) < 0.5 for _ in range(3)]
    scores = [c + rng.normal(size=30) for c in coins]
    assert membership_test(scores, coins, ["a"] * 30, seed=0).p <= 0.01
    assert membership_test(scores, coins[::-1][:1] * 3, ["a"] * 30, seed=0).p > 0.01
