from __future__ import annotations

import math

import numpy as np
import pytest

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.controls import derange, negative_control, positive_control, rho
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.permutation import patient_limit, shuffle_test


def test_positive_control_needs_three_times_the_limit_at_the_lower_bound():
    assert positive_control(0.5, Interval(0.30, 0.7, "x"), 0.10).passed
    result = positive_control(0.5, Interval(0.29, 0.7, "x"), 0.10)
    assert not result.passed
    assert "3 x 0.1" in result.criterion
    assert positive_control(0.5, Interval(0.29, 0.7, "x"), 0.10, factor=2, kind="planted").passed


@pytest.mark.parametrize(
    ("low", "high", "passed"),
    [(0.3, 0.9, True), (0.29, 0.9, None), (0.0, 0.31, None), (0.11, 0.29, None), (0.1, 0.29, False), (-0.1, 0.05, False)],
)
def test_a_planted_control_that_fails_must_be_shown_to(low: float, high: float, passed: bool | None) -> None:
    control = positive_control((low + high) / 2, Interval(low, high, "x"), 0.1, kind="planted")
    assert control.passed is passed
    assert positive_control(0.2, Interval(low, high, "x"), 0.1).passed is (low >= 0.3)


def test_three_times_the_limit_stops_weak_attackers():
    rng = np.random.default_rng(0)
    passes = dict.fromkeys((0, 1, 3), 0)
    for strength in rng.uniform(size=2000):
        defended, undefended = strength * 0.3, strength * 0.8
        if defended + 0.03 <= 0.10:
            for factor in passes:
                control = positive_control(undefended, Interval(undefended - 0.03, undefended + 0.03, "x"), 0.10, factor=factor)
                passes[factor] += control.passed
    assert passes[0] > 300
    assert passes[0] > passes[1] > 0
    assert passes[3] == 0


def test_rho():
    assert rho(0.08, 0.4) == pytest.approx(0.2)
    assert rho(0.08, 0.0) is None


def test_negative_control():
    assert negative_control(0.0, Interval(-0.1, 0.1, "x", 0.999)).passed
    assert not negative_control(0.2, Interval(0.06, 0.3, "x", 0.999)).passed
    with pytest.raises(EvidenceError, match=r"0\.999"):
        negative_control(0.0, Interval(-0.1, 0.1, "x", 0.95))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_patients_are_permuted_exactly_and_the_floor_is_one_over_n_factorial(n):
    result = shuffle_test(np.eye(n), seed=0)
    assert result.exact
    assert result.p == pytest.approx(1 / math.factorial(n))
    assert result.floor == pytest.approx(1 / math.factorial(n))
    assert result.possible == (n > 3)


def test_many_patients_are_permuted_by_chance():
    rng = np.random.default_rng(0)
    result = shuffle_test(np.eye(30) + rng.normal(0, 0.1, (30, 30)), seed=0)
    assert result.p == 1 / 1000
    assert not result.exact
    assert result == shuffle_test(np.eye(30) + np.random.default_rng(0).normal(0, 0.1, (30, 30)), seed=0)
    null = [shuffle_test(rng.normal(size=(12, 12)), seed=i).p for i in range(200)]
    assert np.mean(np.array(null) <= 0.05) <= 0.10
    assert 0.4 < np.mean(null) < 0.6


def test_ties_do_not_look_like_evidence():
    assert shuffle_test(np.full((20, 20), 0.1), seed=0).p == 1
    assert shuffle_test(np.full((4, 4), 0.1), seed=0).p == 1


def test_groups_lift_the_floor_and_stay_apart():
    sites = ["a", "a", "b", "b", "c", "c"]
    result = shuffle_test(np.eye(6), seed=0, groups=sites)
    assert result.p == result.floor == 1 / 8
    assert not result.possible
    # A score that knows only the site says nothing within sites.
    site_only = np.array([[float(a == b) for b in sites * 3] for a in sites * 3])
    assert shuffle_test(site_only, seed=0, groups=sites * 3).p == 1
    assert shuffle_test(site_only, seed=0).p < 0.01


def test_shuffle_test_refuses_misfits():
    for matrix, kwargs in ((np.zeros((2, 3)), {}), (np.eye(9), {"permutations_drawn": 99}), (np.eye(3), {"groups": ["a"]})):
        with pytest.raises(EvidenceError):
            shuffle_test(matrix, seed=0, **kwargs)


def test_patient_limit_flags_the_leaked_patient():
    rng = np.random.default_rng(0)
    flagged, false = 0, 0
    for _ in range(200):
        matrix = rng.normal(0, 0.06, (30, 30))
        matrix[3, 3] += 0.4
        above = patient_limit(matrix).above
        flagged += above[3]
        false += np.delete(above, 3).any()
    assert flagged >= 0.95 * 200
    assert false <= 0.15 * 200
    with pytest.raises(EvidenceError):
        patient_limit(np.zeros((1, 1)))


def cohort(rng):
    patients, sites, positions = [], [], []
    for i in range(11):
        for z in range(rng.integers(1, 5)):
            patients.append(f"p{i}")
            sites.append("ab"[i % 2] if i < 10 else "lonely")
            positions.append(10 * z)
    return patients, sites, positions


def test_whole_patients_are_deranged_within_their_site():
    patients, sites, positions = cohort(np.random.default_rng(0))
    source = derange(patients, sites, 0, positions)
    partners = {}
    for index, other in enumerate(source):
        partners.setdefault(patients[index], set()).add(patients[other])
    assert all(len(partner) == 1 and patient not in partner for patient, partner in partners.items())
    assert len({next(iter(p)) for p in partners.values()}) == 11
    for index, other in enumerate(source):
        available = [positions[j] for j in range(len(patients)) if patients[j] == patients[other]]
        assert abs(positions[other] - positions[index]) == min(abs(z - positions[index]) for z in available)
    across = {patients[i] for i, j in enumerate(source) if sites[i] != sites[j]}
    # Only the patient who is alone in its site, and the one exchanged with it, cross sites.
    assert "p10" in across
    assert len(across) == 2


def test_derangement_depends_on_keys_and_seed_only():
    rng = np.random.default_rng(0)
    patients, sites, positions = cohort(rng)
    order = rng.permutation(len(patients))
    first = derange(patients, sites, 5, positions)
    again = derange([patients[i] for i in order], [sites[i] for i in order], 5, [positions[i] for i in order])
    assert {(patients[i], positions[i]): patients[j] for i, j in enumerate(first)} == {
        (patients[order[i]], positions[order[i]]): patients[order[j]] for i, j in enumerate(again)
    }
    assert not np.array_equal(first, derange(patients, sites, 6, positions))


def test_derangement_without_positions_keeps_the_order_within_patients():
    source = derange(["a", "a", "b", "b"], ["s"] * 4, 0)
    assert source.tolist() == [2, 3, 0, 1]
    with pytest.raises(EvidenceError, match="only one patient"):
        derange(["a", "a"], ["s", "s"], 0)
    with pytest.raises(EvidenceError, match="one entry per sample"):
        derange(["a", "b"], ["s"], 0)
