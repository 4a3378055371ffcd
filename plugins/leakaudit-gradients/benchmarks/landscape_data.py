"""Patients of the landscape: who is attacked, what the adversary owns, and how reconstructions are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leakaudit.cohorts import Cohort, readers, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.errors import UserError
from leakaudit.scoring.holdings import fit_masks
from leakaudit.scoring.identity import common_images, identify, masked_ncc, patient_similarity, without_common
from leakaudit.scoring.images import masked_psnr, masked_ssim

__all__ = ["READERS", "Scene", "phantoms", "real", "scores"]

Floats = NDArray[np.float64]

_GALLERY = 50
"""Phantoms whose other visit is in the gallery, the attacked ones first."""
_FIRST_OWN = 1000
"""Number of the first auxiliary phantom."""
_CONTRASTS = (1.0, 1.5)
"""Contrasts of the mean image that chance may have."""
_PATTERN = "{patient}/{patient}_{modality}.nii.gz"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Attacked slices, one of each patient, and what surrounds them.

    Attributes:
        data: Name for the table.
        victims: The attacked slices.
        gallery: Slices in which patients are looked for: none of them is an attacked one.
        own: Auxiliary slices, which train networks and maps. Of real patients they are all there are, victims included.
        mean: (n, modalities, H, W), the mean auxiliary image as each victim's adversary knows it: where searches start.
        prior: (n, regions, H, W), the mean auxiliary mask, likewise.
        chance: The mean in the contrast that guesses auxiliary images best: chance of who does not know the masks.
        told: (n, modalities, H, W), what the true masks tell of the images: chance of who knows them.
        ranges: (modalities,), data range of each.
    """

    data: str
    victims: Cohort
    gallery: Cohort
    own: Cohort
    mean: NDArray[np.float32]
    prior: NDArray[np.float32]
    chance: NDArray[np.float32]
    told: NDArray[np.float32]
    ranges: Floats

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return images (n, modalities, H, W) and masks (n, regions, H, W) of the victims."""
        return torch.from_numpy(self.victims.images.copy()), torch.from_numpy(regions(self.victims.labels))


def phantoms(size: int, patients: int, auxiliary: int) -> Scene:
    """Return a scene of phantoms; the adversary owns others of the same population, the gallery is their next visit."""
    source = Phantom(PhantomParams(patients=_FIRST_OWN + auxiliary, size=size), 0)
    keys = [entry.patient for entry in source.inventory().patients]
    own = source.load(keys[_FIRST_OWN:])
    victims, gallery = source.load(keys[:patients]), source.load(keys[: max(_GALLERY, patients)], visits=(1,))
    mean = np.broadcast_to(own.images.mean(axis=0), victims.images.shape).copy()
    ranges, masks = _ranges(own), regions(own.labels).mean(axis=0)
    return Scene(
        data="phantom", victims=victims, gallery=gallery, own=own, mean=mean, chance=mean * _contrast(own, ranges), ranges=ranges,
        prior=np.broadcast_to(masks, (len(victims), *masks.shape)).copy(), told=_told(own, victims, ranges),
    )  # fmt: skip


def real(size: int, folders: Mapping[str, str], slices: int = 5) -> Scene:
    """Return a scene of real patients: the middle of each one's slices is attacked, the others are the gallery.

    The adversary knows the mean image of all other real patients, and no more.

    Args:
        size: Voxels along each side.
        folders: Folder by reader, of `READERS`.
        slices: Slices read of each patient, over its lesion; at least three.
    """
    sets = [_read(reader, folder, size, slices) for reader, folder in folders.items()]
    whole = _joined(sets)
    middle = [i for i in range(len(whole)) if i % slices == slices // 2]
    victims, gallery = whole.take(middle), whole.take([i for i in range(len(whole)) if i not in middle])
    names = np.array([s.patient for s in whole.samples])
    others = [np.flatnonzero(names != victim.patient) for victim in victims.samples]
    mean = np.stack([whole.images[rows].mean(axis=0) for rows in others])
    masks = regions(whole.labels)
    ranges = _ranges(whole)
    return Scene(
        data="real", victims=victims, gallery=gallery, own=whole, mean=mean, chance=mean * _contrast(whole, ranges), ranges=ranges,
        prior=np.stack([masks[rows].mean(axis=0) for rows in others]),
        told=np.concatenate([_told(whole.take(rows.tolist()), victims.take([i]), ranges) for i, rows in enumerate(others)]),
    )  # fmt: skip


def scores(scene: Scene, images: NDArray[np.float32]) -> dict[str, list[float]]:
    """Return one number per patient: `ssim` and `psnr` inside the brain, `exchanged` (SSIM with the next patient), `rank1`."""
    victims = scene.victims
    turned = victims.take([(i + 1) % len(victims) for i in range(len(victims))])
    return {
        "ssim": _each(masked_ssim, images, victims, scene.ranges),
        "psnr": _each(masked_psnr, images, victims, scene.ranges),
        "exchanged": _each(masked_ssim, images, turned, scene.ranges),
        "rank1": _found(scene, images),
    }


def _told(own: Cohort, victims: Cohort, ranges: Floats) -> NDArray[np.float32]:
    """Return what masks tell of the victims, in the contrast at which it guesses one half of the adversary's patients best."""

    def guess(known: Cohort, about: Cohort) -> NDArray[np.float32]:
        at, mine = ([sample.position for sample in cohort.samples] for cohort in (known, about))
        images = fit_masks(known.images, regions(known.labels), at).apply(regions(about.labels), mine)
        return np.asarray(images, dtype=np.float32)

    names = list(own.patients)
    left, right = own.of_patients(names[::2]), own.of_patients(names[1::2])
    half = guess(left, right)
    best = max(_CONTRASTS, key=lambda c: float(np.mean(_each(masked_ssim, (c * half).astype(np.float32), right, ranges))))
    return np.asarray(best * guess(own, victims), dtype=np.float32)


