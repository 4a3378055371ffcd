"""From tissue to MR signal: relaxation times, proton density, contrast agent, and the four sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.phantom.anatomy import Tissue

__all__ = ["BRAIN", "Sequences", "Tissues"]

# T1 ms, T2 ms, proton density, drop of T1 after contrast agent in ms. Healthy values: BrainWeb. Tumor values are chosen for
# the contrasts measured in glioma cases, not measured themselves. Drops: quantitative T1 of 33 glioblastomas.
_TABLE: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.OUTSIDE: (1.0, 1.0, 0.0, 0.0),
    Tissue.CSF: (2569.0, 329.0, 1.0, 0.0),
    Tissue.GM: (833.0, 83.0, 0.86, 32.0),
    Tissue.WM: (500.0, 70.0, 0.77, 32.0),
    Tissue.VESSEL: (1150.0, 95.0, 0.86, 700.0),
    Tissue.WMH: (750.0, 108.0, 0.84, 50.0),
    Tissue.ED: (1100.0, 180.0, 0.88, 123.0),
    Tissue.ET: (1100.0, 130.0, 0.90, 720.0),
    Tissue.NCR: (1300.0, 190.0, 0.95, 60.0),
    Tissue.NET: (1150.0, 150.0, 0.91, 110.0),
}

BRAIN: dict[Tissue, float] = {Tissue.GM: 0.45, Tissue.WM: 0.40, Tissue.CSF: 0.15}
"""Composition of an average brain, the reference of gains and contrast ratios."""

_TUMOR = {Tissue.ED: Tissue.WM, Tissue.ET: Tissue.GM, Tissue.NCR: Tissue.GM, Tissue.NET: Tissue.GM}
"""Tumor tissues and the healthy one that each stands out from."""

_TIMES = np.array([[9000.0, 120.0], [500.0, 15.0], [500.0, 15.0], [4000.0, 100.0]])
_T1_CSF = _TABLE[Tissue.CSF][0]
_NULL_CSF = _T1_CSF * np.log(2 / (1 + np.exp(-_TIMES[0, 0] / _T1_CSF)))


@dataclass(frozen=True, slots=True)
class Tissues:
    """Relaxation times and densities by `Tissue`.

    Attributes:
        values: T1 and T2 in ms, proton density, drop of T1 in ms; shape (4, tissues).
    """

    values: NDArray[np.float64]

    @classmethod
    def nominal(cls) -> Tissues:
        """Return the average tissues."""
        return cls(np.array([_TABLE[t] for t in Tissue]).T)

    @classmethod
    def draw(cls, rng: np.random.Generator, jitter: float = 0.03) -> Tissues:
        """Return one patient's tissues: T1, T2 and density of each vary by the fraction `jitter`."""
        values = cls.nominal().values.copy()
        values[:3] *= 1 + jitter * np.clip(rng.standard_normal((3, len(Tissue))), -2, 2)
        # Uptake varies far more than relaxation: 838 +- 210 ms over 33 glioblastomas.
        values[3, Tissue.ET] = np.clip(rng.normal(values[3, Tissue.ET], 210.0), 300.0, 900.0)
        return cls(values)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Timing of FLAIR, T1, T1 after contrast agent, and T2.

    Attributes:
        times: TR and TE in ms, shape (4, 2).
        inversion: TI of FLAIR in ms.
    """

    times: NDArray[np.float64]
    inversion: float

    @classmethod
    def nominal(cls) -> Sequences:
        """Return the textbook timing, with an inversion time that nulls CSF."""
        return cls(_TIMES, float(_NULL_CSF))

    def jittered(self, rng: np.random.Generator, fraction: float) -> Sequences:
        """Return the sequences with every time changed by up to `fraction`."""
        return Sequences(
            self.times * rng.uniform(1 - fraction, 1 + fraction, self.times.shape),
            self.inversion * rng.uniform(1 - fraction, 1 + fraction),
        )

    def signal(self, tissues: Tissues, contrast: float = 1.0) -> NDArray[np.float32]:
        """Return the signal of every tissue, scaled so that an average brain has mean 1, shape (4, tissues).

        Args:
            tissues: Relaxation times and densities.
            contrast: Factor on the difference between tumor tissue and the healthy tissue it stands out from.

        Spin echo: PD (1 - exp(-TR/T1)) exp(-TE/T2). FLAIR: PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2).
        """
        t1, t2, density, drop = tissues.values
        rows = []
        for channel, (tr, te) in enumerate(self.times):
            t1_now = t1 - drop if channel == 2 else t1
            recovery = 1 - np.exp(-tr / t1_now)
            if channel == 0:
                recovery = np.abs(1 - 2 * np.exp(-self.inversion / t1) + np.exp(-tr / t1))
            rows.append(density * recovery * np.exp(-te / t2))
        signal = np.stack(rows)
        mean = sum(share * signal[:, tissue] for tissue, share in BRAIN.items())
        for tumor, healthy in _TUMOR.items():
            signal[:, tumor] = np.maximum(signal[:, healthy] + contrast * (signal[:, tumor] - signal[:, healthy]), 0)
        return np.asarray(signal / np.asarray(mean)[:, None], dtype=np.float32)
