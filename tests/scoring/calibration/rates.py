"""Section "Rates": how many patients re-identification and canaries need."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from scipy import stats

from calibration.figures import Case, Estimate, Table, exact, share
from calibration.simulator import deciding_bounds, t_bounds
from leakaudit.scoring.canary import CANARY_CHANCE, bit_accuracy
from leakaudit.scoring.rates import clopper_pearson, normalized

LIMIT = 0.10
GALLERY = 100
MOST, FALSE, POWER = "most hits to stay below 0.10", "below at a true rate of 11 %", "below at a true rate of 1 % (blind)"


def identity(_: np.random.Generator, n: int) -> Mapping[str, Estimate]:
    """First ranks among 100; exact, because hits are binomial."""
    below = [normalized(clopper_pearson(k, n), 1 / GALLERY).high <= LIMIT for k in range(n + 1)]
    most = sum(below) - 1
    found = {rate: 100 * stats.binom.cdf(most, n, rate) if most >= 0 else 0.0 for rate in (0.11, 0.01)}
    return {MOST: exact(most), FALSE: exact(found[0.11]), POWER: exact(found[0.01])}


IDENTITY = Table(
    name="identity",
    heads=("n",),
    cases=tuple(
        Case(labels=(str(n),), design={MOST: most, FALSE: false, POWER: power}, simulate=partial(identity, n=n))
        for n, most, false, power in (
            (30, "-1", "0.0", "0"), (36, "0", "1.5", "70"), (50, "1", "2.1", "91"), (100, "4", "1.1", "99.7"),
            (200, "13", "2.2", "100"),
        )
    ),
)  # fmt: skip

ALONE, RULE = "below by Student's t alone, nothing leaks", "below by the rule, nothing leaks"
LEAKING = "below by the rule, true leakage 0.12"


def canary(rng: np.random.Generator, n: int, count: int = 3000) -> Mapping[str, Estimate]:
    """Canaries of 32 bits, one for each patient."""
    found = {}
    for accuracy in (0.5, 0.56):
        truth = rng.uniform(size=(count * n, 32)) < 0.5
        decoded = np.where(rng.uniform(size=truth.shape) < accuracy, truth, ~truth)
        read = bit_accuracy(decoded, truth).reshape(count, 1, n)
        found[accuracy] = (read - CANARY_CHANCE) / (1 - CANARY_CHANCE)
    highs = {accuracy: deciding_bounds(values, LIMIT)[1] for accuracy, values in found.items()}
    alone = t_bounds(found[0.5])[1]
    return {ALONE: share(alone <= LIMIT), RULE: share(highs[0.5] <= LIMIT), LEAKING: share(highs[0.56] <= LIMIT)}


CANARY = Table(
    name="canary",
    heads=("n",),
    cases=tuple(
        Case(labels=(str(n),), design={ALONE: design, RULE: "", LEAKING: "<=1.5"}, simulate=partial(canary, n=n))
        for n, design in ((5, "16"), (10, "36"), (30, "85"), (50, "98"))
    ),
)

TABLES = (IDENTITY, CANARY)
