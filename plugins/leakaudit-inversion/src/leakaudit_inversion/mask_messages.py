"""Gradients that arrived, message by message, each with what was sent before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.wire import Message
from leakaudit_inversion.stance import Stage

__all__ = ["Arrival", "arrivals"]


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Gradients of some targets in one batch.

    Attributes:
        tokens: The targets.
        level: Name of the finest level that arrived.
        gradient: Of that level, (n, channels, *spatial).
        features: What the gradient is by, of the same shape; None where the adversary did not see it.
        round: When it crossed.
        place: When in its round, in [0, 1).
        last: For each target, whether it is its last observation in the stage.
    """

    tokens: tuple[str, ...]
    level: str
    gradient: Tensor
    features: Tensor | None
    round: int
    place: float
    last: tuple[bool, ...]


def arrivals(view: View, seat: str, stage: Stage) -> Iterator[Arrival]:
    """Yield what arrived at a seat in a stage, in order: of each target only as many of the last as the stage has rounds.

    Args:
        view: The adversary's view.
        seat: Who received the gradients.
        stage: Which round, or how many of the last observations.
    """
    targets = {target.token for target in view.targets if target.kind == "sample"}
    left: Counter[str] = Counter()
    steps: Counter[int] = Counter()
    for message in _received(view, seat, stage):
        left.update(token for token in message.samples if token in targets)
        steps[message.round] = max(steps[message.round], message.step + 1)
    for message in _received(view, seat, stage):
        rows = []
        for i, token in enumerate(message.samples):
            if token in targets:
                if left[token] <= len(stage.rounds):
                    rows.append(i)
                left[token] -= 1
        if rows:
            name = max(message.tensors, key=lambda k: (message.tensors[k][0, 0].numel(), k))
            yield Arrival(
                tokens=tuple(message.samples[i] for i in rows), level=name,
                gradient=message.tensors[name][rows].float().to(view.device),
                features=_sent(view, seat, message, name, rows), round=message.round,
                place=message.step / steps[message.round], last=tuple(left[message.samples[i]] == 0 for i in rows),
            )  # fmt: skip


def _received(view: View, seat: str, stage: Stage) -> Iterator[Message]:
    where: dict[str, str | int] = {} if stage.round is None else {"round": stage.round}
    return view.messages(channel="cut-gradient", receiver=seat, **where)


def _sent(view: View, seat: str, answer: Message, name: str, rows: list[int]) -> Tensor | None:
    """Return the features that the answered message carried, row by row like the gradient."""
    for message in view.messages(channel="activation", sender=seat, round=answer.round, step=answer.step):
        if name in message.tensors:
            place = {token: i for i, token in enumerate(message.samples)}
            order = [place[answer.samples[i]] for i in rows]
            return message.tensors[name][torch.tensor(order)].float().to(view.device)
    return None
