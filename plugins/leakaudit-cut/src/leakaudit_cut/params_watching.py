"""Parameters of the defenses at the cut that watch for a hijacking server, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import DefenseParams, ShadowTraining, Victim
from leakaudit.threats import Needs, NotApplicable

__all__ = ["GradientScrutinizerParams", "SplitGuardParams"]


class SplitGuardParams(DefenseParams):
    """Fake batches that an honest server must answer differently."""

    fake_share: float = Field(0.1, gt=0, lt=1, description="Share of the batches sent with inverted masks after the warm-up.")
    warm_up: int = Field(20, ge=0, description="Batches of the first round before the first fake one.")
    statistic: Literal["direction", "published"] = Field(
        "direction",
        description="direction: (1 - cos) / 2 of the mean gradients of false and regular batches; published: the score of the "
        "paper, which weighs angles by differences of norms and on masks takes a hijacker that shrinks its gradients for honest.",
    )
    threshold: float = Field(0.35, gt=0, lt=1, description="Mean score below which an alarm is raised.")
    window: int = Field(10, ge=1, description="Scores that are averaged, and that must be there before an alarm.")

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for the clients, which watch, and the label holder, whose masks are inverted in fake batches."""
        sent = any(f.channel == "label" and f.sender == "label-holder" for f in facts.flows)
        if not sent or "client" not in facts.roles:
            return NotApplicable(
                reason="SplitGuard needs masks that are sent to the server (protocol split with labels: sent), to send false ones"
            )
        return Needs(seats=("client", "label-holder"), channels=("label",))


class GradientScrutinizerParams(DefenseParams):
    """Watching whether the gradients that come back tell samples apart."""

    warm_up: int = Field(
        20, ge=0,
        description="Batches whose gradients are remembered but not judged; without normalization the first ones of an honest "
        "server are alike too.",
    )  # fmt: skip
    window: int = Field(
        80, ge=2,
        description="Pairs of the same sample that make a score: with 8 samples a batch, those of 10 batches. The first pass "
        "over the data has none.",
    )  # fmt: skip
    statistic: Literal["own-share", "separation"] = Field(
        "own-share",
        description="own-share: 1 - D / S, with S and D the mean similarity of the gradients of the same sample and of different "
        "ones; separation: (S - D) / pooled standard deviation, as the paper measures the distance of its two sets, which on "
        "masks takes honest servers for hijackers and hijackers for honest.",
    )
    threshold: float = Field(
        0.5, gt=0, description="Score below which an alarm is raised; own-share lies in [0, 1], separation in standard deviations."
    )

    @model_validator(mode="after")
    def _can_be_passed(self) -> GradientScrutinizerParams:
        if self.statistic == "own-share" and self.threshold >= 1:
            raise ValueError(
                f"threshold {self.threshold:g} would raise an alarm under every server: own-share is at most 1, take less than 1"
            )
        return self

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for the clients, which compare the gradients that they get in one pass and in the next."""
        if not any(f.channel == "cut-gradient" and f.receiver == "client" for f in facts.flows):
            return NotApplicable(
                reason="the gradients scrutinizer needs gradients that come back to image clients (protocol split)"
            )
        if facts.rounds < 2:
            return NotApplicable(
                reason="the gradients scrutinizer compares a sample's gradients in two passes: it needs rounds: 2 or more"
            )
        return Needs(seats=("client",), channels=("cut-gradient",))

    def shadow(self, victim: Victim) -> ShadowTraining:
        """Return ordinary steps: it looks on, and nothing is learned otherwise."""
        return ShadowTraining()
