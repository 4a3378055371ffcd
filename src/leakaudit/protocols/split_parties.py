"""The parties of split learning: image client, server, label holder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from leakaudit.models.task import Task, Tensors
from leakaudit.models.unet import SegmentationNet
from leakaudit.protocols.base import Guard, Holdings
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.training import Learner, initial_network, passes
from leakaudit.threats import Channel
from leakaudit.wire.messages import Message
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import Party

__all__ = ["LabelHolder", "MaskSender", "Server", "SplitClient"]

_FORMATS = {"float32": torch.float32, "float16": torch.float16}


def _network(seat: Seat, task: Task) -> SegmentationNet:
    network = initial_network(seat, task)
    if not isinstance(network, SegmentationNet):
        raise TypeError(f"split learning cuts a SegmentationNet; the task builds a {type(network).__name__}")
    return network


class _SplitParty(Party):
    """What the three have in common: seat, defense, data, number format, and a learner."""

    def __init__(self, seat: Seat, task: Task, guard: Guard, holds: Holdings, params: SplitParams, module: nn.Module) -> None:
        self.seat, self.task, self.guard, self.holds, self.params = seat, task, guard, holds, params
        self.names = [f"level{i}" for i in params.sent_levels()]
        rows = len(holds.tokens)
        batch = min(params.training.batch_size, rows) if rows else params.training.batch_size
        rate = batch / rows if rows else 1.0
        units = int(holds.units.unique().numel()) if holds.sampling.unit == "patient" else rows
        self.learner = Learner(
            module.to(seat.device), seat, guard, params.training,
            expected_units=rate * units, expected_batch=batch, rate=rate, unit=holds.sampling.unit,
            holds=holds, steps=passes(params.rounds, rows, batch),
        )  # fmt: skip

    def state(self) -> Tensors:
        return self.learner.state()

    def _message(self, channel: Channel, to: str, like: Message, tensors: Mapping[str, Tensor]) -> Message | None:
        """Return the message to send after the seat's defense, in the wire's number format."""
        message = Message(
            channel=channel, sender=self.seat.id, receiver=to, round=like.round, step=like.step, tensors=dict(tensors),
            samples=like.samples,
        )  # fmt: skip
        sent = self.guard.outgoing(message)
        if sent is None:
            return None
        form = _FORMATS[self.params.wire]
        return sent.carrying({k: t.to(form) if t.is_floating_point() else t for k, t in sent.tensors.items()})

    def _patients(self, tokens: Sequence[str]) -> Tensor:
        if not self.holds.tokens:
            return torch.arange(len(tokens), device=self.seat.device)
        return self.holds.units[self.holds.rows(tokens)]


class SplitClient(_SplitParty):
    """Holds some modalities of every member and the encoder of their features."""

    def __init__(self, seat: Seat, task: Task, guard: Guard, holds: Holdings, params: SplitParams, index: int) -> None:
        super().__init__(seat, task, guard, holds, params, _network(seat, task).encoders[index])
        self._pending: tuple[Message, Tensor | None] | None = None

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Encode the batch that the schedule names, or learn from the gradient that came back."""
        sent: list[Message] = []
        for message in inbox:
            if message.channel == "control":
                sent += self._encode(message)
            elif message.channel == "cut-gradient":
                self._learn(message)
        return sent

    def _encode(self, order: Message) -> list[Message]:
        self.learner.begin(self._patients(order.samples), order.round / self.params.rounds)
        if not order.samples:
            self.learner.finish()
            return []
        assert self.holds.images is not None
        x = self.holds.images[self.holds.rows(order.samples)]
        with self.learner.forward() as encoder:
            levels = encoder(x)
        tensors = {name: levels[i].float() for name, i in zip(self.names, self.params.sent_levels(), strict=True)}
        message = self._message("activation", "server", order, tensors)
        if message is None:
            return []
        self._pending = message, self.guard.penalty(x, message)
        return [message]

    def _learn(self, message: Message) -> None:
        allowed = self.guard.incoming(message)
        if allowed is None or self._pending is None:
            return
        sent, penalty = self._pending
        self._pending = None
        roots = [sent.tensors[name] for name in self.names]
        gradients: list[Tensor | None] = [
            allowed.tensors[name].to(root.dtype) for name, root in zip(self.names, roots, strict=True)
        ]
        if penalty is not None:
            roots.append(penalty)
            gradients.append(None)
        # One backward for all levels: level by level would run per-sample-gradient hooks out of order.
        torch.autograd.backward(roots, gradients)
        self.learner.finish()


