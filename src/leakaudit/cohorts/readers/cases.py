"""What a layout finds on disk: files, and cases made of them. Nothing is opened here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from leakaudit.cohorts.readers.labels import LabelCodes
from leakaudit.errors import UserError

__all__ = ["ALIASES", "MASKS", "Case", "File", "Source", "identifiers", "natural", "nifti_files", "split_suffix", "token"]

ALIASES: dict[str, str] = {
    "flair": "flair", "t2f": "flair", "fla": "flair",
    "t1": "t1", "t1n": "t1", "t1w": "t1",
    "t1ce": "t1ce", "t1c": "t1ce", "t1gd": "t1ce", "t1post": "t1ce",
    "t2": "t2", "t2w": "t2",
}  # fmt: skip
"""Canonical modality by its names in the releases (lower case)."""

MASKS = ("seg", "segm")
"""Names of masks in BraTS releases; `Segm` is the one of BraTS20_Training_355 in the Kaggle copy."""

_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_DEPTH = 6


@dataclass(frozen=True, slots=True)
class File:
    """A file below the root of a data set.

    Attributes:
        path: Where it is.
        name: Its path below the root with forward slashes, for messages.
    """

    path: Path
    name: str

    @property
    def stem(self) -> str:
        """Its name without folder and without .nii or .nii.gz."""
        return split_suffix(self.name.rpartition("/")[2])

    @property
    def folder(self) -> str:
        """Its folder below the root; empty at the root."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the voxels of one modality are.

    Attributes:
        file: The file.
        channel: Index on the fourth axis; None in a 3-D file.
        channels: Length of the fourth axis that the layout promises; 0 for a 3-D file.
    """

    file: File
    channel: int | None = None
    channels: int = 0


@dataclass(slots=True, kw_only=True)
class Case:
    """One visit of one patient, as the file names tell it.

    Attributes:
        name: Name of the case in the layout.
        patient: Patient key.
        timepoint: Orders the visits of a patient.
        codes: Meaning of the mask's values.
        site: Hospital; empty where the layout does not tell.
        images: Source by canonical modality.
        mask: The mask.
    """

    name: str
    patient: str
    codes: LabelCodes
    timepoint: str = ""
    site: str = ""
    images: dict[str, Source] = field(default_factory=dict)
    mask: File | None = None

    def add(self, modality: str, source: Source) -> None:
        """Add the source of a modality.

        Raises:
            UserError: There is another file of it (the same file compressed and uncompressed is not another).
        """
        present = self.images.setdefault(modality, source)
        if present is not source and split_suffix(present.file.name) != split_suffix(source.file.name):
            raise UserError(
                f"{present.file.name} and {source.file.name} are both the {modality} of case {self.name}. Remove one of "
                "them, or choose a root that holds one copy of the data set."
            )

    def add_mask(self, file: File) -> None:
        """Add the mask.

        Raises:
            UserError: There is another one.
        """
        if self.mask is not None and split_suffix(self.mask.name) != split_suffix(file.name):
            raise UserError(f"{self.mask.name} and {file.name} are both the mask of case {self.name}. Remove one of them.")
        self.mask = self.mask or file


def split_suffix(name: str) -> str:
    """Return a file name without .nii or .nii.gz, whatever their case."""
    return _SUFFIX.sub("", name)


def token(stem: str) -> tuple[str, str]:
    """Split a stem at its last '_' or '-': what is before it, and the last token in lower case."""
    match = re.fullmatch(r"(.*)[_-]([^_-]*)", stem)
    return (match[1], match[2].lower()) if match else ("", stem.lower())


def identifiers(cases: Iterable[Case], root: Path) -> tuple[str, ...]:
    """Return the names of cases and files, which say whose they are, and the folder they lie in.

    A stem that is the same for every patient (`flair`, `mask`) is a word like any other and not among them.
    """
    names = {str(root), str(root.resolve())}
    for case in cases:
        names |= {case.name, case.patient}
        for file in (*(source.file for source in case.images.values()), *([case.mask] if case.mask else [])):
            names |= {file.name, split_suffix(file.name)} if file.folder else set()
            if case.patient.casefold() in file.stem.casefold() or case.name.casefold() in file.stem.casefold():
                names.add(file.stem)
    return tuple(sorted(names))


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key by which 'v2' comes before 'v10'."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in parts]


def nifti_files(root: Path) -> Iterator[File]:
    """Yield the files called .nii or .nii.gz below `root`, in sorted order.

    Links to folders are followed. Hidden files are not: `._BRATS_001.nii.gz` is a resource file that macOS leaves behind.

    Raises:
        UserError: A folder cannot be listed (its patients would be missing without a word).
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"A folder of the data set cannot be listed: {error}. Make it readable, or remove it.")

    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        below = Path(folder).relative_to(root)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX" and len(below.parts) < _DEPTH)
        for name in sorted(names):
            if _SUFFIX.search(name) and not name.startswith("."):
                yield File(Path(folder, name), (below / name).as_posix())
