"""Parameters of the membership attacks, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import Grant, NotApplicable, Requires, Tap, ThreatModel

__all__ = ["MembershipLossParams"]


class MembershipLossParams(AttackParams):
    """Parameters of `membership-loss`."""

    signal: Literal["cross-entropy", "dice", "task"] = Field(
        "cross-entropy",
        description="What is small for patients the model was trained on: the mean cross-entropy per brain voxel; 1 - soft "
        "Dice inside the brain; or the loss that the victims minimized (the adversary must then know the task).",
    )
    calibrate: Literal["none", "site", "volume", "site+volume"] = Field(
        "none",
        description="What is taken out of the scores first: differences in mean and spread between sites, the part that a "
        "straight line through the candidates' tumor volumes explains, or both.",
    )

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """An outsider with candidates and their masks, who sees what the deployed model answers for them."""
        if "output" not in facts.channels:
            return NotApplicable(reason=f"protocol {facts.protocol!r} deploys no model that answers an outsider")
        knows: tuple[Grant, ...] = ("candidates", "labels")
        if self.signal == "task":
            knows = (*knows, "architecture")
        threat = ThreatModel(plays=("outsider",), channels=("output",), knows=knows, auxiliary="same")
        return Requires(threat=threat, taps=(Tap(channel="output"),))
