"""Section "Epsilon": false claims, power and ceilings of the empirical lower bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from scipy import optimize, special

from calibration.figures import Case, Estimate, Table, exact, middle, share
from calibration.simulator import Array
from leakaudit.scoring.epsilon import (
    default_guesses,
    leakage_of_epsilon,
    one_run,
    one_run_ceiling,
    one_run_p_value,
    two_sample_split,
)  # fmt: skip
from leakaudit.scoring.families import gdp_epsilon, hull, one_run_hull, two_sample_hull

REPETITIONS = {0.0: 4000, 1.0: 400}
"""Behind the design figures of false claims: by the errors stated, and because all of them are multiples of 1 / 400."""
PARTS = (2, 4, 8, 16, 32)

Draw = Callable[[np.random.Generator, int], tuple[Array, np.ndarray]]


def coins(rng: np.random.Generator, m: int) -> np.ndarray:
    return rng.uniform(size=m) < 0.5


def nothing(rng: np.random.Generator, m: int) -> tuple[Array, np.ndarray]:
    return rng.normal(size=m), coins(rng, m)


def response(rng: np.random.Generator, m: int, epsilon: float) -> tuple[Array, np.ndarray]:
    """Randomized response; the attacker breaks ties by noise of its own."""
    tossed = coins(rng, m)
    seen = np.where(rng.uniform(size=m) < special.expit(epsilon), tossed, ~tossed)
    return seen + 0.1 * rng.uniform(size=m), tossed


def gaussian(rng: np.random.Generator, m: int, shift: float) -> tuple[Array, np.ndarray]:
    tossed = coins(rng, m)
    return rng.normal(size=m) + shift * tossed, tossed


UNCORRECTED, HULL, GRID, SINGLE = "hull, uncorrected", "hull, Bonferroni", "five r, Bonferroni", "one r = m/4"


def claims(scores: Array, tossed: np.ndarray, epsilon: float) -> tuple[bool, bool, bool, bool]:
    """Return whether more than `epsilon` is claimed by each way to choose the number of guesses r."""
    m = len(scores)
    tp, fp = hull(scores[tossed], scores[~tossed])
    p = min(one_run_p_value(epsilon, int(v), int(v + f), m) for v, f in zip(tp, fp, strict=True))
    grid, single = ([m // part for part in parts] for parts in (PARTS, (4,)))
    return (
        p < 0.05, p < 0.05 / len(tp), one_run(scores, tossed, guesses=grid).value > epsilon,
        one_run(scores, tossed, guesses=single).value > epsilon,
    )  # fmt: skip


def false_claims(rng: np.random.Generator, draw: Draw, m: int, epsilon: float, count: int) -> Mapping[str, Estimate]:
    found = np.array([claims(*draw(rng, m), epsilon) for _ in range(count)])
    return dict(zip((UNCORRECTED, HULL, GRID, SINGLE), (share(column) for column in found.T), strict=True))


FALSE_CLAIMS = Table(
    name="false-claims",
    heads=("mechanism", "canaries"),
    cases=tuple(
        Case(
            labels=(name, str(m)), repetitions=REPETITIONS[epsilon],
            design=dict(zip((UNCORRECTED, HULL, GRID, SINGLE), design, strict=True)),
            simulate=partial(
                false_claims, draw=nothing if not epsilon else partial(response, epsilon=epsilon), m=m, epsilon=epsilon, count=count
            ),
        )
        for name, epsilon, m, count, design in (
            ("epsilon 0", 0.0, 50, 4000, ("16.0", "4.0", "1.2", "<=5")),
            ("epsilon 0", 0.0, 100, 4000, ("20.4", "4.5", "1.7", "<=5")),
            ("epsilon 0", 0.0, 200, 3000, ("24.9", "5.6", "2.0", "<=5")),
            ("epsilon 0", 0.0, 500, 2000, ("29.6", "6.5", "2.9", "<=5")),
            ("epsilon 0", 0.0, 1000, 1000, ("34.9", "7.2", "3.3", "<=5")),
            ("randomized response, epsilon 1", 1.0, 50, 4000, ("10.5", "1.5", "0.5", "2.0")),
            ("randomized response, epsilon 1", 1.0, 200, 3000, ("14.2", "2.8", "1.8", "1.8")),
        )
    ),
)  # fmt: skip

FALSE = "false bound, %"


def shift_of(epsilon: float, delta: float) -> float:
    """Return the shift of a Gaussian mechanism that is exactly (epsilon, delta)-DP."""
    return float(optimize.brentq(lambda mu: gdp_epsilon(mu, delta) - epsilon, 0.01, 10.0))


def coverage(rng: np.random.Generator, mechanism: str, epsilon: float, m: int, count: int = 400) -> Mapping[str, Estimate]:
    """The shipped number of guesses: one r below 500 canaries, five with Bonferroni from there on."""
    delta = 1e-3 if mechanism == "Gaussian" else 0.0
    shift = shift_of(epsilon, delta) if mechanism == "Gaussian" and epsilon else 0.0
    draw = partial(gaussian, shift=shift) if mechanism == "Gaussian" else partial(response, epsilon=epsilon)
    return {FALSE: share([one_run(*draw(rng, m), delta=delta).value > epsilon for _ in range(count)])}


COVERAGE = Table(
    name="epsilon-coverage",
    heads=("mechanism", "true epsilon", "canaries"),
    cases=tuple(
        Case(
            labels=(mechanism, f"{epsilon:g}", str(m)), design={FALSE: "<=5"},
            simulate=partial(coverage, mechanism=mechanism, epsilon=epsilon, m=m),
        )
        for mechanism in ("randomized response", "Gaussian") for epsilon in (0.0, 0.5, 1.0, 2.0, 4.0) for m in (50, 200, 1000)
    ),
)  # fmt: skip


def power(rng: np.random.Generator, m: int, count: int = 300) -> Mapping[str, Estimate]:
    """Median bound at a Gaussian shift of 3, delta 0."""
    found = []
    for _ in range(count):
        scores, tossed = gaussian(rng, m, 3.0)
        grid = one_run(scores, tossed, guesses=[m // part for part in PARTS]).value
        single = one_run(scores, tossed, guesses=default_guesses(m)).value
        found.append((one_run_hull(scores[tossed], scores[~tossed]), grid, single))
    return dict(zip((HULL, GRID, SINGLE), (middle(column) for column in np.array(found).T), strict=True))


POWER = Table(
    name="epsilon-power",
    heads=("canaries",),
    cases=tuple(
        Case(labels=(str(m),), design=dict(zip((HULL, GRID, SINGLE), design, strict=True)), simulate=partial(power, m=m))
        for m, design in ((50, ("1.39", "0.87", "1.26")), (200, ("2.55", "2.34", "2.78")))
    ),
)

ALL, HALF, QUARTER = "all guessed", "top half guessed", "top quarter guessed (the rule)"


def ceilings(_: np.random.Generator, m: int) -> Mapping[str, Estimate]:
    guessed = ((ALL, None), (HALF, m // 2), (QUARTER, default_guesses(m)[0]))
    return {name: exact(one_run_ceiling(m, guesses=r)) for name, r in guessed}


CEILINGS = Table(
    name="ceilings",
    heads=("canaries",),
    cases=tuple(
        Case(labels=(str(m),), design={ALL: every, HALF: half, QUARTER: ""}, simulate=partial(ceilings, m=m))
        for m, every, half in (
            (10, "1.05", "0.20"), (20, "1.82", "1.05"), (30, "2.25", "1.51"), (50, "2.78", "2.06"), (100, "3.49", "2.78"),
            (200, "4.19", "3.49"), (300, "4.60", "3.90"),
        )
    ),
)  # fmt: skip

TWO_HULL, SPLIT = "hull, Bonferroni", "threshold from the other half"


def two_sample(rng: np.random.Generator, runs: int, count: int = 1000) -> Mapping[str, Estimate]:
    scores = rng.normal(size=(count, 2, runs))
    half = runs // 2
    return {
        TWO_HULL: share([two_sample_hull(x, y) > 0 for x, y in scores]),
        SPLIT: share([two_sample_split((x[:half], y[:half]), (x[half:], y[half:])) > 0 for x, y in scores]),
    }


TWO_SAMPLE = Table(
    name="two-sample",
    heads=("runs on each side",),
    cases=tuple(
        Case(labels=(str(runs),), design={TWO_HULL: "0.0", SPLIT: "0.0"}, simulate=partial(two_sample, runs=runs))
        for runs in (20, 50, 200)
    ),
)


def as_leakage(_: np.random.Generator, epsilon: float) -> Mapping[str, Estimate]:
    return {"tanh(epsilon / 2)": exact(leakage_of_epsilon(epsilon))}


LEAKAGE = Table(
    name="epsilon-leakage",
    heads=("epsilon",),
    cases=tuple(
        Case(labels=(f"{e:g}",), design={"tanh(epsilon / 2)": value}, simulate=partial(as_leakage, epsilon=e))
        for e, value in ((0.2, "0.10"), (1.0, "0.46"), (2.0, "0.76"), (4.0, "0.96"))
    ),
)

TABLES = (FALSE_CLAIMS, COVERAGE, POWER, CEILINGS, TWO_SAMPLE, LEAKAGE)
