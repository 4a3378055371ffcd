"""`gradient-matching` on a recorded federation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_gradients.attack import GradientMatching
from leakaudit_gradients.params import GradientMatchingParams
from leakaudit_gradients.updates import by_round, updates_of

from leakaudit.attacks import Images, Masks, Values
from leakaudit.errors import UserError
from leakaudit.facts import SeatFacts
from leakaudit.wire import Seat, Secret


def run(made: Any, messages: str = "messages", **params: Any) -> tuple[Images, Masks]:
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    images, masks = GradientMatching(GradientMatchingParams(**params), seat).run(made.view(messages))
    assert isinstance(images, Images)
    assert isinstance(masks, Masks)
    return images, masks


def scores(tools: Any, made: Any, images: Images) -> list[float]:
    """PSNR of each image against the sample of its site (sites hold one each)."""
    rows = [made.sites[made.tokens[token]][0] for token in images.about]
    return [
        tools.psnr(torch.from_numpy(i), torch.from_numpy(made.victims.images[r])) for i, r in zip(images.images, rows, strict=True)
    ]


def test_every_update_gets_as_many_images_and_masks_as_its_site_has_samples(world: Any) -> None:
    made = world(counts=(1, 3, 1))
    images, masks = run(made, iterations=3)
    expected = sorted(t for t, site in made.tokens.items() for _ in made.sites[site])
    assert sorted(images.about) == sorted(masks.about) == expected
    assert images.images.shape == (5, 2, 16, 16)
    assert masks.masks.shape == (5, 3, 16, 16)
    assert not images.ordered
    assert not masks.ordered
    assert images.modalities == ("t1", "t2")
    assert {images.channel, masks.channel} == {"update"}
    assert (images.name, masks.name) == ("update/images", "update/masks")
    assert (images.round, masks.round) == (0, 0)


def test_each_round_has_evidence_of_its_own(world: Any) -> None:
    made = world(counts=(1, 3, 1), rounds=2)
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    found = GradientMatching(GradientMatchingParams(iterations=3), seat).run(made.view())
    assert [(e.name, e.round) for e in found] == [
        ("update/images@0", 0), ("update/masks@0", 0), ("update/images@1", 1), ("update/masks@1", 1),
    ]  # fmt: skip
    assert [len(e.about) for e in found] == [5] * 4
    assert sorted({t for e in found for t in e.about}) == sorted(made.tokens)
    for e in found:
        assert {token.rpartition("-")[2] for token in e.about} == {str(e.round)}, "an update is evidence of its own round only"


def test_cutting_by_round_keeps_every_row_with_its_token(world: Any) -> None:
    sent = updates_of(world(counts=(1, 2), rounds=3).view())
    about = tuple(s.target.token for s in sent[::-1] for _ in range(s.target.size))
    rows = np.arange(len(about), dtype=np.float32)
    cut = by_round([Values(name="v", channel="update", about=about, values=rows)], sent)
    assert [e.round for e in cut] == [0, 1, 2]
    assert {(token, float(v)) for e in cut for token, v in zip(e.about, e.array, strict=True)} == set(
        zip(about, rows.tolist(), strict=True)
    )


@pytest.mark.parametrize("training", [{}, {"optimizer": "adam", "learning_rate": 2e-3}], ids=["sgd", "adam"])
def test_the_update_of_a_site_with_one_sample_gives_its_image_away(world: Any, tools: Any, training: dict[str, Any]) -> None:
    made = world(training=training, network={"channels": [16, 32, 32]})
    own = torch.from_numpy(made.view().auxiliary.images.mean(axis=0))
    real, _ = run(made, iterations=110)
    chance = [tools.psnr(own, torch.from_numpy(image)) for image in made.victims.images]
    assert max(scores(tools, made, real)) > max(chance) + 5
    exchanged, _ = run(made, "messages-shuffled", iterations=40)
    assert max(scores(tools, made, exchanged)) < max(chance) + 1


def test_known_masks_are_used_and_not_returned(world: Any, tools: Any) -> None:
    made = world(told=True, network={"channels": [16, 32, 32]})
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    (known,) = GradientMatching(GradientMatchingParams(iterations=60, masks="known"), seat).run(made.view())
    assert isinstance(known, Images)
    searched, _ = run(made, iterations=60)
    assert (known.name, known.about) == (searched.name, searched.about)
    gained = np.subtract(scores(tools, made, known), scores(tools, made, searched))
    assert gained.min() > 1, "the search that need not look for masks ends nearer"


def test_known_masks_help_nothing_where_the_batches_are_not_known(world: Any) -> None:
    made = world(told=True, counts=(2, 2), training={"batch_size": 1})
    with pytest.raises(UserError, match=r"is 2 batches, and which sample is in which is not known\. Take masks: unknown"):
        run(made, iterations=2, masks="known")


@pytest.mark.parametrize("told", [False, True])
def test_masks_are_asked_for_only_where_they_are_said_to_be_known(world: Any, told: bool) -> None:
    params = GradientMatchingParams(masks="known" if told else "unknown")
    requires = params.requires(world().view().facts)
    assert ("labels" in requires.threat.knows) == told
    if told:
        with pytest.raises(PermissionError, match="labels"):
            run(world(), iterations=1, masks="known")


def test_the_same_seat_finds_the_same_images(world: Any) -> None:
    made = world(counts=(2, 2))
    first, second = run(made, iterations=4), run(made, iterations=4)
    assert np.array_equal(first[0].images, second[0].images)
    assert np.array_equal(first[1].masks, second[1].masks)


@pytest.mark.parametrize("preset", ["dlg", "inverting-gradients", "modern", "smooth-unet", "kinked-unet"])
def test_every_preset_runs(world: Any, preset: Any) -> None:
    images, _ = run(world(), preset=preset, iterations=3, restarts=2, pca=0.1, l2=0.1)
    assert np.isfinite(images.images).all()


def test_a_defense_is_attacked_through_the_replica(world: Any) -> None:
    made = world(defended=True)
    view = made.view()
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    GradientMatching(GradientMatchingParams(iterations=4), seat).run(view)
    assert {(name, replica.calls) for name, replica in view.replicas_given} == {("site-0", 4), ("site-1", 4)}


def test_no_line_search_is_made_through_a_randomized_defense(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    images, _ = run(world(defended=True, stochastic=True), iterations=2)
    assert "draws at random" in caplog.text
    assert np.isfinite(images.images).all()


def test_auto_says_where_little_is_to_be_expected(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(world(network={"activation": "leaky-relu", "normalization": "instance"}), iterations=2)
    assert [(record.levelname, "LeakyReLU activations and InstanceNorm2d" in record.getMessage()) for record in caplog.records] == [
        ("WARNING", True)
    ]
    for activation in ("leaky-relu", "gelu"):  # a search that suits the network is named, and no reason for a warning
        caplog.clear()
        run(world(network={"activation": activation}), iterations=2)
        assert [record.levelname for record in caplog.records] == ["INFO"]


def test_only_the_tensors_asked_for_are_matched(world: Any) -> None:
    made = world()
    assert not np.array_equal(run(made, iterations=4)[0].images, run(made, iterations=4, tensors=("encoders",))[0].images)
    with pytest.raises(UserError, match="no parameter begins with nothing"):
        run(made, iterations=1, tensors=("nothing",))


def test_an_adversary_without_patients_starts_from_gray(world: Any) -> None:
    images, masks = run(world(owns="noise"), iterations=1)
    assert np.array_equal(images.images, np.zeros_like(images.images))
    assert np.allclose(masks.masks[:, 0], 0.1, atol=0.02)


def test_an_update_without_a_token_is_refused(world: Any, tmp_path: Any) -> None:
    made = world()
    (made.folder / "messages").rename(made.folder / "tokens")
    (made.folder / "whole").rename(made.folder / "messages")
    with pytest.raises(UserError, match="carry no token"):
        run(made, iterations=1)
