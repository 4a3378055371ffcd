"""Datasets read from NIfTI files: BraTS, the Medical Segmentation Decathlon, nnU-Net raw folders and plain folders."""

from __future__ import annotations

from leakaudit._lazy import lazy

__all__ = [
    "Brats2018", "Brats2018Params", "Brats2023", "Brats2023Params", "MsdBrain", "MsdBrainParams", "NiftiDataset",
    "NiftiFolder", "NiftiFolderParams", "NnunetRaw", "NnunetRawParams", "ReaderParams",
]  # fmt: skip

__getattr__ = lazy(
    __name__,
    {name: "params" if name.endswith("Params") else "base" if name == "NiftiDataset" else "datasets" for name in __all__},
)
