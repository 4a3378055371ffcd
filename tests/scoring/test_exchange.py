from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.exchange import by_evidence, dice_pairs, gain_matrix, ssim_pairs
from leakaudit.scoring.images import masked_ssim
from leakaudit.scoring.permutation import patient_limit, shuffle_test
from leakaudit.scoring.segmentation import sample_dice


def brains(n, size=24):
    y, x = np.mgrid[:size, :size]
    return np.stack([((y - 12) / (7 + i % 3)) ** 2 + ((x - 11) / 6) ** 2 < 1 for i in range(n)])


def test_every_pair_is_the_masked_ssim_of_that_pair():
    rng = np.random.default_rng(0)
    guesses, truths, masks = rng.normal(size=(4, 24, 24)), rng.normal(size=(5, 24, 24)), brains(5)
    masks[4] = False
    masks[4, 3:6, 3:6] = True  # too small to erode: the whole mask counts, and windows reach out of it
    pairs = ssim_pairs(guesses, truths, masks, 4.0)
    assert pairs.shape == (4, 5)
    for i in range(4):
        for j in range(5):
            one = masked_ssim(guesses[i : i + 1], truths[j : j + 1], masks[j : j + 1], 4.0)[0]
            assert pairs[i, j] == pytest.approx(one, abs=1e-12)


def test_pairs_of_masks():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(3, 6, 7, 5)) > 0.6, rng.uniform(size=(4, 6, 7, 5)) > 0.5
    a[0] = False
    pairs = dice_pairs(a, b)
    for i in range(3):
        for j in range(4):
            assert pairs[i, j] == pytest.approx(sample_dice(a[i][None, None], b[j][None, None], ["WT"]).values[0, 0])


def test_misfits_are_refused():
    with pytest.raises(EvidenceError, match="pair by pair"):
        ssim_pairs(np.zeros((2, 8, 8)), np.zeros((2, 8, 9)), np.ones((2, 8, 9), bool), 1.0)
    with pytest.raises(EvidenceError, match="pair by pair"):
        ssim_pairs(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)), np.zeros((2, 8, 8), bool), 1.0)
    with pytest.raises(EvidenceError, match="none may be empty"):
        dice_pairs(np.ones((1, 3, 3), bool), np.zeros((1, 3, 3), bool))
    with pytest.raises(EvidenceError, match="square"):
        gain_matrix(np.zeros((2, 3)), np.zeros((2, 3)))


def exchanged(rng, n, knows, leaks, noise, dim=60):
    """Evidence that repeats what is public (the position), holds a share of the patient's own, and noise; and blind guesses."""
    position, shared = rng.integers(0, 8, n), rng.normal(size=(8, dim)) * 0.7
    guess = shared[position]
    truth = guess + rng.normal(size=(n, dim))
    evidence = knows * guess + leaks * (truth - guess) + noise * rng.normal(size=(n, dim))

    def correlation(a):
        return a @ truth.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(truth, axis=1))

    return correlation(evidence), correlation(guess)


def rejections(knows, leaks, noise, adjust, n=24, runs=120):
    rng = np.random.default_rng(0)
    sites = [i % 3 for i in range(n)]
    found = []
    for seed in range(runs):
        scores, chance = exchanged(rng, n, knows, leaks, noise)
        found.append(shuffle_test(gain_matrix(scores, chance) if adjust else scores, seed=seed, groups=sites).p <= 0.05)
    return np.mean(found)


def test_what_is_public_is_no_evidence_about_a_patient():
    """The scores as they are find every repetition of the position's mean image significant; gains over it do not."""
    for knows, noise in ((1.0, 0.5), (1.5, 0.3), (0.0, 1.0)):
        assert rejections(knows, 0.0, noise, adjust=True) <= 0.10
    assert rejections(1.0, 0.0, 0.5, adjust=False) > 0.9


def test_what_is_a_patient_s_own_is_found_beside_it():
    assert rejections(1.0, 0.1, 0.5, adjust=True) > 0.9
    assert rejections(0.0, 0.15, 1.0, adjust=True) > 0.9


def test_the_diagonal_is_each_patient_s_own_gain():
    rng = np.random.default_rng(0)
    for n in (2, 3, 10):
        scores, chance = rng.normal(size=(2, n, n))
        np.testing.assert_allclose(np.diagonal(gain_matrix(scores, chance)), np.diagonal(scores - chance))


def test_evidence_that_is_the_blind_guess_gains_nothing_anywhere():
    chance = np.random.default_rng(0).normal(size=(9, 9))
    np.testing.assert_allclose(gain_matrix(chance, chance), 0.0, atol=1e-9)


def test_a_guess_that_is_the_same_for_everybody_is_taken_off_as_it_is():
    rng = np.random.default_rng(0)
    scores, chance = rng.normal(size=(9, 9)), np.tile(rng.normal(size=9), (9, 1))
    np.testing.assert_allclose(gain_matrix(scores, chance), scores - chance)


def test_evidence_that_is_like_everybody_is_no_closer_to_its_own_patient():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(8, 8)) + 6 * np.eye(8)
    scaled = own * rng.uniform(0.1, 3, (8, 1)) + rng.normal(0, 5, (8, 1))
    np.testing.assert_allclose(by_evidence(scaled), by_evidence(own))
    assert patient_limit(by_evidence(scaled)).above.sum() > patient_limit(scaled).above.sum()
    off = by_evidence(own)[~np.eye(8, dtype=bool)].reshape(8, 7)
    np.testing.assert_allclose(off.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(off.std(axis=1), 1)
    np.testing.assert_array_equal(by_evidence(np.full((3, 3), 0.4)), np.zeros((3, 3)))
    with pytest.raises(EvidenceError, match="at least two"):
        by_evidence(np.zeros((1, 1)))
