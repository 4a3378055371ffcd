"""What every score must satisfy before it may count: finite numbers, known shapes, patients as the unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["EvidenceError", "Floats", "average_by_patient", "finite", "membership_table"]

Floats = NDArray[np.float64]
"""Arrays of float64."""


class EvidenceError(ValueError):
    """Evidence is missing, not finite, or of the wrong shape: the pairing is an ERROR, nobody is dropped."""


def finite(name: str, values: ArrayLike, *, ndim: int | None = None) -> Floats:
    """Return `values` as float64 after checking that there are some and that all are finite.

    Args:
        name: What the values are, for the message.
        values: Numbers of any shape.
        ndim: Expected number of axes, or None.

    Raises:
        EvidenceError: There is no value, a value is NaN or infinite, or the number of axes differs.
    """
    array = np.asarray(values, dtype=np.float64)
    if ndim is not None and array.ndim != ndim:
        raise EvidenceError(f"{name} has shape {array.shape}; {ndim} axes were expected")
    if array.size == 0:
        raise EvidenceError(f"{name} is empty; at least one value was expected")
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise EvidenceError(f"{name} has {bad} of {array.size} values that are NaN or infinite; every value must be a number")
    return array


def average_by_patient(values: ArrayLike, patients: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    """Average samples within each patient.

    Args:
        values: One value per sample in the last axis, shape (..., samples).
        patients: Patient key of each sample, in the same order.

    Returns:
        The patients in order of first appearance, and the averages, shape (..., patients).

    Raises:
        EvidenceError: A value is not finite, or the lengths differ.
    """
    array = finite("the scores", values)
    if array.shape[-1] != len(patients):
        raise EvidenceError(f"there are {array.shape[-1]} scores for {len(patients)} samples; one each was expected")
    keys, table = membership_table(patients)
    return keys, np.asarray(array @ (table / table.sum(axis=0)))


def membership_table(patients: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    """Return the patients in order of first appearance, and which sample is whose as 0 and 1, shape (samples, patients)."""
    keys = tuple(dict.fromkeys(patients))
    place = {key: index for index, key in enumerate(keys)}
    table = np.zeros((len(patients), len(keys)))
    table[np.arange(len(patients)), [place[patient] for patient in patients]] = 1.0
    return keys, table
