"""Who holds which secret in a round: the part of secure aggregation that an audit simulates.

In Bonawitz et al. (CCS 2017) sites agree on pairwise seeds by Diffie-Hellman and send each other shares, encrypted, through the
aggregator. Here a dealer whom all sites trust hands out the same secrets: they follow from one key that the sites' seats derive
alike. Code for a site takes what is that site's due and nothing else, and code for the aggregator never has a key.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from leakaudit_updates.secure_shares import PRIME, share

__all__ = ["Deal", "stream"]


def stream(seed: int, count: int) -> Tensor:
    """Return a mask: integers, uniform over all of int64, that follow from a seed by SHAKE-256 (NIST FIPS 202).

    Args:
        seed: In [0, PRIME).
        count: How many.

    Returns:
        Shape (count,), on the CPU.
    """
    data = hashlib.shake_256(b"leakaudit-updates mask" + seed.to_bytes(16, "little")).digest(8 * count)
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype="<i8").astype(np.int64, copy=False))


class Deal:
    """The secrets of one round.

    Args:
        key: Secret of the round, 16 bytes.
        sites: Number of sites; they are numbered from 0.
        threshold: Shares that give a secret back.
    """

    def __init__(self, key: bytes, sites: int, threshold: int) -> None:
        self.sites, self.threshold = sites, threshold
        self._key = key

    def own(self, site: int) -> int:
        """Return the seed of a site's self mask, which that site alone knows."""
        return self._number(f"own {site}")

    def pair(self, one: int, other: int) -> int:
        """Return the seed of two sites' mask, which these two know."""
        return self._number(f"pair {min(one, other)} {max(one, other)}")

    def share_of_own(self, site: int, holder: int) -> int:
        """Return a holder's share of a self mask's seed."""
        return self._share(f"own {site}", holder)

    def share_of_pair(self, one: int, other: int, holder: int) -> int:
        """Return a holder's share of two sites' seed."""
        return self._share(f"pair {min(one, other)} {max(one, other)}", holder)

    def mask(self, site: int, count: int) -> Tensor:
        """Return what a site adds to its encoded update: its self mask, and the pairwise ones, which cancel in the sum.

        Sums of int64 wrap around, so they are sums modulo 2**64. Of two sites the one with the smaller number adds their mask
        and the other takes it away.

        Returns:
            Shape (count,), int64.
        """
        total = stream(self.own(site), count)
        for other in range(self.sites):
            if other != site:
                total = total + sign(site, other) * stream(self.pair(site, other), count)
        return total

    def _share(self, name: str, holder: int) -> int:
        return share(self._number(name), [self._number(f"{name} power {p}") for p in range(1, self.threshold)], holder)

    def _number(self, name: str) -> int:
        data = hashlib.shake_256(b"leakaudit-updates deal" + self._key + name.encode()).digest(32)
        # 256 bits modulo a prime of 127: uniform up to 2**-129.
        return int.from_bytes(data, "little") % PRIME


def sign(site: int, other: int) -> int:
    """Return with which sign a site adds the mask that it shares with another."""
    return 1 if site < other else -1
