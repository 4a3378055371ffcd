"""`unsplit`: its two halves work, and without weights little comes of it; what it finds is no more than it can know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_inversion.params import UnsplitParams
from leakaudit_inversion.unsplit import Unsplit, alternate
from torch import nn

from leakaudit.attacks import Images
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires
from leakaudit.wire import Replica, Seat, Secret

COHORT = CohortFacts(modalities=("t1", "t2"), shape=(32, 32), members=8, auxiliary=0, sites=("site-0",), records=8)


def attack(**params: Any) -> Unsplit:
    seat = Seat(SeatFacts(id="server", role="server"), Secret.from_seed(0))
    quick: dict[str, Any] = {"clients": ["client-0"], "outer": 4, "input_steps": 10, "clone_steps": 10}
    return Unsplit(UnsplitParams.model_validate({**quick, **params}), seat)


@pytest.fixture(scope="module")
def world(build: Any, brains: Any, tmp_path_factory: Any) -> Any:
    knows = ("architecture", "defense", "sample-ids")
    victims = brains([f"v{i}" for i in range(8)], seed=1)
    return build(tmp_path_factory.mktemp("unsplit"), knows=knows, owns="none", victims=victims)


def twin(seed: int) -> Replica:
    torch.manual_seed(seed)
    net = nn.Conv2d(1, 4, 3, padding=1)
    return Replica(lambda x: {"z": net(x)}, module=net)


def test_the_search_for_images_inverts_a_client_whose_weights_it_has() -> None:
    truth = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    params = UnsplitParams(outer=5, input_steps=50, clone_steps=0, tv=0, l2=0, input_rate=0.05)
    goal = {"z": twin(0).send(x=truth)["z"].detach()}
    guess = alternate(twin(0), goal, torch.zeros_like(truth), params, 64)
    assert (guess - truth).abs().max() < 1e-2


def test_the_clone_learns_what_is_sent_for_images_it_has() -> None:
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    goal = {"z": twin(0).send(x=images)["z"].detach()}
    clone = twin(1)
    before = (clone.send(x=images)["z"] - goal["z"]).square().mean().item()
    params = UnsplitParams(outer=10, input_steps=0, clone_steps=40, clone_rate=0.02)
    kept = alternate(clone, goal, images, params, 4)
    assert torch.equal(kept, images)
    assert (clone.send(x=images)["z"] - goal["z"]).square().mean().item() < 0.01 * before


def test_the_size_of_batches_does_not_change_the_search_for_images() -> None:
    truth = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    goal = {"z": 2 * truth}
    params = UnsplitParams(outer=2, input_steps=10)
    same = [alternate(Replica(lambda x: {"z": 2 * x}), goal, torch.zeros_like(truth), params, most) for most in (64, 2)]
    torch.testing.assert_close(same[0], same[1], atol=1e-9, rtol=0)


def test_published_weights_of_the_penalty_shrink_an_image_that_is_seen_directly_by_half() -> None:
    # The minimum of (x - z)^2 + l2 x^2 is z / (1 + l2).
    goal = torch.full((1, 1, 4, 4), 3.0)
    params = UnsplitParams(outer=40, input_steps=50, l2=1.0, tv=0.1, input_rate=0.05)
    guess = alternate(Replica(lambda x: {"z": x}), {"z": goal}, torch.zeros_like(goal), params, 64)
    torch.testing.assert_close(guess, goal / 2, atol=1e-2, rtol=0)


def test_it_returns_an_image_of_the_right_size_for_every_target_and_repeats_itself(world: Any) -> None:
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        runs.append(attack(levels="each-and-joint", outer=1, input_steps=2, clone_steps=2).run(world.view()))
    names = [e.name for e in runs[0]]
    assert names == ["client-0/level0", "client-0/level1", "client-0/level2", "client-0/joint"]
    for first, second in zip(*runs, strict=True):
        assert isinstance(first, Images)
        assert first.images.shape == (8, 1, 32, 32)
        assert first.about == tuple(t.token for t in world.view().targets)
        np.testing.assert_array_equal(first.array, second.array)


def test_it_is_given_neither_weights_nor_patients(world: Any) -> None:
    needs = UnsplitParams().requires(SplitParams().facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.auxiliary == "none"
    assert "weights" not in needs.threat.knows
    assert len(needs.taps) == 1
    assert world.view().auxiliary is None
    same = [world.view().replica("client-0").module for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(same[0].parameters(), same[1].parameters(), strict=True))
    view = world.view()
    first, second = view.replica("client-0").module, view.replica("client-0").module
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_shuffled_messages_give_the_same_images_under_other_names(world: Any, shuffle: Any, tmp_path: Any) -> None:
    broken = shuffle(world, tmp_path / "view")
    real, shuffled = (attack(levels=["level0"], outer=2).run(w.view())[0] for w in (world, broken))

    def score(images: Any) -> float:
        pairs = [(g[0][world.brain[t]], world.truth[t][0][world.brain[t]]) for t, g in zip(images.about, images.array, strict=True)]
        return float(np.mean([abs(np.corrcoef(a, b)[0, 1]) for a, b in pairs]))

    assert score(shuffled) < score(real)


def test_where_nothing_is_cut_it_says_so() -> None:
    answer = UnsplitParams().requires(FederatedParams().facts(COHORT))
    assert isinstance(answer, NotApplicable)
    assert "sends no activations" in answer.reason
