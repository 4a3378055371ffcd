"""Section "Controls": weak attackers, and permutations of the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from calibration.figures import Case, Estimate, Table, exact, share
from calibration.simulator import Array, deciding_bounds, judged, normal, t_bounds, trainings
from leakaudit.scoring.controls import NEGATIVE_LEVEL, NEGATIVE_LIMIT, negative_control, positive_control
from leakaudit.scoring.intervals import leakage_interval
from leakaudit.scoring.permutation import patient_limit, shuffle_test
from leakaudit.scoring.policy import Policy

UNDEFENDED = 0.8
"""What a perfect attacker would recover without defense; ours recovers a random share of it, the same share under the defense."""
FACTORS = {"no control": -99.0, "> 0": 0.0, "> limit": 1.0, "> 2 limits": 2.0, "> 3 limits": 3.0, "> 0.5": 5.0}
RULE = "the rule as shipped"


def weak(rng: np.random.Generator, truth: float, count: int = 3000) -> Mapping[str, Estimate]:
    """PASS over 50 patients by the criterion of the positive control; last, three trainings that differ, by the default policy."""
    skill = rng.uniform(size=count)
    one = Policy.model_validate({"min_repeats": 1})
    bare, defended = (normal(rng, (count, 1, 50), 0.0) + (skill * full)[:, None, None] for full in (UNDEFENDED, truth))
    found = dict(zip(FACTORS, _passes(defended, bare, one, list(FACTORS.values())).T, strict=True))
    patients = [normal(rng, (count, 50), 0.0) + (skill * full)[:, None] for full in (UNDEFENDED, truth)]
    bare, defended = (trainings(rng, p, 3) for p in patients)
    found[RULE] = _passes(defended, bare, Policy(), [3.0])[:, 0]
    return {name: share(hits) for name, hits in found.items()}


def _passes(defended: Array, bare: Array, policy: Policy, factors: list[float]) -> Array:
    """Return whether each audit passes with a positive control of each factor, (audits, factors)."""
    limit = policy.leakage_max.value
    low, high = deciding_bounds(defended, limit)
    found = np.zeros((len(defended), len(factors)), dtype=bool)
    for i in np.flatnonzero(high <= limit):
        interval = leakage_interval(bare[i], seed=int(i))
        for j, factor in enumerate(factors):
            positive = positive_control(float(bare[i].mean()), interval, limit, factor=factor)
            found[i, j] = judged(defended[i], float(low[i]), float(high[i]), policy, positive).status == "PASS"
    return found


WEAK = Table(
    name="weak-attackers",
    heads=("true leakage under the defense",),
    cases=tuple(
        Case(
            labels=(f"{truth:.2f}",), simulate=partial(weak, truth=truth),
            design=dict(zip((*FACTORS, RULE), (*design, rule), strict=True)),
        )
        for truth, design, rule in (
            (0.15, ("55.3", "53.2", "40.8", "28.3", "15.9", "0.2"), "<=15.9"),
            (0.30, ("27.6", "25.5", "13.1", "1.6", "0.0", "0"), "0.0"),
            (0.50, ("16.5", "14.4", "2.3", "0.0", "0", "0"), "0.0"),
        )
    ),
)  # fmt: skip

FLOOR, NULL, POWER = "smallest p-value", "p <= .05, nothing leaks", "p <= .05, all leak by 0.06"
FLAGS, DETECTED = "somebody flagged, nothing leaks", "one patient at +0.4 flagged"
CELL_SD, TRUTH_SD = 0.063, 0.05
"""Spread of the score of evidence about i against truth j: of the cell, and of the truth, which is easier or harder to match."""


def matrices(rng: np.random.Generator, count: int, n: int) -> Array:
    return rng.normal(0, CELL_SD, (count, n, n)) + rng.normal(0, TRUTH_SD, (count, 1, n))


def permutations(rng: np.random.Generator, n: int, count: int = 1000) -> Mapping[str, Estimate]:
    found = {}
    for name, shift in ((NULL, 0.0), (POWER, 0.06)):
        tests = [shuffle_test(m + shift * np.eye(n), seed=i) for i, m in enumerate(matrices(rng, count, n))]
        found[name] = share([test.p <= 0.05 for test in tests])
    return {FLOOR: exact(tests[0].floor), **found}


PERMUTATIONS = Table(
    name="permutations",
    heads=("n",),
    cases=tuple(
        Case(labels=(str(n),), design={FLOOR: floor, NULL: null, POWER: power}, simulate=partial(permutations, n=n))
        for n, floor, null, power in (
            (2, "0.5", "0", "0"), (3, "0.167", "0", "0"), (4, "0.042", "<=5", ""), (5, "0.008", "<=5", "53"),
            (10, "0.000", "<=5", "86"), (30, "0.000", "<=5", "100"),
        )
    ),
)  # fmt: skip


def limits(rng: np.random.Generator, n: int, count: int = 3000) -> Mapping[str, Estimate]:
    flags, detected = [], []
    for matrix in matrices(rng, count, n):
        flags.append(patient_limit(matrix).above.any())
        matrix[0, 0] += 0.4
        detected.append(patient_limit(matrix).above[0])
    return {FLAGS: share(flags), DETECTED: share(detected)}


LIMITS = Table(
    name="patient-limit",
    heads=("n",),
    cases=tuple(
        Case(labels=(str(n),), design={FLAGS: flags, DETECTED: ">=95"}, simulate=partial(limits, n=n))
        for n, flags in ((10, "15"), (21, "8"), (30, "8"), (100, "6"))
    ),
)

SHIPPED_NEGATIVE, PATIENTS_ONLY = "ERROR, as shipped", "ERROR, by an interval over patients alone"


def shuffled(rng: np.random.Generator, true: float, repeats: int, count: int) -> Mapping[str, Estimate]:
    """The control on shuffled messages at level .999, over 50 patients."""
    values = trainings(rng, normal(rng, (count, 50), true), repeats)
    # These intervals are dear and the share is near 0 or 100 %: fewer audits suffice.
    together = values[: 150 if true else count].mean(axis=1, keepdims=True)
    return {SHIPPED_NEGATIVE: share(_errors(values)), PATIENTS_ONLY: share(_errors(together))}


def _errors(values: Array) -> np.ndarray:
    wrong = np.zeros(len(values), dtype=bool)
    for i in np.flatnonzero(t_bounds(values, NEGATIVE_LEVEL)[0] > NEGATIVE_LIMIT):
        interval = leakage_interval(values[i], level=NEGATIVE_LEVEL, seed=int(i))
        wrong[i] = not negative_control(float(values[i].mean()), interval).passed
    return wrong


SHUFFLED = Table(
    name="shuffled-messages",
    heads=("leakage that the audit itself makes", "trainings"),
    cases=tuple(
        Case(
            labels=(f"{true:.2f}", str(repeats)), design={SHIPPED_NEGATIVE: design, PATIENTS_ONLY: design},
            simulate=partial(shuffled, true=true, repeats=repeats, count=count),
        )
        for true, repeats, count, design in (
            (0.00, 1, 2000, "0.0"), (0.00, 3, 2000, "0.0"), (0.10, 1, 150, ""), (0.10, 3, 1000, ""), (0.10, 5, 600, ""),
            (0.20, 3, 1000, ""), (0.20, 5, 150, ""),
        )
    ),
)  # fmt: skip

TABLES = (WEAK, PERMUTATIONS, LIMITS, SHUFFLED)
