"""Shares of a secret: any `threshold` of them give it back, fewer tell nothing (Shamir, Communications of the ACM 1979)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["PRIME", "packed", "recover", "share", "unpacked"]

PRIME = 2**127 - 1
"""Secrets and shares are integers from 0 up to this Mersenne prime."""
_BYTES = 16


def share(secret: int, coefficients: Sequence[int], holder: int) -> int:
    """Return a holder's share: the value at `holder` + 1 of the polynomial that is the secret at 0.

    Args:
        secret: In [0, PRIME).
        coefficients: Of the polynomial's higher powers, uniformly drawn; their number is the threshold minus 1.
        holder: Number of the holder, from 0.
    """
    place, value = holder + 1, 0
    for coefficient in reversed((secret, *coefficients)):
        value = (value * place + coefficient) % PRIME
    return value


def recover(shares: Mapping[int, int]) -> int:
    """Return the secret, by Lagrange's interpolation at 0.

    Args:
        shares: Share by number of its holder, exactly as many as the threshold.
    """
    secret = 0
    for holder, value in shares.items():
        above = below = 1
        for other in shares:
            if other != holder:
                above = above * (other + 1) % PRIME
                below = below * (other - holder) % PRIME
        secret += value * above * pow(below, -1, PRIME)
    return secret % PRIME


def packed(numbers: Sequence[int]) -> Tensor:
    """Return integers from 0 up to `PRIME` as a tensor (n, 16) of bytes, which is how they cross the wire."""
    rows = [list(number.to_bytes(_BYTES, "little")) for number in numbers]
    return torch.tensor(rows, dtype=torch.uint8).reshape(-1, _BYTES)


def unpacked(rows: Tensor) -> list[int]:
    """Return the integers of a tensor (n, 16) of bytes."""
    return [int.from_bytes(bytes(row), "little") for row in rows.tolist()]
