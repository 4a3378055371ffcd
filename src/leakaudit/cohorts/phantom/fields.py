"""Seeded random streams and smooth random fields that can be evaluated at any point of space."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Points", "Waves", "band", "isotropic", "smooth", "stream"]

Points = NDArray[np.float32]
"""Coordinates in mm, shape (3, n): x to the right, y to the front, z up, origin in the middle of the brain."""


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one purpose, independent of every other purpose and of the order of use.

    Args:
        seed: Seed of the dataset.
        names: What is drawn, such as a patient key and a purpose.
    """
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(list(np.frombuffer(digest, dtype="<u4"))))


@dataclass(frozen=True, slots=True)
class Waves:
    """A random field as a sum of plane waves. It has no grid: slices, volumes and poses see the same field.

    Attributes:
        vectors: Wave vectors in radians per mm, shape (k, 3).
        cosines: Weights of the cosine parts, shape (k,) or (k, c) for a field of c components.
        sines: Weights of the sine parts, same shape.
    """

    vectors: NDArray[np.float32]
    cosines: NDArray[np.float32]
    sines: NDArray[np.float32]

    def __call__(self, points: Points) -> NDArray[np.float32]:
        """Return the field at `points`, shape (n,) or (c, n).

        The sum runs wave by wave and without BLAS, so that a value does not depend on how many points are asked for.
        """
        x, y, z = points
        if self.cosines.ndim > 1:
            return self._vector(points)
        total = np.zeros(x.size, dtype=np.float32)
        phase, part = np.empty_like(total), np.empty_like(total)
        # a cos + b sin as one shifted cosine: half the transcendental functions.
        size, shift = np.hypot(self.cosines, self.sines), np.arctan2(self.sines, self.cosines)
        for (kx, ky, kz), a, s in zip(self.vectors, size, shift, strict=True):
            np.multiply(x, kx, out=phase)
            phase -= s
            phase += np.multiply(y, ky, out=part)
            phase += np.multiply(z, kz, out=part)
            np.cos(phase, out=phase)
            phase *= a
            total += phase
        return total

    def _vector(self, points: Points) -> NDArray[np.float32]:
        x, y, z = points
        total: NDArray[np.float32] = np.zeros((self.cosines.shape[1], x.size), dtype=np.float32)
        part = np.empty_like(x)
        for (kx, ky, kz), a, b in zip(self.vectors, self.cosines, self.sines, strict=True):
            phase = kx * x
            phase += np.multiply(y, ky, out=part)
            phase += np.multiply(z, kz, out=part)
            cosine, sine = np.cos(phase), np.sin(phase)
            for row, ac, bc in zip(total, a, b, strict=True):
                row += np.multiply(cosine, ac, out=part)
                row += np.multiply(sine, bc, out=part)
        return total


def isotropic(rng: np.random.Generator, count: int, shortest: float, longest: float) -> NDArray[np.float32]:
    """Return wave vectors of random direction with wavelengths of `shortest` to `longest` mm, shape (count, 3)."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = 2 * np.pi / rng.uniform(shortest, longest, (count, 1))
    return np.asarray(direction * length, dtype=np.float32)


def _weights(rng: np.random.Generator, shape: tuple[int, ...], rms: float) -> NDArray[np.float32]:
    return np.asarray(rng.standard_normal(shape) * rms / np.sqrt(shape[0]), dtype=np.float32)


def band(
    rng: np.random.Generator, count: int, shortest: float, longest: float, *, vectors: NDArray[np.float32] | None = None
) -> Waves:
    """Return a band-passed Gaussian random field of unit variance.

    Args:
        rng: Where the weights come from, and the wave vectors unless given.
        count: Number of waves.
        shortest: Shortest wavelength in mm.
        longest: Longest wavelength in mm.
        vectors: Wave vectors to use, shape (count, 3).
    """
    k = isotropic(rng, count, shortest, longest) if vectors is None else vectors
    return Waves(k, _weights(rng, (count,), 1.0), _weights(rng, (count,), 1.0))


def smooth(rng: np.random.Generator, count: int, sigma: float, rms: float) -> Waves:
    """Return a displacement field: white noise smoothed by a Gaussian of `sigma` mm, `rms` mm in each direction.

    The spectrum of such a field is Gaussian with standard deviation 1 / (sqrt(2) sigma), which is where the wave vectors
    are drawn from.
    """
    vectors = (rng.standard_normal((count, 3)) / (np.sqrt(2) * sigma)).astype(np.float32)
    return Waves(vectors, _weights(rng, (count, 3), rms), _weights(rng, (count, 3), rms))
