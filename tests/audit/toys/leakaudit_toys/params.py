"""What the toys need, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams, DefenseParams
from leakaudit.threats import Canaries, Needs, NotApplicable, Requires, Tap, ThreatModel

ALL = ("architecture", "sample-ids")


def _server(**changes: object) -> ThreatModel:
    return ThreatModel(**{"plays": ("server",), "channels": ("activation",), "knows": ALL, **changes})


class Riding(AttackParams):
    cheats: bool = Field(False, description="Whether it scales the gradients that the honest server sends.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        return Requires(threat=_server(), taps=(Tap(channel="activation"),), plays_in_training=True)


class Hijacking(AttackParams):
    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        return Requires(threat=_server(alters=("replies",)), taps=(Tap(channel="activation"),), plays_in_training=True)


class Crafting(AttackParams):
    count: int = Field(24, description="Canaries.")
    claimed: int | None = Field(None, description="Canaries that it says it crafts, if not `count`.")
    rides: bool = Field(False, description="Whether it also looks on as the server.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        plays = ("server",) if self.rides else ("outsider",)
        threat = ThreatModel(plays=plays, alters=("cohort",), channels=("output",), knows=("candidates", "labels"))
        if self.rides:
            threat = ThreatModel(plays=plays, alters=("cohort",), channels=("activation",), knows=("candidates", "labels", *ALL))
        canaries = Canaries(count=self.count if self.claimed is None else self.claimed)
        return Requires(threat=threat, canaries=canaries, plays_in_training=self.rides)


class Colluding(AttackParams):
    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        if "client" not in facts.roles:
            return NotApplicable(reason="it needs image clients to collude with")
        return Requires(threat=_server(plays=("server", "client")), taps=(Tap(channel="activation"),))


class Watching(AttackParams):
    rounds: list[int] = Field([0, -1], description="Rounds to record.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        threat = _server(knows=(*ALL, "weights"))
        return Requires(threat=threat, taps=(Tap(channel="activation", rounds=tuple(self.rounds)),))


class Guessing(AttackParams):
    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        return Requires(threat=_server(), taps=(Tap(channel="activation"),))


class Told(AttackParams):
    says: Literal["images", "masks"] = Field("images", description="What it makes evidence of.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        if "aggregator" not in facts.roles:
            return Requires(threat=_server(knows=("labels",)), taps=(Tap(channel="activation"),))
        threat = ThreatModel(plays=("aggregator",), channels=("update",), knows=("labels",))
        return Requires(threat=threat, taps=(Tap(channel="update", rounds=(0,)),))


class Snooping(AttackParams):
    way: Literal["frames", "heap", "memory", "tensors", "files", "processes", "seeds"] = Field(description="Where it searches.")
    words: list[str] = Field([], description="Forbidden texts, spelled backwards so that the list itself is no find.")
    images: list[str] = Field([], description="SHA-256 of the middle row of every target image.")
    noise: list[str] = Field([], description="SHA-256 of the first draws of every client's noise.")
    planted: bool = Field(False, description="Hide a copy first, which must be found: that proves the search works.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        return Requires(threat=_server(knows=("architecture", "sample-ids", "defense")), taps=(Tap(channel="activation"),))


class Breaking(AttackParams):
    how: str = Field(description="What goes wrong.")

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        if self.how == "requires":
            raise RuntimeError("no idea what I need")
        replies = ("replies",) if self.how.startswith("play") else ()
        return Requires(threat=_server(alters=replies), taps=(Tap(channel="activation"),), plays_in_training=bool(replies))


class Noise(DefenseParams):
    sigma: float = Field(0.5, description="Spread of the noise.")

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        return Needs(seats=("client",), channels=("activation",))


class GlobalNoise(DefenseParams):
    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        return Needs(seats=("server",), channels=("activation",))


class Watchful(DefenseParams):
    patience: int = Field(2, description="Batches that look hijacked before it raises the alarm.")
    nervous: bool = Field(False, description="Whether every batch looks hijacked to it.")

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        return Needs(seats=("client",), channels=("cut-gradient",))


class Poisson(DefenseParams):
    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        return Needs(seats=("client",), channels=("activation",), sampling="poisson", unit="patient")
