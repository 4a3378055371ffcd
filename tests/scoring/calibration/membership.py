"""Section "Membership": areas under the curve, their intervals, and how many patients they need."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from scipy import stats

from calibration.figures import Case, Estimate, Table, average, exact, share, spread
from calibration.simulator import Array
from leakaudit.scoring.membership import auc, stratified_auc
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc, normalized, patients_for_auc

COUNT = 2000


def areas(rng: np.random.Generator, true: float, n: int, count: int = COUNT) -> Array:
    """Return areas of normal scores with `n` members and as many others."""
    shift = np.sqrt(2) * stats.norm.ppf(true)
    return np.array([auc(rng.normal(shift, 1, n), rng.normal(0, 1, n)) for _ in range(count)])


def bounds(values: Array, n: int) -> tuple[Array, Array]:
    """Return Newcombe's bounds of 2 AUC - 1; an area takes few values, so each is computed once."""
    known, at = np.unique(values, return_inverse=True)
    found = [normalized(newcombe_auc(float(a), n, n), 0.5) for a in known]
    return np.array([i.low for i in found])[at], np.array([i.high for i in found])[at]


WIDTH, SMALLEST = "± of 2 AUC - 1, nothing leaks", "smallest significant AUC"
AT_6, AT_7 = "power at AUC .6, %", "power at AUC .7, %"
FPR = "FPR upper bound at 0 false positives"


def size(rng: np.random.Generator, n: int) -> Mapping[str, Estimate]:
    possible = np.arange(-(-(n**2) // 2), n**2 + 1) / n**2
    grid = possible[:: max(1, len(possible) // 500)]
    significant = grid[bounds(grid, n)[0] > 0]
    return {
        WIDTH: spread(2 * areas(rng, 0.5, n) - 1, 1.96),
        SMALLEST: exact(significant.min()),
        AT_6: share(bounds(areas(rng, 0.6, n), n)[0] > 0),
        AT_7: share(bounds(areas(rng, 0.7, n), n)[0] > 0),
        FPR: exact(clopper_pearson(0, n, 0.9).high),
    }


SIZES = Table(
    name="membership-sizes",
    heads=("n a side",),
    cases=tuple(
        Case(
            labels=(str(n),), design=dict(zip((WIDTH, SMALLEST, AT_6, AT_7, FPR), design, strict=True)),
            simulate=partial(size, n=n),
        )
        for n, design in (
            (5, ("0.75", "0.88", "8", "19", "0.45")), (10, ("0.52", "0.76", "11", "33", "0.26")),
            (20, ("0.36", "0.68", "19", "61", "0.14")), (50, ("0.23", "0.61", "42", "95", "0.058")),
            (100, ("0.16", "0.58", "70", "100", "0.030")), (200, ("0.11", "0.56", "94", "100", "0.015")),
            (400, ("0.08", "0.54", "100", "100", "0.007")),
        )
    ),
)  # fmt: skip


def coverage(rng: np.random.Generator, true: float, n: int) -> Mapping[str, Estimate]:
    low, high = bounds(areas(rng, true, n), n)
    return {"Newcombe covers": share((low <= 2 * true - 1) & (high >= 2 * true - 1))}


COVERAGE = Table(
    name="newcombe",
    heads=("true AUC", "n a side"),
    cases=tuple(
        Case(labels=(f"{true:g}", str(n)), design={"Newcombe covers": design}, simulate=partial(coverage, true=true, n=n))
        for true, n, design in (
            (0.9, 5, "94"), (0.9, 10, "97"), (0.9, 20, "97"), (0.9, 50, "96"), (0.5, 5, ">=94"), (0.5, 10, ">=94"),
            (0.5, 20, ">=94"), (0.5, 50, ">=94"),
        )
    ),
)  # fmt: skip

NEEDED, POWER, FALSE = "n a side that `plan` asks for", "PASS at AUC .5, %", "PASS exactly at the limit, %"


def needed(rng: np.random.Generator, limit: float) -> Mapping[str, Estimate]:
    n = patients_for_auc(limit)
    below = [share(bounds(areas(rng, true, n), n)[1] <= limit) for true in (0.5, (1 + limit) / 2)]
    return {NEEDED: exact(n), POWER: below[0], FALSE: below[1]}


PLANNED = Table(
    name="membership-plan",
    heads=("limit",),
    cases=tuple(
        Case(labels=(f"{limit:g}",), design={NEEDED: n, POWER: "80", FALSE: "<=2.5"}, simulate=partial(needed, limit=limit))
        for limit, n in ((0.1, "524"), (0.2, ">=131"), (0.3, "59"))
    ),
)

POOLED, WITHIN = "pooled AUC", "AUC within sites (the rule)"


def sites(rng: np.random.Generator, count: int = 300) -> Mapping[str, Estimate]:
    """Members 70 and 30 from two sites, others 40 and 60; the score knows the site and nothing else."""
    site = np.repeat(["a", "b", "a", "b"], [70, 30, 40, 60])
    member = np.arange(200) < 100
    pooled, within = [], []
    for _ in range(count):
        score = (site == "a") + rng.normal(0, 0.05, 200)
        pooled.append(auc(score[member], score[~member]))
        within.append(stratified_auc(score, member, list(site)).value)
    return {POOLED: average(pooled), WITHIN: average(within)}


SITES = Table(
    name="sites",
    heads=("score",),
    cases=(Case(labels=("the site only",), design={POOLED: "0.651", WITHIN: "0.503"}, simulate=sites, repetitions=1),),
)

TABLES = (SIZES, COVERAGE, PLANNED, SITES)
