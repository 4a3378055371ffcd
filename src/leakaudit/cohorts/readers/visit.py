"""One visit of one patient: aligned, checked voxels of all modalities and the mask, and the choice of slices. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.readers.cases import Case
from leakaudit.cohorts.readers.labels import to_canonical
from leakaudit.cohorts.readers.nifti import Grid, read_grid, read_voxels
from leakaudit.errors import UserError

__all__ = ["Visit", "check_grids", "choose_slices", "cut_slices", "read_visit"]

_STRAIGHT = 4.0
"""A slice is cut off if its outermost row or column of brain is longer than this times the root of the brain's extent, in
voxels. The outermost row of a disk of diameter d is a chord of about 2 sqrt(d). In five real cases whole brains stay below
2.5 sqrt(d), and brains cut at the border of a patch are above 5.5 sqrt(d)."""

_SMALL = 0.1
"""Slices with less than this share of the largest slice's brain are taken last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visit:
    """Voxels of one visit, (slices, rows, columns) from inferior, anterior, and the patient's right.

    Attributes:
        images: float32, (modalities, slices, rows, columns); as stored, negatives clipped to 0.
        labels: uint8, canonical.
        brain: bool; positive in any modality.
        spacing: Voxel size in mm along slices, rows, columns.
        fingerprint: SHA-256 of the images.
        digest: SHA-256 of images and labels.
        remarks: What a report must know, as ends of the sentence "... in N patients".
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    fingerprint: str
    digest: str
    remarks: tuple[str, ...]


def check_grids(case: Case, modalities: Sequence[str]) -> Grid:
    """Read the headers of a case and return their common grid.

    Raises:
        UserError: A file is unusable, or the files of the case do not lie on one grid.
    """
    assert case.mask is not None  # cases without mask are left out before
    grids = {case.mask.name: read_grid(case.mask)}
    for modality in modalities:
        source = case.images[modality]
        if source.file.name not in grids:
            grids[source.file.name] = read_grid(source.file)
        grid = grids[source.file.name]
        if grid.channels != source.channels:
            found, wanted = (f"{n} channels" if n else "one channel" for n in (grid.channels, source.channels))
            raise UserError(f"{source.file.name} has {found}, but this layout expects {wanted}. Check the layout of `root`.")
    if grids[case.mask.name].channels:
        raise UserError(f"{case.mask.name} has a fourth axis; expected a mask with three axes.")
    names = list(grids)
    reference = grids[names[1]]
    for name in names:
        if not reference.agrees(grids[name]):
            same = reference.shape == grids[name].shape
            what = "affines differ" if same else f"shapes are {reference.shape} and {grids[name].shape} in RAS order"
            raise UserError(
                f"{names[1]} and {name} do not lie on the same voxel grid: their {what}. Register and resample all files of a "
                "case to one grid first."
            )
    return reference


def read_visit(case: Case, modalities: Sequence[str]) -> Visit:
    """Read and check the voxels of a case.

    Raises:
        UserError: A file is unusable; the message names it and says what to do.
    """
    grid = check_grids(case, modalities)
    remarks: list[str] = []
    opened: dict[str, NDArray[np.float32]] = {}
    images = np.empty((len(modalities), *reversed(grid.shape)), dtype=np.float32)
    for row, modality in zip(images, modalities, strict=True):
        source = case.images[modality]
        if source.file.name not in opened:
            opened = {source.file.name: read_voxels(source.file)}
        voxels = opened[source.file.name]
        row[...] = voxels if source.channel is None else voxels[source.channel]
        if _clean(row, modality, source.file.name):
            remarks.append("negative intensities were clipped to 0")
    brain: NDArray[np.bool_] = np.any(images > 0, axis=0, keepdims=True)[0]
    _check_background(brain, case)
    remarks += [
        f"{modality.upper()} ends short of the brain"
        for modality, row in zip(modalities, images, strict=True)
        if (row[brain] == 0).mean() > 0.01
    ]
    assert case.mask is not None  # cases without mask are left out before
    labels = to_canonical(read_voxels(case.mask), case.codes, case.mask.name)
    remarks += _check_labels(labels, brain, case.mask.name)
    fingerprint = hashlib.sha256(f"{modalities} {images.shape}".encode())
    fingerprint.update(images.astype("<f4", copy=False).data)
    digest = hashlib.sha256(fingerprint.digest() + np.ascontiguousarray(labels).tobytes())
    x, y, z = grid.spacing
    return Visit(
        images=images, labels=labels, brain=brain, spacing=(z, y, x), fingerprint=fingerprint.hexdigest(),
        digest=digest.hexdigest(), remarks=tuple(dict.fromkeys(remarks)),
    )  # fmt: skip


def _clean(voxels: NDArray[np.float32], modality: str, name: str) -> bool:
    """Check the intensities of one modality, clip negatives in place, and return whether there were any."""
    bad = int((~np.isfinite(voxels)).sum())
    if bad:
        raise UserError(f"{name} has {bad} NaN or infinite voxels ({modality}). Repair or leave out this patient (`exclude`).")
    negative, positive = int((voxels < 0).sum()), int((voxels > 0).sum())
    if not positive:
        raise UserError(f"{name} has no voxel above 0 ({modality} is blank). Leave out this patient (`exclude`).")
    if negative > (negative + positive) / 4:
        raise UserError(
            f"{name} is below 0 in {negative} of {negative + positive} voxels ({modality}): it seems to be normalized already. "
            "Give the original intensities, with a background of 0."
        )
    np.maximum(voxels, 0, out=voxels)
    return negative > 0


def _check_background(brain: NDArray[np.bool_], case: Case) -> None:
    share = float(brain.mean())
    if share > 0.95:
        raise UserError(
            f"Case {case.name} is above 0 in {share:.0%} of its voxels. The readers need skull-stripped images with a "
            "background of exactly 0: extract the brain first."
        )


def _check_labels(labels: NDArray[np.uint8], brain: NDArray[np.bool_], name: str) -> list[str]:
    labeled = int((labels > 0).sum())
    if not labeled:
        return ["the mask holds no tumor"]
    outside = int(((labels > 0) & ~brain).sum())
    if outside > labeled / 2:
        raise UserError(f"{name} has {outside} of {labeled} labeled voxels outside the brain. Is it the mask of this patient?")
    return ["labeled voxels outside the brain were dropped"] if outside else []


def cut_slices(brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each slice whether its brain touches the field's border or ends in a long straight line.

    Args:
        brain: (slices, rows, columns).
    """
    cut = np.zeros(len(brain), dtype=bool)
    for z, plane in enumerate(brain):
        for axis in (0, 1):
            counts = plane.sum(axis=1 - axis)
            used = np.flatnonzero(counts)
            if used.size:
                extent = np.ptp(np.flatnonzero(plane.any(axis=axis))) + 1
                straight = max(counts[used[0]], counts[used[-1]]) > _STRAIGHT * np.sqrt(extent)
                cut[z] |= bool(straight) or used[0] == 0 or used[-1] == len(counts) - 1
    return cut


