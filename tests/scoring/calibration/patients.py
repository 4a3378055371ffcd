"""Section "Patients": the interval of a mean over patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from calibration.figures import Case, Estimate, Table, average, exact, share
from calibration.simulator import Array, bootstrap_t, covered, percentile_high, t_bounds
from leakaudit.scoring.rates import tail_bound

COUNT = 4000


def few(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A tenth of the patients is almost fully recovered."""
    return np.where(rng.uniform(size=shape) < 0.1, rng.uniform(0.6, 1.0, shape), rng.normal(0, 0.03, shape))


FAMILIES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, ...]], Array], float]] = {
    "normal": (lambda rng, shape: rng.normal(0, 1, shape), 0.0),
    "exponential": (lambda rng, shape: rng.exponential(1, shape), 1.0),
    "lognormal": (lambda rng, shape: rng.lognormal(0, 1, shape), float(np.exp(0.5))),
    "rare": (few, 0.08),
    "left-skewed": (lambda rng, shape: rng.beta(6, 1.5, shape), 0.8),
}

# Coverage (and upper miss) of percentile, t and bootstrap-t; upper miss of the union.
DESIGN = {
    ("normal", 5): ("84.2", "94.9", "95.1", ""), ("normal", 10): ("89.7", "95.0", "94.9", ""),
    ("normal", 20): ("92.3", "94.4", "94.3", ""), ("normal", 50): ("94.4", "95.0", "94.9", ""),
    ("exponential", 5): ("77.5", "87.9", "92.6", ""), ("exponential", 10): ("85.3", "90.0", "93.9", "4.3"),
    ("exponential", 20): ("90.8", "92.2", "95.0", "4.4"), ("exponential", 30): ("", "", "", "3.0"),
    ("exponential", 50): ("92.7", "93.3", "94.6", "3.0"),
    ("lognormal", 5): ("72.5", "82.5", "89.4", ""), ("lognormal", 10): ("79.8", "83.7", "91.0", "8.8"),
    ("lognormal", 20): ("85.4", "86.4", "92.0", "7.0"), ("lognormal", 30): ("", "", "", "5.9"),
    ("lognormal", 50): ("89.4", "89.7", "92.5", "5.4"),
    ("rare", 5): ("41.5", "43.1", "52.2", ""), ("rare", 10): ("64.8", "65.4", "65.4", "33.7"),
    ("rare", 20): ("86.7", "87.1", "86.5", "12.1"), ("rare", 30): ("", "", "", "4.0"),
    ("rare", 50): ("92.4", "91.0", "97.6", "0.8"),
    ("left-skewed", 5): ("", "", "94.0", ""), ("left-skewed", 10): ("", "", "95.2", ""),
    ("left-skewed", 20): ("", "", "95.4", ""), ("left-skewed", 50): ("", "", "95.0", ""),
}  # fmt: skip
QUANTITIES = ("percentile bootstrap covers", "t covers", "bootstrap-t covers", "the rule misses above")


def coverage(rng: np.random.Generator, family: str, n: int) -> Mapping[str, Estimate]:
    draw, truth = FAMILIES[family]
    values = draw(rng, (COUNT, n))
    centered = values - values.mean(axis=1, keepdims=True)
    mean = values.mean(axis=1)
    low, high = mean - percentile_high(rng, -centered), mean + percentile_high(rng, centered)
    found = [share((low <= truth) & (truth <= high))]
    for low, high in (t_bounds(values[:, None]), bootstrap_t(rng, values)):
        found.append(share((low <= truth) & (truth <= high)))
    holds, below = covered(values[:, None], truth)
    return dict(zip((*QUANTITIES, "the rule covers"), (*found, share(below), share(holds)), strict=True))


INTERVALS = Table(
    name="patients",
    heads=("patients' leakage", "n"),
    cases=tuple(
        Case(
            labels=(family, str(n)), design=dict(zip((*QUANTITIES, "the rule covers"), (*row, ""), strict=True)),
            simulate=partial(coverage, family=family, n=n),
        )
        for (family, n), row in DESIGN.items()
    ),
)  # fmt: skip


def slices(rng: np.random.Generator, alike: float, n: int) -> Mapping[str, Estimate]:
    """Ten slices of each patient; `alike` is the share of the variance that belongs to the patient."""
    own = rng.normal(0, np.sqrt(1 - alike), (COUNT, n, 10))
    values = rng.normal(0, np.sqrt(alike), (COUNT, n, 1)) + own
    apart, together = t_bounds(values.reshape(COUNT, 1, -1)), covered(values.mean(axis=2)[:, None], 0.0)[0]
    return {"slices as units cover": share((apart[0] <= 0) & (apart[1] >= 0)), "patients as units cover": share(together)}


UNITS = Table(
    name="units",
    heads=("variance between patients", "n"),
    cases=tuple(
        Case(
            labels=(f"{alike:.0%}".replace("%", " %"), str(n)),
            design={"slices as units cover": slice_cover, "patients as units cover": ">=94.7"},
            simulate=partial(slices, alike=alike, n=n),
        )
        for alike, n, slice_cover in (
            (0.5, 10, ">=56"), (0.5, 50, "<=59"), (0.8, 10, "<=50"), (0.8, 50, ">=45"),
        )
    ),
)  # fmt: skip


def worst(rng: np.random.Generator, n: int) -> Mapping[str, Estimate]:
    return {
        "mean of the worst value, nothing leaks": average(rng.normal(0, 0.06, (COUNT, n)).max(axis=1)),
        "patients that may be worse, %": exact(100 * tail_bound(n)),
    }


WORST = Table(
    name="worst",
    heads=("n",),
    cases=tuple(
        Case(
            labels=(str(n),), simulate=partial(worst, n=n),
            design={"mean of the worst value, nothing leaks": mean, "patients that may be worse, %": q},
        )
        for n, mean, q in ((5, "0.07", "45"), (10, "", "26"), (20, "0.11", "13.9"), (30, "", "9.5"), (50, "0.13", "5.8"),
                           (59, "", "5.0"), (200, "0.17", "1.5"))
    ),
)  # fmt: skip

TABLES = (INTERVALS, UNITS, WORST)
