"""Parameters of site-level differential privacy, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import DefenseParams
from leakaudit.threats import Needs, NotApplicable

__all__ = ["SiteDpParams"]


class SiteDpParams(DefenseParams):
    """User-level DP for federated averaging, the user being a whole site (McMahan et al. 2018; Geyer et al. 2017)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"noise_multiplier": 1.0}, {"target_epsilon": 8, "mode": "local"}]})

    mode: Literal["central", "local"] = Field(
        "central",
        description='Who adds the noise: "central", the aggregator, once to the sum, so that the model is covered and the updates '
        'that it sees are not; "local", every site, so that its updates are covered too.',
    )
    noise_multiplier: float | None = Field(
        None, gt=0, description="Standard deviation of the noise over the clip norm. Give this or target_epsilon."
    )
    target_epsilon: float | None = Field(
        None, gt=0, description="Epsilon of the whole training, from which the noise follows. Give this or the noise."
    )
    clip: float = Field(1.0, gt=0, description="L2 norm to which a site's whole update, all its tensors together, is clipped.")
    delta: float = Field(1e-5, gt=0, lt=1, description="Failure probability. Must be below 1 / number of sites, checked at start.")

    @model_validator(mode="after")
    def _noise_or_target(self) -> SiteDpParams:
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise ValueError("give exactly one of noise_multiplier and target_epsilon")
        return self

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for those who send updates and, where the noise is central, for those who add them up."""
        updates = [flow for flow in facts.flows if flow.channel == "update"]
        if not updates:
            return NotApplicable(
                reason=f"no party of the protocol {facts.protocol!r} sends updates of a model (roles: {', '.join(facts.roles)})"
            )
        senders, receivers = ([getattr(flow, end) for flow in updates] for end in ("sender", "receiver"))
        central = self.mode == "central"
        return Needs(
            seats=tuple(dict.fromkeys([*senders, *receivers] if central else senders)),
            channels=("update", "model") if central else ("update",), unit="site",
        )  # fmt: skip
