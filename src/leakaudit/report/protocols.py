"""How each protocol trained, and which protocols of a run differ in one number only: parts of `report.json`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leakaudit.report.base import Part

__all__ = ["Parameter", "ProtocolSweep", "SweepSetting", "TrainedProtocol"]

Parameter = Literal["batch_size", "local_steps", "local_epochs", "rounds"]
"""What of a federation may be swept: samples in a batch, local steps or passes in a round, rounds in all."""


class TrainedProtocol(Part):
    """How one protocol trained, as everybody may know it."""

    protocol: str = Field(description="Label of the protocol.")
    plugin: str = Field(description="Plugin of the protocol.")
    rounds: int = Field(ge=1, description="Rounds of training in all.")
    normalization: str = Field(description="Normalization layers of its network: instance, group, batch or none.")
    activation: str | None = Field(default=None, description="Activation function of its network; null where it is not stated.")
    batch_size: int | None = Field(default=None, ge=1, description="Samples in a batch; null where it is not stated.")
    local_steps: int | None = Field(default=None, ge=1, description="Local steps in a round; null for whole local passes.")
    local_epochs: int | None = Field(default=None, ge=1, description="Local passes in a round; null for a number of steps.")


class SweepSetting(Part):
    """One protocol of a sweep."""

    protocol: str = Field(description="Label of the protocol.")
    value: int = Field(ge=1, description="Its value of the parameter.")


class ProtocolSweep(Part):
    """Protocols that send updates and differ in exactly one parameter."""

    parameter: Parameter = Field(description="The parameter in which they differ.")
    settings: list[SweepSetting] = Field(min_length=2, description="The protocols, the smallest value first; no value twice.")

    @model_validator(mode="after")
    def _rising(self) -> ProtocolSweep:
        values = [s.value for s in self.settings]
        if values != sorted(set(values)):
            raise ValueError(f"the values of a sweep must rise, and none may stand twice; got {values}")
        return self
