"""Every plugin that is maintained here keeps the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.manager import get_manager
from leakaudit.testing import check

QUICK: dict[str, dict[str, Any]] = {
    "model-inversion": {"iterations": 3},
    "dp-sgd": {"noise_multiplier": 1.0},
    "phantom": {"patients": 6, "size": 32},
}
UNTRIED = {
    # An active attack changes the training, so there is no passivity to check.
    "feature-space-hijack": {"passive"},
    "imprint": {"passive"},
    "epsilon-audit": {"passive"},
    # It needs masks that are sent, which no built-in protocol does by default; its own tests train it there.
    "splitguard": {
        "trains", "deterministic", "own-randomness", "stochastic", "replica", "claim", "empty-batches",
    },
}  # fmt: skip
"""Checks that have no meaning for a plugin, beyond those that any may leave out."""
OWN = ("leakaudit-membership", "leakaudit-dp")
"""Packages that run the kit on their plugins in tests of their own."""
PLUGINS = [p for p in get_manager().plugins() if not p.third_party]
MODALITIES = ("flair", "t1", "t1ce", "t2")


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def _brain(seed: int) -> np.ndarray:
    place = np.indices((20, 22, 12)) - np.array([9.5, 10.5, 5.5])[:, None, None, None]
    inside = ((place / np.array([8, 9, 5.8])[:, None, None, None]) ** 2).sum(axis=0) < 1
    return np.where(inside, np.random.default_rng(seed).integers(50, 900, inside.shape), 0).astype(np.int16)


def _tumor(*values: int) -> np.ndarray:
    mask = np.zeros((20, 22, 12), np.uint8)
    for n, value in enumerate(values):
        mask[8:11, 8 + n, 4:8] = value
    return mask


def _cases(root: Path, name: str) -> dict[str, Any]:
    """Write three patients in a reader's layout and return its parameters."""
    for n in range(3):
        scans = [_brain(10 * n + m) for m in range(4)]
        match name:
            case "brats-2018":
                case = f"BraTS20_Training_{n:03}"
                files = {f"{case}/{case}_{m}": scan for m, scan in zip(MODALITIES, scans, strict=True)}
                files[f"{case}/{case}_seg"] = _tumor(1, 2, 4)
            case "brats-2023":
                case = f"BraTS-GLI-{n:05}-000"
                files = {f"{case}/{case}-{m}": scan for m, scan in zip(("t2f", "t1n", "t1c", "t2w"), scans, strict=True)}
                files[f"{case}/{case}-seg"] = _tumor(1, 2, 3)
            case "msd-brain":
                files = {f"imagesTr/BRATS_{n:03}": np.stack(scans, axis=-1), f"labelsTr/BRATS_{n:03}": _tumor(1, 2, 3)}
            case "nnunet-raw":
                files = {f"imagesTr/BRATS_{n:03}_{m:04}": scan for m, scan in enumerate(scans)}
                files[f"labelsTr/BRATS_{n:03}"] = _tumor(1, 2, 3)
            case _:
                files = {f"p{n}/{m}": scan for m, scan in zip(MODALITIES, scans, strict=True)} | {f"p{n}/seg": _tumor(1)}
        for file, array in files.items():
            _write(root / f"{file}.nii.gz", array)
    names = ["BRATS_000", "BRATS_001", "BRATS_002"]
    if name == "msd-brain":
        listing = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in names]
        labels = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
        modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
        dataset = {"modality": modality, "labels": labels, "training": listing, "numTraining": 3, "test": [], "numTest": 0}
        (root / "dataset.json").write_text(json.dumps(dataset))
    if name == "nnunet-raw":
        channels = {"0": "FLAIR", "1": "T1", "2": "T1ce", "3": "T2"}
        labels = {"background": 0, "edema": 1, "necrotic core": 2, "enhancing tumor": 3}
        dataset = {"channel_names": channels, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"}
        (root / "dataset.json").write_text(json.dumps(dataset))
    more = {"pattern": "{patient}/{modality}.nii.gz", "labels": {"1": 2}} if name == "nifti-folder" else {}
    return {"root": str(root), "slices": 2, "size": 32, **more}


def _case(plugin: Plugin) -> object:
    marks = [pytest.mark.slow] if plugin.distribution in OWN else []
    return pytest.param(plugin, id=f"{plugin.info.kind}-{plugin.qualified}", marks=marks)


@pytest.mark.parametrize("plugin", [_case(p) for p in PLUGINS])
def test_first_party_plugins_keep_the_contract(plugin: Plugin, tmp_path: Path) -> None:
    name = plugin.info.name
    reads_files = plugin.info.kind == "dataset" and name != "phantom"
    example = _cases(tmp_path, name) if reads_files else QUICK.get(name)
    results = check(plugin.info.kind, plugin.qualified, examples=[example] if example else [])
    assert {r.status for r in results} <= {"passed", "not-tried"}
    anybody = {"taxonomy", "guarantee", "noise", "sampling", "shadow"}
    assert {r.name for r in results if r.status == "not-tried"} <= anybody | UNTRIED.get(name, set())
