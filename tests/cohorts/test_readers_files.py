"""Unusable files, and the way from voxels to samples."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from leakaudit.cohorts.readers.datasets import NiftiFolder
from leakaudit.cohorts.readers.params import NiftiFolderParams
from leakaudit.cohorts.readers.visit import cut_slices, read_visit
from leakaudit.errors import UserError

MODALITIES = ("flair", "t1", "t1ce", "t2")
SHAPE = (26, 30, 12)


def brain() -> np.ndarray:
    """An egg in an empty field, RAS axes: wider behind, so that a wrong flip shows."""
    x, y, z = np.indices(SHAPE)
    return ((x - 12.5) / (10 - 0.2 * (y - 15))) ** 2 + ((y - 14.5) / 12) ** 2 + ((z - 5.5) / 6.5) ** 2 < 1


def volume(seed: int) -> np.ndarray:
    return np.where(brain(), np.random.default_rng(seed).integers(50, 900, SHAPE), 0).astype(np.int16)


def mask() -> np.ndarray:
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[6:10, 18:22, 3:8] = 1  # left, in front
    return lesion


def save(path: Path, data: np.ndarray, axes: str = "RAS", **header: float) -> None:
    """Write RAS data with the voxel axes turned to `axes`."""
    image = nib.Nifti1Image(data, np.diag([1.0, 1.0, header.get("z_mm", 1.0), 1.0]))
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(turn), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sound patients, a and b."""
    for patient in "ab":
        for index, modality in enumerate(MODALITIES):
            save(tmp_path / f"{patient}_{modality}.nii.gz", volume(10 * ord(patient) + index))
        save(tmp_path / f"{patient}_seg.nii.gz", mask())
    return tmp_path


def dataset(root: Path, **params) -> NiftiFolder:
    given = {"size": 32, "slices": 4, "pattern": "{patient}_{modality}", "labels": {1: 2}} | params
    return NiftiFolder(NiftiFolderParams(root=str(root), **given), 0)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "gone.nii.gz")


DISGUISES: dict[str, tuple[Callable[[Path], object], str]] = {
    "git-lfs": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "git lfs pull"),
    "html": (lambda p: p.write_text("\n<!DOCTYPE html><html></html>"), "is a web page"),
    "link as text": (lambda p: p.write_text("../../.git/annex/objects/x.nii.gz"), "a link saved as text"),
    "dangling link": (dangling, "a file that does not exist"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "bytes": (lambda p: p.write_bytes(bytes(range(256)) * 4), "not a NIfTI file"),
    "gzip of something": (lambda p: p.write_bytes(gzip.compress(b"no image" * 100)), "damaged"),
    "uncompressed": (lambda p: p.write_bytes(gzip.decompress(p.read_bytes())), r"Rename it to end with \.nii\."),
    "truncated": (truncate, "damaged or cut short"),
    "short": (lambda p: p.write_bytes(gzip.compress(gzip.decompress(p.read_bytes())[:-90])), "the header promises"),
    "affine": (lambda p: save(p, volume(1), z_mm=1.5), "their affines differ"),
    "shape": (lambda p: save(p, volume(1)[:-1]), r"shapes are .*26, 30, 12.* and .*25, 30, 12"),
    "channels": (lambda p: save(p, np.stack([volume(1)] * 2, -1)), "has 2 channels, but this layout expects one channel"),
    "colors": (lambda p: save(p, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])), "expected whole or floating"),
}


@pytest.mark.parametrize("kind", DISGUISES)
def test_unusable_files_are_named_before_any_training(root: Path, kind: str) -> None:
    spoil, message = DISGUISES[kind]
    spoil(root / "b_t1.nii.gz")
    with pytest.raises(UserError, match=rf"b_t1\.nii\.gz.*{message}"):
        dataset(root).inventory()


VOXELS: dict[str, tuple[str, Callable[[], np.ndarray], str]] = {
    "nan": ("t1", lambda: np.where(mask() > 0, np.nan, volume(1)).astype(np.float32), r"has 80 NaN or infinite voxels \(t1\)"),
    "blank": ("t1", lambda: np.zeros(SHAPE, np.int16), "no voxel above 0"),
    "z-scored": ("t1", lambda: np.where(brain(), volume(1) - 450, 0), "normalized already"),
    "skull": ("t1", lambda: np.maximum(volume(1), 1), "background of exactly 0"),
    "interpolated": ("seg", lambda: mask() * np.float32(0.6), "no whole numbers"),
    "nan mask": ("seg", lambda: np.where(mask() > 0, np.nan, 0).astype(np.float32), "NaN"),
    "unknown": ("seg", lambda: mask() * 4, r"unknown label values: 4 \(80 voxels\).*Add the value to the label map"),
    "other patient": ("seg", lambda: (~brain()).astype(np.uint8), "labeled voxels outside the brain"),
}


