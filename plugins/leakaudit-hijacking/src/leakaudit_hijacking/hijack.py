"""Feature-space hijacking of one client: pilot, decoders and critics, and the gradient that the client is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leakaudit.wire import Seat
from leakaudit_hijacking.hijack_params import FeatureSpaceHijackParams
from leakaudit_hijacking.networks import Critic, Pilot, decoder_for
from leakaudit_hijacking.setting import fresh_networks
from leakaudit_hijacking.wgan import client_loss, critic_loss, gradient_penalty

__all__ = ["Hijack"]

Draw = Callable[[int], Tensor]
"""Gives as many of the adversary's images as asked for, (n, modalities, *spatial)."""


class Hijack:
    """Teaches one client to send features that the adversary's decoders read.

    Pasquini, Ateniese and Bernaschi (CCS 2021, arXiv 2012.02670). The pilot and the decoders form an autoencoder on the
    adversary's images; a critic for each level tells the client's features from the pilot's; and the client is given the
    gradient that makes its features look like the pilot's.

    Args:
        params: The attack's parameters.
        seat: The adversary's seat.
        client: The client's id.
        levels: Shape (channels, *spatial) of each attacked level, shallowest first.
        inputs: Number of the client's modalities.
        shape: Spatial shape of the images.
    """

    def __init__(
        self, params: FeatureSpaceHijackParams, seat: Seat, client: str, levels: Mapping[str, tuple[int, ...]], inputs: int,
        shape: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.params, self._mix = params, seat.rng(f"interpolation for {client}")
        with fresh_networks(seat, f"networks for {client}"):
            self.pilot = Pilot(inputs, shape, levels, params.pilot).to(seat.device)
            self.decoders = nn.ModuleDict({
                name: decoder_for(params.decoder, size, shape, inputs, params.decoder_width) for name, size in levels.items()
            }).to(seat.device)  # fmt: skip
            self.critics = nn.ModuleDict({
                name: Critic(size[0], tuple(size[1:]), width=params.critic_width, blocks=params.critic_blocks)
                for name, size in levels.items()
            }).to(seat.device)  # fmt: skip
        self._encode = torch.optim.Adam([
            {"params": self.pilot.parameters(), "lr": params.pilot_rate},
            {"params": self.decoders.parameters(), "lr": params.decoder_rate},
        ])  # fmt: skip
        self._judge = torch.optim.Adam(self.critics.parameters(), lr=params.critic_rate)

    def pretrain(self, draw: Draw) -> None:
        """Train pilot and decoders before the first reply."""
        for _ in range(self.params.pilot_iterations):
            self._autoencode(draw(self.params.pilot_batch))

    def _autoencode(self, x: Tensor) -> dict[str, Tensor]:
        """Take one step of pilot and decoders, and return the pilot's features before it."""
        self._encode.zero_grad(set_to_none=True)
        features = self.pilot(x)
        loss = torch.stack([F.mse_loss(decoder(features[name]), x) for name, decoder in self.decoders.items()]).sum()
        loss.backward()
        self._encode.step()
        return {name: t.detach() for name, t in features.items()}

    def _public(self, x: Tensor) -> dict[str, Tensor]:
        """Return the pilot's features of the adversary's images, training pilot and decoders on them unless frozen."""
        if not self.params.pilot_frozen:
            return self._autoencode(x)
        with torch.no_grad():
            found: dict[str, Tensor] = self.pilot(x)
        return found

    def step(self, private: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """Return the gradient for the client at each attacked level, and learn from what it sent.

        Args:
            private: What the client sent, by level, (n, channels, *spatial).
            draw: Gives images of the adversary.
        """
        z = {name: private[name].detach().float() for name in self.critics}
        gradients = {name: self._gradient(critic, z[name]) for name, critic in self.critics.items()}
        count = len(next(iter(z.values())))
        for _ in range(self.params.critic_steps):
            self._criticize(z, self._public(draw(count)))
        return gradients

    @staticmethod
    def _gradient(critic: nn.Module, z: Tensor) -> Tensor:
        leaf = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(client_loss(critic(leaf)), leaf)
        return gradient

    def _criticize(self, private: Mapping[str, Tensor], public: Mapping[str, Tensor]) -> None:
        """Take one step of every critic."""
        self._judge.zero_grad(set_to_none=True)
        for name, critic in self.critics.items():
            mix = torch.rand(len(private[name]), generator=self._mix, device=self._mix.device).to(private[name].device)
            penalty = gradient_penalty(critic, private[name], public[name], mix, self.params.penalty_norm)
            both = critic(torch.cat([private[name], public[name]])).chunk(2)
            (critic_loss(*both) + self.params.penalty * penalty).backward()
        self._judge.step()

    def state(self) -> dict[str, Tensor]:
        """Return the decoders' weights as `"<level>/<parameter>"`."""
        return {
            f"{level}/{name}": t.detach().clone()
            for level, decoder in self.decoders.items()
            for name, t in decoder.state_dict().items()
        }
