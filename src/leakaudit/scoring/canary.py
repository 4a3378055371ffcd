"""Canaries: bits planted in a patient's images by fair coins, and how many of them an adversary reads back.

The interval is that over patients (`intervals.leakage_interval`), never one with bits as trials: bits of one patient are
read or lost together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["CANARY_CHANCE", "bit_accuracy"]

CANARY_CHANCE = 0.5
"""Accuracy of guessing fair coins."""


def bit_accuracy(decoded: ArrayLike, truth: ArrayLike) -> Floats:
    """Return the share of bits read correctly, per canary.

    Args:
        decoded: Decoded bits, or scores for a 1 between 0 and 1, shape (canaries, bits). Exactly .5 counts half.
        truth: True bits, the same shape.

    Raises:
        EvidenceError: Shapes differ, or a decoded value is not between 0 and 1.
    """
    read, true = finite("the decoded bits", decoded, ndim=2), finite("the true bits", truth, ndim=2)
    if read.shape != true.shape:
        raise EvidenceError(f"decoded bits of shape {read.shape} for true bits of shape {true.shape}")
    if read.min() < 0 or read.max() > 1 or not np.isin(true, (0, 1)).all():
        raise EvidenceError("decoded bits must lie between 0 and 1, and true bits must be 0 or 1")
    return np.asarray(np.where(read == 0.5, 0.5, (read > 0.5) == (true == 1)).mean(axis=1))
