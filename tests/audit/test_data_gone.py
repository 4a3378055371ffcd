"""Judging anew when the data has moved away: what planning learned of the patients is kept in the store, and only there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from .conftest import TOYS, Audit, Machine, attack, tiny

SHAPE = (32, 32, 3)
NAMES = [f"Quill{i:02d}" for i in range(14)]
VARIABLE = "LEAKAUDIT_TEST_FOLDER"


def write_patients(folder: Path) -> None:
    """Write patients with an egg of a brain and a lesion in it, two sequences each."""
    x, y, _ = np.indices(SHAPE)
    brain = ((x - 15.5) / 12) ** 2 + ((y - 15.5) / 14) ** 2 < 1
    folder.mkdir()
    for i, name in enumerate(NAMES):
        rng = np.random.default_rng(i)
        lesion = (x - 12 - i % 5) ** 2 + (y - 16) ** 2 < 12
        for modality in ("flair", "t1"):
            image = np.where(brain, rng.integers(80, 120, SHAPE) + 60 * lesion, 0).astype(np.int16)
            nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{name}_{modality}.nii.gz")
        nib.save(nib.Nifti1Image((lesion & brain).astype(np.uint8), np.eye(4)), folder / f"{name}_seg.nii.gz")


def recipe() -> dict[str, Any]:
    both = ("none", "toy-noise")
    plain = tiny("gone", defenses=["toy-noise"], attacks=[attack("toy-asker", defenses=both), attack("toy-reader", defenses=both)])
    plain["data"] = {
        "use": "nifti-folder",
        "params": {
            "root": f"${{{VARIABLE}}}", "pattern": "{patient}_{modality}", "labels": {1: 2}, "size": 32, "slices": 1,
            "modalities": ["flair", "t1"],
        },
        "split": {"members": 6, "validation": 1, "test": 1, "non_members": 5, "auxiliary": 1, "attacked": 6},
    }  # fmt: skip
    plain["protocols"][0]["params"] |= {"cut": 1, "rounds": 1}
    return plain


@pytest.fixture(scope="module")
def audit(machine: Machine) -> Audit:
    """An audit whose data, and the variable that led to it, are gone since."""
    if "leakaudit-depths" not in machine.allowed:
        machine.install("leakaudit_depths", TOYS / "leakaudit_depths")
        machine.allowed.append("leakaudit-depths")
    folder = machine.root / "patients"
    write_patients(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(folder))
        done = machine.run(machine.write(recipe()), machine.root / "gone")
    shutil.rmtree(folder)
    return done


def numbers(report: dict[str, Any]) -> list[Any]:
    return [
        [p["attack"], p["defense"], [[e["name"], e["leakage"]["value"], e["leakage"]["ci"]] for e in p["endpoints"]]]
        for p in report["pairings"]
    ]


def test_another_policy_needs_no_data(machine: Machine, audit: Audit, tmp_path: Path) -> None:
    before = audit.report
    assert all(value is not None for _, _, endpoints in numbers(before) for _, value, _ in endpoints)
    assert all(endpoints for _, _, endpoints in numbers(before))
    lax = tmp_path / "lax.yaml"
    lax.write_text(yaml.safe_dump({"leakage_max": 0.9, "membership_max": 0.9}))
    code, output = machine.call("report", audit.out, "--policy", lax)
    assert code == 0, output
    after = audit.report
    assert numbers(after) == numbers(before)
    assert after["data"] == before["data"]
    assert {t["name"]: t["value"] for t in after["policy"]["thresholds"]}["leakage_max"] == 0.9
    code, output = machine.call("run", audit.recipe, "--out", audit.out)
    assert code == 2, "a run does need it"
    assert VARIABLE in output


def test_patients_are_named_in_sensitive_entries_only(audit: Audit) -> None:
    root = audit.store.root
    assert not [name for name in NAMES if name in (root / "run.json").read_text()]
    kept = json.loads((root / "run.json").read_text())["patients"]
    entry = audit.store.get(kept)
    assert entry is not None
    assert entry.meta["sensitive"]
    assert all(name in (entry.folder / "patients.json").read_text() for name in NAMES)
    for path in root.rglob("*"):
        if path.is_file() and any(name.encode() in path.read_bytes() for name in NAMES):
            cell = next(p for p in path.parents if (p / "entry.json").exists())
            assert json.loads((cell / "entry.json").read_text())["meta"]["sensitive"], path


def test_pruning_takes_the_patients_along(machine: Machine, audit: Audit, tmp_path: Path) -> None:
    out = tmp_path / "pruned"
    shutil.copytree(audit.out, out)
    code, output = machine.call("cache", "prune", out, "--sensitive")
    assert code == 0, output
    assert not [p for p in (out / "store").rglob("*") if p.is_file() and any(n.encode() in p.read_bytes() for n in NAMES)]
    lax = tmp_path / "lax.yaml"
    lax.write_text("leakage_max: 0.9\n")
    code, output = machine.call("report", out, "--policy", lax)
    assert code == 2
    assert "pruned" in output
