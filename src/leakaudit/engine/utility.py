"""Dice of the trained models: means by region, and the mean of each test patient for paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakaudit.cohorts.cohort import REGIONS
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.results import Verdict

__all__ = ["UtilityResult", "mean_dice", "patient_means"]


@dataclass(frozen=True, kw_only=True)
class UtilityResult:
    """Dice of one baseline.

    Attributes:
        dice: Mean by region and `"mean"`.
        interval: Interval of the mean over patients and repeats.
        difference: Paired difference to the undefended model and its interval; None where there is none.
        n: Test patients.
        verdict: Utility's own verdict; None for the undefended model.
        reason: Why a number is missing.
    """

    dice: dict[str, float | None]
    interval: Interval | None
    difference: tuple[float, Interval] | None
    n: int
    verdict: Verdict | None
    reason: str | None = None


def mean_dice(rows: Sequence[Sequence[float | None]]) -> dict[str, float | None]:
    """Return the mean Dice by region over the patients that have it, and the mean of these."""
    table = np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float64).reshape(-1, len(REGIONS))
    means: dict[str, float | None] = {}
    for i, region in enumerate(REGIONS):
        there = table[:, i][~np.isnan(table[:, i])]
        means[region] = float(there.mean()) if len(there) else None
    known = [v for v in means.values() if v is not None]
    return {**means, "mean": float(np.mean(known)) if known else None}


def patient_means(trainings: Sequence[Mapping[str, Any]]) -> tuple[list[str], Any]:
    """Return the test patients that have any region, and their mean Dice over regions, (repeats, patients)."""
    patients = list(trainings[0]["utility"]["patients"])
    table = np.array(
        [[[np.nan if v is None else v for v in row] for row in t["utility"]["dice"]] for t in trainings], dtype=np.float64
    ).reshape(len(trainings), len(patients), len(REGIONS))
    there = ~np.isnan(table[0]).all(axis=1)
    means = np.array([[np.nanmean(row) for row, ok in zip(repeat, there, strict=True) if ok] for repeat in table])
    return [p for p, ok in zip(patients, there, strict=True) if ok], means
