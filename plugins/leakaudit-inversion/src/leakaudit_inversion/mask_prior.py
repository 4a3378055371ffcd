"""What an adversary knows beforehand: masks of the patients it owns, and brains of the images it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.cohorts import Cohort, regions

__all__ = ["HeldBrains", "MaskPrior"]


@dataclass(frozen=True)
class MaskPrior:
    """Masks and brains of the adversary's own patients.

    Attributes:
        masks: (n, regions, *spatial), zeros and ones.
        brains: (n,), voxels in each brain.
        places: (n,), slice position of each.
    """

    masks: Tensor
    brains: Tensor
    places: Tensor

    @staticmethod
    def of(view: View) -> MaskPrior | None:
        """Return the prior of a view's auxiliary patients, None if there are none."""
        cohort: Cohort | None = view.auxiliary
        if cohort is None or not len(cohort):
            return None
        brains = np.asarray(cohort.brain).reshape(len(cohort), -1).sum(axis=1)
        return MaskPrior(
            torch.from_numpy(regions(np.asarray(cohort.labels))),
            torch.from_numpy(brains.astype(np.float32)),
            torch.tensor([sample.position for sample in cohort.samples]),
        )

    def majority(self, position: int) -> Tensor:
        """Return the masks that most have at a slice position, or the nearest, (regions, *spatial)."""
        return (self.masks[self._near(position)].mean(dim=0) > 0.5).float()

    def brain(self, position: int) -> float:
        """Return the mean number of brain voxels at a slice position, or the nearest."""
        return float(self.brains[self._near(position)].mean())

    def shares(self) -> tuple[float, ...]:
        """Return the mean share of the image's voxels that is in each region."""
        return tuple(float(share) for share in self.masks.flatten(2).mean(dim=(0, 2)))

    def _near(self, position: int) -> Tensor:
        away = (self.places - position).abs()
        return away == away.min()


@dataclass(frozen=True)
class HeldBrains:
    """Brain masks of the targets whose images the adversary holds itself, as a client does.

    Attributes:
        masks: (n, *spatial), booleans.
        rows: Row of each target.
    """

    masks: Tensor
    rows: Mapping[str, int]

    @staticmethod
    def of(view: View) -> HeldBrains | None:
        """Return the brains of a view's holdings, None where the adversary holds no images."""
        held = view.holdings
        if held is None or not held.modalities:
            return None
        rows = {sample.patient: row for row, sample in enumerate(held.samples)}
        return HeldBrains(torch.from_numpy(np.array(held.brain)), rows)

    def take(self, tokens: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Return the masks of some targets at the size of a level, (n, *shape): wherever a voxel reaches into the brain."""
        brains = self.masks[[self.rows[token] for token in tokens]]
        return F.interpolate(brains[:, None].float(), tuple(shape), mode="area")[:, 0] > 0

    def size(self, token: str) -> float:
        """Return the number of voxels in a target's brain."""
        return float(self.masks[self.rows[token]].sum())
