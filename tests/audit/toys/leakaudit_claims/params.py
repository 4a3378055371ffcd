"""Parameters of the claimant."""

from __future__ import annotations

from typing import Literal

from leakaudit_dp.params import DpSgdParams
from pydantic import Field

__all__ = ["Claiming"]


class Claiming(DpSgdParams):
    """DP-SGD, or what is said to be."""

    how: Literal["honest", "no-noise", "clip-after-noise", "not-sampled"] = Field("honest", description="What is wrong with it.")
