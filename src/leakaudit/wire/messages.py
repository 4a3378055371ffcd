"""Messages: the only thing that crosses an institution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from leakaudit.models.task import Tensors
from leakaudit.threats import Channel

__all__ = ["Alarm", "Message"]


class Alarm(Exception):
    """Raised by a defense that detects an attack: the training stops.

    Args:
        detector: Name of the defense.
        reason: What it saw, in one sentence.
        score: Its test statistic.
    """

    def __init__(self, detector: str, reason: str, score: float) -> None:
        super().__init__(reason)
        self.detector, self.reason, self.score = detector, reason, score


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message.

    Attributes:
        channel: Its kind.
        sender: Seat that sends.
        receiver: Seat that receives.
        round: Round of the training, from 0.
        step: Step within the round, from 0.
        tensors: Content by name. In channels that carry samples, the first axis is the sample.
        samples: Opaque token of each row, where rows are samples; empty otherwise.
        weight: Weight of an update in the aggregate (number of samples behind it).
        behind: Tokens of the samples that an update was computed from, each once. It is for the scorer alone: the wire takes it
            off before anybody receives the message, and no view contains it.
    """

    channel: Channel
    sender: str
    receiver: str
    round: int
    step: int
    tensors: Tensors
    samples: tuple[str, ...] = ()
    weight: float = 1.0
    behind: tuple[str, ...] = ()

    def carrying(self, tensors: Mapping[str, Tensor]) -> Message:
        """Return the same message with other content."""
        return replace(self, tensors=dict(tensors))

    @property
    def bytes(self) -> int:
        """Size of the content in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())
