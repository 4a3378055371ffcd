"""Leakage: evidence scored against the truth, between chance (0) and full recovery (1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from leakaudit.scoring.checks import Floats, average_by_patient, finite

__all__ = ["MIN_ROOM", "Leakage", "leakage"]

MIN_ROOM = 0.2
"""Smallest mean of anchor - chance at which the ratio can be trusted (below it, a true .10 ranges from -.13 to .41)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """Leakage of one endpoint.

    Attributes:
        value: sum(S - C) / sum(A - C) over patients, never clipped; NaN where the mean of A - C is not positive, because
            then no ratio exists (and `resolvable` is False).
        per_patient: (S_i - C_i) / mean(A - C), shape (patients,); its mean is `value`.
        patients: Patient keys in the order of the arrays.
        gain: S_i - C_i, shape (patients,).
        room: A_i - C_i, shape (patients,).
        chance: Mean chance score.
        anchor: Mean score of full recovery.
        resolvable: Whether the mean of A - C reaches the smallest room asked for.
    """

    value: float
    per_patient: Floats
    patients: tuple[str, ...]
    gain: Floats
    room: Floats
    chance: float
    anchor: float
    resolvable: bool

    @property
    def worst(self) -> float:
        """Largest patient value."""
        return float(self.per_patient.max())


def leakage(
    score: ArrayLike, chance: ArrayLike, anchor: ArrayLike, patients: Sequence[str], *, min_room: float = MIN_ROOM
) -> Leakage:
    """Score evidence between chance and full recovery.

    Samples are averaged within their patient first. The ratio of means is used, not the mean of ratios (sd .026 against
    .043 at 20 patients), and nothing is clipped (clipping adds +.032 where nothing leaks).

    Args:
        score: Scores of the evidence, larger is worse for the patient, shape (samples,).
        chance: Scores of the best guess without access, shape (samples,) or one number.
        anchor: Scores of full recovery, shape (samples,) or one number.
        patients: Patient key of each sample.
        min_room: Smallest mean of anchor - chance at which the endpoint counts as resolvable.

    Raises:
        EvidenceError: A score is NaN or infinite, or lengths differ.
    """
    scores = finite("the evidence's score", score, ndim=1)
    stack = [scores]
    for name, values in (("the chance score", chance), ("the anchor", anchor)):
        array = finite(name, values)
        stack.append(np.broadcast_to(array, scores.shape) if array.ndim == 0 else array)
    means = [average_by_patient(values, patients) for values in stack]
    keys = means[0][0]
    s, c, a = (values for _, values in means)
    gain, room = s - c, a - c
    scale = float(room.mean())
    per_patient = gain / scale if scale > 0 else np.full(len(keys), np.nan)
    return Leakage(
        value=float(gain.sum() / room.sum()) if scale > 0 else float("nan"),
        per_patient=per_patient,
        patients=keys,
        gain=gain,
        room=room,
        chance=float(c.mean()),
        anchor=float(a.mean()),
        resolvable=scale >= min_room - 1e-9,
    )
