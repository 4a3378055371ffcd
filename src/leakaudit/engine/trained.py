"""What a training leaves behind: states, claims, traffic, and what happened beside the plan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch

from leakaudit.defenses.guarantee import Guarantee
from leakaudit.models.task import Tensors

__all__ = ["Trained"]


@dataclass(kw_only=True)
class Trained:
    """What a training leaves behind.

    Attributes:
        rounds: Rounds that were planned.
        states: Final state of every seat.
        snapshots: States after other rounds, by round.
        public: What the defenses of each seat learned.
        guarantees: Claims by seat; no entry where there are none.
        traffic: (channel, sender, receiver, messages, bytes).
        alarm: What a detector reported when it stopped the training, where, and how many of how many batches had crossed by
            then; None where the training ran to its end.
        own: State of the party an attack played.
        notes: What happened beside the plan (a site that left, an update left out), and in which rounds.
    """

    rounds: int
    states: dict[str, Tensors]
    snapshots: dict[int, dict[str, Tensors]] = field(default_factory=dict)
    public: dict[str, Tensors]
    guarantees: dict[str, tuple[Guarantee, ...]]
    traffic: list[tuple[str, str, str, int, int]]
    alarm: dict[str, Any] | None = None
    own: Tensors = field(default_factory=dict)
    notes: dict[str, list[int]] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 of all final states: equal digests mean equal trainings, bit by bit."""
        total = hashlib.sha256()
        for seat in sorted(self.states):
            for name in sorted(self.states[seat]):
                tensor = self.states[seat][name].detach().cpu().contiguous()
                total.update(f"{seat}/{name}/{tuple(tensor.shape)}".encode())
                total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.hexdigest()
