from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.leakage import leakage


def naive(score, chance, anchor, patients):
    keys = list(dict.fromkeys(patients))
    mean = lambda values, key: np.mean([v for v, p in zip(values, patients, strict=True) if p == key])  # noqa: E731
    top = sum(mean(score, k) - mean(chance, k) for k in keys)
    return top / sum(mean(anchor, k) - mean(chance, k) for k in keys)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in rng.permutation(np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7]))]
    score, chance = rng.normal(0.4, 0.2, 28), rng.normal(0.3, 0.1, 28)
    return score, chance, np.full(28, 1.0), patients


def test_equals_a_naive_second_computation_with_unequal_samples_per_patient(data):
    result = leakage(*data)
    assert result.value == pytest.approx(naive(*data), abs=1e-12)
    assert result.per_patient.mean() == pytest.approx(result.value, abs=1e-12)
    assert result.patients == tuple(dict.fromkeys(data[3]))
    assert result.worst == result.per_patient.max()


def test_does_not_depend_on_the_order_of_samples(data):
    score, chance, anchor, patients = data
    order = np.random.default_rng(1).permutation(28)
    other = leakage(score[order], chance[order], anchor[order], [patients[i] for i in order])
    first = leakage(*data)
    assert other.value == pytest.approx(first.value, abs=1e-12)
    assert dict(zip(other.patients, other.per_patient, strict=True)) == pytest.approx(
        dict(zip(first.patients, first.per_patient, strict=True))
    )


def test_chance_is_zero_and_the_anchor_is_one():
    patients = ["a", "b"]
    assert leakage([0.3, 0.5], [0.3, 0.5], 1.0, patients).value == 0
    assert leakage([1, 1], [0.3, 0.5], 1.0, patients).value == 1


def test_nothing_is_clipped():
    result = leakage([0.1, 1.4], [0.5, 0.5], 1.0, ["a", "b"])
    assert result.per_patient.tolist() == pytest.approx([-0.8, 1.8])
    assert result.value == pytest.approx(0.5)


def test_clipping_each_patient_would_bias_a_quiet_channel_upward():
    gain = np.random.default_rng(0).normal(0, 0.08, (2000, 20))
    honest = [leakage(g, 0.0, 1.0, [str(i) for i in range(20)]).value for g in gain[:200]]
    assert abs(np.mean(honest)) < 0.005
    assert np.maximum(gain, 0).mean() == pytest.approx(0.032, abs=0.001)


def test_a_small_room_is_not_resolvable():
    assert leakage([0.9], [0.8], [1.0], ["a"]).resolvable
    assert not leakage([0.9], [0.81], [1.0], ["a"]).resolvable
    assert leakage([0.9], [0.81], [1.0], ["a"], min_room=0.1).resolvable


def test_without_any_room_there_is_no_ratio():
    result = leakage([0.9, 0.9], [1.0, 1.0], 1.0, ["a", "b"])
    assert np.isnan(result.value)
    assert not result.resolvable


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_evidence_that_is_not_finite_is_an_error_and_nobody_is_dropped(bad, where):
    arrays = [np.array([0.5, 0.5]), np.array([0.2, 0.2]), np.array([1.0, 1.0])]
    arrays[where][1] = bad
    with pytest.raises(EvidenceError, match="1 of 2 values"):
        leakage(*arrays, ["a", "b"])


def test_lengths_must_fit():
    with pytest.raises(EvidenceError, match="2 scores for 3 samples"):
        leakage([0.5, 0.5], 0.0, 1.0, ["a", "b", "c"])
    with pytest.raises(EvidenceError, match="empty"):
        leakage([], 0.0, 1.0, [])
