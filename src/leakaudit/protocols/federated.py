"""Federated averaging over sites that hold different patients (McMahan et al. 2017, arXiv 1602.05629)."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor, nn

from leakaudit.defenses.base import Ask, replaces_training
from leakaudit.facts import SeatFacts
from leakaudit.models.task import Task, TaskSpec, Tensors
from leakaudit.protocols.base import Guard, Holdings, Protocol
from leakaudit.protocols.centralized import control, network_replica, whole_network
from leakaudit.protocols.params import FederatedParams
from leakaudit.protocols.schedule import Sampler, Schedule
from leakaudit.protocols.training import Learner, initial_network, plain_state
from leakaudit.wire.messages import Message
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import Party, Wire, WireError

__all__ = ["Aggregator", "Federated", "Site"]


class Site(Party):
    """Holds its own patients, trains locally, and sends the difference to the model it received."""

    def __init__(self, seat: Seat, task: Task, guard: Guard, holds: Holdings, params: FederatedParams) -> None:
        self.seat, self.task, self.guard, self.holds, self.params = seat, task, guard, holds, params
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=seat.rng("batches"), device=seat.device)))
        self.sampler = Sampler(holds.units.tolist(), params.training.batch_size, holds.sampling, draw)
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
            self._step(torch.tensor(rows, dtype=torch.long, device=self.seat.device))
        after = self.learner.state()
        return Message(
            channel="update", sender=self.seat.id, receiver="aggregator", round=arrived.round, step=arrived.step,
            tensors={k: after[k] - arrived.tensors[k] for k in after},
            weight=float(len(self.holds.tokens)) if self.params.weighting == "samples" else 1.0,
            behind=tuple(self.holds.tokens[row] for row in dict.fromkeys(row for rows in batches for row in rows)),
        )  # fmt: skip

    @property
    def _steps_a_round(self) -> int:
        return self.params.local_steps or self.params.local_epochs * self.sampler.steps

    def _batches(self) -> list[list[int]]:
        if self.params.local_steps is None:
            return [rows for _ in range(self.params.local_epochs) for rows in self.sampler.epoch()]
        passes = math.ceil(self.params.local_steps / self.sampler.steps)
        return [rows for _ in range(passes) for rows in self.sampler.epoch()][: self.params.local_steps]

    def _step(self, rows: Tensor) -> None:
        images, regions = self.holds.images, self.holds.regions
        assert images is not None
        assert regions is not None
        self.learner.fit(lambda net: self.task.loss(net(images[rows]), regions[rows]).mean(), self.holds.units[rows])

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


class Federated(Protocol[FederatedParams]):
    """Rounds of broadcast, local training and averaging."""

    def task(self) -> TaskSpec:
        """Return the segmentation task."""
        return TaskSpec(target="leakaudit.models.task:SegmentationTask", params=self.params.task(self.cohort))

    def party(self, seat: Seat, task: Task, guard: Guard, holds: Holdings) -> Party:
        """Return a site or the aggregator."""
        if seat.role == "site":
            return Site(seat, task, guard, holds, self.params)
        return Aggregator(seat, task, guard, self.params)

    def run(self, wire: Wire, schedule: Schedule) -> None:
        """Run the rounds and release the final model."""
        sites = [seat.id for seat in self.facts.seats_of("site")]
        draw = schedule.secret.branch("participation").generator()
        count = max(1, round(self.params.participation * len(sites)))
        for round_ in range(self.params.rounds):
            chosen = sorted(torch.randperm(len(sites), generator=draw)[:count].tolist())
            updates: list[Message] = []
            for index in chosen:
                orders = [control("aggregator", round_, 0, (sites[index],))]
                updates += wire.ask(sites[index], wire.ask("aggregator", orders))
            self._deliver(wire, updates)
        wire.ask("aggregator", [control("aggregator", self.params.rounds - 1, 1, ("outsider",))])

    def _deliver(self, wire: Wire, updates: Sequence[Message]) -> None:
        """Hand over a round's updates, then carry questions and answers until the aggregator has no more to ask.

        Raises:
            WireError: The aggregator replied with something else than a question to a site.
        """
        sites = {seat.id for seat in self.facts.seats_of("site")}
        questions = wire.ask("aggregator", updates)
        while questions:
            for message in questions:
                if message.channel != "control" or message.receiver not in sites:
                    raise WireError(
                        f"the aggregator answered updates with {message.channel!r} to {message.receiver!r}; it may only ask sites, "
                        "on the control channel"
                    )
            questions = wire.ask("aggregator", [a for q in questions for a in wire.ask(q.receiver, [q])])

    def predictor(self, states: Mapping[str, Tensors], task: Task, guards: Mapping[str, Guard]) -> nn.Module:
        """Return the global model."""
        return whole_network(task, states["aggregator"])

    def replica(self, facts: SeatFacts, task: Task, state: Tensors | None, guard: Guard) -> Replica:
        """Return the model for the aggregator (`x=` to `"logits"`), or a site's defended update.

        A site's `send` takes images `x`, masks `y`, and optionally `order` (batches as one index tensor, steps x rows;
        default one full batch), and returns the update it would send, one entry per parameter. A defense that replaces the
        local training (DP-SGD) is not in it, and the replica does not count as defended then.
        """
        if facts.role != "site":
            return network_replica(task, state)
        network = whole_network(task, state).train()
        parameters = {k: v.detach() for k, v in network.named_parameters()}

        def send(x: Tensor, y: Tensor, order: Tensor | None = None) -> Tensors:
            steps = [torch.arange(len(x), device=x.device)] if order is None else list(order)
            after = task.local(parameters, x, y, steps)
            update = Message(
                channel="update", sender=facts.id, receiver="aggregator", round=-1, step=-1,
                tensors={k: after[k] - parameters[k] for k in after},
            )  # fmt: skip
            sent = guard.outgoing(update)
            if sent is None:
                raise ValueError(f"the defense of {facts.id!r} withholds its update")
            return sent.tensors

        return Replica(send, module=network, defended=not replaces_training(guard))
