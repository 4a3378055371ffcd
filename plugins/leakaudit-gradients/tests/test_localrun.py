"""The simulated local run is the victim's: with the true images it gives the update that was sent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from leakaudit_gradients.defended import simulation_of
from leakaudit_gradients.firststep import gradient_behind, gradient_simulation
from leakaudit_gradients.localrun import LocalRun, simulation
from leakaudit_gradients.updates import batch_of, together, updates_of
from torch.func import vmap

SGD = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9}
ADAM = {"optimizer": "adam", "learning_rate": 2e-3}


@pytest.mark.parametrize("training", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_true_images_give_the_update_that_a_site_sent(world: Any, tools: Any, training: dict[str, Any], epochs: int) -> None:
    made = world(counts=(2, 1), rounds=2, training=training, local_epochs=epochs)
    view = made.view()
    x, y = tools.tensors(made.victims)
    sent = updates_of(view)
    assert {(s.seat, s.round) for s in sent} == {("site-0", 0), ("site-1", 0), ("site-0", 1), ("site-1", 1)}
    for one in sent:
        rows = made.sites[one.seat]
        run = LocalRun.of(len(rows), batch_of(view, len(rows)), epochs, same_order=True)
        simulate, mapped = simulation_of(view, one, run, x[rows], y[rows])
        assert mapped
        assert run.steps == epochs
        for name, tensor in simulate(x[rows], y[rows]).items():
            # A weight of size 1 is rounded to 6e-8; Adam turns rounding of the smallest gradients into steps.
            tolerance = 2e-6 if training is SGD else 2e-5
            assert torch.allclose(tensor, one.update[name], atol=tolerance, rtol=1e-3), name


def test_other_images_do_not_give_it(world: Any, tools: Any) -> None:
    made = world(training=SGD)
    x, y = tools.tensors(made.victims)
    one = updates_of(made.view())[0]
    simulate = simulation(made.view().task, one.model, LocalRun.of(1, 8, 1), x[:1], y[:1])
    mine, other = simulate(x[:1], y[:1]), simulate(x[1:], y[1:])
    square = sum(float(t.square().sum()) for t in one.update.values())
    assert sum(float((mine[k] - t).square().sum()) for k, t in one.update.items()) < 1e-6 * square
    assert sum(float((other[k] - t).square().sum()) for k, t in one.update.items()) > 1e-3 * square


def test_a_defended_site_is_simulated_through_its_replica(world: Any, tools: Any) -> None:
    made = world(counts=(3, 1), defended=True, training=SGD | {"batch_size": 2}, local_epochs=1)
    view = made.view()
    x, y = tools.tensors(made.victims)
    one = next(s for s in updates_of(view) if s.seat == "site-1")
    run = LocalRun.of(1, 2, 1)
    simulate, mapped = simulation_of(view, one, run, x[3:], y[3:])
    assert not mapped
    for name, tensor in simulate(x[3:], y[3:]).items():
        assert torch.allclose(tensor, one.update[name], atol=1e-6, rtol=1e-3)
    assert [replica.calls for _, replica in view.replicas_given] == [1]
    ragged, _ = simulation_of(view, one, LocalRun.of(3, 2, 1), x[:3], y[:3])
    assert all(torch.isfinite(t).all() for t in ragged(x[:3], y[:3]).values())


def test_a_defense_is_differentiated_through(world: Any, tools: Any) -> None:
    made = world(defended=True)
    x, y = tools.tensors(made.victims)
    one = updates_of(made.view())[0]
    simulate, _ = simulation_of(made.view(), one, LocalRun.of(1, 8, 1), x[:1], y[:1])
    images = x[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(sum(t.square().sum() for t in simulate(images, y[:1]).values()), images)
    assert float(gradient.abs().max()) > 0


def test_batches_are_those_of_the_site() -> None:
    run = LocalRun.of(5, 2, 2)
    assert (run.steps, run.passes, run.copies, run.variables) == (6, 2, 2, 10)
    assert [rows.tolist() for rows in run.order()] == [[0, 1], [2, 3], [4], [5, 6], [7, 8], [9]]
    assert bool(run.seen().all())
    known = LocalRun.of(5, 2, 2, same_order=True)
    assert [rows.tolist() for rows in known.order()] == [[0, 1], [2, 3], [4]] * 2
    whole = LocalRun.of(5, 8, 3)
    assert (whole.steps, whole.variables) == (3, 5), "a pass that is one batch has no order"
    assert [rows.tolist() for rows in whole.order()] == [[0, 1, 2, 3, 4]] * 3
    short = LocalRun.of(5, 2, 1, 4)
    assert (short.passes, short.variables) == (2, 10)
    assert short.seen().tolist() == [True] * 7 + [False] * 3


def test_updates_that_started_from_one_model_are_attacked_together(world: Any) -> None:
    sent = updates_of(world(counts=(1, 2, 1), rounds=2).view())
    groups = [{(s.seat, s.round) for s in group} for group in together(sent, by_seat=False)]
    assert {("site-0", 0), ("site-2", 0)} in groups
    assert {("site-1", 1)} in groups
    assert len(groups) == 4
    assert len(list(together(sent, by_seat=True))) == 6


def test_the_gradient_behind_a_step_of_adam_comes_back(world: Any, tools: Any) -> None:
    made = world(training=ADAM)
    x, y = tools.tensors(made.victims)
    one = updates_of(made.view())[0]
    truth = gradient_simulation(made.view().task, one.model)(x[:1], y[:1])
    trusted = total = 0.0
    for name, update in one.update.items():
        gradient, weight = gradient_behind(update, one.model[name], ADAM["learning_rate"])  # type: ignore[arg-type]
        sure = weight > 0.5
        assert ((gradient - truth[name]).abs()[sure] <= 0.05 * truth[name].abs()[sure]).all(), name
        trusted, total = trusted + float(weight.sum()), total + weight.numel()
    assert trusted > 0.3 * total


def test_large_gradients_leave_nothing_but_a_sign() -> None:
    before = torch.tensor([0.3, 0.3])
    gradient = torch.tensor([0.5, 1e-6])
    update = (before - 1e-3 * gradient / (gradient.abs() + 1e-8)) - before
    found, weight = gradient_behind(update, before, 1e-3)
    assert weight[0] == 0
    assert weight[1] > 0.9
    assert float(found[1]) == pytest.approx(1e-6, rel=0.02)


def test_local_runs_are_mapped_over_targets(tools: Any) -> None:
    torch.manual_seed(0)
    task = tools.task(optimizer="adam", learning_rate=1e-2)
    params = {name: p.detach() for name, p in task.build().named_parameters()}
    x, y = tools.tensors(tools.brains(6))
    simulate = simulation(task, params, LocalRun.of(3, 2, 1), x[:3], y[:3])
    mapped = vmap(simulate)(x.reshape(2, 3, *x.shape[1:]), y.reshape(2, 3, *y.shape[1:]))
    for i in range(2):
        for name, tensor in simulate(x[3 * i : 3 * i + 3], y[3 * i : 3 * i + 3]).items():
            assert torch.allclose(mapped[name][i], tensor, atol=1e-5), name


def test_small_steps_are_not_rounded_away(tools: Any) -> None:
    torch.manual_seed(0)
    task = tools.task(learning_rate=1e-6)
    params = {name: p.detach() + 1 for name, p in task.build().named_parameters()}
    x, y = tools.tensors(tools.brains(2))
    run = LocalRun.of(2, 2, 2)
    found = simulation(task, params, run, x, y)(x, y)
    double = {name: p.double() for name, p in params.items()}
    exact = simulation(task, double, run, x.double(), y.double())(x.double(), y.double())
    after = task.local(params, x, y, run.order())
    largest = 0.0
    for name, tensor in exact.items():
        size = tensor.norm()
        assert float((found[name] - tensor).norm() / size) < 1e-3, name
        largest = max(largest, float(((after[name] - params[name]) - tensor).norm() / size))
    assert largest > 1e-2
