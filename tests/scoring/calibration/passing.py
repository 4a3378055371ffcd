"""Section "Verdicts": how often the whole rule says PASS, REVIEW or FAIL of a known truth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from calibration.figures import Case, Estimate, Table, exact, share
from calibration.simulator import SEED_SD, audits, early, percentile_high, statuses, verdicts
from leakaudit.scoring.multiplicity import bonferroni_level
from leakaudit.scoring.policy import Policy

COUNT = 2500
LIMIT = 0.10

POINT, PERCENTILE = "mean below limit", "percentile bootstrap below limit"
ONE, THREE, FIVE = "the rule, 1 training", "the rule, 3 trainings", "the rule, 5 trainings"


def passes(rng: np.random.Generator, family: str, mean: float, n: int) -> Mapping[str, Estimate]:
    values = audits(rng, 4000, family, mean, n, 3)
    first = values[:, 0]
    return {
        POINT: share(first.mean(axis=1) < LIMIT),
        PERCENTILE: share(percentile_high(rng, first) <= LIMIT),
        ONE: share(statuses(values[:, :1], early(1)) == "PASS"),
        THREE: share(statuses(values, early(3)) == "PASS"),
    }


DESIGN: dict[tuple[float, str, int], tuple[str, str, str, str]] = {
    (0.12, "normal", 10): ("25.1", "3.4", "0", "0"), (0.12, "normal", 30): ("21.3", "4.0", "3.1", "0.0"),
    (0.12, "normal", 100): ("15.8", "5.9", "5.3", "0.1"), (0.12, "rare", 5): ("48.7", "45.7", "0", "0"),
    (0.12, "rare", 10): ("47.4", "22.5", "0", "0"), (0.12, "rare", 20): ("41.4", "7.1", "0", "0"),
    (0.12, "rare", 30): ("38.9", "4.1", "1.1", "0.9"), (0.12, "rare", 100): ("29.2", "2.4", "0.0", "0.0"),
    (0.12, "skewed", 30): ("19.7", "4.0", "3.3", "0.1"), (0.02, "normal", 30): ("100", "99.2", "99.0", "85.0"),
    (0.05, "normal", 30): ("98.3", "87.0", "85.7", "50.0"), (0.05, "normal", 100): ("98.9", "96.0", "94.8", "57.8"),
    (0.05, "skewed", 50): ("98.9", "90.7", "68.0", "42.8"), (0.02, "rare", 100): ("99.9", "98.6", "26.5", "25.8"),
}  # fmt: skip

PASSES = Table(
    name="passes",
    heads=("true leakage", "patients' leakage", "n"),
    cases=tuple(
        Case(
            labels=(f"{mean:.2f}", family, str(n)), design=dict(zip((POINT, PERCENTILE, ONE, THREE), row, strict=True)),
            simulate=partial(passes, family=family, mean=mean, n=n),
        )
        for (mean, family, n), row in DESIGN.items()
    ),
)  # fmt: skip


def far_trainings(rng: np.random.Generator, mean: float, seed_sd: float) -> Mapping[str, Estimate]:
    values = audits(rng, COUNT, "normal", mean, 50, 5, seed_sd)
    return {name: share(statuses(values[:, :r], early(r)) == "PASS") for name, r in ((ONE, 1), (THREE, 3), (FIVE, 5))}


FAR = Table(
    name="far-trainings",
    heads=("true leakage", "sd of trainings"),
    cases=tuple(
        Case(
            labels=(f"{mean:.2f}", f"{sd:g}"), design={ONE: one, THREE: three, FIVE: five},
            simulate=partial(far_trainings, mean=mean, seed_sd=sd),
        )
        for mean, sd, one, three, five in (
            (0.11, 0.05, "28", "1.1", ""), (0.12, 0.05, "22", "0.5", ""), (0.15, 0.05, "9", "0.1", ""), (0.11, 0.06, "", "", "1.2"),
        )
    ),
)  # fmt: skip


def fails(rng: np.random.Generator, family: str, mean: float, n: int, repeats: int) -> Mapping[str, Estimate]:
    """FAIL of an endpoint that is the only one of its defense, and of one among ten."""
    values = audits(rng, 1500, family, mean, n, repeats)
    ten = statuses(values, Policy(), fail_level=bonferroni_level(0.95, 10))
    return {ALONE: share(statuses(values, Policy()) == "FAIL"), AMONG_TEN: share(ten == "FAIL")}


ALONE, AMONG_TEN = "FAIL, the only endpoint", "FAIL, one of 10 endpoints"


FAILS = Table(
    name="fails",
    heads=("true leakage", "patients' leakage", "n", "trainings"),
    cases=tuple(
        Case(
            labels=(f"{mean:.2f}", family, str(n), str(repeats)), design={ALONE: design, AMONG_TEN: ""},
            simulate=partial(fails, family=family, mean=mean, n=n, repeats=repeats),
        )
        for mean, family, n, repeats, design in (
            (0.12, "rare", 50, 3, "56"), (0.15, "rare", 50, 3, "81"), (0.20, "rare", 50, 3, "97"),
            (0.12, "normal", 30, 1, "42"), (0.15, "normal", 30, 1, "85"), (0.12, "normal", 30, 3, ""),
            (0.15, "normal", 30, 3, ""), (0.20, "normal", 30, 1, ""), (0.20, "normal", 30, 3, ""), (0.20, "normal", 30, 5, ""),
            (0.07, "normal", 30, 1, "<=2.1"), (0.07, "skewed", 30, 1, "<=2.1"), (0.07, "normal", 30, 3, "<=0.1"),
            (0.07, "skewed", 30, 3, "<=0.1"), (0.05, "rare", 30, 3, ""), (0.05, "rare", 50, 3, ""),
        )
    ),
)  # fmt: skip


def fewest_high(_: np.random.Generator, n: int) -> Mapping[str, Estimate]:
    """Fewest patients at .9 among others at 0 that make a FAIL, by the tail rule alone."""
    for k in range(1, n + 1):
        values = np.zeros((1, 3, n))
        values[:, :, :k] = 0.9
        # The mean's own lower bound is kept away from the limit, so that only the tail speaks.
        (verdict,) = verdicts(values, Policy.model_validate({"leakage_max": 0.99}))
        if verdict.status == "FAIL":
            return {"patients above 0.30": exact(k)}
    raise AssertionError("no number of patients fails")


TAIL = Table(
    name="tail",
    heads=("n",),
    cases=tuple(
        Case(labels=(str(n),), design={"patients above 0.30": k}, simulate=partial(fewest_high, n=n))
        for n, k in ((10, "3"), (20, "4"), (30, "5"), (50, "7"), (100, "11"))
    ),
)


def shipped(rng: np.random.Generator, family: str, mean: float, n: int, repeats: int) -> Mapping[str, Estimate]:
    found = statuses(audits(rng, COUNT, family, mean, n, repeats, SEED_SD), Policy())
    return {status: share(found == status) for status in ("PASS", "REVIEW", "FAIL")}


SHIPPED_DESIGN = {("normal", 0.05, 50, 3): "55", ("normal", 0.05, 50, 5): "92"}

SHIPPED = Table(
    name="shipped",
    heads=("patients' leakage", "true leakage", "n", "trainings"),
    cases=tuple(
        Case(
            labels=(family, f"{mean:.2f}", str(n), str(repeats)),
            design={"PASS": SHIPPED_DESIGN.get((family, mean, n, repeats), ""), "REVIEW": "", "FAIL": ""},
            simulate=partial(shipped, family=family, mean=mean, n=n, repeats=repeats),
        )
        for family, n, repeats in (("normal", 36, 3), ("normal", 50, 3), ("normal", 50, 5), ("skewed", 50, 5), ("rare", 50, 5))
        for mean in (0.02, 0.05, 0.08, 0.11, 0.15)
    ),
)  # fmt: skip

TABLES = (PASSES, FAR, FAILS, TAIL, SHIPPED)
