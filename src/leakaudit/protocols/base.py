"""What a protocol implements: parties, a schedule of who is asked, the deployed predictor, and replicas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from leakaudit.defenses.base import Defense
from leakaudit.facts import CohortFacts, ProtocolFacts, SeatFacts
from leakaudit.models.canary import GradientCanary
from leakaudit.models.task import Task, TaskSpec, Tensors
from leakaudit.plugins.params import ProtocolParams
from leakaudit.protocols.schedule import Sampling, Schedule
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import Party, Wire

__all__ = ["Guard", "Holdings", "Protocol"]

P = TypeVar("P", bound=ProtocolParams)
Guard = Defense[Any]
"""The defenses of one seat, as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """The data that one seat holds.

    Attributes:
        tokens: Opaque token of every row; the same row has the same token at every seat.
        units: Index of the patient behind every row.
        images: (n, modalities, *spatial) of the modalities it holds, or None.
        regions: (n, 3, *spatial) region masks, or None.
        sampling: How batches must be drawn.
        canaries: Gradient canaries by token: units that are drawn into batches like any other, and are nothing but a gradient.
    """

    tokens: tuple[str, ...]
    units: Tensor
    images: Tensor | None = None
    regions: Tensor | None = None
    sampling: Sampling = field(default_factory=Sampling)
    canaries: Mapping[str, GradientCanary] = field(default_factory=dict)

    def rows(self, tokens: Sequence[str]) -> Tensor:
        """Return the row index of each token.

        Raises:
            KeyError: A token is unknown here.
        """
        place = {token: i for i, token in enumerate(self.tokens)}
        return torch.tensor([place[token] for token in tokens], dtype=torch.long, device=self.units.device)


class Protocol(ABC, Generic[P]):
    """How the parties train together.

    Args:
        params: The protocol's parameters.
        cohort: Public facts of the cohort.

    Attributes:
        canary_roles: Roles whose parties train the whole network of the task and take `Holdings.canaries` into their batches;
            empty where no party does.
    """

    canary_roles: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: P, cohort: CohortFacts) -> None:
        self.params = params
        self.cohort = cohort
        self.facts: ProtocolFacts = params.facts(cohort)

    @abstractmethod
    def task(self) -> TaskSpec:
        """Return the task that the parties learn."""

    @abstractmethod
    def party(self, seat: Seat, task: Task, guard: Guard, holds: Holdings) -> Party:
        """Return the honest party of a seat."""

    @abstractmethod
    def run(self, wire: Wire, schedule: Schedule) -> None:
        """Train: ask the parties in turn through `wire` until the schedule ends."""

    @abstractmethod
    def predictor(self, states: Mapping[str, Tensors], task: Task, guards: Mapping[str, Guard]) -> nn.Module:
        """Return the deployed model: images (n, modalities, *spatial) to logits (n, 3, *spatial).

        Args:
            states: State of every seat after training.
            task: The task.
            guards: Defenses by seat; those that act on what crosses the wire at prediction stay in place.
        """

    @abstractmethod
    def replica(self, facts: SeatFacts, task: Task, state: Tensors | None, guard: Guard) -> Replica:
        """Return a seat's public computation without its data.

        Args:
            facts: The seat.
            task: The task.
            state: Its weights where granted; None gives a freshly initialized network of the same architecture.
            guard: Its defenses with fresh randomness where granted; the identity otherwise.

        Raises:
            NotImplementedError: Seats of this role compute nothing worth replicating.
        """
