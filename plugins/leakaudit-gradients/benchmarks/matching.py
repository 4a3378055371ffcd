"""Gradient matching: images per minute by size of the batch, beside a plain loop of the same arithmetic over one target.

`make bench` runs it; one thread. Seconds are of this machine and moment, ratios are what to compare.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from leakaudit_gradients.localrun import LocalRun, simulation
from leakaudit_gradients.matching import Goal, Guess, match
from leakaudit_gradients.method import PRESETS
from torch.func import functional_call

from leakaudit.models import SegmentationTask

SIDE, EVALUATIONS = 32, 10
FULL = PRESETS["smooth-unet"].iterations
"""Evaluations of a whole search."""


def task() -> SegmentationTask:
    """Return the network of the first trials: five levels, GELU, no normalization."""
    network = {"channels": [16, 32, 64, 64, 64], "normalization": "none", "activation": "gelu", "convolutions": 1}
    training = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0, "dice_weight": 0.0}
    return SegmentationTask(network=network, training=training, dims=2, groups=[[0, 1, 2, 3]], levels=[0, 1])


def batched(count: int) -> Callable[[], object]:
    """Return a short search for `count` targets in one batch, masks known."""
    built = task()
    params = {name: p.detach() for name, p in built.build().named_parameters()}
    x, y = torch.randn(count, 1, 4, SIDE, SIDE), (torch.rand(count, 1, 3, SIDE, SIDE) > 0.8).float()
    simulate = simulation(built, params, LocalRun.of(1, 1, 1), x[0], y[0])
    sent = [simulate(a, b) for a, b in zip(x, y, strict=True)]
    updates = {name: torch.stack([s[name].detach() for s in sent]) for name in params}
    goal = Goal(updates=updates, simulate=simulate, run=LocalRun.of(1, 1, 1), masks=y)
    method, start = replace(PRESETS["smooth-unet"], iterations=EVALUATIONS), [Guess(images=torch.zeros_like(x), masks=y)]
    return lambda: match(goal, method, start)


def plain() -> Callable[[], object]:
    """Return the same number of evaluations as an ordinary loop takes them: one target, two backward passes each."""
    built = task()
    network = built.build()
    parameters = dict(network.named_parameters())
    x, y = torch.randn(1, 4, SIDE, SIDE), (torch.rand(1, 3, SIDE, SIDE) > 0.8).float()
    seen = torch.autograd.grad(built.loss(network(x), y).mean(), list(parameters.values()))

    def work() -> None:
        guess = torch.zeros_like(x)
        for _ in range(EVALUATIONS):
            z = guess.clone().requires_grad_()
            loss = built.loss(functional_call(network, parameters, (z,)), y).mean()
            found = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            off = sum(((f - s).square().sum() / s.square().sum() for f, s in zip(found, seen, strict=True)), torch.zeros(()))
            (gradient,) = torch.autograd.grad(off, z)
            guess = guess - 0.1 * gradient

    return work


def seconds(work: Callable[[], object]) -> float:
    """Return the least processor seconds of three runs after one to warm up."""
    work()
    found = []
    for _ in range(3):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loop = seconds(plain())
    print(f"{'what':<28} {'evaluations/s':>14} {'images/min':>11} {'ratio to loop':>14}")
    print(f"{'plain loop, one by one':<28} {EVALUATIONS / loop:>14.1f} {60 * EVALUATIONS / loop / FULL:>11.2f} {1.0:>14.2f}")
    for count in (1, 8, 32):
        spent = seconds(batched(count))
        rate = count * EVALUATIONS / spent
        print(f"{f'batch of {count}':<28} {rate:>14.1f} {60 * rate / FULL:>11.2f} {rate * loop / EVALUATIONS:>14.2f}")


if __name__ == "__main__":
    sys.exit(main())
