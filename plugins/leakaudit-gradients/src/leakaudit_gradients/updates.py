"""The updates of a view: which target each is about, the model it started from, and its round in what is said about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from leakaudit.attacks import Evidence, Images, Masks, Target, Values, View
from leakaudit.errors import UserError
from leakaudit.models import Tensors
from leakaudit_gradients.batchstats import batch_statistics

__all__ = ["Sent", "batch_of", "by_round", "together", "updates_of"]

E = TypeVar("E", Images, Masks, Values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One update.

    Attributes:
        target: What the evidence is about; `size` samples are behind it.
        seat: Site that sent it.
        round: When.
        update: Difference of the parameters, by name.
        model: Parameters that the site had received, by name.
        statistics: Means and variances of the batch at every batch normalization layer, by name, if a single step is behind the
            update; empty without such layers.
    """

    target: Target
    seat: str
    round: int
    update: Tensors
    model: Tensors
    statistics: Tensors = field(default_factory=dict)


def updates_of(view: View) -> list[Sent]:
    """Return every update of the view, in the order of sending.

    Raises:
        UserError: An update does not say which target it is about, or the model it started from was not recorded.
    """
    targets = {target.token: target for target in view.targets if target.kind == "message"}
    network = view.task.build()
    names = [name for name, _ in network.named_parameters()]
    models = {(m.receiver, m.round): m.tensors for m in view.messages(channel="model")}
    found: list[Sent] = []
    for message in view.messages(channel="update"):
        if len(message.samples) != 1 or message.samples[0] not in targets:
            raise UserError(
                "the view's updates carry no token of a message target: expected one in Message.samples, so that evidence can say "
                "which update it is about"
            )
        start = models.get((message.sender, message.round))
        if start is None:
            raise UserError(f"the model that {message.sender!r} received in round {message.round} is not in the view: tap it")
        found.append(
            Sent(
                target=targets[message.samples[0]], seat=message.sender, round=message.round,
                update={name: message.tensors[name].to(view.device) for name in names if name in message.tensors},
                model={name: start[name].to(view.device) for name in names},
                statistics={k: v.to(view.device) for k, v in batch_statistics(network, message.tensors, start).items()},
            )
        )  # fmt: skip
    return found


def together(sent: Sequence[Sent], *, by_seat: bool) -> Iterator[list[Sent]]:
    """Yield groups of updates that started from one model and have equally many samples behind them.

    Args:
        sent: Updates.
        by_seat: Keep sites apart, where each has a defense of its own.
    """
    groups: dict[tuple[object, ...], list[Sent]] = {}
    for one in sent:
        place = next((s for s in sent if s.round == one.round and _same(s.model, one.model)), one)
        key = (one.round, id(place), one.target.size, frozenset(one.update), one.seat if by_seat else None)
        groups.setdefault(key, []).append(one)
    yield from groups.values()


def by_round(pieces: Sequence[Evidence], sent: Sequence[Sent]) -> list[Evidence]:
    """Return evidence about updates cut into a piece for each round, so that every round has endpoints of its own.

    Of one round there is nothing to cut: its pieces keep their names and say which round it is. Of several each name ends in
    the round, `update/images@4`.

    Args:
        pieces: Evidence about all updates.
        sent: The updates.
    """
    rounds = {s.target.token: s.round for s in sent}
    several = len(set(rounds.values())) > 1
    return [
        _of_round(piece, [i for i, token in enumerate(piece.about) if rounds[token] == number], number, several)
        for number in sorted(set(rounds.values()))
        for piece in pieces
        if isinstance(piece, Images | Masks | Values)
    ]


def _of_round(piece: Images | Masks | Values, rows: list[int], number: int, several: bool) -> Evidence:
    name = f"{piece.name}@{number}" if several else piece.name
    about = tuple(piece.about[i] for i in rows)
    match piece:
        case Images():
            return replace(piece, name=name, round=number, about=about, images=piece.images[rows])
        case Masks():
            return replace(piece, name=name, round=number, about=about, masks=piece.masks[rows])
        case Values():
            return replace(piece, name=name, round=number, about=about, values=piece.values[rows])


def _same(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def batch_of(view: View, samples: int) -> int:
    """Return the rows of a site's batches; all of its samples where the task does not say."""
    return int(getattr(getattr(view.task, "training", None), "batch_size", samples))
