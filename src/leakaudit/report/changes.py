"""What differs between two reports: the parts of a comparison."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.report.base import Measured, Part

__all__ = ["NOTES", "Changes", "NumberChange", "Outcome", "StatusChange"]

Outcome = Literal["worse", "better", "not significant", "not decidable"]

NOTES = (
    "The two runs are treated as independent, which is conservative for runs that share patients: such runs differ by less "
    "chance than is assumed here.",
    "Each change is decided on its own at 95 %; of many numbers that did not really change, up to about one in forty"
    " is called worse by chance.",
)
"""How to read every comparison."""


class NumberChange(Part):
    """One number that both reports hold and that is not the same in both."""

    quantity: Literal["leakage", "Dice"] = Field(description="What changed; leakage is worse when it rises, Dice when it falls.")
    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Label of the defense.")
    attack: str | None = Field(default=None, description="Label of the attack; null for Dice.")
    endpoint: str | None = Field(default=None, description="Endpoint with channel, seat and level; null for Dice.")
    before: float | None = Field(description="The number in A; null where it is missing.")
    after: float | None = Field(description="The number in B; null where it is missing.")
    difference: Measured = Field(description="B minus A with its 95 % interval.")
    outcome: Outcome = Field(description="Whether the interval excludes 0, and on which side.")


class StatusChange(Part):
    """One status word that both reports hold and that is not the same in both."""

    of: Literal["verdict", "privacy", "utility", "pairing", "endpoint"] = Field(description="Whose status.")
    where: str = Field(description="Labels of protocol, defense, attack and endpoint; empty for the verdict.")
    before: str = Field(description="Status in A.")
    after: str = Field(description="Status in B.")
    direction: Literal["worse", "better", "other"] = Field(
        description="Worse: PASS to anything else, or REVIEW to FAIL or ERROR. Better: the reverse. Other: neither."
    )


class Changes(Part):
    """Everything that differs from report A to report B."""

    verdict: StatusChange | None = Field(default=None, description="Change of the verdict; null where it is the same.")
    statuses: list[StatusChange] = Field(default=[], description="Changes of the other statuses.")
    dice: list[NumberChange] = Field(default=[], description="Baselines whose mean Dice changed.")
    leakage: list[NumberChange] = Field(default=[], description="Endpoints of pairings whose leakage changed.")
    only_a: list[str] = Field(default=[], description="Baselines, pairings and endpoints that B does not have.")
    only_b: list[str] = Field(default=[], description="Baselines, pairings and endpoints that A does not have.")
    compared: int = Field(ge=0, description="How many numbers have a place in both reports, missing ones included.")
    warnings: list[str] = Field(default=[], description="Why the runs may not be comparable.")
    notes: list[str] = Field(default=list(NOTES), description="How to read the comparison.")

    def worse(self) -> bool:
        """Return whether a leakage rose or Dice fell significantly, or a status got worse."""
        statuses = [*self.statuses, *([self.verdict] if self.verdict else [])]
        return any(s.direction == "worse" for s in statuses) or any(n.outcome == "worse" for n in [*self.dice, *self.leakage])
