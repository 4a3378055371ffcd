"""Parameters of DP-SGD, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import DefenseParams, ShadowTraining, Victim
from leakaudit.threats import Channel, Needs, NotApplicable

__all__ = ["TRAINED", "DpSgdParams"]

TRAINED: dict[str, tuple[Channel, ...]] = {"trainer": ("model",), "site": ("update", "model"), "client": ("model",)}
"""Roles that train on patients' images, and the channels that their noise covers."""


class DpSgdParams(DefenseParams):
    """DP-SGD (Abadi et al. 2016)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"noise_multiplier": 1.0}]})

    noise_multiplier: float | None = Field(
        None, gt=0, description="Standard deviation of the noise over the clip norm. Give this or target_epsilon."
    )
    target_epsilon: float | None = Field(
        None,
        gt=0,
        description="Epsilon of the whole training at each seat, from which the noise follows. Give this or the noise.",
    )
    delta: float = Field(
        1e-5, gt=0, lt=1, description="Failure probability. Must be below 1 / number of units of every seat, checked at start."
    )
    clip: float = Field(1.0, gt=0, description="L2 norm to which the gradient of each unit is clipped.")
    unit: Literal["record", "patient"] = Field(
        "patient", description="What is protected: a patient with all slices and visits, or one record (slice or volume)."
    )
    accountant: Literal["rdp", "prv"] = Field(
        "rdp", description="Accountant of Opacus: Renyi DP, or the tighter privacy loss random variables."
    )
    conditional_claim: bool = Field(
        False,
        description="In split learning, claim an epsilon for a client's model as if nothing but its own steps told of a "
        "patient. A server that learns from the same patients breaks this condition.",
    )

    @model_validator(mode="after")
    def _noise_or_target(self) -> DpSgdParams:
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise ValueError("give exactly one of noise_multiplier and target_epsilon")
        return self

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for Poisson sampling at the seats that train on images; a network that mixes patients cannot be protected."""
        roles = tuple(role for role in facts.roles if role in TRAINED)
        if not roles:
            return NotApplicable(reason=f"no seat of {facts.protocol!r} trains on images (roles: {', '.join(facts.roles)})")
        if facts.normalization == "batch":
            return NotApplicable(
                reason="the network has batch normalization layers, which mix the patients of a batch, so that no patient's "
                "gradient can be bounded; use instance or group normalization"
            )
        channels = tuple(dict.fromkeys(channel for role in roles for channel in TRAINED[role]))
        return Needs(seats=roles, channels=channels, sampling="poisson", unit=self.unit, per_sample_loss=True)

    def shadow(self, victim: Victim) -> ShadowTraining:
        """Return the clipping and noise of the victim's own steps."""
        noise = self.noise_multiplier
        if noise is None:
            from leakaudit_dp.accounting import noise_for  # here, because a plan needs no Opacus

            assert self.target_epsilon is not None
            noise = noise_for(self.accountant, epsilon=self.target_epsilon, rate=victim.rate, steps=victim.steps, delta=self.delta)
        return ShadowTraining(clip=self.clip, noise_multiplier=noise, unit=self.unit)