def choose_slices(visit: Visit, count: int, choose: str, name: str) -> tuple[list[int], bool]:
    """Choose slices evenly, the best kind first: whole with lesion, whole, cut off with lesion, cut off.

    Args:
        visit: The visit.
        count: Slices wanted.
        choose: `"lesion"` prefers slices with a labeled voxel, `"brain"` makes no difference.
        name: The case, for messages.

    Returns:
        Slice indices in ascending order, and whether the brain is cut off in any of them.

    Raises:
        UserError: There are fewer slices with brain.
    """
    area = visit.brain.sum(axis=(1, 2))
    large = area >= max(1.0, _SMALL * area.max())
    cut = cut_slices(visit.brain)
    lesion = (visit.labels > 0).any(axis=(1, 2)) if choose == "lesion" else np.ones(len(area), dtype=bool)
    order = (large & ~cut & lesion, large & ~cut, large & lesion, large, area > 0)
    taken = np.zeros(len(area), dtype=bool)
    for kind in order:
        left = np.flatnonzero(kind & ~taken)
        k = min(count - int(taken.sum()), left.size)
        taken[left[((np.arange(k) + 0.5) * left.size / max(k, 1)).astype(int)]] = True
    if taken.sum() < count:
        raise UserError(
            f"Case {name} has {int(taken.sum())} axial slices with brain, but `slices` asks for {count}. Lower `slices`, or "
            "leave out this patient (`exclude`)."
        )
    return [int(z) for z in np.flatnonzero(taken)], bool((cut & taken).any())