@pytest.mark.parametrize("kind", VOXELS)
def test_unusable_voxels_are_named(root: Path, kind: str) -> None:
    name, make, message = VOXELS[kind]
    save(root / f"b_{name}.nii.gz", make())
    checked = dataset(root)
    checked.inventory()  # headers are sound
    for read in (lambda: checked.check(deep=True), lambda: checked.load(["b"])):
        with pytest.raises(UserError, match=message) as caught:
            read()
        assert "b" in str(caught.value)


def test_samples_are_normalized_inside_and_zero_outside(root: Path) -> None:
    cohort = dataset(root).load(["b", "a"])
    assert cohort.images.shape == (8, 4, 32, 32)
    assert (cohort.images.dtype, cohort.labels.dtype, cohort.brain.dtype) == (np.float32, np.uint8, np.bool_)
    assert [s.patient for s in cohort.samples] == ["a"] * 4 + ["b"] * 4
    assert [s.position for s in cohort.samples[:4]] == [3, 4, 6, 7]  # 4 of the 5 slices with lesion
    for image, inside in zip(cohort.images, cohort.brain, strict=True):
        assert np.abs(image[:, ~inside]).max() == 0
        assert image[:, inside].mean(axis=1) == pytest.approx(0, abs=1e-5)
        assert image[:, inside].std(axis=1) == pytest.approx(1, abs=1e-5)
    assert set(np.unique(cohort.labels)) == {0, 2}
    assert not cohort.labels[~cohort.brain].any()
    inside = cohort.brain[0]
    assert not inside[[0, -1]].any()  # one voxel of background
    assert cohort.brain.any(axis=0).any(axis=1).sum() == 30
    where = np.argwhere(cohort.labels[0])
    assert where.mean(axis=0)[0] < 15  # in front: up
    assert where.mean(axis=0)[1] > 17  # the patient's left: right in the radiological view
    assert cohort.origin.dataset == "nifti-folder"
    assert (cohort.origin.synthetic, cohort.origin.public) == (False, False)
    assert str(root) not in repr((cohort.samples, cohort.origin))


def test_mixed_orientations_and_float_masks_give_the_same_samples(root: Path) -> None:
    expected = dataset(root).load(["a", "b"])
    for modality, axes in zip((*MODALITIES, "seg"), ("LPS", "RAS", "LAS", "PSR", "ASL"), strict=True):
        path = root / f"a_{modality}.nii.gz"
        data = np.asarray(nib.load(path).dataobj)
        save(path, data.astype(np.float32) if modality == "seg" else data, axes)
    turned = dataset(root).load(["a", "b"])
    np.testing.assert_array_equal(turned.images, expected.images)
    np.testing.assert_array_equal(turned.labels, expected.labels)
    assert turned.origin.digest == expected.origin.digest


def test_digest_depends_on_voxels_and_not_on_paths(root: Path, tmp_path: Path) -> None:
    first = dataset(root).load(["a", "b"]).origin.digest
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in sorted(root.glob("*.nii.gz")):
        path.rename(moved / path.name)
    assert dataset(moved).load(["a", "b"]).origin.digest == first
    changed = volume(10 * ord("b"))
    changed[13, 15, 0] += 1  # in a slice that is not taken
    save(moved / "b_flair.nii.gz", changed)
    assert dataset(moved).load(["a", "b"]).origin.digest != first


def test_a_short_field_of_view_and_negatives_are_noted(root: Path) -> None:
    short = volume(7).astype(np.float32)
    short[:, :8] = 0  # FLAIR ends short of the back of the brain
    short[12, 14, 5] = -136
    save(root / "a_flair.nii.gz", short)
    read = dataset(root)
    notes = read.check(deep=True)
    assert "FLAIR ends short of the brain in 1 patient" in notes
    assert "negative intensities were clipped to 0 in 1 patient" in notes
    visit = read_visit(read.find(root)[0], MODALITIES)
    assert (visit.images.min(), visit.images[0].max()) == (0, short.max())
    cohort = read.load(["a"])
    flair, others = cohort.images[:, 0], cohort.images[:, 1:]
    lacking = cohort.brain & (flair == 0)
    assert lacking[:, 26:].sum() > 100  # the back: last rows
    assert (others.swapaxes(0, 1)[:, lacking] != 0).all()
    imaged = flair[0][cohort.brain[0] & (flair[0] != 0)]
    assert imaged.mean() == pytest.approx(0, abs=1e-5)
    assert set(notes) == set(read.load(["a", "b"]).origin.notes)


