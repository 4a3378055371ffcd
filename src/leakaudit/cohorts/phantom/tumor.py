"""A glioma grown in a patient's anatomy: necrosis, a rough enhancing rim, and edema that fingers along white matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.graph import MCP_Geometric

from leakaudit.cohorts.phantom.anatomy import Anatomy, Tissue
from leakaudit.cohorts.phantom.fields import Points, Waves, band
from leakaudit.cohorts.phantom.grid import Grid, Pose

__all__ = ["Focus", "Growth", "Tumor"]

_SLOWNESS = np.full(len(Tissue), -1.0)
"""Time per mm by tissue: white matter 1, gray matter 5 times slower (Swanson et al. 2000), all else impassable."""
_SLOWNESS[[Tissue.WM, Tissue.WMH]] = 1.0
_SLOWNESS[Tissue.GM] = 5.0
_FAR = np.float32(1e3)


@dataclass(frozen=True, slots=True)
class Focus:
    """One center of growth.

    Attributes:
        seed: Where it starts in the patient's space, mm, shape (3,).
        core: Radius of the tumor core in mm.
        edema: How far edema reaches beyond the core along white matter, mm.
    """

    seed: NDArray[np.float64]
    core: float
    edema: float


@dataclass(frozen=True, slots=True)
class Growth:
    """A tumor on the fine grid of one sample.

    Attributes:
        tissue: ED, ET, NCR or NET where there is tumor, 0 elsewhere, shape (n,).
        weight: How far the tissue there has become tumor, 0 to 1, shape (n,).
    """

    tissue: NDArray[np.uint8]
    weight: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tumor:
    """What of a patient's tumor is fixed at its first visit.

    Attributes:
        foci: One center of growth, or two.
        enhancing: Whether it has enhancing tissue at all.
        rim: Thickness of the enhancing rim in mm.
        push: Mass effect: displacement at the seed's border in mm and its reach in mm.
        strength: How different from healthy tissue it looks, about 0.5 to 1.
        rough: Shape of the core's border.
        fingers: Shape of the edema's border.
        patchy: Where the tumor takes less contrast agent or is less altered.
        rate: Growth from one visit to the next, as a fraction of its size at the first.
    """

    foci: tuple[Focus, ...]
    enhancing: bool
    rim: float
    push: tuple[float, float]
    strength: float
    rough: Waves
    fingers: Waves
    patchy: Waves
    rate: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: Anatomy) -> Tumor:
        """Draw a tumor that starts in the white matter of `anatomy`."""
        core = float(np.clip(np.exp(rng.normal(np.log(14.0), 0.28)), 8.0, 23.0))
        foci = [Focus(_seed(rng, anatomy, None), core, rng.uniform(8.0, 22.0))]
        if rng.uniform() < 0.12:
            scale = rng.uniform(0.4, 0.65)
            foci.append(Focus(_seed(rng, anatomy, foci[0].seed), scale * core, rng.uniform(5.0, 12.0)))
        return cls(
            foci=tuple(foci),
            enhancing=bool(rng.uniform() > 0.175),
            rim=rng.uniform(3.0, 8.0),
            push=(rng.uniform(2.0, 8.0), rng.uniform(22.0, 35.0)),
            strength=rng.uniform(0.45, 0.95),
            rough=band(rng, 16, 9.0, 25.0),
            fingers=band(rng, 16, 8.0, 20.0),
            patchy=band(rng, 16, 9.0, 24.0),
            rate=rng.uniform(0.04, 0.12),
        )

    def displace(self, points: Points) -> Points:
        """Return where the tissue found at `points` came from before the first focus pushed it, shape (3, n)."""
        amplitude, reach = self.push
        away = points - self.foci[0].seed[:, None].astype(np.float32)
        square = (away * away).sum(axis=0)
        # r / (r + 3 mm) takes the direction's jump out of the center.
        radius = np.sqrt(square)
        scale = np.float32(amplitude) * np.exp(square / np.float32(-(reach**2))) / (radius + 3)
        return np.asarray(points - scale * away)

    def grow(self, grid: Grid, pose: Pose, points: Points, tissue: NDArray[np.uint8], growth: float) -> Growth:
        """Grow the tumor through the tissue of one sample.

        Args:
            grid: The sample's grid.
            pose: The visit's pose.
            points: Fine grid points in the patient's space, shape (3, n).
            tissue: Healthy tissue there, shape (n,).
            growth: Size relative to the first visit.

        Returns:
            The tumor, on the fine grid.
        """
        core = np.full(tissue.size, _FAR, dtype=np.float32)
        edema = np.full(tissue.size, _FAR, dtype=np.float32)
        for focus in self.foci:
            near, arrival, radius = _march(focus, grid, pose, points, tissue, 1.6 * growth * (focus.core + focus.edema))
            # Half way between the arrival time and a ball: cores displace tissue where edema only seeps through it.
            core[near] = np.minimum(core[near], 0.5 * (arrival + radius) - growth * focus.core)
            edema[near] = np.minimum(edema[near], arrival - growth * (focus.core + focus.edema))
        at = np.flatnonzero((core < 20) | (edema < 20))
        return self._classify(at, points[:, at], tissue[at], core[at], edema[at], tissue.size)

    def _classify(
        self, at: NDArray[np.intp], points: Points, tissue: NDArray[np.uint8],
        core: NDArray[np.float32], edema: NDArray[np.float32], count: int,
    ) -> Growth:  # fmt: skip
        rough, fingers, patchy = self.rough(points), self.fingers(points), self.patchy(points)
        core = core + 2.0 * rough
        edema = edema + 4.5 * fingers
        solid = np.isin(tissue, (Tissue.WM, Tissue.GM, Tissue.WMH))
        white = (tissue == Tissue.WM) | (tissue == Tissue.WMH)
        kind = np.zeros(at.size, dtype=np.uint8)
        kind[white & (edema < 0)] = Tissue.ED
        inner = solid & (core < 0)
        if self.enhancing:
            rim = inner & (core > -self.rim * (1 + 0.35 * patchy))
            kind[inner] = Tissue.NCR
            kind[rim] = Tissue.ET
            kind[rim & (patchy < -1.3)] = Tissue.NET
        else:
            kind[inner] = Tissue.NET
        fade = np.where(inner, np.float32(1.0), 0.4 + 0.6 * np.clip(-edema / 10, 0, 1))
        weight = np.clip(self.strength * fade * (1 + 0.3 * patchy), 0.1, 1.0)
        result = Growth(np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.float32))
        result.tissue[at] = kind
        result.weight[at] = np.where(kind > 0, weight, 0)
        return result


def _seed(rng: np.random.Generator, anatomy: Anatomy, first: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return a place in the white matter; near the height of `first` and 28 to 50 mm away from it if given."""
    low = np.array([-48.0, -58.0, -8.0])
    high = np.array([48.0, 58.0, 30.0])
    if first is not None:
        low[2], high[2] = first[2] - 5, first[2] + 5
    points = rng.uniform(low, high, (400, 3))
    white = anatomy.tissue(points.T.astype(np.float32)) == Tissue.WM
    depth = anatomy.inside(points.T.astype(np.float32))[1]
    score = np.where(white, 0.0, 100.0) + np.maximum(10 - depth, 0) + np.maximum(14 - np.abs(points[:, 0]), 0)
    if first is not None:
        apart = np.linalg.norm(points - first, axis=1)
        score += np.maximum(28 - apart, 0) + np.maximum(apart - 50, 0)
    return np.asarray(points[np.argmin(score)])


