"""The policy: which limits decide, who set them and why, which attacks are required, and what stops a build."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from leakaudit.threats import Channel

__all__ = ["FailOn", "Family", "Policy", "Threshold"]

Family = Literal["reconstruction", "membership", "label", "property", "identity"]
FailOn = Literal["never", "fail", "review"]

_OWNER = "leakaudit default"


class Threshold(BaseModel):
    """A number that decides, with its owner and reason; a bare number in a recipe is one without a stated reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float = Field(description="The threshold.", allow_inf_nan=False)
    owner: str = Field(default="this recipe", description="Who answers for the threshold.")
    reason: str = Field(default="not stated", description="Why it has this value.")

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, data: Any) -> Any:
        if isinstance(data, (int, float)) and not isinstance(data, bool):
            return {"value": data}
        return data


def _default(value: float, reason: str) -> Threshold:
    return Threshold(value=value, owner=_OWNER, reason=reason)


class Policy(BaseModel):
    """Limits and rules of one audit. The defaults are conventions, not legal numbers; the report prints owner and reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    leakage_max: Threshold = Field(
        default=_default(0.10, "a tenth of the way from the best blind guess to full recovery; a convention"),
        description="Largest mean leakage of an endpoint.",
    )
    membership_max: Threshold = Field(
        default=_default(0.20, "2 AUC - 1 of .20 is an AUC of .60; a tighter limit needs more than 500 patients a side"),
        description="Largest membership advantage, 2 AUC - 1; also the limit for tanh(epsilon / 2).",
    )
    patient_max: Threshold = Field(
        default=_default(0.30, "one clearly recovered patient is a breach even if the mean is low; a convention"),
        description="Largest leakage of a single patient.",
    )
    tail_share: Threshold = Field(
        default=_default(0.10, "PASS must exclude that a tenth of such patients is above patient_max"),
        description="PASS: the upper bound of the share of patients above patient_max may not exceed this.",
    )
    tail_fail: Threshold = Field(
        default=_default(0.05, "more than one in twenty patients above patient_max is shown, not guessed (5 of 30, 7 of 50)"),
        description="FAIL: the lower bound of the share of patients above patient_max exceeds this.",
    )
    control_factor: Threshold = Field(
        default=_default(3, "simulated weak attackers pass a true leakage of .30 in 13 % at 1, in 1.6 % at 2, never at 3"),
        description="The positive control must reach this many times the endpoint's limit.",
    )
    min_patients: Threshold = Field(
        default=_default(36, "none of 36 above patient_max bounds their share below .10"),
        description="Fewest patients for PASS.",
    )
    min_repeats: Threshold = Field(
        default=_default(3, "with fewer trainings the spread between trainings is unknown"),
        description="Fewest training repeats for PASS.",
    )
    dice_margin: Threshold = Field(
        default=_default(0.05, "loss of Dice against the undefended model that is accepted; a convention"),
        description="Largest loss of mean Dice.",
    )
    required: dict[Channel, tuple[Family, ...]] = Field(
        default={
            "activation": ("reconstruction",),
            "cut-gradient": ("label",),
            "label": (),
            "update": ("reconstruction", "membership"),
            "model": ("membership",),
            "output": ("membership",),
            "control": (),
        },
        description="Attack families that must be tried on each channel of the wire before a defense can pass.",
    )
    candidates: tuple[str, ...] = Field(
        default=(), description="Labels of the defenses that the verdict is about; empty: every defense of the recipe."
    )
    require: Literal["any", "all"] = Field(
        default="any", description="Whether one acceptable candidate is enough for a protocol, or all must be acceptable."
    )
    fail_on: FailOn = Field(
        default="review", description="What makes the exit code non-zero: never, only FAIL, or anything but PASS."
    )

    @field_validator(
        "leakage_max", "membership_max", "patient_max", "tail_share", "tail_fail", "control_factor", "min_patients",
        "min_repeats", "dice_margin",
    )  # fmt: skip
    @classmethod
    def _positive(cls, threshold: Threshold) -> Threshold:
        if threshold.value <= 0:
            raise ValueError(f"a threshold must be above 0, not {threshold.value:g}")
        return threshold

    @field_validator("leakage_max", "membership_max", "patient_max", "tail_share", "tail_fail", "dice_margin")
    @classmethod
    def _share(cls, threshold: Threshold) -> Threshold:
        if threshold.value >= 1:
            raise ValueError(f"this threshold is a share and must be below 1, not {threshold.value:g}")
        return threshold

    def thresholds(self) -> dict[str, Threshold]:
        """Return all thresholds by name, for the report."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, Threshold)}
