"""What toys of a federation need, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams, DefenseParams
from leakaudit.threats import Needs, NotApplicable, Requires, Tap, ThreatModel


class Counting(AttackParams):
    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        threat = ThreatModel(plays=("outsider",), channels=("output",), knows=("candidates", "labels"), auxiliary="same")
        return Requires(threat=threat, taps=(Tap(channel="output"),))


class Failing(AttackParams):
    how: Literal["exits", "raises", "nan"] = Field(description="What the site does from the second round on.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        if not facts.seats_of("site"):
            return NotApplicable(reason="no site")
        threat = ThreatModel(plays=("site",), alters=("replies",), channels=("model",), knows=("candidates", "labels"))
        return Requires(threat=threat, taps=(Tap(channel="model"),), plays_in_training=True)


class Spoiling(DefenseParams):
    site: str = Field(description="Site whose updates it spoils from the second round on.")

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        return Needs(seats=("site",), channels=("update",))
