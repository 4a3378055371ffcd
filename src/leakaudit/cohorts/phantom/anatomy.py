"""The healthy head of one patient: outline, folded cortex, ventricles, deep nuclei, falx and vessels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.phantom.fields import Points, Waves, band, isotropic, smooth, stream

__all__ = ["FOLDS", "Anatomy", "Tissue"]

FOLDS = 64
"""Number of plane waves of the folding field; their cosine and sine weights are a patient's natural identity."""

_AXES = np.array([66.0, 82.0, 60.0])
_EXPONENT = 2.4
# The wave vectors are the same for everyone, so that the weights of two patients can be compared.
_FOLD_VECTORS = isotropic(stream(0, "folding dictionary"), FOLDS, 8.0, 14.0)
# The field moves the surface in and out by `_AMPLITUDE` mm (rms), and sulci open where that exceeds `_CROWN` at the surface.
# The folds' slope is about 7 on average, so a `_RIBBON` of 17 is a cortex of 2 to 4 mm.
_AMPLITUDE, _CROWN, _RIBBON = 13.0, 4.0, 17.0


class Tissue(IntEnum):
    """Tissue classes of the renderer."""

    OUTSIDE = 0
    CSF = 1
    GM = 2
    WM = 3
    VESSEL = 4
    """Everything healthy that enhances: vessels, dura, choroid plexus."""
    WMH = 5
    """Age-related white-matter hyperintensity: bright on FLAIR and no tumor."""
    ED = 6
    ET = 7
    NCR = 8
    NET = 9
    """Solid tumor that does not enhance; labeled together with necrosis."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What of a patient stays the same at every visit, as functions of space.

    Attributes:
        axes: Half axes of the brain in mm, shape (3,).
        outline: Amplitudes, phases and tilts of the boundary's harmonics of orders 2 to 6, shape (3, 5).
        warps: Smooth displacements from the patient's space to the canonical one.
        folds: Folding field of the cortex.
        veins: Where vessels and dura show.
        patches: Where white-matter hyperintensities show.
        age: Threshold of `patches`; lower means more of them.
        ventricles: Size of the left and right lateral ventricle relative to the average, shape (2,).
    """

    axes: NDArray[np.float64]
    outline: NDArray[np.float64]
    warps: tuple[Waves, Waves]
    folds: Waves
    veins: Waves
    patches: Waves
    age: float
    ventricles: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """Draw a patient's anatomy."""
        size = np.exp(rng.normal(0.0, 0.25)) * np.exp(rng.normal(0.0, 0.1, 2))
        return cls(
            axes=_AXES * (1 + np.clip(rng.normal(0.0, 0.04, 3), -0.08, 0.06)),
            outline=np.stack([rng.uniform(0.002, 0.009, 5), rng.uniform(0, 2 * np.pi, 5), rng.normal(0, 0.02, 5)]),
            # Peaks of a Gaussian field are about twice its rms: 4 mm and 1.5 mm.
            warps=(smooth(rng, 12, 30.0, 2.0), smooth(rng, 16, 10.0, 0.75)),
            folds=band(rng, FOLDS, 8.0, 14.0, vectors=_FOLD_VECTORS),
            veins=band(rng, 10, 14.0, 30.0),
            patches=band(rng, 10, 12.0, 25.0),
            age=float(rng.normal(1.5, 0.5)),
            ventricles=np.clip(size, 0.5, 1.8),
        )

    def inside(self, points: Points) -> tuple[Points, NDArray[np.float32]]:
        """Return canonical coordinates (3, n) and the depth below the brain's surface in mm (negative outside), (n,)."""
        canonical = points + self.warps[0](points) + self.warps[1](points)
        x, y, z = canonical
        scaled = np.abs(canonical / self.axes[:, None].astype(np.float32))
        level = np.power(np.power(scaled, _EXPONENT).sum(axis=0), 1 / _EXPONENT)
        angle = np.arctan2(y, x)
        bump = np.ones_like(level)
        for order, (amplitude, phase, tilt) in enumerate(self.outline.T, start=2):
            bump += np.float32(amplitude) * np.cos(order * angle + np.float32(phase) + np.float32(tilt) * z)
        level = np.maximum(level / bump, np.float32(1e-3))
        radius = np.sqrt(x * x + y * y + z * z)
        return canonical, radius / level - radius

    def tissue(self, points: Points) -> NDArray[np.uint8]:
        """Return the `Tissue` at `points` of the patient's space, shape (n,)."""
        result = np.zeros(points.shape[1], dtype=np.uint8)
        # The warps move nothing by more than a few mm: points far outside need no field.
        near = np.flatnonzero(((points / self.axes[:, None].astype(np.float32)) ** 2).sum(axis=0) < 1.28**2)
        points = points[:, near]
        canonical, outer = self.inside(points)
        within = outer > 0
        near, points, canonical, outer = near[within], points[:, within], canonical[:, within], outer[within]
        result[near] = self._layers(points, canonical, outer)
        return result

    def _layers(self, points: Points, canonical: Points, outer: NDArray[np.float32]) -> NDArray[np.uint8]:
        x, y, z = canonical
        # The fissure between the hemispheres is a surface too, except where corpus callosum and deep nuclei join them.
        core = np.hypot((y - 2) / 48, (z - 2) / 26)
        fissure = np.abs(x) + 60 * np.maximum(1 - core, 0)
        depth = np.minimum(outer, fissure)
        level = depth + _CROWN
        # Deeper than this the field would have to exceed three standard deviations to matter.
        outside = np.flatnonzero(level < _RIBBON + 3 * _AMPLITUDE)
        level[outside] -= _AMPLITUDE * self.folds(points[:, outside])
        veins = self.veins(points)
        tissue = np.full(x.size, Tissue.WM, dtype=np.uint8)
        tissue[(level < _RIBBON) | (depth < 2.5)] = Tissue.GM
        tissue[(level < 0) | (fissure < 1.8)] = Tissue.CSF
        tissue[(level < 0) & (veins > 1.4)] = Tissue.VESSEL
        tissue[(outer < 2.0) & (veins < -1.2)] = Tissue.VESSEL
        tissue[(fissure < 0.8) & (outer < 25)] = Tissue.VESSEL
        tissue[(fissure < 3.5) & (outer < 7) & (y < -50)] = Tissue.VESSEL
        self._deep(tissue, canonical, outer)
        hyper = (tissue == Tissue.WM) & (self.patches(points) > self.age + np.minimum(np.abs(x), 40) / 40)
        tissue[hyper] = Tissue.WMH
        return tissue

    def _deep(self, tissue: NDArray[np.uint8], canonical: Points, outer: NDArray[np.float32]) -> None:
        # Only the middle of the head: everything here lies within 45 mm of the center.
        at = np.flatnonzero((outer > 12) & (np.abs(canonical[0]) < 36) & (np.abs(canonical[1]) < 50))
        x, y, z = canonical[:, at]
        side = np.abs(x)
        part = tissue[at]

        def ellipsoid(cx: float, cy: float, cz: float, a: float, b: float, c: float) -> NDArray[np.bool_]:
            return np.asarray(((side - cx) / a) ** 2 + ((y - cy) / b) ** 2 + ((z - cz) / c) ** 2 < 1)

        for nucleus in ((16, 16, 9, 5, 14, 10), (12, -12, 4, 9, 13, 9), (26, 3, 3, 5, 15, 10)):
            part[ellipsoid(*nucleus)] = Tissue.GM
        left, right = self.ventricles
        size = np.asarray(np.where(x < 0, left, right), dtype=np.float32)
        bow = 8 + np.where(y < 0, 10, 6) * (y / 35) ** 2
        horn = ((side - bow) / (5.5 * size)) ** 2 + (y / (34 * np.sqrt(size))) ** 2 + ((z - 11) / (13 * size)) ** 2
        third = (x / (2.5 * size)) ** 2 + ((y + 2) / 12) ** 2 + ((z + 4) / 9) ** 2
        part[(horn < 1) | (third < 1)] = Tissue.CSF
        part[(horn < 1) & ellipsoid(12, -20, 11, 4, 7, 6)] = Tissue.VESSEL
        tissue[at] = part
