"""Reruns of rows of the simulations that the rules of evidence rest on, with tolerances of simulation error."""

from __future__ import annotations

import numpy as np
import pytest

from leakaudit.scoring.chance import choose
from leakaudit.scoring.controls import patient_limit, shuffle_test
from leakaudit.scoring.epsilon import one_run
from leakaudit.scoring.families import one_run_hull
from leakaudit.scoring.intervals import difference_interval, leakage_interval, patient_interval
from leakaudit.scoring.leakage import leakage
from leakaudit.scoring.multiplicity import bonferroni_level
from leakaudit.scoring.rates import clopper_pearson

pytestmark = pytest.mark.slow

REPETITIONS = 1000


def rare(rng, n, share, base=0.0, noise=0.0):
    """A share of patients is almost fully recovered, the others hardly."""
    return np.where(rng.uniform(size=n) < share, rng.uniform(0.6, 1.0, n), rng.normal(base, noise, n))


FAMILIES = {
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0.0),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "lognormal": (lambda rng, n: rng.lognormal(0, 1, n), np.exp(0.5)),
    "rare": (lambda rng, n: rare(rng, n, 0.1, 0.0, 0.02), 0.08),
}


@pytest.mark.parametrize(
    ("family", "n", "miss"),
    [
        ("exponential", 10, 4.3), ("exponential", 20, 4.4), ("exponential", 30, 3.0), ("exponential", 50, 3.0),
        ("lognormal", 10, 8.8), ("lognormal", 20, 7.0), ("lognormal", 30, 5.9), ("lognormal", 50, 5.4),
        ("rare", 10, 33.7), ("rare", 20, 12.1), ("rare", 30, 4.0), ("rare", 50, 0.8), ("normal", 20, 2.4),
    ],
)  # fmt: skip
def test_a_upper_miss_of_the_united_interval(family, n, miss):
    draw, mean = FAMILIES[family]
    rng = np.random.default_rng(n)
    missed = [patient_interval(draw(rng, n), seed=i).high < mean for i in range(REPETITIONS)]
    assert 100 * np.mean(missed) == pytest.approx(miss, abs=max(1.6, 0.1 * miss))


@pytest.mark.parametrize(
    ("seed_sd", "n", "repeats", "coverage"),
    [(0.0, 50, 3, 97.7), (0.02, 50, 3, 97.8), (0.02, 50, 5, 96.9), (0.05, 50, 3, 95.7), (0.05, 50, 5, 96.5)],
)
def test_b_coverage_over_patients_and_training_seeds(seed_sd, n, repeats, coverage):
    rng = np.random.default_rng(repeats)
    hits, patients_only = 0, 0
    for i in range(REPETITIONS):
        values = rng.normal(0, 0.08, n) + rng.normal(0, 0.03, (repeats, n)) + rng.normal(0, seed_sd, (repeats, 1))
        interval, narrow = leakage_interval(values, seed=i), patient_interval(values.mean(0), seed=i)
        hits += interval.low <= 0 <= interval.high
        patients_only += narrow.low <= 0 <= narrow.high
    assert 100 * hits / REPETITIONS == pytest.approx(coverage, abs=1.5)
    if seed_sd:
        assert patients_only < hits


@pytest.mark.parametrize(
    ("family", "true", "n", "one", "three"),
    [
        ("normal", 0.12, 30, 3.1, 0.0),
        ("normal", 0.02, 30, 99.0, 85.0),
        ("normal", 0.05, 30, 85.7, 50.0),
        ("rare", 0.12, 30, 1.1, 0.9),
    ],
)
def test_c_share_of_passes(family, true, n, one, three):
    rng = np.random.default_rng(n)
    passed = {1: 0, 3: 0}
    for i in range(REPETITIONS):
        share = (true - 0.02) / 0.78
        patients = rng.normal(true, 0.07, n) if family == "normal" else rare(rng, n, share, 0.02, 0.02)
        values = patients + rng.normal(0, 0.02, (3, 1))
        for repeats in passed:
            clean = family == "normal" or (values[:repeats].mean(0) <= 0.30).all()
            passed[repeats] += clean and leakage_interval(values[:repeats], seed=i).high <= 0.10
    assert 100 * passed[1] / REPETITIONS == pytest.approx(one, abs=2.5)
    assert 100 * passed[3] / REPETITIONS == pytest.approx(three, abs=4)


def test_c_power_of_fail_on_rare_patients():
    rng, failed = np.random.default_rng(0), {0.12: 0, 0.20: 0}
    for i in range(1000):
        for true in failed:
            values = rare(rng, 50, (true - 0.02) / 0.78, 0.02, 0.02) + rng.normal(0, 0.02, (3, 1))
            above = int((values.mean(0) > 0.30).sum())
            failed[true] += leakage_interval(values, seed=i).low > 0.10 or clopper_pearson(above, 50).low > 0.05
    assert 100 * failed[0.12] / 1000 == pytest.approx(56, abs=8)
    assert 100 * failed[0.20] / 1000 == pytest.approx(97, abs=3)


