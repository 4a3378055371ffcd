"""What crossed the wire about each target, gathered from messages on disk in groups that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.threats import Channel
from leakaudit.wire import Message
from leakaudit_inversion.stance import Stage

__all__ = ["Observed", "first_message", "gathered"]

_GROUP_BYTES = 256 * 2**20
"""Most memory for the activations of one group of targets."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The observations of some targets.

    Attributes:
        tokens: The targets.
        draws: For each observation, the last first: feature maps by level, each (targets, channels, *spatial); zeros where a
            target was observed less often.
        seen: (observations, targets), whether it was observed so often.
        place: (observations, targets), when in its round each was sent, in [0, 1): 0 before the round's first step.
    """

    tokens: tuple[str, ...]
    draws: tuple[Mapping[str, Tensor], ...]
    seen: Tensor
    place: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, start: int, stop: int, device: torch.device) -> Observed:
        """Return some of the targets, on `device`."""
        draws = tuple({name: t[start:stop].to(device) for name, t in draw.items()} for draw in self.draws)
        seen, place = self.seen[:, start:stop].to(device), self.place[:, start:stop].to(device)
        return Observed(tokens=self.tokens[start:stop], draws=draws, seen=seen, place=place)


@dataclass(frozen=True, slots=True)
class _Row:
    """One observation of one target."""

    levels: Mapping[str, Tensor]
    step: int


def first_message(view: View, client: str, stage: Stage, channel: Channel = "activation") -> Message | None:
    """Return the first message from a client, or of cut gradients to it, in a stage, or None: what it looks like."""
    return next(_messages(view, client, stage, channel), None)


def gathered(
    view: View, client: str, levels: tuple[str, ...], stage: Stage, group_bytes: int = _GROUP_BYTES,
    channel: Channel = "activation",
) -> Iterator[Observed]:  # fmt: skip
    """Yield the observations of all sample targets that crossed, group by group, in the order of the view's targets.

    Messages are read once per group, so that memory does not grow with the number of targets.

    Args:
        view: The adversary's view.
        client: Sender of the messages; of cut gradients the receiver.
        levels: Levels that every observation must have.
        stage: Which round, or how many of the last observations.
        group_bytes: Most memory of one group.
        channel: Kind of message.
    """
    order = [target.token for target in view.targets if target.kind == "sample"]
    first = first_message(view, client, stage, channel)
    if first is None or any(name not in first.tensors for name in levels):
        return
    row = sum(first.tensors[name][:1].numel() * 4 for name in levels)
    size = max(1, group_bytes // max(1, row * len(stage.rounds)))
    for start in range(0, len(order), size):
        wanted = order[start : start + size]
        found: dict[str, list[_Row]] = {token: [] for token in wanted}
        steps = 0
        for message in _messages(view, client, stage, channel):
            steps = max(steps, message.step + 1)
            _collect(message, levels, len(stage.rounds), found)
        tokens = tuple(token for token in wanted if found[token])
        if tokens:
            yield _stacked(tokens, found, len(stage.rounds), steps)


def _messages(view: View, client: str, stage: Stage, channel: Channel) -> Iterator[Message]:
    where: dict[str, str | int] = {} if stage.round is None else {"round": stage.round}
    where["receiver" if channel == "cut-gradient" else "sender"] = client
    return view.messages(channel=channel, **where)


def _collect(message: Message, levels: tuple[str, ...], most: int, found: Mapping[str, list[_Row]]) -> None:
    for i, token in enumerate(message.samples):
        if token in found:
            # Cloned: a row of a message would keep the whole message in memory.
            found[token].append(_Row({name: message.tensors[name][i].float().clone() for name in levels}, message.step))
            del found[token][:-most]


def _stacked(tokens: tuple[str, ...], found: Mapping[str, list[_Row]], most: int, steps: int) -> Observed:
    example = found[tokens[0]][0].levels
    blank = _Row({name: torch.zeros_like(t) for name, t in example.items()}, 0)
    draws, seen, place = [], [], []
    for back in range(most):
        rows = [found[token][-1 - back] if back < len(found[token]) else blank for token in tokens]
        draws.append({name: torch.stack([row.levels[name] for row in rows]) for name in example})
        seen.append([float(back < len(found[token])) for token in tokens])
        place.append([row.step / steps for row in rows])
    return Observed(tokens=tokens, draws=tuple(draws), seen=torch.tensor(seen), place=torch.tensor(place))
