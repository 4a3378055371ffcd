"""From evidence to numbers: perfect, empty and wrong evidence land where they must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakaudit.attacks import EvidenceError, Images, Masks, Values
from leakaudit.cohorts import Cohort, Origin, Sample, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.engine.endpoints import Ground
from leakaudit.engine.evidence_matrix import chosen_patients, middle_rows
from leakaudit.engine.image_endpoints import score_images
from leakaudit.engine.mask_endpoints import score_masks, score_values
from leakaudit.engine.merge import Merged, merge
from leakaudit.scoring.images import masked_mse, masked_nmi
from leakaudit.scoring.permutation import shuffle_test


@pytest.fixture(scope="module")
def ground() -> Ground:
    phantom = Phantom(PhantomParams(patients=40, size=64, visits=2, canary=True), 3)
    names = [e.patient for e in phantom.inventory().patients]
    cohort = phantom.load(names)
    return Ground(
        members=cohort.of_patients(names[:10]), auxiliary=cohort.of_patients(names[10:30]),
        validation=cohort.of_patients(names[30:]), gallery=phantom.load(names, visits=(1,)), owned="same",
    )  # fmt: skip


def images(ground: Ground, array: np.ndarray, modalities: tuple[str, ...] = ("t2",)) -> Images:
    about = tuple(f"t{i}" for i in range(len(array)))
    return Images(name="e", channel="activation", about=about, images=array.astype(np.float32), modalities=modalities)


def truth(ground: Ground, modality: str = "t2") -> np.ndarray:
    return np.array(ground.members.channels([modality]).images)


def test_the_truth_itself_is_full_recovery(ground: Ground) -> None:
    found, pictures = score_images(images(ground, truth(ground)), range(10), ground)
    by_name = {e.name: e for e in found}
    assert set(by_name) == {"fidelity", "identity", "canary"}
    for name, endpoint in by_name.items():
        np.testing.assert_allclose(endpoint.score, endpoint.anchor, atol=1e-6, err_msg=name)
    assert by_name["fidelity"].raw["mse"].value == pytest.approx(0, abs=1e-9)
    assert by_name["identity"].raw["gallery_of_other_visit"].value == 1.0
    assert by_name["identity"].score.mean() >= 0.9
    assert by_name["canary"].anchor.mean() >= 0.99
    assert pictures
    assert all(0 <= p.original.min() <= p.original.max() <= 1 for p in pictures)


def test_another_patient_s_image_is_worth_no_more_than_a_guess(ground: Ground) -> None:
    found, _ = score_images(images(ground, np.roll(truth(ground), 1, axis=0)), range(10), ground)
    by_name = {e.name: e for e in found}
    fidelity = by_name["fidelity"]
    assert (fidelity.score - fidelity.chance).mean() < 0.02
    assert by_name["identity"].score.mean() == 0
    assert by_name["canary"].score.mean() == pytest.approx(0.5, abs=0.1)


def test_the_mean_image_is_chance(ground: Ground) -> None:
    mean = ground.auxiliary.channels(["t2"]).images.mean(axis=0)
    found, _ = score_images(images(ground, np.repeat(mean[None], 10, axis=0)), range(10), ground)
    fidelity = found[0]
    leak = (fidelity.score - fidelity.chance).sum() / (fidelity.anchor - fidelity.chance).sum()
    assert abs(leak) < 0.05


def test_what_a_colluder_holds_raises_chance(ground: Ground) -> None:
    plain, _ = score_images(images(ground, truth(ground)), range(10), ground)
    held, _ = score_images(images(ground, truth(ground)), range(10), replace(ground, held=("t1", "flair")))
    assert held[0].chance_name.removesuffix("-contrast") == "translated-holdings"
    assert held[0].chance.mean() > plain[0].chance.mean() + 0.1


def test_known_masks_raise_chance_of_fidelity_and_of_identity(ground: Ground) -> None:
    told = replace(ground, masks=True)
    plain, known = (score_images(images(ground, truth(ground)), range(10), g)[0] for g in (ground, told))
    assert [e.chance_name.removesuffix("-contrast") for e in known[:2]] == ["translated-masks", "known masks"]
    assert known[0].chance.mean() > plain[0].chance.mean() + 0.02
    assert known[1].chance.mean() > plain[1].chance.mean() + 0.1, "a lesion is known again at the next visit"
    nobody = replace(told, validation=ground.validation.take([]))
    assert score_images(images(ground, truth(ground)), range(10), nobody)[0][0].chance_name == "translated-masks"


@pytest.mark.parametrize("owned", ["none", "noise"])
def test_masks_identify_also_for_an_adversary_that_owns_no_image(ground: Ground, owned: str) -> None:
    """A lesion painted on nothing is no picture, and yet names its patient."""
    told = replace(ground, masks=True, owned=owned)
    found = score_images(images(ground, 2 * regions(ground.members.labels)[:, :1]), range(10), told)[0]
    identity = next(e for e in found if e.name == "identity")
    assert identity.chance_name == "known masks"
    assert identity.chance.mean() > 5 / 40
    assert (identity.score - identity.chance).mean() <= 0


def test_the_better_of_two_guesses_about_the_target_itself_counts_for_identity(ground: Ground) -> None:
    both = replace(ground, masks=True, held=("flair",), members=replace(ground.members, images=_without(ground.members, "flair")))
    (_, identity, *_) = score_images(images(ground, truth(ground)), range(10), both)[0]
    assert identity.chance_name in ("own images", "known masks")
    alone = score_images(images(ground, truth(ground)), range(10), replace(both, masks=False))[0][1]
    assert (alone.chance_name, identity.chance.mean() >= alone.chance.mean()) == ("own images", True)


def test_an_adversary_without_images_guesses_a_flat_one(ground: Ground) -> None:
    found, _ = score_images(images(ground, truth(ground)), range(10), replace(ground, owned="none"))
    assert found[0].chance_name == "flat"


@pytest.mark.parametrize(("shape", "modality"), [((10, 1, 32, 32), "t2"), ((10, 1, 64, 64), "pet")])
def test_evidence_that_does_not_fit_the_cohort_is_refused(ground: Ground, shape: tuple[int, ...], modality: str) -> None:
    with pytest.raises(EvidenceError, match="the cohort has"):
        score_images(images(ground, np.zeros(shape), (modality,)), range(10), ground)


def test_stolen_masks_and_volumes(ground: Ground) -> None:
    about = tuple(f"t{i}" for i in range(10))
    stolen = Masks(name="m", channel="cut-gradient", about=about, masks=regions(ground.members.labels))
    for endpoint in score_masks(stolen, range(10), ground):
        np.testing.assert_allclose(endpoint.score, 1.0)
        assert endpoint.chance.mean() < 0.6
    brain = ground.members.brain.sum(axis=(1, 2))
    volumes = ((ground.members.labels > 0).sum(axis=(1, 2)) / brain).astype(np.float32)
    (endpoint,) = score_values(Values(name="v", channel="update", about=about, values=volumes), range(10), ground)
    np.testing.assert_allclose(endpoint.score, 0.0, atol=1e-5)
    assert endpoint.chance.mean() < -0.1


def merged(ground: Ground, array: np.ndarray, order: list[int]) -> dict[str, Merged]:
    found, _ = score_images(images(ground, array[order]), order, ground)
    evidence = {"name": "e", "channel": "activation", "seat": None, "level": None, "shuffled": None}
    result = {"evidence": [{**evidence, "endpoints": [e.to_json() for e in found]}]}
    return merge([result], "endpoints", 1)


def test_numbers_do_not_depend_on_the_order_of_patients(ground: Ground) -> None:
    array = truth(ground) * 0.5
    forward, backward = (merged(ground, array, order) for order in (list(range(10)), list(range(9, -1, -1))))
    for name, one in forward.items():
        other = backward[name]
        assert one.patients == other.patients
        assert one.value == pytest.approx(other.value)
        assert one.interval() == other.interval()


def test_identity_of_everybody_still_has_an_interval(ground: Ground) -> None:
    """All hits are alike, so that resampling sees no spread; Clopper-Pearson bounds the rate all the same."""
    identity = merged(ground, truth(ground), list(range(10)))["e identity"]
    interval = identity.interval()
    assert identity.value == pytest.approx(1.0, abs=0.02)
    assert interval is not None
    assert interval.low < 0.75


def test_few_patients_have_values_and_no_interval(ground: Ground) -> None:
    fidelity = merged(ground, truth(ground), [0, 1, 2])["e fidelity"]
    assert fidelity.value == pytest.approx(1.0)
    assert fidelity.interval() is None


def test_membership_is_compared_within_sites() -> None:
    """Scores that know nothing but the site: the pooled AUC is fooled, the one within sites is not."""
    rng = np.random.default_rng(0)
    member = np.array([True] * 70 + [False] * 30 + [True] * 30 + [False] * 70)
    site = ["a"] * 100 + ["b"] * 100
    score = np.array([1.0] * 100 + [0.0] * 100) + 1e-6 * rng.standard_normal(200)
    endpoint = {
        "name": "membership", "patients": [f"p{i}" for i in range(200)], "score": score.tolist(), "member": member.tolist(),
        "site": site,
    }  # fmt: skip
    evidence = {"name": "loss", "channel": "output", "seat": None, "level": None, "endpoints": [endpoint], "shuffled": None}
    found = merge([{"evidence": [evidence]}], "endpoints", 1)["loss"]
    assert found.raw["auc"].value > 0.65
    assert found.raw["sites_compared"].value == 2
    assert abs(found.raw["auc_within_sites"].value - 0.5) < 0.1
    interval = found.interval()
    assert interval is not None
    assert interval.low < 0 < interval.high
    assert found.n == 100


def test_membership_without_a_shared_site_says_that_it_is_pooled() -> None:
    endpoint = {
        "name": "membership", "patients": ["a", "b", "c", "d"], "score": [3.0, 2.0, 1.0, 0.0],
        "member": [True, True, False, False], "site": ["x", "x", "y", "y"],
    }  # fmt: skip
    evidence = {"name": "loss", "channel": "output", "seat": None, "level": None, "endpoints": [endpoint], "shuffled": None}
    found = merge([{"evidence": [evidence]}], "endpoints", 1)["loss"]
    assert found.raw["sites_compared"].value == 0
    assert found.value == pytest.approx(1.0)


def test_cohort_without_a_second_visit_is_its_own_gallery(ground: Ground) -> None:
    found, _ = score_images(images(ground, truth(ground)), range(10), replace(ground, gallery=None))
    identity = next(e for e in found if e.name == "identity")
    assert identity.raw["gallery_of_other_visit"].value == 0.0
    assert isinstance(ground.members, Cohort)
    np.testing.assert_allclose(identity.score, 1.0)


# What is shown beside leakage ------------------------------------------------------------------------------------------


def test_scores_in_their_own_units_with_their_patients(ground: Ground) -> None:
    half = truth(ground) * 0.5
    found, _ = score_images(images(ground, half), range(10), ground)
    raw = {name: r for e in found for name, r in e.raw.items()}
    members = ground.members.channels(["t2"])
    error = masked_mse(half[:, 0], members.images[:, 0], members.brain)
    assert raw["mse"].value == pytest.approx(error.mean())
    assert raw["mse_of_chance"].value is not None
    assert raw["mse_leakage"].value == pytest.approx(1 - error.mean() / raw["mse_of_chance"].value)
    assert raw["ssim"].value == pytest.approx(found[0].score.mean())
    assert raw["ssim_of_chance"].value == pytest.approx(found[0].chance.mean())
    assert (raw["psnr"].unit, raw["psnr"].n) == ("dB", 10)
    assert raw["nmi"].value == pytest.approx(masked_nmi(half[:, 0], members.images[:, 0], members.brain).mean())
    assert (raw["ms_ssim"].unit, raw["ms_ssim"].reason) == ("3 of 5 scales", None)
    assert (raw["rank_1"].value, raw["mean_rank"].value, raw["gallery_size"].value) == (1.0, 1.0, 40.0)
    assert raw["bit_accuracy"].value == pytest.approx(found[2].score.mean())
    assert "32 bits" in raw["bit_accuracy"].unit


def test_several_samples_of_a_patient_count_once(ground: Ground) -> None:
    """Patients are averaged, not images: the first has three rows, and the others one each."""
    rows = [0, 0, 0, 1, 2]
    stack = truth(ground)[rows]
    stack[:3] *= 0.2
    found, _ = score_images(images(ground, stack), rows, ground)
    single, _ = score_images(images(ground, stack[2:]), rows[2:], ground)
    assert found[0].raw["mse"].value == pytest.approx(single[0].raw["mse"].value)
    assert found[0].raw["mse"].n == 3


def test_ms_ssim_says_why_it_is_missing() -> None:
    phantom = Phantom(PhantomParams(patients=14, size=24, dims=3, depth=8), 0)
    names = [e.patient for e in phantom.inventory().patients]
    cohort = phantom.load(names)
    small = Ground(
        members=cohort.of_patients(names[:6]), auxiliary=cohort.of_patients(names[6:]), validation=cohort.take([]), gallery=None,
        owned="same",
    )  # fmt: skip
    found, _ = score_images(images(small, truth(small)), range(6), small)
    missing = found[0].raw["ms_ssim"]
    assert missing.value is None
    assert missing.reason == "its window of 11 voxels does not fit samples of 8 x 24 x 24"
    assert found[0].exchange is not None, "of volumes the middle slice of the brain is exchanged"
    pairs = found[0].exchange.matrix
    assert pairs.shape == (6, 6)
    assert (np.diagonal(pairs) > pairs[~np.eye(6, dtype=bool)].max()).all()


def test_shuffled_evidence_is_scored_and_nothing_of_it_is_shown(ground: Ground) -> None:
    shown, pictures = score_images(images(ground, truth(ground)), range(10), ground)
    bare, none = score_images(images(ground, truth(ground)), range(10), ground, shown=False)
    assert pictures
    assert not none
    for one, other in zip(shown, bare, strict=True):
        np.testing.assert_array_equal(one.score, other.score)
        assert one.exchange is not None
        assert one.raw
        assert (other.exchange, other.raw) == (None, {})
    about = tuple(f"t{i}" for i in range(10))
    stolen = Masks(name="m", channel="cut-gradient", about=about, masks=regions(ground.members.labels))
    assert all(e.exchange is None and not e.raw for e in score_masks(stolen, range(10), ground, shown=False))


# Exchanged evidence ----------------------------------------------------------------------------------------------------


def test_own_gains_stand_on_the_diagonal(ground: Ground) -> None:
    found, _ = score_images(images(ground, truth(ground) * 0.5), range(10), ground)
    fidelity, _, canary = found
    for endpoint in (fidelity, canary):
        assert endpoint.exchange is not None
        order = [endpoint.patients.index(p) for p in endpoint.exchange.patients]
        np.testing.assert_allclose(np.diagonal(endpoint.exchange.matrix), (endpoint.score - endpoint.chance)[order], atol=1e-9)
    assert fidelity.exchange is not None
    assert set(fidelity.exchange.sites) == {s.site for s in ground.members.samples}


def test_bits_of_one_patient_are_held_against_those_of_another(ground: Ground) -> None:
    found, _ = score_images(images(ground, truth(ground)), range(10), ground)
    exchange = found[2].exchange
    assert exchange is not None
    bits = [ground.members.canaries[p] for p in exchange.patients]
    assert exchange.matrix[1, 4] + 0.5 == pytest.approx((bits[1] == bits[4]).mean(), abs=0.04)


def test_masks_and_volumes_are_exchanged(ground: Ground) -> None:
    about = tuple(f"t{i}" for i in range(10))
    stolen = Masks(name="m", channel="cut-gradient", about=about, masks=regions(ground.members.labels))
    whole = score_masks(stolen, range(10), ground)[0]
    assert whole.exchange is not None
    order = [whole.patients.index(p) for p in whole.exchange.patients]
    np.testing.assert_allclose(np.diagonal(whole.exchange.matrix), (1 - whole.chance)[order])
    assert shuffle_test(whole.exchange.matrix, seed=0).p == 0.001
    assert whole.raw["dice"].value == 1.0
    brain = ground.members.brain.sum(axis=(1, 2))
    volumes = ((ground.members.labels > 0).sum(axis=(1, 2)) / brain).astype(np.float32)
    (endpoint,) = score_values(Values(name="v", channel="update", about=about, values=volumes), range(10), ground)
    assert endpoint.exchange is not None
    np.testing.assert_allclose(np.diagonal(endpoint.exchange.matrix), endpoint.score - endpoint.chance, atol=1e-5)
    assert endpoint.raw["error_factor"].value == pytest.approx(1.0)


def test_volumes_without_auxiliary_patients_have_no_chance(ground: Ground) -> None:
    nobody = replace(ground, auxiliary=ground.auxiliary.take([]), validation=ground.validation.take([]), owned="none")
    values = Values(name="v", channel="update", about=("t0",), values=np.ones(1, dtype=np.float32))
    with pytest.raises(EvidenceError, match="needs auxiliary patients"):
        score_values(values, [0], nobody)
    found, _ = score_images(images(ground, truth(ground)), range(10), nobody)
    assert found[0].chance_name == "flat"
    masks = Masks(name="m", channel="cut-gradient", about=("t0",), masks=regions(ground.members.labels[:1]))
    assert {e.chance_name for e in score_masks(masks, [0], nobody)} == {"empty"}


def test_the_middle_slice_of_each_patient_is_exchanged() -> None:
    samples = [("b", 3), ("b", 9), ("b", 5), ("a", 4), ("a", 5), ("c", 7)]
    n = len(samples)
    cohort = Cohort(
        images=np.zeros((n, 1, 4, 4), np.float32), labels=np.zeros((n, 4, 4), np.uint8), brain=np.ones((n, 4, 4), bool),
        samples=tuple(Sample(patient=p, position=z) for p, z in samples), modalities=("t1",), origin=Origin(dataset="x"),
    )  # fmt: skip
    assert middle_rows(cohort) == [3, 2, 5], "in the order of the keys; of two equally near the lower"


def test_at_most_a_hundred_patients_are_exchanged() -> None:
    names = [f"p-{i:03d}" for i in range(250)]
    chosen = chosen_patients(names[::-1])
    assert len(chosen) == len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (names[0], names[-1])
    assert chosen_patients(["b", "a", "b"]) == ["a", "b"]


def test_one_patient_alone_has_nobody_to_exchange_with(ground: Ground) -> None:
    found, _ = score_images(images(ground, truth(ground)[:1]), [0], ground)
    assert [e.exchange for e in found] == [None] * len(found)


def test_whom_a_colluder_s_own_images_identify_is_not_identified_by_messages(ground: Ground) -> None:
    """A hospital that holds the patient's T1 finds the patient by it: rank-1 of another sequence is no leak then."""
    alone = {e.name: e for e in score_images(images(ground, truth(ground)), range(10), ground)[0]}
    assert alone["identity"].chance_name == "1 of 40"
    held = [e.name for e in score_images(images(ground, truth(ground)), range(10), replace(ground, held=("t1", "flair")))[0]]
    assert held == ["fidelity", "canary"], "its own images find the patients as often as the true ones do"
    noise = replace(ground, members=replace(ground.members, images=_without(ground.members, "t1")), held=("t1",))
    blind = {e.name: e for e in score_images(images(noise, truth(ground)), range(10), noise)[0]}["identity"]
    assert blind.chance_name == "own images"
    assert blind.chance.mean() < 0.3, "images of noise find nobody"
    assert (blind.chance >= 1 / 40).all()


def _without(cohort: Cohort, modality: str) -> np.ndarray:
    """Return images in which a modality is noise."""
    found = np.array(cohort.images)
    found[:, cohort.modalities.index(modality)] = np.random.default_rng(0).standard_normal(found[:, 0].shape)
    return found
