"""Swept defenses at one Dice: interpolation, the choice of the Dice, and what its interval covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.intervals import patient_interval
from leakaudit.scoring.membership import stratified_auc
from leakaudit.scoring.strongest import Candidate, strongest
from leakaudit.scoring.sweeps import Setting, common_dice, leakage_at


def keys(n):
    return tuple(f"p{i:03}" for i in range(n))


def setting(label, leak, dice, **more):
    """Leakage and Dice by patient, each (repeats, patients)."""
    gain = np.atleast_2d(np.asarray(leak, dtype=float))
    found = Candidate(attack="inversion", endpoint="x", patients=keys(gain.shape[1]), gain=gain, room=np.ones_like(gain), **more)
    return Setting(label=label, leakage=strongest([found]), dice=np.atleast_2d(np.asarray(dice, dtype=float)))


def flat(label, leak, dice, n=20, m=16, repeats=3):
    """A setting with spread over patients but none between repeats, so that its means are exact."""
    wave, sea = np.linspace(-0.1, 0.1, n), np.linspace(-0.01, 0.01, m)
    return setting(label, np.tile(leak + wave, (repeats, 1)), np.tile(dice + sea, (repeats, 1)))


def line(points, **more):
    return [flat(str(dice), leak, dice, **more) for dice, leak in points]


# The curve -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.55, 0.61, 0.70, 0.77, 0.85])
def test_a_line_is_met_exactly(at):
    sweep = line([(d, 0.1 + 1.2 * (d - 0.55)) for d in (0.85, 0.70, 0.55, 0.62)])
    assert leakage_at(sweep, at, seed=0).value == pytest.approx(0.1 + 1.2 * (at - 0.55))


def test_between_two_settings_the_curve_is_straight():
    sweep = line([(0.9, 0.8), (0.7, 0.2), (0.5, 0.1)])
    assert leakage_at(sweep, 0.75, seed=0).value == pytest.approx(0.2 + 0.25 * 0.6)


def test_less_leakage_at_more_dice_is_taken_for_noise():
    """The setting at .7 counts with the .5 of its neighbor at lower Dice: it errs toward more leakage."""
    sweep = line([(0.9, 0.8), (0.7, 0.3), (0.5, 0.5)])
    assert leakage_at(sweep, 0.6, seed=0).value == pytest.approx(0.5)
    assert leakage_at(sweep, 0.8, seed=0).value == pytest.approx(0.65)
    # The resampled curves follow the same rule: none of them falls to the .4 of a straight line.
    assert leakage_at(sweep, 0.6, seed=0).interval.low > 0.44


def test_nothing_is_extrapolated():
    sweep = line([(0.8, 0.5), (0.6, 0.2)])
    for at in (0.59, 0.81):
        with pytest.raises(EvidenceError, match="nothing is extrapolated"):
            leakage_at(sweep, at, seed=0)


def test_near_an_end_there_is_a_value_and_no_interval():
    sweep = line([(0.8, 0.5), (0.6, 0.2)])
    assert leakage_at(sweep, 0.7, seed=0).interval is not None
    found = leakage_at(sweep, 0.8 - 1e-4, seed=0)
    assert (found.interval, found.value) == (None, pytest.approx(0.5, abs=0.001))
    assert "too close to an end" in found.reason


def test_settings_that_do_not_belong_together():
    rising = line([(0.8, 0.5), (0.6, 0.2)])
    with pytest.raises(EvidenceError, match="differ in patients or repeats"):
        leakage_at([*rising, flat("x", 0.3, 0.7, n=19)], 0.7, seed=0)
    with pytest.raises(EvidenceError, match="differ in patients or repeats"):
        leakage_at([*rising, flat("x", 0.3, 0.7, repeats=2)], 0.7, seed=0)


def test_few_patients_or_one_repeat_say_so():
    few = leakage_at(line([(0.8, 0.5), (0.6, 0.2)], n=4), 0.7, seed=0)
    assert (few.value, few.interval) == (pytest.approx(0.35), None)
    assert "Fewer than 5" in few.reason
    once = leakage_at(line([(0.8, 0.5), (0.6, 0.2)], repeats=1), 0.7, seed=0)
    assert once.interval is not None
    assert "One training run" in once.reason


# The Dice --------------------------------------------------------------------------------------------------------------


def test_the_dice_is_the_middle_of_the_common_range():
    noise, dropout = line([(0.86, 0.7), (0.6, 0.1)]), line([(0.86, 0.7), (0.7, 0.3), (0.8, 0.5)])
    assert common_dice([noise, dropout]) == (pytest.approx(0.78), (0, 1))


def test_most_sweeps_decide_and_then_the_widest_range():
    low, middle, high = line([(0.4, 0), (0.6, 1)]), line([(0.55, 0), (0.8, 1)]), line([(0.7, 0), (0.9, 1)])
    wide = line([(0.3, 0), (0.95, 1)])
    assert common_dice([low, middle, high]) == (pytest.approx(0.75), (1, 2))
    assert common_dice([low, middle, high, wide]) == (pytest.approx(0.75), (1, 2, 3))
    assert common_dice([low, high]) is None
    assert common_dice([wide]) is None
    assert common_dice([]) is None


def test_sweeps_that_share_a_single_point_are_not_compared():
    assert common_dice([line([(0.6, 0), (0.8, 1)]), line([(0.8, 1), (0.9, 1)])]) is None


# Intervals -------------------------------------------------------------------------------------------------------------


def sweep_of(rng, slope, *, dices=(0.85, 0.80, 0.70, 0.55), n=36, m=36, repeats=3, between=1.0):
    patient, tester = rng.normal(0, 0.08, n), rng.normal(0, 0.1, m)
    found = []
    for d in dices:
        true = 0.6 - slope * (0.85 - d)
        seed, drift = rng.normal(0, 0.015 * between, (repeats, 1)), rng.normal(0, 0.01 * between, (repeats, 1))
        leak = true + patient * true / 0.3 + seed + rng.normal(0, 0.03, (repeats, n))
        found.append(setting(str(d), leak, d + tester + drift + rng.normal(0, 0.035, m)))
    return found


def test_the_spread_of_repeats_widens_the_interval():
    calm, wild = (leakage_at(sweep_of(np.random.default_rng(1), 1.5, between=b), 0.7, seed=0).interval for b in (0, 3))
    assert wild.high - wild.low > 1.3 * (calm.high - calm.low)


def test_the_dice_of_test_patients_is_part_of_the_uncertainty():
    """The same curve with ten times the spread of Dice, common to all settings: steep curves pay for it, flat ones do not."""

    def width(slope, spread):
        wave, sea = np.linspace(-0.1, 0.1, 30), spread * np.linspace(-1, 1, 30)
        points = [(0.85, 0.6), (0.55, 0.6 - 0.3 * slope)]
        sweep = [setting(str(d), np.tile(leak + wave, (3, 1)), np.tile(d + sea, (3, 1))) for d, leak in points]
        interval = leakage_at(sweep, 0.7, seed=0).interval
        return interval.high - interval.low

    assert width(0.0, 0.2) == pytest.approx(width(0.0, 0.02), rel=0.05)
    assert width(1.5, 0.2) > 2 * width(1.5, 0.02)


def test_few_test_patients_have_the_wider_interval_of_t():
    """Leakage without spread: all of the width is the Dice's, and percentiles of six patients are too narrow."""
    sea = np.array([-0.05, -0.02, 0.0, 0.01, 0.03, 0.03])
    sweep = [setting(str(d), np.full((3, 12), leak), np.tile(d + sea, (3, 1))) for d, leak in ((0.85, 0.6), (0.55, 0.15))]
    direct = patient_interval(0.7 + sea, seed=1)
    found = leakage_at(sweep, 0.7, seed=0)
    assert found.interval.high - found.value == pytest.approx(1.5 * (0.7 - direct.low), rel=1e-6)
    assert found.value - found.interval.low == pytest.approx(1.5 * (direct.high - 0.7), rel=1e-6)


