"""Toy defenses: noise from the seat's own stream, noise from the global generator, and one that only asks for a sampling."""

from __future__ import annotations

import torch

from leakaudit.defenses import Defense
from leakaudit.wire import Message
from leakaudit_toys.params import GlobalNoise as GlobalNoiseParams
from leakaudit_toys.params import Noise as NoiseParams
from leakaudit_toys.params import Poisson


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