def test_d_choice_of_chance():
    rng = np.random.default_rng(0)
    found = {"attacked 10": [], "attacked 20": [], "validation": [], "best per patient": []}
    for _ in range(4000):
        # A spread of .06 on the scale of leakage; the true leakage is .100.
        for n in (10, 20):
            base = rng.normal(0, 0.06, (6, n))
            score = 0.1 + np.zeros(n)
            name = int(choose({str(k): row for k, row in enumerate(base)}).name)
            found[f"attacked {n}"].append((score - base[name]).mean())
        validation = int(choose({str(k): row for k, row in enumerate(rng.normal(0, 0.06, (6, 20)))}).name)
        found["validation"].append((score - base[validation]).mean())
        found["best per patient"].append((score - base.max(axis=0)).mean())
    means = {name: np.mean(values) for name, values in found.items()}
    assert means["attacked 10"] == pytest.approx(0.062, abs=0.016)
    assert means["attacked 20"] == pytest.approx(0.073, abs=0.012)
    assert means["validation"] == pytest.approx(0.100, abs=0.002)
    assert means["best per patient"] == pytest.approx(0.024, abs=0.01)


@pytest.mark.parametrize(("room", "low", "high"), [(0.8, 0.07, 0.13), (0.2, 0.00, 0.22), (0.1, -0.13, 0.41)])
def test_d_a_small_room_makes_leakage_meaningless(room, low, high):
    rng, keys = np.random.default_rng(0), [str(i) for i in range(30)]
    values = []
    for _ in range(4000):
        anchor = rng.normal(room, 0.08, 30)
        values.append(leakage(0.1 * room + rng.normal(0, 0.06, 30), 0.0, anchor, keys).value)
    # The simulated spread is ours; the reference shows how fast the range grows.
    assert np.quantile(values, 0.975) - np.quantile(values, 0.025) == pytest.approx(high - low, rel=0.35)


def test_f_bonferroni_over_twenty_endpoints_on_the_limit():
    rng, plain, corrected = np.random.default_rng(0), 0, 0
    for i in range(60):
        values = rng.normal(0.10, 0.08, (20, 30))
        lows = [
            any(patient_interval(v, level=level, seed=i).low > 0.10 for v in values) for level in (0.95, bonferroni_level(0.95, 20))
        ]
        plain += lows[0]
        corrected += lows[1]
    # Independent endpoints: 1 - .975^20 = 40 % expected without correction.
    assert plain >= 0.25 * 60
    assert corrected <= 0.10 * 60


@pytest.mark.parametrize(("n", "power"), [(10, 86), (30, 100)])
def test_g_evidence_shuffle_finds_a_uniform_gain(n, power):
    rng = np.random.default_rng(n)
    found = [shuffle_test(rng.normal(0, 0.06, (n, n)) + 0.06 * np.eye(n), seed=i).p <= 0.05 for i in range(400)]
    # Counting all permutations finds a little more than drawing them.
    assert 100 * np.mean(found) == pytest.approx(power, abs=9)


@pytest.mark.parametrize(("n", "false"), [(10, 15), (21, 8), (30, 8), (100, 6)])
def test_g_false_flags_of_the_patient_limit(n, false):
    rng = np.random.default_rng(n)
    flags = [patient_limit(rng.normal(0, 0.06, (n, n))).above.any() for _ in range(2000)]
    assert 100 * np.mean(flags) == pytest.approx(false, abs=5)


@pytest.mark.parametrize(("m", "hull", "grid"), [(50, 4.0, 1.2), (200, 5.6, 2.0)])
def test_h_false_claims_at_epsilon_zero(m, hull, grid):
    rng = np.random.default_rng(m)
    parts = [m // k for k in (2, 4, 8, 16, 32)]
    counts = np.zeros(2)
    for _ in range(REPETITIONS):
        scores, coins = rng.normal(size=m), rng.uniform(size=m) < 0.5
        counts += one_run_hull(scores[coins], scores[~coins]) > 0, one_run(scores, coins, guesses=parts).value > 0
    assert 100 * counts / REPETITIONS == pytest.approx(np.array([hull, grid]), abs=1.6)


@pytest.mark.parametrize(("m", "hull", "single"), [(50, 1.39, 1.26), (200, 2.55, 2.78)])
def test_h_power_of_the_bound_on_a_gaussian_shift_of_three(m, hull, single):
    rng = np.random.default_rng(m)
    found = []
    for _ in range(150):
        coins = rng.uniform(size=m) < 0.5
        scores = rng.normal(size=m) + 3 * coins
        found.append((one_run_hull(scores[coins], scores[~coins]), one_run(scores, coins, guesses=(m // 4,)).value))
    assert np.median(found, axis=0) == pytest.approx(np.array([hull, single]), abs=0.15)


@pytest.mark.parametrize(("n", "dropped", "kept"), [(20, 1.4, 49), (30, 1.3, 65), (50, 0.6, 83)])
def test_k_utility_gate(n, dropped, kept):
    rng = np.random.default_rng(n)
    passes = {0.06: 0, 0.02: 0}
    for i in range(REPETITIONS):
        noise = rng.normal(0, 0.08, n)
        for drop in passes:
            passes[drop] += difference_interval(noise - drop, np.zeros(n), seed=i, resamples=800).low >= -0.05
    assert 100 * passes[0.06] / REPETITIONS == pytest.approx(dropped, abs=1.2)
    assert 100 * passes[0.02] / REPETITIONS == pytest.approx(kept, abs=5)