def test_luck_of_two_equal_attacks_is_in_the_interval():
    rng = np.random.default_rng(4)

    def twice(label, leak, dice):
        wave = rng.normal(0, 0.1, (1, 30))
        gains = (leak + wave, leak + wave.mean() * 2 - wave)  # equally strong: each patient decides against itself
        both = [
            Candidate(attack=str(k), endpoint="x", patients=keys(30), gain=g, room=np.ones((1, 30))) for k, g in enumerate(gains)
        ]
        return Setting(label=label, leakage=strongest(both), dice=dice + rng.normal(0, 0.01, (1, 30)))

    sweep = [twice("none", 0.6, 0.8), twice("noise", 0.2, 0.6)]
    plain = [Setting(label=s.label, leakage=_without_choice(s.leakage), dice=s.dice) for s in sweep]
    found, narrow = leakage_at(sweep, 0.7, seed=0), leakage_at(plain, 0.7, seed=0)
    assert found.value == narrow.value
    assert found.interval.low == pytest.approx(narrow.interval.low, abs=0.002)
    assert found.interval.high > narrow.interval.high + 0.05


def _without_choice(leakage):
    return replace(leakage, upward=leakage.fair)


def test_membership_is_averaged_with_the_weights():
    """Single Newcombe intervals as if fully dependent; a flat Dice adds nothing but the slope's share."""
    member, rng = np.arange(80) < 40, np.random.default_rng(5)

    def one(label, strength, dice):
        table = (rng.normal(0, 1, 80) + strength * member, member, ["a"] * 80)
        found = Candidate(
            attack="loss", endpoint="m", patients=keys(80), gain=np.empty((0, 0)), room=np.empty((0, 0)), tables=(table,) * 3
        )
        return Setting(label=label, leakage=strongest([found]), dice=np.full((3, 20), dice) + np.linspace(-1e-6, 1e-6, 20)), table

    (none, first), (noise, second) = one("none", 2.0, 0.8), one("noise", 0.3, 0.6)
    found = leakage_at([none, noise], 0.65, seed=0)
    single = [stratified_auc(*t).leakage for t in (second, first)]
    values = [2 * stratified_auc(*t).value - 1 for t in (second, first)]
    assert found.value == pytest.approx(0.75 * values[0] + 0.25 * values[1])
    assert found.interval.low == pytest.approx(0.75 * single[0].low + 0.25 * single[1].low, abs=1e-3)
    assert found.interval.high == pytest.approx(0.75 * single[0].high + 0.25 * single[1].high, abs=1e-3)