def _each(metric: object, images: NDArray[np.float32], truth: Cohort, ranges: Floats) -> list[float]:
    assert callable(metric)
    values = [metric(images[:, m], truth.images[:, m], truth.brain, ranges[m]) for m in range(images.shape[1])]
    return [float(value) for value in np.mean(values, axis=0)]


def _found(scene: Scene, images: NDArray[np.float32]) -> list[float]:
    """Return whether each patient is first in the gallery by correlation, the population's mean taken out of both."""
    gallery, similarity = scene.gallery, []
    for m in range(images.shape[1]):
        common = common_images(scene.own.images[:, m].mean(axis=0, keepdims=True))
        query, shown = without_common(images[:, m], common), without_common(gallery.images[:, m], common)
        similarity.append(masked_ncc(query, shown, gallery.brain))
    queries = [s.patient for s in scene.victims.samples]
    rows, columns, table = patient_similarity(np.mean(similarity, axis=0), queries, [s.patient for s in gallery.samples])
    return [float(value) for value in identify(table, [columns.index(row) for row in rows]).rank1]


def _ranges(cohort: Cohort) -> Floats:
    """Return the data range of each modality as the engine takes it: 0.5th to 99.5th percentile inside the brains."""
    inside = [cohort.images[:, m][cohort.brain] for m in range(cohort.images.shape[1])]
    return np.array([np.subtract(*np.percentile(values, [99.5, 0.5])) for values in inside])


def _contrast(own: Cohort, ranges: Floats) -> float:
    """Return the contrast at which the mean of one half of the patients guesses those of the other best."""
    names = list(own.patients)
    left, right = own.of_patients(names[::2]), own.of_patients(names[1::2])
    guess = np.broadcast_to(left.images.mean(axis=0), right.images.shape)
    return max(_CONTRASTS, key=lambda c: float(np.mean(_each(masked_ssim, (c * guess).astype(np.float32), right, ranges))))


def _read(reader: str, folder: str, size: int, slices: int) -> Cohort:
    dataset = READERS[reader](folder, size, slices)
    return dataset.load([entry.patient for entry in dataset.inventory().patients])  # type: ignore[attr-defined,no-any-return]


READERS = {
    "msd-brain": lambda root, size, n: readers.MsdBrain(readers.MsdBrainParams(root=root, size=size, slices=n), 0),
    "brats-2018": lambda root, size, n: readers.Brats2018(readers.Brats2018Params(root=root, size=size, slices=n), 0),
    "brats-2023": lambda root, size, n: readers.Brats2023(readers.Brats2023Params(root=root, size=size, slices=n), 0),
    # Lesions of one kind, as those of multiple sclerosis, count as edema: whole tumor and nothing inside it.
    "nifti-folder": lambda root, size, n: readers.NiftiFolder(
        readers.NiftiFolderParams(root=root, size=size, slices=n, pattern=_PATTERN, labels={1: 2}), 0
    ),
}
"""Data sets by the name that `--data` takes."""


def _joined(sets: Sequence[Cohort]) -> Cohort:
    if not sets:
        raise UserError(f"no real data: give --data reader=folder with a reader of {', '.join(READERS)}")
    return Cohort(
        images=np.concatenate([c.images for c in sets]), labels=np.concatenate([c.labels for c in sets]),
        brain=np.concatenate([c.brain for c in sets]), samples=tuple(s for c in sets for s in c.samples),
        modalities=sets[0].modalities, origin=sets[0].origin,
    )  # fmt: skip
