"""Split learning over modalities: clients encode, a server fuses and decodes (Split-U-Net, arXiv 2208.10553)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from torch import Tensor, nn

from leakaudit.facts import SeatFacts
from leakaudit.models.task import Task, TaskSpec, Tensors
from leakaudit.models.unet import SegmentationNet
from leakaudit.protocols.base import Guard, Holdings, Protocol
from leakaudit.protocols.centralized import control
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.schedule import Schedule
from leakaudit.protocols.split_parties import LabelHolder, MaskSender, Server, SplitClient
from leakaudit.wire.messages import Message
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import Party, Wire

__all__ = ["Split"]


class Split(Protocol[SplitParams]):
    """Any number of image clients, a server, and where the masks are not at the server, a label holder."""

    def task(self) -> TaskSpec:
        """Return the segmentation task."""
        return TaskSpec(target="leakaudit.models.task:SegmentationTask", params=self.params.task(self.cohort))

    @property
    def clients(self) -> tuple[str, ...]:
        """Ids of the image clients, in the order of the encoders."""
        return tuple(seat.id for seat in self.facts.seats_of("client"))

    def party(self, seat: Seat, task: Task, guard: Guard, holds: Holdings) -> Party:
        """Return the client, server or label holder of a seat."""
        match seat.role:
            case "client":
                return SplitClient(seat, task, guard, holds, self.params, self.clients.index(seat.id))
            case "server":
                return Server(seat, task, guard, holds, self.params, self.clients)
            case _ if self.params.labels == "sent":
                return MaskSender(seat, guard, holds)
            case _:
                return LabelHolder(seat, task, guard, holds, self.params)

    def run(self, wire: Wire, schedule: Schedule) -> None:
        """For every batch: activations forward, gradients back."""
        for round_ in range(schedule.rounds):
            for step, tokens in enumerate(schedule.batches(round_)):
                self._batch(wire, round_, step, tokens)

    def _batch(self, wire: Wire, round_: int, step: int, tokens: Sequence[str]) -> None:
        to_server: list[Message] = []
        for client in self.clients:
            to_server += wire.ask(client, [control(client, round_, step, tokens)])
        if not tokens:  # an empty Poisson batch: the clients have taken their noise-only step, nothing crosses
            return
        if self.params.labels == "sent":
            to_server += wire.ask("labels", [control("labels", round_, step, tokens)])
        sent = wire.ask("server", to_server)
        if self.params.labels == "u-shaped":
            back = wire.ask("labels", [m for m in sent if m.receiver == "labels"])
            sent = wire.ask("server", back)
        for client in self.clients:
            wire.ask(client, [m for m in sent if m.receiver == client])

    def predictor(self, states: Mapping[str, Tensors], task: Task, guards: Mapping[str, Guard]) -> nn.Module:
        """Return the assembled network; the clients' defenses still act on what crosses the wire at prediction."""
        network = task.build()
        assert isinstance(network, SegmentationNet)
        for i, client in enumerate(self.clients):
            network.encoders[i] = _loaded(guards[client].adapt(network.encoders[i]), states[client])
        rest = dict(states["server"]) | dict(states.get("labels", {}))
        _loaded(nn.ModuleDict({"trunk": network.trunk, "head": network.head}), rest)
        return Deployed(network, [(client, guards[client]) for client in self.clients]).eval()

    def replica(self, facts: SeatFacts, task: Task, state: Tensors | None, guard: Guard) -> Replica:
        """Return a seat's public computation.

        A client sends its levels for `x=`; the server gives `"logits"` (U-shaped: `"features"`) for inputs named
        `"<client>.<level>"`; the label holder of a U-shaped split gives `"logits"` for `features=`.
        """
        network = task.build()
        assert isinstance(network, SegmentationNet)
        names = [f"level{i}" for i in network.levels]
        if facts.role == "client":
            encoder = _loaded(guard.adapt(network.encoders[self.clients.index(facts.id)]), state)

            def send(x: Tensor) -> Tensors:
                return defended(guard, facts.id, [encoder(x)[i] for i in network.levels], names)

            return Replica(send, module=encoder)
        if facts.role == "server":
            u_shaped = self.params.labels == "u-shaped"
            parts = {"trunk": network.trunk} if u_shaped else {"trunk": network.trunk, "head": network.head}
            server = _loaded(nn.ModuleDict(parts), state)

            def decode(**levels: Tensor) -> Tensors:
                out = server["trunk"]([[levels[f"{client}.{name}"] for name in names] for client in self.clients])
                return {"features": out} if u_shaped else {"logits": server["head"](out)}

            return Replica(decode, module=server)
        if self.params.labels != "u-shaped":
            raise NotImplementedError("the label holder computes nothing: it only sends masks")
        head = _loaded(nn.ModuleDict({"head": network.head}), state)
        return Replica(lambda features: {"logits": head["head"](features)}, module=head)


M = TypeVar("M", bound=nn.Module)


def _loaded(module: M, state: Tensors | None) -> M:
    if state is not None:
        module.load_state_dict(dict(state))
    return module


def defended(guard: Guard, client: str, levels: Sequence[Tensor], names: Sequence[str]) -> Tensors:
    """Return what a client sends for its levels, by name, with its defenses applied.

    Raises:
        ValueError: A defense withholds the message.
    """
    tensors = dict(zip(names, levels, strict=True))
    samples = tuple(str(i) for i in range(len(levels[0])))
    message = Message(channel="activation", sender=client, receiver="server", round=-1, step=-1, tensors=tensors, samples=samples)
    sent = guard.outgoing(message)
    if sent is None:
        raise ValueError(f"the defense of {client!r} withholds its activations: there is no prediction")
    return sent.tensors


class Deployed(nn.Module):
    """The assembled network with the clients' defenses on what crosses the wire.

    Args:
        network: The network with its trained parts.
        clients: Id and defense of each encoder's client.
    """

    def __init__(self, network: SegmentationNet, clients: Sequence[tuple[str, Guard]]) -> None:
        super().__init__()
        self.network = network
        self._clients = list(clients)

    def forward(self, x: Tensor) -> Tensor:
        """Return region logits (n, outputs, *spatial)."""
        net = self.network
        names = [f"level{i}" for i in net.levels]
        features = []
        for (client, guard), group, encoder in zip(self._clients, net.groups, net.encoders, strict=True):
            levels = encoder(x[:, group])
            sent = defended(guard, client, [levels[i] for i in net.levels], names)
            features.append([sent[name].to(x.dtype) for name in names])
        return cast(Tensor, net.head(net.trunk(features)))
