"""Exchanged evidence of one endpoint: what every attacked patient's evidence would say of every other attacked patient.

At most 100 patients are exchanged, evenly drawn from their sorted keys, and of each only the sample at the middle of its slice
positions (of a volume, the middle axial slice of the brain), so that the cost is bounded: 10,000 comparisons of two slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from leakaudit.cohorts.cohort import Cohort
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.exchange import gain_matrix, ssim_pairs

__all__ = ["MOST", "Exchange", "chosen_patients", "distinct", "exchange_images", "middle_rows"]

MOST = 100
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Gains of exchanged evidence.

    Attributes:
        patients: Patient keys, sorted.
        sites: Site of each.
        matrix: G_ij, what evidence i gains over chance when held to be about patient j (`scoring.exchange.gain_matrix`),
            shape (patients, patients). Of identity: of similarities, each row in units of its spread.
    """

    patients: tuple[str, ...]
    sites: tuple[str, ...]
    matrix: Floats

    @classmethod
    def of(cls, patients: Sequence[str], truth: Cohort, scores: Floats, chance: Floats) -> Exchange:
        """Return the gains from the scores of exchanged evidence and of exchanged blind guesses."""
        site = {s.patient: s.site for s in truth.samples}
        return cls(patients=tuple(patients), sites=tuple(site[p] for p in patients), matrix=gain_matrix(scores, chance))

    def to_json(self) -> dict[str, Any]:
        """Return the exchange as plain JSON, rounded."""
        return {"patients": list(self.patients), "sites": list(self.sites), "matrix": np.round(self.matrix, _DIGITS).tolist()}


def chosen_patients(patients: Sequence[str]) -> list[str]:
    """Return at most 100 patients, evenly drawn from their sorted keys: the same in every repeat and under every defense."""
    keys = sorted(set(patients))
    if len(keys) <= MOST:
        return keys
    return [keys[round(k * (len(keys) - 1) / (MOST - 1))] for k in range(MOST)]


def middle_rows(truth: Cohort) -> list[int]:
    """Return for each chosen patient, in sorted order, its sample nearest the middle of its slice positions."""
    places: dict[str, list[int]] = {}
    for i, s in enumerate(truth.samples):
        places.setdefault(s.patient, []).append(i)
    position = [s.position for s in truth.samples]
    rows = []
    for patient in chosen_patients(list(places)):
        found = places[patient]
        middle = (min(position[i] for i in found) + max(position[i] for i in found)) / 2
        rows.append(min(found, key=lambda i: (abs(position[i] - middle), position[i])))
    return rows


def exchange_images(images: Any, guess: Any, truth: Cohort, ranges: Floats) -> Exchange | None:
    """Exchange reconstructions: masked SSIM of each with every patient's own image, averaged over modalities.

    Args:
        images: Reconstructions, (rows, modalities, *spatial).
        guess: The blind guesses that chance is, of the same shape.
        truth: The true samples of these rows.
        ranges: Data range of each modality.

    Returns:
        None for fewer than two patients.
    """
    rows = middle_rows(truth)
    if len(rows) < 2:
        return None
    cut = _planes(truth.brain[rows])
    brain = cut(truth.brain[rows])

    def scores(stack: Any) -> Floats:
        shown = np.asarray(stack)[rows]
        pairs = [
            distinct(cut(shown[:, i]), partial(ssim_pairs, truths=cut(truth.images[rows, i]), masks=brain, data_range=span))
            for i, span in enumerate(ranges.tolist())
        ]
        return np.asarray(np.mean(pairs, axis=0))

    patients = [truth.samples[i].patient for i in rows]
    return Exchange.of(patients, truth, scores(images), scores(guess))


def distinct(guesses: Any, score: Callable[[Any], Floats]) -> Floats:
    """Return scores of guesses, (guesses, ...), computed once for equal ones: blind guesses differ by position only."""
    array = np.ascontiguousarray(guesses)
    first: dict[bytes, int] = {}
    place = [first.setdefault(a.tobytes(), len(first)) for a in array]
    keep = [place.index(k) for k in range(len(first))]
    return np.asarray(score(array[keep]))[place]


def _planes(brain: Any) -> Callable[[Any], Any]:
    """Return what cuts the middle axial slice of each patient's brain from volumes, and leaves slices as they are."""
    if brain.ndim == 3:
        return lambda stack: np.asarray(stack)
    used = [np.flatnonzero(b.any(axis=(1, 2))) for b in brain]
    middle = [int(u[len(u) // 2]) if len(u) else 0 for u in used]
    return lambda stack: np.stack([np.asarray(volume[z]) for volume, z in zip(stack, middle, strict=True)])
