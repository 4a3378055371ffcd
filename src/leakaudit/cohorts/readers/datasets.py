"""The datasets: one class per layout."""

from __future__ import annotations

from pathlib import Path

from leakaudit.cohorts.readers.base import NiftiDataset
from leakaudit.cohorts.readers.brats import find_2018, find_2023
from leakaudit.cohorts.readers.cases import Case
from leakaudit.cohorts.readers.folder import find_folder
from leakaudit.cohorts.readers.params import (
    Brats2018Params,
    Brats2023Params,
    MsdBrainParams,
    NiftiFolderParams,
    NnunetRawParams,
)
from leakaudit.cohorts.readers.tasks import find_msd, find_nnunet

__all__ = ["Brats2018", "Brats2023", "MsdBrain", "NiftiFolder", "NnunetRaw"]

_OVERLAP = (
    "the releases of BraTS, MSD Task01, TCGA, UPENN-GBM and UCSF-PDGM share patients: data from another of them is neither "
    "unseen nor independent"
)


class Brats2018(NiftiDataset[Brats2018Params]):
    """BraTS 2018 to 2021: HGG and LGG folders, nested copies, .nii or .nii.gz."""

    layout = "brats-2018"
    overlap = _OVERLAP

    def find(self, root: Path) -> list[Case]:
        """Return the cases of BraTS 2018 to 2021."""
        return find_2018(root)


class Brats2023(NiftiDataset[Brats2023Params]):
    """BraTS 2023 (GLI, MEN, MET, PED, SSA) and 2024 (GLI, PED), with several timepoints per patient."""

    layout = "brats-2023"
    overlap = _OVERLAP

    def find(self, root: Path) -> list[Case]:
        """Return the cases of the edition."""
        return find_2023(root, self.params.edition)


class MsdBrain(NiftiDataset[MsdBrainParams]):
    """Medical Segmentation Decathlon, Task01_BrainTumour: 4-D files and dataset.json."""

    layout = "msd-brain"
    overlap = _OVERLAP

    def find(self, root: Path) -> list[Case]:
        """Return the cases of imagesTr and labelsTr."""
        return find_msd(root)


class NnunetRaw(NiftiDataset[NnunetRawParams]):
    """A raw data set of nnU-Net: one file per channel, and dataset.json."""

    layout = "nnunet-raw"

    def find(self, root: Path) -> list[Case]:
        """Return the cases of imagesTr and labelsTr."""
        return find_nnunet(root, self.params)


class NiftiFolder(NiftiDataset[NiftiFolderParams]):
    """A plain folder whose names the recipe describes."""

    layout = "nifti-folder"

    def find(self, root: Path) -> list[Case]:
        """Return the cases whose names match the pattern."""
        return find_folder(root, self.params)