def _march(
    focus: Focus, grid: Grid, pose: Pose, points: Points, tissue: NDArray[np.uint8], reach: float
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Return the fine voxels within `reach`, their arrival times (mm of white matter) and distances from the seed (mm).

    Minimal-cost paths on the grid stand for the eikonal equation. In a slice the path to the slice's plane is taken as
    straight: the times add like the legs of a right triangle.
    """
    square = np.zeros(points.shape[1], dtype=np.float32)
    for row, seed in zip(points, focus.seed, strict=True):
        square += (row - np.float32(seed)) ** 2
    near = np.flatnonzero(square < reach**2)
    if not near.size:
        return near, np.empty(0, np.float32), np.empty(0, np.float32)
    box = tuple(slice(i.min(), i.max() + 1) for i in np.unravel_index(near, grid.fine))
    slowness = np.full(tissue.size, -1.0)
    slowness[near] = _SLOWNESS[tissue[near]]
    cost = slowness.reshape(grid.fine)[box]
    white = np.where(cost > 0, square.reshape(grid.fine)[box], np.inf)
    start = np.unravel_index(int(np.argmin(white)), white.shape)
    times = np.full(grid.fine, np.inf)
    if np.isfinite(white[start]):
        spacing = tuple(s / 2 for s in grid.spacing)
        times[box] = MCP_Geometric(cost, sampling=spacing).find_costs([start])[0]
    arrival = np.minimum(times.ravel()[near], _FAR).astype(np.float32)
    if grid.position is not None:
        across = pose.back(focus.seed[:, None])[2, 0] - grid.height()
        arrival = np.hypot(arrival, np.float32(across))
    return near, arrival, np.sqrt(square[near])
