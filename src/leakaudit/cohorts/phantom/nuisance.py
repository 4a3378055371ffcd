"""What differs between scans of one person: scanner, gain, bias field, texture and noise. Nothing here knows who it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from leakaudit.cohorts.phantom.fields import stream
from leakaudit.cohorts.phantom.grid import Grid, Pose
from leakaudit.cohorts.phantom.signal import Sequences

__all__ = ["Scan", "Scanner"]

_CUBIC = np.array([(i, j, k) for i in range(4) for j in range(4) for k in range(4) if 0 < i + j + k <= 3])


@dataclass(frozen=True, slots=True)
class Scanner:
    """A site's scanner.

    Attributes:
        sequences: The site's protocol, every time within 10 % of the nominal one.
        gain: Mean intensity of an average brain by modality, 300 to 3000, shape (4,).
        noise: Standard deviation of the noise relative to the brightest tissue.
    """

    sequences: Sequences
    gain: NDArray[np.float64]
    noise: float

    @classmethod
    def of(cls, seed: int, site: int) -> Scanner:
        """Return the scanner of a site."""
        rng = stream(seed, "site", site)
        gain = np.exp(rng.uniform(np.log(300), np.log(3000), 4))
        return cls(Sequences.nominal().jittered(rng, 0.10), gain, rng.uniform(0.02, 0.045))


@dataclass(frozen=True, slots=True)
class Scan:
    """One visit to a scanner.

    Attributes:
        pose: How the patient lay.
        sequences: Timing of this scan.
        gain: By modality, shape (4,).
        noise: Standard deviation of the noise relative to the brightest tissue.
        bias: Coefficients of a cubic polynomial by modality, for coordinates within -1 to 1, shape (4, 19).
    """

    pose: Pose
    sequences: Sequences
    gain: NDArray[np.float64]
    noise: float
    bias: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, scanner: Scanner, visit: int, noise: float, bias: float) -> Scan:
        """Draw a visit.

        Args:
            rng: The visit's stream.
            scanner: The site's scanner.
            visit: 0 for the first, which lies straight; later ones are moved by up to 3 degrees and 3 mm.
            noise: Factor of the scanner's noise.
            bias: The bias field spans 1 - bias to 1 + bias.
        """
        moved = Pose.draw(rng)
        return cls(
            pose=moved if visit else Pose.identity(),
            sequences=scanner.sequences.jittered(rng, 0.02),
            gain=np.clip(scanner.gain * rng.uniform(0.9, 1.1, 4), 300, 3000),
            noise=noise * scanner.noise,
            bias=_polynomials(rng, bias),
        )

    def field(self, grid: Grid) -> NDArray[np.float32]:
        """Return the bias field on the voxels, shape (4, *grid.shape)."""
        values = np.exp(np.tensordot(self.bias, _monomials(grid.points(refine=1) / 96), axes=1))
        return np.asarray(values.reshape(4, *grid.shape), dtype=np.float32)

    def acquire(
        self, rng: np.random.Generator, grid: Grid, clean: NDArray[np.float32], brightest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what the scanner delivers: whole numbers, shape (4, *grid.shape).

        Args:
            rng: Stream of this sample's texture and noise.
            grid: Its voxels.
            clean: Signal of the tissues, an average brain having mean 1, shape (4, *grid.shape).
            brightest: Signal of the brightest healthy tissue by modality, shape (4,).
        """
        texture = rng.standard_normal(clean.shape, dtype=np.float32)
        texture = ndimage.gaussian_filter(texture, [0.0, *(4.0 / s for s in grid.spacing)], truncate=2.5)
        amount = rng.uniform(0.02, 0.04, clean.shape[0]) / texture.std(axis=tuple(range(1, clean.ndim)))
        axes = (slice(None),) + (None,) * len(grid.shape)
        signal = clean * (1 + amount.astype(np.float32)[axes] * texture) * self.field(grid)
        sigma = (self.noise * brightest)[axes].astype(np.float32)
        first, second = sigma * rng.standard_normal((2, *clean.shape), dtype=np.float32)
        # Magnitude of a complex signal: Rician noise (Gudbjartsson and Patz 1995).
        noisy = np.sqrt((signal + first) ** 2 + second**2)
        return np.asarray(np.rint(np.clip(noisy * self.gain.astype(np.float32)[axes], 0, 32767)))


def _monomials(points: NDArray[np.floating]) -> NDArray[np.float64]:
    line = np.asarray(points, dtype=np.float64)
    powers = [np.ones_like(line), line, line * line, line * line * line]
    return np.stack([powers[i][0] * powers[j][1] * powers[k][2] for i, j, k in _CUBIC])


def _polynomials(rng: np.random.Generator, bias: float) -> NDArray[np.float64]:
    """Return exponents whose range over the field of view is log(1 - bias) to log(1 + bias), up to a constant."""
    coefficients = rng.standard_normal((4, len(_CUBIC))) / 2.0 ** _CUBIC.sum(axis=1)
    line = np.linspace(-0.85, 0.85, 7)
    corners = np.stack(np.meshgrid(line, line, 0.6 * line, indexing="ij")).reshape(3, -1)
    values = coefficients @ _monomials(corners)
    span = values.max(axis=1) - values.min(axis=1)
    return np.asarray(coefficients * ((np.log1p(bias) - np.log1p(-bias)) / span)[:, None])
