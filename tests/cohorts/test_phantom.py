"""The phantom's contract: parameters, determinism, identity, tumor, signal and canary."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from leakaudit.cohorts.phantom import BITS, Phantom, PhantomParams, decode
from leakaudit.cohorts.phantom.anatomy import Tissue
from leakaudit.cohorts.phantom.canary import choose, dot_weights
from leakaudit.cohorts.phantom.fields import stream
from leakaudit.cohorts.phantom.grid import Grid, Pose
from leakaudit.cohorts.phantom.nuisance import Scan, Scanner
from leakaudit.cohorts.phantom.patient import Patient
from leakaudit.cohorts.phantom.signal import Sequences, Tissues
from leakaudit.cohorts.phantom.tumor import Focus, _march
from leakaudit.errors import UserError

KEYS = [f"phantom-{i:04d}" for i in range(12)]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom(PhantomParams(), seed=7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 60}, "multiple of 8"),
        ({"patients": 5, "sites": (2, 2)}, "sites lists 4 patients in all, but patients is 5"),
        ({"patients": 2, "sites": (2, 0)}, "greater than or equal to 1"),
        ({"size": 8}, "greater than or equal to 16"),
        ({"slices": 20}, "at most 16 slices"),
        ({"dims": 3, "slices": 2}, "leave slices at 1"),
        ({"canary": True, "size": 32}, "use size 56 or more"),
        ({"modalities": ("t1", "t1c")}, "Did you mean 't1ce'"),
        ({"modalities": ()}, "at least one modality"),
        ({"modalities": ("t2", "t2")}, "named once"),
        ({"patients": 0}, "greater than or equal to 1"),
        ({"depht": 32}, "Extra inputs"),
    ],
)
def test_params_reject_nonsense(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PhantomParams.model_validate(values)


def test_package_is_light() -> None:
    code = (
        "import sys; import leakaudit.cohorts.phantom as p; p.PhantomParams(); "
        "assert 'torch' not in sys.modules and 'skimage' not in sys.modules; "
        "p.Phantom; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_inventory_follows_the_parameters() -> None:
    inventory = Phantom(PhantomParams(patients=5, sites=2, slices=3, visits=3, modalities=("t1", "t2")), seed=0).inventory()
    assert [entry.patient for entry in inventory.patients] == KEYS[:5]
    assert [entry.site for entry in inventory.patients] == ["site-0", "site-1", "site-0", "site-1", "site-0"]
    assert {(entry.visits, entry.records) for entry in inventory.patients} == {(3, 3)}
    assert (inventory.modalities, inventory.shape) == (("t1", "t2"), (64, 64))
    assert Phantom(PhantomParams(dims=3, size=32, depth=16), seed=0).inventory().shape == (16, 32, 32)


def test_cohort_keeps_its_contract() -> None:
    cohort = Phantom(PhantomParams(slices=3), seed=7).load([KEYS[4], KEYS[1], KEYS[1]], visits=(1, 0, 9))
    order = [(s.patient, s.visit, s.position) for s in cohort.samples]
    assert order == sorted(order)
    assert len(order) == len(set(order)) == 2 * 2 * 3
    assert [s.site for s in cohort.samples] == ["site-1"] * 6 + ["site-0"] * 6
    assert (cohort.images.dtype, cohort.labels.dtype, cohort.brain.dtype) == (np.float32, np.uint8, np.bool_)
    assert set(np.unique(cohort.labels)) <= {0, 1, 2, 3}
    assert not cohort.labels[~cohort.brain].any()
    assert 0.3 < cohort.brain.mean() < 0.6
    for image, brain in zip(cohort.images, cohort.brain, strict=True):
        assert not image[:, ~brain].any()
        np.testing.assert_allclose(image[:, brain].mean(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(image[:, brain].std(axis=1), 1, atol=1e-5)
    assert (cohort.labels > 0).reshape(12, -1).any(axis=1).sum() >= 10
    assert cohort.origin.synthetic
    assert cohort.origin.public
    assert len(cohort.origin.digest) == 64
    assert not cohort.canaries
    assert not cohort.dots


def test_loading_nobody_gives_an_empty_cohort(phantom: Phantom) -> None:
    cohort = phantom.load([])
    assert cohort.images.shape == (0, 4, 64, 64)
    assert phantom.load(KEYS[:2], visits=(5,)).patients == ()


def test_a_patient_does_not_depend_on_who_else_is_loaded(phantom: Phantom) -> None:
    together = phantom.load(KEYS[:6], visits=(0, 1))
    alone = Phantom(PhantomParams(patients=4, visits=8), seed=7).load([KEYS[3]], visits=(1,))
    same = together.where(lambda s: s.patient == KEYS[3] and s.visit == 1)
    assert np.array_equal(alone.images, same.images)
    assert np.array_equal(alone.labels, same.labels)
    assert phantom.load(KEYS[:6], visits=(0, 1)).origin.digest == together.origin.digest
    assert Phantom(PhantomParams(), seed=8).load(KEYS[:6], visits=(0, 1)).origin.digest != together.origin.digest
    assert pickle.loads(pickle.dumps(phantom)).load([KEYS[3]]).origin.digest == phantom.load([KEYS[3]]).origin.digest


def test_a_slice_does_not_depend_on_how_many_are_taken(phantom: Phantom) -> None:
    one = phantom.load([KEYS[0]])
    three = Phantom(PhantomParams(slices=3), seed=7).load([KEYS[0]])
    at = [s.position for s in three.samples].index(one.samples[0].position)
    assert np.array_equal(three.images[at], one.images[0])


def test_modalities_select_and_order_channels(phantom: Phantom) -> None:
    fewer = Phantom(PhantomParams(modalities=("t2", "flair")), seed=7).load(KEYS[:2])
    assert np.array_equal(fewer.images, phantom.load(KEYS[:2]).channels(("t2", "flair")).images)


def test_streams_do_not_depend_on_the_process() -> None:
    code = "from leakaudit.cohorts.phantom.fields import stream; print(stream(3, 'phantom-0001', 'tumor').integers(1 << 60))"
    drawn = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert drawn == {f"{stream(3, 'phantom-0001', 'tumor').integers(1 << 60)}\n"}
    assert stream(3, "a", "bc").integers(1 << 60) != stream(3, "ab", "c").integers(1 << 60)


def test_unknown_patient_and_visit_are_explained(phantom: Phantom) -> None:
    with pytest.raises(UserError, match=r"no patient 'phantom-0200'\. It has phantom-0000 to phantom-0199"):
        phantom.load(["phantom-0200"])
    with pytest.raises(UserError, match="Did you mean 'phantom-0001'"):
        phantom.folding("phantom-001")
    with pytest.raises(UserError, match="visits 0 to 1"):
        phantom.raw(KEYS[0], 2)


def test_raw_scans_are_what_a_scanner_delivers(phantom: Phantom) -> None:
    images, labels = phantom.raw(KEYS[0], 1)
    cohort = phantom.load([KEYS[0]], visits=(1,))
    assert images.shape == (1, 4, 64, 64)
    assert np.array_equal(images, np.rint(images))
    assert images.min() == 0
    assert images.max() <= np.iinfo(np.int16).max
    assert not images[0][:, ~cohort.brain[0]].any()
    assert np.array_equal(labels, cohort.labels)
    assert np.all(images[0][:, cohort.brain[0]].mean(axis=1) > 200)


def test_visits_share_the_person_and_not_the_noise() -> None:
    noisy, clean = (Phantom(PhantomParams(noise=level), seed=7) for level in (1.0, 0.0))
    inside = noisy.load([KEYS[0]]).brain[0]
    first, second = (noisy.raw(KEYS[0], v)[0][0, 1] - clean.raw(KEYS[0], v)[0][0, 1] for v in (0, 1))
    other = noisy.raw(KEYS[4], 0)[0][0, 1] - clean.raw(KEYS[4], 0)[0][0, 1]
    assert first[inside].std() > 5
    assert abs(np.corrcoef(first[inside], second[inside])[0, 1]) < 0.1
    assert abs(np.corrcoef(first[inside], other[inside])[0, 1]) < 0.1


def test_folding_is_of_the_person(phantom: Phantom) -> None:
    folds = [phantom.folding(key).ravel() for key in KEYS]
    assert phantom.folding(KEYS[0]).shape == (64, 2)
    correlation = np.corrcoef(folds)[~np.eye(len(KEYS), dtype=bool)]
    assert np.abs(correlation).max() < 0.4


def test_tumors_grow_between_visits() -> None:
    cohort = Phantom(PhantomParams(visits=3), seed=7).load(KEYS, visits=(0, 2))
    voxels = {v: sum((cohort.labels[i] > 0).sum() for i, s in enumerate(cohort.samples) if s.visit == v) for v in (0, 2)}
    assert voxels[2] > 1.1 * voxels[0]


def test_hospitals_can_have_as_many_patients_as_they_are_given() -> None:
    dataset = Phantom(PhantomParams(patients=6, sites=(1, 3, 2), size=32, visits=1), seed=7)
    sites = [entry.site for entry in dataset.inventory().patients]
    assert sites == ["site-0", "site-1", "site-1", "site-1", "site-2", "site-2"]
    assert tuple(dataset.load(KEYS[3:5]).sites) == ("site-1", "site-2")
    turns = Phantom(PhantomParams(patients=6, sites=3, size=32, visits=1), seed=7)
    assert np.array_equal(dataset.load(KEYS[1:2]).images, turns.load(KEYS[1:2]).images), "the same patient at the same scanner"
    assert not np.array_equal(dataset.load(KEYS[3:4]).images, turns.load(KEYS[3:4]).images), "phantom-0003 changed hospitals"


def test_sites_have_scanners_of_their_own() -> None:
    scanners = [Scanner.of(7, site) for site in range(6)]
    gains = np.stack([s.gain for s in scanners])
    assert gains.min() >= 300
    assert gains.max() <= 3000
    assert len(np.unique(gains)) == gains.size
    nominal = Sequences.nominal()
    assert all(np.all(np.abs(s.sequences.times / nominal.times - 1) <= 0.1) for s in scanners)
    assert all(0.01 <= s.noise <= 0.05 for s in scanners)


def test_tissue_signals_match_the_model() -> None:
    signal = Sequences.nominal().signal(Tissues.nominal())[:, [Tissue.CSF, Tissue.GM, Tissue.WM]]
    expected = [[0.0, 1.26, 1.08], [0.51, 0.99, 1.20], [0.50, 0.98, 1.21], [2.11, 0.93, 0.67]]
    np.testing.assert_allclose(signal, expected, atol=0.006)


def test_bias_field_spans_what_is_asked() -> None:
    scan = Scan.draw(stream(0, "scan"), Scanner.of(0, 0), 1, 1.0, 0.2)
    field = scan.field(Grid(32, 16))
    span = field.max(axis=(1, 2, 3)) / field.min(axis=(1, 2, 3))
    assert np.all((span > 1.3) & (span < 2.2))
    assert np.abs(np.diff(field, axis=-1)).max() < 0.06
    none = Scan.draw(stream(0, "scan"), Scanner.of(0, 0), 1, 1.0, 0.0).field(Grid(32, 16))
    np.testing.assert_allclose(none, 1)


def test_grid_and_pose_invert() -> None:
    grid, volume = Grid(16, 8, position=3), Grid(16, 8)
    index = np.stack(np.meshgrid(np.arange(8), np.arange(16), np.arange(16), indexing="ij"), -1).reshape(-1, 3)
    np.testing.assert_allclose(volume.voxels(volume.points(refine=1)), index, atol=1e-4)
    np.testing.assert_allclose(grid.points(refine=1), volume.points(refine=1)[:, index[:, 0] == 3], atol=1e-4)
    pose = Pose.draw(stream(1, "pose"))
    points = stream(1, "points").uniform(-90, 90, (3, 50)).astype(np.float32)
    np.testing.assert_allclose(pose.back(pose.into(points)), points, atol=1e-3)
    angle = np.rad2deg(np.arccos(np.clip((np.trace(pose.rotation) - 1) / 2, -1, 1)))
    assert 0 < angle <= 3
    assert 0 < np.linalg.norm(pose.shift) <= 3
    fine = np.arange(16.0, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(Grid(2, 8, position=0).coarse(fine), [[2.5, 4.5], [10.5, 12.5]])


def test_tumors_spread_fast_in_white_matter_and_stop_at_fluid() -> None:
    grid = Grid(32, 16, position=8)
    points = grid.points()
    tissue = np.full(points.shape[1], Tissue.WM, dtype=np.uint8)
    tissue[points[0] > 20] = Tissue.GM
    tissue[(points[0] < -20) & (points[0] > -24)] = Tissue.CSF
    focus = Focus(np.array([0.0, 0.0, grid.height()]), 10.0, 10.0)
    near, time, radius = _march(focus, grid, Pose.identity(), points, tissue, 60.0)
    x, y, _ = points[:, near]
    line = np.abs(y) < 2
    white, gray, behind = (line & m for m in (np.abs(x) < 18, x > 26, x < -28))
    np.testing.assert_allclose(time[white], radius[white], atol=4)
    np.testing.assert_allclose(time[gray], 20 + 5 * (x[gray] - 20), atol=9)
    assert np.all(time[behind] > 900)


def test_tumor_keeps_to_the_tissue_it_can_reach(phantom: Phantom) -> None:
    seen: set[int] = set()
    for key in KEYS:
        scene = phantom._scene(key, 0, phantom._grids(key)[0])
        where = scene.tumor > 0
        seen |= set(scene.tumor[where].tolist())
        assert not np.isin(scene.healthy[where], (Tissue.OUTSIDE, Tissue.CSF, Tissue.VESSEL)).any()
        assert np.isin(scene.healthy[scene.tumor == Tissue.ED], (Tissue.WM, Tissue.WMH)).all()
        assert np.all((scene.weight[where] > 0) & (scene.weight[where] <= 1))
        assert not scene.weight[~where].any()
    assert seen == {Tissue.ED, Tissue.ET, Tissue.NCR, Tissue.NET}


def test_tumor_kinds_are_as_frequent_as_in_cohorts() -> None:
    tumors = [Patient.draw(7, f"phantom-{i:04d}").tumor for i in range(200)]
    assert 0.10 < np.mean([not t.enhancing for t in tumors]) < 0.25
    assert 0.05 < np.mean([len(t.foci) > 1 for t in tumors]) < 0.2
    assert all(3 <= t.rim <= 8 for t in tumors)


def test_mass_effect_pushes_outward_and_fades() -> None:
    tumor = Patient.draw(7, KEYS[0]).tumor
    seed = tumor.foci[0].seed.astype(np.float32)
    points = seed[:, None] + np.array([[1.0, 15.0, 120.0], [0, 0, 0], [0, 0, 0]], np.float32)
    moved = (points - tumor.displace(points))[0]
    assert moved[1] > moved[2]
    assert moved[1] > 0.3
    assert abs(moved[2]) < 0.01


def test_volume_holds_the_slice_s_anatomy() -> None:
    patient = Patient.draw(7, KEYS[0])
    volume, cut = Grid(32, 16), Grid(32, 16, position=8)
    whole = patient.anatomy.tissue(volume.points(refine=1)).reshape(volume.shape)
    assert np.array_equal(whole[8], patient.anatomy.tissue(cut.points(refine=1)).reshape(cut.shape))


def test_three_dimensions() -> None:
    phantom = Phantom(PhantomParams(dims=3, size=64, depth=16, canary=True, visits=1), seed=7)
    cohort = phantom.load(KEYS[:1])
    assert cohort.images.shape == (1, 4, 16, 64, 64)
    assert set(np.unique(cohort.labels)) >= {0, 2}
    assert not cohort.images[0][:, ~cohort.brain[0]].any()
    dots = cohort.dots[KEYS[0], 0, 0]
    assert dots.shape == (BITS, 3)
    bits, _ = decode(cohort.images[0, 3], dots)
    assert (bits == cohort.canaries[KEYS[0]]).mean() >= 0.95
    assert phantom.raw(KEYS[0])[0].shape == (1, 4, 16, 64, 64)


def test_canary_changes_dots_only(phantom: Phantom) -> None:
    planted = Phantom(PhantomParams(canary=True), seed=7)
    with_dots, without = planted.load(KEYS[:1]), phantom.load(KEYS[:1])
    sample = with_dots.samples[0]
    dots = with_dots.dots[KEYS[0], 0, sample.position]
    assert dots.shape == (BITS, 2)
    assert dots.dtype == np.float32
    assert np.array_equal(with_dots.canaries[KEYS[0]], phantom.bits(KEYS[0]))
    assert np.array_equal(with_dots.labels, without.labels)
    weights = dot_weights(Grid(64, 32, sample.position), dots, phantom.bits(KEYS[0]))
    change = planted.raw(KEYS[0])[0][0] - phantom.raw(KEYS[0])[0][0]
    assert not change[:, weights == 0].any()
    assert np.all(change[3][weights > 0.5] > 0)
    assert (change[0][weights > 0.5] < 0).mean() > 0.9
    r, c = np.rint(dots).astype(int).T
    assert not with_dots.labels[0][r, c].any()


def test_decoding_ignores_scale_and_offset() -> None:
    cohort = Phantom(PhantomParams(canary=True, visits=1), seed=7).load(KEYS[:1])
    image, dots = cohort.images[0, 3], cohort.dots[KEYS[0], 0, cohort.samples[0].position]
    bits, ratio = decode(image, dots)
    assert bits.shape == ratio.shape == (BITS,)
    assert np.array_equal(bits, ratio > 0)
    assert np.array_equal(decode(0.2 * image + 5, dots)[0], bits)
    assert np.array_equal(decode(-image, dots)[0], ~bits)
    flat, none = decode(np.zeros_like(image), dots)
    assert not flat.any()
    assert not none.any()
    with pytest.raises(ValueError, match=r"expected \(bits, 3\)"):
        decode(np.zeros((4, 64, 64)), dots)


def test_sites_are_chosen_quiet_and_apart() -> None:
    candidates = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
    cost = np.where(candidates[:, 0] < 15, 0.0, 1.0)
    chosen = candidates[choose(stream(0, "x"), candidates, cost)]
    assert len(chosen) == BITS
    away = np.abs(chosen[:, None] - chosen).max(axis=-1)[~np.eye(BITS, dtype=bool)]
    assert away.min() >= 1.5
    few = candidates[:BITS]
    assert sorted(choose(stream(0, "x"), few, np.zeros(BITS))) == list(range(BITS))


@pytest.mark.parametrize(
    "change", [{"contrast": 0.5}, {"noise": 0.0}, {"bias": 0.0}, {"canary": True}, {"sites": 2}, {"depth": 16}]
)
def test_every_knob_changes_the_images(change: dict[str, object]) -> None:
    plain, other = (
        Phantom(PhantomParams(patients=8, visits=1, **extra), 0).load(["phantom-0003"]).images for extra in ({}, change)
    )
    assert not np.array_equal(plain, other)


def test_contrast_scales_how_the_tumor_stands_out() -> None:
    def gap(contrast: float) -> float:
        cohort = Phantom(PhantomParams(patients=12, visits=1, contrast=contrast), 0).load([f"phantom-{i:04d}" for i in range(12)])
        flair, edema = cohort.images[:, 0], cohort.labels == 2
        return float(flair[edema].mean() - flair[cohort.brain & (cohort.labels == 0)].mean())

    assert gap(0.5) < 0.75 * gap(1.0) < gap(1.0) < gap(1.2)
