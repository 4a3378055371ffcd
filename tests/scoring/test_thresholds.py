from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.thresholds import (
    balanced_accuracy,
    best_threshold,
    cross_fitted_counts,
    cross_folds,
    resolvable_from,
    threshold_at_fpr,
    tpr_at_fpr,
)


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


def test_a_rate_needs_as_many_non_members_as_one_over_it():
    assert [resolvable_from(rate) for rate in (0.01, 0.001, 0.3)] == [100, 1000, 4]


def test_folds_share_members_and_others_of_every_site():
    member = np.array([True] * 20 + [False] * 10)
    sites = ["a", "b"] * 15
    fold = cross_folds(member, sites, 5)
    for k in range(5):
        here = fold == k
        assert (here & member).sum() == 4
        assert (here & ~member).sum() == 2
        assert {sum(here & member & (np.array(sites) == s)) for s in "ab"} == {2}
    with pytest.raises(EvidenceError, match="at least 2"):
        cross_folds(member, sites, 1)


def test_the_threshold_of_a_fold_is_chosen_on_the_others():
    """A threshold chosen on the patients it is used on finds structure in noise; one chosen on others does not."""
    rng = np.random.default_rng(0)
    own, other = [], []
    for _ in range(200):
        score, member = rng.normal(size=24), np.r_[np.ones(12, bool), np.zeros(12, bool)]
        own.append(balanced_accuracy(score[member], score[~member], best_threshold(score[member], score[~member])))
        hits, false = cross_fitted_counts(score, member, cross_folds(member, ["a"] * 24, 6), best_threshold)
        other.append((hits / 12 + 1 - false / 12) / 2)
    assert np.mean(own) > 0.6
    assert np.mean(other) == pytest.approx(0.5, abs=0.03)


def test_counts_of_a_perfect_score():
    member = np.array([True, False] * 10)
    fold = cross_folds(member, ["a"] * 20, 5)
    assert cross_fitted_counts(member.astype(float), member, fold, best_threshold) == (10, 0)
    assert cross_fitted_counts(-member.astype(float), member, fold, lambda _, out: threshold_at_fpr(out, 0.01)) == (0, 0)
