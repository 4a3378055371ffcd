"""`gradient-inverter` on recorded federations whose network keeps gradient matching away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from leakaudit_gradients.inverter import GradientInverter
from leakaudit_gradients.inverter_params import GradientInverterParams
from numpy.typing import NDArray
from scipy import ndimage

from leakaudit.attacks import Images
from leakaudit.cohorts import Cohort, Origin, Sample, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import FederatedParams, SplitParams
from leakaudit.scoring.holdings import fit_masks
from leakaudit.scoring.identity import identify, masked_ncc
from leakaudit.threats import NotApplicable, Requires
from leakaudit.wire import Seat, Secret

Array = NDArray[np.float32]

ROUGH = {"normalization": "instance", "activation": "leaky-relu"}
ADAM = {"optimizer": "adam", "learning_rate": 1e-3}
FACTS = CohortFacts(modalities=("t1", "t2"), shape=(16, 16), members=4, auxiliary=4, sites=("a", "b"), records=4)


def faces(count: int, seed: int, side: int = 32) -> Cohort:
    """Images that differ in six numbers and in a tumor, so that a hundred patients suffice to learn from."""
    fields = ndimage.gaussian_filter(np.random.default_rng(99).standard_normal((6, 2, side, side)), (0, 0, side / 12, side / 12))
    fields /= fields.std(axis=(2, 3), keepdims=True)
    rng = np.random.default_rng(seed)
    a, b = np.meshgrid(*(np.linspace(-1, 1, side),) * 2, indexing="ij")
    brain = np.broadcast_to(a**2 + b**2 < 0.9, (count, side, side)).copy()
    places, sizes = rng.uniform(-0.35, 0.35, (count, 2, 1, 1)), rng.uniform(0.05, 0.3, (count, 1, 1))
    tumor = brain & ((a - places[:, 0]) ** 2 + (b - places[:, 1]) ** 2 < sizes)
    images = np.einsum("nk,kcij->ncij", rng.standard_normal((count, 6)) / 6**0.5, fields) + tumor[:, None]
    return Cohort(
        images=(images * brain[:, None]).astype(np.float32), labels=(tumor * 3).astype(np.uint8), brain=brain,
        samples=tuple(Sample(patient=f"f{seed}-{i}") for i in range(count)), modalities=("t1", "t2"),
        origin=Origin(dataset="toy", synthetic=True),
    )  # fmt: skip


def run(made: Any, messages: str = "messages", **params: Any) -> Images:
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    (images,) = GradientInverter(GradientInverterParams(**params), seat).run(made.view(messages))
    assert isinstance(images, Images)
    return images


def in_order(made: Any, images: Images) -> Array:
    """The guesses in the order of the victims, of sites with one sample each."""
    return np.asarray(images.images[np.argsort([made.sites[made.tokens[token]][0] for token in images.about])])


def error(guess: Array, truth: Cohort) -> float:
    """Mean square inside the brain."""
    inside = np.broadcast_to(truth.brain[:, None], truth.images.shape)
    return float(np.square(guess - truth.images)[inside].mean())


def ranks(guess: Array, truth: Cohort) -> float:
    """Mean re-identification score among the victims by the first modality; 0 is chance, 1 always the first place."""
    similarity = masked_ncc(guess[:, 0], truth.images[:, 0], truth.brain)
    return float(identify(similarity, np.arange(len(truth))).score.mean())


def figures(made: Any, own: Cohort) -> dict[str, tuple[float, float]]:
    """Error and re-identification of the attack and of what it is to be held against."""
    victims = made.victims
    guesses = {
        "mean": np.broadcast_to(own.images.mean(axis=0), victims.images.shape),
        "masks": fit_masks(own.images, regions(own.labels), [0] * len(own)).apply(regions(victims.labels), [0] * len(victims)),
        "real": in_order(made, run(made)),
        "exchanged": in_order(made, run(made, "messages-shuffled")),
    }
    found = {name: (error(guess, victims), ranks(guess, victims)) for name, guess in guesses.items()}
    print({name: tuple(round(v, 2) for v in pair) for name, pair in found.items()})
    return found


@pytest.mark.parametrize("training", [{}, ADAM], ids=["sgd", "adam"])
def test_images_come_back_through_instance_normalization(world: Any, training: dict[str, Any]) -> None:
    own = faces(100, 2)
    made = world(counts=(1,) * 8, victims=faces(8, 1), auxiliary=own, side=32, network=ROUGH, training=training)
    found = figures(made, own)
    # Some of it would follow from the mask alone, which finds most of eight patients; most of the picture does not.
    assert found["real"][0] < 0.8 * min(found["masks"][0], found["mean"][0])
    assert found["real"][1] > 0.6
    assert found["exchanged"][0] > found["mean"][0]
    assert found["exchanged"][1] < 0.3


@pytest.mark.slow
def test_phantoms_are_recognized_better_than_from_their_masks(world: Any) -> None:
    dataset = Phantom(PhantomParams(patients=324, size=32, visits=1, modalities=("t1", "t2")), 0)
    names = [entry.patient for entry in dataset.inventory().patients]
    victims, own = dataset.load(names[:24]), dataset.load(names[24:])
    network = ROUGH | {"channels": [32, 64]}
    found = figures(world(counts=(1,) * 24, victims=victims, auxiliary=own, side=32, network=network), own)
    assert found["real"][0] < 0.95 * found["mean"][0]
    assert found["real"][1] > found["masks"][1] + 0.15
    assert found["exchanged"][0] > found["mean"][0]
    assert found["exchanged"][1] < 0.3


def test_of_several_samples_the_mean_image_is_given_as_often_as_there_are_samples(world: Any) -> None:
    own, victims = faces(60, 2, 16), faces(9, 1, 16)
    made = world(counts=(2, 1, 2, 2, 2), victims=victims, auxiliary=own, network=ROUGH)
    images = run(made, repeats=3)
    expected = sorted(t for t, site in made.tokens.items() for _ in made.sites[site])
    assert sorted(images.about) == expected
    assert (images.name, images.channel, images.ordered) == ("update/images", "update", False)
    assert images.modalities == ("t1", "t2")
    errors, blind = [], []
    for token in set(expected):
        mine = [image for image, about in zip(images.images, images.about, strict=True) if about == token]
        assert all(np.array_equal(image, mine[0]) for image in mine)
        truth = victims.images[made.sites[made.tokens[token]]].mean(axis=0)
        errors.append(np.square(mine[0] - truth).mean())
        blind.append(np.square(own.images.mean(axis=0) - truth).mean())
    print(np.mean(errors), np.mean(blind))
    assert np.mean(errors) < 0.9 * np.mean(blind)


def test_a_defended_site_is_learned_through_its_replica(world: Any) -> None:
    options = {"counts": (1,) * 4, "victims": faces(4, 1, 16), "auxiliary": faces(60, 2, 16), "network": ROUGH}
    plain = world(**options)
    without = in_order(plain, run(plain))
    made = world(**options, defended=True)
    view, seat = made.view(), Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    (images,) = GradientInverter(GradientInverterParams(), seat).run(view)
    assert isinstance(images, Images)
    assert {(name, replica.calls) for name, replica in view.replicas_given} == {(f"site-{i}", 60) for i in range(4)}
    # Half an update tells all that a whole one does to whoever knows that it is half of one.
    assert error(in_order(made, images), made.victims) == pytest.approx(error(without, made.victims), rel=0.15)


def test_no_voxel_is_beyond_what_auxiliary_patients_show(world: Any) -> None:
    own, bright = faces(12, 2, 16), faces(2, 1, 16)
    made = world(victims=replace(bright, images=30 * bright.images), auxiliary=own, network=ROUGH | {"normalization": "none"})
    images = run(made).images
    for guess, seen in zip(images.transpose(1, 0, 2, 3), own.images.transpose(1, 0, 2, 3), strict=True):
        assert seen.min() <= guess.min() <= guess.max() <= seen.max()
        assert guess.min() == seen.min() or guess.max() == seen.max()


def test_the_same_seat_finds_the_same_images_and_the_width_matters(world: Any) -> None:
    made = world(network=ROUGH)
    first, second, narrow = run(made), run(made), run(made, width=8)
    assert np.array_equal(first.images, second.images)
    assert not np.array_equal(first.images, narrow.images)


def test_what_the_map_explains_is_logged(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(world(network=ROUGH))
    assert "% of the variance of auxiliary patients" in caplog.text


@pytest.mark.parametrize("options", [{"owns": "noise"}, {"auxiliary": faces(2, 2, 16)}], ids=["noise", "two"])
def test_too_little_to_learn_from_is_refused(world: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"at least 3 auxiliary patients.*raise data\.auxiliary"):
        run(world(**options))


def test_the_aggregator_of_a_federation_is_asked_for_and_nothing_else() -> None:
    params = GradientInverterParams(auxiliary="shifted")
    asked = params.requires(FederatedParams(rounds=2).facts(FACTS))
    assert isinstance(asked, Requires)
    assert (asked.threat.plays, asked.threat.alters, asked.threat.auxiliary) == (("aggregator",), (), "shifted")
    assert {tap.channel for tap in asked.taps} == {"update", "model"}
    reasons = [
        (params, SplitParams(rounds=2), "sends no update"),
        (params, FederatedParams(rounds=2, network={"normalization": "batch"}), "batch normalization"),  # type: ignore[arg-type]
        (GradientInverterParams(rounds=(5,)), FederatedParams(rounds=2), "0 to 1"),
    ]
    for given, protocol, reason in reasons:
        answer = given.requires(protocol.facts(FACTS))  # type: ignore[attr-defined]
        assert isinstance(answer, NotApplicable)
        assert reason in answer.reason
