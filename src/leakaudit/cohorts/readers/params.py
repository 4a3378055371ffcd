"""Parameters of the datasets that are read from NIfTI files, without torch."""

from __future__ import annotations

import re
import string
from typing import Literal

from pydantic import Field, field_validator, model_validator

from leakaudit.cohorts.cohort import LABELS
from leakaudit.errors import nearest
from leakaudit.plugins.params import DatasetParams

__all__ = [
    "Brats2018Params", "Brats2023Params", "MsdBrainParams", "NiftiFolderParams", "NnunetRawParams", "ReaderParams",
]  # fmt: skip

Modality = Literal["flair", "t1", "t1ce", "t2"]

_FIELDS = ("patient", "modality", "visit", "site")


def _check_labels(labels: dict[int, int]) -> dict[int, int]:
    """Refuse targets that are no canonical label, and a remapped background."""
    known = ", ".join(f"{value} {name}" for name, value in LABELS.items())
    for source, target in labels.items():
        if target not in LABELS.values():
            raise ValueError(f"label {source} is mapped to {target}; the canonical labels are {known}")
    if labels.get(0, 0) != 0:
        raise ValueError("label 0 is the background and cannot be mapped to anything else")
    return labels


class ReaderParams(DatasetParams):
    """What all readers have in common: where, which channels, which samples, and whose patients."""

    root: str = Field(description="Folder of the data set. '~' and environment variables such as $DATA are expanded.")
    modalities: list[Modality] = Field(
        ["flair", "t1", "t1ce", "t2"], min_length=1, description="Channels to read, in this order: some of flair, t1, t1ce, t2."
    )
    dims: Literal[2, 3] = Field(2, description="2: axial slices; 3: whole volumes, one per visit.")
    size: int | list[int] = Field(
        64,
        description="Size of a sample in voxels: one number for a square (cube), [rows, columns] for slices, or "
        "[slices, rows, columns] for volumes. A box around the brain is padded to this aspect and resampled. The U-Net "
        "halves it at every level but the first, so it should be divisible by 2^(levels - 1).",
    )
    slices: int = Field(8, ge=1, description="Axial slices per patient and visit. Ignored for volumes.")
    choose: Literal["lesion", "brain"] = Field(
        "lesion",
        description="Take the slices evenly over those that contain a labeled voxel, or over all that contain brain. "
        "Slices in which the brain is cut off come last.",
    )
    sites: Literal["none", "institution", "table"] = Field(
        "none",
        description="Hospital of a patient: 'none' (one site, or the {site} of a folder pattern), 'institution' (from "
        "identifiers such as Brats18_CBICA_AAB_1), or 'table' (the CSV file `site_table`).",
    )
    site_table: str | None = Field(
        None, description="CSV file with the columns patient and site; a relative path starts at `root`."
    )
    exclude: list[str] = Field([], description="Patient keys to leave out.")
    public: bool = Field(
        False, description="Declare that images of these patients may be published. Only then may a report show them."
    )

    @field_validator("modalities")
    @classmethod
    def _once(cls, modalities: list[Modality]) -> list[Modality]:
        if len(set(modalities)) < len(modalities):
            raise ValueError("every modality can be listed once only")
        return modalities

    @model_validator(mode="after")
    def _consistent(self) -> ReaderParams:
        if isinstance(self.size, list) and len(self.size) != self.dims:
            raise ValueError(f"size needs {self.dims} numbers (or a single one) for dims: {self.dims}, got {self.size}")
        if min(self.shape) < 8:
            raise ValueError(f"size must be at least 8 voxels, got {self.size}")
        if (self.sites == "table") != (self.site_table is not None):
            raise ValueError("sites: table and site_table belong together: give both or none")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of one sample, (rows, columns) or (slices, rows, columns)."""
        return tuple(self.size) if isinstance(self.size, list) else (self.size,) * self.dims

    @property
    def records(self) -> int:
        """Number of samples of one visit."""
        return self.slices if self.dims == 2 else 1


class Brats2018Params(ReaderParams):
    """BraTS 2018 to 2021."""


class Brats2023Params(ReaderParams):
    """BraTS 2023 and 2024."""

    edition: Literal[2023, 2024] = Field(
        2023,
        description="Year of the release. The file names do not tell it, but the labels differ: 4 is unknown in 2023, the "
        "resection cavity in 2024 GLI and edema in 2024 PED.",
    )


class MsdBrainParams(ReaderParams):
    """Medical Segmentation Decathlon, Task01_BrainTumour."""


class NnunetRawParams(ReaderParams):
    """A raw data set of nnU-Net."""

    labels: dict[int, int] | None = Field(
        None,
        description="Label map from the files' values to canonical ones (0 background, 1 NCR, 2 ED, 3 ET), for example "
        "{1: 2, 2: 1, 3: 3}. Default: from the label names of dataset.json.",
    )
    patient_pattern: str | None = Field(
        None,
        description="Regular expression with a group (?P<patient>...) and possibly (?P<visit>...) that matches the whole "
        "case name, where a patient has several cases. Default: every case is a patient.",
    )

    _labels = field_validator("labels")(lambda labels: labels if labels is None else _check_labels(labels))

    @field_validator("patient_pattern")
    @classmethod
    def _has_patient(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groupindex
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if "patient" not in groups:
                raise ValueError("needs a group named patient, for example (?P<patient>.+)_(?P<visit>[0-9]+)")
        return pattern


class NiftiFolderParams(ReaderParams):
    """A plain folder whose file names are described by a pattern."""

    pattern: str = Field(
        description="Path of an image below `root` with the fields {patient} and {modality} and possibly {visit} and "
        "{site}, for example '{patient}/{patient}_{modality}.nii.gz'. Both .nii and .nii.gz match; case is ignored."
    )
    labels: dict[int, int] = Field(
        description="Label map from the mask's values to canonical ones (0 background, 1 NCR, 2 ED, 3 ET), for example "
        "{1: 2}. A value that is not listed is an error."
    )
    mask: str = Field("seg", min_length=1, description="What stands in place of {modality} in the name of the mask.")
    mask_pattern: str | None = Field(
        None, description="Path of the mask below `root`, where the masks do not follow `pattern`: '{patient}_mask.nii.gz'."
    )
    aliases: dict[str, Modality] = Field(
        {}, description="Further names of modalities in file names, for example {'t1_gd': 't1ce'}."
    )

    _labels = field_validator("labels")(_check_labels)

    @field_validator("pattern", "mask_pattern")
    @classmethod
    def _fields(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
            except ValueError as error:
                raise ValueError(f"{pattern!r} is not a pattern: {error}") from None
            for name in sorted(fields - set(_FIELDS)):
                raise ValueError(f"unknown field {{{name}}} in {pattern!r}.{nearest(name, _FIELDS)}")
            if "patient" not in fields:
                raise ValueError(f"{pattern!r} needs the field {{patient}}")
        return pattern

    @model_validator(mode="after")
    def _modality_field(self) -> NiftiFolderParams:
        if "{modality}" not in self.pattern:
            raise ValueError(f"pattern {self.pattern!r} needs the field {{modality}}")
        if self.mask_pattern is not None:
            if "{modality}" in self.mask_pattern:
                raise ValueError("mask_pattern cannot contain {modality}: a patient has one mask per visit")
            if ("{visit}" in self.pattern) != ("{visit}" in self.mask_pattern):
                raise ValueError("pattern and mask_pattern must both contain {visit}, or neither of them")
        return self
