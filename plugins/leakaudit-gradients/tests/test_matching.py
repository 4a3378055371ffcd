"""Gradient matching finds the image where it can, and nothing where the gradient is another image's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from leakaudit_gradients.localrun import LocalRun, simulation
from leakaudit_gradients.matching import Goal, Guess, match
from leakaudit_gradients.method import PRESETS, Method
from leakaudit_gradients.starts import Known, starts
from torch import Tensor

QUICK = replace(PRESETS["smooth-unet"], iterations=150)


@dataclass(frozen=True)
class Scene:
    """Targets of one sample each, their gradients, and what an adversary knows."""

    x: Tensor
    y: Tensor
    known: Known
    goal: Goal

    def start(self, method: Method, restarts: int = 1) -> list[Guess]:
        return starts(self.known, method, len(self.x), 1, restarts, torch.Generator().manual_seed(0))

    def find(self, method: Method, **changes: Any) -> Tensor:
        return match(replace(self.goal, **changes), method, self.start(method)).images[:, 0]


def scene(
    tools: Any, count: int = 1, dims: int = 2, side: int = 16, *, masks: bool = True, double: bool = False, **task: Any
) -> Scene:
    torch.manual_seed(0)
    built = tools.task(dims, **task)
    params = {name: p.detach() for name, p in built.build().named_parameters()}
    x, y = tools.tensors(tools.brains(count, dims, side, seed=1))
    run = LocalRun.of(1, 1, 1)
    known = Known.of(tools.brains(24, dims, side, seed=2), noise=False, device=torch.device("cpu"))
    if double:
        params, x, y = {name: p.double() for name, p in params.items()}, x.double(), y.double()
        known = replace(known, mean=known.mean.double(), masks=known.masks.double())
    simulate = simulation(built, params, run, x[:1], y[:1])
    sent = [simulate(x[i : i + 1], y[i : i + 1]) for i in range(count)]
    updates = {name: torch.stack([s[name].detach() for s in sent]) for name in params}
    goal = Goal(updates=updates, simulate=simulate, run=run, masks=y[:, None] if masks else None, bounds=known.bounds)
    return Scene(x, y, known, goal)


def test_a_smooth_network_without_normalization_gives_the_image_away(tools: Any) -> None:
    made = scene(tools)
    found = made.find(QUICK)[0]
    assert tools.psnr(found, made.x[0]) > 33
    assert tools.psnr(made.known.mean, made.x[0]) < 20


def test_the_gradient_of_another_image_says_nothing_about_this_one(tools: Any) -> None:
    made = scene(tools, 2)
    exchanged = {name: tensor.flip(0) for name, tensor in made.goal.updates.items()}
    found = made.find(replace(QUICK, iterations=60), updates=exchanged)
    for i in range(2):
        assert tools.psnr(found[i], made.x[i]) < tools.psnr(made.known.mean, made.x[i]) + 1


def test_volumes_are_found_as_slices_are(tools: Any) -> None:
    made = scene(tools, dims=3, side=8)
    assert tools.psnr(made.find(replace(QUICK, iterations=80))[0], made.x[0]) > 30


@pytest.mark.parametrize("method", [QUICK, PRESETS["inverting-gradients"]], ids=["lbfgs", "adam"])
def test_a_target_of_a_batch_is_found_as_it_is_alone(tools: Any, method: Method) -> None:
    made, method = scene(tools, 3, double=True), replace(method, iterations=15)
    start = made.start(method)[0]
    start = replace(start, images=start.images.double(), masks=start.masks.double())
    goal = replace(made.goal, bounds=None)
    together = match(goal, method, [start]).images
    for i in range(3):
        one = replace(
            goal, updates={name: t[i : i + 1] for name, t in goal.updates.items()}, masks=made.y[i : i + 1, None], at_once=1
        )
        alone = match(one, method, [replace(start, images=start.images[i : i + 1], masks=start.masks[i : i + 1])]).images
        assert torch.allclose(together[i], alone[0], atol=1e-6)


def test_targets_that_cannot_be_mapped_are_found_alike(tools: Any) -> None:
    made, method = scene(tools, 2), replace(QUICK, iterations=5)
    assert torch.allclose(made.find(method), made.find(method, mapped=False), atol=1e-4)


def test_the_best_of_several_starts_is_kept(tools: Any) -> None:
    made, method = scene(tools, 2), replace(QUICK, iterations=4)
    far = made.start(replace(method, start="noise"))[0]
    both = match(made.goal, method, [far, *made.start(method)])
    near = match(made.goal, method, made.start(method))
    assert both.loss is not None
    assert near.loss is not None
    assert torch.allclose(both.loss, near.loss, rtol=1e-3)
    assert torch.allclose(both.images, near.images, atol=1e-3)


@pytest.mark.parametrize("objective", ["euclidean", "relative", "cosine", "layer-cosine"])
@pytest.mark.parametrize("masks", [True, False], ids=["masks known", "masks unknown"])
def test_every_objective_brings_the_image_nearer(tools: Any, objective: Any, masks: bool) -> None:
    made = scene(tools, masks=masks)
    method = replace(QUICK, iterations=25, objective=objective, tv=0.0)
    before, after = (
        match(made.goal, replace(method, iterations=1), made.start(method)),
        match(made.goal, method, made.start(method)),
    )
    assert before.loss is not None
    assert after.loss is not None
    assert float(after.loss) < 0.5 * float(before.loss)
    assert 0 <= float(after.masks.min()) <= float(after.masks.max()) <= 1


def test_adam_with_signs_stays_in_its_box(tools: Any) -> None:
    made = scene(tools)
    method = replace(PRESETS["inverting-gradients"], iterations=30)
    found = match(made.goal, method, made.start(method))
    low, high = made.known.bounds
    assert (found.images[0, 0].flatten(1).amin(dim=1) >= low - 1e-6).all()
    assert (found.images[0, 0].flatten(1).amax(dim=1) <= high + 1e-6).all()
    first = match(made.goal, replace(method, iterations=1), made.start(method))
    assert found.loss is not None
    assert first.loss is not None
    assert float(found.loss) < 0.5 * float(first.loss)


def test_passes_in_unknown_order_are_searched_for_and_merged(tools: Any) -> None:
    torch.manual_seed(0)
    task = tools.task()
    params = {name: p.detach() for name, p in task.build().named_parameters()}
    x, y = tools.tensors(tools.brains(2, seed=1))
    run = LocalRun.of(2, 1, 2)
    after = task.local(params, x, y, [torch.tensor([i]) for i in (0, 1, 1, 0)])
    known = Known.of(tools.brains(24, seed=2), noise=False, device=torch.device("cpu"))
    simulate = simulation(task, params, run, x.repeat(2, 1, 1, 1), y.repeat(2, 1, 1, 1))
    goal = Goal(updates={k: (after[k] - params[k])[None] for k in params}, simulate=simulate, run=run)
    method = replace(QUICK, iterations=20)
    beginning = starts(known, method, 1, 2, 1, torch.Generator().manual_seed(0))
    found, first = match(goal, method, beginning), match(goal, replace(method, iterations=1), beginning)
    assert found.images.shape == (1, 2, *x.shape[1:])
    assert found.loss is not None
    assert first.loss is not None
    assert float(found.loss) < 0.5 * float(first.loss)
    # The truth in the order in which it was gone through explains the update.
    true = match(
        replace(goal, masks=None), replace(method, iterations=1, tv=0.0), [Guess(images=x[None], masks=y[None])]
    )  # fmt: skip
    assert true.loss is not None
    assert float(true.loss) < 0.05 * float(first.loss)


@pytest.mark.slow
def test_masks_are_found_beside_the_image(tools: Any) -> None:
    made = scene(tools, masks=False, channels=[16, 32, 32])
    method = replace(QUICK, iterations=300)
    found = match(made.goal, method, made.start(method))
    assert tools.psnr(found.images[0, 0], made.x[0]) > 30
    true, guess = made.y[0, 0], (found.masks[0, 0, 0] > 0.5).float()
    assert float(2 * (true * guess).sum() / (true.sum() + guess.sum())) > 0.9


@pytest.mark.slow
def test_what_decides_is_a_smooth_activation_and_no_normalization(tools: Any) -> None:
    def gain(**changes: Any) -> float:
        made = scene(tools, channels=[16, 32, 32], **changes)
        return float(tools.psnr(made.find(replace(QUICK, iterations=200))[0], made.x[0]) - tools.psnr(made.known.mean, made.x[0]))

    smooth = gain()
    assert smooth > 20
    assert gain(activation="leaky-relu") < smooth - 15
    assert gain(normalization="instance") < smooth - 15
