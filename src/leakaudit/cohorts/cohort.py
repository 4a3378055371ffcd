"""A cohort in memory: images, masks, brain masks and identities, sample by sample, and its split by patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["LABELS", "MODALITIES", "REGIONS", "Cohort", "Origin", "Sample", "Split", "regions"]

MODALITIES = ("flair", "t1", "t1ce", "t2")
"""Canonical channel order."""

LABELS: dict[str, int] = {"background": 0, "NCR": 1, "ED": 2, "ET": 3}
"""Canonical label values (BraTS 2023 codes)."""

REGIONS: dict[str, tuple[int, ...]] = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
"""Evaluated regions as sets of canonical labels: whole tumor, tumor core, enhancing tumor."""


def regions(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the three region masks of a label map.

    Args:
        labels: Canonical labels, shape (n, *spatial).

    Returns:
        Zeros and ones, shape (n, 3, *spatial), in the order of `REGIONS`.
    """
    return np.stack([np.isin(labels, values) for values in REGIONS.values()], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Where one sample (a slice or a volume) comes from.

    Attributes:
        patient: Patient key. Splits, statistics and guarantees count patients, never samples.
        site: Hospital.
        visit: 0 for the first visit; later visits of a patient serve as gallery for re-identification.
        position: Slice index along the axis the slices were cut on; 0 for volumes.
    """

    patient: str
    site: str = "site-0"
    visit: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the cohort is and what may be shown of it.

    Attributes:
        dataset: Plugin name of the dataset.
        synthetic: No real patient is in it.
        public: Images of it may appear in a report.
        digest: SHA-256 of the content, hex.
        notes: Things the reader of a report must know (missing modality areas, few patients, ...).
    """

    dataset: str
    synthetic: bool = False
    public: bool = False
    digest: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Aligned arrays over samples. Arrays may be memory maps; treat them as read-only.

    Attributes:
        images: float32, (n, modalities, *spatial); z-scored inside the brain of each image, exactly 0 outside it.
        labels: uint8, (n, *spatial), canonical values of `LABELS`.
        brain: bool, (n, *spatial).
        samples: Provenance of each sample, length n.
        modalities: Names of the image channels.
        origin: What the cohort is.
        canaries: Identity bits planted in a patient's images, by patient key; bool arrays.
        dots: Where the canary bits sit: float32 (bits, spatial axes) voxel coordinates by (patient, visit,
            position); empty where no canary was planted.
        spacing: Voxel size in mm along each spatial axis, by (patient, visit); empty where it is not known.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    samples: tuple[Sample, ...]
    modalities: tuple[str, ...]
    origin: Origin
    canaries: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    dots: Mapping[tuple[str, int, int], NDArray[np.float32]] = field(default_factory=dict)
    spacing: Mapping[tuple[str, int], tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.samples)
        spatial = self.images.shape[2:]
        if self.images.shape != (n, len(self.modalities), *spatial):
            raise ValueError(f"images have shape {self.images.shape}, expected ({n}, {len(self.modalities)}, ...)")
        for name, array in (("labels", self.labels), ("brain", self.brain)):
            if array.shape != (n, *spatial):
                raise ValueError(f"{name} have shape {array.shape}, expected {(n, *spatial)}")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of one sample."""
        return self.images.shape[2:]

    @property
    def patients(self) -> tuple[str, ...]:
        """Patient keys in order of first appearance, each once."""
        return tuple(dict.fromkeys(s.patient for s in self.samples))

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites in sorted order, each once."""
        return tuple(sorted({s.site for s in self.samples}))

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> Cohort:
        """Return the samples at `index`, in that order."""
        rows = np.asarray(index, dtype=np.intp)
        samples = tuple(self.samples[i] for i in rows)
        keep = {s.patient for s in samples}
        where = {(s.patient, s.visit, s.position) for s in samples}
        visits = {(s.patient, s.visit) for s in samples}
        return replace(
            self, images=self.images[rows], labels=self.labels[rows], brain=self.brain[rows], samples=samples,
            canaries={k: v for k, v in self.canaries.items() if k in keep},
            dots={k: v for k, v in self.dots.items() if k in where},
            spacing={k: v for k, v in self.spacing.items() if k in visits},
        )  # fmt: skip

    def where(self, test: Callable[[Sample], bool]) -> Cohort:
        """Return the samples for which `test` holds."""
        return self.take([i for i, s in enumerate(self.samples) if test(s)])

    def of_patients(self, patients: Sequence[str], *, visit: int | None = 0) -> Cohort:
        """Return the samples of `patients` (one visit, or all with `visit=None`)."""
        wanted = set(patients)
        return self.where(lambda s: s.patient in wanted and visit in (None, s.visit))

    def channels(self, modalities: Sequence[str]) -> Cohort:
        """Return the cohort with only `modalities`, in that order."""
        order = [self.modalities.index(m) for m in modalities]
        return replace(self, images=self.images[:, order], modalities=tuple(modalities))


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Patients by purpose; the five groups are disjoint, and `attacked` is part of `members`.

    Attributes:
        members: Trained on.
        validation: Chance levels and attack choices are made on these.
        test: Utility is measured on these.
        non_members: Never trained on; the other side of membership inference.
        auxiliary: What the adversary may own.
        attacked: Members whose data the attacks are scored on.
    """

    members: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    non_members: tuple[str, ...]
    auxiliary: tuple[str, ...]
    attacked: tuple[str, ...]
