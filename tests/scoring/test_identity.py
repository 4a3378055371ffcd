from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from leakaudit.scoring.canary import CANARY_CHANCE, bit_accuracy
from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.identity import common_images, identify, masked_ncc, patient_similarity, without_common
from leakaudit.scoring.intervals import leakage_interval
from leakaudit.scoring.leakage import leakage


def test_ranks_with_ties():
    similarity = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.2], [0.5, 0.5, 0.5], [0.9, 0.1, 0.5]])
    found = identify(similarity, [0, 0, 0, 1])
    assert found.rank.tolist() == [1, 1.5, 2, 3]
    assert found.rank1.tolist() == pytest.approx([1, 1 / 2, 1 / 3, 0])
    assert found.score.tolist() == [1, 0.5, 0, -1]
    assert found.chance == pytest.approx(1 / 3)


def test_a_blind_guess_scores_chance_exactly_and_on_average():
    blind = identify(np.zeros((4, 50)), [3, 1, 4, 1])
    assert blind.rank1.mean() == pytest.approx(blind.chance)
    assert blind.score.tolist() == [0] * 4
    noise = identify(np.random.default_rng(0).normal(size=(4000, 20)), np.arange(4000) % 20)
    assert noise.rank1.mean() == pytest.approx(1 / 20, abs=0.01)
    assert noise.score.mean() == pytest.approx(0, abs=0.03)


def test_identification_does_not_depend_on_the_order_of_the_gallery():
    rng = np.random.default_rng(0)
    similarity, order = rng.normal(size=(6, 9)), rng.permutation(9)
    truth = np.arange(6)
    one, other = identify(similarity, truth), identify(similarity[:, order], np.argsort(order)[truth])
    assert np.array_equal(one.rank, other.rank)


def test_bad_galleries_are_refused():
    for similarity, truth in ((np.zeros((2, 1)), [0, 0]), (np.zeros((2, 3)), [0, 3]), (np.zeros((2, 3)), [0])):
        with pytest.raises(EvidenceError):
            identify(similarity, truth)


def naive_ncc(query, image, mask):
    return np.corrcoef(query[mask], image[mask])[0, 1]


@pytest.mark.parametrize("spatial", [(12, 13), (6, 7, 8)])
def test_masked_ncc_against_corrcoef(spatial):
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(5, 1, (4, *spatial)), rng.normal(-3, 2, (5, *spatial))
    masks = rng.uniform(size=gallery.shape) > 0.5
    expected = [[naive_ncc(q, g, m) for g, m in zip(gallery, masks, strict=True)] for q in queries]
    assert masked_ncc(queries, gallery, masks) == pytest.approx(np.array(expected), abs=1e-10)


def test_shifts_are_tolerated_for_every_pair():
    rng = np.random.default_rng(0)
    gallery = np.stack([gaussian_filter(rng.normal(size=(20, 20)), 1) for _ in range(3)])
    masks = np.zeros(gallery.shape, bool)
    masks[:, 4:16, 4:16] = True
    moved = np.roll(gallery, (1, -2), axis=(1, 2))
    assert np.diag(masked_ncc(moved, gallery, masks)).max() < 0.9
    similarity = masked_ncc(moved, gallery, masks, shift=2)
    assert np.diag(similarity) == pytest.approx(np.ones(3))
    assert (similarity >= masked_ncc(moved, gallery, masks) - 1e-12).all()


def test_constant_images_carry_no_similarity_and_shapes_must_fit():
    gallery = np.random.default_rng(0).normal(size=(3, 8, 8))
    masks = np.ones(gallery.shape, bool)
    masks[2] = False
    assert np.array_equal(masked_ncc(np.full((1, 8, 8), 0.1), gallery, masks), np.zeros((1, 3)))
    assert masked_ncc(gallery[:1], gallery, masks)[0, 2] == 0
    with pytest.raises(EvidenceError, match="same spatial shape"):
        masked_ncc(np.zeros((1, 8, 9)), gallery, masks)


def test_the_outline_of_a_brain_does_not_identify_by_itself():
    rng = np.random.default_rng(0)
    masks = np.stack([gaussian_filter(rng.normal(size=(24, 24)), 4) > 0 for _ in range(10)])
    gallery = np.where(masks, rng.normal(size=masks.shape), 0)
    noise = rng.normal(size=(400, 24, 24))
    found = identify(masked_ncc(noise, gallery, masks), np.arange(400) % 10)
    assert found.rank1.mean() == pytest.approx(0.1, abs=0.05)


