"""What the defenses at the cut share: they change the chosen levels of activation messages and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor

from leakaudit.defenses import Defense
from leakaudit.wire import Message
from leakaudit_cut.params import CutParams

__all__ = ["CutDefense"]

P = TypeVar("P", bound=CutParams)


class CutDefense(Defense[P], ABC):
    """A defense that changes activations on their way out, in training and in prediction alike."""

    def outgoing(self, message: Message) -> Message:
        """Return the message with its chosen levels changed, differentiably; other channels pass untouched."""
        if message.channel != "activation":
            return message
        levels = self.params.levels
        chosen = {name: t for name, t in message.tensors.items() if levels is None or name in levels}
        return message.carrying({**message.tensors, **self.change(chosen)})

    @abstractmethod
    def change(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what to send in place of `levels`, each (n, channels, *spatial), under the same names."""
