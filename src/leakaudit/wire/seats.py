"""A seat: one party's place, its identity, its randomness, and what it may touch."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from leakaudit.facts import ProtocolFacts, SeatFacts

if TYPE_CHECKING:
    from leakaudit.cohorts.cohort import Cohort
    from leakaudit.models.task import Task
    from leakaudit.wire.replica import Replica

__all__ = ["Seat", "Secret"]


@dataclass(frozen=True, slots=True)
class Secret:
    """A node of a tree of random streams.

    A branch is HMAC-SHA256 of its name under its parent's key (the expand step of HKDF, RFC 5869): who holds one branch
    can derive neither its parent nor its siblings. So an attack that knows a recipe, and even its own branch, cannot
    recompute the noise of a defense.
    """

    key: bytes = field(repr=False)

    @staticmethod
    def from_seed(seed: int, *context: str) -> Secret:
        """Return the root for a recipe's seed."""
        return Secret(hashlib.sha256(f"leakaudit:{seed}".encode()).digest()).branch(*context)

    def branch(self, *names: str) -> Secret:
        """Return the secret below this one under `names`."""
        key = self.key
        for name in names:
            key = hmac.new(key, name.encode(), hashlib.sha256).digest()
        return Secret(key)

    def seed(self) -> int:
        """Return a seed in [0, 2**63)."""
        return int.from_bytes(hmac.new(self.key, b"seed", hashlib.sha256).digest()[:8], "big") >> 1

    def token(self, name: str) -> str:
        """Return an opaque 12-digit hexadecimal token for `name`."""
        return hmac.new(self.key, b"token:" + name.encode(), hashlib.sha256).hexdigest()[:12]

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a fresh generator on `device`."""
        return torch.Generator(device=device).manual_seed(self.seed())


class Seat:
    """One party's place.

    Args:
        facts: Public facts of the place.
        secret: This seat's own branch of randomness.
        shared: Branch that the honest parties agree on (initial weights); an attack's process never has it.
        device: Where it computes.
        precision: Arithmetic of forward passes, `"float32"` or `"mixed"` (bfloat16 where it is safe).
        auxiliary: Cohort the party owns besides its holdings; only an adversary's seat has one.
        replicas: Gives replicas of other seats; only an adversary's seat has it.
        protocol: Public facts of the protocol; None where an object is tried outside of one.
        task: The task that all learn; honest seats have it, an adversary's where the architecture is granted.
    """

    def __init__(
        self,
        facts: SeatFacts,
        secret: Secret,
        *,
        shared: Secret | None = None,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        auxiliary: Cohort | None = None,
        replicas: Callable[[str, int], Replica] | None = None,
        protocol: ProtocolFacts | None = None,
        task: Task | None = None,
    ) -> None:
        self.facts = facts
        self.protocol = protocol
        self.device = torch.device(device)
        self.precision = precision
        self.auxiliary = auxiliary
        self.log = logging.getLogger(f"leakaudit.seat.{facts.id}")
        self._secret, self._shared, self._replicas, self._task = secret, shared, replicas, task
        self._streams: dict[str, torch.Generator] = {}

    @property
    def id(self) -> str:
        """Name of the seat."""
        return self.facts.id

    @property
    def role(self) -> str:
        """Role of the seat."""
        return self.facts.role

    def rng(self, purpose: str) -> torch.Generator:
        """Return this seat's stream for `purpose`. Asked twice, it is the same stream, further on."""
        if purpose not in self._streams:
            self._streams[purpose] = self._secret.branch(purpose).generator(self.device)
        return self._streams[purpose]

    def shared_seed(self, purpose: str) -> int:
        """Return a seed that all honest seats agree on.

        Raises:
            PermissionError: This seat is an adversary's.
        """
        if self._shared is None:
            raise PermissionError(f"seat {self.id!r} has no shared randomness")
        return self._shared.branch(purpose).seed()

    @property
    def task(self) -> Task:
        """The task that all learn: network and loss.

        Raises:
            PermissionError: The threat model does not grant the architecture.
        """
        if self._task is None:
            raise PermissionError(f"seat {self.id!r} is not told the task: add 'architecture' to ThreatModel.knows")
        return self._task

    def replica(self, seat: str, *, round: int = -1) -> Replica:
        """Return a replica of another seat as the threat model grants it.

        Raises:
            PermissionError: The threat model grants none.
        """
        if self._replicas is None:
            raise PermissionError(f"seat {self.id!r} may not ask for replicas")
        return self._replicas(seat, round)
