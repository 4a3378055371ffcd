"""Fidelity does not bound identity: images that are hardly like the truth, and name the patient all the same, must FAIL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Run, images_of, piece
from scipy.ndimage import gaussian_filter

from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.engine.endpoints import Ground, positions
from leakaudit.engine.image_endpoints import score_images
from leakaudit.engine.results import Judged
from leakaudit.scoring.chance import contrast_mean, position_mean
from leakaudit.scoring.policy import Policy

MEMBERS = 24


@pytest.fixture(scope="module")
def ground() -> Ground:
    phantom = Phantom(PhantomParams(patients=64, size=64, visits=2), 11)
    names = [e.patient for e in phantom.inventory().patients]
    cohort = phantom.load(names)
    return Ground(
        members=cohort.of_patients(names[:MEMBERS]), auxiliary=cohort.of_patients(names[MEMBERS:48]),
        validation=cohort.of_patients(names[48:]), gallery=phantom.load(names, visits=(1,)), owned="same",
    )  # fmt: skip


def mean_image(ground: Ground) -> Any:
    aux, members = ground.auxiliary.channels(["t2"]), ground.members.channels(["t2"])
    return position_mean(aux.images, positions(aux), positions(members))


def reconstructions(ground: Ground) -> dict[str, Any]:
    truth, mean = np.array(ground.members.channels(["t2"]).images), mean_image(ground)
    own = truth - mean
    return {
        "blend of 5 %": mean + 0.05 * own, "low-pass": mean + gaussian_filter(own, (0, 0, 6, 6)), "mean": mean,
        "truth": truth, "noise": np.random.default_rng(0).normal(size=truth.shape),
    }  # fmt: skip


def judged(ground: Ground, folder: Path, image: Any) -> tuple[Judged, Any]:
    """Score and judge an image for every member as the evidence from a defended training."""
    run = Run(folder, {"inverter": "reconstruction"}, ("blurred",))
    for defense, stack in (("none", reconstructions(ground)["truth"]), ("blurred", image)):
        found, _ = score_images(images_of(ground, stack), range(MEMBERS), ground)
        shuffled, _ = score_images(images_of(ground, np.roll(stack, 1, axis=0)), range(MEMBERS), ground, shown=False)
        run.add("inverter", defense, [[piece("x", found, shuffled)]])
    results = run.judge()
    return next(j for j in results.judged if j.pairing.defense == "blurred"), results


@pytest.mark.parametrize("name", ["blend of 5 %", "low-pass"])
def test_hardly_any_fidelity_and_still_identified(ground: Ground, tmp_path: Path, name: str) -> None:
    pairing, results = judged(ground, tmp_path, reconstructions(ground)[name])
    endpoints = {e.name: e for e in pairing.result.endpoints}
    fidelity, identity = endpoints["x fidelity"], endpoints["x identity"]
    assert fidelity.value is not None
    assert fidelity.value < Policy().leakage_max.value / 2
    assert identity.value is not None
    assert identity.value > 0.15
    assert pairing.verdict.status == "FAIL"
    assert all(reason.startswith("x identity (activation)") for reason in pairing.verdict.reasons)
    assert results.defenses["split", "blurred"].status == "FAIL"
    assert results.run.status == "FAIL"


@pytest.mark.parametrize("name", ["mean", "noise"])
def test_an_image_of_nobody_identifies_nobody(ground: Ground, tmp_path: Path, name: str) -> None:
    """Neither does the slice position, which everybody knows: the mean image of each position is no better than a guess."""
    pairing, _ = judged(ground, tmp_path, reconstructions(ground)[name])
    identity = next(e for e in pairing.result.endpoints if e.name == "x identity")
    assert identity.value is not None
    assert abs(identity.value) < 0.05
    assert pairing.merged["x identity"].raw["mean_rank"].value == pytest.approx(32.5, abs=9)
    assert pairing.verdict.status == "REVIEW"
    assert identity.exchanged is not None
    assert identity.exchanged.p > 0.05


def test_blind_guesses_of_another_kind_are_no_evidence_either(ground: Ground, tmp_path: Path) -> None:
    """The contrast-stretched mean depends on the position alone, and is not the mean that chance may be."""
    aux, members = ground.auxiliary.channels(["t2"]), ground.members.channels(["t2"])
    guess = contrast_mean(aux.images, aux.brain[:, None], positions(aux), positions(members))
    pairing, _ = judged(ground, tmp_path, guess)
    assert all(e.exchanged is not None and e.exchanged.p > 0.05 for e in pairing.result.endpoints)


def test_the_truth_is_above_what_anybody_s_evidence_reaches(ground: Ground, tmp_path: Path) -> None:
    pairing, _ = judged(ground, tmp_path, reconstructions(ground)["truth"])
    for endpoint in pairing.result.endpoints:
        assert endpoint.above_bar == MEMBERS
        assert endpoint.exchanged is not None
        assert endpoint.exchanged.p <= 0.001
        assert endpoint.shuffled_worst is not None
        assert endpoint.shuffled_worst < 0.2
    fidelity = next(e for e in pairing.result.endpoints if e.name == "x fidelity")
    assert fidelity.patient_bar is not None
    assert -0.3 < fidelity.patient_bar < 0.1
