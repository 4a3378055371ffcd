"""The parties of federated averaging: sites that train, and an aggregator that averages and asks."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from leakaudit.defenses.base import Ask
from leakaudit.models.task import Task, Tensors
from leakaudit.protocols.base import Guard, Holdings
from leakaudit.protocols.params import FederatedParams
from leakaudit.protocols.schedule import Sampler
from leakaudit.protocols.training import Learner, initial_network, plain_state
from leakaudit.wire.messages import Message
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import NotFiniteError, Party, not_finite

__all__ = ["Aggregator", "Site", "average"]


class Site(Party):
    """Holds its own patients, trains locally, and sends the difference to the model it received."""

    def __init__(self, seat: Seat, task: Task, guard: Guard, holds: Holdings, params: FederatedParams) -> None:
        self.seat, self.task, self.guard, self.holds, self.params = seat, task, guard, holds, params
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=seat.rng("batches"), device=seat.device)))
        self.canaries = tuple(holds.canaries.values())
        first = int(holds.units.max()) + 1 if len(holds.units) else 0
        units = [*holds.units.tolist(), *range(first, first + len(self.canaries))]
        self.sampler = Sampler(units, params.training.batch_size, holds.sampling, draw)
        self.learner = Learner(
            initial_network(seat, task).to(seat.device), seat, guard, params.training,
            expected_units=self.sampler.expected_units, expected_batch=self.sampler.batch, rate=self.sampler.rate,
            unit=holds.sampling.unit, holds=holds, steps=params.rounds * self._steps_a_round,
        )  # fmt: skip

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Train on the model that arrived and return the update, or answer a question about it."""
        if not inbox:  # the aggregator's defense withheld the model
            return []
        (message,) = inbox
        arrived = self.guard.incoming(message)
        if arrived is None:
            return []
        found = self.guard.answer(arrived) if arrived.channel == "control" else self._update(arrived)
        sent = None if found is None else self.guard.outgoing(found)
        return [] if sent is None else [sent]

    def _update(self, arrived: Message) -> Message:
        self.learner.load(arrived.tensors)
        if self.params.optimizer_state == "restart":
            restart(self.learner.optimizer)
        batches = self._batches()
        for rows in batches:
            self._step(rows)
        after = self.learner.state()
        difference = {k: after[k] - arrived.tensors[k] for k in after}
        # Before the defense: masked or clipped, a diverged update would look like any other.
        wrong = not_finite(difference)
        if wrong is not None:
            self._recover(arrived)
            raise NotFiniteError(self._diverged(wrong, arrived.round), "update")
        return Message(
            channel="update", sender=self.seat.id, receiver="aggregator", round=arrived.round, step=arrived.step,
            tensors=difference,
            weight=float(len(self.holds.tokens)) if self.params.weighting == "samples" else 1.0,
            behind=tuple(self.holds.tokens[row] for row in dict.fromkeys(r for rows in batches for r in rows) if self._real(row)),
        )  # fmt: skip

    def _recover(self, arrived: Message) -> None:
        """Go back to the model that arrived, without the moments of the run that diverged."""
        self.learner.load(arrived.tensors)
        restart(self.learner.optimizer)

    def _diverged(self, name: str, round_: int) -> str:
        rate = self.params.training.learning_rate
        return (
            f"the local training of {self.seat.id!r} diverged in round {round_}: its update of {name} is not finite. Lower "
            f"training.learning_rate ({rate:g}) or train fewer local steps; with on_bad_update: drop such updates are left out"
        )

    @property
    def _steps_a_round(self) -> int:
        return self.params.local_steps or self.params.local_epochs * self.sampler.steps

    def _batches(self) -> list[list[int]]:
        if self.params.local_steps is None:
            return [rows for _ in range(self.params.local_epochs) for rows in self.sampler.epoch()]
        passes = math.ceil(self.params.local_steps / self.sampler.steps)
        return [rows for _ in range(passes) for rows in self.sampler.epoch()][: self.params.local_steps]

    def _real(self, row: int) -> bool:
        """Return whether a row of a batch is an image; those behind the images are gradient canaries."""
        return row < len(self.holds.tokens)

    def _step(self, batch: Sequence[int]) -> None:
        images, regions = self.holds.images, self.holds.regions
        assert images is not None
        assert regions is not None
        rows = torch.tensor([row for row in batch if self._real(row)], dtype=torch.long, device=self.seat.device)
        canaries = [self.canaries[row - len(self.holds.tokens)] for row in batch if not self._real(row)]
        self.learner.fit(
            lambda net: self.task.loss(net(images[rows]), regions[rows]).mean(), self.holds.units[rows], canaries=canaries
        )

    def state(self) -> Tensors:
        """Return the site's local model after its last round."""
        return self.learner.state()


