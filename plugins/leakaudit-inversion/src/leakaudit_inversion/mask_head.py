"""The label holder's head at the time of a message, read from its replica."""

from __future__ import annotations

import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.errors import UserError
from leakaudit.models import SegmentationTask
from leakaudit_inversion.mask_identity import Head
from leakaudit_inversion.span import Span, spans_of
from leakaudit_inversion.stance import Stage

__all__ = ["Heads"]


class Heads:
    """The head in each of the rounds that a stage observes; between two snapshots its weights are interpolated.

    Args:
        view: The adversary's view.
        seat: Id of the label holder.
        stage: Which rounds.

    Raises:
        UserError: The task is none whose gradients this attack can solve for masks.
    """

    def __init__(self, view: View, seat: str, stage: Stage) -> None:
        task = view.task
        if not isinstance(task, SegmentationTask):
            raise UserError(
                f"the closed form is that of soft Dice plus cross-entropy over regions; the task is a {type(task).__name__}: "
                "choose method norm or direction"
            )
        self._dice_weight, self._dims = task.training.dice_weight, task.dims
        self._spans = dict(zip(stage.rounds, spans_of(view, seat, stage), strict=True))
        self._last = max(stage.rounds)

    def at(self, round_: int, place: float, channels: int, device: torch.device) -> Head:
        """Return the head at `place` of a round, found by asking the replica about unit vectors.

        Args:
            round_: The round; one that is not observed has the weights of the last that is.
            place: 0 at the round's start, 1 at its end.
            channels: How many channels the features have.
            device: Where to compute.
        """
        span = self._spans.get(round_, self._spans[self._last])
        if span.moves:
            span.go(place)
        return _read(span, channels, self._dims, self._dice_weight, device)


def _read(span: Span, channels: int, dims: int, dice_weight: float, device: torch.device) -> Head:
    probes: Tensor = torch.cat([torch.zeros(1, channels), torch.eye(channels)]).to(device)
    with torch.no_grad():
        logits = span.replica.send(features=probes.reshape(*probes.shape, *(1,) * dims))["logits"].flatten(1).double()
    return Head(weight=(logits[1:] - logits[0]).T, bias=logits[0], dice_weight=dice_weight)
