"""Parameters of the inversion attacks, without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import NotApplicable, Requires, Tap, ThreatModel

__all__ = ["ModelInversionParams"]

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class ModelInversionParams(AttackParams):
    """Parameters of `model-inversion`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"iterations": 5}, {"iterations": 5, "levels": "joint", "draws": 2}]})

    clients: Names | None = Field(None, description="Seats to attack, for example [client-0]; default every image client.")
    levels: Literal["each", "joint", "each-and-joint"] | Names = Field(
        "each",
        description="`each`: one decoder per level; `joint`: one decoder for all levels together; `each-and-joint`: both; "
        "or the names of the levels to attack one by one, for example [level0].",
    )
    iterations: int = Field(300, ge=1, description="Training steps of each decoder: the attack's budget.")
    batch_size: int = Field(8, ge=1, description="Auxiliary samples per step.")
    learning_rate: float = Field(4e-3, gt=0, description="Adam's learning rate at the start; it falls to zero by a cosine.")
    width: int = Field(
        16,
        ge=4,
        description="Channels of the decoder at half the image's resolution, up to four times as many below: its capacity.",
    )
    blocks: int = Field(1, ge=1, description="Residual blocks at each resolution of the decoder.")
    loss: Literal["mse", "mse+l1", "mse+ssim"] = Field(
        "mse+ssim",
        description="What the decoder minimizes inside the brain: the squared error of He et al. 2019, alone or with the "
        "absolute error or 1 - SSIM added.",
    )
    validation: float = Field(
        0.15, ge=0, lt=1,
        description="Share of the auxiliary patients held out to choose the best state of a decoder; 0 keeps the last.",
    )  # fmt: skip
    draws: int = Field(
        1, ge=1,
        description="Last observations of each sample whose reconstructions are averaged: more than one undoes part of a "
        "randomized defense.",
    )  # fmt: skip
    rounds: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="Rounds whose messages are attacked, negative ones counted from the end, instead of the last `draws`.",
    )

    @model_validator(mode="after")
    def _one_choice_of_rounds(self) -> ModelInversionParams:
        if self.rounds is not None and self.draws > 1:
            raise ValueError("give either rounds or draws: rounds names the observations that draws would count")
        return self

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A curious server that sees activations, owns auxiliary patients, and knows network, weights and defense."""
        flows = [f for f in facts.flows if f.channel == "activation" and f.sender == "client" and f.receiver == "server"]
        if not flows:
            return NotApplicable(reason=f"protocol {facts.protocol!r} sends no activations from a client to a server")
        clients = [seat.id for seat in facts.seats_of("client")]
        unknown = [c for c in self.clients or () if c not in clients]
        if unknown:
            return NotApplicable(reason=f"no client {', '.join(unknown)}; there are {', '.join(clients)}")
        sent = tuple(dict.fromkeys(name for flow in flows for name in flow.names)) or facts.levels
        wanted = self.wanted_levels(sent)
        missing = [name for name in wanted if name not in sent]
        if missing:
            return NotApplicable(reason=f"no {', '.join(missing)} crosses the cut; what crosses is {', '.join(sent)}")
        threat = ThreatModel(
            plays=("server",), channels=("activation",), knows=("architecture", "weights", "defense", "sample-ids"),
            auxiliary="same",
        )  # fmt: skip
        rounds = self.rounds or tuple(range(-1, -self.draws - 1, -1))
        return Requires(threat=threat, taps=(Tap(channel="activation", rounds=rounds, names=wanted or None),))

    def wanted_levels(self, sent: tuple[str, ...]) -> tuple[str, ...]:
        """Return the levels to attack of those `sent`."""
        return sent if isinstance(self.levels, str) else self.levels

    def endpoints(self, sent: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return for each decoder, by the name of its level or `"joint"`, the levels it reads of those `sent`."""
        wanted = tuple(name for name in self.wanted_levels(sent) if name in sent)
        each = {} if self.levels == "joint" else {name: (name,) for name in wanted}
        joint = {"joint": wanted} if self.levels in ("joint", "each-and-joint") and wanted else {}
        return each | joint
