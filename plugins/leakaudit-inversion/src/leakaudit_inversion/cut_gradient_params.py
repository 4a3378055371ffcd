"""Parameters of `gradient-inversion`, without torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from leakaudit.facts import Flow, ProtocolFacts
from leakaudit.threats import Channel, Grant, NotApplicable, Requires, ThreatModel
from leakaudit_inversion.params import ModelInversionParams

__all__ = ["GradientInversionParams"]

_KNOWS: tuple[Grant, ...] = ("architecture", "weights", "defense", "defense-state", "sample-ids")


class GradientInversionParams(ModelInversionParams):
    """Parameters of `gradient-inversion`: those of `model-inversion`, another place to stand, and those of a search."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"iterations": 5},
                {"iterations": 5, "position": "server", "levels": "each-and-joint", "observations": 2},
                {"iterations": 5, "position": "collusion:client-0", "rounds": [0, -1]},
                {"method": "optimize", "iterations": 5},
                {"method": "optimize", "iterations": 5, "position": "server", "auxiliary": "none", "levels": "joint"},
            ]
        }
    )
    channel: ClassVar[Channel] = "cut-gradient"

    position: str = Field(
        "client",
        pattern=r"^(server|client(:.+)?|collusion(:.+)?)$",
        description="Where the adversary stands: `client:<id>`, another image client, which sees only the gradients that are "
        "returned to itself and knows its own images (`client`: the first that is not attacked); `server`, which sees what is "
        "returned to all; or `collusion:<id>`, the server together with a client (`collusion`: the first).",
    )
    method: Literal["learn", "optimize"] = Field(
        "learn",
        description="`learn`: a decoder trained on simulated gradients of auxiliary patients; `optimize`: a search for images "
        "whose gradients are those observed, which needs a smooth network without instance normalization.",
    )
    search_rate: float = Field(
        0.1, gt=0, description="optimize: Adam's learning rate on the images at the start; it falls to zero by a cosine."
    )
    smoothing: float = Field(1.0, ge=0, description="optimize: length in voxels over which steps are smoothed; 0: none.")
    tv: float = Field(1e-3, ge=0, description="optimize: weight of the relative total variation against the relative error.")
    targets: int = Field(64, ge=1, description="optimize: most targets that are searched for in one batch.")
    draws: int = Field(2, ge=1, description="optimize: fresh draws of a randomized defense at each step.")

    @model_validator(mode="after")
    def _one_batch_of_rules(self) -> GradientInversionParams:
        if self.method == "optimize" and self.patience is not None:
            raise ValueError("patience is for method learn: a search uses its whole budget")
        return self

    @property
    def watcher(self) -> str | None:
        """The client that is the adversary, `""` for the first that is not attacked, or None."""
        kind, _, seat = self.position.partition(":")
        return seat if kind == "client" else None

    def receivers(self, facts: ProtocolFacts, plays: tuple[str, ...]) -> tuple[str, ...]:
        """Return the clients whose returned gradients the adversary sees."""
        clients = tuple(seat.id for seat in facts.seats_of("client"))
        return clients if "server" in plays else tuple(c for c in clients if c in plays)

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """An adversary that sees cut gradients and nothing else, and knows networks, weights and defenses."""
        surface = self.surface(facts)
        if isinstance(surface, NotApplicable):
            return surface
        if self.auxiliary == "none" and self.method == "learn":
            return NotApplicable(
                reason="a decoder needs images to learn from and the adversary owns none; method optimize needs none"
            )
        knows = _KNOWS if self.adaptive else tuple(g for g in _KNOWS if not g.startswith("defense"))
        if self.method == "optimize" and any(facts.seat(seat).labels for seat in facts.played(surface.plays)):
            knows = (*knows, "labels")  # it holds the masks, and here it uses them: chance is to know them, too
        threat = ThreatModel(plays=surface.plays, channels=("cut-gradient",), knows=knows, auxiliary=self.auxiliary)
        return Requires(threat=threat, taps=self.taps(facts, surface.levels))

    def _flows(self, facts: ProtocolFacts) -> list[Flow]:
        return [f for f in facts.flows if f.channel == "cut-gradient" and f.receiver == "client"]

    def _blind(self, facts: ProtocolFacts) -> NotApplicable:
        return NotApplicable(reason=f"protocol {facts.protocol!r} returns no cut gradients to image clients")

    def _plays(self, facts: ProtocolFacts) -> tuple[str, ...] | NotApplicable:
        clients = [seat.id for seat in facts.seats_of("client")]
        if self.watcher != "" or not clients:
            return super()._plays(facts)
        free = [seat for seat in clients if seat not in (self.clients or ())]
        if not free:
            return NotApplicable(reason="every image client is attacked, so that none is left to be the adversary")
        return (free[0],)
