"""The base of every part of `report.json`: strict, frozen, and without NaN."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = ["Ci", "Count", "Measured", "Part", "PatientId", "Status"]

Status = Literal["PASS", "FAIL", "REVIEW", "ERROR", "N/A", "control"]
"""Status words. `control` is an undefended pairing: it is shown and never a gate."""

PatientId = Annotated[str, Field(pattern=r"^P-[0-9a-z]{4,16}$")]
"""A pseudonym made by `leakaudit.report.privacy.pseudonym`. The pattern keeps a hospital's own identifier from slipping in."""


def _ordered(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the interval's lower bound {bounds[0]} is above its upper bound {bounds[1]}")
    return bounds


# A list and not a tuple: draft-07 JSON Schema has no `prefixItems`.
Ci = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
"""A two-sided 95 % interval, [low, high]."""


Count = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^fewer than [0-9]+$")]
"""A number of patients; in words where it is so small that the exact one could single a person out (`report.min_cell`)."""


class Part(BaseModel):
    """One object of the report: unknown fields are refused, numbers are finite, nothing changes after it is built."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measured(Part):
    """A number that may be missing, but then says why."""

    value: float | None = Field(description="The number; null where it is missing, never NaN.")
    ci: Ci | None = Field(default=None, description="Two-sided 95 % interval [low, high]; null where none can be stated.")
    reason: str | None = Field(default=None, description="Why `value` is null. Required then.")

    @model_validator(mode="after")
    def _missing_says_why(self) -> Measured:
        if self.value is None and not self.reason:
            raise ValueError("a missing value (null) needs a reason")
        if self.value is None and self.ci is not None:
            raise ValueError("a missing value (null) cannot have an interval")
        return self
