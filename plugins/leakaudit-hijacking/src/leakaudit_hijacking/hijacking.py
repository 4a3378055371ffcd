"""`feature-space-hijack`: the attack as leakaudit calls it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from leakaudit.attacks import Attack, Evidence, View
from leakaudit.wire import Party
from leakaudit_hijacking.hijack_params import FeatureSpaceHijackParams
from leakaudit_hijacking.hijacker import Hijacker
from leakaudit_hijacking.networks import decoder_for
from leakaudit_hijacking.reading import Endpoint, Recorded, collected, images_of, learned, loaded

__all__ = ["FeatureSpaceHijack"]


class FeatureSpaceHijack(Attack[FeatureSpaceHijackParams]):
    """FSHA (Pasquini et al., CCS 2021): the server teaches the clients to send what its decoders can read."""

    def play(self, honest: Party) -> Party:
        """Take the server's seat."""
        return Hijacker(honest, self.seat, self.params)

    def run(self, view: View) -> Sequence[Evidence]:
        """Return one `Images` per attacked client and level, decoded from what the clients last sent."""
        return images_of(view, collected(view, _Reader(self.params, view)))


class _Reader:
    """Decodes recorded rows; its decoders are built when the first rows show the shapes."""

    def __init__(self, params: FeatureSpaceHijackParams, view: View) -> None:
        self.params, self.view, self._weights = params, view, learned(view)
        self._decoders: dict[Endpoint, nn.Module] = {}

    def __call__(self, batch: Recorded) -> dict[Endpoint, Tensor]:
        """Return images by client and level."""
        there = [(client, level) for client, level in self._weights if level in batch.features.get(client, {})]
        return {(c, level): self._decoder((c, level), batch.features[c][level])(batch.features[c][level]) for c, level in there}

    def _decoder(self, endpoint: Endpoint, z: Tensor) -> nn.Module:
        if endpoint not in self._decoders:
            p, level = self.params, tuple(z.shape[1:])
            self._decoders[endpoint] = loaded(
                lambda shape, outputs: decoder_for(p.decoder, level, shape, outputs, p.decoder_width),
                self._weights[endpoint], self.view, endpoint[0],
            )  # fmt: skip
        return self._decoders[endpoint]
