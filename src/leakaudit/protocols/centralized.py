"""Centralized training: the upper baseline of utility, and the model whose release is audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from leakaudit.facts import SeatFacts
from leakaudit.models.task import Task, TaskSpec, Tensors
from leakaudit.protocols.base import Guard, Holdings, Protocol
from leakaudit.protocols.params import CentralizedParams, TrainedParams
from leakaudit.protocols.schedule import Schedule
from leakaudit.protocols.training import Learner, initial_network, passes
from leakaudit.wire.messages import Message
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import Party, Wire

__all__ = ["Centralized", "control", "network_replica", "whole_network"]


def whole_network(task: Task, state: Tensors | None) -> nn.Module:
    """Return the task's network with `state`, in evaluation mode; a fresh one without."""
    network = task.build()
    if state is not None:
        network.load_state_dict(dict(state))
    return network.eval()


class Trainer(Party):
    """Holds all members' images and masks."""

    def __init__(self, seat: Seat, task: Task, guard: Guard, holds: Holdings, params: TrainedParams) -> None:
        self.seat, self.task, self.guard, self.holds = seat, task, guard, holds
        self._rounds = params.rounds
        rows = len(holds.tokens) + len(holds.canaries)
        batch = min(params.training.batch_size, rows)
        rate = batch / rows
        units = int(holds.units.unique().numel()) if holds.sampling.unit == "patient" else len(holds.tokens)
        self.learner = Learner(
            initial_network(seat, task).to(seat.device), seat, guard, params.training, expected_batch=batch, rate=rate,
            expected_units=rate * (units + len(holds.canaries)), unit=holds.sampling.unit, holds=holds,
            steps=passes(params.rounds, rows, batch),
        )  # fmt: skip

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Take a step on the batch that the control message names, or release the model when it names none."""
        (message,) = inbox
        if message.receiver == self.seat.id and message.step >= 0:
            rows = self.holds.rows([token for token in message.samples if token not in self.holds.canaries])
            images, regions = self.holds.images, self.holds.regions
            assert images is not None
            assert regions is not None
            self.learner.fit(
                lambda net: self.task.loss(net(images[rows]), regions[rows]).mean(), self.holds.units[rows],
                message.round / self._rounds, [c for token, c in self.holds.canaries.items() if token in message.samples],
            )  # fmt: skip
            return []
        release = Message(
            channel="model", sender=self.seat.id, receiver="outsider", round=message.round, step=0, tensors=self.state()
        )
        sent = self.guard.outgoing(release)
        return [] if sent is None else [sent]

    def state(self) -> Tensors:
        """Return the network's weights."""
        return self.learner.state()


class Centralized(Protocol[CentralizedParams]):
    """One trainer holds all members."""

    canary_roles = ("trainer",)

    def task(self) -> TaskSpec:
        """Return the segmentation task."""
        return TaskSpec(target="leakaudit.models.task:SegmentationTask", params=self.params.task(self.cohort))

    def party(self, seat: Seat, task: Task, guard: Guard, holds: Holdings) -> Party:
        """Return the trainer."""
        return Trainer(seat, task, guard, holds, self.params)

    def run(self, wire: Wire, schedule: Schedule) -> None:
        """Pass over the members `rounds` times and release the model."""
        for round_ in range(schedule.rounds):
            for step, tokens in enumerate(schedule.batches(round_)):
                wire.ask("trainer", [control("trainer", round_, step, tokens)])
        wire.ask("trainer", [control("trainer", schedule.rounds - 1, -1, ())])

    def predictor(self, states: Mapping[str, Tensors], task: Task, guards: Mapping[str, Guard]) -> nn.Module:
        """Return the trained network."""
        return whole_network(task, states["trainer"])

    def replica(self, facts: SeatFacts, task: Task, state: Tensors | None, guard: Guard) -> Replica:
        """Return the network as a function: `send(x=images) -> {"logits"}`."""
        return network_replica(task, state)


def network_replica(task: Task, state: Tensors | None) -> Replica:
    """Return the whole network as a replica: `send(x=images) -> {"logits"}`."""
    network = whole_network(task, state)
    return Replica(lambda x: {"logits": network(x)}, module=network)


def control(receiver: str, round_: int, step: int, tokens: Sequence[str]) -> Message:
    """Return the schedule's instruction to work on a batch; it carries tokens, no data."""
    # One row per token, so that the wire's check of rows against samples holds for control messages too.
    rows = {"rows": torch.arange(len(tokens))}
    return Message(
        channel="control",
        sender="schedule",
        receiver=receiver,
        round=round_,
        step=step,
        tensors=rows,
        samples=tuple(tokens),
    )
