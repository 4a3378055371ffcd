"""Segmentation quality: Dice and HD95 per region and patient. Used for utility and for stolen masks alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from leakaudit.scoring.checks import EvidenceError, Floats, membership_table

__all__ = ["RegionScores", "hd95", "patient_dice", "patient_hd95", "sample_dice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionScores:
    """Dice of each unit (patient or sample) and region.

    Attributes:
        values: Dice, shape (units, regions); NaN where the truth is empty, and only there.
        units: Patient keys, or sample indices as text.
        regions: Names of the regions.
        empty: Units with an empty truth, per region.
    """

    values: Floats
    units: tuple[str, ...]
    regions: tuple[str, ...]
    empty: tuple[int, ...]

    def region(self, name: str) -> tuple[tuple[str, ...], Floats]:
        """Return the units that have this region and their Dice, for intervals and leakage."""
        column = self.values[:, self.regions.index(name)]
        there = ~np.isnan(column)
        return tuple(self.units[i] for i in np.flatnonzero(there)), column[there]

    def means(self) -> dict[str, float | None]:
        """Return the mean Dice per region, None where no unit has the region, and their mean as `"mean"`."""
        result: dict[str, float | None] = {}
        for name in self.regions:
            values = self.region(name)[1]
            result[name] = float(values.mean()) if len(values) else None
        known = [value for value in result.values() if value is not None]
        return {**result, "mean": float(np.mean(known)) if known else None}

    def unit_means(self) -> tuple[tuple[str, ...], Floats]:
        """Return the mean over regions of each unit that has any, for the paired difference between two models."""
        there = ~np.isnan(self.values).all(axis=1)
        units = tuple(self.units[i] for i in np.flatnonzero(there))
        return units, np.nanmean(self.values[there], axis=1)


def patient_dice(guess: ArrayLike, truth: ArrayLike, patients: Sequence[str], regions: Sequence[str]) -> RegionScores:
    """Return Dice per patient, over all voxels of all samples of the patient together.

    Args:
        guess: Masks, boolean (or 0 and 1), shape (samples, regions, *spatial).
        truth: The same shape.
        patients: Patient key of each sample.
        regions: Names of the regions, for example ("WT", "TC", "ET").

    Raises:
        EvidenceError: Shapes differ, or a mask has values other than 0 and 1.
    """
    hits, sizes, true = _counts(guess, truth, len(regions))
    if len(patients) != len(hits):
        raise EvidenceError(f"{len(patients)} patients for {len(hits)} masks; one each was expected")
    keys, table = membership_table(patients)
    return _scores(table.T @ hits, table.T @ sizes, table.T @ true, keys, tuple(regions))


def sample_dice(guess: ArrayLike, truth: ArrayLike, regions: Sequence[str]) -> RegionScores:
    """Return Dice per sample. Arguments and errors as in `patient_dice`."""
    hits, sizes, true = _counts(guess, truth, len(regions))
    return _scores(hits, sizes, true, tuple(map(str, range(len(hits)))), tuple(regions))


def _counts(guess: ArrayLike, truth: ArrayLike, regions: int) -> tuple[Floats, Floats, Floats]:
    a, b = _mask("the guessed masks", guess), _mask("the true masks", truth)
    if a.shape != b.shape or a.ndim < 3 or a.shape[1] != regions:
        raise EvidenceError(
            f"guessed masks {a.shape} and true masks {b.shape}; both must be (samples, {regions} regions, *spatial)"
        )
    spatial = tuple(range(2, a.ndim))
    hits, guessed, true = (np.asarray(x.sum(axis=spatial, dtype=np.float64)) for x in (a & b, a, b))
    return hits, guessed + true, true


def _scores(hits: Floats, sizes: Floats, true: Floats, units: tuple[str, ...], regions: tuple[str, ...]) -> RegionScores:
    there = true > 0
    values = np.where(there, 2 * hits / np.where(there, sizes, 1.0), np.nan)
    return RegionScores(values=values, units=units, regions=regions, empty=tuple(int(k) for k in (~there).sum(axis=0)))


def _mask(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise EvidenceError(f"{name} must be boolean, or 0 and 1")
    return array.astype(bool)


def hd95(guess: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None) -> float | None:
    """Return the 95 % Hausdorff distance of two masks: the larger of the two directed 95 % surface distances.

    Args:
        guess: One mask, two or three axes.
        truth: The same shape.
        spacing: Voxel size along each axis, in the unit of the result; None: voxels.

    Returns:
        The distance, or None where a mask is empty (no surface, no distance; Dice tells that case).

    Raises:
        EvidenceError: Shapes differ, or a mask has values other than 0 and 1.
    """
    a, b = _mask("the guessed mask", guess), _mask("the true mask", truth)
    if a.shape != b.shape or a.ndim not in (2, 3) or (spacing is not None and len(spacing) != a.ndim):
        raise EvidenceError(f"masks of shapes {a.shape} and {b.shape} with spacing {spacing} have no distance")
    if not a.any() or not b.any():
        return None
    # No surface lies outside the box around both masks, so distances are the same within it.
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    a, b = a[box], b[box]
    edge_a, edge_b = a & ~ndimage.binary_erosion(a), b & ~ndimage.binary_erosion(b)
    sampling = None if spacing is None else list(spacing)
    to_b = ndimage.distance_transform_edt(~edge_b, sampling=sampling)[edge_a]
    to_a = ndimage.distance_transform_edt(~edge_a, sampling=sampling)[edge_b]
    return float(max(np.percentile(to_b, 95), np.percentile(to_a, 95)))


def patient_hd95(
    guess: ArrayLike, truth: ArrayLike, patients: Sequence[str], spacings: Sequence[Sequence[float] | None] | None = None
) -> tuple[tuple[str, ...], Floats]:
    """Return the 95 % Hausdorff distance per patient and region: the mean over the patient's samples.

    A region that is absent from the truth has no distance: NaN, and left out of means, as with Dice. One that the guess misses
    altogether counts as the diagonal of the sample, the largest distance there is (the BraTS challenges score it so): leaving
    it out would reward a model that finds nothing.

    Args:
        guess: Masks, boolean (or 0 and 1), shape (samples, regions, *spatial).
        truth: The same shape.
        patients: Patient key of each sample.
        spacings: Voxel size of each sample along each axis; None: voxels.

    Returns:
        Patients in order of first appearance, and distances (patients, regions); NaN where no sample has the region.

    Raises:
        EvidenceError: Shapes differ, or a mask has values other than 0 and 1.
    """
    a, b = _mask("the guessed masks", guess), _mask("the true masks", truth)
    if a.shape != b.shape or len(a) != len(patients) or (spacings is not None and len(spacings) != len(a)):
        raise EvidenceError(f"guessed masks {a.shape}, true masks {b.shape} and {len(patients)} patients do not belong together")
    keys, table = membership_table(patients)
    values = np.full(a.shape[:2], np.nan)
    for i, j in np.ndindex(*a.shape[:2]):
        if b[i, j].any():
            spacing = None if spacings is None else spacings[i]
            found = hd95(a[i, j], b[i, j], spacing)
            sides = np.array(b.shape[2:]) * (1.0 if spacing is None else np.asarray(spacing))
            values[i, j] = np.linalg.norm(sides) if found is None else found
    there = ~np.isnan(values)
    count = table.T @ there
    total = table.T @ np.where(there, values, 0.0)
    return keys, np.where(count > 0, total / np.maximum(count, 1), np.nan)
