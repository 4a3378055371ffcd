from __future__ import annotations

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams, DefenseParams, ShadowTraining, Victim
from leakaudit.threats import Needs, Requires, Shadows, Tap, ThreatModel


class Comparing(AttackParams):
    looks: bool = Field(True, description="Whether it reads the shadow models.")
    count: int = Field(4, description="Shadow models.")

    def requires(self, facts: ProtocolFacts) -> Requires:
        threat = ThreatModel(
            plays=("outsider",), channels=("output",), knows=("architecture", "defense", "candidates", "labels"), auxiliary="same"
        )
        shadows = Shadows(count=self.count, pool="auxiliary+candidates")
        return Requires(threat=threat, taps=(Tap(channel="output"),), shadows=shadows)


class Steady(DefenseParams):
    def needs(self, facts: ProtocolFacts) -> Needs:
        return Needs(seats=("client",), channels=("model",))

    def shadow(self, victim: Victim) -> ShadowTraining:
        return ShadowTraining(clip=1.0, noise_multiplier=0.5)
