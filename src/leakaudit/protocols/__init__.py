"""How parties train together: centralized, split, federated, and the base class of any other protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakaudit._lazy import lazy

if TYPE_CHECKING:
    from leakaudit.protocols.base import Guard, Holdings, Protocol
    from leakaudit.protocols.centralized import control
    from leakaudit.protocols.schedule import Sampler, Sampling, Schedule
    from leakaudit.protocols.training import Learner, initial_network, plain_state

__all__ = [
    "Guard", "Holdings", "Learner", "Protocol", "Sampler", "Sampling", "Schedule", "control", "initial_network",
    "plain_state",
]  # fmt: skip

__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(("Guard", "Holdings", "Protocol"), "base"),
        **dict.fromkeys(("Sampler", "Sampling", "Schedule"), "schedule"),
        **dict.fromkeys(("Learner", "initial_network", "plain_state"), "training"),
        "control": "centralized",
    },
)