def test_averaging_samples_to_patients():
    similarity = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    rows, columns, mean = patient_similarity(similarity, ["b", "a", "b"], ["x", "y", "x"])
    assert (rows, columns) == (("b", "a"), ("x", "y"))
    assert mean.tolist() == [[5, 5], [5, 5]]
    comparable = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]], bool)
    assert patient_similarity(similarity, ["b", "a", "b"], ["x", "y", "x"], comparable)[2].tolist() == [[4, 2], [6, 5]]
    with pytest.raises(EvidenceError, match="no comparable pair"):
        patient_similarity(similarity, ["b", "a", "b"], ["x", "y", "x"], np.eye(3, dtype=bool))


def test_bit_accuracy():
    truth = [[1, 0, 1, 0], [1, 1, 0, 0]]
    assert bit_accuracy([[0.9, 0.1, 0.2, 0.5], [1, 1, 0, 0]], truth).tolist() == [0.625, 1.0]
    for decoded in ([[0, 1]], [[2, 0, 0, 0]] * 2, [[np.nan, 0, 0, 0]] * 2):
        with pytest.raises(EvidenceError):
            bit_accuracy(decoded, truth)


@pytest.mark.parametrize(("n", "share"), [(30, 0.85), (50, 0.98)])
def test_canaries_of_32_bits_pass_as_often_as_the_reference_says(n, share):
    def passing(accuracy):
        rng, passed = np.random.default_rng(n), 0
        for i in range(400):
            read = rng.uniform(size=(n, 32)) < accuracy
            result = leakage(bit_accuracy(read, np.ones((n, 32))), CANARY_CHANCE, 1.0, [str(p) for p in range(n)])
            passed += leakage_interval(result.gain, result.room, seed=i, resamples=800).high <= 0.10
        return passed / 400

    assert passing(0.50) == pytest.approx(share, abs=0.05)
    assert passing(0.56) <= 0.03


def test_a_faint_trace_in_everybody_s_image_is_found_once_what_is_shared_is_gone():
    rng = np.random.default_rng(0)
    common = gaussian_filter(rng.normal(size=(32, 32)), 3) * 30
    own = gaussian_filter(rng.normal(size=(40, 32, 32)), (0, 2, 2)) * 5
    other_visit = common + own + 0.3 * rng.normal(size=own.shape)
    trace, masks = common + 0.03 * own, np.ones(own.shape, bool)
    shared = common_images(common[None])

    def first(queries, gallery):
        return identify(masked_ncc(queries, gallery, masks), range(40)).rank1.mean()

    assert first(trace, other_visit) < 0.5
    assert first(without_common(trace, shared), without_common(other_visit, shared)) > 0.95
    noise = rng.normal(size=own.shape)
    assert first(without_common(noise, shared), without_common(other_visit, shared)) < 0.15


def test_the_shared_part_is_taken_out_by_projection():
    rng = np.random.default_rng(0)
    images, means = rng.normal(size=(3, 4, 5)), rng.normal(size=(2, 4, 5))
    common = common_images(means)
    np.testing.assert_allclose(np.einsum("ahw,bhw->ab", common, common), np.eye(2), atol=1e-12)
    rest = without_common(images, common)
    np.testing.assert_allclose(np.einsum("nhw,chw->nc", rest, means), 0, atol=1e-9)
    np.testing.assert_allclose(without_common(0.3 * means[:1] + 2 * means[1:], common), 0, atol=1e-9)
    np.testing.assert_allclose(without_common(rest, common), rest, atol=1e-12)
    np.testing.assert_array_equal(without_common(images, np.zeros((0, 4, 5))), images)
    assert len(common_images(np.repeat(means[:1], 3, axis=0))) == 1
    assert len(common_images(rng.normal(size=(30, 4, 5)))) == 10
    with pytest.raises(EvidenceError, match="one shape"):
        without_common(images, common[:, :2])


def test_one_image_for_all_finds_nobody_where_slices_lie_at_different_positions():
    rng = np.random.default_rng(1)
    places = rng.normal(size=(5, 12, 12))
    at = np.arange(60) % 5  # each patient's slices lie where its tumor is, in both visits
    own = rng.normal(0, 0.5, (60, 12, 12))
    visits = [places[at] + own + rng.normal(0, 0.2, own.shape) for _ in range(2)]
    common = common_images(places + rng.normal(0, 0.05, places.shape))
    brain = np.ones_like(own, dtype=bool)

    def first(query):
        alike = masked_ncc(without_common(query, common), without_common(visits[1], common), brain)
        return identify(alike, np.arange(60)).rank1.mean()

    assert first(np.repeat(places.mean(axis=0, keepdims=True), 60, axis=0)) < 0.06
    assert first(places[at]) < 0.1
    assert first(places.mean(axis=0) + 0.05 * own) > 0.95
