"""Parameters of `mask-inversion`, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import Channel, Grant, NotApplicable, Requires, Tap, ThreatModel
from leakaudit_inversion.stance import Stage

__all__ = ["MaskInversionParams", "Method"]

Method = Literal["closed-form", "norm", "direction"]


class MaskInversionParams(AttackParams):
    """Parameters of `mask-inversion`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"position": "client:client-0"},
                {"position": "client:client-1", "method": "norm", "auxiliary": "none"},
                {"position": "client:client-0", "observations": 2},
                {"position": "client:client-0", "rounds": [0, -1], "method": "norm"},
            ]
        }
    )

    position: str = Field(
        "server",
        pattern=r"^(server|client:.+)$",
        description="Where the adversary stands: `server`, to which a label holder sends gradients of the features (a U-shaped "
        "split); or `client:<id>`, an image client, which sees the gradients of its own levels alone.",
    )
    method: Literal["auto", "closed-form", "norm", "direction"] = Field(
        "auto",
        description="How masks are read off: `closed-form`: solved for under the known head (server only); "
        "`norm`: where gradients are long; `direction`: where they point as the longest of all do. Neither norm "
        "nor direction needs any weights. `auto`: norm at a client; at the server the one that finds most in a rehearsal on the "
        "adversary's own patients under the defense, the closed form where it owns none.",
    )
    auxiliary: Literal["same", "shifted", "none"] = Field(
        "same",
        description="Patients the adversary owns, with masks: how large tumors are, which sets the threshold of the norm, and how "
        "large brains are, which a tumor's share of the brain needs at the server. `none`: it owns none; Otsu's threshold.",
    )
    hints: int = Field(
        3, ge=1,
        description="With direction: voxels of each sample that are taken for tumor at first, those with the longest gradients.",
    )  # fmt: skip
    rounds: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="Rounds to attack one by one, for leakage as training goes: evidence is named like `labels/features@3`. "
        "Round 0 is the first, -1 the last. Default only the last observations.",
    )
    observations: int = Field(
        1, ge=1, description="Last observations of each sample, one a round, that are taken together: each votes for every voxel."
    )

    @model_validator(mode="after")
    def _consistent(self) -> MaskInversionParams:
        if self.rounds is not None and self.observations > 1:
            raise ValueError("give either rounds or observations: rounds attacks each round by itself")
        if self.watcher is not None and self.method == "closed-form":
            raise ValueError("a client sees no gradient of the features that the head takes: its method is norm or direction")
        return self

    @property
    def watcher(self) -> str | None:
        """The client that is the adversary, or None where it is the server."""
        kind, _, seat = self.position.partition(":")
        return seat if kind == "client" else None

    @property
    def resolved(self) -> Method:
        """The method that is asked for; for `auto` the one that needs most: what a rehearsal needs, too."""
        if self.method != "auto":
            return self.method
        return "closed-form" if self.watcher is None else "norm"

    def stages(self, rounds: int) -> tuple[Stage, ...]:
        """Return the passes of the attack over a training of that many rounds."""
        if self.rounds is None:
            back = min(self.observations, rounds)
            return (Stage(suffix="", round=None, rounds=tuple(rounds - 1 - i for i in range(back))),)
        return tuple(Stage(suffix=f"@{r}", round=r, rounds=(r,)) for r in sorted({r % rounds for r in self.rounds}))

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A party that is sent gradients and knows which belong to one sample; for the closed form, the head and the loss."""
        reason = self._server(facts) if self.watcher is None else self._client(facts, self.watcher)
        late = [r for r in self.rounds or () if not -facts.rounds <= r < facts.rounds]
        if reason is None and late:
            reason = f"there is no round {late[0]}: training has rounds 0 to {facts.rounds - 1}"
        if reason is not None:
            return NotApplicable(reason=reason)
        channels: tuple[Channel, ...] = ("cut-gradient",)
        knows: tuple[Grant, ...] = ("sample-ids",)
        if self.watcher is None:
            channels = (*channels, "activation")
        if self.resolved == "closed-form":
            knows = ("architecture", "weights", "defense", "defense-state", "sample-ids")
        plays = ("server",) if self.watcher is None else (self.watcher,)
        threat = ThreatModel(plays=plays, channels=channels, knows=knows, auxiliary=self.auxiliary)
        return Requires(threat=threat, taps=self._taps(facts))

    def _server(self, facts: ProtocolFacts) -> str | None:
        if any(f.channel == "cut-gradient" and f.sender == "label-holder" and f.receiver == "server" for f in facts.flows):
            return None
        if any(f.channel == "label" and f.receiver == "server" for f in facts.flows):
            return "the server is sent the masks themselves: there is nothing to invert (a client could: position client:<id>)"
        if any(seat.labels for seat in facts.seats_of("server")):
            return "the server holds the masks itself: there is nothing to steal (a client could: position client:<id>)"
        return f"no label holder of {facts.protocol!r} sends a gradient of features to a server"

    def _client(self, facts: ProtocolFacts, seat: str) -> str | None:
        clients = [s.id for s in facts.seats_of("client")]
        if not any(f.channel == "cut-gradient" and f.receiver == "client" for f in facts.flows):
            return f"protocol {facts.protocol!r} sends no cut gradients to a client"
        if seat not in clients:
            return f"no client {seat}; there are {', '.join(clients)}"
        return None

    def _taps(self, facts: ProtocolFacts) -> tuple[Tap, ...]:
        stages = self.stages(facts.rounds)
        last = tuple(range(-1, -len(stages[0].rounds) - 1, -1))
        wanted = last if self.rounds is None else tuple(stage.rounds[0] for stage in stages)
        names = ("features",) if self.watcher is None else facts.levels or None
        taps = [Tap(channel="cut-gradient", rounds=wanted, names=names)]
        if self.watcher is None:
            taps.append(Tap(channel="activation", rounds=wanted, names=names))
        if self.resolved == "closed-form":
            observed = {r for stage in stages for r in stage.rounds}
            before = tuple(sorted({r - 1 for r in observed if r > 0} - observed))
            # A tap of no step records no message, and still brings the weights after its rounds.
            taps += [Tap(channel="cut-gradient", rounds=before, steps=(), names=names)] if before else []
        return tuple(taps)
