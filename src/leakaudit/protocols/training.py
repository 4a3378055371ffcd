"""The step that every training party shares: a module under its defense, its optimizer, and the empty batch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from leakaudit.defenses.base import Local, Stepper
from leakaudit.models.canary import GradientCanary, add_canaries, canary_rows
from leakaudit.models.params import TrainingParams
from leakaudit.models.task import Task, optimizer_for
from leakaudit.protocols.base import Guard, Holdings
from leakaudit.wire.seats import Seat

__all__ = ["Learner", "initial_network", "passes", "plain_state"]


def initial_network(seat: Seat, task: Task) -> nn.Module:
    """Build the task's network with the weights that all honest seats agree on, leaving the global stream untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seat.shared_seed("initial weights"))
        return task.build()


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a detached copy of a module's state under the names it has without wrappers (Opacus adds `_module.`)."""
    return {k.removeprefix("_module."): v.detach().clone() for k, v in module.state_dict().items()}


def passes(rounds: int, rows: int, batch: int) -> int:
    """Return the number of steps in `rounds` passes over `rows` rows in batches of `batch`."""
    return rounds * math.ceil(rows / batch)


class Learner:
    """A module in training at one seat, under that seat's defense.

    Args:
        module: The network part, already on its device.
        seat: The seat.
        guard: Its defense.
        training: Optimization.
        expected_units: Expected number of protected units in a batch.
        expected_batch: Expected number of rows in a batch.
        rate: Probability that one unit is in one batch.
        unit: Whether rows or patients are protected.
        holds: The seat's data, from which the defense learns how batches are drawn and what a row looks like.
        steps: Steps planned for the whole training; 0 where unknown.
    """

    def __init__(
        self, module: nn.Module, seat: Seat, guard: Guard, training: TrainingParams, *,
        expected_units: float, expected_batch: float, rate: float, unit: Literal["record", "patient"] = "record",
        holds: Holdings | None = None, steps: int = 0,
    ) -> None:  # fmt: skip
        self.guard, self.unit = guard, unit
        self.device, self.precision = seat.device, seat.precision
        self._units = torch.empty(0, dtype=torch.long, device=seat.device)
        self._canaries: Sequence[GradientCanary] = ()
        self._share = 1 / expected_batch
        adapted = guard.adapt(module)
        # A defense may wrap the optimizer; the learning rate stays with the one inside.
        self._inner = optimizer_for(training, list(adapted.parameters()))
        self._rate, self._decay = training.learning_rate, training.decay == "cosine"
        local = guard.train(
            Local(
                module=adapted, optimizer=self._inner, units=lambda: self._units,
                canary_rows=lambda: canary_rows(self._canaries, adapted),
                expected_units=expected_units, expected_batch=expected_batch, rate=rate, steps=steps, unit=unit,
                sampling="shuffle" if holds is None else holds.sampling.kind,
                shape=() if holds is None or holds.images is None else tuple(holds.images.shape[1:]),
            )
        )  # fmt: skip
        self.module = local.module.train()
        self.optimizer: torch.optim.Optimizer | Stepper = local.optimizer
        self._clipped = local.takes_canaries

    def begin(self, patients: Tensor, progress: float = 0.0, canaries: Sequence[GradientCanary] = ()) -> None:
        """Start a batch.

        Args:
            patients: Index of the patient behind each row.
            progress: Share of the rounds that are over, in [0, 1).
            canaries: Gradient canaries in the batch.
        """
        if self._decay:
            for group in self._inner.param_groups:
                group["lr"] = self._rate * (1 + math.cos(math.pi * progress)) / 2
        rows = torch.arange(len(patients), device=patients.device)
        self._units = patients if self.unit == "patient" else rows
        self._canaries = canaries
        self.optimizer.zero_grad()

    @contextlib.contextmanager
    def forward(self) -> Iterator[nn.Module]:
        """Give the module under the chosen precision."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "mixed"):
            yield self.module

    def finish(self) -> None:
        """Take the step of the batch; an empty batch still counts, since DP-SGD adds its noise then too."""
        if self._canaries and not self._clipped:  # else the defense appends them before it clips
            add_canaries(self._canaries, self.module, self._share)
        self.optimizer.step()

    def fit(
        self, loss: Callable[[nn.Module], Tensor], patients: Tensor, progress: float = 0.0,
        canaries: Sequence[GradientCanary] = (),
    ) -> None:  # fmt: skip
        """One whole step on a batch whose loss is local."""
        self.begin(patients, progress, canaries)
        if len(patients):
            with self.forward() as module:
                value = loss(module)
            value.backward()
        self.finish()

    def state(self) -> dict[str, Tensor]:
        """Return the module's weights by plain name."""
        return plain_state(self.module)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replace the module's weights."""
        inner = self.module
        prefix = "_module." if any(k.startswith("_module.") for k in inner.state_dict()) else ""
        inner.load_state_dict({prefix + k: v for k, v in state.items()})
