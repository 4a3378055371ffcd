"""Turns the recorded activations into evidence, with the decoders that a party in training left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from leakaudit.attacks import EvidenceError, Images, View
from leakaudit.wire import Message

__all__ = ["Averages", "Decode", "Endpoint", "Recorded", "collected", "images_of", "labels_of", "learned", "loaded"]

_CHUNK = 16
"""Samples decoded at once."""

Endpoint = tuple[str, str]
"""Client and level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Some targets' rows of one batch.

    Attributes:
        tokens: Token of each row.
        features: What the clients sent, by client and level, (rows, channels, *spatial).
        labels: The masks that were sent with them; None where none were.
    """

    tokens: tuple[str, ...]
    features: Mapping[str, Mapping[str, Tensor]]
    labels: Tensor | None


Decode = Callable[[Recorded], Mapping[Endpoint, Tensor]]
"""Gives one row of a result for each row, by endpoint; endpoints whose client sent nothing are left out."""


class Averages:
    """Means of what was found about each sample, over its observations."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, tokens: Iterable[str], found: Tensor) -> None:
        """Add one row for each token."""
        for token, row in zip(tokens, found.float().cpu(), strict=True):
            self._sums[token] = self._sums[token] + row if token in self._sums else row.clone()
            self._counts[token] = self._counts.get(token, 0) + 1

    def of(self, tokens: Iterable[str]) -> tuple[tuple[str, ...], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """Return which of `tokens` were observed, and a row for each."""
        about = tuple(token for token in tokens if token in self._sums)
        return about, np.stack([(self._sums[token] / self._counts[token]).numpy() for token in about])


def labels_of(messages: Sequence[Message], samples: Sequence[str]) -> Tensor | None:
    """Return the masks (n, regions, *spatial) that came for some samples, in their order; None where none did."""
    for message in messages:
        if message.channel == "label":
            place = {token: i for i, token in enumerate(message.samples)}
            return message.tensors["regions"].float()[[place[token] for token in samples]]
    return None


def _recorded(view: View) -> Iterator[Recorded]:
    """Yield the targets' rows, some at a time, in the order in which they crossed the wire."""
    wanted = frozenset(target.token for target in view.targets)
    clients = frozenset(seat.id for seat in view.facts.seats_of("client"))
    for _, group in groupby(view.messages(), key=lambda m: (m.round, m.step)):
        batch = list(group)
        sent = {m.sender: m for m in batch if m.channel == "activation" and m.sender in clients}
        tokens = [token for token in next(iter(sent.values())).samples if token in wanted] if sent else []
        for start in range(0, len(tokens), _CHUNK):
            chunk = tuple(tokens[start : start + _CHUNK])
            features = {}
            for client, message in sent.items():
                rows = [message.samples.index(token) for token in chunk]
                features[client] = {name: t[rows].to(view.device).float() for name, t in message.tensors.items()}
            labels = labels_of(batch, chunk)
            yield Recorded(tokens=chunk, features=features, labels=None if labels is None else labels.to(view.device))


def collected(view: View, decode: Decode) -> dict[Endpoint, Averages]:
    """Decode all that was recorded of the targets.

    Raises:
        EvidenceError: Nothing of it can be decoded.
    """
    found: dict[Endpoint, Averages] = {}
    for batch in _recorded(view):
        with torch.no_grad():
            for endpoint, rows in decode(batch).items():
                found.setdefault(endpoint, Averages()).add(batch.tokens, rows)
    if not found:
        raise EvidenceError(
            "there is nothing to decode: of no target did all cross that the decoders were trained to see; the training was "
            "stopped in the middle of a batch, or a defense withheld messages"
        )
    return found


def images_of(view: View, found: Mapping[Endpoint, Averages]) -> list[Images]:
    """Return one `Images` per client and level, about every target that was observed."""
    evidence = []
    for (client, level), pile in found.items():
        about, images = pile.of(target.token for target in view.targets)
        evidence.append(
            Images(
                name=f"{client}/{level}", channel="activation", about=about, seat=client, level=level, images=images,
                modalities=view.facts.seat(client).modalities,
            )
        )  # fmt: skip
    return evidence


def learned(view: View) -> dict[Endpoint, dict[str, Tensor]]:
    """Return the weights that the party in training left, by client, level and parameter.

    Raises:
        EvidenceError: It has learned nothing: the training was over before what it learns from had come.
    """
    found: dict[Endpoint, dict[str, Tensor]] = {}
    for key, tensor in view.own.items():
        client, level, name = key.split("/", 2)
        found.setdefault((client, level), {})[name] = tensor
    if not found:
        raise EvidenceError(
            "the party that was played in training learned nothing: what it learns from never came, because an alarm stopped the "
            "training in its first batch, or a defense withheld the activations"
        )
    return found


def loaded(make: Callable[[tuple[int, ...], int], nn.Module], weights: Mapping[str, Tensor], view: View, client: str) -> nn.Module:
    """Return a client's decoder with the weights that it had at the end of the training.

    Args:
        make: Builds it for images of a spatial shape with so many modalities.
        weights: Its weights.
        view: The view.
        client: The client.
    """
    assert view.auxiliary is not None  # it could not have played without
    network = make(view.auxiliary.shape, len(view.facts.seat(client).modalities))
    network.load_state_dict(dict(weights))
    return network.to(view.device).eval()
