"""What an adversary works with while training goes on: its patients as the clients would hold them, and fresh networks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError
from leakaudit.facts import ProtocolFacts
from leakaudit.wire import Seat

__all__ = ["Pool", "attacked_levels", "facts_of", "fresh_networks", "pool_of"]


class Pool:
    """The adversary's patients, drawn in shuffled passes.

    Args:
        cohort: Its auxiliary samples, with masks.
        modalities: Modalities of each client.
        generator: The adversary's randomness.
        device: Where batches are needed.
    """

    def __init__(
        self, cohort: Cohort, modalities: Mapping[str, Sequence[str]], generator: torch.Generator, device: torch.device
    ) -> None:
        self.cohort, self.shape, self.device = cohort, cohort.shape, device
        self.channels = {client: [cohort.modalities.index(m) for m in held] for client, held in modalities.items()}
        self._generator = generator
        self._left: list[int] = []

    def rows(self, count: int) -> list[int]:
        """Return the next `count` rows; a new pass begins where one ends, so that small pools serve large batches."""
        while len(self._left) < count:
            order = torch.randperm(len(self.cohort), generator=self._generator, device=self._generator.device)
            self._left += order.tolist()
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def images(self, client: str, rows: Sequence[int]) -> Tensor:
        """Return (n, modalities of the client, *spatial), as the client would hold them."""
        own = self.cohort.images[np.asarray(rows)][:, self.channels[client]]
        return torch.from_numpy(np.array(own, dtype=np.float32)).to(self.device)

    def masks(self, rows: Sequence[int]) -> Tensor:
        """Return region masks (n, 3, *spatial)."""
        return torch.from_numpy(regions(self.cohort.labels[np.asarray(rows)])).to(self.device)


def facts_of(seat: Seat) -> ProtocolFacts:
    """Return the protocol in which an adversary plays."""
    assert seat.protocol is not None  # a party plays in a training, and that is one of a protocol
    return seat.protocol


def pool_of(seat: Seat, attack: str) -> Pool:
    """Return the pool of an adversary's seat: its patients, by the modalities that each client holds.

    Args:
        seat: Its seat.
        attack: Name of the attack, for messages.

    Raises:
        UserError: It owns no patients.
    """
    if seat.auxiliary is None or not len(seat.auxiliary):
        raise UserError(f"{attack} learns from auxiliary patients, and the adversary owns none: raise data.split.auxiliary")
    held = {client.id: client.modalities for client in facts_of(seat).seats_of("client")}
    return Pool(seat.auxiliary, held, seat.rng("auxiliary batches"), seat.device)


def attacked_levels(sent: Mapping[str, Tensor], chosen: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Return the shape (channels, *spatial) of each attacked level, shallowest first.

    The order is that of their sizes: a message that came from another process need not keep the order it was sent in.

    Args:
        sent: What a client sent, by level.
        chosen: Levels to attack; None for all.
    """
    found = {name: tuple(t.shape[1:]) for name, t in sent.items() if chosen is None or name in chosen}
    return dict(sorted(found.items(), key=lambda item: (-math.prod(item[1][1:]), item[0])))


@contextlib.contextmanager
def fresh_networks(seat: Seat, purpose: str) -> Iterator[None]:
    """Initialize networks from the seat's own stream for `purpose`, whatever the global generator's state.

    Each purpose has a stream of its own: leaving one network out changes the start of no other.
    """
    generator = seat.rng(purpose)
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
