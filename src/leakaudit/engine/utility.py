"""What the trained models are worth: Dice and HD95 by region, and the paired difference to the undefended model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leakaudit.cohorts.cohort import REGIONS
from leakaudit.engine.stored import RESAMPLING
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.intervals import Interval, difference_interval, patient_interval, with_repeats
from leakaudit.scoring.outcome import utility_verdict
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.results import Verdict

__all__ = ["UtilityResult", "mean_dice", "mean_hd95", "patient_means", "test_support", "utility_of"]

Trainings = Sequence[Mapping[str, Any]]
"""`train.json` of each repeat."""


@dataclass(frozen=True, kw_only=True)
class UtilityResult:
    """Utility of one baseline.

    Attributes:
        dice: Mean Dice by region and `"mean"`, see `mean_dice`.
        interval: Interval of the mean over patients and repeats.
        difference: Paired difference to the undefended model and its interval; None where there is none.
        n: Test patients.
        verdict: Utility's own verdict; None for the undefended model.
        reason: Why a number is missing.
        hd95: Mean 95 % Hausdorff distance by region; empty where it was not measured.
        hd95_unit: `"mm"` or `"voxels"`.
    """

    dice: dict[str, float | None]
    interval: Interval | None
    difference: tuple[float, Interval] | None
    n: int
    verdict: Verdict | None
    reason: str | None = None
    hd95: dict[str, float | None] = field(default_factory=dict)
    hd95_unit: str = "mm"


def utility_of(trainings: Trainings, reference: Trainings | None, policy: Policy, missing: str) -> UtilityResult:
    """Return the utility of one baseline.

    Args:
        trainings: Its trainings; empty where they failed or do not apply.
        reference: The undefended trainings of the same protocol, empty where they failed; None where this is the undefended
            baseline itself.
        policy: The accepted loss.
        missing: Why there are no trainings.
    """
    patients, means = patient_means(trainings) if trainings else ([], np.empty((0, 0)))
    if not patients:
        why = "The split has no test patients, so utility was not measured." if trainings else missing
        nothing = dict.fromkeys((*REGIONS, "mean"))
        return UtilityResult(dice=nothing, interval=None, difference=None, n=0, verdict=None, reason=why)
    interval = None
    if len(patients) >= 2:
        interval = with_repeats(means.mean(axis=1), patient_interval(means.mean(axis=0), seed=RESAMPLING))
    difference, verdict = _difference(means, reference, policy)
    hd95, unit = mean_hd95(trainings)
    return UtilityResult(
        dice=mean_dice([row for t in trainings for row in t["utility"]["dice"]]), interval=interval, difference=difference,
        n=len(patients), verdict=verdict, hd95=hd95, hd95_unit=unit,
    )  # fmt: skip


def _difference(
    means: Floats, reference: Trainings | None, policy: Policy
) -> tuple[tuple[float, Interval] | None, Verdict | None]:  # fmt: skip
    if reference is None:
        return None, None
    if not reference:
        return None, utility_verdict(None, policy)
    if means.shape[1] < 2:
        return None, Verdict(status="REVIEW", reasons=("One test patient: the difference of Dice has no interval.",))
    before = patient_means(reference)[1]
    interval = difference_interval(means, before, seed=RESAMPLING)
    return (float((means - before).mean()), interval), utility_verdict(interval, policy)


def mean_dice(rows: Sequence[Sequence[float | None]]) -> dict[str, float | None]:
    """Return the mean Dice by region over the patients that have it, and the mean over patients of each one's mean over regions.

    The latter is what intervals and differences are of. A patient without an enhancing tumor has two regions; the mean of the
    regions' means would weigh the others more, and could lie outside its own interval.
    """
    table = _table(rows)
    whole = [float(np.nanmean(row)) for row in table if not np.isnan(row).all()]
    return {**_means(table), "mean": float(np.mean(whole)) if whole else None}


def mean_hd95(trainings: Trainings) -> tuple[dict[str, float | None], str]:
    """Return the mean HD95 by region over patients that have it and repeats, and its unit; empty where it was not measured.

    A region that is absent from a patient's truth has no distance and is left out; one that the model missed counts as the
    diagonal of the image (`leakaudit.scoring.segmentation.patient_hd95`).
    """
    if not all("hd95" in t["utility"] for t in trainings):
        return {}, "voxels"
    rows = [row for t in trainings for row in t["utility"]["hd95"]]
    return _means(_table(rows)), str(trainings[0]["utility"]["hd95_unit"])


def patient_means(trainings: Trainings) -> tuple[list[str], Floats]:
    """Return the test patients that have any region, and their mean Dice over regions, (repeats, patients)."""
    patients = list(trainings[0]["utility"]["patients"])
    table = np.stack([_table(t["utility"]["dice"]) for t in trainings])
    there = ~np.isnan(table[0]).all(axis=1)
    means = np.array([[np.nanmean(row) for row, ok in zip(repeat, there, strict=True) if ok] for repeat in table])
    return [p for p, ok in zip(patients, there, strict=True) if ok], means


def test_support(trainings: Mapping[tuple[str, str], Trainings]) -> dict[tuple[str, str], dict[str, int]]:
    """Return how many test patients are behind the Dice of each region, by (protocol, defense); regions nobody has are 0."""
    support = {}
    for place, found in trainings.items():
        if found:
            there = ~np.isnan(_table(found[0]["utility"]["dice"]))
            support[place] = {region: int(there[:, i].sum()) for i, region in enumerate(REGIONS)}
    return support


def _table(rows: Sequence[Sequence[float | None]]) -> Floats:
    return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float64).reshape(-1, len(REGIONS))


def _means(table: Floats) -> dict[str, float | None]:
    """Return the mean of each region over the rows that have it."""
    means: dict[str, float | None] = {}
    for i, region in enumerate(REGIONS):
        there = table[:, i][~np.isnan(table[:, i])]
        means[region] = float(there.mean()) if len(there) else None
    return means
