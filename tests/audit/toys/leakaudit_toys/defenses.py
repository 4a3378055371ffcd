"""Toy defenses: noise from the seat's own stream, noise from the global generator, and one that only asks for a sampling."""

from __future__ import annotations

import torch

from leakaudit.defenses import Defense
from leakaudit.wire import Alarm, Message, Seat
from leakaudit_toys.params import GlobalNoise as GlobalNoiseParams
from leakaudit_toys.params import Noise as NoiseParams
from leakaudit_toys.params import Poisson, Watchful


class Noise(Defense[NoiseParams]):
    def outgoing(self, message: Message) -> Message:
        draw = self.seat.rng("noise")
        return message.carrying(
            {k: t + self.params.sigma * torch.randn(t.shape, generator=draw) for k, t in message.tensors.items()}
        )


class GlobalNoise(Defense[GlobalNoiseParams]):
    """Like dropout, it knows no generator of its own."""

    def incoming(self, message: Message) -> Message:
        if message.channel != "activation":
            return message
        return message.carrying({k: t + 0.1 * torch.randn(t.shape) for k, t in message.tensors.items()})


class Nothing(Defense[Poisson]):
    pass


class Watch(Defense[Watchful]):
    """Raises the alarm when gradients are parallel to what was sent: what the toy hijacker makes of them."""

    def __init__(self, params: Watchful, seat: Seat) -> None:
        super().__init__(params, seat)
        self._sent: dict[str, torch.Tensor] = {}
        self._seen = 0

    def outgoing(self, message: Message) -> Message:
        self._sent = {k: t.detach() for k, t in message.tensors.items()}
        return message

    def incoming(self, message: Message) -> Message:
        alike = [torch.cosine_similarity(t.flatten(), self._sent[k].flatten(), dim=0) for k, t in message.tensors.items()]
        if self.params.nervous or min(alike) > 0.999:
            self._seen += 1
        if self._seen >= self.params.patience:
            raise Alarm("toy-watch", f"{self._seen} batches look hijacked", float(self._seen))
        return message
