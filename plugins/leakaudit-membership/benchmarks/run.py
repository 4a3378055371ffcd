"""Speed of shadow models: how many a minute the engine trains stacked, against the same ones trained one by one.

    python plugins/leakaudit-membership/benchmarks/run.py [--quick] [--device cuda]

Times are processor seconds on a CPU (other processes count little) and wall seconds with the device synchronized on a GPU. They
are of this machine and moment; ratios are what to compare. The loops take turns, and a ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim import Optimizer

from leakaudit.models import SegmentationTask, optimizer_for
from leakaudit.models.stacked import PrivatePart, Stack, stack_size

ROWS, STEPS = 32, 40
"""Samples of the pool, and the steps of one shadow model that a rate per minute is of."""
SETTINGS = ((16, [4, 8], 4), (32, [8, 16], 4), (64, [8, 16], 8))
"""Voxels a side, channels of the U-Net, samples a batch."""


@dataclass(frozen=True)
class Bench:
    """One setting.

    Attributes:
        task: What is learned.
        side: Voxels along each side of an image.
        batch: Samples in a batch.
        models: How many shadow models.
        private: Whether their steps are clipped and noised.
        device: Where.
        steps: Steps that are timed.
    """

    task: SegmentationTask
    side: int
    batch: int
    models: int
    private: bool
    device: torch.device
    steps: int

    def data(self) -> tuple[Tensor, Tensor]:
        """Return images and masks of the pool."""
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(ROWS, 4, self.side, self.side, generator=draw)
        return x.to(self.device), (torch.rand(ROWS, 3, self.side, self.side, generator=draw) > 0.7).float().to(self.device)

    def batches(self) -> list[list[list[int]]]:
        """Return the rows by step and model."""
        draw = torch.Generator().manual_seed(1)
        return [
            [torch.randperm(ROWS, generator=draw)[: self.batch].tolist() for _ in range(self.models)] for _ in range(self.steps)
        ]

    def stacked(self, at_once: int) -> float:
        """Return the seconds of a step of all models, trained `at_once` at a time by the engine's own code."""
        x, y = self.data()
        parts = (PrivatePart(prefix="", clip=1.0, noise=1.0),) if self.private else ()
        spent = 0.0
        for first in range(0, self.models, at_once):
            numbers = range(first, min(first + at_once, self.models))
            starts = [{k: v.detach().to(self.device) for k, v in self._network(m).named_parameters()} for m in numbers]
            stack = Stack(
                self.task, self.task.training, starts, private=parts, expected_units=[float(self.batch)] * len(numbers),
                noise=[torch.Generator().manual_seed(m) for m in numbers],
            )  # fmt: skip
            spent += self._timed(lambda rows, stack=stack, n=numbers: stack.step(x, y, rows[n.start : n.stop]))
        return spent

    def plain(self) -> float:
        """Return the seconds of a step of all models, one after the other in an ordinary training loop."""
        x, y = self.data()
        spent = 0.0
        for m in range(self.models):
            network = self._network(m).to(self.device).train()
            optimizer = optimizer_for(self.task.training, list(network.parameters()))

            def step(
                rows: Sequence[Sequence[int]], m: int = m, network: nn.Module = network, optimizer: Optimizer = optimizer
            ) -> None:
                index = torch.tensor(rows[m], device=self.device)
                optimizer.zero_grad()
                self.task.loss(network(x[index]), y[index]).mean().backward()
                optimizer.step()

            spent += self._timed(step)
            assert parameters_to_vector(network.parameters()).isfinite().all()
        return spent

    def _network(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return self.task.build()

    def _timed(self, step: Callable[[list[list[int]]], None]) -> float:
        """Return the seconds of one step: the mean over all but the first."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        start = 0.0
        for number, rows in enumerate(self.batches()):
            if number == 1:
                start = self._now(clock)
            step(rows)
        return (self._now(clock) - start) / (self.steps - 1)

    def _now(self, clock: Callable[[], float]) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return clock()


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="one turn instead of three")
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    device, turns = torch.device(chosen.device), 1 if chosen.quick else 3
    models = 8 if device.type == "cpu" else 32
    print(f"{models} shadow models of {STEPS} steps, {device}; one by one: an ordinary loop without, our own steps with DP-SGD")
    print("side  steps     at once  models/min as the engine trains them  one by one  ratio")
    for side, channels, batch in SETTINGS:
        for private in (False, True):
            task = SegmentationTask(network={"channels": channels}, training={}, dims=2, groups=[[0, 1, 2, 3]], levels=[0, 1])
            bench = Bench(task, side, batch, models, private, device, 3 if device.type == "cpu" else 10)
            at_once = stack_size(task, torch.zeros(1, 4, side, side), batch, private=private, device=device, most=models)
            pairs = [(bench.stacked(at_once), bench.stacked(1) if private else bench.plain()) for _ in range(turns)]
            ratio = statistics.median(b / a for a, b in pairs)
            mine, theirs = (60 * models / (STEPS * statistics.median(column)) for column in zip(*pairs, strict=True))
            name = "DP-SGD" if private else "ordinary"
            print(f"{side:4}  {name:9} {at_once:7} {mine:37.1f} {theirs:11.1f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
