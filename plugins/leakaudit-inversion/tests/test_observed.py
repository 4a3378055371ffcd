"""From messages to observations: gathering in groups, merging draws, and a client's weights between two snapshots."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from leakaudit_inversion.observed import gathered
from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.setting import image_shape
from leakaudit_inversion.span import Route, Span, Track
from leakaudit_inversion.stance import Stage
from torch import nn

from leakaudit.errors import UserError
from leakaudit.threats import Tap
from leakaudit.wire import Replica

LAST = Stage(suffix="", round=None, rounds=(2,))


@pytest.fixture(scope="module")
def world(build: Any, tmp_path_factory: Any) -> Any:
    every = Tap(channel="activation", rounds=None)
    steep = {"batch_size": 4, "learning_rate": 2e-2}
    return build(tmp_path_factory.mktemp("every"), tapped=every, training=steep)


def test_small_groups_give_what_one_group_gives_in_the_order_of_the_targets(world: Any) -> None:
    view, levels = world.view(), ("level0", "level2")
    stage = Stage(suffix="", round=None, rounds=(2, 1))
    (whole,) = gathered(view, "client-0", levels, stage)
    parts = list(gathered(view, "client-0", levels, stage, group_bytes=200_000))
    assert len(parts) > 2
    assert whole.tokens == tuple(t.token for t in view.targets)
    assert sum((p.tokens for p in parts), ()) == whole.tokens
    for back in range(2):
        for name in levels:
            torch.testing.assert_close(torch.cat([p.draws[back][name] for p in parts]), whole.draws[back][name], rtol=0, atol=0)


def test_observations_are_the_last_ones_first_with_the_place_in_their_round(world: Any) -> None:
    view = world.view()
    (two,) = gathered(view, "client-0", ("level0",), Stage(suffix="", round=None, rounds=(2, 1)))
    for back, round_ in enumerate((2, 1)):
        found = {}
        for message in view.messages(channel="activation", sender="client-0", round=round_):
            found |= {t: (message.tensors["level0"][i], message.step / 4) for i, t in enumerate(message.samples)}
        for i, token in enumerate(two.tokens):
            torch.testing.assert_close(two.draws[back]["level0"][i], found[token][0])
            assert two.place[back, i] == pytest.approx(found[token][1])
    assert two.seen.all()


def test_one_round_is_that_round_and_a_target_seen_less_often_is_marked(world: Any) -> None:
    view = world.view()
    (first,) = gathered(view, "client-0", ("level0",), Stage(suffix="@0", round=0, rounds=(0,)))
    (last,) = gathered(view, "client-0", ("level0",), LAST)
    assert not torch.equal(first.draws[0]["level0"], last.draws[0]["level0"])
    every, rare = view.messages, first.tokens[3]

    def twice_but_one(**where: Any) -> Any:
        for message in every(**where):
            keep = [i for i, t in enumerate(message.samples) if t != rare or message.round == 2]
            tensors = {k: t[keep] for k, t in message.tensors.items()}
            yield SimpleNamespace(tensors=tensors, samples=tuple(message.samples[i] for i in keep), step=message.step)

    view.messages = twice_but_one
    (two,) = gathered(view, "client-0", ("level0",), Stage(suffix="", round=None, rounds=(2, 1)))
    assert two.seen[0].all()
    assert two.seen[1].tolist() == [float(t != rare) for t in two.tokens]
    assert two.draws[1]["level0"][3].abs().max() == 0


def test_a_level_that_does_not_cross_yields_nothing(world: Any) -> None:
    assert list(gathered(world.view(), "client-0", ("level9",), LAST)) == []


def test_draws_are_averaged_and_dropped_entries_left_out_of_the_mean() -> None:
    a, b = torch.tensor([[[2.0, 0.0, 4.0]]]), torch.tensor([[[4.0, 0.0, 0.0]]])
    plain = Pooling().merge([{"z": a}, {"z": b}])["z"]
    torch.testing.assert_close(plain, torch.tensor([[[3.0, 0.0, 2.0]]]))
    masked = Pooling(frozenset({"z"}))
    mean, share = masked.split("z", masked.merge([{"z": a}, {"z": b}])["z"])
    assert share is not None
    torch.testing.assert_close(mean, torch.tensor([[[3.0, 0.0, 4.0]]]))
    torch.testing.assert_close(share, torch.tensor([[[1.0, 0.0, 0.5]]]))


def test_a_missing_observation_does_not_pull_the_mean_to_zero() -> None:
    draws = [{"z": torch.full((2, 1, 2), 6.0)}, {"z": torch.tensor([[[8.0, 8.0]], [[0.0, 0.0]]])}]
    mean = Pooling().merge(draws, torch.tensor([[1.0, 1.0], [1.0, 0.0]]))["z"]
    torch.testing.assert_close(mean[:, 0, 0], torch.tensor([7.0, 6.0]))


def test_zeros_that_stay_are_values_and_zeros_that_move_are_gaps() -> None:
    x = torch.relu(torch.randn(4, 3, 8, 8))
    assert Pooling.of({"z": x}, {"z": x.clone()}) == Pooling()
    assert Pooling.of({"z": x}, {"z": x * (torch.rand(x.shape) < 0.5)}).masked == {"z"}


def test_weights_move_on_a_straight_line_between_the_snapshots() -> None:
    module = nn.Linear(2, 2, bias=False)
    after = module.weight.detach().clone()
    before = {"weight": after + 4.0}
    span = Span(Replica(lambda x: {"z": module(x)}, module=module), before)
    assert span.moves
    for place in (0.25, 0.0, 1.0, 0.5):
        span.go(place)
        torch.testing.assert_close(module.weight.detach(), after + 4.0 * (1 - place))
    assert not Span(Replica(lambda x: {"z": x}, module=module), {"weight": module.weight.detach().clone()}).moves
    assert not Span(Replica(lambda x: {"z": x}, module=module)).moves


def test_each_target_is_sent_with_the_weights_of_its_part_of_the_round() -> None:
    spans = [Span(Replica(lambda x, k=k: {"z": k * x})) for k in (1.0, 10.0)]
    x = torch.ones(4, 1, 1, 1, requires_grad=True)
    sent = Route(spans, torch.tensor([0.9, 0.1, 0.5, 0.49]))(x)["z"]
    assert sent.flatten().tolist() == [10, 1, 10, 1]
    sent.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [10, 1, 10, 1]


def test_messages_are_explained_better_by_the_weights_of_then_than_by_those_after_the_round(world: Any) -> None:
    view = world.view()
    (observed,) = gathered(view, "client-0", ("level2",), LAST)
    images = torch.from_numpy(view_images(world, observed.tokens))
    track = Track(view, "client-0", LAST)
    with torch.no_grad():
        then = track.models(observed.place)[0](images)["level2"]
        after = view.replica("client-0").send(x=images)["level2"]
    error = [(guess - observed.draws[0]["level2"]).square().mean().item() for guess in (then, after)]
    assert error[0] < 0.5 * error[1]


def view_images(world: Any, tokens: tuple[str, ...]) -> Any:
    import numpy as np

    return np.stack([world.truth[token][:1] for token in tokens])


def test_the_size_of_images_is_found_from_what_the_client_sends() -> None:
    net = nn.Conv2d(2, 4, 3, stride=2, padding=1)
    view: Any = SimpleNamespace(auxiliary=None, device=torch.device("cpu"))
    client: Any = SimpleNamespace(modalities=("t1", "t2"))

    def send(x: torch.Tensor) -> dict[str, torch.Tensor]:
        z = net(x)
        return {"level1": z, "level2": nn.functional.max_pool2d(z, 2)}

    for sent in ({"level1": torch.zeros(1, 4, 12, 10)}, {"level2": torch.zeros(1, 4, 6, 5)}):
        assert image_shape(view, client, send, sent) == (24, 20)
    with pytest.raises(UserError, match="no image size"):
        image_shape(view, client, send, {"level2": torch.zeros(1, 4, 6, 6), "level1": torch.zeros(1, 4, 6, 6)})
