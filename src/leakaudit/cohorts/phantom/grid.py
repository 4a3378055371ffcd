"""Where the voxels are: the grid of a slice or a volume, its refinement for rendering, and a patient's pose in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.phantom.fields import Points

__all__ = ["Grid", "Pose"]

_IN_PLANE = 192.0
_THROUGH_PLANE = 144.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Voxels of one sample: rows from front to back, columns along x, slices along z.

    Attributes:
        size: In-plane voxels along each side.
        depth: Slices of the volume.
        position: Index of the slice in the volume; None for the whole volume.
    """

    size: int
    depth: int
    position: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(size, size) or (depth, size, size)."""
        return (self.size, self.size) if self.position is not None else (self.depth, self.size, self.size)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm, in the order of `shape`."""
        plane = _IN_PLANE / self.size
        return (plane, plane) if self.position is not None else (_THROUGH_PLANE / self.depth, plane, plane)

    @property
    def fine(self) -> tuple[int, ...]:
        """Shape of the grid of twice the resolution on which tissue is rendered."""
        return tuple(2 * n for n in self.shape)

    def height(self) -> float:
        """Return z of the slice in mm."""
        if self.position is None:
            raise ValueError("a volume has no single height")
        return (self.position - (self.depth - 1) / 2) * _THROUGH_PLANE / self.depth

    def points(self, *, refine: int = 2) -> Points:
        """Return the voxel centers of the grid refined `refine` times, row-major, shape (3, n)."""
        plane = (np.arange(refine * self.size) - (refine * self.size - 1) / 2) * _IN_PLANE / (refine * self.size)
        count = refine * self.depth
        z = [self.height()] if self.position is not None else (np.arange(count) - (count - 1) / 2) * _THROUGH_PLANE / count
        mesh = np.meshgrid(np.asarray(z), -plane, plane, indexing="ij")
        return np.stack([mesh[2].ravel(), mesh[1].ravel(), mesh[0].ravel()]).astype(np.float32)

    def voxels(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return voxel coordinates of `points` (3, n): (n, 2) as row and column, or (n, 3) with the slice first."""
        x, y, z = np.asarray(points, dtype=np.float64)
        plane = _IN_PLANE / self.size
        row, column = (self.size - 1) / 2 - y / plane, (self.size - 1) / 2 + x / plane
        if self.position is not None:
            return np.stack([row, column], axis=1)
        return np.stack([(self.depth - 1) / 2 + z * self.depth / _THROUGH_PLANE, row, column], axis=1)

    def coarse(self, fine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average the last axes of an array on the fine grid, (..., *fine), down to (..., *shape)."""
        for axis in range(fine.ndim - len(self.shape), fine.ndim):
            even = (slice(None),) * axis + (slice(0, None, 2),)
            odd = (slice(None),) * axis + (slice(1, None, 2),)
            fine = fine[even] + fine[odd]
        return fine * np.float32(0.5 ** len(self.shape))


@dataclass(frozen=True, slots=True)
class Pose:
    """A rigid motion from the grid's space into the patient's.

    Attributes:
        rotation: Shape (3, 3).
        shift: mm, shape (3,).
    """

    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def identity(cls) -> Pose:
        """Return the pose of the first visit: the grid is aligned to the patient."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def draw(cls, rng: np.random.Generator, degrees: float = 3.0, mm: float = 3.0) -> Pose:
        """Return rotations of up to `degrees` about a random axis and shifts of up to `mm` in a random direction."""
        axis, way = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
        angle = np.deg2rad(degrees) * rng.uniform(-1, 1)
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        return cls(rotation, way * mm * rng.uniform())

    def into(self, points: Points) -> Points:
        """Map points of the grid's space, (3, n), into the patient's."""
        x, y, z = points
        rows = [(r[0] * x + r[1] * y + r[2] * z + s) for r, s in zip(self.rotation, self.shift, strict=True)]
        return np.stack(rows).astype(np.float32)

    def back(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points of the patient's space, (3, n), into the grid's."""
        return np.asarray(self.rotation.T @ (np.asarray(points, dtype=np.float64) - self.shift[:, None]))
