"""Seats, updates and a tiny federated training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from leakaudit.defenses import Defense
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols import Holdings, Schedule
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import FederatedParams
from leakaudit.wire import Message, Seat, Secret, Wire

ROWS = 8
COHORT = CohortFacts(
    modalities=("flair", "t1"), shape=(16, 16), members=ROWS, auxiliary=0, sites=("site-0", "site-1"), records=ROWS
)


def make_seat(seed: int = 0) -> Seat:
    """Return a site's seat."""
    return Seat(SeatFacts(id="site-0", role="site"), Secret.from_seed(seed, "site-0"))


def make_update(channel: str = "update", round_: int = 0, **tensors: torch.Tensor) -> Message:
    """Return a message of a site with these tensors."""
    return Message(channel=channel, sender="site-0", receiver="aggregator", round=round_, step=0, tensors=tensors, weight=5.0)


class Trained:
    """A federated training of two sites.

    Args:
        make: Gives each site's defense.
        normalization: Of the network.
        rounds: How many.
    """

    def __init__(self, make: Callable[[Seat], Defense[Any]], normalization: str = "instance", rounds: int = 2) -> None:
        params = FederatedParams(
            network=NetworkParams(channels=[4, 8], normalization=normalization),
            training=TrainingParams(batch_size=4),
            rounds=rounds,
        )
        self.protocol, self.secret = Federated(params, COHORT), Secret.from_seed(0)
        self.task = load_task(self.protocol.task())
        self.guards: dict[str, Defense[Any]] = {}
        parties = {facts.id: self._party(facts, make) for facts in self.protocol.facts.seats}
        self.start = parties["aggregator"].state()
        tokens = tuple(f"row{i}" for i in range(ROWS))
        holds = Holdings(tokens=tokens, units=torch.arange(ROWS))
        schedule = Schedule(tokens, list(range(ROWS)), rounds, 4, holds.sampling, self.secret.branch("schedule"))
        self.protocol.run(Wire(parties, self.secret.branch("wire")), schedule)
        self.state = parties["aggregator"].state()

    def _party(self, facts: SeatFacts, make: Callable[[Seat], Defense[Any]]) -> Any:
        seat = Seat(facts, self.secret.branch(facts.id), shared=self.secret.branch("shared"))
        if facts.role != "site":
            return self.protocol.party(seat, self.task, Defense(None, seat), Holdings(tokens=(), units=torch.zeros(0).long()))
        draw = torch.Generator().manual_seed(int(facts.id[-1]))
        n = ROWS // 2
        holds = Holdings(
            tokens=tuple(f"{facts.id}-{i}" for i in range(n)), units=torch.arange(n),
            images=torch.randn(n, 2, 16, 16, generator=draw), regions=(torch.rand(n, 3, 16, 16, generator=draw) > 0.7).float(),
        )  # fmt: skip
        self.guards[facts.id] = make(seat)
        return self.protocol.party(seat, self.task, self.guards[facts.id], holds)

    def logits(self) -> torch.Tensor:
        """Return what the final model answers to noise images."""
        model = self.protocol.predictor({"aggregator": self.state}, self.task, {})
        return model.eval()(torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(9)))


@pytest.fixture
def seat() -> Callable[..., Seat]:
    """Give sites' seats by seed."""
    return make_seat


@pytest.fixture
def update() -> Callable[..., Message]:
    """Give updates of given tensors."""
    return make_update


@pytest.fixture(scope="session")
def trained() -> type[Trained]:
    """Give the tiny training."""
    return Trained