def test_volumes_keep_proportions_in_millimeters(root: Path) -> None:
    for patient in "ab":
        for name in (*MODALITIES, "seg"):
            path = root / f"{patient}_{name}.nii.gz"
            save(path, np.asarray(nib.load(path).dataobj), z_mm=2.0)
    cohort = dataset(root, dims=3, size=[24, 32, 32]).load(["a", "b"])
    assert cohort.images.shape == (2, 4, 24, 32, 32)
    assert [s.position for s in cohort.samples] == [0, 0]
    rows = np.flatnonzero(cohort.brain[0].any(axis=(0, 2)))
    planes = np.flatnonzero(cohort.brain[0].any(axis=(1, 2)))
    real = np.ptp(np.flatnonzero(brain().any(axis=(0, 1)))) + 1, np.ptp(np.flatnonzero(brain().any(axis=(0, 2)))) + 1
    assert (np.ptp(planes) + 1) / (np.ptp(rows) + 1) == pytest.approx(2.0 * real[0] / real[1], rel=0.1)
    assert cohort.images[0, 0][cohort.brain[0]].std() == pytest.approx(1, abs=1e-4)


def test_cut_slices_come_last() -> None:
    planes = np.zeros((4, 40, 40), bool)
    rows, columns = np.indices((40, 40))
    planes[:] = (rows - 20) ** 2 + (columns - 20) ** 2 < 15**2
    planes[1, :12] = False  # a patch is missing
    planes[2] = np.roll(planes[2], 6, axis=1)  # touches the border of the field
    assert cut_slices(planes).tolist() == [False, True, True, False]


def test_slices_avoid_cut_ones_until_they_are_needed(root: Path) -> None:
    for modality in MODALITIES:
        data = volume(ord(modality[-1]))
        data[:8, :, 5] = 0
        save(root / f"a_{modality}.nii.gz", data)
    whole = dataset(root, slices=5)  # as many as have a lesion
    positions = [s.position for s in whole.load(["a"]).samples]
    assert {3, 4, 6, 7} < set(positions)
    assert 5 not in positions
    assert not any("cut off" in note for note in whole.check(deep=True))
    every = dataset(root, slices=12, choose="brain")
    assert [s.position for s in every.load(["a"]).samples] == list(range(12))
    assert "the brain is cut off in some of the slices taken in 1 patient" in every.check(deep=True)
    with pytest.raises(UserError, match="12 axial slices, but `slices` asks for 13"):
        dataset(root, slices=13).inventory()


def test_one_person_under_two_names_is_refused(root: Path) -> None:
    for modality in MODALITIES:
        save(root / f"b_{modality}.nii.gz", np.asarray(nib.load(root / f"a_{modality}.nii.gz").dataobj), "LPS")
    with pytest.raises(UserError, match="Patients a and b have identical images"):
        dataset(root).check(deep=True)


def test_unknown_patients_and_absent_visits(root: Path) -> None:
    read = dataset(root)
    with pytest.raises(UserError, match="no patient 'c'"):
        read.load(["c"])
    assert len(read.load(["a"], visits=(1,))) == 0
    assert len(read.load([])) == 0


def test_the_size_of_voxels_is_known_after_resampling(root: Path) -> None:
    """A lesion is as large in millimeters as it was: 4 x 4 voxels of 1 mm, and 5 slices of z_mm."""
    for index, modality in enumerate(MODALITIES):
        save(root / f"b_{modality}.nii.gz", volume(index + 99), z_mm=2.0)
    save(root / "b_seg.nii.gz", mask(), z_mm=2.0)
    flat = dataset(root, size=64).load(["a", "b"])
    volumes = dataset(root, dims=3, size=[64, 64, 64]).load(["a", "b"])
    assert set(flat.spacing) == set(volumes.spacing) == {("a", 0), ("b", 0)}
    for i, sample in enumerate(flat.samples):
        assert len(flat.spacing[sample.patient, 0]) == 2
        area = (flat.labels[i] > 0).sum() * np.prod(flat.spacing[sample.patient, 0])
        assert area == 0 or area == pytest.approx(16, rel=0.25)
    for i, key in enumerate("ab"):
        size = (volumes.labels[i] > 0).sum() * np.prod(volumes.spacing[key, 0])
        assert size == pytest.approx(80 * (1 + i), rel=0.2)
    assert set(flat.of_patients(["a"]).spacing) == {("a", 0)}