class Server(_SplitParty):
    """Fuses what the clients send and decodes; holds the head unless the split is U-shaped."""

    def __init__(self, seat: Seat, task: Task, guard: Guard, holds: Holdings, params: SplitParams, clients: Sequence[str]) -> None:
        network = _network(seat, task)
        parts = {"trunk": network.trunk} if params.labels == "u-shaped" else {"trunk": network.trunk, "head": network.head}
        super().__init__(seat, task, guard, holds, params, nn.ModuleDict(parts))
        self.clients = list(clients)
        self._leaves: dict[str, list[Tensor]] = {}
        self._features: Tensor | None = None

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Take one batch's activations, or in a U-shaped split the gradient of the features, and return gradients."""
        received = [m for m in map(self.guard.incoming, inbox) if m is not None]
        by_channel = {m.channel: m for m in received}
        if "cut-gradient" in by_channel:
            return self._backward_features(by_channel["cut-gradient"])
        activations = {m.sender: m for m in received if m.channel == "activation"}
        if set(activations) != set(self.clients):
            return []  # a client withheld its message: this batch teaches nothing
        first = activations[self.clients[0]]
        self._leaves = {c: [activations[c].tensors[name].float().requires_grad_() for name in self.names] for c in self.clients}
        self.learner.begin(self._patients(first.samples), first.round / self.params.rounds)
        with self.learner.forward() as module:
            assert isinstance(module, nn.ModuleDict)
            features = module["trunk"]([self._leaves[c] for c in self.clients])
            if self.params.labels == "u-shaped":
                self._features = features
                sent = self._message("activation", "labels", first, {"features": features.float()})
                return [] if sent is None else [sent]
            logits = module["head"](features).float()
        self.task.loss(logits, self._regions(first, by_channel.get("label"))).mean().backward()
        self.learner.finish()
        return self._gradients(first)

    def _regions(self, batch: Message, label: Message | None) -> Tensor:
        if label is None:
            assert self.holds.regions is not None
            return self.holds.regions[self.holds.rows(batch.samples)]
        place = {token: i for i, token in enumerate(label.samples)}
        return label.tensors["regions"].float()[[place[token] for token in batch.samples]]

    def _backward_features(self, message: Message) -> list[Message]:
        if self._features is None:
            return []
        torch.autograd.backward([self._features], [message.tensors["features"].to(self._features.dtype)])
        self._features = None
        self.learner.finish()
        return self._gradients(message)

    def _gradients(self, like: Message) -> list[Message]:
        sent = []
        for client in self.clients:
            tensors = {n: t.grad for n, t in zip(self.names, self._leaves[client], strict=True) if t.grad is not None}
            message = self._message("cut-gradient", client, like, tensors)
            if message is not None:
                sent.append(message)
        return sent


class MaskSender(Party):
    """Holds the masks and sends those of each batch to the server."""

    def __init__(self, seat: Seat, guard: Guard, holds: Holdings) -> None:
        self.seat, self.guard, self.holds = seat, guard, holds

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Send the masks of the batch that the schedule names."""
        assert self.holds.regions is not None
        sent: list[Message] = []
        for order in inbox:
            message = Message(
                channel="label", sender=self.seat.id, receiver="server", round=order.round, step=order.step,
                tensors={"regions": self.holds.regions[self.holds.rows(order.samples)]}, samples=order.samples,
            )  # fmt: skip
            guarded = self.guard.outgoing(message)
            sent += [] if guarded is None else [guarded]
        return sent


class LabelHolder(_SplitParty):
    """Holds the masks and the head of a U-shaped split, so that masks never leave."""

    def __init__(self, seat: Seat, task: Task, guard: Guard, holds: Holdings, params: SplitParams) -> None:
        super().__init__(seat, task, guard, holds, params, nn.ModuleDict({"head": _network(seat, task).head}))

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Compute the loss on the server's features and return their gradient."""
        return [sent for message in inbox if (sent := self._loss(message)) is not None]

    def _loss(self, message: Message) -> Message | None:
        allowed = self.guard.incoming(message)
        if allowed is None:
            return None
        assert self.holds.regions is not None
        regions = self.holds.regions[self.holds.rows(message.samples)]
        features = allowed.tensors["features"].float().requires_grad_()
        self.learner.begin(self._patients(message.samples), message.round / self.params.rounds)
        with self.learner.forward() as module:
            assert isinstance(module, nn.ModuleDict)
            logits = module["head"](features).float()
        self.task.loss(logits, regions).mean().backward()
        self.learner.finish()
        assert features.grad is not None
        return self._message("cut-gradient", "server", message, {"features": features.grad})
