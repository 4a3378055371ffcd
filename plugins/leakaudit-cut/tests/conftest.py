"""Small split trainings on the phantom, under an honest server and under the hijacking servers of leakaudit-hijacking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pytest
import torch

from leakaudit.cohorts import Cohort, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.defenses import Chain, Defense
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.split import Split
from leakaudit.wire import Alarm, Message, Party, Seat, Secret, Wire

MODALITIES = ("flair", "t1ce")
Guards = Callable[[Seat], Defense[Any] | None]
"""Gives the defense of a seat, or None."""


@lru_cache(maxsize=4)
def _patients(members: int, side: int, seed: int) -> tuple[Cohort, Cohort]:
    """Return the members and the adversary's own patients."""
    phantom = Phantom(PhantomParams(patients=members + 24, size=side, visits=1, modalities=MODALITIES), seed)
    keys = [entry.patient for entry in phantom.inventory().patients]
    return phantom.load(keys[:members]), phantom.load(keys[members:])


class _Counting(Party):
    """Counts the batches that a server answers."""

    def __init__(self, party: Party) -> None:
        self.party, self.batches = party, 0

    def reply(self, inbox: Any) -> Any:
        sent = self.party.reply(inbox)
        self.batches += any(m.receiver == "client-0" for m in sent)
        return sent


@dataclass(kw_only=True)
class Collaboration:
    """One training by two image clients.

    Attributes:
        guards: Gives the seats' defenses.
        hijack: Parameters of `feature-space-hijack`; None for an honest server.
        seed: Seed of patients, weights and batches.
        rounds: Passes over the members.
        members: Patients that are trained on.
        side: Voxels along each side of their images.
        protocol: Further parameters of the split.
    """

    guards: Guards = lambda seat: None
    hijack: Mapping[str, Any] | None = None
    seed: int = 0
    rounds: int = 10
    members: int = 16
    side: int = 16
    protocol: Mapping[str, Any] = field(default_factory=dict)
    defenses: dict[str, Defense[Any]] = field(default_factory=dict)
    parties: dict[str, Party] = field(default_factory=dict)
    batches: int = 0

    def run(self) -> Alarm | None:
        """Train, and return the alarm that stopped it."""
        mine, owned = _patients(self.members, self.side, self.seed)
        facts = CohortFacts(
            modalities=MODALITIES, shape=mine.shape, members=len(mine), auxiliary=len(owned), sites=mine.sites, records=len(mine)
        )
        settings = {"network": {"channels": [8, 16]}, "training": {"batch_size": 8}, "labels": "sent", "rounds": self.rounds}
        split = Split(SplitParams.model_validate({**settings, **self.protocol}), facts)
        secret, sampling = Secret.from_seed(self.seed), Sampling(kind="shuffle", unit="record")
        tokens = tuple(f"row{i}" for i in range(len(mine)))
        for seat_facts in split.facts.seats:
            self._place(split, seat_facts, secret.branch(seat_facts.id), secret.branch("shared"), mine, tokens, sampling)
        if self.hijack is not None:
            self.parties["server"] = _hijacker(self.parties["server"], split, secret.branch("adversary"), owned, self.hijack)
        server = self.parties["server"] = _Counting(self.parties["server"])
        schedule = Schedule(
            tokens, list(range(len(mine))), self.rounds, split.params.training.batch_size, sampling, secret.branch("schedule")
        )
        try:
            split.run(Wire(self.parties, secret.branch("wire")), schedule)
        except Alarm as alarm:
            return alarm
        finally:
            self.batches = server.batches
        return None

    def _place(
        self, split: Split, facts: SeatFacts, secret: Secret, shared: Secret, cohort: Cohort, tokens: tuple[str, ...],
        sampling: Sampling,
    ) -> None:  # fmt: skip
        index = [MODALITIES.index(m) for m in facts.modalities]
        holds = Holdings(
            tokens=tokens, units=torch.arange(len(cohort)), sampling=sampling,
            images=torch.from_numpy(cohort.images[:, index]) if index else None,
            regions=torch.from_numpy(regions(cohort.labels)) if facts.labels else None,
        )  # fmt: skip
        seat = Seat(facts, secret, shared=shared)
        made = self.guards(seat)
        if made is not None:
            self.defenses[facts.id] = made
        self.parties[facts.id] = split.party(seat, load_task(split.task()), Chain([made] if made else [], seat), holds)


def _hijacker(honest: Party, split: Split, secret: Secret, owned: Cohort, params: Mapping[str, Any]) -> Party:
    attack = pytest.importorskip("leakaudit_hijacking.hijacker")
    chosen = pytest.importorskip("leakaudit_hijacking.hijack_params").FeatureSpaceHijackParams
    (facts,) = split.facts.seats_of("server")
    party: Party = attack.Hijacker(
        honest, Seat(facts, secret, auxiliary=owned, protocol=split.facts), chosen.model_validate(params)
    )
    return party


@pytest.fixture
def collaboration() -> Callable[..., Collaboration]:
    """Make a training."""
    torch.set_num_threads(1)
    return Collaboration


@pytest.fixture
def gradients() -> Callable[..., Message]:
    """Make a message of gradients for a client."""

    def make(step: int = 0, samples: tuple[str, ...] = ("a", "b"), **levels: torch.Tensor) -> Message:
        return Message(
            channel="cut-gradient", sender="server", receiver="client-0", round=0, step=step, samples=samples, tensors=levels
        )

    return make
