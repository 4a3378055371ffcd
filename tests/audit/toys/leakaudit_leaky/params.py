"""What the loud toys need, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams, DefenseParams
from leakaudit.threats import Needs, NotApplicable, Requires, Tap, ThreatModel

How = Literal[
    "raises", "array", "tensor", "floats", "lines", "chain", "unicode", "prints", "name", "requires", "rides", "play-raises"
]


class Shouting(AttackParams):
    how: How = Field("raises", description="How it gives identifiers and arrays away.")
    called: str = Field("guess", description="What it calls its evidence.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        if self.how == "requires":
            from leakaudit_leaky.words import PATH

            raise RuntimeError(f"no idea what {PATH} needs")
        plays = self.how in ("rides", "play-raises")
        return Requires(
            threat=ThreatModel(
                plays=("server",), channels=("activation",), knows=("architecture", "sample-ids"),
                alters=("replies",) if self.how == "play-raises" else (),
            ),
            taps=(Tap(channel="activation"),), plays_in_training=plays,
        )  # fmt: skip


class Chatting(DefenseParams):
    alarm: bool = Field(False, description="Whether it stops the training, with a reason that names a patient.")
    raises: bool = Field(False, description="Whether it raises in the training.")

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        return Needs(seats=(facts.seats[0].role,), channels=("activation", "update"))
