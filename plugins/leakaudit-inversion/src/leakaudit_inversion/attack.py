"""`model-inversion`: a decoder learned on auxiliary patients turns activations back into images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import Attack, Evidence, Images, View
from leakaudit.errors import UserError
from leakaudit.wire import Message
from leakaudit_inversion.decoder import Decoder
from leakaudit_inversion.params import ModelInversionParams
from leakaudit_inversion.source import Auxiliary, Source, held_out_rows
from leakaudit_inversion.training import train_decoders

__all__ = ["ModelInversion"]

_CHUNK = 16
"""Samples decoded at once."""


class ModelInversion(Attack[ModelInversionParams]):
    """Learned inverter of He et al. (ACSAC 2019), trained on what defended clients send for auxiliary patients."""

    _decoders: dict[str, dict[str, Decoder]] | None = None

    def fit(self, view: View) -> None:
        """Train the decoders of every attacked client on its replica and the adversary's own patients.

        Raises:
            UserError: The view holds no auxiliary patients.
        """
        if view.auxiliary is None or not len(view.auxiliary):
            raise UserError("model-inversion learns from auxiliary patients, and the adversary owns none: raise data.auxiliary")
        train, held_out = held_out_rows(view.auxiliary, self.params.validation, self.seat.rng("held-out patients"))
        self._decoders = {}
        for client in self.params.clients or [seat.id for seat in view.facts.seats_of("client")]:
            samples = Auxiliary.of(view.auxiliary, view.facts.seat(client).modalities)
            randomized = any(d.stochastic and "client" in d.seats for d in view.defenses)
            generator = self.seat.rng(f"decoders of {client}")
            with torch.random.fork_rng(devices=[view.device] if view.device.type == "cuda" else []):
                # A defense that draws from torch's global stream must not make two runs differ.
                torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
                source = Source(view.replica(client), samples, randomized=randomized, device=view.device)
                self._decoders[client] = train_decoders(self.params, source, train, held_out, generator)

    def run(self, view: View) -> Sequence[Evidence]:
        """Return one `Images` per client and decoder, about every target whose rows cross the wire."""
        if self._decoders is None:
            self.fit(view)
        assert self._decoders is not None
        order = [target.token for target in view.targets]
        evidence: list[Evidence] = []
        for client, decoders in self._decoders.items():
            piles = {name: _Pile() for name in decoders}
            for message in view.messages(channel="activation", sender=client):
                _observe(decoders, message, frozenset(order), piles, view.device)
            for name, pile in piles.items():
                about = tuple(token for token in order if token in pile.sums)
                if about:
                    evidence.append(
                        Images(
                            name=f"{client}/{name}", channel="activation", about=about, seat=client, level=name,
                            images=np.stack([pile.mean(token) for token in about]),
                            modalities=view.facts.seat(client).modalities,
                        )
                    )  # fmt: skip
        return evidence


@dataclass(slots=True)
class _Pile:
    """Sums of the reconstructions of each sample."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, token: str, image: Tensor) -> None:
        self.sums[token] = self.sums[token] + image if token in self.sums else image
        self.counts[token] = self.counts.get(token, 0) + 1

    def mean(self, token: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (self.sums[token] / self.counts[token]).numpy()


def _observe(
    decoders: Mapping[str, Decoder], message: Message, wanted: frozenset[str], piles: Mapping[str, _Pile], device: torch.device
) -> None:
    """Decode the wanted rows of one message and add them to the piles."""
    rows = [i for i, token in enumerate(message.samples) if token in wanted]
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        for name, decoder in decoders.items():
            if any(level not in message.tensors for level in decoder.levels):
                continue
            levels = {level: message.tensors[level][chunk].to(device).float() for level in decoder.levels}
            with torch.no_grad():
                images = decoder(levels).cpu()
            for i, image in zip(chunk, images, strict=True):
                piles[name].add(message.samples[i], image.clone())
