"""Reading one NIfTI file with all suspicion: what it really is, its header, its voxels. No torch."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from leakaudit.cohorts.readers.cases import File
from leakaudit.errors import UserError

__all__ = ["Grid", "read_grid", "read_voxels"]

_GZIP = b"\x1f\x8b"
_HEADER_SIZES = {(348).to_bytes(4, "little"), (348).to_bytes(4, "big"), (540).to_bytes(4, "little"), (540).to_bytes(4, "big")}
_BROKEN = (ImageFileError, OSError, EOFError, zlib.error, ValueError, OverflowError)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of a file lie, after turning it to the closest canonical orientation (RAS+).

    Attributes:
        shape: Voxels along right, anterior, superior.
        channels: Length of a fourth axis; 0 where there is none.
        affine: (4, 4), voxel index to mm.
    """

    shape: tuple[int, int, int]
    channels: int
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along right, anterior, superior."""
        x, y, z = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return x, y, z

    def agrees(self, other: Grid) -> bool:
        """Return whether both describe the same voxels, to a hundredth of a millimeter."""
        return self.shape == other.shape and np.allclose(self.affine, other.affine, rtol=0, atol=1e-2)


def _screen(file: File) -> None:
    """Refuse files that only bear the name of a NIfTI file, before nibabel sees them."""
    if not file.path.exists():
        raise UserError(f"{file.name} is a link to a file that does not exist. Restore the file it points to.")
    try:
        with open(file.path, "rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise UserError(f"{file.name} cannot be opened ({error.strerror}). Make it readable.") from None
    if not start:
        raise UserError(f"{file.name} is empty. Download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{file.name} is a Git LFS pointer, not an image. Fetch the image itself with 'git lfs pull'.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{file.name} is a web page, not an image: the download went wrong. Download it again.")
    compressed, named = start.startswith(_GZIP), file.name.lower().endswith(".gz")
    if not compressed and start[:4] not in _HEADER_SIZES:
        if start.isascii() and b"\x00" not in start:
            raise UserError(f"{file.name} is a text file, perhaps a link saved as text. Replace it by the image itself.")
        raise UserError(f"{file.name} is not a NIfTI file: it starts with neither gzip's mark nor a NIfTI header.")
    if compressed != named:
        what, suffix = ("compressed", ".nii.gz") if compressed else ("not compressed", ".nii")
        raise UserError(f"{file.name} is {what}, unlike its name says. Rename it to end with {suffix}.")


def _open(file: File) -> Any:
    """Return nibabel's image of a screened file, with a usable data type and affine."""
    _screen(file)
    try:
        image = nib.load(file.path)
    except _BROKEN as error:
        raise _unreadable(file, error) from None
    if not isinstance(image, nib.Nifti1Image):
        raise UserError(f"{file.name} is not a NIfTI file but {type(image).__name__}. Convert it to NIfTI.")
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise UserError(f"{file.name} holds {dtype} voxels; expected whole or floating-point numbers.")
    affine = np.asarray(image.affine)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UserError(f"{file.name} has no usable affine in its header (NaN or singular). Restore the original header.")
    return image


def _unreadable(file: File, error: BaseException) -> UserError:
    what = str(error).replace(str(file.path), file.name)  # a message has no folders of the machine
    return UserError(f"{file.name} is damaged or cut short ({what}). Download or copy it again.")


def _check_length(file: File, image: Any) -> None:
    """Find truncated files without decompressing the sound ones.

    The last four bytes of a gzip file state its uncompressed length (RFC 1952). A wrong length can also come from a
    file of several gzip members, so only a file that cannot be read to the end is refused.
    """
    needed = int(image.dataobj.offset) + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    size = file.path.stat().st_size
    if file.name.lower().endswith(".gz"):
        with open(file.path, "rb") as stream:
            stream.seek(-4, os.SEEK_END)
            stated = int.from_bytes(stream.read(4), "little")
        if stated == needed % 2**32:
            return
        size = 0
        try:
            with gzip.open(file.path) as stream:
                while block := stream.read(1 << 20):
                    size += len(block)
        except _BROKEN as error:
            raise _unreadable(file, error) from None
    if size < needed:
        raise _unreadable(file, EOFError(f"{size} bytes, but the header promises {needed}"))


def read_grid(file: File) -> Grid:
    """Read the header of a file; its voxels are not touched.

    Raises:
        UserError: It is not a NIfTI file, is truncated, or has no usable header.
    """
    image = _open(file)
    _check_length(file, image)
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise UserError(f"{file.name} has shape {tuple(image.shape)}; expected a volume (3 axes, or 4 with channels).")
    orientation = io_orientation(image.affine)
    if np.isnan(orientation).any():
        raise UserError(f"{file.name} has an affine that does not tell its axes apart. Restore the original header.")
    x, y, z = (int(shape[int(np.flatnonzero(orientation[:, 0] == axis)[0])]) for axis in range(3))
    affine = np.asarray(image.affine) @ inv_ornt_aff(orientation, shape[:3])
    return Grid((x, y, z), shape[3] if len(shape) == 4 else 0, affine)


def read_voxels(file: File) -> NDArray[np.float32]:
    """Read the voxels of a file in the order in which slices are cut and shown.

    Returns:
        (slices, rows, columns) or (channels, slices, rows, columns): slices from inferior to superior, rows from anterior
        to posterior, columns from the patient's right to the left (radiological view).

    Raises:
        UserError: The file is damaged.
    """
    image = _open(file)
    try:
        turned = nib.as_closest_canonical(image)
        voxels: NDArray[np.float32] = np.asarray(turned.dataobj, dtype=np.float32)
    except _BROKEN as error:
        raise _unreadable(file, error) from None
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    return voxels.T[..., ::-1, ::-1]
