"""Evidence about whole updates: order does not matter, matching gains nothing over chance, and nobody is dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leakaudit.attacks import EvidenceError, Images, Masks, Values
from leakaudit.cohorts import Cohort, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.engine.endpoints import Endpoint, Ground
from leakaudit.engine.update_endpoints import score_updates

UPDATES = {"u0": (0, 1, 2, 3), "u1": (4, 5, 6), "u2": (7, 8, 9)}
ABOUT = tuple(token for token, rows in UPDATES.items() for _ in rows)
ROWS = [row for rows in UPDATES.values() for row in rows]


@pytest.fixture(scope="module")
def ground() -> Ground:
    phantom = Phantom(PhantomParams(patients=40, size=64, visits=2, canary=True), 3)
    names = [e.patient for e in phantom.inventory().patients]
    cohort = phantom.load(names)
    return Ground(
        members=cohort.of_patients(names[:10]), auxiliary=cohort.of_patients(names[10:30]),
        validation=cohort.of_patients(names[30:]), gallery=phantom.load(names, visits=(1,)), owned="same",
        attacked=tuple(names[:9]),
    )  # fmt: skip


def evidence(array: np.ndarray, about: tuple[str, ...] = ABOUT) -> Images:
    return Images(name="e", channel="update", about=about, images=array.astype(np.float32), modalities=("t2",), ordered=False)


def truth(ground: Ground) -> np.ndarray:
    return np.array(ground.members.channels(["t2"]).images)


def by_name(found: list[Endpoint]) -> dict[str, Endpoint]:
    return {e.name: e for e in found}


def test_the_order_of_an_update_s_images_does_not_matter(ground: Ground) -> None:
    mixed = [3, 1, 0, 2, 6, 4, 5, 9, 8, 7]
    for order in (ROWS, mixed):
        found = by_name(score_updates(evidence(truth(ground)[order]), UPDATES, ground)[0])
        assert set(found) == {"fidelity", "identity", "canary"}
        assert found["fidelity"].score == pytest.approx(np.ones(9))
        assert found["fidelity"].patients == ground.attacked, "of the member who is not attacked nothing is said"
        np.testing.assert_allclose(found["canary"].score, found["canary"].anchor)
        np.testing.assert_allclose(found["identity"].score, found["identity"].anchor)
        assert found["fidelity"].exchange is None


def test_images_of_another_update_are_worth_no_more_than_chance(ground: Ground) -> None:
    other = [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]
    found = by_name(score_updates(evidence(truth(ground)[other]), UPDATES, ground)[0])
    assert (found["fidelity"].score - found["fidelity"].chance).mean() < 0.02
    assert found["identity"].score.mean() < 0.3


def test_chance_is_matched_as_evidence_is(ground: Ground) -> None:
    """Evidence that is the blind guess itself, in any order, leaks exactly nothing."""
    blind = by_name(score_updates(evidence(truth(ground)), UPDATES, ground)[0])["fidelity"]
    noise = np.random.default_rng(0).standard_normal(truth(ground).shape)
    scored = by_name(score_updates(evidence(noise), UPDATES, ground)[0])["fidelity"]
    assert blind.chance == pytest.approx(scored.chance), "chance does not depend on the evidence"
    whole = {"all": tuple(range(10))}
    together = by_name(score_updates(evidence(truth(ground), ("all",) * 10), whole, ground)[0])["fidelity"]
    assert together.chance.mean() >= blind.chance.mean() - 1e-9, "more images in one update can only make the guess fit better"


def test_ranks_take_no_part_in_the_matching(ground: Ground) -> None:
    """Noise in large updates: the nearest of many images is no better than a coin among the rest of the gallery."""
    rng, hits, chance = np.random.default_rng(1), [], []
    whole = {"all": tuple(range(10))}
    for _ in range(12):
        noise = rng.standard_normal(truth(ground).shape)
        found = by_name(score_updates(evidence(noise, ("all",) * 10), whole, ground)[0])["identity"]
        hits.append(found.score.mean())
        chance.append(found.chance.mean())
    assert chance[0] == pytest.approx(1 / 31), "forty in the gallery, and nine others behind the update"
    assert np.mean(hits) < 0.1


def test_who_knows_the_masks_behind_an_update_identifies_by_them(ground: Ground) -> None:
    plain, told = (
        by_name(score_updates(evidence(truth(ground)), UPDATES, g)[0])["identity"] for g in (ground, replace(ground, masks=True))
    )
    assert (plain.chance_name, told.chance_name) == ("1 of 38", "known masks")
    assert set(np.unique(np.round(told.chance, 6))) <= {*np.unique(np.round(plain.chance, 6)), 1.0}
    assert told.chance.mean() > plain.chance.mean() + 0.1
    np.testing.assert_allclose(told.score, plain.score)


def test_where_the_masks_identify_as_often_as_the_truth_nothing_is_left_to_tell(ground: Ground) -> None:
    # Images that are nothing but their masks, in both visits: whoever knows the masks knows them.
    def painted(cohort: Cohort) -> Cohort:
        return replace(cohort, images=np.repeat(regions(cohort.labels)[:, :1], cohort.images.shape[1], axis=1))

    assert ground.gallery is not None
    members, gallery = painted(ground.members), painted(ground.members)
    bare = replace(
        ground, members=members, gallery=gallery, auxiliary=painted(ground.auxiliary), validation=painted(ground.validation)
    )
    assert "identity" in by_name(score_updates(evidence(truth(bare)), UPDATES, bare)[0])
    assert "identity" not in by_name(score_updates(evidence(truth(bare)), UPDATES, replace(bare, masks=True))[0])


def test_masks_and_volumes_of_updates(ground: Ground) -> None:
    masks = (regions(ground.members.labels) > 0).astype(np.float32)
    shown = Masks(name="m", channel="update", about=ABOUT, masks=masks[[3, 2, 1, 0, 5, 4, 6, 9, 8, 7]], ordered=False)
    found = by_name(score_updates(shown, UPDATES, ground)[0])
    assert found["mask-WT"].score == pytest.approx(np.ones(len(found["mask-WT"].score)))
    labels = ground.members.labels > 0
    share = labels.sum(axis=(1, 2)) / ground.members.brain.sum(axis=(1, 2))
    means = np.array([share[list(rows)].mean() for rows in UPDATES.values()], dtype=np.float32)
    values = Values(name="v", channel="update", about=tuple(UPDATES), values=means)
    (volume,) = score_updates(values, UPDATES, ground)[0]
    assert volume.score == pytest.approx(np.zeros(9), abs=1e-6)
    assert volume.chance_name == "mean"


def test_a_single_sample_behind_each_update_is_scored_as_ordered_evidence_is(ground: Ground) -> None:
    alone = {f"u{i}": (i,) for i in range(10)}
    found = by_name(score_updates(evidence(truth(ground), tuple(alone)), alone, ground)[0])
    assert found["fidelity"].exchange is not None
    assert found["identity"].chance_name == "1 of 40"


def test_of_several_images_about_one_sample_the_best_is_held_against_it(ground: Ground) -> None:
    alone = {f"u{i}": (i,) for i in range(10)}
    about = tuple(token for token in alone for _ in range(2))
    shown = np.stack([image for one in truth(ground) for image in (np.zeros_like(one), one)])
    found = by_name(score_updates(evidence(shown, about), alone, ground)[0])
    assert found["fidelity"].score == pytest.approx(np.ones(9))
    np.testing.assert_allclose(found["identity"].score, found["identity"].anchor)


def test_what_cannot_be_scored_is_said(ground: Ground) -> None:
    with pytest.raises(EvidenceError, match="3 rows about an update with 4 samples"):
        score_updates(evidence(truth(ground)[1:], ABOUT[1:]), UPDATES, ground)
    with pytest.raises(EvidenceError, match="never in the view"):
        score_updates(evidence(truth(ground), ("x",) * 10), UPDATES, ground)
    with pytest.raises(EvidenceError, match="2 of 9 attacked patients are behind none"):
        score_updates(evidence(truth(ground)[:7], ABOUT[:7]), {k: UPDATES[k] for k in ("u0", "u1")}, ground)
    with pytest.raises(EvidenceError, match="the cohort has samples of"):
        score_updates(replace(evidence(truth(ground)), images=np.zeros((10, 1, 8, 8), dtype=np.float32)), UPDATES, ground)
