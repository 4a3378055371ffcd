"""One patient of the phantom, and the rendering of any of its samples before the scanner adds its nuisance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.phantom.anatomy import Anatomy, Tissue
from leakaudit.cohorts.phantom.fields import stream
from leakaudit.cohorts.phantom.grid import Grid, Pose
from leakaudit.cohorts.phantom.signal import Tissues
from leakaudit.cohorts.phantom.tumor import Tumor

__all__ = ["Patient", "Scene"]

_LABEL = np.zeros(len(Tissue), dtype=np.uint8)
_LABEL[[Tissue.NCR, Tissue.NET]] = 1
_LABEL[Tissue.ED] = 2
_LABEL[Tissue.ET] = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """What lies in one sample, on the grid of twice its resolution.

    Attributes:
        grid: The sample's voxels.
        healthy: Tissue as it was before the tumor, shape `grid.fine`.
        tumor: Tumor tissue or 0, same shape.
        weight: How far tissue has become tumor, 0 to 1, same shape.
        labels: Canonical labels of the voxels, uint8, shape `grid.shape`.
        brain: Brain mask of the voxels, shape `grid.shape`.
    """

    grid: Grid
    healthy: NDArray[np.uint8]
    tumor: NDArray[np.uint8]
    weight: NDArray[np.float32]
    labels: NDArray[np.uint8]
    brain: NDArray[np.bool_]

    def share(self, tissue: Tissue) -> NDArray[np.float32]:
        """Return the fraction of each voxel that healthy `tissue` fills."""
        return self.grid.coarse((self.healthy == tissue).astype(np.float32))

    def render(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the noiseless images, shape (channels, *grid.shape), 0 outside the brain.

        Args:
            signal: Signal of each tissue, shape (channels, tissues).
        """
        # Tumor core replaces gray and white matter alike; edema lets the tissue shine through.
        base = np.where(np.isin(self.tumor, (Tissue.ET, Tissue.NCR, Tissue.NET)), Tissue.GM, self.healthy)
        fine = signal[:, base]
        at = self.tumor > 0
        healthy = fine[:, at]
        fine[:, at] = healthy + self.weight[at] * (signal[:, self.tumor[at]] - healthy)
        filled = self.grid.coarse((self.healthy > 0).astype(np.float32))
        # Voxels on the border are averaged over their part inside, as if the skull had been stripped at full resolution.
        return np.asarray(self.grid.coarse(fine) / np.maximum(filled, 1e-6) * self.brain, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Patient:
    """One person: everything that visits share.

    Attributes:
        anatomy: The healthy head.
        tumor: The tumor.
        tissues: Relaxation times of the person's tissues.
    """

    anatomy: Anatomy
    tumor: Tumor
    tissues: Tissues

    @classmethod
    def draw(cls, seed: int, key: str) -> Patient:
        """Return the patient `key` of the phantom with this seed."""
        anatomy = Anatomy.draw(stream(seed, key, "anatomy"))
        tumor = Tumor.draw(stream(seed, key, "tumor"), anatomy)
        return cls(anatomy, tumor, Tissues.draw(stream(seed, key, "tissues")))

    def scene(self, grid: Grid, pose: Pose, growth: float) -> Scene:
        """Return what lies in the sample `grid` at a visit with this pose and size of the tumor."""
        points = pose.into(grid.points())
        healthy = self.anatomy.tissue(self.tumor.displace(points))
        grown = self.tumor.grow(grid, pose, points, healthy, growth)
        healthy = healthy.reshape(grid.fine)
        tumor, weight = grown.tissue.reshape(grid.fine), grown.weight.reshape(grid.fine)
        brain = grid.coarse((healthy > 0).astype(np.float32)) > 0.5
        labels = _majority(grid, _LABEL[tumor]) * brain
        return Scene(grid, healthy, tumor, weight, labels.astype(np.uint8), brain)


def _majority(grid: Grid, fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the label of each voxel: tumor where it fills half of it, and then the kind that fills most."""
    shares = grid.coarse(np.stack([fine == value for value in (1, 2, 3)]).astype(np.float32))
    return np.where(shares.sum(axis=0) >= 0.5, shares.argmax(axis=0) + 1, 0).astype(np.uint8)
