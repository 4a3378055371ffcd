"""Several images in a step, and several steps on an image, are found too where the network is smooth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from leakaudit_gradients.localrun import LocalRun, simulation
from leakaudit_gradients.matching import Goal, match
from leakaudit_gradients.method import PRESETS
from leakaudit_gradients.starts import Known, starts
from scipy.optimize import linear_sum_assignment

METHOD = replace(PRESETS["smooth-unet"], iterations=60)


def gains(tools: Any, samples: int, steps: int, **training: Any) -> list[float]:
    """Recover one site's samples, masks known; dB by which each is nearer than the mean auxiliary image."""
    torch.manual_seed(0)
    task = tools.task(channels=[16, 32], **training)
    params = {name: p.detach() for name, p in task.build().named_parameters()}
    x, y = tools.tensors(tools.brains(samples, seed=1))
    after = task.local(params, x, y, [torch.arange(samples)] * steps)
    run = LocalRun.of(samples, samples, steps)
    simulate = simulation(task, params, run, x, y)
    known = Known.of(tools.brains(24, seed=2), noise=False, device=torch.device("cpu"))
    goal = Goal(updates={k: (after[k] - params[k])[None] for k in params}, simulate=simulate, run=run, masks=y[None])
    start = starts(known, METHOD, 1, samples, 1, torch.Generator().manual_seed(0))
    found = match(goal, METHOD, start).images[0]
    table = torch.tensor([[tools.psnr(f, t) for t in x] for f in found])
    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    return [float(table[i, j]) - tools.psnr(known.mean, x[j]) for i, j in zip(rows, columns, strict=True)]


def test_one_image_is_found_behind_three_passes_with_momentum(tools: Any) -> None:
    assert min(gains(tools, 1, 3, momentum=0.9)) > 14


def test_two_images_of_a_step_are_found_where_the_step_is_small(tools: Any) -> None:
    # A simulated step that is subtracted from weights that it hardly changes rounds the slope away, and the search stops early.
    assert min(gains(tools, 2, 1, learning_rate=1e-3)) > 8.5


@pytest.mark.slow
def test_several_steps_of_adam_hide_the_image(tools: Any) -> None:
    assert max(gains(tools, 1, 2, optimizer="adam", learning_rate=2e-3)) < 5
