"""Stacked training: every model learns exactly what it learns alone, whatever the others of its stack do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad

from leakaudit.models.params import TrainingParams
from leakaudit.models.stacked import PrivatePart, Stack, footprint
from leakaudit.models.task import SegmentationTask

SIDE, ROWS = 16, 6
BATCHES: list[list[list[int] | None]] = [[[0, 1, 2], [3, 4], [5]], [[2, 5], [0, 1, 3], [4, 2, 1]], [[1], [4], [0, 5]]]
"""Rows by step and model."""


def task_of(**training: Any) -> SegmentationTask:
    network = {"channels": [4, 8], "convolutions": 1, "normalization": training.pop("normalization", "instance")}
    return SegmentationTask(network=network, training=training, dims=2, groups=[[0], [1]], levels=[0, 1])


def data() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 2, SIDE, SIDE, generator=draw)
    return x, (torch.rand(ROWS, 3, SIDE, SIDE, generator=draw) > 0.7).float()


def initial(task: SegmentationTask, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {k: v.detach() for k, v in task.build().named_parameters()}


def sources(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 + m) for m in range(count)]


def alone(task: SegmentationTask, start: dict[str, Tensor], part: PrivatePart) -> Stack:
    """Return a stack of one model with a private part."""
    return Stack(task, task.training, [start], private=[part], expected_units=[2.0], noise=sources(1))


def close(first: dict[str, Tensor], second: dict[str, Tensor], atol: float = 2e-5) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=atol, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("training", [{"optimizer": "sgd", "learning_rate": 0.1}, {"optimizer": "adam", "learning_rate": 1e-3}])
def test_every_model_of_a_stack_ends_where_a_local_run_on_its_batches_ends(training: dict[str, Any]) -> None:
    task, (x, y) = task_of(**training), data()
    starts = [initial(task, seed) for seed in range(3)]
    stack = Stack(task, task.training, starts)
    for rows in BATCHES:
        stack.step(x, y, rows)
    for m, state in enumerate(stack.states()):
        order = [torch.tensor(rows[m]) for rows in BATCHES]
        close(state, {k: v.detach() for k, v in task.local(starts[m], x, y, order).items()})
        assert any(not torch.equal(state[k], starts[m][k]) for k in state)


@pytest.mark.parametrize(
    "private", [(), (PrivatePart(prefix="", clip=0.5, noise=1.0),), (PrivatePart(prefix="encoders.0.", clip=0.1, noise=2.0),)]
)
def test_a_model_in_a_stack_is_the_model_alone(private: tuple[PrivatePart, ...]) -> None:
    task, (x, y) = task_of(optimizer="sgd", learning_rate=0.05), data()
    starts = [initial(task, seed) for seed in range(3)]
    together = Stack(task, task.training, starts, private=private, expected_units=[2.0] * 3, noise=sources(3))
    for rows in BATCHES:
        together.step(x, y, rows, [0, 0, 1, 1, 2, 3])
    for m in range(3):
        one = Stack(task, task.training, starts[m : m + 1], private=private, expected_units=[2.0], noise=sources(3)[m : m + 1])
        for rows in BATCHES:
            one.step(x, y, [rows[m]], [0, 0, 1, 1, 2, 3])
        close(together.states()[m], one.states()[0])


def test_private_steps_clip_every_unit_s_gradient_and_divide_by_the_expected_number_of_units() -> None:
    task, (x, y) = task_of(optimizer="sgd", learning_rate=1.0, momentum=0.0), data()
    start, units, clip = initial(task, 0), [0, 0, 1, 1, 2, 3], 0.05
    stack = Stack(
        task, task.training, [start], private=[PrivatePart(prefix="", clip=clip, noise=0.0)], expected_units=[2.5], noise=sources(1)
    )
    stack.step(x, y, [[0, 1, 2]], units)
    net = task.build()
    total = {k: torch.zeros_like(v) for k, v in start.items()}
    for rows in ([0, 1], [2]):
        g = grad(lambda p, rows=rows: task.loss(functional_call(net, p, (x[rows],)), y[rows]).sum())(start)
        norm = torch.stack([t.norm() for t in g.values()]).norm()
        assert norm > clip, "nothing would be clipped, and the test would not see it"
        total = {k: total[k] + g[k] * clip / norm for k in g}
    close(stack.states()[0], {k: start[k] - total[k].detach() / 2.5 for k in start}, atol=1e-5)


def test_only_the_named_part_is_noised_and_the_noise_has_the_stated_size() -> None:
    task, (x, y) = task_of(optimizer="sgd", learning_rate=1.0, momentum=0.0), data()
    start = initial(task, 0)
    noisy, quiet = (alone(task, start, PrivatePart(prefix="trunk.", clip=0.5, noise=n)) for n in (4.0, 0.0))
    for stack in (noisy, quiet):
        stack.step(x, y, [[0, 3]])
    difference = {k: (noisy.states()[0][k] - quiet.states()[0][k]).flatten() for k in start}
    assert all(not d.any() for k, d in difference.items() if not k.startswith("trunk."))
    inside = torch.cat([d for k, d in difference.items() if k.startswith("trunk.")])
    assert float(inside.std()) == pytest.approx(4.0 * 0.5 / 2.0, rel=0.1)


def test_an_empty_batch_is_a_step_of_noise_for_private_parts_and_none_for_others() -> None:
    task, (x, y) = task_of(), data()
    starts = [initial(task, seed) for seed in range(2)]
    part = PrivatePart(prefix="head.", clip=1.0, noise=1.0)
    stack = Stack(task, task.training, starts, private=[part], expected_units=[2.0] * 2, noise=sources(2))
    stack.step(x, y, [[], None])
    first, second = stack.states()
    moved = {k for k in first if not torch.equal(first[k], starts[0][k])}
    assert moved == {k for k in first if k.startswith("head.")}
    close(second, starts[1], atol=0)
    # The model that sat out, and the parts that did, are not ahead in their bias correction either.
    stack.step(x, y, [None, [0, 1]])
    close(stack.states()[1], {**_noised_alone(task, starts[1], x, y, part)})


def _noised_alone(task: SegmentationTask, start: dict[str, Tensor], x: Tensor, y: Tensor, part: PrivatePart) -> dict[str, Tensor]:
    one = Stack(task, task.training, [start], private=[part], expected_units=[2.0], noise=sources(2)[1:])
    one.step(x, y, [[0, 1]])
    return one.states()[0]


def test_a_fresh_optimizer_forgets_and_the_rate_scales_the_step() -> None:
    task, (x, y) = task_of(optimizer="sgd", learning_rate=0.1), data()
    start = initial(task, 0)
    stack = Stack(task, task.training, [start])
    stack.step(x, y, [[0, 1]])
    once = stack.states()[0]
    stack.restart()
    stack.step(x, y, [[2, 3]], rate=0.5)
    half = task_of(optimizer="sgd", learning_rate=0.05).local(once, x, y, [torch.tensor([2, 3])])
    close(stack.states()[0], {k: v.detach() for k, v in half.items()})


@pytest.mark.parametrize("models", [1, 2])
def test_what_the_network_s_last_pass_adds_to_the_loss_is_learned_from(models: int) -> None:
    task, (x, y) = task_of(optimizer="sgd", learning_rate=0.5, momentum=0.0), data()
    kept: list[Tensor] = []
    network = task.build()
    network.get_submodule("head").register_forward_hook(lambda head, *_: kept.append(head.conv.conv.weight.square().sum()))
    starts = [initial(task, seed) for seed in range(models)]
    plain = Stack(task, task.training, starts)
    fined = Stack(task, task.training, starts, network=network, penalties=lambda: [kept.pop()])
    for stack in (plain, fined):
        stack.step(x, y, [[0, 1, 2]] * models)
    for start, state, other in zip(starts, plain.states(), fined.states(), strict=True):
        name = "head.conv.conv.weight"
        close(other, {**state, name: state[name] - 0.5 * 2 * start[name]})
    before = fined.states()
    fined.step(x, y, [[]] * models)
    assert not kept
    for state, other in zip(before, fined.states(), strict=True):
        assert all(torch.equal(state[k], other[k]) for k in state)


def test_a_unit_without_a_finite_gradient_is_left_out() -> None:
    task, (x, y) = task_of(optimizer="sgd", learning_rate=1.0, momentum=0.0), data()
    x[1] = float("inf")
    start = initial(task, 0)
    stacks = [alone(task, start, PrivatePart(prefix="", clip=1.0, noise=0.0)) for _ in range(2)]
    stacks[0].step(x, y, [[0, 1]])
    stacks[1].step(x, y, [[0]])
    close(stacks[0].states()[0], stacks[1].states()[0])


def test_networks_with_running_statistics_are_refused() -> None:
    task = task_of(normalization="batch")
    with pytest.raises(ValueError, match="batch normalization"):
        Stack(task, TrainingParams(), [initial(task, 0)])


def test_the_footprint_grows_with_the_batch_and_with_gradients_of_every_row() -> None:
    task, (x, _) = task_of(), data()
    small, large = (footprint(task, x[:1], batch, private=False) for batch in (2, 4))
    weights = sum(v.numel() * 4 for v in initial(task, 0).values())
    assert 8 * weights < small < large < footprint(task, x[:1], 4, private=True)
