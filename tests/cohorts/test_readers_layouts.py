"""Finding cases in every layout: files on disk to inventory, labels by layout, patients by person."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from leakaudit.cohorts.readers.base import NiftiDataset
from leakaudit.cohorts.readers.datasets import Brats2018, Brats2023, MsdBrain, NiftiFolder, NnunetRaw
from leakaudit.cohorts.readers.labels import label_of
from leakaudit.cohorts.readers.params import (
    Brats2018Params,
    Brats2023Params,
    MsdBrainParams,
    NiftiFolderParams,
    NnunetRawParams,
)
from leakaudit.cohorts.readers.visit import read_visit
from leakaudit.errors import UserError

OLD, NEW = ("flair", "t1", "t1ce", "t2"), ("t2f", "t1n", "t1c", "t2w")


def volume(seed: int) -> np.ndarray:
    """A ball of brain in an empty field, RAS axes."""
    x, y, z = np.indices((20, 22, 12))
    ball = ((x - 9.5) / 8) ** 2 + ((y - 10.5) / 9) ** 2 + ((z - 5.5) / 5.8) ** 2 < 1
    return np.where(ball, np.random.default_rng(seed).integers(50, 900, ball.shape), 0).astype(np.int16)


def labels(values: tuple[int, ...]) -> np.ndarray:
    """A mask with the n-th value in n + 1 voxels of the center."""
    mask = np.zeros((20, 22, 12), np.uint8)
    for n, value in enumerate(values):
        mask[9 : 10 + n, 8 + n, 5] = value
    return mask


def save(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)


def case(folder: Path, name: str, seed: int, *, join: str = "_", modalities=OLD, suffix=".nii.gz", values=(1, 2, 4)) -> None:
    for index, modality in enumerate(modalities):
        save(folder / f"{name}{join}{modality}{suffix}", volume(10 * seed + index))
    if values is not None:
        save(folder / f"{name}{join}seg{suffix}", labels(values))


def canonical_counts(dataset: NiftiDataset, patient: str) -> list[int]:
    found = dataset.check(deep=True), next(c for c in dataset.find(dataset.root()) if c.patient == patient)
    return np.bincount(read_visit(found[1], dataset.params.modalities).labels.ravel(), minlength=4)[1:].tolist()


def brats18(root: Path, **more) -> Brats2018:
    return Brats2018(Brats2018Params(root=str(root), slices=2, **more), 0)


def brats23(root: Path, **more) -> Brats2023:
    return Brats2023(Brats2023Params(root=str(root), slices=2, **more), 0)


def test_brats_2018_in_grade_folders_with_institutions(tmp_path: Path) -> None:
    top = tmp_path / "MICCAI_BraTS_2018_Data_Training"
    names = ("HGG/Brats18_CBICA_AAB_1", "HGG/Brats18_CBICA_AAB_2", "LGG/Brats18_TCIA01_131_1")
    for seed, name in enumerate(names):
        case(top / name, name.rpartition("/")[2], seed)
    (top / "survival_data.csv").write_text("id\n")
    inventory = brats18(tmp_path, sites="institution").inventory()
    assert [(p.patient, p.site, p.visits, p.records) for p in inventory.patients] == [
        ("Brats18_CBICA_AAB", "CBICA", 2, 2), ("Brats18_TCIA01_131", "TCIA01", 1, 2),
    ]  # fmt: skip
    assert inventory.modalities == OLD
    assert inventory.shape == (64, 64)
    assert canonical_counts(brats18(tmp_path), "Brats18_TCIA01_131") == [1, 2, 3]  # 1 -> 1, 2 -> 2, 4 -> 3


def test_kaggle_copy_nested_uncompressed_with_a_foreign_mask_name(tmp_path: Path) -> None:
    top = tmp_path / "MICCAI_BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    for number in (354, 355):
        name = f"BraTS20_Training_{number}"
        case(top / name, name, number, suffix=".nii")
    folder = top / "BraTS20_Training_355"
    (folder / "BraTS20_Training_355_seg.nii").rename(folder / "W39_1998.09.19_Segm.nii")
    assert [p.patient for p in brats18(tmp_path).inventory().patients] == ["BraTS20_Training_354", "BraTS20_Training_355"]
    assert canonical_counts(brats18(tmp_path), "BraTS20_Training_355") == [1, 2, 3]
    with pytest.raises(UserError, match="no institution in its name"):
        brats18(tmp_path, sites="institution").inventory()


def test_brats_2023_timepoints_are_visits_of_one_patient(tmp_path: Path) -> None:
    for name, seed in (("BraTS-GLI-00005-001", 1), ("BraTS-GLI-00005-000", 2), ("BraTS-GLI-00007-001", 3)):
        case(tmp_path / name, name, seed, join="-", modalities=NEW, values=(1, 2, 3))
    dataset = brats23(tmp_path)
    assert [(p.patient, p.visits) for p in dataset.inventory().patients] == [("BraTS-GLI-00005", 2), ("BraTS-GLI-00007", 1)]
    cohort = dataset.load(["BraTS-GLI-00007", "BraTS-GLI-00005"], visits=(0, 1))
    assert [(s.patient, s.visit) for s in cohort.samples[::2]] == [
        ("BraTS-GLI-00005", 0), ("BraTS-GLI-00005", 1), ("BraTS-GLI-00007", 0),
    ]  # fmt: skip
    assert len(dataset.load(["BraTS-GLI-00005"])) == 2


@pytest.mark.parametrize(("edition", "kind", "expected"), [(2023, "MEN", None), (2024, "GLI", [1, 2, 3]), (2024, "PED", [5, 4, 1])])
def test_value_four_is_decided_by_the_layout(tmp_path: Path, edition: int, kind: str, expected: list[int] | None) -> None:
    for number in (1, 2):
        name = f"BraTS-{kind}-0000{number}-000"
        case(tmp_path / name, name, number, join="-", modalities=NEW, values=(1, 2, 3, 4))
    dataset = brats23(tmp_path, edition=edition)
    if expected is None:
        with pytest.raises(UserError, match=r"seg\.nii\.gz holds unknown label values: 4 \(4 voxels\).*edition"):
            dataset.check(deep=True)
    else:  # GLI: the cavity is background; PED: ET 1 voxel, NET and CC 2 + 3 voxels, edema 4 voxels
        assert canonical_counts(dataset, f"BraTS-{kind}-00001") == expected
        assert any("label" in note for note in dataset.inventory().notes)


def test_brats_2024_collections_with_unknown_labels_are_refused(tmp_path: Path) -> None:
    case(tmp_path, "BraTS-MET-00001-000", 1, join="-", modalities=NEW, values=(1, 2, 3))
    with pytest.raises(UserError, match="BraTS 2024 MET, whose labels this reader does not know"):
        brats23(tmp_path, edition=2024).inventory()


def msd(root: Path, **changes) -> MsdBrain:
    about = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    folder = root / "Task01_BrainTumour"
    for number in (1, 2):
        name = f"BRATS_00{number}.nii.gz"
        save(folder / "imagesTr" / name, np.stack([volume(4 * number + c) for c in range(4)], axis=-1))
        save(folder / "labelsTr" / name, labels((1, 2, 3)))
    (folder / "imagesTr" / "._BRATS_001.nii.gz").write_bytes(b"\x00\x05\x16\x07 resource file of macOS")
    (folder / "dataset.json").write_text(json.dumps(about | changes))
    return MsdBrain(MsdBrainParams(root=str(root), slices=2), 0)


def test_msd_swaps_edema_and_core_and_reads_channels_by_name(tmp_path: Path) -> None:
    dataset = msd(tmp_path, modality={"0": "T2w", "1": "T1w", "2": "t1gd", "3": "FLAIR"})
    assert [p.patient for p in dataset.inventory().patients] == ["BRATS_001", "BRATS_002"]
    assert canonical_counts(dataset, "BRATS_001") == [2, 1, 3]  # files: edema 1 voxel, core 2, enhancing 3
    visit = read_visit(dataset.find(tmp_path)[0], ("flair", "t2"))
    stored = [np.sort(volume(4 + c).ravel()) for c in (3, 0)]
    assert [np.array_equal(np.sort(i.ravel()), s) for i, s in zip(visit.images, stored, strict=True)] == [True, True]


def test_msd_refuses_other_tasks_and_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"label 1 is 'non-enhancing tumor', but in MSD Task01.*nnunet-raw"):
        msd(tmp_path, labels={"0": "background", "1": "non-enhancing tumor"}).inventory()
    with pytest.raises(UserError, match="channel 0 'CT'"):
        msd(tmp_path, modality={"0": "CT"}).inventory()
    with pytest.raises(UserError, match=r"BRATS_001\.nii\.gz has 4 channels, but this layout expects 3 channels"):
        MsdBrain(
            MsdBrainParams(root=msd(tmp_path, modality={"0": "FLAIR", "1": "T1w", "2": "T2w"}).params.root,
                           modalities=["t1"], slices=2), 0,
        ).inventory()  # fmt: skip


def nnunet(root: Path, **params) -> NnunetRaw:
    for name, seed in (("HGG_07_v1", 1), ("HGG_07_v2", 2), ("HGG_08_v1", 3)):
        for channel in range(4):
            save(root / "imagesTr" / f"{name}_000{channel}.nii.gz", volume(10 * seed + channel))
        save(root / "labelsTr" / f"{name}.nii.gz", labels((1, 2, 3)))
    return NnunetRaw(NnunetRawParams(root=str(root), slices=2, **params), 0)


def test_nnunet_labels_come_from_names_of_either_version(tmp_path: Path) -> None:
    dataset = nnunet(tmp_path)
    channels = {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    names = {"background": 0, "edema": 1, "non enhancing and necrosis": 2, "enhancing tumor": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": channels, "labels": names, "file_ending": ".nii.gz"}))
    assert canonical_counts(dataset, "HGG_07_v1") == [2, 1, 3]
    first = {"modality": channels, "labels": {"0": "background", "1": "necrosis", "2": "edema", "3": "ET"}}
    (tmp_path / "dataset.json").write_text(json.dumps(first))
    assert canonical_counts(nnunet(tmp_path), "HGG_07_v1") == [1, 2, 3]


def test_nnunet_regions_need_a_label_map_and_patients_a_pattern(tmp_path: Path) -> None:
    dataset = nnunet(tmp_path)
    about = {"channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}, "labels": {"whole tumor": [1, 2, 3]}}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"'whole tumor': \[1, 2, 3\].*State `labels`"):
        dataset.inventory()
    pattern = "(?P<patient>.+)_v(?P<visit>[0-9]+)"
    dataset = nnunet(tmp_path, labels={1: 3, 2: 2, 3: 1}, patient_pattern=pattern)
    assert [(p.patient, p.visits) for p in dataset.inventory().patients] == [("HGG_07", 2), ("HGG_08", 1)]
    assert canonical_counts(dataset, "HGG_08") == [3, 2, 1]


def folder(root: Path, pattern: str, **params) -> NiftiFolder:
    return NiftiFolder(NiftiFolderParams(root=str(root), pattern=pattern, labels={1: 2}, slices=2, **params), 0)


def test_plain_folder_with_sites_visits_aliases_and_odd_case(tmp_path: Path) -> None:
    for site, patient, visit, seed in (("rome", "p_a", "v10", 1), ("rome", "p_a", "v9", 2), ("oslo", "p_b", "v1", 3)):
        case(tmp_path / site, f"{patient}_{visit}", seed, modalities=("FLAIR", "t1", "T1_GD", "t2W"), values=(1,))
    dataset = folder(tmp_path, "{site}/{patient}_{visit}_{modality}", aliases={"t1_gd": "t1ce"})
    found = [(p.patient, p.site, p.visits) for p in dataset.inventory().patients]
    assert found == [("p_a", "rome", 2), ("p_b", "oslo", 1)]
    assert [c.timepoint for c in dataset._cases()["p_a"]] == ["v9", "v10"]
    assert canonical_counts(dataset, "p_b") == [0, 1, 0]


def test_plain_folder_with_masks_elsewhere_and_a_site_table(tmp_path: Path) -> None:
    for patient in ("a", "b"):
        case(tmp_path / patient, patient, ord(patient), values=None)
        save(tmp_path / "masks" / f"{patient}.nii", labels((1,)))
    (tmp_path / "sites.csv").write_text("patient,site\na,rome\n")
    pattern, more = "{patient}/{patient}_{modality}.nii.gz", {"mask_pattern": "masks/{patient}.nii", "sites": "table"}
    with pytest.raises(UserError, match="site_table has no line for patient 'b'"):
        folder(tmp_path, pattern, site_table="sites.csv", **more).inventory()
    (tmp_path / "sites.csv").write_text("patient,site\na,rome\nb,oslo\n")
    assert [p.site for p in folder(tmp_path, pattern, site_table="sites.csv", **more).inventory().patients] == ["rome", "oslo"]


def test_incomplete_cases_are_left_out_with_a_note_and_copies_refused(tmp_path: Path) -> None:
    for number in range(4):
        name = f"BraTS2021_0000{number}"
        case(tmp_path / name, name, number, modalities=() if number == 2 else OLD, values=None if number == 3 else (1, 2, 4))
    inventory = brats18(tmp_path).inventory()
    assert [p.patient for p in inventory.patients] == ["BraTS2021_00000", "BraTS2021_00001"]
    assert {"left out for want of a mask: 1 of 4 cases", "left out for want of images: 1 of 4 cases"} <= set(inventory.notes)
    case(tmp_path / "BraTS2021_00000", "BraTS2021_00000", 0, suffix=".nii")  # unpacked beside the original
    assert len(brats18(tmp_path).inventory().patients) == 2
    case(tmp_path / "copy", "BraTS2021_00000", 0)
    with pytest.raises(UserError, match=r"BraTS2021_00000_flair\.nii and copy/.* are both the flair"):
        brats18(tmp_path).inventory()


def test_a_missing_modality_names_the_case_and_can_be_done_without(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        case(tmp_path / str(number), f"BraTS2021_0000{number}", number, modalities=OLD if number != 3 else OLD[:3])
    with pytest.raises(UserError, match="Case BraTS2021_00003 has no t2"):
        brats18(tmp_path).inventory()
    assert len(brats18(tmp_path, modalities=["flair", "t1"]).inventory().patients) == 3
    assert len(brats18(tmp_path, exclude=["BraTS2021_00003"]).inventory().patients) == 2
    with pytest.raises(UserError, match="no such patient"):
        brats18(tmp_path, exclude=["BraTS2021_3"]).inventory()
    with pytest.raises(UserError, match="holds only one usable patient"):
        brats18(tmp_path, exclude=["BraTS2021_00003", "BraTS2021_00002"]).inventory()


def test_a_wrong_layout_is_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="holds no NIfTI file"):
        brats18(tmp_path).inventory()
    (tmp_path / "scan.mha").write_bytes(b"x")
    with pytest.raises(UserError, match=r"another format \(\.mha\)"):
        brats18(tmp_path).inventory()
    case(tmp_path / "a", "BraTS-GLI-00001-000", 1, join="-", modalities=NEW)
    with pytest.raises(UserError, match="looks like the layout of the dataset 'brats-2023'"):
        brats18(tmp_path).inventory()
    case(tmp_path / "b", "patient07", 1)
    with pytest.raises(UserError, match="'nifti-folder'"):
        brats18(tmp_path / "b").inventory()
    with pytest.raises(UserError, match=r"None of the 5 NIfTI files matches the pattern"):
        folder(tmp_path / "b", "{patient}/{modality}").inventory()
    msd(tmp_path / "c")
    with pytest.raises(UserError, match="dataset 'msd-brain'"):
        NnunetRaw(NnunetRawParams(root=str(tmp_path / "c")), 0).inventory()
    monkeypatch.setenv("LEAKAUDIT_TEST_DATA", str(tmp_path / "c"))
    assert MsdBrain(MsdBrainParams(root="$LEAKAUDIT_TEST_DATA", slices=2), 0).inventory().patients
    for root, message in (("$LEAKAUDIT_NO_SUCH", "not set"), (str(tmp_path / "d"), "does not exist")):
        with pytest.raises(UserError, match=message):
            MsdBrain(MsdBrainParams(root=root), 0).inventory()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": [64]}, "size needs 2 numbers"),
        ({"dims": 3, "size": [64, 64]}, "size needs 3 numbers"),
        ({"modalities": ["t1", "t1"]}, "once only"),
        ({"sites": "table"}, "belong together"),
        ({"pattern": "{patient}_{modalty}"}, "Did you mean 'modality'"),
        ({"pattern": "{modality}"}, "needs the field {patient}"),
        ({"labels": {1: 4}}, "canonical labels are"),
        ({"labels": {0: 1}}, "background"),
    ],
)
def test_params_refuse_nonsense(params: dict, message: str) -> None:
    given = {"root": "x", "pattern": "{patient}_{modality}", "labels": {1: 2}} | params
    with pytest.raises(ValidationError, match=message):
        NiftiFolderParams(**given)


@pytest.mark.parametrize(
    ("name", "label"),
    [("Edema", 2), ("non-enhancing tumor", 1), ("enhancing tumour", 3), ("NCR/NET", 1), ("ET", 3), ("RC", 0), ("liver", None)],
)
def test_label_names(name: str, label: int | None) -> None:
    assert label_of(name) == label


@pytest.mark.parametrize("params", [Brats2018Params, Brats2023Params, MsdBrainParams, NnunetRawParams, NiftiFolderParams])
def test_params_fit_draft_07_and_round_trip(params: type) -> None:
    assert "prefixItems" not in json.dumps(params.model_json_schema())
    more = {"pattern": "{patient}_{modality}", "labels": {"1": 2}} if params is NiftiFolderParams else {}
    made = params(root="x", **more)
    assert params(**json.loads(json.dumps(made.key()))) == made


def test_inventory_imports_no_torch(tmp_path: Path) -> None:
    msd(tmp_path)
    code = (
        "import sys; from leakaudit.cohorts.readers import MsdBrain, MsdBrainParams; import leakaudit.cohorts.split;"
        f"d = MsdBrain(MsdBrainParams(root={str(tmp_path)!r}, slices=2), 0); assert len(d.inventory().patients) == 2;"
        "d.check(deep=True); assert not {'torch', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
