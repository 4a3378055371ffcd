"""Parameters of the defenses at the cut that watch for a hijacking server, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import DefenseParams
from leakaudit.threats import Needs, NotApplicable

__all__ = ["SplitGuardParams"]


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
