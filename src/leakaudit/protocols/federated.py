"""Federated averaging over sites that hold different patients (McMahan et al. 2017, arXiv 1602.05629)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from leakaudit.defenses.chain import replaces_training
from leakaudit.facts import SeatFacts
from leakaudit.models.task import Task, TaskSpec, Tensors
from leakaudit.protocols.base import Guard, Holdings, Protocol
from leakaudit.protocols.centralized import control, network_replica, whole_network
from leakaudit.protocols.federated_parties import Aggregator, Site, average
from leakaudit.protocols.params import FederatedParams
from leakaudit.protocols.schedule import Schedule
from leakaudit.wire.messages import Message
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import NotFiniteError, Party, Wire, WireError

__all__ = ["Aggregator", "Federated", "Site", "average"]


class Federated(Protocol[FederatedParams]):
    """Rounds of broadcast, local training and averaging."""

    canary_roles = ("site",)

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
        count = self.params.asked(len(sites))
        for round_ in range(self.params.rounds):
            # Drawn as if nobody had left: the others take part in the same rounds with and without a fault plan.
            chosen = sorted(torch.randperm(len(sites), generator=draw)[:count].tolist())
            self._round(wire, round_, [sites[index] for index in chosen])
        wire.ask("aggregator", [control("aggregator", self.params.rounds - 1, 1, ("outsider",))])

    def _round(self, wire: Wire, round_: int, chosen: Sequence[str]) -> None:
        """Ask those of the chosen sites that have not left for updates, and hand over what arrived."""
        faults = self.params.dropouts
        for fault in faults:
            if fault.round == round_:
                wire.note(fault.words(), round_)
        away = {fault.site for fault in faults if fault.is_away(round_)}
        updates = [update for site in chosen if site not in away for update in self._updates_of(wire, round_, site)]
        if not updates:
            wire.note("no update arrived, and the model stayed as it was", round_)
            return
        self._deliver(wire, updates, frozenset(fault.site for fault in faults if fault.is_silent(round_)))

    def _updates_of(self, wire: Wire, round_: int, site: str) -> Sequence[Message]:
        """Send a site the model and return its update; none where it is left out for numbers that are not finite."""
        model = wire.ask("aggregator", [control("aggregator", round_, 0, (site,))])
        try:
            return wire.ask(site, model)
        except NotFiniteError as error:
            if self.params.on_bad_update == "fail" or error.channel != "update":
                raise
            wire.note(f"the update of site {site!r} was not finite and was left out", round_)
            return []

    def _deliver(self, wire: Wire, updates: Sequence[Message], silent: frozenset[str]) -> None:
        """Hand over a round's updates, then carry questions and answers until the aggregator has no more to ask.

        Args:
            wire: The wire.
            updates: What arrived.
            silent: Sites that have left since: they are asked in vain.

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
            there = [q for q in questions if q.receiver not in silent]
            questions = wire.ask("aggregator", [a for q in there for a in wire.ask(q.receiver, [q])])

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
            update = Message(
                channel="update", sender=facts.id, receiver="aggregator", round=-1, step=-1,
                tensors=task.update(parameters, x, y, steps),
            )  # fmt: skip
            sent = guard.outgoing(update)
            if sent is None:
                raise ValueError(f"the defense of {facts.id!r} withholds its update")
            return sent.tensors

        return Replica(send, module=network, defended=not replaces_training(guard))
