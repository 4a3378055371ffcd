"""Section "Many tests": the best of many defenses, and the worst of many endpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from calibration.figures import Case, Estimate, Table, share
from calibration.simulator import Array, early, statuses, t_bounds, trainings, verdicts
from calibration.simulator import audits as leaking
from leakaudit.scoring.multiplicity import bonferroni_level
from leakaudit.scoring.outcome import defense_verdict
from leakaudit.scoring.policy import Policy

N = 30
SHARED = 0.06 / math.sqrt(2)
"""Half of the patients' variance is the same for every defense and endpoint: some patients are easier to recover."""
ONLY = {"required": {"activation": ["reconstruction"]}}


def audits(rng: np.random.Generator, count: int, many: int, mean: float) -> Array:
    """Return audits of many defenses or endpoints on the same patients, (count, many, repeats, n)."""
    patients = mean + rng.normal(0, SHARED, (count, 1, N)) + rng.normal(0, SHARED, (count, many, N))
    return trainings(rng, patients, 3)


POINT = "mean below limit"
ONE, THREE = ("1 training", "1 training, corrected"), ("3 trainings", "3 trainings, corrected")
ALONE = "1 training, corrected, by Student's t alone"


def some_pass(values: Array, repeats: int, level: float) -> np.ndarray:
    """Return for each audit whether some defense passes, by the verdict of each defense."""
    policy = early(repeats).model_copy(update={"required": ONLY["required"]})
    flat = values[:, :, :repeats].reshape(-1, repeats, N)
    passed = np.zeros(len(flat), dtype=bool)
    # Where the t bound lies above the limit, so does the rule's, and nothing passes.
    near = np.flatnonzero(t_bounds(flat, level)[1] <= 0.10)
    for i, verdict in zip(near, verdicts(flat[near], policy, pass_level=level), strict=True):
        passed[i] = defense_verdict({"inverter": verdict}, ["activation"], policy).status == "PASS"
    return passed.reshape(values.shape[:2]).any(axis=1)


def best_of(rng: np.random.Generator, defenses: int, count: int) -> Mapping[str, Estimate]:
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in (POINT, *ONE, ALONE, *THREE)}
    levels = (0.95, bonferroni_level(0.95, defenses))
    for _ in range(count // 250):
        values = audits(rng, 250, defenses, 0.11)
        blocks[POINT].append((values[:, :, 0].mean(axis=-1) < 0.10).any(axis=1))
        blocks[ALONE].append((t_bounds(values[:, :, :1], levels[1])[1] <= 0.10).any(axis=1))
        for repeats, names in ((1, ONE), (3, THREE)):
            for name, level in zip(names, levels, strict=True):
                blocks[name].append(some_pass(values, repeats, level))
    return {name: share(np.concatenate(found)) for name, found in blocks.items()}


BEST = Table(
    name="many-defenses",
    heads=("defenses",),
    cases=tuple(
        Case(
            labels=(str(defenses),), simulate=partial(best_of, defenses=defenses, count=count),
            design=dict(zip((POINT, *ONE, ALONE, *THREE), design, strict=True)),
        )
        for defenses, count, design in (
            (1, 4000, ("", "7.2", "", "", "", "")), (8, 2000, ("92", "41", "", "19", "2.3", "0.1")),
            (30, 2000, ("100", "79", "", "34", "7.5", "0.0")),
        )
    ),
)  # fmt: skip

POWER = {repeats: f"PASS, {repeats} trainings" for repeats in (3, 5)}


def power(rng: np.random.Generator, mean: float, candidates: int) -> Mapping[str, Estimate]:
    """One defense among so many candidates, over 50 patients, by the default policy."""
    level, values = bonferroni_level(0.95, candidates), leaking(rng, 1500, "normal", mean, 50, 5)
    return {name: share(statuses(values[:, :r], Policy(), pass_level=level) == "PASS") for r, name in POWER.items()}


CANDIDATES = Table(
    name="candidates",
    heads=("true leakage", "candidates"),
    cases=tuple(
        Case(
            labels=(f"{mean:.2f}", str(candidates)), design=dict.fromkeys(POWER.values(), ""),
            simulate=partial(power, mean=mean, candidates=candidates),
        )
        for mean in (0.02, 0.05) for candidates in (1, 2, 4, 8)
    ),
)  # fmt: skip

PLAIN, CORRECTED = "some FAIL, not corrected", "some FAIL, the rule"


def worst_of(rng: np.random.Generator, mean: float) -> Mapping[str, Estimate]:
    """Twenty endpoints of one defense; the spread of trainings is left out here."""
    found: dict[str, list[np.ndarray]] = {PLAIN: [], CORRECTED: []}
    for _ in range(10):
        patients = mean + rng.normal(0, SHARED, (250, 1, N)) + rng.normal(0, SHARED, (250, 20, N))
        flat = trainings(rng, patients, 1, 0.0).reshape(-1, 1, N)
        for name, level in ((PLAIN, 0.95), (CORRECTED, bonferroni_level(0.95, 20))):
            failed = np.zeros(len(flat), dtype=bool)
            near = np.flatnonzero((t_bounds(flat, level)[0] > 0.10) | (flat.mean(axis=1) > 0.30).any(axis=1))
            judged = verdicts(flat[near], Policy(), fail_level=level)
            failed[near] = [defense_verdict({"inverter": v}, (), Policy()).status == "FAIL" for v in judged]
            found[name].append(failed.reshape(250, 20).any(axis=1))
    return {name: share(np.concatenate(hits)) for name, hits in found.items()}


WORST = Table(
    name="many-endpoints",
    heads=("true leakage of all 20",),
    cases=tuple(
        Case(labels=(f"{mean:.2f}",), design={PLAIN: plain, CORRECTED: corrected}, simulate=partial(worst_of, mean=mean))
        for mean, plain, corrected in ((0.10, "25", "1.9"), (0.09, "4.9", "0.1"))
    ),
)

TABLES = (BEST, CANDIDATES, WORST)
