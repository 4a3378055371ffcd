"""Section "Training repeats": intervals over patients and trainings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from calibration.figures import Case, Estimate, Table, share
from calibration.simulator import bootstrap_t, covered, normal, skewed, trainings

COUNT = 4000
PATIENT_SD = 0.08
ONE, RULE = "bootstrap-t over patients covers", "the rule covers"


def coverage(rng: np.random.Generator, family: str, seed_sd: float, n: int, repeats: int) -> Mapping[str, Estimate]:
    """True mean leakage 0; the patients' own means and all trainings are drawn anew in each audit."""
    draw = {"normal": normal, "skewed": skewed}[family]
    values = trainings(rng, draw(rng, (COUNT, n), 0.0, PATIENT_SD), repeats, seed_sd)
    low, high = bootstrap_t(rng, values.mean(axis=1))
    return {ONE: share((low <= 0) & (high >= 0)), RULE: share(covered(values, 0.0)[0])}


# Coverage of bootstrap-t over patients only, and of the rule.
DESIGN: dict[tuple[str, float, int, int], tuple[str, str]] = {
    ("normal", 0.0, 50, 3): ("95.9", "97.7"), ("normal", 0.02, 50, 1): ("68.5", ""), ("normal", 0.02, 50, 3): ("83.5", "97.8"),
    ("normal", 0.02, 50, 5): ("89.1", "96.9"), ("normal", 0.05, 50, 1): ("34.9", ""), ("normal", 0.05, 50, 3): ("54.1", "95.7"),
    ("normal", 0.05, 50, 5): ("64.9", "96.5"), ("skewed", 0.05, 20, 3): ("71.5", "97.8"),
}  # fmt: skip

REPEATS = Table(
    name="repeats",
    heads=("patients' leakage", "sd of trainings", "n", "trainings"),
    cases=tuple(
        Case(
            labels=(case[0], f"{case[1]:g}", str(case[2]), str(case[3])), design={ONE: one, RULE: rule},
            simulate=partial(coverage, family=case[0], seed_sd=case[1], n=case[2], repeats=case[3]),
        )
        for case, (one, rule) in DESIGN.items()
    ),
)  # fmt: skip

TABLES = (REPEATS,)
