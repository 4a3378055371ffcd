"""The party that rides on an honest server: it forwards every reply untouched and simulates the clients beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leakaudit.wire import Message, Party, Seat
from leakaudit_hijacking.base_params import u_shaped
from leakaudit_hijacking.reading import labels_of
from leakaudit_hijacking.sdar_params import SdarParams
from leakaudit_hijacking.server import ServerCopy
from leakaudit_hijacking.setting import attacked_levels, facts_of, pool_of
from leakaudit_hijacking.simulation import Batch, Features, Simulation, Victims

__all__ = ["HEAD", "Rider"]

HEAD = ("labels", "head")
"""Where the simulated head's weights stand among those that the rider leaves."""


class Rider(Party):
    """Looks on as the server, with randomness and networks of its own.

    Args:
        honest: The honest server.
        seat: The adversary's seat.
        params: The attack's parameters.
    """

    def __init__(self, honest: Party, seat: Seat, params: SdarParams) -> None:
        self.honest, self.seat, self.params = honest, seat, params
        self._server = ServerCopy(lambda seat_id: seat.replica(seat_id), seat.id)
        if u_shaped(facts_of(seat)):
            self._server.simulate_head()
        self._pool = pool_of(seat, "sdar")
        self._simulation: Simulation | None = None

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Forward the honest reply, then learn from what arrived."""
        sent = self.honest.reply(inbox)
        arrived = {m.sender: m for m in inbox if m.channel == "activation"}
        if set(self._pool.channels) <= set(arrived):  # where a client withheld its part, nothing can be predicted
            private = {c: {name: t.float() for name, t in arrived[c].tensors.items()} for c in self._pool.channels}
            self._learn(private, labels_of(inbox, next(iter(arrived.values())).samples))
        return sent

    def _learn(self, private: Features, labels: Tensor | None) -> None:
        self._server.follow(self.honest.state())
        if self._simulation is None:
            self._simulation = self._prepared(private)
        count = self.params.batch_size or len(next(iter(next(iter(private.values())).values())))
        for _ in range(self.params.steps):
            rows = self._pool.rows(count)
            images = {client: self._pool.images(client, rows) for client in self._pool.channels}
            masks = self._pool.masks(rows)
            if self._server.has_simulated_head:
                masks = self._flipped(masks)
            self._simulation.step(Batch(private=private, labels=labels, images=images, masks=masks))

    def _prepared(self, private: Features) -> Simulation:
        """Return the simulation, made with the first batch: only then are the shapes of the features known."""
        pool, loss = self._pool, self.seat.task.loss
        attacked = [client for client in pool.channels if client in (self.params.clients or pool.channels)]
        victims = Victims(
            levels={client: attacked_levels(private[client], self.params.levels) for client in attacked},
            inputs={client: len(pool.channels[client]) for client in attacked},
            shape=pool.shape, outputs=pool.masks([0]).shape[1],
            condition=self.params.resolved(facts_of(self.seat)),
        )  # fmt: skip
        simulators = {client: self.seat.replica(client) for client in pool.channels}
        return Simulation(self.params, self.seat, simulators, self._server.predict, loss, victims, self._server.head_parameters())

    def _flipped(self, masks: Tensor) -> Tensor:
        """Exchange a share of the masks at random."""
        generator = self.seat.rng("exchanged masks")
        chosen = torch.rand(len(masks), generator=generator, device=generator.device) < self.params.label_flip
        order = torch.randperm(len(masks), generator=generator, device=generator.device)
        return torch.where(chosen.reshape(-1, *(1,) * (masks.ndim - 1)), masks[order], masks)

    def state(self) -> dict[str, Tensor]:
        """Return the decoders' weights as `"<client>/<level>/<parameter>"`, and those of a simulated head."""
        if self._simulation is None:
            return {}
        found = {
            f"{client}/{level}/{name}": t
            for (client, level), decoder in self._simulation.decoders.items()
            for name, t in decoder.state_dict().items()
        }
        found |= {f"{HEAD[0]}/{HEAD[1]}/{name}": t for name, t in self._server.head_state().items()}
        return {name: t.detach().clone() for name, t in found.items()}
