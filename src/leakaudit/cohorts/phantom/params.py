"""Parameters of the phantom."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from leakaudit.cohorts.cohort import MODALITIES
from leakaudit.errors import nearest
from leakaudit.plugins.params import DatasetParams

__all__ = ["PhantomParams"]

_CANARY_SIZE = 56

_Size = Annotated[int, Field(ge=1)]


class PhantomParams(DatasetParams):
    """Parameters of the synthetic phantom.

    The field of view is 192 mm in plane and 144 mm through plane whatever the resolution, so that `size` and `depth`
    set the voxel size: the default slice has 3 mm voxels and a slice spacing of 4.5 mm.

    Re-identification is possible and meant to be: the cortical folds, ventricles and brain outline of a patient are the
    same at every visit. With the defaults, the T1 image of one visit retrieves the other visit of the same patient at
    rank 1 among 50 patients for nearly everyone, by normalized cross-correlation inside the brain without registration.
    """

    patients: int = Field(default=200, ge=1, le=10_000, description="Number of patients.")
    size: int = Field(
        default=64, ge=16, le=256, multiple_of=8,
        description="In-plane voxels along each side of the 192 mm field of view; a multiple of 8.",
    )  # fmt: skip
    dims: Literal[2, 3] = Field(default=2, description="2 renders axial slices, 3 renders whole volumes.")
    depth: int = Field(
        default=32, ge=8, le=256, multiple_of=8,
        description="Slices of a volume over 144 mm; with dims 2 it sets the spacing and the numbering of the slices.",
    )  # fmt: skip
    slices: int = Field(
        default=1, ge=1, le=32,
        description="Slices taken per patient and visit with dims 2: the one through the tumor and its nearest neighbors.",
    )  # fmt: skip
    visits: int = Field(default=2, ge=1, le=8, description="Visits of each patient: same anatomy, new pose and scan.")
    sites: Annotated[int, Field(ge=1, le=64)] | Annotated[tuple[_Size, ...], Field(min_length=1, max_length=64)] = Field(
        default=4,
        description="Hospitals, each with its own scanner: how many, in which patients take turns, or a list of how many patients "
        "each has.",
    )
    canary: bool = Field(
        default=False,
        description="Plant 32 identity bits per patient as small bright dots in T2; off for utility figures.",
    )
    contrast: float = Field(
        default=1.0, gt=0.0, le=1.25,
        description="Tumor contrast relative to the calibrated one; lower makes the segmentation harder.",
    )  # fmt: skip
    noise: float = Field(
        default=1.0, ge=0.0, le=5.0,
        description="Rician noise relative to the calibrated levels of 2 to 4.5 % of the brightest tissue, by site.",
    )  # fmt: skip
    bias: float = Field(
        default=0.2,
        ge=0.0,
        le=0.5,
        description="Span of the bias field: the gain runs from 1 - bias to 1 + bias over the field of view.",
    )
    modalities: tuple[str, ...] = Field(default=MODALITIES, description="Image channels, in order: any of flair, t1, t1ce and t2.")

    @field_validator("modalities")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError(f"the phantom needs at least one modality of {', '.join(MODALITIES)}")
        for name in value:
            if name not in MODALITIES:
                raise ValueError(f"the phantom has no modality {name!r}.{nearest(name, MODALITIES)}")
        if len(set(value)) < len(value):
            raise ValueError(f"each modality may be named once, got {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _everybody_has_a_site(self) -> Self:
        if isinstance(self.sites, tuple) and sum(self.sites) != self.patients:
            raise ValueError(f"sites lists {sum(self.sites)} patients in all, but patients is {self.patients}; make them equal")
        return self

    def site_of(self, index: int) -> int:
        """Return the number of the hospital of a patient, both from 0."""
        if isinstance(self.sites, int):
            return index % self.sites
        return bisect_right(list(accumulate(self.sites)), index)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.slices > self.depth // 2:
            raise ValueError(
                f"{self.slices} slices per patient do not fit near the tumor in {self.depth} slices of the whole head; "
                f"take at most {self.depth // 2} slices or raise depth"
            )
        if self.dims == 3 and self.slices > 1:
            raise ValueError("slices applies to dims 2 only; with dims 3 every patient is one volume, leave slices at 1")
        if self.canary and self.size < _CANARY_SIZE:
            raise ValueError(
                f"32 canary dots do not fit into the white matter at size {self.size}; "
                f"use size {_CANARY_SIZE} or more, or canary: false"
            )
        return self
