"""Batch statistics read off running statistics are those of the batch, and help to find its images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from leakaudit_gradients.attack import GradientMatching
from leakaudit_gradients.batchstats import batch_statistics, disagreement, statistics_of
from leakaudit_gradients.defended import simulation_of
from leakaudit_gradients.firststep import gradient_simulation
from leakaudit_gradients.localrun import LocalRun, simulation
from leakaudit_gradients.matching import Goal, match
from leakaudit_gradients.method import PRESETS
from leakaudit_gradients.params import GradientMatchingParams
from leakaudit_gradients.starts import Known, starts
from leakaudit_gradients.updates import updates_of
from torch import nn
from torch.func import vmap

from leakaudit.facts import SeatFacts
from leakaudit.wire import Seat, Secret

BATCH = {"normalization": "batch"}


def inputs_of(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The inputs of every batch normalization layer in training, by layer."""
    seen: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, x, name=name: seen.__setitem__(name, x[0].detach().clone()))
    network.train()(images)
    return seen


@pytest.mark.parametrize("round_", [0, 1])
def test_the_statistics_read_off_an_update_are_those_of_the_batch(world: Any, tools: Any, round_: int) -> None:
    made = world(counts=(3, 1), rounds=2, network=BATCH)
    x, _ = tools.tensors(made.victims)
    for one in (s for s in updates_of(made.view()) if s.round == round_):
        rows, task = made.sites[one.seat], made.view().task
        network = task.build()
        network.load_state_dict(dict(one.model), strict=False)
        layers = inputs_of(network, x[rows])
        assert len(layers) == 3
        assert set(one.statistics) == {f"{name}.running_{kind}" for name in layers for kind in ("mean", "var")}
        simulated = statistics_of(task, one.model)(x[rows])
        for name, values in layers.items():
            for kind, true in (("mean", values.mean(dim=(0, 2, 3))), ("var", values.var(dim=(0, 2, 3)))):
                assert torch.allclose(one.statistics[f"{name}.running_{kind}"], true, atol=1e-5)
                assert torch.allclose(simulated[f"{name}.running_{kind}"], true, atol=1e-5)
        assert float(disagreement(simulated, one.statistics)) < 1e-4
        other = statistics_of(task, one.model)(x[rows].flip(-1) + 0.1)
        assert float(disagreement(other, one.statistics)) > 0.05


def test_after_two_steps_only_a_weighted_mean_is_left() -> None:
    layer, old = nn.Sequential(nn.BatchNorm2d(2)), 3.0
    layer[0].running_mean.fill_(old)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    batches = torch.randn(2, 4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    for batch in batches:
        layer.train()(batch)
    update = {name: value - before[name] for name, value in layer.state_dict().items()}
    means = batches.mean(dim=(1, 3, 4))
    m = 0.1
    left = (old + update["0.running_mean"] - (1 - m) ** 2 * old) / (1 - (1 - m) ** 2)
    assert torch.allclose(left, (m * (1 - m) * means[0] + m * means[1]) / (1 - (1 - m) ** 2), atol=1e-5)
    assert not torch.allclose(batch_statistics(layer, update, before)["0.running_mean"], means[1], atol=0.1)


def test_updates_without_running_statistics_say_nothing(world: Any) -> None:
    assert updates_of(world().view())[0].statistics == {}


@pytest.mark.parametrize("training", [{}, {"optimizer": "adam", "learning_rate": 2e-3}], ids=["sgd", "adam"])
def test_the_local_run_with_batch_normalization_is_the_site_s(world: Any, tools: Any, training: dict[str, Any]) -> None:
    made = world(counts=(2, 1), network=BATCH, training=training)
    x, y = tools.tensors(made.victims)
    one = next(s for s in updates_of(made.view()) if s.seat == "site-0")
    simulate, mapped = simulation_of(made.view(), one, LocalRun.of(2, 8, 1), x[:2], y[:2])
    assert mapped
    for name, tensor in simulate(x[:2], y[:2]).items():
        assert torch.allclose(tensor, one.update[name], atol=2e-5, rtol=1e-3), name
    pairs = vmap(simulate)(x[:2].expand(3, *x[:2].shape), y[:2].expand(3, *y[:2].shape))
    gradient = gradient_simulation(made.view().task, one.model)(x[:2], y[:2])
    for name, tensor in one.update.items():
        assert torch.allclose(pairs[name][2], tensor, atol=2e-5, rtol=1e-3), name
        if not training:
            assert torch.allclose(-0.1 * gradient[name], tensor, atol=1e-6, rtol=1e-3), name


def test_images_that_match_the_statistics_are_nearer(tools: Any) -> None:
    torch.manual_seed(0)
    task = tools.task(**BATCH)
    params = {name: p.detach() for name, p in task.build().named_parameters()}
    x, y = tools.tensors(tools.brains(2, seed=1))
    run, watched = LocalRun.of(1, 1, 1), statistics_of(task, params)
    known = Known.of(tools.brains(24, seed=2), noise=False, device=torch.device("cpu"))
    seen = [watched(x[i : i + 1]) for i in range(2)]
    simulate = simulation(task, params, run, x[:1], y[:1])
    sent = [simulate(x[i : i + 1], y[i : i + 1]) for i in range(2)]
    goal = Goal(
        updates={name: torch.stack([s[name].detach() for s in sent]) for name in params}, simulate=simulate, run=run,
        masks=y[:, None], statistics=({name: torch.stack([s[name] for s in seen]) for name in seen[0]}, watched),
    )  # fmt: skip
    method = replace(PRESETS["batch-statistics"], iterations=60, warmup=5)
    start = starts(known, method, 2, 1, 1, torch.Generator().manual_seed(0))
    having, lacking = match(goal, method, start), match(goal, replace(method, statistics=0.0), start)
    for i in range(2):
        far = [float(disagreement(watched(found.images[i]), seen[i])) for found in (having, lacking)]
        assert far[0] < 0.75 * far[1]


def test_auto_matches_batch_statistics_where_they_are_sent(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    made = world(network=BATCH)
    auto, _ = GradientMatching(GradientMatchingParams(iterations=3), seat).run(made.view())
    assert "auto takes batch-statistics" in caplog.text
    named, without = (
        GradientMatching(GradientMatchingParams(iterations=3, preset="batch-statistics", statistics=weight), seat).run(made.view())[
            0
        ]
        for weight in (None, 0.0)
    )
    assert (auto.images == named.images).all()
    assert (auto.images != without.images).any()


def test_statistics_of_several_steps_are_left_out_with_a_word(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    made = world(counts=(3, 3), network=BATCH, training={"batch_size": 2})
    images, _ = GradientMatching(GradientMatchingParams(iterations=2), seat).run(made.view())
    assert "several local steps" in caplog.text
    assert images.images.shape[0] == 6
