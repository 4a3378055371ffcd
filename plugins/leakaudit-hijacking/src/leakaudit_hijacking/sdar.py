"""`sdar` and `pcat`: the attacks as leakaudit calls them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from leakaudit.attacks import Attack, Evidence, Masks, View
from leakaudit.wire import Party
from leakaudit_hijacking.adversarial import conditioned
from leakaudit_hijacking.networks import decoder_for
from leakaudit_hijacking.reading import Endpoint, Recorded, collected, images_of, learned, loaded
from leakaudit_hijacking.rider import HEAD, Rider
from leakaudit_hijacking.sdar_params import SdarParams
from leakaudit_hijacking.server import ServerCopy
from leakaudit_hijacking.simulation import flat

__all__ = ["Sdar"]

_MASKS: Endpoint = ("labels", "masks")


class Sdar(Attack[SdarParams]):
    """SDAR (Zhu et al., NDSS 2025): an honest server simulates the clients beside the training.

    Without discriminators it is PCAT (Gao and Zhang, USENIX Security 2023), which has a name and defaults of its own.
    """

    def play(self, honest: Party) -> Party:
        """Ride on the server's seat."""
        return Rider(honest, self.seat, self.params)

    def run(self, view: View) -> Sequence[Evidence]:
        """Return one `Images` per attacked client and level, and in a U-shaped split the `Masks` that were guessed."""
        found = collected(view, _Reader(self.params, view))
        guessed = found.pop(_MASKS, None)
        evidence: list[Evidence] = [*images_of(view, found)]
        if guessed is not None:
            about, masks = guessed.of(target.token for target in view.targets)
            masks = np.clip(masks, 0, 1)  # a mean of probabilities may round past either end
            evidence.append(Masks(name="simulated-head", channel="activation", about=about, seat="labels", masks=masks))
        return evidence


class _Reader:
    """Decodes recorded rows with the masks that the decoders were trained to see beside them."""

    def __init__(self, params: SdarParams, view: View) -> None:
        self.params, self.view, self._weights = params, view, learned(view)
        self._kind = params.resolved(view.facts)
        self._decoders: dict[Endpoint, nn.Module] = {}
        self._server = ServerCopy(lambda seat: view.replica(seat), view.facts.played(view.threat.plays)[0])
        head = self._weights.pop(HEAD, None)
        if head is not None:
            self._server.simulate_head(head)
        self._clients = [seat.id for seat in view.facts.seats_of("client")]

    def __call__(self, batch: Recorded) -> dict[Endpoint, Tensor]:
        """Return images by client and level, and the masks that a simulated head makes of all features."""
        found: dict[Endpoint, Tensor] = {}
        if self._kind == "labels" and batch.labels is None:
            return found  # stopped before the masks of this batch crossed, which the decoders need to see
        whole = all(client in batch.features for client in self._clients)
        if not whole and self._kind == "predictions":
            return found  # where a client withheld its part, the server's network says nothing of this batch
        guess = self._server.predict(flat(batch.features)).sigmoid() if whole and self._kind != "labels" else None
        if guess is not None and self._server.has_simulated_head:
            found[_MASKS] = guess
        condition = {"labels": batch.labels, "predictions": guess, "none": None}[self._kind]
        for client, level in self._weights:
            z = batch.features.get(client, {}).get(level)
            if z is not None:
                found[client, level] = self._decoder((client, level), z, condition)(conditioned(z, condition))
        return found

    def _decoder(self, endpoint: Endpoint, z: Tensor, condition: Tensor | None) -> nn.Module:
        if endpoint not in self._decoders:
            p, channels = self.params, z.shape[1] + (0 if condition is None else condition.shape[1])
            level = (channels, *z.shape[2:])
            self._decoders[endpoint] = loaded(
                lambda shape, outputs: decoder_for(p.decoder, level, shape, outputs, p.decoder_width),
                self._weights[endpoint], self.view, endpoint[0],
            )  # fmt: skip
        return self._decoders[endpoint]
