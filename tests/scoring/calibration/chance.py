"""Section "Chance": how the choice of chance, clipping and small room bend leakage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from calibration.figures import Case, Estimate, Table, average, middle, share, spread
from leakaudit.scoring.chance import choose
from leakaudit.scoring.leakage import leakage

COUNT = 1500
TRUE = 0.10
ROOM = 0.59
"""Mean of A - C. It was not written down; at .6 and at .58 the figures of the best guess per patient lie off by 3 errors."""
GUESS_SD = 0.06
"""Spread over patients of the score of each of several equally good blind guesses."""

LEAKAGE = "mean leakage, true 0.100"


def scores(rng: np.random.Generator, guesses: int, n: int) -> dict[str, np.ndarray]:
    return {str(k): row for k, row in enumerate(rng.normal(1 - ROOM, GUESS_SD, (guesses, n)))}


def choice(rng: np.random.Generator, rule: str, guesses: int, n: int) -> Mapping[str, Estimate]:
    """The evidence always scores a tenth of the room above the true mean of the guesses."""
    keys, score, found = [str(i) for i in range(n)], np.full(n, 1 - ROOM + TRUE * ROOM), []
    for _ in range(COUNT):
        attacked = scores(rng, guesses, n)
        if rule == "best of each patient":
            chance = np.max(list(attacked.values()), axis=0)
        else:
            chance = attacked[choose(attacked if rule == "attacked patients" else scores(rng, guesses, 20)).name]
        found.append(leakage(score, chance, 1.0, keys).value)
    return {LEAKAGE: average(found)}


CHOICE = Table(
    name="choice",
    heads=("chance chosen on", "blind guesses", "n"),
    cases=tuple(
        Case(
            labels=(rule, str(guesses), str(n)), design={LEAKAGE: design},
            simulate=partial(choice, rule=rule, guesses=guesses, n=n),
        )
        for rule, guesses, n, design in (
            ("attacked patients", 6, 10, "0.062"), ("attacked patients", 6, 20, "0.073"), ("attacked patients", 6, 50, "0.083"),
            ("best of each patient", 3, 20, "0.015"), ("best of each patient", 6, 20, "-0.033"),
            ("20 validation patients", 6, 10, "0.100"), ("20 validation patients", 6, 50, "0.100"),
        )
    ),
)  # fmt: skip

RATIO, MEAN = "sd of the ratio of means (the rule)", "sd of the mean of ratios"


def ratios(rng: np.random.Generator, n: int) -> Mapping[str, Estimate]:
    """A room that differs much between patients."""
    room = rng.uniform(0.1, 0.95, (COUNT, n))
    gain = TRUE * room + rng.normal(0, 0.06, (COUNT, n))
    keys = [str(i) for i in range(n)]
    rule = [leakage(g, 0.0, r, keys).value for g, r in zip(gain, room, strict=True)]
    return {RATIO: spread(rule), MEAN: spread((gain / room).mean(axis=1))}


RATIOS = Table(
    name="ratios",
    heads=("n",),
    cases=tuple(
        Case(labels=(str(n),), design={RATIO: rule, MEAN: other}, simulate=partial(ratios, n=n))
        for n, rule, other in ((20, "0.026", "0.043"), (50, "0.016", "0.027"))
    ),
)

CLIPPED, UNCLIPPED = "mean of clipped values", "mean leakage (the rule)"


def clipping(rng: np.random.Generator) -> Mapping[str, Estimate]:
    keys = [str(i) for i in range(30)]
    found = [leakage(rng.normal(0, 0.08, 30), 0.0, 1.0, keys) for _ in range(COUNT)]
    clipped = [np.maximum(f.per_patient, 0).mean() for f in found]
    return {CLIPPED: average(clipped), UNCLIPPED: average([f.value for f in found])}


CLIPPING = Table(
    name="clipping",
    heads=("true leakage",),
    cases=(Case(labels=("0",), design={CLIPPED: "0.032", UNCLIPPED: "0.000"}, simulate=clipping),),
)

LOW, HIGH, REFUSED = "2.5 % of values lie below", "2.5 % lie above", "refused as unresolvable, %"


def room(rng: np.random.Generator, mean: float) -> Mapping[str, Estimate]:
    """The scores of full recovery are estimated too, independently of the evidence."""
    keys, values, resolved = [str(i) for i in range(30)], [], []
    for _ in range(4 * COUNT):
        found = leakage(TRUE * mean + rng.normal(0, 0.06, 30), 0.0, rng.normal(mean, 0.15, 30), keys)
        # As it would be if it were not refused; where the room itself comes out negative, the rule has no value at all.
        values.append(found.gain.sum() / found.room.sum())
        resolved.append(found.resolvable)
    return {LOW: middle(values, 0.025), HIGH: middle(values, 0.975), REFUSED: share(~np.array(resolved))}


SMALL_ROOM = Table(
    name="room",
    heads=("true A - C",),
    cases=tuple(
        Case(labels=(f"{mean:g}",), design={LOW: low, HIGH: high, REFUSED: ""}, simulate=partial(room, mean=mean))
        for mean, low, high in ((0.8, "0.07", "0.13"), (0.2, "0.00", "0.22"), (0.1, "-0.13", "0.41"), (0.05, "-0.85", "1.34"))
    ),
)

TABLES = (CHOICE, RATIOS, CLIPPING, SMALL_ROOM)
