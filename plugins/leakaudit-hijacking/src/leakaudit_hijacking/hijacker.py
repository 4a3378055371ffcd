"""The party that a hijacking server is: it answers the clients with gradients of its own making, within the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from leakaudit.wire import Message, Party, Seat
from leakaudit_hijacking.base_params import u_shaped
from leakaudit_hijacking.hijack import Draw, Hijack
from leakaudit_hijacking.hijack_params import FeatureSpaceHijackParams
from leakaudit_hijacking.setting import attacked_levels, facts_of, pool_of

__all__ = ["Hijacker", "mixed_reply"]


class Hijacker(Party):
    """Plays the server and replaces the gradients that attacked clients get.

    The honest server goes on underneath: other clients and the label holder get its messages, its part of the network is
    trained on whatever the clients now send, and its defenses still act on its messages. So the training keeps the shape that
    everybody expects, in a U-shaped split too, where masks never come.

    Args:
        honest: The honest server.
        seat: The adversary's seat.
        params: The attack's parameters.
    """

    def __init__(self, honest: Party, seat: Seat, params: FeatureSpaceHijackParams) -> None:
        self.honest, self.seat, self.params = honest, seat, params
        self.hijacks: dict[str, Hijack] = {}
        self._pool = pool_of(seat, "feature-space-hijack")
        self._u_shaped = u_shaped(facts_of(seat))
        self._pending: dict[str, tuple[Message, dict[str, Tensor]]] = {}

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Learn from what the clients sent, and answer in the honest server's place once it would answer them."""
        sent = list(self.honest.reply(inbox))
        arrived = {m.sender: m for m in inbox if m.channel == "activation"}
        if arrived:
            self._pending = self._learn(arrived)
            if self._u_shaped:
                return sent  # to the label holder: the clients' turn comes when it has answered
        honest = {m.receiver: m for m in sent}
        for client, (activation, gradients) in self._pending.items():
            reply = mixed_reply(self.seat.id, activation, gradients, honest.get(client), self.params.task_weight)
            if reply is not None:
                honest[client] = reply
        self._pending = {}
        return list(honest.values())

    def _learn(self, arrived: Mapping[str, Message]) -> dict[str, tuple[Message, dict[str, Tensor]]]:
        found = {}
        for client in self.params.clients or self._pool.channels:
            if client in arrived:
                draw = self._draw(client)
                found[client] = arrived[client], self._hijack(client, arrived[client], draw).step(arrived[client].tensors, draw)
        return found

    def _draw(self, client: str) -> Draw:
        return lambda count: self._pool.images(client, self._pool.rows(count))

    def _hijack(self, client: str, sent: Message, draw: Draw) -> Hijack:
        """Return the hijack of a client, made when it first sends: only then are the shapes of its features known."""
        if client not in self.hijacks:
            levels = attacked_levels(sent.tensors, self.params.levels)
            example = draw(1)
            made = Hijack(self.params, self.seat, client, levels, example.shape[1], tuple(example.shape[2:]))
            made.pretrain(draw)
            self.hijacks[client] = made
        return self.hijacks[client]

    def state(self) -> dict[str, Tensor]:
        """Return the decoders' weights as `"<client>/<level>/<parameter>"`."""
        return {f"{client}/{name}": t for client, hijack in self.hijacks.items() for name, t in hijack.state().items()}


def mixed_reply(
    sender: str, activation: Message, hijack: Mapping[str, Tensor], honest: Message | None, task_weight: float
) -> Message | None:
    """Return the reply to a client: the hijack's gradient, the honest one, or a mixture of equal lengths.

    Args:
        sender: The server's seat.
        activation: What the client sent; the reply has its levels and its number format.
        hijack: The hijack's gradient by attacked level; other levels count as zero.
        honest: The honest server's reply; None where it gives none.
        task_weight: Share w of the honest gradient g: w g + (1 - w) |g| h / |h|. The lengths are those of all levels
            together. 0 gives h itself, 1 the honest reply untouched.
    """
    if task_weight == 1:
        return honest
    h = {name: hijack.get(name, torch.zeros_like(t)).to(t.dtype) for name, t in activation.tensors.items()}
    if task_weight and honest is not None:
        g = {name: honest.tensors[name].float() for name in h}
        share = (1 - task_weight) * _length(g) / _length(h).clamp_min(1e-30)
        h = {name: (task_weight * g[name] + share * t.float()).to(t.dtype) for name, t in h.items()}
    return Message(
        channel="cut-gradient", sender=sender, receiver=activation.sender, round=activation.round, step=activation.step,
        tensors=h, samples=activation.samples,
    )  # fmt: skip


def _length(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([t.float().square().sum() for t in tensors.values()]).sum().sqrt()
