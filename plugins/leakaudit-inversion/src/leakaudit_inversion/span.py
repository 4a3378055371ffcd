"""A client while it learns: a message of a round was sent by weights between the snapshots before and after the round.

A decoder or a search that takes the weights after the round for those of every message in it sees less than there is to see;
how much less is measured in VALIDATION.md. Between the two snapshots weights are interpolated linearly, the simplest path
through what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.wire import Replica
from leakaudit_inversion.stance import Stage

__all__ = ["Route", "Sender", "Span", "Track", "parts_of", "span_of", "spans_of"]

_PARTS = 4
"""Parts of a round that a search tells apart; each has a replica of its own, so that all can be differentiated at once."""


class Sender(Protocol):
    """What sends, for some samples, what was observed of others, with the weights of some place in a round."""

    @property
    def moves(self) -> bool:
        """Whether the weights before and after the round differ."""
        ...

    def go(self, place: float) -> None:
        """Set the weights to those at `place` of the round: 0 at its start, 1 at its end."""
        ...

    def send(self, x: Tensor) -> dict[str, Tensor]:
        """Return what would be observed of samples `x`, by level, as float32, defenses included."""
        ...


S = TypeVar("S", bound=Sender)


class Span:
    """A client's replica during one round.

    Args:
        replica: The replica with the weights after the round.
        before: The weights before it, by name; None where they are not known (the first round).
    """

    def __init__(self, replica: Replica, before: Mapping[str, Tensor] | None = None) -> None:
        self.replica = replica
        module = replica.module
        self._path: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        if module is not None and before is not None:
            for name, now in module.state_dict().items():
                if now.is_floating_point() and not torch.equal(now, before[name]):
                    end = now.detach().clone()
                    self._path[name] = (now, before[name].detach().clone(), end)
        self._place = 1.0

    @property
    def moves(self) -> bool:
        """Whether the weights before and after differ."""
        return bool(self._path)

    def go(self, place: float) -> None:
        """Set the weights to those at `place` of the round: 0 at its start, 1 at its end."""
        if place == self._place:
            return
        with torch.no_grad():
            for now, before, end in self._path.values():
                now.copy_(torch.lerp(before, end, place))
        self._place = place

    def freeze(self) -> None:
        """Spare the gradients of weights: only images are searched for."""
        if self.replica.module is not None:
            self.replica.module.requires_grad_(False)

    def send(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the client would send for images `x`, as float32, defenses included."""
        return {name: t.float() for name, t in self.replica.send(x=x).items()}


class Track:
    """A client over the observed rounds, to be differentiated: what was sent when is compared under the weights of then.

    Args:
        view: The adversary's view.
        client: Id of the client.
        stage: Which rounds.
    """

    def __init__(self, view: View, client: str, stage: Stage) -> None:
        self._rounds: list[list[Span]] = []
        for round_ in stage.rounds:
            spans = parts_of(partial(span_of, view, client, round_))
            for span in spans:
                span.freeze()
            self._rounds.append(spans)

    def last(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the client would send for images `x` late in the last observed round."""
        return self._rounds[0][-1].send(x)

    def models(self, place: Tensor) -> list[Route]:
        """Return one model per observation for targets that were sent at `place` (observations, targets) of their rounds."""
        return [Route(spans, row) for spans, row in zip(self._rounds, place, strict=True)]


class Route:
    """One observation's model: sends each target's images with the weights of its own part of the round.

    Args:
        spans: The client in each part of the round.
        place: (targets,), when each was sent, in [0, 1).
    """

    def __init__(self, spans: Sequence[Sender], place: Tensor) -> None:
        part = (place * len(spans)).long()
        self._parts = [(span, rows) for i, span in enumerate(spans) if len(rows := torch.nonzero(part == i).flatten())]
        self._back = torch.argsort(torch.cat([rows for _, rows in self._parts]))

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Return what was sent for `x` (targets, modalities, *spatial), by level."""
        if len(self._parts) == 1:
            return self._parts[0][0].send(x)
        sent = [span.send(x[rows]) for span, rows in self._parts]
        return {name: torch.cat([part[name] for part in sent])[self._back] for name in sent[0]}


def spans_of(view: View, client: str, stage: Stage) -> list[Span]:
    """Return a client during each of the rounds that a stage observes, the last first."""
    return [span_of(view, client, round_) for round_ in stage.rounds]


def parts_of(make: Callable[[], S]) -> list[S]:
    """Return a sender for each part of a round, at the middle of it; one where nothing moves."""
    senders = [make()]
    if senders[0].moves:
        senders += [make() for _ in range(_PARTS - 1)]
        for part, sender in enumerate(senders):
            sender.go((part + 0.5) / _PARTS)
    return senders


def span_of(view: View, client: str, round_: int) -> Span:
    """Return a seat during a round."""
    replica = view.replica(client, round=-1 if round_ == view.facts.rounds - 1 else round_)
    if round_ == 0 or "weights" not in view.threat.knows:
        return Span(replica)
    try:
        earlier = view.replica(client, round=round_ - 1).module
    except KeyError:  # a recording made elsewhere need not have kept these weights: then those after the round stand for all
        return Span(replica)
    return Span(replica, None if earlier is None else earlier.state_dict())
