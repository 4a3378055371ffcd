"""The scores of LiRA and RMIA by formula: against written-out densities, brute force, and Gaussians of known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from leakaudit_membership.likelihood import expected_probability, lira, pairwise
from leakaudit_membership.shadows import logit_confidence
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]


def auc(scores: Floats, member: NDArray[np.bool_]) -> float:
    a, b = scores[member], scores[~member]
    return float(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))


def gaussians(
    candidates: int, shadows: int, shift: float, seed: int = 0
) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return target signals, shadow signals, who was in them, and who was a member: hard and easy patients, shifted if seen."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 5, candidates)
    inside = np.stack([rng.permutation(shadows) < shadows // 2 for _ in range(candidates)], axis=1)
    member = rng.permutation(candidates) < candidates // 2
    signals = hardness + shift * inside + rng.normal(size=(shadows, candidates))
    return hardness + shift * member + rng.normal(size=candidates), signals, inside, member


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("variance", ["fixed", "each"])
def test_lira_is_the_logarithm_of_the_ratio_of_two_normal_densities(online: bool, variance: str) -> None:
    target, signals, inside, _ = gaussians(6, 10, 1.0)
    inside = inside if online else np.zeros_like(inside)
    scores = lira(target, signals, inside, online=online, variance=variance)  # type: ignore[arg-type]

    def sides(i: int) -> list[Floats]:
        return [signals[inside[:, i], i], signals[~inside[:, i], i]]

    def pooled(side: int) -> float:
        parts = [sides(i)[side] for i in range(6)]
        return float(np.sqrt(sum(((p - p.mean()) ** 2).sum() for p in parts) / sum(len(p) - 1 for p in parts)))

    for i in range(6):
        spread = [pooled(s) if variance == "fixed" else sides(i)[s].std(ddof=1) for s in ((0, 1) if online else (1, 1))]
        center_out = np.median(sides(i)[1])
        if online:
            wanted = norm.logpdf(target[i], np.median(sides(i)[0]), spread[0]) - norm.logpdf(target[i], center_out, spread[1])
        else:
            wanted = norm.ppf(norm.cdf(target[i], center_out, spread[1]))
        assert scores[i] == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_shadow_models_take_out_how_hard_a_patient_is() -> None:
    target, signals, inside, member = gaussians(600, 16, 2.0)
    online, offline = (auc(lira(target, signals, inside & on, online=on, variance="fixed"), member) for on in (True, False))
    assert auc(target, member) < 0.7, "a threshold on the signal sees mostly which patients are hard"
    assert online > 0.85
    assert offline > 0.75


def test_a_shift_by_s_spreads_gives_the_area_of_two_normals() -> None:
    # With many shadow models and known spread, the online score is monotone in a normal shifted by s: area Phi(s / sqrt 2).
    target, signals, inside, member = gaussians(4000, 64, 1.5, seed=1)
    scores = lira(target, signals, inside, online=True, variance="fixed")
    assert auc(scores, member) == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.02)


@pytest.mark.parametrize("variance", ["fixed", "each"])
def test_of_a_model_that_saw_nobody_lira_tells_nothing(variance: str) -> None:
    target, signals, inside, member = gaussians(2000, 16, 1.0, seed=2)
    target = target - 1.0 * member
    assert auc(lira(target, signals, inside, online=True, variance=variance), member) == pytest.approx(0.5, abs=0.04)  # type: ignore[arg-type]


def test_too_few_shadow_models_are_refused() -> None:
    target, signals, inside, _ = gaussians(3, 4, 1.0)
    inside[:, 1] = False
    with pytest.raises(ValueError, match="fewer than 1 shadow models on a side"):
        lira(target, signals, inside, online=True, variance="fixed")
    with pytest.raises(ValueError, match="no shadow model with it"):
        expected_probability(signals, inside, online=True, a=0.3)
    with pytest.raises(ValueError, match="fewer than 2"):
        lira(target, signals[:1], inside[:1], online=False, variance="each")


def test_the_logit_of_the_probability_is_finite_at_both_ends() -> None:
    loss = torch.tensor([1e-3, 0.5, 3.0, 0.0, 1e4])
    p = torch.exp(-loss[:3].double())
    torch.testing.assert_close(logit_confidence(loss)[:3], torch.log(p / (1 - p)))
    assert logit_confidence(loss).isfinite().all()


def test_expected_probabilities_by_hand() -> None:
    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.6, 0.4], [0.2, 0.2]])
    inside = np.array([[True, False], [False, True], [True, True], [False, False]])
    np.testing.assert_allclose(expected_probability(p, inside, online=True, a=0.3), [(0.7 + 0.3) / 2, (0.5 + 0.2) / 2])
    np.testing.assert_allclose(expected_probability(p, inside & False, online=False, a=0.3), (1.3 * p.mean(axis=0) + 0.7) / 2)


def test_pairwise_is_the_share_of_the_population_and_ties_follow_the_ratio() -> None:
    rng = np.random.default_rng(0)
    candidates, population = rng.uniform(0.1, 3, 50), rng.uniform(0.1, 3, 12)
    for gamma in (1.0, 2.0):
        scores = pairwise(candidates, population, gamma)
        share = np.array([sum(c / z > gamma for z in population) / 12 for c in candidates])
        np.testing.assert_array_equal(np.floor(scores * 12 + 1e-9), np.round(share * 12))
        order = np.argsort(scores)
        assert (np.diff(candidates[order]) > 0).all()
