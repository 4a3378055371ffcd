"""The landscape benchmark: its networks, its controls, and the rows that it writes."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_gradients.method import PRESETS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(name="parts")
def _parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    class Parts:
        script, data, map, search, variants = (
            importlib.import_module(f"landscape{name}") for name in ("", "_data", "_map", "_search", "_variants")
        )

    return Parts


def gradients(parts: Any, name: str, scene: Any, seed: int = 0) -> dict[str, torch.Tensor]:
    variant = parts.variants.VARIANTS[name]
    _, simulate = parts.search.prepared(variant, scene, seed)
    x, y = scene.tensors()
    found: dict[str, torch.Tensor] = parts.search.observed(variant, simulate, x[:, None], y[:, None], seed)
    return found


def test_every_variant_builds_and_gives_each_patient_a_gradient(parts: Any) -> None:
    scene = parts.data.phantoms(32, 2, 4)
    for name, variant in parts.variants.VARIANTS.items():
        if name == "basic, trained":
            continue  # two million weights; that training works shows the variant "trained"
        found = gradients(parts, name, scene)
        names = [n for n, _ in variant.task().build().named_parameters()]
        assert list(found) == [n for n in names if n.startswith(variant.tensors or "")], name
        flat = torch.cat([tensor.flatten(1) for tensor in found.values()], dim=1)
        assert flat.isfinite().all(), name
        assert (flat[0] - flat[1]).norm() > 1e-3 * flat.norm(), name


def test_variants_differ_in_what_their_names_say(parts: Any) -> None:
    variants = parts.variants.VARIANTS
    kinds = {name: {type(m) for m in variant.task().build().modules()} for name, variant in variants.items()}
    assert torch.nn.LeakyReLU in kinds["leaky"]
    assert torch.nn.InstanceNorm2d in kinds["instance"]
    assert torch.nn.GroupNorm in kinds["group"]
    assert torch.nn.GroupNorm in kinds["monai, gelu group"]
    assert {torch.nn.InstanceNorm2d, torch.nn.PReLU} <= kinds["monai, default"]
    assert {torch.nn.InstanceNorm2d, torch.nn.LeakyReLU} <= kinds["leakaudit, default"]
    for name in ("gelu", "leakaudit, gelu", "monai, gelu"):
        assert torch.nn.GELU in kinds[name]
        assert not kinds[name] & {torch.nn.InstanceNorm2d, torch.nn.LeakyReLU, torch.nn.PReLU}
    x = torch.randn(1, 4, 32, 32)
    outputs = {}
    for name in ("gelu", "max pooling", "average pooling"):
        torch.manual_seed(0)
        outputs[name] = variants[name].task().build()(x)
    assert len({float(out.detach().sum()) for out in outputs.values()}) == 3


def test_a_variant_changes_what_it_says_of_the_search_and_nothing_else(parts: Any) -> None:
    variants = parts.variants.VARIANTS
    base = variants["gelu"].method(7)
    assert base == replace(PRESETS["smooth-unet"], iterations=7)
    assert variants["gelu, layer cosine"].method(7) == replace(base, objective="layer-cosine")
    adam = variants["gelu, adam for lbfgs"].method(7)
    assert (adam.optimizer, adam.objective, adam.tv, adam.start) == ("adam", base.objective, base.tv, base.start)


def test_priors_are_learned_from_auxiliary_patients_and_change_the_search(parts: Any) -> None:
    variants = parts.variants.VARIANTS
    assert variants["noise 1, pca .01"] == replace(variants["noise 1"], changed={"pca": 0.01})
    adam = variants["leaky, default init, adam for lbfgs, autoencoder 1"].method(7)
    assert (adam.optimizer, adam.pca, adam.autoencoder) == ("adam", 0.0, 1)
    assert variants["gelu, pca .1"].learns
    assert not variants["gelu"].learns
    assert not any(name.split(", ")[-1].startswith(parts.variants.PRIORS) for name in parts.script.DEFAULT)
    assert "trained" in parts.script.DEFAULT
    scene, small = parts.data.phantoms(16, 2, 4), parts.variants.Variant(channels=(4, 8))
    found = [
        parts.search.inverted(replace(small, changed={"optimizer": "adam", **changed}), scene, 0, 6).images
        for changed in ({}, {"pca": 1.0}, {"autoencoder": 1.0})
    ]
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_biases_are_zero_where_initialization_is_he_et_al(parts: Any) -> None:
    for name, zero in {"leaky": True, "leaky, default init": False, "relu": True, "relu, default init": False}.items():
        network = parts.variants.VARIANTS[name].task().build()
        assert all(bool((p == 0).all()) == zero for n, p in network.named_parameters() if n.endswith("bias")), name


def test_the_negative_control_shows_the_gradient_of_the_next_patient(parts: Any) -> None:
    scene = parts.data.phantoms(16, 3, 4)
    parts.variants.VARIANTS["small"] = small = parts.variants.Variant(channels=(4, 8))
    parts.variants.VARIANTS["small control"] = parts.variants.Variant(channels=(4, 8), exchanged=True)
    parts.variants.VARIANTS["small noise"] = parts.variants.Variant(channels=(4, 8), noise=0.1)
    try:
        own, other, noisy = (gradients(parts, f"small{kind}", scene) for kind in ("", " control", " noise"))
    finally:
        for kind in ("", " control", " noise"):
            del parts.variants.VARIANTS[f"small{kind}"]
    assert not small.exchanged
    assert parts.variants.VARIANTS["negative control"].exchanged
    for name, tensor in own.items():
        assert torch.equal(other[name], tensor[[2, 0, 1]])
    large = max(own, key=lambda name: own[name].numel())
    for i in range(3):
        size = float((noisy[large][i] - own[large][i]).norm() / own[large][i].norm())
        assert size == pytest.approx(0.1, rel=0.2)


def test_rows_are_complete_and_what_was_found_is_kept(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "found.json"
    command = ["--size", "16", "--patients", "3", "--own", "6", "--seeds", "2", "--out", str(out)]
    search = [*command, "--iterations", "3", "--variants", "two levels", "negative control"]
    monkeypatch.setitem(parts.variants.VARIANTS, "negative control", parts.variants.Variant(channels=(4, 8), exchanged=True))
    maps = [*command, "--maps", "--variants", "two levels, relu"]
    assert parts.script.main(search) == 0
    assert parts.script.main(maps) == 0
    with open(out.with_suffix(".csv"), encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["attack"], r["variant"], r["seeds"]) for r in rows] == [
        ("matching", "two levels", "2"),
        ("matching", "negative control", "2"),
        ("mask", "any", "1"),
        ("map", "two levels, relu", "2"),
    ]
    over_masks = [name for name in parts.script.COLUMNS if "above" in name]
    always = set(parts.script.COLUMNS) - {"seed_sd", "dice", *over_masks}
    for one in rows:
        assert list(one) == list(parts.script.COLUMNS)
        assert all(one[name] for name in always), one
    assert rows[0]["seed_sd"]
    assert len(over_masks) == 6
    assert all(rows[3][name] for name in over_masks)
    assert rows[0]["chance"] == rows[2]["ssim"], "who knows the masks is held against what they tell"
    assert rows[3]["chance"] == rows[2]["chance"], "who reads them from a gradient is not"
    kept = json.loads(out.read_text())

    def never(*_: Any) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(parts.script, "inverted", never)
    monkeypatch.setattr(parts.script, "learned", never)
    assert parts.script.main(search) == 0
    assert parts.script.main(maps) == 0
    assert json.loads(out.read_text()) == kept


def record(seed: int, ssim: list[float], **changes: Any) -> dict[str, Any]:
    base = {"data": "phantom", "size": 32, "attack": "matching", "variant": "gelu", "patients": len(ssim), "iterations": 5}
    each = {"psnr": 10.0, "chance_psnr": 10.0, "chance": 0.2, "exchanged": 0.2, "rank1": 1.0, "rank1_truth": 1.0}
    many = {name: [value] * len(ssim) for name, value in each.items()}
    return {**base, "seed": seed, "ssim": ssim, **many, "blind": 0.02, "seconds": 1.0, **changes}


def test_a_row_is_leakage_over_patients_and_seeds(parts: Any) -> None:
    calm = parts.script.row([record(s, [0.58, 0.6, 0.62, 0.6]) for s in range(3)])
    assert calm["leakage"] == pytest.approx(0.5)
    assert calm["exchanged"] == pytest.approx(0)
    assert calm["seed_sd"] == pytest.approx(0, abs=1e-9)
    assert calm["control"] == "yes"
    assert calm["low"] == pytest.approx(calm["patients_low"])
    wild = parts.script.row([record(s, [0.58 + d, 0.6 + d, 0.62 + d, 0.6 + d]) for s, d in enumerate((-0.2, 0, 0.2))])
    assert wild["leakage"] == pytest.approx(0.5)
    assert wild["control"] == "no"
    assert wild["low"] < 0 < 0.4 < wild["patients_low"]
    assert parts.script.row([record(0, [0.5, 0.6, 0.7])])["seed_sd"] is None


def test_a_map_is_held_against_what_masks_tell(parts: Any) -> None:
    mask = record(0, [0.3, 0.4, 0.5], attack="mask", variant="any", rank1=[1.0, 0.0, 0.5])
    maps = [record(s, [0.4, 0.5, 0.6], attack="map", control=[0.1] * 3) for s in range(3)]
    rows = parts.script.table([mask, *maps])
    assert rows[0]["above"] is None
    assert rows[1]["above"] == pytest.approx(0.1)
    assert rows[1]["rank1_above"] == pytest.approx(0.5)
    assert rows[1]["rank1_above_low"] < 0.5 < rows[1]["rank1_above_high"]
    assert rows[1]["exchanged"] == pytest.approx(-0.1 / 0.8)


def test_no_attacked_slice_is_in_the_gallery_or_in_the_mean(parts: Any, tmp_path: Path) -> None:
    nibabel, rng = pytest.importorskip("nibabel"), np.random.default_rng(0)
    for patient in ("a", "b", "c"):
        (tmp_path / patient).mkdir()
        for name in ("flair", "t1", "t1ce", "t2", "seg"):
            volume = np.zeros((32, 32, 8))
            if name == "seg":
                volume[12:20, 12:20, 1:7] = 1
            else:
                volume[4:28, 4:28] = rng.integers(100, 1000, (24, 24, 8))
            image = nibabel.Nifti1Image(volume.astype(np.int16), np.eye(4))
            nibabel.save(image, tmp_path / patient / f"{patient}_{name}.nii.gz")
    scene = parts.data.real(16, {"nifti-folder": str(tmp_path)}, slices=3)
    places = [{(s.patient, s.position) for s in cohort.samples} for cohort in (scene.victims, scene.gallery)]
    assert len(scene.victims) == 3
    assert len(scene.gallery) == 6
    assert not places[0] & places[1]
    for i, victim in enumerate(scene.victims.samples):
        others = [j for j, s in enumerate(scene.own.samples) if s.patient != victim.patient]
        assert np.allclose(scene.mean[i], scene.own.images[others].mean(axis=0), atol=1e-5)
    perfect = parts.data.scores(scene, scene.victims.images)
    assert np.allclose(perfect["ssim"], 1)
    assert np.mean(perfect["exchanged"]) < 0.5


@pytest.mark.parametrize("more", [["--maps"], ["--variants", "trained"], ["--variants", "gelu, pca .1"]])
def test_nothing_is_learned_from_the_attacked_patients(parts: Any, tmp_path: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit):
        parts.script.main(["--data", f"nifti-folder={tmp_path}", "--out", str(tmp_path / "found.json"), *more])
