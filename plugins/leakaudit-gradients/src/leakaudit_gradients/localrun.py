"""What a site did with its samples between the model that came and the update that went."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit.models import Task, Tensors

__all__ = ["LocalRun", "Simulate", "simulation"]

Simulate = Callable[[Tensor, Tensor], Tensors]
"""Images (variables, modalities, *spatial) and masks (variables, regions, *spatial) of one target -> its update by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRun:
    """The batches of one local run, as far as they are known: how many of what size, not who is in which.

    In the first pass over the data the order of samples is a matter of naming them. Later passes are shuffled anew; unless their
    order is known, each gets images of its own, which a prior ties together (Dimitrov et al. 2022, arXiv 2206.12395).

    Attributes:
        samples: Samples of the site.
        batch: Rows per step; the last batch of a pass may be smaller.
        steps: Local steps.
        same_order: Whether every pass goes through the samples in the same order.
    """

    samples: int
    batch: int
    steps: int
    same_order: bool = False

    @staticmethod
    def of(samples: int, batch: int, epochs: int, steps: int | None = None, *, same_order: bool = False) -> LocalRun:
        """Return the run of a site that passes over its samples `epochs` times, or takes `steps` steps."""
        batch = min(batch, samples)
        return LocalRun(samples=samples, batch=batch, steps=steps or epochs * math.ceil(samples / batch), same_order=same_order)

    @property
    def pass_steps(self) -> int:
        """Steps in one whole pass."""
        return math.ceil(self.samples / self.batch)

    @property
    def passes(self) -> int:
        """Passes that are begun."""
        return math.ceil(self.steps / self.pass_steps)

    @property
    def copies(self) -> int:
        """Passes that have images of their own: all of them, unless a pass is one batch, which has no order."""
        return 1 if self.same_order or self.pass_steps == 1 else self.passes

    @property
    def variables(self) -> int:
        """Images that are searched for."""
        return self.copies * self.samples

    def order(self, device: torch.device | str = "cpu") -> list[Tensor]:
        """Return the rows among the variables of each step's batch, as `Task.local` takes them."""
        batches: list[Tensor] = []
        for number in range(self.passes):
            first = (number % self.copies) * self.samples
            rows = torch.arange(first, first + self.samples, device=device)
            batches += list(rows.split(self.batch))
        return batches[: self.steps]

    def seen(self) -> Tensor:
        """Return which variables are in some batch, (variables,) bool."""
        found = torch.zeros(self.variables, dtype=torch.bool)
        found[torch.cat(self.order())] = True
        return found


def simulation(task: Task, params: Tensors, run: LocalRun, x: Tensor, y: Tensor) -> Simulate:
    """Return the simulated local run of an undefended site: differentiable, and mappable over targets.

    Args:
        task: The task that sites learn.
        params: The model that the site received.
        run: Its batches.
        x: One target's images, for shape and type.
        y: Its masks.
    """
    order = run.order(x.device)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        # A task may build its network at the first call; vmap forbids the random numbers that this takes.
        task.update(params, x, y, [])

    def simulate(images: Tensor, masks: Tensor) -> Tensors:
        return task.update(params, images, masks, order)

    return simulate
