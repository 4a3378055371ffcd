"""What counts as acceptable, what each training is worth, and how trainings compare: parts of `report.json`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.report.base import Ci, Count, Measured, Part, Status
from leakaudit.report.pairings import EndpointKind, GuaranteeStatement, Strongest
from leakaudit.threats import Channel

__all__ = [
    "Baseline", "Comparison", "Coverage", "EqualUtility", "Information", "NotAttacked", "Policy", "SweepPoint",
    "Threshold", "Utility",
]  # fmt: skip


class Threshold(Part):
    """One threshold: a convention of its owner, not a legal number."""

    name: str = Field(description="Name, for example 'leakage_max'.")
    value: float = Field(description="The number.")
    owner: str = Field(description="Who set it.")
    reason: str = Field(description="Why.")


class Policy(Part):
    """What counts as acceptable, fixed before the run."""

    thresholds: list[Threshold] = Field(default=[], description="The thresholds.")
    required: dict[str, list[str]] = Field(default={}, description="Attack families that must be tried, by channel.")
    candidates: list[str] = Field(default=[], description="Defenses that are candidates for release.")
    require: Literal["any", "all"] = Field(default="any", description="How many candidates must be acceptable.")


class NotAttacked(Part):
    """Something that crosses the wire and was not attacked."""

    protocol: str = Field(description="Label of the protocol.")
    channel: Channel = Field(description="The channel.")
    family: str | None = Field(default=None, description="Attack family that is missing; null for all.")
    defenses: list[str] = Field(default=[], description="Defenses it is missing for; empty for all.")
    reason: str = Field(description="Why.")


class Utility(Part):
    """What the collaboration is worth: Dice on test patients."""

    dice: dict[str, float | None] = Field(
        description="Mean Dice by region (WT, TC, ET), and 'mean' over patients of their regions, 0 to 1."
    )
    hd95: dict[str, float | None] = Field(default={}, description="95 % Hausdorff distance by region, see `hd95_unit`.")
    hd95_unit: str = Field(default="mm", description="Unit of hd95: mm or voxels.")
    ci: Ci | None = Field(default=None, description="95 % interval of the mean Dice.")
    difference: Measured | None = Field(default=None, description="Mean Dice minus undefended, paired; null if undefended.")
    n: Count = Field(description="Number of test patients.")
    status: Status = Field(description="Utility's own word; N/A where the defense has no meaning in the protocol.")
    reason: str | None = Field(default=None, description="Why a number is missing, or why the status is not PASS.")


class Information(Part):
    """What one message carries about an image, where its noise has a closed form: diagonal Fisher information leakage."""

    seat: str = Field(description="Seat that sends.")
    dfil: Measured = Field(description="Fisher information of a voxel inside the brain, 1 / (unit of the images)^2, one message.")
    mse: Measured = Field(description="Least mean squared error inside the brain of an unbiased attacker with one message.")
    images: Count = Field(description="Images it was computed on.")


class Baseline(Part):
    """One training: protocol x defense, with what it is worth and what it costs."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Label of the defense; 'none' where there is none.")
    status: Status = Field(description="Privacy verdict of the defense over its pairings.")
    reasons: list[str] = Field(default=[], description="Why.")
    utility: Utility = Field(description="Dice on test patients.")
    strongest: Strongest | None = Field(
        default=None, description="Leakage of the attack that leaks most, chosen on the attacked patients, so that it errs upward."
    )
    by_kind: list[Strongest] = Field(
        default=[], description="Leakage of the strongest attack of each kind, the attack chosen for each patient on the others."
    )
    not_dominated: bool | None = Field(
        default=None, description="In the band that nothing significantly dominates; null where fewer than 3 repeats forbid to say."
    )
    guarantee: GuaranteeStatement | None = Field(default=None, description="Its formal claim; of several, the first.")
    further_guarantees: list[GuaranteeStatement] = Field(
        default=[], description="Its other formal claims, about other units, channels or mechanisms. None stands for another."
    )
    information: list[Information] = Field(default=[], description="Fisher information of what seats send; empty where unknown.")
    notes: list[str] = Field(
        default=[], description="What happened beside the plan, rounds counted from 0: a site that left, an update left out."
    )
    traffic_bytes: int | None = Field(default=None, ge=0, description="Bytes that crossed the wire.")
    seconds: float | None = Field(default=None, ge=0, description="Training time, seconds.")

    @property
    def guarantees(self) -> list[GuaranteeStatement]:
        """All formal claims."""
        return [] if self.guarantee is None else [self.guarantee, *self.further_guarantees]


class Comparison(Part):
    """Two defenses of one protocol, compared by the rule of evidence for one kind of leakage."""

    protocol: str = Field(description="Label of the protocol.")
    kind: EndpointKind = Field(description="Kind of leakage that is compared: the strongest attack of that kind on each side.")
    a: str = Field(description="One defense; 'none' is the undefended training.")
    b: str = Field(description="The other defense.")
    leakage: Measured = Field(description="Leakage of a minus leakage of b.")
    dice: Measured = Field(description="Mean Dice of a minus mean Dice of b.")
    outcome: Literal["a beats b", "b beats a", "not distinguishable"] = Field(description="What the rule says.")
    reason: str | None = Field(default=None, description="Why nothing can be said, for example too few repeats.")


class SweepPoint(Part):
    """Leakage of one defense, swept over its strength, at a given Dice."""

    defense: str = Field(description="Plugin (or chain) whose strength was swept.")
    settings: list[str] = Field(min_length=1, description="Labels of the defenses on the curve, the undefended one included.")
    leakage: Measured = Field(description="Leakage interpolated at that Dice, with a bootstrapped interval of the whole curve.")


class EqualUtility(Part):
    """Swept defenses of one protocol at one Dice that lies inside the range of each: never extrapolated."""

    protocol: str = Field(description="Label of the protocol.")
    kind: EndpointKind = Field(description="Kind of leakage.")
    dice: float = Field(description="Mean Dice at which the curves are compared.")
    points: list[SweepPoint] = Field(min_length=2, description="The swept defenses.")


class Coverage(Part):
    """Whether one attack family was tried on one channel."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Label of the defense.")
    channel: Channel = Field(description="The channel.")
    family: str = Field(description="The attack family.")
    state: Literal["tested", "not adaptive", "failed", "not tested", "not applicable"] = Field(description="What happened.")
    required: bool = Field(default=False, description="Whether the policy requires it.")
    attacks: list[str] = Field(default=[], description="Attacks that were tried.")
    reason: str | None = Field(default=None, description="Why it was not tested.")
