"""Layers behind the encoder that a client trains along: a bottleneck, and noise that learns its own scale (Shredder)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from leakaudit.defenses import Defense
from leakaudit.errors import UserError
from leakaudit.wire import Message
from leakaudit_cut.noise import laplace
from leakaudit_cut.params_learned import BottleneckParams, ShredderParams

__all__ = ["Bottleneck", "Behind", "Shredder"]


class Behind(nn.Module):
    """An encoder with a layer behind each of some levels.

    Args:
        inner: The encoder, which has `channels` and returns one tensor per level.
        layers: Layer by level name; levels without one pass as they are.
    """

    def __init__(self, inner: nn.Module, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.inner = inner
        self.layers = nn.ModuleDict(layers)
        self.channels = channels_of(inner)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every level."""
        features = self.inner(x)
        return [self.layers[f"level{i}"](z) if f"level{i}" in self.layers else z for i, z in enumerate(features)]


def channels_of(encoder: nn.Module) -> tuple[int, ...]:
    """Return the channels of an encoder's levels.

    Raises:
        UserError: It does not say how many it has.
    """
    channels = getattr(encoder, "channels", None)
    if not isinstance(channels, Sequence):
        raise UserError(f"{type(encoder).__name__} does not say how many channels its levels have (attribute `channels`)")
    return tuple(channels)


class _Narrow(nn.Module):
    """A 1x1 convolution to `kept` channels, padded with zero channels to the number that the receiver expects."""

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(kept, channels) / channels**0.5)
        self._missing = channels - kept

    def forward(self, z: Tensor) -> Tensor:
        mixed = torch.einsum("kc,nc...->nk...", self.weight, z)
        return torch.cat([mixed, z.new_zeros(len(z), self._missing, *z.shape[2:])], dim=1)


def _chosen(channels: Sequence[int], levels: list[str] | None) -> dict[str, int]:
    names = {f"level{i}": c for i, c in enumerate(channels)}
    return {name: c for name, c in names.items() if levels is None or name in levels}


class Bottleneck(Defense[BottleneckParams]):
    """Sends few learned mixtures of a level's channels: what the task does not need need not be sent."""

    def adapt(self, module: nn.Module) -> nn.Module:
        """Return the encoder with the narrow layers behind it."""
        wide = {n: c for n, c in _chosen(channels_of(module), self.params.levels).items() if c > self.params.channels}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed())
            layers: dict[str, nn.Module] = {name: _Narrow(c, self.params.channels) for name, c in wide.items()}
        return Behind(module, {name: layer.to(self.seat.device) for name, layer in layers.items()})

    def _seed(self) -> int:
        """Return the seed of the first weights: the honest seats' own, or in a replica, which has none, a fresh one."""
        try:
            return self.seat.shared_seed(f"bottleneck of {self.seat.id}")
        except PermissionError:
            generator = self.seat.rng("bottleneck")
            return int(torch.randint(2**62, (1,), generator=generator, device=generator.device))


class _Noise(nn.Module):
    """Location and logarithmic scale of a level's noise, by channel; the noise itself is added on the way out."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.full((channels,), start).log())

    def forward(self, z: Tensor) -> Tensor:
        # A product that is differentiable keeps per-sample-gradient hooks in order; the values pass as they are.
        return z + 0 * (self.location.sum() + self.log_scale.sum())

    def noised(self, z: Tensor, generator: torch.Generator) -> Tensor:
        shape = (1, -1, *[1] * (z.dim() - 2))
        return z + self.location.reshape(shape) + self.log_scale.exp().reshape(shape) * laplace(z, generator)


class Shredder(Defense[ShredderParams]):
    """Learned Laplace noise: as much by channel as the task bears (Mireshghallah et al., ASPLOS 2020, arXiv 1905.11814).

    The original learns a collection of noise tensors and samples from their fit; here location and scale are learned by
    channel in the client's own training, which serves any image size. Both are part of the client's weights.
    """

    _noise: dict[str, _Noise] | None = None

    def adapt(self, module: nn.Module) -> nn.Module:
        """Return the encoder with the noise parameters behind it, so that they are trained and stored along."""
        chosen = _chosen(channels_of(module), self.params.levels)
        self._noise = {name: _Noise(channels, self.params.start).to(self.seat.device) for name, channels in chosen.items()}
        return Behind(module, cast("dict[str, nn.Module]", self._noise))

    def outgoing(self, message: Message) -> Message:
        """Return the message with fresh learned noise on its activations."""
        if message.channel != "activation" or self._noise is None:
            return message
        generator = self.seat.rng("shredder")
        noised = {name: self._noise[name].noised(t, generator) for name, t in message.tensors.items() if name in self._noise}
        return message.carrying({**message.tensors, **noised})

    def penalty(self, x: Tensor, sent: Message) -> Tensor | None:
        """Return minus the mean log scale of the noise, weighted: more noise is rewarded."""
        if self._noise is None or self.params.strength == 0:
            return None
        scales = [self._noise[name].log_scale.mean() for name in sent.tensors if name in self._noise]
        return -self.params.strength * torch.stack(scales).mean() if scales else None