def restart(optimizer: object) -> None:
    """Forget an optimizer's moments (an Opacus optimizer wraps the one that has them)."""
    inner = getattr(optimizer, "original_optimizer", optimizer)
    assert isinstance(inner, torch.optim.Optimizer)
    inner.state.clear()


class Aggregator(Party):
    """Averages the updates, weighted by the samples behind them.

    A defense may ask the sites before it has the average. Its questions are this party's reply to the updates, and the answers
    to them are its next inbox, until it replies with none.
    """

    def __init__(self, seat: Seat, task: Task, guard: Guard, params: FederatedParams) -> None:
        self.seat, self.guard, self.params = seat, guard, params
        self.model: dict[str, Tensor] = plain_state(initial_network(seat, task).to(seat.device))
        self._updates: list[Message] = []
        self._asking: Ask | None = None

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Hand the model to the receivers that the schedule names, or average the updates, asking the sites where needed."""
        orders = [m for m in inbox if m.sender == "schedule"]
        if orders:
            return [sent for order in orders if (sent := self._model_for(order)) is not None]
        arrived = [m for m in map(self.guard.incoming, inbox) if m is not None]
        if self._asking is not None:
            return self._go_on(self._asking, [m for m in arrived if m.channel == "control"])
        self._updates = [m for m in arrived if m.channel == "update"]
        found = self.guard.aggregate(self._updates)
        if isinstance(found, Generator):
            self._asking = found
            return self._go_on(found, None)
        self._apply(found)
        return []

    def _go_on(self, asking: Ask, answers: Sequence[Message] | None) -> Sequence[Message]:
        """Give the defense its answers (None to begin) and return its next questions; without any, apply its aggregate."""
        try:
            while True:
                # A generator that has not begun takes None, which its type does not say.
                questions = next(asking) if answers is None else asking.send(answers)
                sent = [s for q in questions if (s := self.guard.outgoing(q)) is not None]
                if sent:
                    return sent
                answers = []
        except StopIteration as done:
            self._asking = None
            self._apply(done.value)
            return []

    def _apply(self, mean: Tensors | None) -> None:
        if mean is None:
            mean = average(self._updates)
        self.model = {k: v + mean[k] if k in mean else v for k, v in self.model.items()}
        self._updates = []

    def _model_for(self, order: Message) -> Message | None:
        (receiver,) = order.samples
        return self.guard.outgoing(
            Message(
                channel="model",
                sender=self.seat.id,
                receiver=receiver,
                round=order.round,
                step=order.step,
                tensors=self.model,
            )
        )

    def state(self) -> Tensors:
        """Return the global model."""
        return self.model


def average(updates: Sequence[Message]) -> dict[str, Tensor]:
    """Return the weighted mean of updates; empty without any."""
    total = sum(m.weight for m in updates)
    mean: dict[str, Tensor] = {}
    for message in updates:
        for name, tensor in message.tensors.items():
            # Integer buffers (batch counters) are averaged as numbers and cut off again when added to the model.
            share = tensor * (message.weight / total)
            mean[name] = mean[name] + share if name in mean else share
    return mean
