from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.segmentation import hd95, patient_dice, patient_hd95, sample_dice

REGIONS = ("WT", "TC", "ET")


@pytest.fixture
def masks():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=(6, 3, 8, 8)) > 0.6
    return truth ^ (rng.uniform(size=truth.shape) > 0.8), truth


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_dice_per_sample_and_patient(masks):
    guess, truth = masks
    samples = sample_dice(guess, truth, REGIONS)
    assert samples.values[2, 1] == pytest.approx(dice(guess[2, 1], truth[2, 1]))
    patients = ["a", "b", "a", "b", "b", "c"]
    result = patient_dice(guess.astype(np.uint8), truth, patients, REGIONS)
    assert result.units == ("a", "b", "c")
    assert result.values[1, 2] == pytest.approx(dice(guess[[1, 3, 4], 2], truth[[1, 3, 4], 2]))
    assert result.empty == (0, 0, 0)


def test_empty_truth_is_excluded_and_counted_even_if_the_guess_is_empty_too(masks):
    guess, truth = (m.copy() for m in masks)
    truth[0, 2] = truth[1, 2] = guess[1, 2] = False
    result = sample_dice(guess, truth, REGIONS)
    assert result.empty == (0, 0, 2)
    assert np.isnan(result.values[:2, 2]).all()
    units, values = result.region("ET")
    assert units == ("2", "3", "4", "5")
    assert result.means()["ET"] == pytest.approx(values.mean())
    units, values = result.unit_means()
    assert len(units) == 6
    assert values[0] == pytest.approx(result.values[0, :2].mean())


def test_an_empty_guess_scores_zero_and_a_region_nobody_has_is_none():
    truth = np.zeros((2, 2, 4, 4), bool)
    truth[:, 0, 1, 1] = True
    result = sample_dice(np.zeros_like(truth), truth, ("WT", "ET"))
    assert result.means() == {"WT": 0.0, "ET": None, "mean": 0.0}
    assert sample_dice(truth[:, 1:], truth[:, 1:], ("ET",)).means() == {"ET": None, "mean": None}


def test_masks_must_be_masks_of_one_shape(masks):
    guess, truth = masks
    for a, b in ((guess[:1], truth), (guess * 0.5, truth), (guess[:, :2], truth[:, :2])):
        with pytest.raises(EvidenceError):
            sample_dice(a, b, REGIONS)
    with pytest.raises(EvidenceError, match="one each"):
        patient_dice(guess, truth, ["a"], REGIONS)


def naive_hd95(a, b, spacing):
    def surface(m):
        points = []
        for p in np.argwhere(m):
            for axis in range(m.ndim):
                for step in (-1, 1):
                    q = p.copy()
                    q[axis] += step
                    if not 0 <= q[axis] < m.shape[axis] or not m[tuple(q)]:
                        points.append(p)
        return np.unique(points, axis=0) * np.array(spacing)

    s, t = surface(a), surface(b)
    d = np.sqrt(((s[:, None] - t[None]) ** 2).sum(-1))
    return max(np.percentile(d.min(1), 95), np.percentile(d.min(0), 95))


@pytest.mark.parametrize(("shape", "spacing"), [((14, 15), (1.0, 2.5)), ((7, 8, 9), (1.0, 0.5, 3.0))])
def test_hd95_against_brute_force(shape, spacing):
    rng = np.random.default_rng(1)
    a, b = rng.uniform(size=shape) > 0.7, rng.uniform(size=shape) > 0.7
    b[: shape[0] // 2] = False
    assert hd95(a, b, spacing) == pytest.approx(naive_hd95(a, b, spacing))
    assert hd95(a, b, spacing) == hd95(b, a, spacing)


def test_hd95_of_shifted_squares_and_of_empty_masks():
    a, b = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    a[2:8, 2:8] = True
    b[2:8, 6:12] = True
    assert hd95(a, b) == 4
    assert hd95(a, b, (1.0, 2.0)) == 8
    assert hd95(a, a) == 0
    assert hd95(a, np.zeros_like(a)) is None
    with pytest.raises(EvidenceError):
        hd95(a, b, (1.0,))


def test_hd95_does_not_depend_on_where_the_masks_lie():
    a, b = np.zeros((2, 30, 30), bool)
    a[10:14, 10:15], b[12:18, 9:13] = True, True
    moved = [np.roll(m, (-9, 15), (0, 1)) for m in (a, b)]
    assert hd95(a, b) == hd95(*moved) == hd95(*(m[5:25, 5:25] for m in (a, b)))


def test_hd95_by_patient_and_region():
    """Two samples of one patient are averaged; an absent region has no distance, a missed one the diagonal of the image."""
    guess, truth = np.zeros((4, 2, 12, 16), bool), np.zeros((4, 2, 12, 16), bool)
    truth[:3, 0, 2:6, 2:6] = True
    guess[0, 0, 2:6, 2:6] = guess[1, 0, 2:6, 5:9] = True
    guess[3] = True  # nothing is there, so nothing is far from it: Dice tells that case
    truth[3, 1, 1:4, 1:4] = guess[3, 1] = True
    guess[3, 1], guess[3, 1, 1:4, 1:4] = False, True
    patients, values = patient_hd95(guess, truth, ["a", "a", "b", "c"])
    assert patients == ("a", "b", "c")
    assert values[0, 0] == pytest.approx((0 + hd95(guess[1, 0], truth[1, 0])) / 2) == 1.5
    assert values[1, 0] == pytest.approx(20.0)
    assert values[2, 1] == 0
    assert np.isnan(values[[0, 1, 2], [1, 1, 0]]).all()


def test_hd95_by_patient_in_millimeters():
    guess, truth = np.zeros((2, 1, 12, 16), bool), np.zeros((2, 1, 12, 16), bool)
    truth[:, 0, 2:6, 2:6] = True
    guess[0, 0, 2:6, 5:9] = True
    values = patient_hd95(guess, truth, ["a", "b"], [(3.0, 3.0), (1.0, 2.0)])[1]
    assert values[0, 0] == 3 * patient_hd95(guess, truth, ["a", "b"])[1][0, 0]
    assert values[1, 0] == pytest.approx(np.hypot(12, 32))
    with pytest.raises(EvidenceError, match="belong together"):
        patient_hd95(guess, truth, ["a"])
