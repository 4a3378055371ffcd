"""What the defenses of updates share: they change the floating-point tensors of a site's update and nothing else.

A federated site sends differences: its weights after local training minus those that it received. Zero means "no change".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from leakaudit.defenses import Defense
from leakaudit.wire import Message
from leakaudit_updates.params import UpdateParams

__all__ = ["UpdateDefense", "flat", "is_statistic", "magnitude_at"]

P = TypeVar("P", bound=UpdateParams)
_LOSABLE = 0.999
"""Share of a running variance that one update may take away; all of it could end below 0 by rounding."""


def is_statistic(name: str) -> bool:
    """Return whether a tensor of this name is a running statistic of batch normalization."""
    return name.rpartition(".")[2] in ("running_mean", "running_var")


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return all entries of `tensors` in one row, without gradient; empty without any."""
    rows = [t.detach().flatten() for t in tensors]
    return torch.cat(rows) if rows else torch.zeros(0)


def magnitude_at(values: Tensor, quantile: float) -> Tensor:
    """Return a quantile of the magnitudes of `values`, interpolated linearly; a scalar.

    Args:
        values: At least one entry, in one row. (`torch.quantile` refuses more than 16 million, a 3D network's update.)
        quantile: In [0, 1].
    """
    sizes = values.abs()
    position = quantile * (len(sizes) - 1)
    rank = int(position)
    low = torch.kthvalue(sizes, rank + 1).values
    if rank == position:
        return low
    return low + (position - rank) * (torch.kthvalue(sizes, rank + 2).values - low)


class UpdateDefense(Defense[P], ABC):
    """A defense that changes updates on their way out."""

    _variances: Mapping[str, Tensor] = {}

    def incoming(self, message: Message) -> Message:
        """Keep the running variances of a model that arrives, so that the update cannot turn them negative."""
        if message.channel == "model":
            self._variances = {k: t for k, t in message.tensors.items() if k.rpartition(".")[2] == "running_var"}
        return message

    def outgoing(self, message: Message) -> Message:
        """Return the update changed, differentiably; other channels and integer tensors (batch counters) pass untouched."""
        if message.channel != "update":
            return message
        keep = self.params.buffers == "send"
        mine = {k: t for k, t in message.tensors.items() if t.is_floating_point() and not (keep and is_statistic(k))}
        changed = {k: self._possible(k, t) for k, t in self.change(mine).items()}
        return message.carrying({**message.tensors, **changed})

    def _possible(self, name: str, difference: Tensor) -> Tensor:
        # What arrived is known to everybody, so no secret enters; a network with negative variances answers with NaN.
        return difference if name not in self._variances else torch.maximum(difference, -_LOSABLE * self._variances[name])

    @abstractmethod
    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what to send in place of `update` (differences by name, floating point, of any shape), by the same names."""