def test_rates_that_are_all_hits_have_an_interval():
    hits = [setting(str(d), np.full((3, 20), v), np.full((3, 12), d) + np.linspace(-0.01, 0.01, 12), rate=True, chance=0.01)
            for d, v in ((0.8, 0.99), (0.6, 0.99))]  # fmt: skip
    found = leakage_at(hits, 0.7, seed=0)
    assert found.value == pytest.approx(0.99)
    assert found.interval.low < 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "runs"),
    [({}, 400), ({"repeats": 5}, 300), ({"n": 12, "m": 10}, 300), ({"repeats": 1, "between": 0.0}, 300)],
)
def test_coverage_of_the_true_curve(more, runs):
    """Linear curves, slope 1.5, read at .70. Seen with 400 runs, misses below and above in percent.

    Three repeats 0.5 and 0.5 (MOVER with three repeats is wide), five 2.5 and 2.2, 12 attacked and 10 test patients 0.8 and
    2.5, one repeat without spread between repeats 2.5 and 1.8; the value itself is free of bias (.000 to .004, sd .03 to .06).
    """
    rng, missed, stated, values = np.random.default_rng(0), np.zeros(2), 0, []
    for i in range(runs):
        found = leakage_at(sweep_of(rng, 1.5, **more), 0.70, seed=i)
        values.append(found.value - (0.6 - 1.5 * 0.15))
        if found.interval is not None:
            stated += 1
            missed += found.interval.low > 0.375, found.interval.high < 0.375
    assert stated > 0.9 * runs
    assert (missed / stated <= 0.045).all()
    assert abs(np.mean(values)) < 0.012
