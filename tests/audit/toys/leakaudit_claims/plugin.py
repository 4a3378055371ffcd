"""Hook implementation."""

from __future__ import annotations

from collections.abc import Iterator

from leakaudit.plugins import DefenseInfo, hookimpl
from leakaudit_claims.params import Claiming


@hookimpl
def leakaudit_defenses() -> Iterator[DefenseInfo]:
    yield DefenseInfo(
        name="toy-claimant", summary="A toy.", params=Claiming, target="leakaudit_claims.defense:Claimant", api_version="1.0",
        channels=("model", "update"), stochastic=True, claim="(epsilon, delta)-DP, or so it says",
    )  # fmt: skip
