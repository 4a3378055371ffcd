from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.blind import blind_advantage, cross_fitted_scores, intensity_statistics, site_indicators
from leakaudit.scoring.checks import EvidenceError


def cohort(rng, members, others, sites, shift=0.0, features=15):
    member = np.r_[np.ones(members, bool), np.zeros(others, bool)]
    site = [*rng.permutation([i % sites for i in range(members)]), *rng.permutation([i % sites for i in range(others)])]
    hidden = rng.normal(size=(members + others, 6))
    hidden[member, 0] += shift
    return hidden @ rng.normal(size=(6, features)) + 0.3 * rng.normal(size=(members + others, features)), member, site


def test_another_scanner_is_seen():
    rng = np.random.default_rng(0)
    for _ in range(3):
        x, member, site = cohort(rng, 60, 40, 4, shift=2.5)
        value, interval = blind_advantage(cross_fitted_scores(x, member, site)[0], member, site)
        assert value > 0.5
        assert 0 < interval.low < value < interval.high


@pytest.mark.parametrize(("members", "others", "sites"), [(60, 40, 4), (12, 12, 1), (10, 6, 2)])
def test_where_nothing_differs_nothing_is_seen(members, others, sites):
    rng = np.random.default_rng(1)
    values, excluded = [], []
    for _ in range(150):
        x, member, site = cohort(rng, members, others, sites)
        value, interval = blind_advantage(cross_fitted_scores(x, member, site)[0], member, site)
        values.append(value)
        excluded.append(interval.low > 0 or interval.high < 0)
    assert abs(np.mean(values)) < 0.07
    assert np.mean(excluded) <= 0.09


def test_each_score_comes_from_other_patients():
    rng = np.random.default_rng(0)
    x, member, site = cohort(rng, 20, 20, 2, shift=1.0)
    scores, fold = cross_fitted_scores(x, member, site)
    mine = np.flatnonzero(fold == fold[0])
    keep = fold != fold[0]
    spread = (x - x.mean(axis=0)) / x.std(axis=0)
    fit, target = spread[keep] - spread[keep].mean(axis=0), member[keep] - member[keep].mean()
    weights = np.linalg.solve(fit.T @ fit + 0.3 * len(fit) * np.eye(x.shape[1]), fit.T @ target)
    guess = spread[mine] @ weights
    np.testing.assert_allclose(scores[mine], guess - guess.mean())


def test_the_site_tells_over_all_sites_and_not_within():
    member = np.r_[np.ones(100, bool), np.zeros(100, bool)]
    site = ["a"] * 70 + ["b"] * 30 + ["a"] * 40 + ["b"] * 60
    scores, _ = cross_fitted_scores(site_indicators(site), member, site)
    pooled, interval = blind_advantage(scores, member, ["all"] * 200)
    assert pooled == pytest.approx(2 * 0.651 - 1, abs=0.03)
    assert interval.low > 0
    within, around = blind_advantage(scores, member, site)
    assert abs(within) < 0.2
    assert around.low < 0 < around.high


def test_statistics_of_the_brain_alone():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 2, 10, 10))
    brain = np.zeros((3, 10, 10), bool)
    brain[:, 2:7, 3:9] = True
    found = intensity_statistics(images, brain)
    assert found.shape == (3, 15)
    inside = images[1, 1][brain[1]]
    expected = [inside.mean(), inside.std(), *np.percentile(inside, [5, 25, 50, 75, 95])]
    np.testing.assert_allclose(found[1, 7:14], expected)
    np.testing.assert_allclose(found[:, -1], 0.3)
    outside = np.where(brain[:, None], images, 99.0)
    np.testing.assert_array_equal(intensity_statistics(outside, brain), found)


def test_misfits_are_refused():
    with pytest.raises(EvidenceError, match="empty"):
        intensity_statistics(np.zeros((1, 1, 4, 4)), np.zeros((1, 4, 4), bool))
    with pytest.raises(EvidenceError, match="belong together"):
        intensity_statistics(np.zeros((1, 1, 4, 4)), np.zeros((1, 4, 5), bool))
    with pytest.raises(EvidenceError, match="one each"):
        cross_fitted_scores(np.zeros((3, 2)), [True, False], ["a", "a"])
