from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.intervals import (
    Interval,
    difference_interval,
    leakage_interval,
    patient_interval,
    ratio_interval,
    with_repeats,
)


def naive(values, level, resamples, seed):
    """Bootstrap-t and t with loops, on the same resamples."""
    n, m, se = len(values), values.mean(), stats.sem(values)
    draws = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    t_star = [(values[d].mean() - m) / stats.sem(values[d]) for d in draws if len(set(values[d])) > 1]
    low, high = np.quantile(t_star, [(1 - level) / 2, (1 + level) / 2])
    classic = stats.t.interval(level, n - 1, m, se)
    return min(m - high * se, classic[0]), max(m - low * se, classic[1])


@pytest.mark.parametrize("n", [5, 12, 40])
def test_equals_a_naive_second_implementation(n):
    values = np.random.default_rng(n).exponential(0.1, n)
    interval = patient_interval(values, seed=3)
    assert (interval.low, interval.high) == pytest.approx(naive(values, 0.95, 2000, 3), abs=1e-10)


def test_is_never_inside_the_t_interval_and_is_deterministic():
    values = np.random.default_rng(0).lognormal(0, 1, 15)
    low, high = stats.t.interval(0.95, 14, values.mean(), stats.sem(values))
    interval = patient_interval(values, seed=0)
    assert interval.low <= low
    assert interval.high >= high
    assert interval == patient_interval(values, seed=0)
    assert interval != patient_interval(values, seed=1)


def test_zero_spread_gives_a_point_by_t():
    assert patient_interval([0.1] * 12, seed=0) == Interval(pytest.approx(0.1), pytest.approx(0.1), "t (no spread)", 0.95)


def test_degenerate_resamples_leave_finite_bounds():
    interval = patient_interval([1.0] + [0.0] * 20, seed=0)
    assert math.isfinite(interval.low)
    assert math.isfinite(interval.high)
    assert interval.low < 1 / 21 < interval.high


def test_blocks_of_resamples_do_not_change_the_result(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    whole = patient_interval(values, seed=5)
    monkeypatch.setattr("leakaudit.scoring.intervals._BLOCK", 30 * 17)
    parts = patient_interval(values, seed=5)
    assert (whole.low, whole.high) == pytest.approx((parts.low, parts.high))


def test_a_higher_level_is_wider_and_takes_more_resamples():
    values = np.random.default_rng(0).exponential(size=30)
    narrow, wide = patient_interval(values, seed=0), patient_interval(values, level=0.999, seed=0)
    assert wide.low < narrow.low
    assert wide.high > narrow.high


def test_a_constant_room_scales_the_patient_values():
    gain = np.random.default_rng(0).normal(0.1, 0.05, 20)
    ratio, plain = ratio_interval(gain, 0.5, seed=1), patient_interval(gain / 0.5, seed=1)
    assert (ratio.low, ratio.high) == pytest.approx((plain.low, plain.high), abs=1e-12)


def test_resampling_gain_and_room_together_carries_the_uncertainty_of_the_anchor():
    rng = np.random.default_rng(0)
    room = rng.uniform(0.2, 1.2, 30)
    gain = 0.5 * room + rng.normal(0, 0.01, 30)
    joint = ratio_interval(gain, room, seed=0)
    fixed = patient_interval(gain / room.mean(), seed=0)
    # The patients' rooms cancel in the ratio; values divided by a fixed room would not know.
    assert joint.high - joint.low < 0.2 * (fixed.high - fixed.low)
    assert joint.low < 0.5 < joint.high


def test_no_room_no_interval():
    with pytest.raises(EvidenceError, match="does not score above chance"):
        ratio_interval([0.1, 0.2], [-0.1, 0.1], seed=0)
    with pytest.raises(EvidenceError, match="at least 2 patients"):
        patient_interval([0.1], seed=0)


def test_mover_formula():
    interval = with_repeats([0.10, 0.12, 0.17], Interval(0.09, 0.20, "x"))
    m, s = 0.13, np.std([0.10, 0.12, 0.17], ddof=1)
    extra = (stats.t.ppf(0.975, 2) * s) ** 2 / 3
    assert interval.low == pytest.approx(m - math.sqrt((m - 0.09) ** 2 + extra))
    assert interval.high == pytest.approx(m + math.sqrt((0.20 - m) ** 2 + extra))


def test_equal_repeats_add_nothing_and_one_repeat_says_so():
    base = Interval(0.1, 0.3, "x")
    same = with_repeats([0.2, 0.2, 0.2], base)
    assert (same.low, same.high) == pytest.approx((0.1, 0.3))
    assert "this trained model" in with_repeats([0.2], base).method
    assert with_repeats([0.2], base).high == 0.3


def test_leakage_interval_is_the_pooled_ratio_with_repeats():
    rng = np.random.default_rng(0)
    gain, room = rng.normal(0.1, 0.05, (4, 25)), rng.uniform(0.5, 0.9, (4, 25))
    interval = leakage_interval(gain, room, seed=2)
    patients = ratio_interval(gain.mean(0), room.mean(0), seed=2)
    expected = with_repeats(gain.mean(1) / room.mean(), patients)
    assert interval == expected
    assert interval.low < gain.sum() / room.sum() < interval.high
    order = rng.permutation(4)
    shuffled = leakage_interval(gain[order], room[order], seed=2)
    assert (shuffled.low, shuffled.high) == pytest.approx((interval.low, interval.high))


def test_paired_difference():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.9, 40)
    worse = base - 0.03 + rng.normal(0, 0.001, 40)
    interval = difference_interval(worse, base, seed=0)
    assert interval.level == 0.9
    assert -0.031 < interval.low < interval.high < -0.029
    with pytest.raises(EvidenceError, match="same patients"):
        difference_interval(worse, base[:-1], seed=0)


@pytest.mark.parametrize(("family", "floor"), [("normal", 0.92), ("exponential", 0.91)])
def test_coverage_on_small_samples(family, floor):
    rng = np.random.default_rng(7)
    draw = {"normal": lambda: rng.normal(0, 1, 20), "exponential": lambda: rng.exponential(1, 20) - 1}[family]
    intervals = [patient_interval(draw(), seed=i, resamples=800) for i in range(400)]
    assert np.mean([i.low <= 0 <= i.high for i in intervals]) >= floor


def test_coverage_with_training_repeats():
    rng = np.random.default_rng(8)
    hits = 0
    for i in range(300):
        values = rng.normal(0, 0.08, 30)[None] + rng.normal(0, 0.03, (3, 30)) + rng.normal(0, 0.05, (3, 1))
        interval = leakage_interval(values, seed=i, resamples=800)
        hits += interval.low <= 0 <= interval.high
    assert hits >= 0.92 * 300


def test_one_patient_far_from_many_alike_does_not_throw_the_bound_thousands_away():
    values = np.concatenate([0.998 + 0.0005 * np.random.default_rng(0).standard_normal(47), [0.3]])
    found = patient_interval(values, seed=1)
    assert 0.5 < found.low < 0.96 < values.mean() < found.high
