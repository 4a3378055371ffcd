from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from leakaudit.scoring.assignment import matched_scores
from leakaudit.scoring.chance import choose, contrast_mean, image_baselines, mask_baselines, medoid, position_mean
from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.holdings import fit_masks, fit_translation, painted


@pytest.fixture
def auxiliary():
    rng = np.random.default_rng(0)
    brain = np.zeros((12, 8, 8), bool)
    brain[:, 2:6, 2:6] = True
    images = np.where(brain, rng.normal(1, 1, brain.shape), 0.0)
    return images, brain, [0] * 4 + [5] * 4 + [9] * 4


def test_position_mean_uses_the_nearest_positions(auxiliary):
    images, _, positions = auxiliary
    guess = position_mean(images, positions, [0, 6, 0], least=4)
    assert guess.shape == (3, 8, 8)
    assert np.allclose(guess[0], images[:4].mean(0))
    assert np.allclose(guess[1], images[4:8].mean(0))
    assert np.array_equal(guess[0], guess[2])
    assert np.allclose(position_mean(images, positions, [0], least=5)[0], images[:8].mean(0))
    assert np.allclose(position_mean(images, positions, [0], least=99)[0], images.mean(0))


def test_contrast_mean_stretches_inside_the_average_brain_only(auxiliary):
    images, brain, positions = auxiliary
    plain = position_mean(images, positions, [5])[0]
    guess = contrast_mean(images, brain, positions, [5])[0]
    inside = brain[0]
    assert np.allclose(guess[~inside], plain[~inside])
    assert guess[inside].mean() == pytest.approx(plain[inside].mean())
    assert guess[inside].std() == pytest.approx(1.5 * plain[inside].std())


def test_contrast_mean_treats_modalities_apart(auxiliary):
    images, brain, positions = auxiliary
    both = np.stack([images, 10 * images], axis=1)
    guess = contrast_mean(both, brain, positions, [5])
    assert guess.shape == (1, 2, 8, 8)
    assert np.allclose(guess[0, 0], contrast_mean(images, brain, positions, [5])[0])
    assert np.allclose(guess[0, 1], 10 * guess[0, 0])


def test_medoid_is_the_real_image_nearest_to_all_others(auxiliary):
    images, _, positions = auxiliary
    distances = ((images[:, None] - images[None]) ** 2).sum((2, 3)).sum(1)
    assert np.array_equal(medoid(images, positions, [5], least=12)[0], images[distances.argmin()])


def test_image_baselines_have_names_and_shapes(auxiliary):
    images, brain, positions = auxiliary
    result = image_baselines(images, brain, positions, [0, 5])
    assert {name: guess.shape for name, guess in result.items()} == dict.fromkeys(["mean", "contrast-mean", "medoid"], (2, 8, 8))


def test_mask_baselines():
    masks = np.zeros((10, 1, 2, 2), bool)
    masks[:6, 0, 0, 0] = True
    masks[:2, 0, 0, 1] = True
    result = mask_baselines(masks, [0] * 10, [0, 3], thresholds=(0.2, 0.3))
    assert set(result) == {"empty", "majority", "prior-0.2", "prior-0.3", "overall-0.2", "overall-0.3"}
    assert not result["empty"].any()
    assert result["majority"][0, 0].tolist() == [[True, False], [False, False]]
    assert result["prior-0.2"][1, 0].tolist() == [[True, True], [False, False]]
    assert result["overall-0.3"][1, 0].tolist() == [[True, False], [False, False]]


def test_choice_is_the_best_mean_on_validation_whatever_the_order():
    scores = {"b": np.full(20, 0.3), "a": np.full(20, 0.3), "c": np.full(20, 0.2)}
    choice = choose(scores)
    assert choice.name == "a"
    assert choice.firm
    assert choose(dict(reversed(scores.items()))) == choice
    assert not choose({"a": [0.1] * 19}).firm
    with pytest.raises(EvidenceError, match="different numbers"):
        choose({"a": [0.1], "b": [0.1, 0.2]})
    with pytest.raises(EvidenceError, match="no baseline"):
        choose({})


def test_choosing_on_the_attacked_patients_hides_leakage_choosing_on_validation_does_not():
    rng = np.random.default_rng(0)
    peeked, honest = [], []
    for _ in range(400):
        attacked, validation = rng.normal(0.3, 0.06, (6, 10)), rng.normal(0.3, 0.06, (6, 20))
        score = 0.3 + 0.1 * 0.7
        for store, on in ((peeked, attacked), (honest, validation)):
            name = choose({str(i): row for i, row in enumerate(on)}).name
            c = attacked[int(name)].mean()
            store.append((score - c) / (1 - c))
    assert np.mean(honest) == pytest.approx(0.100, abs=0.005)
    assert np.mean(peeked) == pytest.approx(0.062, abs=0.010)


def test_misfits_are_refused(auxiliary):
    images, _, positions = auxiliary
    with pytest.raises(EvidenceError, match="slice positions"):
        position_mean(images, positions[:-1], [0])
    with pytest.raises(EvidenceError, match="NaN"):
        position_mean(np.where(images == 0, np.nan, images), positions, [0])


