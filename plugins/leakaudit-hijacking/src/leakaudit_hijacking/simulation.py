"""Simulation of a split network beside its training: simulators of the clients, discriminators, decoders."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leakaudit.wire import Replica, Seat
from leakaudit_hijacking.adversarial import conditioned, deceive, discriminate
from leakaudit_hijacking.networks import Critic, decoder_for
from leakaudit_hijacking.sdar_params import SdarParams
from leakaudit_hijacking.setting import fresh_networks

__all__ = ["Batch", "Features", "Simulation", "Victims", "flat"]

Features = Mapping[str, Mapping[str, Tensor]]
"""Features by client and level."""
_Networks = dict[tuple[str, str], nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True)
class Victims:
    """What is attacked.

    Attributes:
        levels: Shape (channels, *spatial) of each attacked level of each attacked client.
        inputs: Number of modalities of each attacked client.
        shape: Spatial shape of the images.
        outputs: Channels of a mask.
        condition: Which mask decoders and discriminators see.
    """

    levels: Mapping[str, Mapping[str, tuple[int, ...]]]
    inputs: Mapping[str, int]
    shape: tuple[int, ...]
    outputs: int
    condition: Literal["labels", "predictions", "none"]

    @property
    def further(self) -> int:
        """Channels that the condition adds."""
        return 0 if self.condition == "none" else self.outputs

    def endpoints(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield client, level and shape of every attacked level."""
        for client, levels in self.levels.items():
            for level, size in levels.items():
                yield client, level, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's data.

    Attributes:
        private: What all clients sent.
        labels: Mask of each private sample (n, outputs, *spatial) where the condition is `"labels"`.
        images: The adversary's images of every client.
        masks: Their masks (m, outputs, *spatial).
    """

    private: Features
    labels: Tensor | None
    images: Mapping[str, Tensor]
    masks: Tensor


class Simulation:
    """SDAR (Zhu et al., NDSS 2025, arXiv 2310.10483); without discriminators PCAT (Gao and Zhang, USENIX Security 2023).

    One simulator e for each client learns, with the server's own network g frozen, to predict the adversary's masks from
    its images: L(g(e(x')), y') + lambda1 BCE(D1(e(x'), y'), 1), summed over the levels of the client. D1 takes the victims'
    features z for real. A decoder d for each level learns MSE(d(e(x'), y'), x') + lambda2 BCE(D2(d(z, y), y), 1), where D2
    takes the adversary's images for real.

    Args:
        params: The attack's parameters.
        seat: The adversary's seat.
        simulators: Replica of every client: the fusing server needs the features of all.
        predict: The server's network (and in a U-shaped split the simulated head): logits from features by "client.level".
        loss: The task's loss, one number per sample, from logits and masks.
        victims: What is attacked.
        head: Parameters of the simulated head, if there is one.
    """

    def __init__(
        self, params: SdarParams, seat: Seat, simulators: Mapping[str, Replica], predict: Callable[[Mapping[str, Tensor]], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor], victims: Victims, head: Iterable[nn.Parameter] = (),
    ) -> None:  # fmt: skip
        self.params, self.simulators, self.predict, self.loss, self.victims = params, simulators, predict, loss, victims
        self.decoders = self._networks(seat, "decoders", self._decoder)
        self.feature_judges = self._networks(seat, "feature discriminators", self._feature_judge, params.feature_weight)
        self.image_judges = self._networks(seat, "image discriminators", self._image_judge, params.image_weight)
        encoders = [p for replica in simulators.values() if replica.module is not None for p in replica.module.parameters()]
        groups = [{"params": encoders, "lr": params.simulator_rate}, {"params": list(head), "lr": params.head_rate}]
        self._simulate = torch.optim.Adam([group for group in groups if group["params"]])
        self._decode = _adam(self.decoders, params.decoder_rate)
        self._judge_features = _adam(self.feature_judges, params.feature_rate)
        self._judge_images = _adam(self.image_judges, params.image_rate)

    def _networks(
        self, seat: Seat, purpose: str, make: Callable[[str, tuple[int, ...]], nn.Module], weight: float = 1
    ) -> _Networks:
        if not weight:
            return {}
        with fresh_networks(seat, purpose):
            return {(client, level): make(client, size).to(seat.device) for client, level, size in self.victims.endpoints()}

    def _decoder(self, client: str, size: tuple[int, ...]) -> nn.Module:
        seen = (size[0] + self.victims.further, *size[1:])
        return decoder_for(self.params.decoder, seen, self.victims.shape, self.victims.inputs[client], self.params.decoder_width)

    def _feature_judge(self, client: str, size: tuple[int, ...]) -> nn.Module:
        return self._judge(size[0], tuple(size[1:]))

    def _image_judge(self, client: str, size: tuple[int, ...]) -> nn.Module:
        return self._judge(self.victims.inputs[client], self.victims.shape)

    def _judge(self, channels: int, size: tuple[int, ...]) -> nn.Module:
        p = self.params
        return Critic(channels + self.victims.further, size, width=p.discriminator_width, blocks=p.discriminator_blocks)

    def private_condition(self, private: Features, labels: Tensor | None) -> Tensor | None:
        """Return the mask of the victims' samples as decoders and discriminators see it."""
        if self.victims.condition == "predictions":
            with torch.no_grad():
                return self.predict(flat(private)).sigmoid()
        return labels if self.victims.condition == "labels" else None

    def step(self, batch: Batch) -> None:
        """Take one step of everything on one batch."""
        known = self.private_condition(batch.private, batch.labels)
        public, own = self._train_simulators(batch)
        for (client, level), judge in self.feature_judges.items():
            real, fake = conditioned(batch.private[client][level], known), conditioned(public[client][level], own)
            discriminate(judge(real), judge(fake)).backward()
        _take(self._judge_features)
        decoded = self._train_decoders(batch, public, known, own)
        for (client, level), judge in self.image_judges.items():
            real, fake = conditioned(batch.images[client], own), conditioned(decoded[client, level], known)
            discriminate(judge(real), judge(fake)).backward()
        _take(self._judge_images)

    def _train_simulators(self, batch: Batch) -> tuple[dict[str, dict[str, Tensor]], Tensor | None]:
        """Take one step of the simulators; return their features before it, cut off, and the condition of their samples."""
        public = {c: {k: t.float() for k, t in e.send(x=batch.images[c]).items()} for c, e in self.simulators.items()}
        logits = self.predict(flat(public))
        own = {"labels": batch.masks, "predictions": logits.detach().sigmoid(), "none": None}[self.victims.condition]
        loss = self.loss(logits, batch.masks).mean()
        with _frozen(self.feature_judges):
            for (client, level), judge in self.feature_judges.items():
                loss = loss + self.params.feature_weight * deceive(judge(conditioned(public[client][level], own)))
            loss.backward()
        _take(self._simulate)
        return {c: {name: t.detach() for name, t in levels.items()} for c, levels in public.items()}, own

    def _train_decoders(
        self, batch: Batch, public: Features, known: Tensor | None, own: Tensor | None
    ) -> dict[tuple[str, str], Tensor]:
        """Take one step of the decoders; return what they made of the victims' features before it, cut off."""
        decoded = {}
        with _frozen(self.image_judges):
            for (client, level), decoder in self.decoders.items():
                loss = F.mse_loss(decoder(conditioned(public[client][level], own)), batch.images[client])
                if (client, level) in self.image_judges:
                    guess = decoder(conditioned(batch.private[client][level], known))
                    scores = self.image_judges[client, level](conditioned(guess, known))
                    loss = loss + self.params.image_weight * deceive(scores)
                    decoded[client, level] = guess.detach()
                loss.backward()
        _take(self._decode)
        return decoded


def flat(features: Features) -> dict[str, Tensor]:
    """Return features by `"client.level"`, the names under which the server's replica takes them."""
    return {f"{client}.{level}": t for client, levels in features.items() for level, t in levels.items()}


def _adam(networks: _Networks, rate: float) -> torch.optim.Adam | None:
    return torch.optim.Adam([p for network in networks.values() for p in network.parameters()], lr=rate) if networks else None


def _take(optimizer: torch.optim.Optimizer | None) -> None:
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@contextlib.contextmanager
def _frozen(networks: _Networks) -> Iterator[None]:
    """Let gradients pass through networks without reaching their weights."""
    weights = [p for network in networks.values() for p in network.parameters()]
    for p in weights:
        p.requires_grad_(False)
    yield
    for p in weights:
        p.requires_grad_(True)
