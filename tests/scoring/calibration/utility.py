"""Section "Utility": the gate on paired Dice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from calibration.figures import Case, Estimate, Table, share
from calibration.simulator import t_bounds
from leakaudit.scoring.intervals import difference_interval
from leakaudit.scoring.outcome import utility_verdict
from leakaudit.scoring.policy import Policy

DROPS = (0.06, 0.02, 0.0)
RULE, ALONE = (tuple(f"PASS at a drop of {drop:g}{how}" for drop in DROPS) for how in ("", ", by Student's t alone"))


def gate(rng: np.random.Generator, n: int, count: int = 2000) -> Mapping[str, Estimate]:
    """Paired differences of Dice with a spread of .08, one training."""
    policy, noise = Policy(), rng.normal(0, 0.08, (count, n))
    alone, rule = {}, {}
    for i, drop in enumerate(DROPS):
        below = t_bounds(noise[:, None] - drop, 0.9)[0] >= -policy.dice_margin.value
        passed = np.zeros(count, dtype=bool)
        for j in np.flatnonzero(below):
            interval = difference_interval(noise[j] - drop, np.zeros(n), seed=int(j))
            passed[j] = utility_verdict(interval, policy).status == "PASS"
        alone[ALONE[i]], rule[RULE[i]] = share(below), share(passed)
    return alone | rule


GATE = Table(
    name="utility",
    heads=("n",),
    cases=tuple(
        Case(labels=(str(n),), design=dict(zip(ALONE, design, strict=True)) | dict.fromkeys(RULE, ""), simulate=partial(gate, n=n))
        for n, design in (
            (10, ("2.3", "29", "59")), (20, ("1.4", "49", "86")), (30, ("1.3", "65", "96")), (50, ("0.6", "83", "100")),
            (100, ("0.2", "98", "100")),
        )
    ),
)  # fmt: skip

TABLES = (GATE,)
