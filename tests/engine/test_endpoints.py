"""From evidence to numbers: perfect, empty and wrong evidence land where they must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakaudit.attacks import EvidenceError, Images, Masks, Values
from leakaudit.cohorts import Cohort, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.engine.endpoints import Ground, score_masks, score_values
from leakaudit.engine.image_endpoints import score_images
from leakaudit.engine.merge import Merged, merge


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
    assert by_name["fidelity"].raw["mse"] == pytest.approx(0, abs=1e-9)
    assert by_name["identity"].raw["other_visit"] == 1.0
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
    assert held[0].chance_name == "translated-holdings"
    assert held[0].chance.mean() > plain[0].chance.mean() + 0.1


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
    assert found.raw["auc"] > 0.65
    assert found.raw["sites_compared"] == 2
    assert abs(found.raw["auc_within_sites"] - 0.5) < 0.1
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
    assert found.raw["sites_compared"] == 0
    assert found.value == pytest.approx(1.0)


def test_cohort_without_a_second_visit_is_its_own_gallery(ground: Ground) -> None:
    found, _ = score_images(images(ground, truth(ground)), range(10), replace(ground, gallery=None))
    identity = next(e for e in found if e.name == "identity")
    assert identity.raw["other_visit"] == 0.0
    assert isinstance(ground.members, Cohort)
    np.testing.assert_allclose(identity.score, 1.0)
