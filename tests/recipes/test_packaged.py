"""The recipes that come along: each is valid, each can be planned, and the federations are the published ones."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from leakaudit.engine.plan import Plan
from leakaudit.engine.planner import make_plan
from leakaudit.models.params import SegResNetParams
from leakaudit.protocols.params import FederatedParams
from leakaudit.recipes.library import find_recipe, packaged_recipes
from leakaudit.recipes.loading import load_recipe

PUBLISHED = {
    "2013": 18, "CBICA": 77, "TCIA01": 20, "TCIA02": 30, "TCIA03": 11, "TCIA04": 7, "TCIA05": 3, "TCIA06": 6, "TCIA08": 13,
    "TCIA09": 9, "TCIA10": 32, "TCIA12": 5, "TCIA13": 11,
}  # fmt: skip
"""Patients that each institution trained on (Li et al. 2019, the lists of their 13 clients in NVIDIA FLARE 2.0)."""
RECIPES = packaged_recipes()


def test_the_federations_are_in_the_library() -> None:
    assert {"fedavg-brats13", "fedavg-phantom13", "svt-public-defaults"} <= {recipe.name for recipe in RECIPES}


Planned = Callable[[str], Plan]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    """Plans a packaged recipe, once; where it wants files, on tiny ones that look like its dataset."""
    patch, plans = pytest.MonkeyPatch(), dict[str, Plan]()

    def plan(name: str) -> Plan:
        if name not in plans:
            folder = tmp_path_factory.mktemp(name)
            patch.setenv("LEAKAUDIT_DATA", str(folder))
            resolved = load_recipe(find_recipe(name).path)
            FILES.get(resolved.data.plugin.info.name, lambda _: None)(folder)
            plans[name] = make_plan(resolved)
        return plans[name]

    yield plan
    patch.undo()


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
def test_every_recipe_is_valid_and_can_be_planned(name: str, planned: Planned) -> None:
    plan = planned(name)
    resolved = plan.recipe
    assert resolved.name == name
    assert len(plan.split.members) == resolved.split.members
    assert not [p for p in plan.pairings if p.error]
    attacks = {p.attack for p in plan.pairings if p.scores}
    assert attacks == {choice.label for choice in resolved.attacks}, "an attack of the recipe meets nothing that it can attack"


def test_the_synthetic_federation_trains_on_as_many_patients_as_the_published_one(planned: Planned) -> None:
    plan = planned("fedavg-phantom13")
    site = {entry.patient: entry.site for entry in plan.inventory.patients}
    sizes = Counter(site[patient] for patient in plan.split.members)
    assert [sizes[f"site-{i}"] for i in range(13)] == list(PUBLISHED.values())
    assert sum(PUBLISHED.values()) == 242
    assert len(plan.split.test) == 43


def test_the_real_federation_is_the_published_one_as_near_as_a_drawn_split_gets(planned: Planned) -> None:
    plan = planned("fedavg-brats13")
    (protocol,) = plan.recipe.protocols
    params = protocol.params
    assert isinstance(params, FederatedParams)
    assert isinstance(params.network, SegResNetParams)
    assert params.network == SegResNetParams(architecture="segresnet")
    assert (params.rounds, params.local_epochs, params.weighting, params.optimizer_state) == (600, 1, "samples", "keep")
    learned = params.training
    assert (learned.optimizer, learned.learning_rate, learned.weight_decay, learned.batch_size, learned.dice_weight) == (
        "adam", 1e-4, 1e-5, 1, 1.0,
    )  # fmt: skip
    assert plan.cohort.sites == tuple(sorted(PUBLISHED))
    site = {entry.patient: entry.site for entry in plan.inventory.patients}
    sizes = Counter(site[patient] for patient in plan.split.members)
    assert sum(sizes.values()) == 242
    held_out = [len(getattr(plan.split, group)) for group in ("validation", "test", "non_members", "auxiliary")]
    assert sum(held_out) == 43
    for name, whole in _institutions().items():
        assert abs(sizes[name] - whole * 242 / 285) <= 1.5


def _institutions() -> dict[str, int]:
    """Return how many patients each institution has in the test's folder: the published ones, and 43 others in proportion."""
    others = {name: round(43 * size / 242) for name, size in PUBLISHED.items()}
    others["CBICA"] += 43 - sum(others.values())
    return {name: size + others[name] for name, size in PUBLISHED.items()}


def _link(root: Path, files: Iterable[str], *, kind: str = "image") -> None:
    """Put one tiny scan under many names; an inventory reads headers alone."""
    source = root / f".{kind}"
    if not source.exists():
        shape = (16, 16, 20, 4) if kind == "sequences" else (16, 16, 20)
        made = root / f".{kind}.nii.gz"
        array = np.ones(shape, np.uint8 if kind == "mask" else np.int16)
        nib.save(nib.Nifti1Image(array, np.eye(4)), made)  # type: ignore[no-untyped-call]
        made.rename(source)
    for file in files:
        path = root / f"{file}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path)


def _brats(root: Path, cases: Iterable[str], join: str, modalities: tuple[str, ...]) -> None:
    for case in cases:
        _link(root, (f"{case}/{case}{join}{modality}" for modality in modalities))
        _link(root, [f"{case}/{case}{join}seg"], kind="mask")


def _brats_2018(root: Path) -> None:
    cases = [f"Brats18_{name}_{number}_1" for name, count in _institutions().items() for number in range(count)]
    _brats(root, cases, "_", ("flair", "t1", "t1ce", "t2"))


def _brats_2023(root: Path) -> None:
    _brats(root, [f"BraTS-GLI-{number:05}-000" for number in range(400)], "-", ("t2f", "t1n", "t1c", "t2w"))


def _msd(root: Path) -> None:
    names = [f"BRATS_{number:03}" for number in range(3)]
    _link(root, (f"imagesTr/{name}" for name in names), kind="sequences")
    _link(root, (f"labelsTr/{name}" for name in names), kind="mask")
    listing = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    labels = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    described = {"modality": modality, "labels": labels, "training": listing, "numTraining": 3, "test": [], "numTest": 0}
    (root / "dataset.json").write_text(json.dumps(described))


def _folder(root: Path) -> None:
    _brats(root, [f"patient{number:02}" for number in range(3)], "_", ("flair", "t1", "t1ce", "t2"))


FILES: dict[str, Callable[[Path], None]] = {
    "brats-2018": _brats_2018, "brats-2023": _brats_2023, "msd-brain": _msd, "nifti-folder": _folder,
}  # fmt: skip
