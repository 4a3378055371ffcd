"""Canaries of the epsilon audit: crafted, found again, and scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from leakaudit_membership.epsilon import EpsilonAudit
from leakaudit_membership.epsilon_params import EpsilonAuditParams
from leakaudit_membership.epsilon_patients import craft, origins, score

from leakaudit.attacks import PlantedGradient, Setup
from leakaudit.cohorts import Cohort, regions
from leakaudit.cohorts.cohort import Origin, Sample
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import GradientCanary, TaskSpec, load_task
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import NotApplicable
from leakaudit.wire import Message, Seat, Secret

SIDE, PATIENTS = 16, 6


def cohort(slices: int = 2, dims: int = 2) -> Cohort:
    rng = np.random.default_rng(0)
    n, shape = PATIENTS * slices, (SIDE,) * dims
    labels = np.zeros((n, *shape), dtype=np.uint8)
    for i in range(n):
        at = tuple(slice(2, 5 + i % slices + (axis + i) % 2) for axis in range(dims))
        labels[i][at] = 1 + i % 3
    return Cohort(
        images=rng.standard_normal((n, 2, *shape)).astype(np.float32), labels=labels, brain=np.ones((n, *shape), dtype=bool),
        samples=tuple(Sample(patient=f"p{i // slices}", site=f"site-{i // slices % 2}", position=i % slices) for i in range(n)),
        modalities=("t1", "t2"), origin=Origin(dataset=""),
    )  # fmt: skip


def facts(**more) -> CohortFacts:
    return CohortFacts(
        modalities=("t1", "t2"), shape=(SIDE, SIDE), members=6, auxiliary=6, sites=("site-0", "site-1"), records=6, **more
    )


def attack(**params) -> EpsilonAudit:
    return EpsilonAudit(EpsilonAuditParams(**params), Seat(SeatFacts(id="outsider", role="outsider"), Secret.from_seed(5)))


@pytest.mark.parametrize("dims", [2, 3])
def test_each_canary_is_one_sample_with_a_mask_that_is_not_its_own(dims):
    owned = cohort(dims=dims)
    crafted = craft(owned, PATIENTS * 2**dims)
    assert len(crafted) == len(crafted.patients) == PATIENTS * 2**dims
    assert len({image.tobytes() for image in crafted.images}) == len(crafted), "no image is used twice"
    true = origins(owned, crafted)
    for wrong, right in zip(crafted.labels > 0, true > 0, strict=True):
        assert wrong.any()
        assert 2 * (wrong & right).sum() / (wrong.sum() + right.sum()) < 0.5
    assert set(crafted.sites) == {"site-0", "site-1"}


def test_the_largest_tumor_of_a_patient_is_used():
    owned = cohort(slices=2)
    crafted = craft(owned, PATIENTS)
    assert np.array_equal(crafted.images, owned.images[1::2])


def test_a_patient_without_tumor_is_no_canary():
    owned = cohort()
    labels = owned.labels.copy()
    labels[:2] = 0
    crafted = craft(replace(owned, labels=labels), PATIENTS - 1)
    assert not any(np.array_equal(image, owned.images[1]) for image in crafted.images)


def test_wrong_masks_stay_inside_the_brain():
    owned = cohort()
    brain = np.ones_like(owned.brain)
    brain[:, :, 12:] = False
    crafted = craft(replace(owned, brain=brain), 8)
    assert not (crafted.labels.astype(bool) & ~crafted.brain).any()


def test_too_many_canaries_are_refused_with_the_most_that_there_could_be():
    with pytest.raises(UserError, match="at most 24"):
        craft(cohort(), 25)


def test_true_masks_are_found_in_any_order_and_strangers_refused():
    owned = cohort()
    crafted = craft(owned, 20)
    order = np.random.default_rng(1).permutation(20).tolist()
    assert np.array_equal(origins(owned, crafted.take(order)), origins(owned, crafted)[order])
    with pytest.raises(UserError, match="1 of 20"):
        origins(owned, replace(crafted, images=np.concatenate([crafted.images[:19], crafted.images[19:] + 1])))


def test_the_score_is_the_difference_of_both_cross_entropies():
    rng = np.random.default_rng(2)
    owned = cohort()
    crafted = craft(owned, 10)
    true = origins(owned, crafted)
    logits = rng.standard_normal((10, 3, SIDE, SIDE)).astype(np.float32)
    found = score(logits, crafted.labels, true)
    for i in range(10):
        y, z = (torch.from_numpy(regions(x[i : i + 1]).astype(np.float32)) for x in (crafted.labels, true))
        given = torch.from_numpy(logits[i : i + 1])
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        difference = entropy(given, z, reduction="sum") - entropy(given, y, reduction="sum")
        assert found[i] == pytest.approx(float(difference) / float((y != z).sum()), rel=1e-4)


def setup() -> Setup:
    params = CentralizedParams(network={"channels": [4, 8]})
    spec = TaskSpec(target="leakaudit.models.task:SegmentationTask", params=params.task(facts()))
    return Setup(task=spec, auxiliary=cohort())


def test_gradient_canaries_are_at_weights_of_their_own_all_over_the_network():
    made = attack(canary="gradient", canaries=300, norm=3.0).prepare(setup())
    network = load_task(made.task).build()
    assert made.canaries is None
    assert len({(c.parameter, c.index) for c in made.gradients}) == 300
    for canary in made.gradients:
        canary.check(network)
    assert {abs(c.value) for c in made.gradients} == {3.0}
    assert 100 < sum(c.value > 0 for c in made.gradients) < 200
    assert len({c.parameter for c in made.gradients}) > 5


def test_more_gradient_canaries_than_weights_are_refused():
    with pytest.raises(UserError, match="the network has"):
        attack(canary="gradient", canaries=10_000).prepare(setup())


@pytest.mark.parametrize(
    ("params", "plays", "channels"),
    [
        (CentralizedParams(), ("outsider",), ("model",)),
        (FederatedParams(), ("aggregator",), ("update",)),
    ],
)
def test_gradient_canaries_are_looked_for_where_training_shows(params, plays, channels):
    found = EpsilonAuditParams(canary="gradient").requires(params.facts(facts()))
    assert (found.threat.plays, found.threat.channels) == (plays, channels)
    assert found.canaries.form == "gradients"
    assert not found.threat.passive


def test_where_they_mean_nothing_the_reason_is_given():
    split = EpsilonAuditParams(canary="gradient").requires(SplitParams().facts(facts()))
    assert isinstance(split, NotApplicable)
    assert "trains the whole network by itself" in split.reason
    short = EpsilonAuditParams(canary="gradient").requires(CentralizedParams(rounds=1).facts(facts()))
    assert isinstance(short, NotApplicable)
    assert EpsilonAuditParams().requires(SplitParams().facts(facts())).threat.channels == ("output",)


@dataclass
class Seen:
    """What `EpsilonAudit` looks at of a view."""

    gradients: tuple[PlantedGradient, ...]
    sent: list[Message]

    def messages(self, channel: str) -> Iterator[Message]:
        return (m for m in self.sent if m.channel == channel)


def federation(noise: float, *, common: float, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and coins of canaries at two sites that both learn something `common` at every weight."""
    rng = np.random.default_rng(3)
    coins, drift = rng.uniform(size=count) < 0.5, common * rng.standard_normal(count)
    planted = tuple(
        PlantedGradient(token=f"t{i}", seat=f"site-{i % 2}", canary=GradientCanary(parameter="w", index=i, value=1.0))
        for i in range(count)
    )
    sent = []
    for site in range(2):
        moved = drift + noise * rng.standard_normal(count) - coins * (np.arange(count) % 2 == site)
        tensors = {"w": torch.tensor(moved, dtype=torch.float32)}
        sent.append(Message(channel="update", sender=f"site-{site}", receiver="aggregator", round=0, step=0, tensors=tensors))
    found = EpsilonAudit._updates(Seen(planted, sent))  # type: ignore[arg-type]
    return -np.array([found[p.token] for p in planted]), coins


def separation(scores: np.ndarray, coins: np.ndarray) -> float:
    return float((scores[coins].mean() - scores[~coins].mean()) / scores[~coins].std())


def test_what_all_sites_learn_alike_is_taken_out_of_the_score():
    # Without it, a canary's 1 drowns in a drift of 5: .2.
    assert separation(*federation(0.01, common=5.0)) > 3


def test_noise_of_other_sites_is_not_added_to_the_score():
    # The difference of both sites would reach 1 / .71 only.
    assert separation(*federation(0.5, common=0.0)) > 0.95 * 1 / 0.5
