"""What toys that read one level of a cut, and toys of membership, need; without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import NotApplicable, Requires, Tap, ThreatModel

SERVER = ThreatModel(plays=("server",), channels=("activation",), knows=("architecture", "weights", "sample-ids"))


class Reading(AttackParams):
    """Names the levels it reads."""

    levels: list[str] = Field(["level1"], description="Levels to read.")
    works: bool = Field(True, description="Whether it reads the shallowest level; the others it never can.")
    jitter: float = Field(0.0, description="Spread of what it adds to all its images, drawn once from its own randomness.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        return Requires(threat=SERVER, taps=(Tap(channel="activation", names=tuple(self.levels)),))


class Tapping(AttackParams):
    """Names no level: it reads what its taps bring."""

    stubborn: bool = Field(False, description="Whether it insists on the level it was written for.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        return Requires(threat=SERVER, taps=(Tap(channel="activation", names=("level1",)),))


class Asking(AttackParams):
    """Asks the deployed model about candidates."""

    way: Literal["loss", "nothing"] = Field("loss", description="What it goes by: the loss, or nothing at all.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        threat = ThreatModel(plays=("outsider",), channels=("output",), knows=("candidates", "labels"))
        return Requires(threat=threat)