@pytest.mark.parametrize("spatial", [(20, 20), (8, 9, 10)])
def test_translation_finds_a_linear_relation_between_modalities(spatial):
    rng = np.random.default_rng(0)
    held = rng.normal(size=(4, 2, *spatial))
    held[:, :, :3] = 0
    neighbor = np.roll(held[:, 1], 1, axis=-1)
    neighbor[..., 0] = 0
    inside = (held != 0).any(1)
    wanted = np.stack([2 * held[:, 0] - neighbor + 0.5 * held[:, 0] ** 2 + 1, neighbor], axis=1)
    target = np.where(inside[:, None], wanted, 0.0)
    model = fit_translation(held[:3], target[:3], penalty=1e-9)
    assert np.abs(model.apply(held[3:]) - target[3:]).max() < 1e-5
    alone = fit_translation(held[:3], target[:3, :1], penalty=1e-9)
    assert np.allclose(alone.weights, model.weights[:, :1])


def test_translation_of_noise_gains_nothing_and_misfits_are_refused():
    rng = np.random.default_rng(0)
    held, target = rng.normal(size=(6, 1, 30, 30)), rng.normal(size=(6, 1, 30, 30))
    guess = fit_translation(held[:4], target[:4]).apply(held[4:])
    assert abs(np.corrcoef(guess.ravel(), target[4:].ravel())[0, 1]) < 0.08
    with pytest.raises(EvidenceError, match="belong together"):
        fit_translation(held, target[:3])
    with pytest.raises(EvidenceError, match="all held"):
        fit_translation(np.zeros_like(held), target)
    with pytest.raises(EvidenceError, match="1 modalities"):
        fit_translation(held, target).apply(np.zeros((1, 2, 30, 30)))


@pytest.mark.parametrize("spatial", [(20, 20), (8, 9, 10)])
def test_known_masks_tell_what_is_inside_them_and_nothing_elsewhere(spatial):
    rng = np.random.default_rng(0)
    masks = (rng.random((90, 2, *spatial)) < 0.1).astype(float)
    common = rng.normal(1, 1, (1, 2, *spatial))
    images = common + np.stack([3 * masks[:, 0] - masks[:, 1], np.zeros((90, *spatial))], axis=1)
    told = fit_masks(images[:80], masks[:80], [0] * 80)
    guess = told.apply(masks[80:], [0] * 10)
    error = np.abs(guess - images[80:])
    assert error[:, 0].mean() < 0.25 * np.abs(images[:80].mean(axis=0) - images[80:])[:, 0].mean()
    assert error[:, 1].mean() < 0.02
    other = told.apply(np.roll(masks[80:], 1, axis=0), [0] * 10)
    assert np.abs(other - images[80:])[:, 0].mean() > 2 * error[:, 0].mean()


def test_masks_that_do_not_belong_to_the_images_are_refused():
    x, y = np.ones((3, 1, 6, 6)), np.ones((3, 2, 6, 6))
    with pytest.raises(EvidenceError, match="belong together"):
        fit_masks(x, y[:2], [0] * 3)
    told = fit_masks(x, y, [0] * 3)
    for known, at in ((y, [0] * 2), (y[..., :5], [0] * 3)):
        with pytest.raises(EvidenceError, match="belong together"):
            told.apply(known, at)
    with pytest.raises(EvidenceError, match="3 modalities were expected"):
        told.apply(y[:, :1], [0] * 3)


def test_who_owns_no_image_paints_lesions_by_the_book():
    masks = np.zeros((2, 3, 4, 4))
    masks[0, 0, 1:3] = 1
    t1, flair, other = np.moveaxis(painted(masks, ("t1", "flair", "swi")), 1, 0)
    assert t1[0].min() < 0 < flair[0].max()
    assert np.array_equal(flair[0] > 0, masks[0, 0] > 0)
    assert np.array_equal(other[0] > 0, masks[0, 0] > 0)
    assert not t1[1].any()


def test_matching_is_the_best_of_all_assignments():
    matrix = np.random.default_rng(0).normal(size=(5, 5))
    best = max(permutations(range(5)), key=lambda p: sum(matrix[p[j], j] for j in range(5)))
    assert matched_scores(matrix) == pytest.approx([matrix[best[j], j] for j in range(5)])


def test_matching_does_not_depend_on_the_order_of_guesses_and_allows_spare_ones():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(7, 4))
    assert matched_scores(matrix) == pytest.approx(matched_scores(matrix[rng.permutation(7)]))
    with pytest.raises(EvidenceError, match="at least one guess"):
        matched_scores(matrix.T)


def test_matching_within_groups():
    matrix = np.random.default_rng(0).normal(size=(6, 6))
    groups = ["u", "v", "u", "v", "u", "v"]
    scores = matched_scores(matrix, groups)
    assert scores[[0, 2, 4]] == pytest.approx(matched_scores(matrix[::2, ::2]))
    assert scores[[1, 3, 5]] == pytest.approx(matched_scores(matrix[1::2, 1::2]))
    with pytest.raises(EvidenceError, match="groups"):
        matched_scores(matrix, groups[:-1])
    with pytest.raises(EvidenceError, match="NaN"):
        matched_scores(np.where(np.eye(6) > 0, np.nan, matrix))


def test_matching_noise_gains_so_chance_needs_it_too():
    rng = np.random.default_rng(0)
    gains = {m: np.mean([matched_scores(rng.normal(size=(m, m))).mean() for _ in range(50)]) for m in (2, 8, 32)}
    assert 0 < gains[2] < gains[8] < gains[32]
