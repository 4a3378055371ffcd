"""Reconstructions on their way to evidence: every target gets an image, and the name says client, level and round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from leakaudit.attacks import Evidence, Images, View
from leakaudit.facts import SeatFacts
from leakaudit.threats import Channel
from leakaudit_inversion.stance import Stage

__all__ = ["Answers", "prior_images"]

Floats = NDArray[np.float32]


class Answers:
    """Collects the images of one client in one stage.

    Args:
        client: Whose images they are.
        stage: When they were sent.
        names: Endpoints: levels or `"joint"`.
        channel: Where they were seen.
    """

    def __init__(self, client: SeatFacts, stage: Stage, names: Sequence[str], channel: Channel = "activation") -> None:
        self._client, self._stage, self._channel = client, stage, channel
        self._images: dict[str, dict[str, Floats]] = {name: {} for name in names}

    def add(self, name: str, tokens: Sequence[str], images: Tensor) -> None:
        """Keep the images of some targets, (n, modalities, *spatial)."""
        for token, image in zip(tokens, images.detach().float().cpu(), strict=True):
            self._images[name][token] = image.numpy().copy()

    def evidence(self, view: View, prior: Callable[[Sequence[str]], Any]) -> list[Evidence]:
        """Return one `Images` per endpoint that has any, about every target of the view.

        Args:
            view: The adversary's view.
            prior: Gives images for targets of which nothing crossed in this stage (under Poisson sampling a patient can be
                in no batch of a round): a patient is never left out, and what is unknown is guessed.
        """
        order = [target.token for target in view.targets if target.kind == "sample"]
        pieces: list[Evidence] = []
        for name, found in self._images.items():
            if not found:
                continue
            unseen = [token for token in order if token not in found]
            whole = found | dict(zip(unseen, prior(unseen), strict=True)) if unseen else found
            pieces.append(
                Images(
                    name=f"{self._client.id}/{name}{self._stage.suffix}", channel=self._channel, about=tuple(order),
                    seat=self._client.id, level=name, images=np.stack([whole[token] for token in order]),
                    modalities=self._client.modalities, round=self._stage.round,
                )
            )  # fmt: skip
        return pieces


def prior_images(view: View, client: SeatFacts, tokens: Sequence[str]) -> Floats:
    """Return the best guess without messages: the mean auxiliary image at each target's slice position, or gray (0).

    Args:
        view: The adversary's view.
        client: Whose modalities are guessed.
        tokens: The targets.

    Returns:
        Images (targets, modalities, *spatial).

    Raises:
        ValueError: The view holds no auxiliary patients, so that not even the size of an image is known.
    """
    if view.auxiliary is None or not len(view.auxiliary):
        raise ValueError("without auxiliary patients there is no mean image")
    own = view.auxiliary.channels(client.modalities)
    images = np.zeros_like(own.images) if view.threat.auxiliary == "noise" else own.images
    places = np.array([sample.position for sample in own.samples])
    position = {target.token: target.position for target in view.targets}
    means: dict[int, Floats] = {}
    for place in {position[token] for token in tokens}:
        away = np.abs(places - place)
        means[place] = images[away == away.min()].mean(axis=0, dtype=np.float32)
    return np.stack([means[position[token]] for token in tokens])
